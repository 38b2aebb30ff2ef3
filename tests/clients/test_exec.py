"""exec: sessions over raw sockets, the real CLI and docker-py."""

import base64
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.test_attach import Terminal
from tests.support.instance import Instance
from tests.support.streams import (
    call,
    create,
    done,
    everything,
    exec_create,
    exec_inspect,
    frames,
    hijack,
    inspect,
    of_stream,
    remove,
    run,
)
from tests.support.wire import Wire, request

MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
RAW = "application/vnd.docker.raw-stream"
START: dict[str, Any] = {"Detach": False, "Tty": False}


@pytest.fixture(scope="module")
def container(moorage: Instance) -> Iterator[str]:
    made = run(moorage, "sleep", "1000", Env=["A=container", "B=container"], WorkingDir="/tmp", User="0:0")
    yield made
    remove(moorage, made)


def run_exec(moorage: Instance, container: str, *command: str, **options: Any) -> tuple[list[tuple[int, bytes]], int]:
    """Frames and exit code, asked for the moment the connection ends."""
    session = exec_create(moorage, container, *command, **options)
    with hijack(moorage, f"/exec/{session}/start", START) as wire:
        said = frames(wire.rest())
    ended = exec_inspect(moorage, session)
    assert ended["Running"] is False
    return said, ended["ExitCode"]


@pytest.mark.parametrize("upgrade", [True, False], ids=["upgrade", "plain"])
def test_streams_and_exit_code(moorage: Instance, container: str, upgrade: bool) -> None:
    session = exec_create(moorage, container, "sh", "-c", "echo out; sleep 0.1; echo err >&2; exit 7")
    with hijack(moorage, f"/exec/{session}/start", START, upgrade=upgrade) as wire:
        assert wire.content_type == (MULTIPLEXED if upgrade else RAW)  # type: ignore[attr-defined]  # see `hijack`
        assert frames(wire.rest()) == [(1, b"out\n"), (2, b"err\n")]
    ended = exec_inspect(moorage, session)
    assert (ended["Running"], ended["ExitCode"]) == (False, 7)


def test_the_exit_code_is_known_when_the_connection_ends(moorage: Instance, container: str) -> None:
    for code in range(1, 21):
        assert run_exec(moorage, container, "sh", "-c", f"exit {code}") == ([], code)


@pytest.mark.parametrize("upgrade", [True, False], ids=["upgrade", "plain"])
def test_half_close(moorage: Instance, container: str, upgrade: bool) -> None:
    session = exec_create(moorage, container, "sh", "-c", "cat; sleep 0.2; echo after", AttachStdin=True)
    with hijack(moorage, f"/exec/{session}/start", START, upgrade=upgrade, stdin=b"one\n") as wire:
        assert wire.exactly(12)[8:] == b"one\n"
        wire.send(b"two\n")
        wire.socket.shutdown(socket.SHUT_WR)
        assert of_stream(wire.rest(), 1) == b"two\nafter\n"


def test_stdin_that_was_not_asked_for_goes_nowhere(moorage: Instance, container: str) -> None:
    session = exec_create(moorage, container, "cat")
    with hijack(moorage, f"/exec/{session}/start", START, stdin=b"ignored\n") as wire:
        assert wire.rest() == b""


def test_only_the_streams_asked_for(moorage: Instance, container: str) -> None:
    said, _ = run_exec(moorage, container, "sh", "-c", "echo out; echo err >&2", AttachStderr=False)
    assert said == [(1, b"out\n")]


def test_framing_follows_the_start_not_the_create(moorage: Instance, container: str) -> None:
    session = exec_create(moorage, container, "echo", "hi", Tty=True)
    with hijack(moorage, f"/exec/{session}/start", START) as wire:
        assert of_stream(wire.rest(), 1) == b"hi\r\n"
    session = exec_create(moorage, container, "echo", "hi")
    with hijack(moorage, f"/exec/{session}/start", {"Detach": False, "Tty": True}) as wire:
        assert wire.content_type == RAW  # type: ignore[attr-defined]  # see `hijack`
        assert wire.rest() == b"hi\n"


