"""attach: the hijack's promises, kept by real containers."""

import hashlib
import json
import os
import pty
import select
import socket
import subprocess
import threading
import time

import pytest

from tests.support.instance import Instance
from tests.support.streams import (
    UPGRADE,
    call,
    create,
    everything,
    frames,
    hijack,
    inspect,
    of_stream,
    remove,
    run,
    start,
    wait,
)
from tests.support.wire import Wire, request

ALL = "stream=1&stdin=1&stdout=1&stderr=1"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
RAW = "application/vnd.docker.raw-stream"


@pytest.mark.parametrize("upgrade", [True, False], ids=["upgrade", "plain"])
def test_streams_are_multiplexed_without_a_terminal(moorage: Instance, containers: list[str], upgrade: bool) -> None:
    container = create(moorage, "sh", "-c", "echo out; sleep 0.1; echo err >&2")
    containers.append(container)
    with hijack(moorage, f"/containers/{container}/attach?stream=1&stdout=1&stderr=1", upgrade=upgrade) as wire:
        assert wire.content_type == (MULTIPLEXED if upgrade else RAW)  # type: ignore[attr-defined]  # see `hijack`
        start(moorage, container)
        assert frames(wire.rest()) == [(1, b"out\n"), (2, b"err\n")]


@pytest.mark.parametrize("asked", ["stdout", "stderr"])
def test_only_the_streams_asked_for(moorage: Instance, containers: list[str], asked: str) -> None:
    container = create(moorage, "sh", "-c", "echo out; echo err >&2")
    containers.append(container)
    with hijack(moorage, f"/containers/{container}/attach?stream=1&{asked}=1") as wire:
        start(moorage, container)
        assert frames(wire.rest()) == ([(1, b"out\n")] if asked == "stdout" else [(2, b"err\n")])


def test_a_terminal_is_raw(moorage: Instance, containers: list[str]) -> None:
    container = create(moorage, "sh", "-c", "echo out; echo err >&2", Tty=True)
    containers.append(container)
    with hijack(moorage, f"/containers/{container}/attach?stream=1&stdout=1&stderr=1") as wire:
        assert wire.content_type == RAW  # type: ignore[attr-defined]  # see `hijack`
        start(moorage, container)
        assert wire.rest() == b"out\r\nerr\r\n"


def test_content_type_before_1_42(moorage: Instance, containers: list[str]) -> None:
    container = create(moorage, "true")
    containers.append(container)
    with hijack(moorage, f"/containers/{container}/attach?stream=1&stdout=1", version="/v1.41") as wire:
        assert wire.content_type == RAW  # type: ignore[attr-defined]  # see `hijack`
        start(moorage, container)
        assert wire.rest() == b""


@pytest.mark.parametrize("upgrade", [True, False], ids=["upgrade", "plain"])
def test_half_close_is_end_of_stdin_and_output_goes_on(moorage: Instance, containers: list[str], upgrade: bool) -> None:
    container = create(moorage, "sh", "-c", "cat; sleep 0.3; echo after", OpenStdin=True, StdinOnce=True)
    containers.append(container)
    with hijack(moorage, f"/containers/{container}/attach?{ALL}", upgrade=upgrade) as wire:
        start(moorage, container)
        wire.send(b"one\n")
        assert wire.exactly(12) == b"\x01\0\0\0\0\0\0\x04one\n"
        wire.send(b"two\n")
        wire.socket.shutdown(socket.SHUT_WR)
        assert of_stream(wire.rest(), 1) == b"two\nafter\n"
    assert wait(moorage, container) == 0


def test_stdin_before_the_start_and_a_json_body_that_is_no_stdin(moorage: Instance, containers: list[str]) -> None:
    container = create(moorage, "cat", OpenStdin=True, StdinOnce=True)
    containers.append(container)
    with hijack(moorage, f"/containers/{container}/attach?{ALL}", {"stream": True}, stdin=b"early\n") as wire:
        wire.socket.shutdown(socket.SHUT_WR)
        start(moorage, container)
        assert of_stream(wire.rest(), 1) == b"early\n"


def test_stdin_that_stays_open_outlives_its_clients(moorage: Instance, containers: list[str]) -> None:
    """OpenStdin without StdinOnce: a client's end ends its own connection only (dockerd: stream/attach.go)."""
    container = run(moorage, "cat", OpenStdin=True)
    containers.append(container)
    for text in (b"one\n", b"two\n"):
        with hijack(moorage, f"/containers/{container}/attach?{ALL}") as wire:
            wire.send(text)
            assert wire.exactly(12)[8:] == text
            wire.socket.shutdown(socket.SHUT_WR)
            assert wire.rest() == b""
    assert inspect(moorage, container)["State"]["Running"]


