"""Users who do anything with containers, networks and commands, while the service, exit hooks, the keeper and
containers are killed at random moments. What each is told is true; and when it is quiet, what is said is what the
kernel says: who runs, who is on which network, which commands, and how often a restart policy has acted."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.instance import Instance, keepers_of
from tests.support.streams import VERSION, call, done, inspect, remove
from tests.support.wire import Answer, Wire, request

STORM_SECONDS = float(os.environ.get("MOORAGE_TEST_STORM_SECONDS", "12"))
SECONDS = 90.0  # that what was killed has to be seen to, on a machine under load
# What dockerd answers with 500 as well: about networks, and where a container ends while a command is to begin in it
FAILURES = (
    *(b"is not connected to ", b"cannot exec in a stopped container", b"unable to start container process"),
    b"exec failed: container does not exist",
)
LOST = (ConnectionError, BrokenPipeError, TimeoutError, EOFError)


def processes(moorage: Instance, what: str) -> list[int]:
    """The processes of this instance whose command line holds these words."""
    return [pid for pid, shown in moorage._processes() if what in shown]


def alive(pid: int) -> bool:
    """Whether it runs, and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def inside(container: str) -> list[int]:
    """The processes in a container's control groups."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
                if container in file.read() and alive(int(pid)):
                    found.append(int(pid))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


class Killer(threading.Thread):
    """Kills at random moments until it is told to stop."""

    def __init__(self, moorage: Instance, chance: random.Random, victims: tuple[str, ...]) -> None:
        super().__init__()
        self.moorage, self.chance, self.victims = moorage, chance, victims
        self.over = threading.Event()
        self.killed: list[str] = []

    def run(self) -> None:
        while not self.over.wait(self.chance.uniform(0.02, 0.5)):
            self._kill(self.chance.choice(self.victims))

    def _kill(self, victim: str) -> None:
        if victim == "service":
            self.moorage.kill_service()
            self.killed.append(victim)
            return
        found = {
            "hook": lambda: processes(self.moorage, "exit_hook.py"),
            "keeper": lambda: keepers_of(self.moorage.root),
            "container": lambda: processes(self.moorage, "sleep 77"),
        }[victim]()
        if found:
            try:
                os.kill(self.chance.choice(found), signal.SIGKILL)
            except ProcessLookupError:
                return
            self.killed.append(victim)


class User(threading.Thread):
    """Does what it likes with containers of its own."""

    OPTIONS: tuple[dict[str, Any], ...] = (
        {},
        {"AutoRemove": True},
        {"RestartPolicy": {"Name": "always"}},
        {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}},
        {"RestartPolicy": {"Name": "unless-stopped"}},
        {"NetworkMode": "bridge", "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}},
        {"NetworkMode": "storm"},
        {"Binds": ["storm:/data"]},
    )

    def __init__(self, moorage: Instance, number: int, chance: random.Random, end: float) -> None:
        super().__init__()
        self.moorage, self.number, self.chance, self.end = moorage, number, chance, end
        self.names: list[str] = []
        self.done = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        round_ = 0
        while time.monotonic() < self.end:
            if len(self.names) < 3:
                round_ += 1
                self._create(f"u{self.number}-{round_}")
            self._verb(self.chance.choice(self.names) if self.names else "none")

    def ask(self, line: str, body: Any = None) -> Answer | None:
        """The answer; None when the service was killed meanwhile."""
        try:
            with Wire(self.moorage.socket, SECONDS, described=False) as wire:  # failures are described nowhere
                raw = b"" if body is None else json.dumps(body).encode()
                method, _, path = line.partition(" ")
                wire.send(
                    request(f"{method} {VERSION}{path}", raw, **({"Content_Type": "application/json"} if raw else {}))
                )
                answer = wire.answer()
        except LOST:
            return None
        except (ValueError, IndexError):
            return None  # half an answer
        self.done += answer.status < 300
        if answer.status >= 500 and not any(words in answer.body for words in FAILURES):
            self.wrong.append(f"{line}: {answer.status} {answer.body!r}")
        return answer

    def _create(self, name: str) -> None:
        host = {"NetworkMode": "none", **self.chance.choice(self.OPTIONS)}
        health = {"Test": ["CMD", "true"], "Interval": 10**9} if self.chance.random() < 0.3 else None
        config = {"Image": "busybox", "Cmd": ["sleep", "77"], "HostConfig": host, "Healthcheck": health}
        self.ask(f"POST /containers/create?name={name}", config)
        self.names.append(name)

    def _verb(self, name: str) -> None:
        verb = self.chance.choice((*("start",) * 3, *("stop", "kill", "restart", "pause", "unpause", "rm"), *EXTRAS))
        if verb == "exec":
            made = self.ask(f"POST /containers/{name}/exec", {"Cmd": ["sleep", "0.3"], "AttachStdout": True})
            if made is not None and made.status == 201:
                self.ask(f"POST /exec/{made.json['Id']}/start", {"Detach": self.chance.random() < 0.5})
        elif verb in ("connect", "disconnect"):
            self.ask(f"POST /networks/storm/{verb}", {"Container": name, "Force": True})
        elif verb == "rm":
            answer = self.ask(f"DELETE /containers/{name}?force=1&v=1")
            if answer is not None and answer.status in (204, 404):
                self.names.remove(name)
                self._expect(name, None)
        elif verb in ("list", "logs"):
            self.ask("GET /containers/json?all=1" if verb == "list" else f"GET /containers/{name}/logs?stdout=1")
        else:
            answer = self.ask(f"POST /containers/{name}/{verb}{'?t=0' if verb in ('stop', 'restart') else ''}")
            if verb == "stop" and answer is not None and answer.status in (204, 304):
                self._expect(name, False)

    def _expect(self, name: str, running: bool | None) -> None:
        """What inspect must say now, if it says anything; None: that there is no such container."""
        asked = self.ask(f"GET /containers/{name}/json")
        if asked is None:
            return
        said = asked.json["State"]["Running"] if asked.status == 200 else None
        if said is not None and said != running:
            self.wrong.append(f"{name}: Running is {said} and not {running}")


EXTRAS = ("exec", "exec", "connect", "disconnect", "list", "logs")


@pytest.fixture
def network(moorage: Instance) -> Iterator[str]:
    id = str(done(call(moorage, "POST /networks/create", {"Name": "storm"}))["Id"])
    yield id
    call(moorage, "DELETE /networks/storm")


def untrue(moorage: Instance, network: str) -> list[str]:
    """What is said, and not so."""
    wrong = []
    listed = {each["Id"]: each for each in done(call(moorage, "GET /containers/json?all=1"))}
    members = done(call(moorage, f"GET /networks/{network}"))["Containers"]
    for id, shown in listed.items():
        answer = call(moorage, f"GET /containers/{id}/json")
        if answer.status == 404:
            continue  # `--rm`
        said = answer.json
        state, name = said["State"], said["Name"]
        running = state["Running"] and not state["Restarting"]
        if state["Status"] != shown["State"]:
            wrong.append(f"{name}: {shown['State']} in the list, and {state['Status']}")
        if running != (bool(state["Pid"]) and alive(state["Pid"])) or running != bool(inside(id)):
            wrong.append(f"{name}: {state} and processes {inside(id)}")
        if state["Status"] == "restarting" or (
            said["HostConfig"]["AutoRemove"] and not running and state["StartedAt"][0] != "0"
        ):
            wrong.append(f"{name}: still {state['Status']}")
        on_it = "storm" in said["NetworkSettings"]["Networks"]
        if (id in members) != (on_it and running):
            wrong.append(f"{name}: {state['Status']}, on the network {on_it}, a member {id in members}")
        policy = said["HostConfig"]["RestartPolicy"]
        if policy["Name"] == "on-failure" and said["RestartCount"] > policy["MaximumRetryCount"]:
            wrong.append(f"{name}: restarted {said['RestartCount']} times")
        for session in said["ExecIDs"] or ():
            exec_ = call(moorage, f"GET /exec/{session}/json")
            if exec_.status == 200 and exec_.json["Running"] and not alive(exec_.json["Pid"]):
                wrong.append(f"{name}: a command that has ended is said to run")
    return wrong


def test_what_is_said_is_so(moorage: Instance, network: str) -> None:
    seed = int(os.environ.get("MOORAGE_TEST_SEED") or random.randrange(1 << 32))
    print("seed", seed)  # shown by a failure
    end = time.monotonic() + STORM_SECONDS
    users = [User(moorage, number, random.Random(seed + number), end) for number in range(3)]
    victims = ("service", "service", "hook", "keeper", "container")
    killer = Killer(moorage, random.Random(seed), victims)
    for thread in (*users, killer):
        thread.start()
    for user in users:
        user.join()
    killer.over.set()
    killer.join()
    print("killed", {victim: killer.killed.count(victim) for victim in set(victims)}, "done", [u.done for u in users])
    wrong = [each for user in users for each in user.wrong]
    assert not wrong, "\n".join(wrong)
    assert sum(user.done for user in users) > 0, "nobody got anything done"
    moorage.until(lambda: not untrue(moorage, network), SECONDS, "what is said is not so")
    for container in done(call(moorage, "GET /containers/json?all=1")):
        remove(moorage, container["Id"])
    done(call(moorage, "DELETE /volumes/storm?force=1"))
    moorage.until(lambda: moorage.leftovers() == [], SECONDS, f"something was left: {moorage.leftovers()}")


def test_a_policy_acts_as_often_as_it_says_whoever_is_killed(moorage: Instance) -> None:
    """`on-failure:N`: N + 1 runs, each with its line in the log and its events."""
    began = time.time()
    most = {f"fails-{times}-{number}": times for times in (1, 3, 5) for number in range(3)}
    for name, times in most.items():
        words = ("--network", "none", "--restart", f"on-failure:{times}", "busybox", "sh", "-c", "echo ran; exit 3")
        moorage.docker("run", "-d", "--name", name, *words)
    killer = Killer(moorage, random.Random(), ("service", "hook", "keeper"))
    killer.start()
    time.sleep(6)
    killer.over.set()
    killer.join()

    def over() -> bool:
        return all(inspect(moorage, name)["State"]["Status"] == "exited" for name in most)

    moorage.until(over, SECONDS, "they are not through")
    events = ended(moorage, began)
    for name, times in most.items():
        said = inspect(moorage, name)
        assert (said["RestartCount"], said["State"]["ExitCode"]) == (times, 3), name
        assert moorage.docker("logs", name).stdout == "ran\n" * (times + 1), name
        assert [event for event in events if event[0] == name] == [(name, "start"), (name, "die")] * (times + 1)
        remove(moorage, name)


def ended(moorage: Instance, since: float) -> list[tuple[str, str]]:
    """Starts and ends until now, by name."""
    filters = quote(json.dumps({"event": ["start", "die"]}))
    with Wire(moorage.socket, 60) as wire:
        wire.send(request(f"GET {VERSION}/events?since={since}&until={time.time()}&filters={filters}"))
        assert wire.head().status == 200
        told = wire.rest_of_chunks().decode().splitlines()
    return [(event["Actor"]["Attributes"]["name"], event["Action"]) for event in map(json.loads, told)]