def test_nothing_is_lost_of_what_prints_and_exits_at_once(moorage: Instance, container: str) -> None:
    for _ in range(20):
        session = exec_create(moorage, container, "sh", "-c", "head -c 1048576 /dev/zero | tr '\\0' x")
        with hijack(moorage, f"/exec/{session}/start", START) as wire:
            assert of_stream(wire.rest(), 1) == b"x" * 1048576


def test_fifty_megabytes_both_ways_with_a_slow_reader(moorage: Instance, container: str) -> None:
    session = exec_create(moorage, container, "cat", AttachStdin=True)
    block = os.urandom(1 << 20)
    with hijack(moorage, f"/exec/{session}/start", START) as wire:
        wire.socket.settimeout(60)

        def send() -> None:
            for _ in range(50):
                wire.socket.sendall(block)
            wire.socket.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        time.sleep(1)
        assert sender.is_alive(), "50 MB were taken in although nobody reads"
        said = of_stream(everything(wire), 1)
        sender.join()
    assert hashlib.sha256(said).digest() == hashlib.sha256(block * 50).digest()


@pytest.mark.parametrize(
    ("command", "text", "code"),
    [
        ("nope", 'exec: "nope": executable file not found in $PATH', 127),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied', 126),
        ("/tmp", 'exec: "/tmp": ', 126),
    ],
)
def test_what_cannot_be_run(moorage: Instance, container: str, command: str, text: str, code: int) -> None:
    said, exit_code = run_exec(moorage, container, command)
    assert [stream for stream, _ in said] == [1]
    shown = said[0][1].decode()
    assert shown.startswith("OCI runtime exec failed: exec failed: unable to start container process: ")
    assert text in shown
    assert "permission denied" in shown or code == 127
    assert shown.endswith("\r\n")
    assert exit_code == code


def test_what_cannot_be_run_detached(moorage: Instance, container: str) -> None:
    session = exec_create(moorage, container, "nope")
    answer = call(moorage, f"POST /exec/{session}/start", {"Detach": True})
    assert answer.status == 400
    assert 'exec: "nope": executable file not found in $PATH' in answer.json["message"]
    assert exec_inspect(moorage, session)["ExitCode"] == 127
    assert exec_events(moorage, session) == ["exec_create: nope ", "exec_start: nope "]


def test_user_directory_and_environment(moorage: Instance, container: str) -> None:
    def out(*command: str, **options: Any) -> str:
        said, code = run_exec(moorage, container, *command, **options)
        assert code == 0, said
        return b"".join(data for _, data in said).decode()

    assert out("pwd") == "/tmp\n"
    assert out("pwd", WorkingDir="/etc") == "/etc\n"
    assert out("sh", "-c", "echo $A $B $C", Env=["B=exec", "C=exec"]) == "container exec exec\n"
    assert out("sh", "-c", "echo ${TERM-none}") == "none\n"
    assert out("sh", "-c", "echo ${TERM-none}", Tty=True) == "xterm\r\n"
    assert out("id", "-u", User="1234") == "1234\n"
    assert out("sh", "-c", "id -u; id -g", User="12:34") == "12\n34\n"
    effective = out("sh", "-c", "grep CapEff /proc/self/status").split()[1]
    assert effective == "00000000a80425fb"
    with open("/proc/self/status", encoding="ascii") as file:
        own = file.read().split("CapBnd:")[1].split()[0]
    assert out("sh", "-c", "grep CapEff /proc/self/status", Privileged=True).split()[1] == own
    assert out("sh", "-c", "grep CapEff /proc/self/status", User="1234").split()[1] == "0" * 16
    assert out("sh", "-c", "grep Seccomp: /proc/self/status").split()[1] == "2"


