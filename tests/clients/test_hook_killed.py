"""`kill -9` of the exit hook at any of its steps, or of the monitor, while a client waits and the service lives: the
client is told how the container ended, and nothing is left."""

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator

import pytest

from service.kernel import pidfd
from tests.support.instance import Instance
from tests.support.streams import VERSION, call, done, inspect
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
