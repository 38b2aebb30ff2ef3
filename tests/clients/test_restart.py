"""Restart policies as the docker CLI shows them: who is started again, when, and what ends the waiting."""

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clients.test_health import actions, keepers
from tests.support.instance import Instance
from tests.support.streams import call


def state(moorage: Instance, name: str) -> dict[str, Any]:
    """The state, with the number of restarts in it."""
    found = json.loads(moorage.docker("inspect", name).stdout)[0]
    return {**found["State"], "RestartCount": found["RestartCount"]}


@pytest.fixture(autouse=True)
def removed(moorage: Instance) -> Iterator[None]:
    yield
    if found := moorage.docker("ps", "-aq").stdout.split():
        moorage.docker("rm", "-f", *found)


def die(moorage: Instance, last_backoff_ms: int) -> str:
    """A container that waits for its restart, twice as long as the last time: as if it had been restarted often."""
    moorage.docker("run", "-d", "--name", "dying", "--restart", "always", "busybox", "sleep", "1000")
    with sqlite3.connect(f"{moorage.root}/moorage.db") as store:
        store.execute("UPDATE containers SET backoff_ms = ? WHERE name = 'dying'", (last_backoff_ms,))
    store.close()
    os.kill(state(moorage, "dying")["Pid"], signal.SIGKILL)
    moorage.until(lambda: state(moorage, "dying")["Restarting"], 60, "it is not restarted")
    return "dying"


@pytest.fixture
def dying(moorage: Instance) -> str:
    """Waits so long that nothing happens by itself in a test."""
    return die(moorage, 30_000)


def test_what_a_restarting_container_looks_like(moorage: Instance, dying: str) -> None:
    now = state(moorage, dying)
    assert (now["Status"], now["Running"], now["Pid"], now["ExitCode"]) == ("restarting", True, 0, 137)
    assert moorage.docker("ps", "--format", "{{.State}} {{.Status}}").stdout.startswith("restarting Restarting (137) ")
    assert moorage.docker("ps", "-q", "--filter", "status=restarting").stdout.strip()
    assert moorage.docker("info", "-f", "{{.ContainersRunning}} {{.ContainersStopped}}").stdout == "0 1\n"
    for verb in (("pause",), ("exec",), ("rm",)):
        refused = moorage.docker(*verb, dying, *(("true",) if verb == ("exec",) else ()), check=False)
        assert refused.returncode
        assert "is restarting" in refused.stderr
    assert call(moorage, f"POST /containers/{dying}/start").status == 304


@pytest.mark.parametrize(
    ("verb", "told"),
    [(("stop",), ["stop"]), (("kill",), []), (("kill", "-s", "USR1"), []), (("rm", "-f"), ["destroy"])],
    ids=["stop", "kill", "signal", "rm"],
)
def test_what_ends_the_waiting(moorage: Instance, dying: str, verb: tuple[str, ...], told: list[str]) -> None:
    began = time.time()
    moorage.docker(*verb, dying)
    if verb[0] != "rm":
        now = state(moorage, dying)
        assert (now["Status"], now["ExitCode"], now["RestartCount"]) == ("exited", 137, 1)
    moorage.until(lambda: not keepers(moorage), 60, "the keeper still waits")
    assert actions(moorage, dying, began) == told
    if verb[0] == "stop":
        moorage.docker("start", dying)
        assert state(moorage, dying)["RestartCount"] == 0


def test_restart_does_not_wait(moorage: Instance, dying: str) -> None:
    began = time.time()
    moorage.docker("restart", "-t", "0", dying)
    assert actions(moorage, dying, began) == ["stop", "start", "restart"]
    assert (state(moorage, dying)["RestartCount"], state(moorage, dying)["Running"]) == (0, True)


def test_a_policy_that_is_changed_meanwhile_acts_from_the_next_exit_on(moorage: Instance) -> None:
    dying = die(moorage, 500)
    moorage.docker("update", "--restart", "no", dying)
    moorage.until(lambda: state(moorage, dying)["Pid"], 60, "it was to be started once more")
    os.kill(state(moorage, dying)["Pid"], signal.SIGKILL)
    moorage.until(lambda: state(moorage, dying)["Status"] == "exited", 60, "it goes on")
    assert state(moorage, dying)["RestartCount"] == 1


def test_wait_ends_when_the_waiting_is_ended(moorage: Instance, dying: str) -> None:
    waiting = moorage.docker_popen("wait", dying)
    time.sleep(0.3)  # it may begin before or after the stop: the answer is the same
    moorage.docker("stop", dying)
    assert waiting.communicate(timeout=60)[0] == b"137\n"


