"""Health checks as the docker CLI shows them, most of the time with no service process alive: the keeper runs them."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from install import busybox_image
from tests.support import image
from tests.support.instance import Instance, children_of

FAST = ("--health-interval", "300ms", "--health-retries", "2")


def run(moorage: Instance, name: str, command: str, *options: str) -> None:
    moorage.docker("run", "-d", "--name", name, "--health-cmd", command, *options, "busybox", "sleep", "1000")


def state(moorage: Instance, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(moorage.docker("inspect", name).stdout)[0]["State"]
    return found


def until(moorage: Instance, name: str, status: str) -> dict[str, Any]:
    moorage.until(lambda: state(moorage, name)["Health"]["Status"] == status, 60, f"{name} did not become {status}")
    return state(moorage, name)


def keepers(moorage: Instance) -> list[int]:
    return [pid for pid, shown in moorage._processes() if "service/keeper.py" in shown]


def actions(moorage: Instance, name: str, since: float) -> list[str]:
    """The actions of a container's events since that moment, the words of probes cut off."""
    listed = moorage.docker(
        "events", "--since", f"{since:.3f}", "--until", f"{time.time():.3f}", "--filter", f"container={name}",
        "--format", "{{.Action}}",
    ).stdout  # fmt: skip
    return listed.splitlines()


@pytest.fixture(autouse=True)
def removed(moorage: Instance) -> Iterator[None]:
    yield
    if found := moorage.docker("ps", "-aq").stdout.split():
        moorage.docker("rm", "-f", *found)


def test_a_container_becomes_healthy_with_no_service_alive(moorage: Instance) -> None:
    began = time.time()
    run(moorage, "probed", "echo looked >>/looked; echo fine; echo bad >&2", "--health-interval", "300ms")
    assert "(health: starting)" in moorage.docker("ps", "--format", "{{.Status}}").stdout
    written = moorage.docker("inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", "probed").stdout.strip()
    moorage.kill_service()
    moorage.until(lambda: lines(f"{written}/looked") >= 3, 60, "no probe ran while the service was gone")
    assert moorage.service_pid() is None, "nobody was to wake the service"
    health = state(moorage, "probed")["Health"]
    assert (health["Status"], health["FailingStreak"]) == ("healthy", 0)
    assert {(result["ExitCode"], result["Output"]) for result in health["Log"]} == {(0, "fine\nbad\n")}
    assert "(healthy)" in moorage.docker("ps", "--format", "{{.Status}}").stdout
    seen = actions(moorage, "probed", began)
    words = "/bin/sh -c echo looked >>/looked; echo fine; echo bad >&2"
    first = seen.index("start") + 1
    assert seen[first : first + 4] == [
        f"exec_create: {words}", f"exec_start: {words}", "exec_die", "health_status: healthy"
    ]  # fmt: skip
    assert seen.count("health_status: healthy") == 1, "told on change only"


def lines(path: str) -> int:
    try:
        with open(path, encoding="utf-8") as file:
            return len(file.readlines())
    except FileNotFoundError:
        return 0


def test_unhealthy_after_so_many_failures_and_healthy_again(moorage: Instance) -> None:
    began = time.time()
    run(moorage, "probed", "test -e /ok", *FAST)
    health = until(moorage, "probed", "unhealthy")["Health"]
    assert health["FailingStreak"] >= 2
    assert health["Log"][-1]["ExitCode"] == 1
    assert moorage.docker("ps", "-q", "--filter", "health=unhealthy").stdout.strip()
    assert not moorage.docker("ps", "-q", "--filter", "health=healthy").stdout.strip()
    moorage.docker("exec", "probed", "touch", "/ok")
    assert until(moorage, "probed", "healthy")["Health"]["FailingStreak"] == 0
    seen = [action for action in actions(moorage, "probed", began) if action.startswith("health")]
    assert seen == ["health_status: unhealthy", "health_status: healthy"]


def test_the_last_five_results_are_kept_and_output_is_cut(moorage: Instance) -> None:
    run(moorage, "probed", "yes long | head -c 5000", "--health-interval", "100ms")
    moorage.until(lambda: len(state(moorage, "probed")["Health"]["Log"]) == 5, 60, "no five results")
    last = state(moorage, "probed")["Health"]["Log"][-1]["End"]
    moorage.until(lambda: state(moorage, "probed")["Health"]["Log"][-1]["End"] > last, 60, "no sixth probe")
    log = state(moorage, "probed")["Health"]["Log"]
    assert len(log) == 5
    assert log[0]["Output"] == ("long\n" * 1000)[:4096] + "..."


