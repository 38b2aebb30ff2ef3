"""`kill -9` of the exit hook at any of its steps, or of the monitor. Whether a client waits, only follows events, asks
now and then, or nobody is there until the service is woken, what is told is how the container ended, its restart policy
and `--rm` act, and nothing is left."""

import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator

import pytest

from service.kernel import pidfd
from tests.support.instance import Instance, children_of
from tests.support.streams import VERSION, call, done, exec_create, exec_inspect, inspect
from tests.support.wire import Wire, request

# (a function of the product's, whether it is about to begin or has just ended): where the hook is killed
POINTS = (
    ("conclude", "call"),
    ("leave_conmon", "call"),
    ("leave_conmon", "return"),
    ("everything", "call"),
    ("remove_tree", "return"),
    ("everything", "return"),
    ("claim_exit", "call"),
    ("claim_exit", "return"),
    ("record", "return"),
    ("finish", "return"),
)

# Instead of Debian's Python: the hook of a container with a file `fault-ID` runs with an eye on its calls
PYTHON = """#!/bin/sh
[ -e "{folder}/fault-$5" ] && exec /usr/bin/python3 -I -S {folder}/faulty.py "$@"
exec /usr/bin/python3 "$@"
"""
FAULTY = """
import os, runpy, sys
sys.argv = sys.argv[3:]
fault = {folder!r} + "/fault-" + sys.argv[2]
with open(fault) as file:
    name, kind = file.read().split()
def look(frame, event, argument):
    if event == kind and frame.f_code.co_name == name and "/service/" in frame.f_code.co_filename:
        os.rename(fault, fault.replace("fault-", "met-"))
        os.kill(os.getpid(), 9)
sys.setprofile(look)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def moorage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    folder = tmp_path_factory.mktemp("python")
    (folder / "python3").write_text(PYTHON.format(folder=folder))
    (folder / "python3").chmod(0o755)
    (folder / "faulty.py").write_text(FAULTY.format(folder=str(folder)))
    with Instance(environment={"MOORAGE_PYTHON": f"{folder}/python3"}) as instance:
        instance.load_busybox()
        yield instance


class Waiting:
    """A container that runs, and a client that waits for its end."""

    def __init__(self, moorage: Instance, condition: str, *options: str) -> None:
        self.moorage = moorage
        self.id = moorage.docker("run", "-d", "--network", "none", *options, "busybox", "sleep", "1000").stdout.strip()
        state = inspect(moorage, self.id)["State"]
        self.pid = state["Pid"]
        with open(f"{moorage.run}/containers/{self.id}/conmon.pid", encoding="ascii") as file:
            self.monitor = int(file.read())
        self.wire = Wire(moorage.socket, 90)
        self.wire.send(request(f"POST {VERSION}/containers/{self.id}/wait?condition={condition}"))
        self.early = self.wire.head()  # it waits now

    def code(self) -> int:
        """The exit code that the client is told."""
        with self.wire.socket:
            assert self.early.status == 200
            told: int = json.loads(self.wire.rest_of_chunks())["StatusCode"]
            return told


@pytest.mark.parametrize("condition", ["next-exit", "removed"])
def test_a_hook_that_is_killed(moorage: Instance, condition: str) -> None:
    folder = os.path.dirname(moorage.environment["MOORAGE_PYTHON"])
    options = ("--rm",) if condition == "removed" else ()
    waiting = []
    for name, kind in POINTS:
        waiting.append(Waiting(moorage, condition, *options))
        with open(f"{folder}/fault-{waiting[-1].id}", "w", encoding="ascii") as file:
            file.write(f"{name} {kind}")
    service = moorage.service_pid()
    for one in waiting:
        os.kill(one.pid, 9)
    assert [one.code() for one in waiting] == [137] * len(POINTS)
    assert moorage.service_pid() == service, "another service looked, and not the one that waited"
    for one, point in zip(waiting, POINTS, strict=True):
        assert os.path.exists(f"{folder}/met-{one.id}"), f"the hook did not come to {point}"
        if condition == "removed":
            assert call(moorage, f"GET /containers/{one.id}/json").status == 404, point
            continue
        state = inspect(moorage, one.id)["State"]
        assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 137, 0), point
        done(call(moorage, f"POST /containers/{one.id}/start"))
        assert inspect(moorage, one.id)["State"]["Running"], point
        moorage.docker("rm", "-f", one.id)
    moorage.until(lambda: moorage.leftovers() == [], 30, "something was left")


KINDS = {"plain": (), "removes itself": ("--rm",), "restarts": ("--restart", "always")}


class Ending:
    """Containers of every kind for every point: their hooks are killed there when they end, and nobody waits."""

    def __init__(self, moorage: Instance) -> None:
        folder = os.path.dirname(moorage.environment["MOORAGE_PYTHON"])
        self.moorage = moorage
        self.kinds: dict[str, str] = {}
        self.pids: list[int] = []
        self.faults: list[str] = []
        for point in POINTS:
            for kind, options in KINDS.items():
                ran = moorage.docker("run", "-d", "--network", "none", *options, "busybox", "sleep", "1000")
                id = ran.stdout.strip()
                self.kinds[id] = kind
                self.pids.append(inspect(moorage, id)["State"]["Pid"])
                self.faults.append(f"{folder}/fault-{id}")
                with open(self.faults[-1], "w", encoding="ascii") as file:
                    file.write(" ".join(point))

    def end(self) -> None:
        """Kill them all; returns when their hooks have been killed as well."""
        for pid in self.pids:
            os.kill(pid, 9)
        self.moorage.until(lambda: not any(map(os.path.exists, self.faults)), 60, "a hook did not come to its point")

    def wrong(self) -> list[str]:
        """What is not yet as it has to be in `docker ps -a`."""
        listed = {each["Id"]: each for each in done(call(self.moorage, "GET /containers/json?all=1"))}
        said = [f"{self.kinds[id]}: {each['Status']}" for id, each in listed.items() if not self._right(id, each)]
        return said + [kind for id, kind in self.kinds.items() if id not in listed and kind != "removes itself"]

    def _right(self, id: str, listed: dict[str, str]) -> bool:
        if self.kinds[id] == "plain":
            return listed["Status"].startswith("Exited (137)")
        if self.kinds[id] == "removes itself":
            return False
        container = inspect(self.moorage, id)
        return listed["State"] == "running" and container["RestartCount"] == 1

    def remove(self) -> None:
        """Take them away; nothing may be left."""
        self.moorage.docker("rm", "-f", *(id for id, kind in self.kinds.items() if kind != "removes itself"))
        self.moorage.until(lambda: self.moorage.leftovers() == [], 30, "something was left")


def test_who_follows_events_is_told_though_nobody_waits(moorage: Instance) -> None:
    ending = Ending(moorage)
    shown = "{{.Actor.ID}} {{.Action}} {{.Actor.Attributes.exitCode}}"
    filters = ("-f", "event=die", "-f", "event=destroy")
    follower = moorage.docker_popen("events", "--since", str(time.time()), "--format", shown, *filters)
    try:
        assert follower.stdout is not None
        service = moorage.service_pid()
        ending.end()
        due = {f"{id} die 137" for id in ending.kinds}
        due |= {f"{id} destroy <no value>" for id, kind in ending.kinds.items() if kind == "removes itself"}
        while due:
            due.remove(follower.stdout.readline().decode().strip())  # once
        moorage.until(lambda: not ending.wrong(), 30, "not all are right")
        assert moorage.service_pid() == service
    finally:
        follower.kill()
        follower.communicate()
    ending.remove()


def test_a_service_that_only_lists_sees_it(moorage: Instance) -> None:
    """It never comes to have an event loop."""
    ending = Ending(moorage)
    moorage.wait_idle()
    call(moorage, "GET /containers/json")
    service = moorage.service_pid()
    assert service
    ending.end()
    moorage.until(lambda: not ending.wrong(), 30, f"not all are right: {ending.wrong()}")
    assert moorage.service_pid() == service
    with open(f"/proc/{service}/maps", encoding="ascii") as maps:
        assert "_asyncio" not in maps.read(), "it had a loop"
    ending.remove()


def test_the_next_service_sees_what_happened_while_there_was_none(moorage: Instance) -> None:
    ending = Ending(moorage)
    moorage.wait_idle()
    ending.end()
    assert moorage.service_pid() is None
    assert [wrong for wrong in ending.wrong() if not wrong.startswith("restarts")] == []
    moorage.until(lambda: not ending.wrong(), 30, "not all are right")
    ending.remove()


@pytest.mark.parametrize("looked", ["in the loop", "before the loop"])
def test_the_hook_or_the_monitor_of_a_command_that_is_killed(moorage: Instance, looked: str) -> None:
    """`docker exec -d`, with nobody who looks at it."""
    folder = os.path.dirname(moorage.environment["MOORAGE_PYTHON"])
    container = moorage.docker("run", "-d", "--network", "none", "busybox", "sleep", "1000").stdout.strip()
    sessions = []
    for _ in range(2):
        sessions.append(exec_create(moorage, container, "sleep", "1000"))
        done(call(moorage, f"POST /exec/{sessions[-1]}/start", {"Detach": True}))
    pids = [exec_inspect(moorage, session)["Pid"] for session in sessions]
    [monitor] = [pid for pid in children_of(1) if sessions[1].encode() in command_line(pid)]
    if looked == "before the loop":
        moorage.wait_idle()
    with open(f"{folder}/fault-{container}", "w", encoding="ascii") as file:
        file.write("record_from_monitor call")
    os.kill(pids[0], 9)
    os.kill(monitor, 9)
    os.kill(pids[1], 9)
    moorage.until(lambda: os.path.exists(f"{folder}/met-{container}"), 30, "no hook was killed")

    def ended() -> bool:
        return [exec_inspect(moorage, session)["ExitCode"] for session in sessions] == [137, 255]

    moorage.until(ended, 30, "they are said to run")
    assert not [session for session in sessions if exec_inspect(moorage, session)["Running"]]
    assert inspect(moorage, container)["ExecIDs"] is None
    moorage.docker("rm", "-f", container)
    moorage.until(lambda: moorage.leftovers() == [], 30, "something was left")


def command_line(pid: int) -> bytes:
    """What a process was called with."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def test_a_monitor_that_is_killed(moorage: Instance) -> None:
    """With it goes who would have run the hook; the container's process lives on, and its end is told all the same."""
    one = Waiting(moorage, "next-exit")
    service = moorage.service_pid()
    os.kill(one.monitor, 9)
    moorage.until(lambda: not os.path.exists(f"/proc/{one.monitor}/fd/0"), 30, "conmon lives")
    assert inspect(moorage, one.id)["State"]["Running"]
    os.kill(one.pid, 9)
    assert one.code() == 255, "nobody saw how it ended"
    assert moorage.service_pid() == service
    moorage.docker("rm", one.id)


def test_a_monitor_s_pid_that_is_another_process_s_by_now(moorage: Instance) -> None:
    """Monitor and container were killed while the service was away; what is called conmon now is somebody else's."""
    one = Waiting(moorage, "next-exit")
    moorage.kill_service()
    one.wire.socket.close()
    other = subprocess.Popen(["/bin/sh", "-c", "printf conmon >/proc/$$/comm; read held"], stdin=subprocess.PIPE)
    try:
        moorage.until(lambda: pidfd.is_running(other.pid, "conmon"), 30, "it is not called so")
        with sqlite3.connect(f"{moorage.root}/moorage.db") as store:
            store.execute("UPDATE containers SET conmon_pid = ? WHERE id = ?", (other.pid, one.id))
        store.close()
        os.kill(one.monitor, 9)
        os.kill(one.pid, 9)
        state = inspect(moorage, one.id)["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 255)
        moorage.docker("start", one.id)  # waits for no other's conmon
        moorage.docker("rm", "-f", one.id)
    finally:
        other.kill()
        other.wait()
