"""start, stop, kill, restart, pause, wait, rename, rm: what each says and does, also when two of them meet."""

import fcntl
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.instance import CGROUPS, Instance
from tests.support.ports import free_port
from tests.support.streams import VERSION, call, create, done, inspect, remove, run, start, wait
from tests.support.wire import Answer, Wire, request

DEAF = ("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")  # SIGTERM does not end it


@pytest.fixture
def made(moorage: Instance) -> Iterator[list[str]]:
    """Ids noted here are removed after the test."""
    noted: list[str] = []
    yield noted
    for container in noted:
        call(moorage, f"DELETE /containers/{container}?force=1&v=1")


@pytest.fixture(scope="module")
def four(moorage: Instance) -> Iterator[dict[str, str]]:
    """One container in each state that refuses something; `nosuch` is none."""
    found = {
        "created": create(moorage, "true"),
        "running": run(moorage, "sleep", "1000"),
        "paused": run(moorage, "sleep", "1000"),
        "nosuch": "nosuch",
    }
    done(call(moorage, f"POST /containers/{found['paused']}/pause"))
    yield found
    for state in ("created", "running", "paused"):
        remove(moorage, found[state])


def message(answer: Answer) -> str:
    return str(answer.json["message"]) if answer.body else ""


@pytest.mark.parametrize(
    ("state", "line", "status", "text"),
    [
        ("running", "POST /containers/{}/start", 304, ""),
        ("paused", "POST /containers/{}/start", 409, "cannot start a paused container, try unpause instead"),
        ("created", "POST /containers/{}/stop?signal=NOPE", 304, ""),
        ("running", "POST /containers/{}/stop?t=x", 400, 'strconv.Atoi: parsing "x": invalid syntax'),
        ("running", "POST /containers/{}/stop?signal=NOPE", 400, "cannot stop container: {}: invalid signal: NOPE"),
        (
            "running",
            "POST /containers/{}/restart?signal=NOPE",
            400,
            "Cannot restart container {}: invalid signal: NOPE",
        ),
        ("running", "POST /containers/{}/kill?signal=NOPE", 400, "cannot kill container: {}: invalid signal: NOPE"),
        ("running", "POST /containers/{}/kill?signal=0", 400, "cannot kill container: {}: invalid signal: 0"),
        ("created", "POST /containers/{}/kill", 409, "cannot kill container: {}: container {} is not running"),
        ("created", "POST /containers/{}/pause", 409, "container {} is not running"),
        ("paused", "POST /containers/{}/pause", 409, "Container {} is already paused"),
        ("running", "POST /containers/{}/unpause", 409, "Container {} is not paused"),
        ("running", "POST /containers/{}/wait?condition=tired", 400, 'invalid condition: "tired"'),
        ("running", "POST /containers/{}/rename?name=", 400, "Neither old nor new names may be empty"),
        (
            "running",
            "POST /containers/{}/rename?name=/",
            400,
            "Error when allocating new name: Invalid container name (/), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
        (
            "running",
            "DELETE /containers/{}",
            409,
            'cannot remove container "{}": container is running: stop the container before removing or force remove',
        ),
        (
            "paused",
            "DELETE /containers/{}",
            409,
            'cannot remove container "{}": container is paused and must be unpaused first',
        ),
        (
            "created",
            "DELETE /containers/{}?link=1",
            409,
            "Conflict, cannot remove the default link name of the container",
        ),
        ("created", "POST /containers/{}/start?checkpoint=c", 400, "checkpoint is only supported in experimental mode"),
        *(
            ("nosuch", f"POST /containers/{{}}/{verb}", 404, "No such container: nosuch")
            for verb in ("start", "stop?t=0&signal=NOPE", "restart", "pause", "unpause", "wait", "rename?name=other")
        ),
        ("nosuch", "POST /containers/{}/kill", 404, "cannot kill container: nosuch: No such container: nosuch"),
        ("nosuch", "DELETE /containers/{}", 404, "No such container: nosuch"),
        ("nosuch", "DELETE /containers/{}/alias?link=1", 404, "No such container: nosuch/alias"),
    ],
)
def test_refusals(moorage: Instance, four: dict[str, str], state: str, line: str, status: int, text: str) -> None:
    container = four[state]
    before = call(moorage, f"GET /containers/{container}/json").body
    answer = call(moorage, line.format(container))
    assert (answer.status, message(answer)) == (status, text.replace("{}", container))
    assert call(moorage, f"GET /containers/{container}/json").body == before, "something has changed"


def test_a_start_takes_no_body(moorage: Instance, four: dict[str, str]) -> None:
    refused = call(moorage, f"POST /containers/{four['created']}/start", {"Binds": ["/:/host"]})
    assert refused.status == 400
    assert "starting container with non-empty request body was deprecated" in message(refused)
    assert inspect(moorage, four["created"])["State"]["Status"] == "created"


def test_the_signal_of_stop_is_new_in_1_42(moorage: Instance, made: list[str]) -> None:
    made.append(run(moorage, "sleep", "1000"))
    with Wire(moorage.socket, 30) as wire:
        wire.send(request(f"POST /v1.41/containers/{made[0]}/stop?t=0&signal=NOPE"))
        assert wire.answer().status == 204


@pytest.mark.parametrize(
    ("signal", "code"),
    [("KILL", 137), ("SIGTERM", 143), ("sigint", 130), ("10", 138), ("SIGRTMIN+3", 165), ("RTMAX-2", 190), ("", 137)],
)
def test_signals_by_name_and_number(moorage: Instance, made: list[str], signal: str, code: int) -> None:
    """On the host's processes' namespace: in its own, a first process gets no signal that it does not handle."""
    made.append(run(moorage, "sleep", "1000", HostConfig={"PidMode": "host"}))
    assert call(moorage, f"POST /containers/{made[0]}/kill?signal={signal.replace('+', '%2B')}").status == 204
    assert wait(moorage, made[0]) == code


def test_how_long_a_stop_waits(moorage: Instance, made: list[str]) -> None:
    """By the request, then by the container; what resists is killed, and -1 never kills."""
    made += [run(moorage, *DEAF), run(moorage, *DEAF, StopTimeout=0), run(moorage, *DEAF)]
    for container, query in ((made[0], "?t=0"), (made[1], "")):
        assert call(moorage, f"POST /containers/{container}/stop{query}").status == 204
        assert inspect(moorage, container)["State"]["ExitCode"] == 137
    with Wire(moorage.socket, 60) as wire:
        wire.send(request(f"POST {VERSION}/containers/{made[2]}/stop?t=-1"))
        moorage.until(lambda: "kill" in _actions(moorage, made[2]), 60, "no signal was sent")
        assert inspect(moorage, made[2])["State"]["Running"]
        assert call(moorage, f"POST /containers/{made[2]}/kill").status == 204
        assert wire.answer().status == 204


def test_a_stop_that_waits_holds_nobody_up(moorage: Instance, made: list[str]) -> None:
    made.append(run(moorage, *DEAF))
    with Wire(moorage.socket, 60) as stopping, Wire(moorage.socket, 60) as restarting:
        stopping.send(request(f"POST {VERSION}/containers/{made[0]}/stop?t=1000"))
        restarting.send(request(f"POST {VERSION}/containers/{made[0]}/restart?t=1000"))
        moorage.until(lambda: _actions(moorage, made[0]).count("kill") == 2, 60, "no signals were sent")
        assert call(moorage, f"POST /containers/{made[0]}/stop?t=0").status == 204
        assert stopping.answer().status == 204
        assert restarting.answer().status == 204
    assert inspect(moorage, made[0])["State"]["Running"], "the restart has not started it again"
    with Wire(moorage.socket, 60) as stopping:
        stopping.send(request(f"POST {VERSION}/containers/{made[0]}/stop?t=1000"))
        moorage.until(lambda: "kill" in _actions(moorage, made[0])[-1:], 60, "no signal was sent")
        assert call(moorage, f"DELETE /containers/{made[0]}?force=1").status == 204
        assert stopping.answer().status == 204


def _actions(moorage: Instance, container: str) -> list[str]:
    """What has happened to a container."""
    filters = quote(json.dumps({"container": [container], "type": ["container"]}))
    answer = call(moorage, f"GET /events?since=0&until={time.time():.9f}&filters={filters}")
    return [json.loads(line)["Action"] for line in answer.body.splitlines()]


def test_a_stop_that_its_client_left_goes_on(moorage: Instance, made: list[str]) -> None:
    made.append(run(moorage, *DEAF))
    with Wire(moorage.socket, 30) as wire:
        wire.send(request(f"POST {VERSION}/containers/{made[0]}/stop?t=1"))
        moorage.until(lambda: "kill" in _actions(moorage, made[0]), 60, "no signal was sent")
    moorage.until(lambda: not inspect(moorage, made[0])["State"]["Running"], 30, "it was not killed")


def test_what_is_paused_goes_on_to_be_stopped(moorage: Instance, made: list[str]) -> None:
    trap = ("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done")
    made += [run(moorage, *trap), run(moorage, "sleep", "1000"), run(moorage, "sleep", "1000")]
    ready = lambda: moorage.docker("logs", made[0]).stdout == "ready\n"  # noqa: E731 - a signal before the trap is ignored
    moorage.until(ready, 60, "it has not set its trap")
    for container in made:
        assert call(moorage, f"POST /containers/{container}/pause").status == 204
    assert call(moorage, f"POST /containers/{made[0]}/stop").status == 204
    assert inspect(moorage, made[0])["State"]["ExitCode"] == 3
    assert _actions(moorage, made[0])[-5:] == ["pause", "kill", "unpause", "die", "stop"]
    assert call(moorage, f"POST /containers/{made[1]}/kill").status == 204
    assert inspect(moorage, made[1])["State"]["Status"] == "exited"
    assert call(moorage, f"DELETE /containers/{made[2]}?force=1").status == 204


def test_pauses_and_ends_that_meet(moorage: Instance, made: list[str]) -> None:
    """Whatever comes first: nothing that has ended is ever said to be paused or to run."""
    made += [run(moorage, "sleep", "1000") for _ in range(6)]
    with ThreadPoolExecutor(12) as pool:
        for container in made:
            for verb in ("pause", "kill", "unpause", "pause"):
                pool.submit(call, moorage, f"POST /containers/{container}/{verb}")
    for container in made:
        call(moorage, f"POST /containers/{container}/kill")
        state = inspect(moorage, container)["State"]
        assert (state["Status"], state["Paused"], state["Pid"], state["ExitCode"]) == ("exited", False, 0, 137)


def test_waiting_answers_before_the_end(moorage: Instance, made: list[str]) -> None:
    made.append(run(moorage, "sleep", "1000"))
    with Wire(moorage.socket, 30) as wire, Wire(moorage.socket, 30) as old:
        wire.send(request(f"POST {VERSION}/containers/{made[0]}/wait"))
        assert wire.head().status == 200
        old.send(request(f"POST /v1.29/containers/{made[0]}/wait?condition=tired"))
        call(moorage, f"POST /containers/{made[0]}/kill")
        assert b'"StatusCode":137' in wire.rest_of_chunks()
        assert old.answer().json == {"StatusCode": 137}


def test_waiting_for_the_removal_of_what_never_ran(moorage: Instance) -> None:
    container = create(moorage, "true")
    with Wire(moorage.socket, 30) as wire:
        wire.send(request(f"POST {VERSION}/containers/{container}/wait?condition=removed"))
        assert wire.head().status == 200
        wire.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            wire.more()
        wire.socket.settimeout(30)
        remove(moorage, container)
        assert b'"StatusCode":0' in wire.rest_of_chunks()


def test_why_a_start_failed_is_in_the_state_and_told_by_wait(moorage: Instance, made: list[str]) -> None:
    made.append(create(moorage, "nope"))
    refused = call(moorage, f"POST /containers/{made[0]}/start")
    reason = (
        "failed to create task for container: failed to create shim task: OCI runtime create failed: "
        'runc create failed: unable to start container process: exec: "nope": executable file not found in $PATH'
    )
    assert (refused.status, message(refused)) == (400, reason + ": unknown")
    state = inspect(moorage, made[0])["State"]
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("created", 127, reason + ": unknown")
    again = call(moorage, f"POST /containers/{made[0]}/restart")
    assert (again.status, message(again)) == (400, f"Cannot restart container {made[0]}: {reason}: unknown")
    waited = done(call(moorage, f"POST /containers/{made[0]}/wait"))
    assert waited == {"StatusCode": 127, "Error": {"Message": reason + ": unknown"}}


def test_a_failed_start_removes_what_removes_itself_and_its_waiter_is_told(moorage: Instance) -> None:
    container = create(moorage, "/nosuch", HostConfig={"AutoRemove": True})
    with Wire(moorage.socket, 30) as wire:
        wire.send(request(f"POST {VERSION}/containers/{container}/wait?condition=removed"))
        assert wire.head().status == 200
        assert call(moorage, f"POST /containers/{container}/start").status == 400
        assert b"StatusCode" in wire.rest_of_chunks()
    assert call(moorage, f"GET /containers/{container}/json").status == 404


def test_a_hundred_that_remove_themselves_tell_their_codes(moorage: Instance) -> None:
    there = len(done(call(moorage, "GET /containers/json?all=1")))

    def one(number: int) -> tuple[int, int]:
        condition = ("next-exit", "removed")[number % 2]
        container = create(moorage, "sh", "-c", f"exit {number}", HostConfig={"AutoRemove": True})
        with Wire(moorage.socket, 120) as wire:
            wire.send(request(f"POST {VERSION}/containers/{container}/wait?condition={condition}"))
            assert wire.head().status == 200
            start(moorage, container)
            return number, json.loads(wire.rest_of_chunks())["StatusCode"]

    with ThreadPoolExecutor(8) as pool:
        for number, code in pool.map(one, range(100)):
            assert code == number
    moorage.until(lambda: len(done(call(moorage, "GET /containers/json?all=1"))) == there, 30, "some were not removed")


def test_who_was_told_of_an_end_finds_the_port_free(moorage: Instance, made: list[str]) -> None:
    options: dict[str, Any] = {
        "network": "bridge",
        "ExposedPorts": {"80/tcp": {}},
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(free_port())}]}},
    }
    for _ in range(5):
        made.append(run(moorage, "true", **options))
        assert wait(moorage, made[-1]) == 0