def test_a_probe_that_takes_too_long_is_ended_with_all_it_started(moorage: Instance) -> None:
    run(moorage, "probed", "echo begun; sleep 500 & sleep 501", "--health-timeout", "400ms", *FAST)
    health = until(moorage, "probed", "unhealthy")["Health"]
    assert health["Log"][-1]["ExitCode"] == -1
    assert health["Log"][-1]["Output"] == "Health check exceeded timeout (400ms): begun\n"
    assert len(health["Log"]) >= 2
    shown = moorage.docker("top", "probed", "-o", "pid,args").stdout
    assert shown.count("sleep 500") <= 1, "only of the probe that runs now"


def test_a_probe_that_cannot_run_says_why(moorage: Instance) -> None:
    client = moorage.client()
    made = client.api.create_container(
        "busybox", "sleep 1000", name="probed", healthcheck={"test": ["CMD", "/nosuch"], "interval": 200_000_000}
    )
    client.api.start(made)
    moorage.until(lambda: state(moorage, "probed")["Health"]["Log"], 60, "no result")
    result = state(moorage, "probed")["Health"]["Log"][0]
    assert result["ExitCode"] == -1
    assert result["Output"].startswith("OCI runtime exec failed: exec failed:")
    assert "/nosuch" in result["Output"]


def test_failures_in_the_start_period_do_not_count(moorage: Instance) -> None:
    run(
        moorage, "probed", "test -e /ok", *FAST, "--health-retries", "1", "--health-start-period", "1h",
        "--health-start-interval", "100ms",
    )  # fmt: skip
    moorage.until(lambda: len(state(moorage, "probed")["Health"]["Log"]) > 3, 60, "no probes")
    health = state(moorage, "probed")["Health"]
    assert (health["Status"], health["FailingStreak"]) == ("starting", 0)
    moorage.docker("exec", "probed", "touch", "/ok")
    until(moorage, "probed", "healthy")
    moorage.docker("exec", "probed", "rm", "/ok")
    assert until(moorage, "probed", "unhealthy")["Health"]["FailingStreak"] >= 1


def test_pause_suspends_and_a_restart_begins_anew(moorage: Instance) -> None:
    run(moorage, "probed", "true", "--health-interval", "200ms")
    until(moorage, "probed", "healthy")
    moorage.docker("pause", "probed")
    assert state(moorage, "probed")["Health"]["Status"] == "unhealthy", "nobody looks: as dockerd shows it"
    before = state(moorage, "probed")["Health"]["Log"]
    time.sleep(1)
    assert state(moorage, "probed")["Health"]["Log"] == before
    moorage.docker("unpause", "probed")
    until(moorage, "probed", "healthy")
    moorage.docker("update", "--restart", "no", "probed", check=False)
    moorage.docker("restart", "-t", "0", "probed")
    assert state(moorage, "probed")["Health"]["Log"], "the log outlives a restart"
    until(moorage, "probed", "healthy")
    moorage.docker("stop", "-t", "0", "probed")
    assert state(moorage, "probed")["Health"]["Status"] == "unhealthy"
    assert moorage.docker("ps", "-a", "--format", "{{.Status}}").stdout.startswith("Exited")
    moorage.until(lambda: not keepers(moorage), 60, "the keeper stays for nobody")