def test_create_errors(moorage: Instance, container: str) -> None:
    def refused(reference: str, body: Any) -> tuple[int, str]:
        answer = call(moorage, f"POST /containers/{reference}/exec", body)
        return answer.status, answer.json["message"]

    assert refused("nosuch", {"Cmd": ["true"]}) == (404, "No such container: nosuch")
    assert refused(container, {}) == (400, "No exec command specified")
    expected = (400, "unable to find user nosuch: no matching entries in passwd file")
    assert refused(container, {"Cmd": ["true"], "User": "nosuch"}) == expected
    expected = (400, "Invalid escape keys (ctrl-1) provided")
    assert refused(container, {"Cmd": ["true"], "DetachKeys": "ctrl-1"}) == expected
    stopped = create(moorage, "true")
    assert refused(stopped, {"Cmd": ["true"]}) == (409, f"container {stopped} is not running")
    remove(moorage, stopped)
    session = exec_create(moorage, container, "true")
    assert call(moorage, f"POST /containers/{container}/pause").status == 204
    try:
        text = f"Container {container} is paused, unpause the container before exec"
        assert refused(container, {"Cmd": ["true"]}) == (409, text)
        answer = call(moorage, f"POST /exec/{session}/start", START)
        assert (answer.status, answer.json["message"]) == (409, text)
    finally:
        assert call(moorage, f"POST /containers/{container}/unpause").status == 204


def test_unknown_session(moorage: Instance) -> None:
    for line, body in (
        ("POST /exec/x/start", START),
        ("GET /exec/x/json", None),
        ("POST /exec/x/resize?h=1&w=1", None),
    ):
        answer = call(moorage, line, body)
        assert (answer.status, answer.json["message"]) == (404, "No such exec instance: x")


def test_a_session_starts_once(moorage: Instance, container: str) -> None:
    session = exec_create(moorage, container, "sleep", "0.5")
    done(call(moorage, f"POST /exec/{session}/start", {"Detach": True}))
    answer = call(moorage, f"POST /exec/{session}/start", {"Detach": True})
    assert (answer.status, answer.json["message"]) == (409, f"exec command {session} is already running")
    moorage.until(lambda: not exec_inspect(moorage, session)["Running"], 60, "the session did not end")
    answer = call(moorage, f"POST /exec/{session}/start", {"Detach": True})
    assert (answer.status, answer.json["message"]) == (409, f"exec command {session} has already run")
    with hijack(moorage, f"/exec/{session}/start", START) as wire:
        assert frames(wire.rest()) == [(1, f"exec command {session} has already run\r\n".encode())]


def test_inspect(moorage: Instance, container: str) -> None:
    session = exec_create(
        moorage, container, "sleep", "1000", Tty=True, AttachStdin=True, DetachKeys="ctrl-a", User="12", Privileged=True
    )
    expected = {
        "ID": session,
        "Running": False,
        "ExitCode": None,
        "ProcessConfig": {
            "tty": True,
            "entrypoint": "sleep",
            "arguments": ["1000"],
            "privileged": True,
            "user": "12",
        },
        "OpenStdin": True,
        "OpenStderr": True,
        "OpenStdout": True,
        "CanRemove": False,
        "ContainerID": container,
        "DetachKeys": base64.b64encode(b"\x01").decode(),
        "Pid": 0,
    }
    assert exec_inspect(moorage, session) == expected
    assert session in inspect(moorage, container)["ExecIDs"]
    answer = call(moorage, f"POST /exec/{session}/start", {"Detach": True})
    assert (answer.status, answer.body) == (200, b"")
    now = exec_inspect(moorage, session)
    assert now["Running"] is True
    with open(f"/proc/{now['Pid']}/cmdline", "rb") as file:
        assert file.read() == b"sleep\x001000\x00"
    os.kill(now["Pid"], 9)
    moorage.until(lambda: not exec_inspect(moorage, session)["Running"], 60, "the session did not end")
    assert exec_inspect(moorage, session)["ExitCode"] == 137
    assert session not in (inspect(moorage, container)["ExecIDs"] or [])