def test_the_answer_to_what_was_typed_last_arrives(moorage: Instance, containers: list[str]) -> None:
    """`echo command | docker attach …` to a container whose stdin stays open."""
    container = run(moorage, "cat", OpenStdin=True)
    containers.append(container)
    for _ in range(10):
        with hijack(moorage, f"/containers/{container}/attach?{ALL}", stdin=b"command\n") as wire:
            wire.socket.shutdown(socket.SHUT_WR)
            assert of_stream(wire.rest(), 1) == b"command\n"


def test_a_client_without_stdin_may_close_its_side(moorage: Instance, containers: list[str]) -> None:
    container = create(moorage, "sh", "-c", "sleep 0.3; echo end")
    containers.append(container)
    with hijack(moorage, f"/containers/{container}/attach?stream=1&stdout=1") as wire:
        wire.socket.shutdown(socket.SHUT_WR)
        start(moorage, container)
        assert of_stream(wire.rest(), 1) == b"end\n"


def test_nothing_is_lost_of_what_prints_and_exits_at_once(moorage: Instance) -> None:
    """A megabyte at once, fifty times, by the real CLI."""
    expected = hashlib.sha256(b"x" * 1_048_576).hexdigest()
    for _ in range(50):
        done = subprocess.run(
            [
                "docker",
                "run",
                "--rm",
                "--network",
                "none",
                "busybox",
                "sh",
                "-c",
                "head -c 1048576 /dev/zero | tr '\\0' x",
            ],
            env=moorage.client_environment,
            capture_output=True,
            timeout=60,
            check=True,
        )
        assert hashlib.sha256(done.stdout).hexdigest() == expected


def test_fifty_megabytes_both_ways_with_a_slow_reader(moorage: Instance, containers: list[str]) -> None:
    container = create(moorage, "cat", OpenStdin=True, StdinOnce=True)
    containers.append(container)
    block = os.urandom(1 << 20)
    with hijack(moorage, f"/containers/{container}/attach?{ALL}") as wire:
        start(moorage, container)
        blocked = threading.Event()

        def send() -> None:
            for number in range(50):
                wire.socket.sendall(block)
                if number == 25:
                    blocked.set()
            wire.socket.shutdown(socket.SHUT_WR)

        wire.socket.settimeout(60)
        sender = threading.Thread(target=send)
        sender.start()
        assert not blocked.wait(2), "25 MB were taken in although nobody reads: where are they kept?"
        said = of_stream(everything(wire), 1)
        sender.join()
    assert hashlib.sha256(said).digest() == hashlib.sha256(block * 50).digest()


def test_two_clients_get_everything(moorage: Instance, containers: list[str]) -> None:
    container = create(moorage, "sh", "-c", "seq 1 20000")
    containers.append(container)
    path = f"/containers/{container}/attach?stream=1&stdout=1"
    with hijack(moorage, path) as first, hijack(moorage, path) as second:
        start(moorage, container)
        expected = "".join(f"{n}\n" for n in range(1, 20001)).encode()
        assert of_stream(first.rest(), 1) == expected
        assert of_stream(second.rest(), 1) == expected


def test_output_is_there_although_stdin_was_never_read(moorage: Instance, containers: list[str]) -> None:
    """The end of conmon with unread stdin in its socket resets the socket; what it sent before must still arrive."""
    container = create(moorage, "sh", "-c", "sleep 0.2; echo done", OpenStdin=True, StdinOnce=True)
    containers.append(container)
    with hijack(moorage, f"/containers/{container}/attach?{ALL}") as wire:
        start(moorage, container)
        wire.send(b"y\n" * 60_000)
        assert of_stream(wire.rest(), 1) == b"done\n"


def test_attach_to_a_running_container_and_leave(moorage: Instance, containers: list[str]) -> None:
    container = run(moorage, "sh", "-c", "while :; do echo tick; sleep 0.1; done")
    containers.append(container)
    with hijack(moorage, f"/containers/{container}/attach?stream=1&stdout=1") as wire:
        assert wire.exactly(13)[8:] == b"tick\n"
    with hijack(moorage, f"/containers/{container}/attach?stream=1&stdout=1") as wire:
        assert wire.exactly(13)[8:] == b"tick\n"
    assert inspect(moorage, container)["State"]["Running"]