def test_what_the_image_says_holds_unless_it_is_told_otherwise(moorage: Instance, tmp_path: Path) -> None:
    """The request changes one thing of an image's check, or all."""
    with open(busybox_image.BUSYBOX, "rb") as file:
        layer = image.layer({"bin/busybox": file.read()}, mode=0o755)
    check = {"Test": ["CMD", "/bin/busybox", "echo", "image"], "Interval": 60_000_000_000, "Retries": 7}
    config = {"Healthcheck": check, "Cmd": ["/bin/busybox", "sleep", "1000"]}
    image.archive(f"{tmp_path}/probed.tar", [layer], tags=["probed:latest"], config=config)
    moorage.docker("load", "-q", "-i", f"{tmp_path}/probed.tar")
    moorage.docker("run", "-d", "--name", "probed", "--health-interval", "200ms", "probed")
    assert until(moorage, "probed", "healthy")["Health"]["Log"][0]["Output"] == "image\n"
    shown = json.loads(moorage.docker("inspect", "-f", "{{json .Config.Healthcheck}}", "probed").stdout)
    assert shown == {**check, "Interval": 200_000_000}
    moorage.docker("run", "-d", "--name", "unprobed", "--no-healthcheck", "probed")
    assert "Health" not in state(moorage, "unprobed")


@pytest.mark.parametrize("options", [("--no-healthcheck",), ()], ids=["none", "not asked for"])
def test_no_probe_no_health_no_keeper(moorage: Instance, options: tuple[str, ...]) -> None:
    moorage.docker("run", "-d", "--name", "plain", *options, "busybox", "sleep", "1000")
    assert "Health" not in state(moorage, "plain")
    assert moorage.docker("ps", "-q", "--filter", "health=none").stdout.strip()
    assert not keepers(moorage)


def test_one_keeper_for_all_and_another_when_it_is_killed(moorage: Instance) -> None:
    for name in ("probed1", "probed2"):
        run(moorage, name, "true", "--health-interval", "300ms")
        until(moorage, name, "healthy")
    (first,) = keepers(moorage)
    os.kill(first, signal.SIGKILL)
    moorage.kill_service()
    moorage.docker("version")  # the service's start brings it back
    moorage.until(lambda: keepers(moorage) not in ([], [first]), 60, "no new keeper")
    last = state(moorage, "probed2")["Health"]["Log"][-1]["End"]
    moorage.until(lambda: state(moorage, "probed2")["Health"]["Log"][-1]["End"] > last, 60, "the probes did not go on")
    assert state(moorage, "probed1")["Health"]["Status"] == "healthy"
    (second,) = keepers(moorage)
    os.kill(second, signal.SIGKILL)
    moorage.docker("run", "--rm", "busybox", "true")  # so does any launch
    moorage.until(lambda: len(keepers(moorage)) == 1, 60, "no new keeper")


def test_the_keeper_is_nobodys_child(moorage: Instance) -> None:
    """Not in the service's session, nor given what systemd gave to the service."""
    run(moorage, "probed", "true")
    (keeper,) = keepers(moorage)
    assert os.getsid(keeper) == keeper
    assert keeper not in children_of(moorage.service_pid() or 0)
    with open(f"/proc/{keeper}/environ", encoding="utf-8") as file:
        names = {entry.partition("=")[0] for entry in file.read().split("\0") if entry}
    assert all(name in ("PATH", "LANG") or name.startswith("MOORAGE_") for name in names)


def test_new_code_brings_a_new_keeper(moorage: Instance) -> None:
    run(moorage, "probed", "true")
    moorage.until(lambda: signed(moorage), 60, "it did not sign its lock")
    (before,) = keepers(moorage)
    with open(f"{moorage.run}/keeper.lock", "w", encoding="ascii") as lock:
        lock.write(f"{before} of other code")
    moorage.docker("run", "--rm", "busybox", "true")
    moorage.until(lambda: keepers(moorage) not in ([], [before]), 60, "the old one stays")
    moorage.until(lambda: signed(moorage), 60, "it did not sign its lock")
    after = keepers(moorage)
    moorage.docker("run", "--rm", "busybox", "true")
    assert keepers(moorage) == after


def signed(moorage: Instance) -> bool:
    with open(f"{moorage.run}/keeper.lock", encoding="ascii") as lock:
        return bool(lock.read())


def test_a_probe_that_writes_without_end_holds_up_nobody(moorage: Instance) -> None:
    run(moorage, "loud", "yes & yes", "--health-interval", "300ms", "--health-timeout", "2s", "--health-retries", "1")
    run(moorage, "quiet", "true", *FAST)
    assert until(moorage, "quiet", "healthy")
    said = until(moorage, "loud", "unhealthy")["Health"]["Log"][0]
    assert said["Output"].startswith("Health check exceeded timeout (2s): y\n")
    assert len(said["Output"]) < 5000