def test_detach_keys_leave_the_process_alone(moorage: Instance, container: str) -> None:
    session = exec_create(moorage, container, "cat", Tty=True, AttachStdin=True, DetachKeys="ctrl-x,x")
    with hijack(moorage, f"/exec/{session}/start", {"Tty": True}) as wire:
        wire.send(b"hi\n")
        assert wire.until(b"hi\r\nhi\r\n")
        wire.send(b"\x18x")
        assert wire.rest() == b""
    now = exec_inspect(moorage, session)
    assert now["Running"] is True
    os.kill(now["Pid"], 9)
    moorage.until(lambda: not exec_inspect(moorage, session)["Running"], 60, "the session did not end")


def test_a_client_that_vanishes_leaves_the_process_running(moorage: Instance, container: str) -> None:
    session = exec_create(moorage, container, "sh", "-c", "while :; do echo tick; sleep 0.05; done")
    with hijack(moorage, f"/exec/{session}/start", START) as wire:
        assert wire.exactly(13)[8:] == b"tick\n"
    time.sleep(0.5)
    now = exec_inspect(moorage, session)
    assert now["Running"] is True
    os.kill(now["Pid"], 9)
    moorage.until(lambda: not exec_inspect(moorage, session)["Running"], 60, "the session did not end")


def test_the_size_of_the_terminal(moorage: Instance, container: str) -> None:
    session = exec_create(moorage, container, "sh", "-c", "while :; do stty size; sleep 0.1; done", Tty=True)
    with hijack(moorage, f"/exec/{session}/start", {"Tty": True, "ConsoleSize": [33, 77]}) as wire:
        assert wire.until(b"\n") == b"33 77\r\n"
        assert call(moorage, f"POST /exec/{session}/resize?h=44&w=88").status == 200
        assert wire.until(b"44 88\r\n")
    os.kill(exec_inspect(moorage, session)["Pid"], 9)


def exec_events(moorage: Instance, session: str) -> list[str]:
    """The actions told of one session so far; an exit code in brackets."""
    with Wire(moorage.socket, 60) as wire:
        wire.send(request(f"GET /events?since=1&until={time.time() + 0.1:.3f}"))
        told = [json.loads(text) for text in wire.answer().body.splitlines() if text]
    mine = [(e["Action"], e["Actor"]["Attributes"]) for e in told if e["Actor"]["Attributes"].get("execID") == session]
    return [action + (f"[{about['exitCode']}]" if "exitCode" in about else "") for action, about in mine]


def test_events(moorage: Instance, container: str) -> None:
    session = exec_create(moorage, container, "sh", "-c", "exit 3")
    with hijack(moorage, f"/exec/{session}/start", START) as wire:
        wire.rest()
    assert exec_events(moorage, session) == ["exec_create: sh -c exit 3", "exec_start: sh -c exit 3", "exec_die[3]"]


def test_sessions_of_a_dead_container_are_over(moorage: Instance) -> None:
    container = run(moorage, "sleep", "1000")
    session = exec_create(moorage, container, "sleep", "1000")
    attached = exec_create(moorage, container, "sleep", "1000")
    done(call(moorage, f"POST /exec/{session}/start", {"Detach": True}))
    with hijack(moorage, f"/exec/{attached}/start", START) as wire:
        moorage.until(lambda: exec_inspect(moorage, attached)["Pid"], 60, "the session did not start")
        assert call(moorage, f"POST /containers/{container}/kill").status == 204
        assert wire.rest() == b""
    for each in (session, attached):
        ended = exec_inspect(moorage, each)
        assert (ended["Running"], ended["ExitCode"]) == (False, 137)
    answer = call(moorage, f"POST /exec/{session}/start", START)
    assert (answer.status, answer.json["message"]) == (409, f"container {container} is not running")
    remove(moorage, container)
    assert call(moorage, f"GET /exec/{session}/json").status == 404