def test_the_connection_ends_when_the_container_is_killed(moorage: Instance, containers: list[str]) -> None:
    container = run(moorage, "sleep", "1000", OpenStdin=True)
    containers.append(container)
    with hijack(moorage, f"/containers/{container}/attach?{ALL}") as wire:
        assert call(moorage, f"POST /containers/{container}/kill").status == 204
        assert wire.rest() == b""


def test_a_waiting_client_sees_the_end_of_a_start_that_fails(moorage: Instance, containers: list[str]) -> None:
    container = create(moorage, "no-such-command")
    containers.append(container)
    with hijack(moorage, f"/containers/{container}/attach?stream=1&stdout=1") as wire:
        assert call(moorage, f"POST /containers/{container}/start").status == 400
        assert wire.rest() == b""


def test_a_waiting_client_sees_the_end_of_a_removed_container(moorage: Instance) -> None:
    container = create(moorage, "true")
    with hijack(moorage, f"/containers/{container}/attach?stream=1&stdout=1") as wire:
        remove(moorage, container)
        assert wire.rest() == b""


@pytest.mark.parametrize("keys", ["", "ctrl-a,b"])
def test_detach_keys(moorage: Instance, containers: list[str], keys: str) -> None:
    container = run(moorage, "cat", Tty=True, OpenStdin=True)
    containers.append(container)
    typed = b"\x10\x11" if not keys else b"\x01b"
    with hijack(moorage, f"/containers/{container}/attach?{ALL}&detachKeys={keys}") as wire:
        wire.send(b"hello\n")
        assert wire.until(b"hello\r\nhello\r\n")
        wire.send(typed[:1])
        time.sleep(0.05)
        wire.send(typed[1:])
        assert wire.rest() == b""
    with hijack(moorage, f"/containers/{container}/attach?{ALL}") as wire:
        wire.send(b"still\n")
        assert wire.until(b"still\r\nstill\r\n")
    assert inspect(moorage, container)["State"]["Running"]


def test_errors(moorage: Instance, containers: list[str]) -> None:
    container = run(moorage, "sleep", "1000")
    containers.append(container)
    answer = call(moorage, "POST /containers/nosuch/attach?stream=1")
    assert (answer.status, answer.json["message"]) == (404, "No such container: nosuch")
    answer = call(moorage, f"POST /containers/{container}/attach?stream=1&detachKeys=ctrl-1")
    assert (answer.status, answer.json["message"]) == (400, "Invalid detach keys (ctrl-1) provided")
    assert call(moorage, f"POST /containers/{container}/pause").status == 204
    answer = call(moorage, f"POST /containers/{container}/attach?stream=1")
    expected = f"container {container} is paused, unpause the container before attach"
    assert (answer.status, answer.json["message"]) == (409, expected)


def test_logs_come_first_without_gap_or_repetition(moorage: Instance, containers: list[str]) -> None:
    container = run(
        moorage, "sh", "-c", "n=0; while [ $n -lt 2000 ]; do n=$((n+1)); echo $n; done; sleep 0.2; printf end"
    )
    containers.append(container)
    expected = "".join(f"{n}\n" for n in range(1, 2001)).encode() + b"end"
    with hijack(moorage, f"/containers/{container}/attach?stream=1&logs=1&stdout=1&stderr=1") as wire:
        assert of_stream(wire.rest(), 1) == expected
    with hijack(moorage, f"/containers/{container}/attach?logs=1&stdout=1&stderr=1") as wire:
        assert of_stream(wire.rest(), 1) == expected


def test_the_log_of_what_is_not_started_yet(moorage: Instance, containers: list[str]) -> None:
    container = create(moorage, "printf", "hello")
    containers.append(container)
    for expected in (b"hello", b"hellohello"):
        with hijack(moorage, f"/containers/{container}/attach?stream=1&logs=1&stdout=1") as wire:
            start(moorage, container)
            assert of_stream(wire.rest(), 1) == expected
        wait(moorage, container)


def test_the_header_can_be_read_by_itself(moorage: Instance, containers: list[str]) -> None:
    """docker-py loses what comes in the same read, and the output of what has ended is there at once."""
    container = run(moorage, "echo", "hello")
    containers.append(container)
    wait(moorage, container)
    with Wire(moorage.socket, 30) as wire:
        wire.send(request(f"POST /v1.51/containers/{container}/attach?logs=1&stdout=1", **UPGRADE))
        time.sleep(0.1)  # a client that is given no time by a busy machine
        first = wire.socket.recv(65536)
        assert first.endswith(b"\r\n\r\n")
        assert frames(wire.rest()) == [(1, b"hello\n")]