def of_service(moorage: Instance) -> None:
    moorage.kill_service()


def of_keeper(moorage: Instance) -> None:
    for pid in keepers(moorage):
        os.kill(pid, signal.SIGKILL)
    moorage.kill_service()
    moorage.docker("version")


@pytest.mark.parametrize("death", [of_service, of_keeper])
def test_a_restart_is_not_lost(moorage: Instance, death: Callable[[Instance], None]) -> None:
    dying = die(moorage, 500)
    death(moorage)
    moorage.until(lambda: not state(moorage, dying)["Restarting"], 60, "it was not restarted any more")
    assert state(moorage, dying)["Running"]


def test_an_exit_that_no_hook_recorded_is_restarted_by_the_next_service(moorage: Instance) -> None:
    moorage.docker("run", "-d", "--name", "left", "--restart", "on-failure", "busybox", "sleep", "1000")
    monitor, pid = (
        next(number for number, shown in moorage._processes() if "conmon" in shown),
        state(moorage, "left")["Pid"],
    )
    moorage.kill_service()
    os.kill(monitor, signal.SIGKILL)  # so that there is no hook at all
    os.kill(pid, signal.SIGKILL)
    moorage.until(lambda: state(moorage, "left")["RestartCount"] == 1, 60, "it was not restarted")
    moorage.until(lambda: state(moorage, "left")["Running"], 60, "it was not restarted")


def test_a_start_that_fails_ends_it(moorage: Instance) -> None:
    """As dockerd: what it last ended with, and why it did not start again."""
    moorage.docker(
        "run", "-d", "--name", "broken", "--restart", "always", "busybox", "/bin/sh", "-c", "rm /bin/sh; exit 3"
    )
    moorage.until(lambda: state(moorage, "broken")["Status"] == "exited", 60, "it goes on")
    now = state(moorage, "broken")
    assert (now["ExitCode"], now["RestartCount"], now["Running"]) == (3, 1, False)
    assert "no such file or directory" in now["Error"]


@pytest.mark.parametrize(
    ("policy", "code", "count"),
    [("on-failure", 0, 0), ("on-failure:2", 3, 2), ("no", 3, 0), ("always", 0, 2), ("unless-stopped", 0, 2)],
)
def test_who_is_restarted(moorage: Instance, policy: str, code: int, count: int) -> None:
    began = time.time()
    moorage.docker("run", "-d", "--name", "one", "--restart", policy, "busybox", "sh", "-c", f"exit {code}")

    def settled() -> bool:
        now = state(moorage, "one")
        return bool(now["Status"] == "exited" or now["RestartCount"] > 2)

    moorage.until(settled, 60, "neither ended nor restarted")
    now = state(moorage, "one")
    assert now["Status"] == "exited" or ":" not in policy
    assert (min(now["RestartCount"], 2), now["ExitCode"]) == (count, code)
    told = actions(moorage, "one", began)
    assert told[: 3 + 2 * count] == ["create", "start", "die", *["start", "die"] * count]


@pytest.mark.parametrize(
    ("stop_signal", "policy", "again"),
    [("", "always", False), ("INT", "always", True), ("INT", "unless-stopped", False), ("INT", "on-failure", True)],
)
def test_a_signal_by_a_user(moorage: Instance, stop_signal: str, policy: str, again: bool) -> None:
    """dockerd takes any signal for a wish to end it, unless the container names another one as its stop signal."""
    moorage.docker(
        "run", "-d", "--name", "told", "--restart", policy, *(("--stop-signal", stop_signal) if stop_signal else ()),
        "busybox", "sh", "-c", 'trap "" USR1; echo ready; while [ ! -e /go ]; do sleep 0.05; done; rm /go; exit 5',
    )  # fmt: skip
    moorage.until(lambda: moorage.docker("logs", "told").stdout, 60, "it did not begin")
    moorage.docker("kill", "-s", "USR1", "told")
    moorage.docker("exec", "told", "touch", "/go")
    moorage.until(
        lambda: state(moorage, "told")["RestartCount"] or state(moorage, "told")["Status"] == "exited", 20, "no exit"
    )
    assert state(moorage, "told")["RestartCount"] == int(again)


def test_removing_itself_and_restarting_exclude_each_other(moorage: Instance) -> None:
    refused = moorage.docker("run", "--rm", "--restart", "always", "busybox", "true", check=False)
    assert refused.returncode
    assert "onflict" in refused.stderr or "AutoRemove" in refused.stderr
    assert not moorage.docker("ps", "-aq").stdout