def test_kill_of_the_service_loses_no_exit_code(moorage: Instance) -> None:
    """Detached and attached sessions outlive the service; a later process knows how they ended."""
    container = run(moorage, "sleep", "1000")
    waits = "until [ -e /go ]; do sleep 0.1; done"
    detached = exec_create(moorage, container, "sh", "-c", f"{waits}; exit 5")
    attached = exec_create(moorage, container, "sh", "-c", f"{waits}; exit 6")
    done(call(moorage, f"POST /exec/{detached}/start", {"Detach": True}))
    with hijack(moorage, f"/exec/{attached}/start", START) as wire:
        moorage.until(lambda: exec_inspect(moorage, attached)["Pid"], 60, "the session did not start")
        moorage.kill_service()
        with pytest.raises((ConnectionResetError, EOFError)):
            wire.exactly(1)
    assert exec_inspect(moorage, detached)["Running"] is True
    pid = inspect(moorage, container)["State"]["Pid"]
    moorage.kill_service()
    with open(f"/proc/{pid}/root/go", "w", encoding="ascii"):
        pass
    for session, code in ((detached, 5), (attached, 6)):
        end = time.monotonic() + 30
        while exec_inspect(moorage, session)["Running"]:
            assert time.monotonic() < end, "it did not end"
        assert exec_inspect(moorage, session)["ExitCode"] == code
    remove(moorage, container)


@pytest.mark.parametrize("detach", [True, False])
def test_kill_of_the_service_in_the_middle_of_a_start(moorage: Instance, detach: bool) -> None:
    """Wherever the service dies, the session ends up as one that ran to its end, or that never ran."""
    container = run(moorage, "sleep", "1000")
    for milliseconds in (0, 3, 6, 10, 15, 20, 30, 45, 60, 90):
        session = exec_create(moorage, container, "sh", "-c", "sleep 0.2; exit 4")
        with Wire(moorage.socket) as wire:
            body = json.dumps({"Detach": detach}).encode()
            wire.send(request(f"POST /v1.51/exec/{session}/start", body, Content_Type="application/json"))
            time.sleep(milliseconds / 1000)
            moorage.kill_service()
        end = time.monotonic() + 30
        while (now := exec_inspect(moorage, session))["Running"]:
            assert time.monotonic() < end, now
            time.sleep(0.05)
        assert now["ExitCode"] in (None, 4, 255), now
        if (
            now["ExitCode"] is None
        ):  # or the request waited in the socket, and is served just now: then this is the second
            assert call(moorage, f"POST /exec/{session}/start", {"Detach": True}).status in (200, 409)

    def processes() -> list[str]:
        rows = done(call(moorage, f"GET /containers/{container}/top?ps_args=-o%20pid,args"))["Processes"]
        return [row[-1] for row in rows]

    moorage.until(lambda: processes() == ["sleep 1000"], 60, "a session's process runs on")
    remove(moorage, container)


def test_the_cli(moorage: Instance, container: str) -> None:
    said = moorage.docker(
        "exec", "-i", "-e", "X=1", "-w", "/etc", container, "sh", "-c", "cat; echo $X; pwd", stdin="in\n"
    )
    assert said.stdout == "in\n1\n/etc\n"
    said = moorage.docker("exec", container, "sh", "-c", "echo o; echo e >&2; exit 9", check=False)
    assert (said.stdout, said.stderr, said.returncode) == ("o\n", "e\n", 9)
    assert moorage.docker("exec", container, "nope", check=False).returncode == 127
    assert moorage.docker("exec", container, "/tmp", check=False).returncode == 126
    moorage.docker("exec", "-d", container, "touch", "/tmp/made")
    moorage.until(
        lambda: moorage.docker("exec", container, "test", "-e", "/tmp/made", check=False).returncode == 0, 5, "no file"
    )


def test_the_cli_at_a_terminal(moorage: Instance, container: str) -> None:
    terminal = Terminal(moorage, "exec", "-it", container, "sh")
    terminal.until(b"/tmp # ")
    terminal.type(b"stty size; exit 4\n")
    terminal.until(b"\r\n")
    assert terminal.close() == 4


def test_docker_py(moorage: Instance, container: str) -> None:
    client = moorage.client()
    found = client.containers.get(container)
    assert found.exec_run(["sh", "-c", "echo out; echo err >&2; exit 2"]) == (2, b"out\nerr\n")
    assert found.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True).output == (b"out\n", b"err\n")
    assert b"".join(found.exec_run(["seq", "3"], stream=True).output) == b"1\n2\n3\n"
    assert found.exec_run(["echo", "x"], detach=True).output == ""
    assert found.exec_run(["tty"], tty=True).output.startswith(b"/dev/")
    made = client.api.exec_create(container, ["cat"], stdin=True)
    raw = client.api.exec_start(made["Id"], socket=True)
    raw._sock.sendall(b"typed")
    raw._sock.shutdown(socket.SHUT_WR)
    assert raw.read(64).endswith(b"typed")
    raw.close()