def test_events(moorage: Instance, containers: list[str]) -> None:
    begin = time.time()
    container = run(moorage, "cat", Tty=True, OpenStdin=True)
    containers.append(container)
    with hijack(moorage, f"/containers/{container}/attach?{ALL}") as wire:
        wire.send(b"\x10\x11")
        assert wire.rest() == b""
    asked = f"GET /events?since={begin:.3f}&until={time.time() + 0.1:.3f}"
    said = told_of(moorage, asked, container)
    assert said == ["create", "start", "attach", "detach"]


def told_of(moorage: Instance, line: str, container: str) -> list[str]:
    """The actions told of one container."""
    with Wire(moorage.socket, 60) as wire:
        wire.send(request(line))
        told = [json.loads(text) for text in wire.answer().body.splitlines() if text]
    return [event["Action"] for event in told if event["Actor"]["ID"] == container]


def test_resize(moorage: Instance, containers: list[str]) -> None:
    container = run(moorage, "sh", "-c", "while :; do stty size; sleep 0.1; done", Tty=True)
    containers.append(container)
    assert call(moorage, f"POST /containers/{container}/resize?h=33&w=77").status == 200
    with hijack(moorage, f"/containers/{container}/attach?stream=1&stdout=1") as wire:
        assert wire.until(b"33 77\r\n")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", 'invalid resize height "": invalid syntax'),
        ("?h=1", 'invalid resize width "": invalid syntax'),
        ("?h=x&w=1", 'invalid resize height "x": invalid syntax'),
        ("?h=-1&w=1", 'invalid resize height "-1": value out of range'),
        ("?h=1&w=4294967296", 'invalid resize width "4294967296": value out of range'),
    ],
)
def test_bad_resize(moorage: Instance, query: str, text: str) -> None:
    answer = call(moorage, f"POST /containers/any/resize{query}")
    assert (answer.status, answer.json["message"]) == (400, text)


def test_resize_of_a_stopped_container(moorage: Instance, containers: list[str]) -> None:
    container = create(moorage, "true")
    containers.append(container)
    answer = call(moorage, f"POST /containers/{container}/resize?h=1&w=1")
    assert (answer.status, answer.json["message"]) == (409, f"container {container} is not running")


class Terminal:
    """A program under a terminal of its own."""

    def __init__(self, moorage: Instance, *command: str) -> None:
        self.fd, theirs = pty.openpty()
        self.process = subprocess.Popen(
            ["docker", *command], stdin=theirs, stdout=theirs, stderr=theirs, env=moorage.client_environment
        )
        os.close(theirs)
        self.seen = b""

    def until(self, mark: bytes, seconds: float = 15.0) -> None:
        """Wait until the program has printed `mark`."""
        end = time.monotonic() + seconds
        while mark not in self.seen:
            left = end - time.monotonic()
            assert left > 0, f"no {mark!r} in {self.seen!r}"
            if select.select([self.fd], [], [], left)[0]:
                self.seen += os.read(self.fd, 65536)
        self.seen = self.seen[self.seen.index(mark) + len(mark) :]

    def type(self, data: bytes) -> None:
        """Press keys."""
        os.write(self.fd, data)

    def close(self) -> int:
        """The program's exit code."""
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.fd)


def test_the_cli_at_a_terminal(moorage: Instance) -> None:
    """`docker run -it`, leave by ctrl-p ctrl-q, `docker attach`, end by exit."""
    terminal = Terminal(moorage, "run", "-it", "--rm", "--network", "none", "--name", "attended", "busybox", "sh")
    terminal.until(b"/ # ")
    terminal.type(b"echo sum $((40+2))\n")
    terminal.until(b"sum 42\r\n")
    terminal.type(b"\x10\x11")
    assert terminal.close() == 0
    assert moorage.docker("inspect", "-f", "{{.State.Running}}", "attended").stdout == "true\n"
    again = Terminal(moorage, "attach", "attended")
    again.type(b"\n")
    again.until(b"/ # ")
    again.type(b"echo back $((40+3)); exit 7\n")
    again.until(b"back 43\r\n")
    assert again.close() == 7


def test_the_cli_with_pipes(moorage: Instance) -> None:
    done = moorage.docker(
        "run",
        "--rm",
        "-i",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "cat; echo e >&2; exit 3",
        stdin="abc",
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "abc", "e\n")


def test_docker_start_attached(moorage: Instance, containers: list[str]) -> None:
    containers.append(create(moorage, "sh", "-c", "echo again; exit 5"))
    for _ in range(2):
        done = moorage.docker("start", "-a", containers[0], check=False)
        assert (done.returncode, done.stdout) == (5, "again\n")