def test_renaming_what_runs(moorage: Instance, made: list[str]) -> None:
    made.append(run(moorage, "sleep", "1000", network="bridge", Hostname="unchanged"))
    hosts = moorage.docker("exec", made[0], "cat", "/etc/hosts").stdout
    assert call(moorage, f"POST /containers/{made[0]}/rename?name=first").status == 204
    assert call(moorage, "POST /containers/first/rename?name=/second").status == 204
    assert inspect(moorage, "second")["Name"] == "/second"
    assert call(moorage, "GET /containers/first/json").status == 404
    same = call(moorage, "POST /containers/second/rename?name=second")
    assert (same.status, message(same)) == (400, "Renaming a container with the same name as its current name")
    assert moorage.docker("exec", "second", "cat", "/etc/hosts").stdout == hosts
    made.append(create(moorage, "true"))
    taken = call(moorage, f"POST /containers/{made[1]}/rename?name=second")
    assert taken.status == 409
    assert message(taken) == (
        'Error when allocating new name: Conflict. The container name "/second" is already in use by container '
        f'"{made[0]}". You have to remove (or rename) that container to be able to reuse that name.'
    )


def test_the_second_of_two_removals_is_told_so(moorage: Instance) -> None:
    container = create(moorage, "true")
    first: list[Answer] = []
    path = f"{moorage.run}/containers/{container}.lock"
    with open(path, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as an exit hook would: the first removal waits for it
        thread = threading.Thread(target=lambda: first.append(call(moorage, f"DELETE /containers/{container}")))
        thread.start()
        moorage.until(lambda: _waits_for(path), 60, "nobody waits for the lock")
        second = call(moorage, f"DELETE /containers/{container}?force=1")
        assert (second.status, message(second)) == (409, f"removal of container {container} is already in progress")
    thread.join()
    assert first[0].status == 204


def _waits_for(path: str) -> bool:
    """Whether a process waits for the lock of a file (proc_locks(5): such lines begin with `->`)."""
    inode = f":{os.stat(path).st_ino} "
    with open("/proc/locks", encoding="ascii") as locks:
        return any("-> FLOCK" in line and inode in line for line in locks)


def test_what_cannot_be_removed_is_dead_until_it_can(moorage: Instance) -> None:
    container = create(moorage, "true")
    held = f"{moorage.root}/containers/{container}/held"
    os.mkdir(held)
    subprocess.run(["mount", "-t", "tmpfs", "none", held], check=True)
    try:
        failed = call(moorage, f"DELETE /containers/{container}")
        assert failed.status == 500
        assert message(failed).startswith(f'cannot remove container "{container}": ')
        state = inspect(moorage, container)["State"]
        assert (state["Status"], state["Dead"]) == ("dead", True)
        again = call(moorage, f"POST /containers/{container}/start")
        assert (again.status, message(again)) == (409, "container is marked for removal and cannot be started")
    finally:
        subprocess.run(["umount", held], check=True)
    assert call(moorage, f"DELETE /containers/{container}").status == 204


def test_removing_while_an_exec_session_runs(moorage: Instance) -> None:
    container = run(moorage, "sleep", "1000")
    session = moorage.docker_popen("exec", container, "sleep", "1000")
    moorage.until(lambda: inspect(moorage, container)["ExecIDs"], 60, "no session has begun")
    remove(moorage, container)
    assert session.wait(30) != 0
    session.communicate()


@pytest.mark.skipif(not os.path.isdir(f"{CGROUPS}/memory"), reason="no controller of memory (cgroup v1) here")
def test_running_out_of_memory(moorage: Instance, made: list[str]) -> None:
    eats = "x=a; while :; do x=$x$x; done"
    made.append(run(moorage, "sh", "-c", eats, HostConfig={"Memory": 16 << 20, "MemorySwap": 16 << 20}))
    assert wait(moorage, made[0]) == 137
    state = inspect(moorage, made[0])["State"]
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)
    assert _actions(moorage, made[0])[-2:] == ["oom", "die"]
    start(moorage, made[0])
    assert inspect(moorage, made[0])["State"]["OOMKilled"] is False


@pytest.mark.parametrize(
    ("command", "code"),
    [(["true"], 0), (["sh", "-c", "exit 3"], 3), (["nope"], 127), (["/etc"], 126), (["sh", "-c", "kill -9 $$"], 137)],
)
def test_exit_codes_of_run(moorage: Instance, command: list[str], code: int) -> None:
    ran = moorage.docker("run", "--rm", "--init", "--network", "none", "busybox", *command, check=False)
    assert ran.returncode == code, ran.stderr


def test_the_exit_code_of_run_where_the_request_is_wrong(moorage: Instance) -> None:
    assert moorage.docker("run", "--rm", "--network", "nosuch", "busybox", "true", check=False).returncode == 125


def test_a_stop_is_told_before_what_removes_itself_is_gone(moorage: Instance) -> None:
    for _ in range(5):
        container = run(moorage, "sleep", "1000", HostConfig={"AutoRemove": True})
        assert call(moorage, f"POST /containers/{container}/stop?t=0").status == 204
        assert _actions(moorage, container)[-3:] == ["die", "stop", "destroy"]
        assert call(moorage, f"GET /containers/{container}/json").status == 404