def test_start_errors_of_bodies(moorage: Instance, container: str) -> None:
    session = exec_create(moorage, container, "true")
    with Wire(moorage.socket) as wire:
        wire.send(request(f"POST /exec/{session}/start", b"x", Content_Type="text/plain"))
        answer = wire.answer()
        assert answer.json["message"] == "unsupported Content-Type header (text/plain): must be 'application/json'"


def test_an_empty_body_names_no_command(moorage: Instance, container: str) -> None:
    answer = call(moorage, f"POST /containers/{container}/exec")
    assert (answer.status, answer.json) == (400, {"message": "No exec command specified"})
    assert call(moorage, "POST /exec/nosuch/start").status == 404


def test_keys_in_any_case(moorage: Instance, container: str) -> None:
    """docker-py writes `detachKeys` here."""
    session = exec_create(moorage, container, "true", detachKeys="ctrl-a,b", TTY=True)
    seen = exec_inspect(moorage, session)
    assert (base64.b64decode(seen["DetachKeys"]), seen["ProcessConfig"]["tty"]) == (b"\x01b", True)


def test_a_size_at_create_is_new_in_1_42(moorage: Instance, container: str) -> None:
    for version, known in (("/v1.42", True), ("/v1.41", False)):
        body = {"Cmd": ["stty", "size"], "AttachStdout": True, "Tty": True, "ConsoleSize": [12, 34]}
        with Wire(moorage.socket, 30) as wire:
            raw = json.dumps(body).encode()
            wire.send(request(f"POST {version}/containers/{container}/exec", raw, Content_Type="application/json"))
            session = wire.answer().json["Id"]
        with hijack(moorage, f"/exec/{session}/start", {"Tty": True}, version=version) as wire:
            assert (wire.rest().strip() == b"12 34") is known


def test_a_session_shares_the_limits_of_its_container(moorage: Instance) -> None:
    limited = run(moorage, "sleep", "1000", HostConfig={"PidsLimit": 50})
    session = exec_create(moorage, limited, "sleep", "1000")
    assert done(call(moorage, f"POST /exec/{session}/start", {"Detach": True})) is None
    pids = (inspect(moorage, limited)["State"]["Pid"], exec_inspect(moorage, session)["Pid"])
    groups = []
    for pid in pids:
        with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
            groups.append(file.read())
    assert groups[0] == groups[1]
    remove(moorage, limited)


def test_a_killed_process_and_what_it_leaves(moorage: Instance, container: str) -> None:
    """Its end is told, and of its files nothing stays, while the container runs on."""
    session = exec_create(moorage, container, "sleep", "1000")
    done(call(moorage, f"POST /exec/{session}/start", {"Detach": True}))
    os.kill(exec_inspect(moorage, session)["Pid"], 9)
    moorage.until(lambda: not exec_inspect(moorage, session)["Running"], 60, "its end was not told")
    assert exec_inspect(moorage, session)["ExitCode"] == 137
    folder = f"{moorage.run}/containers/{container}/exec/{session}"
    moorage.until(lambda: not os.path.exists(folder), 60, "its files stay")


def test_a_stop_forgets_what_was_not_started(moorage: Instance) -> None:
    stopped = run(moorage, "sleep", "1000")
    session = exec_create(moorage, stopped, "true")
    done(call(moorage, f"POST /containers/{stopped}/stop?t=0"))
    for line, body in ((f"GET /exec/{session}/json", None), (f"POST /exec/{session}/start", {"Detach": True})):
        answer = call(moorage, line, body)
        assert (answer.status, answer.json) == (404, {"message": f"No such exec instance: {session}"})
    remove(moorage, stopped)
