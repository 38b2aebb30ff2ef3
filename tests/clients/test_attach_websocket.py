"""attach/ws: a container's streams in a websocket."""

import hashlib

import pytest

from tests.support.instance import Instance
from tests.support.streams import call, create, done, inspect, start, wait
from tests.support.websocket import BINARY, CLOSE, PING, PONG, TEXT, Socket
from tests.support.wire import Wire, request

ALL = "stream=1&stdin=1&stdout=1&stderr=1"


def attach(moorage: Instance, container: str, query: str = ALL, version: str = "/v1.51") -> Socket:
    return Socket(moorage.socket, f"{version}/containers/{container}/attach/ws?{query}")


def test_both_ways_and_the_end(moorage: Instance, containers: list[str]) -> None:
    """A created container's client misses nothing; messages are the raw bytes; the end is told."""
    container = create(moorage, "sh", "-c", "echo ready; read line; echo got $line", OpenStdin=True)
    containers.append(container)
    with attach(moorage, container) as socket:
        start(moorage, container)
        assert socket.until(b"\n") == b"ready\n"
        socket.send(b"wo", TEXT, final=False)
        socket.send(b"in between", PING)
        socket.send(b"rd\n", 0)
        assert socket.receive() == (PONG, b"in between")
        assert socket.receive() == (BINARY, b"got word\n")
        assert socket.rest() == (b"", 1000)
    assert wait(moorage, container) == 0


@pytest.mark.parametrize(("version", "opcode"), [("/v1.51", BINARY), ("/v1.28", BINARY), ("/v1.27", TEXT)])
def test_kind_of_frames(moorage: Instance, containers: list[str], version: str, opcode: int) -> None:
    container = create(moorage, "echo", "out")
    containers.append(container)
    with attach(moorage, container, version=version) as socket:
        start(moorage, container)
        assert socket.receive() == (opcode, b"out\n")


@pytest.mark.parametrize(
    ("query", "version", "said"),
    [
        ("stream=1&stdout=1", "/v1.51", b"out\n"),
        ("stream=1&stderr=1", "/v1.42", b"err\n"),
        ("stream=1&stdout=1", "/v1.41", b"out\nerr\n"),
        ("stream=1", "/v1.41", b"out\nerr\n"),
        ("stream=1", "/v1.51", b""),
    ],
)
def test_streams_asked_for(moorage: Instance, containers: list[str], query: str, version: str, said: bytes) -> None:
    container = create(moorage, "sh", "-c", "echo out; sleep 0.1; echo err >&2")
    containers.append(container)
    with attach(moorage, container, query, version) as socket:
        start(moorage, container)
        assert socket.rest() == (said, 1000)


def test_the_log(moorage: Instance, containers: list[str]) -> None:
    container = create(moorage, "sh", "-c", "echo before; echo err >&2; read line", OpenStdin=True, StdinOnce=True)
    containers.append(container)
    start(moorage, container)
    moorage.until(lambda: "before" in moorage.docker("logs", container).stdout, 60, "nothing was logged")
    with attach(moorage, container, "logs=1&stdout=1") as socket:
        assert socket.rest() == (b"before\n", 1000)
    with attach(moorage, container, "logs=1&" + ALL) as socket:
        assert socket.until(b"before\n")
        socket.send(b"\n")
        socket.rest()
    assert wait(moorage, container) == 0


def test_a_terminal_and_its_detach_keys(moorage: Instance, containers: list[str]) -> None:
    container = create(moorage, "cat", Tty=True, OpenStdin=True)
    containers.append(container)
    start(moorage, container)
    with attach(moorage, container, ALL + "&detachKeys=ctrl-x,x") as socket:
        socket.send(b"hello\n")
        assert socket.until(b"hello\r\nhello\r\n")
        socket.send(b"\x18")
        socket.send(b"x")
        assert socket.rest()[1] == 1000
    assert inspect(moorage, container)["State"]["Running"]


def test_a_client_that_closes_or_breaks_off(moorage: Instance, containers: list[str]) -> None:
    """The container goes on; its stdin stays open unless it is to end with its client."""
    container = create(moorage, "cat", OpenStdin=True)
    containers.append(container)
    start(moorage, container)
    with attach(moorage, container) as socket:
        socket.send(b"one\n")
        assert socket.until(b"one\n") == b"one\n"
        socket.send(b"\x03\xe9bye", CLOSE)
        assert socket.receive() == (CLOSE, b"\x03\xe9")
        assert socket.wire.rest() == b""
    with attach(moorage, container) as socket:
        socket.send(b"two\n")
        assert socket.until(b"two\n") == b"two\n"
    with attach(moorage, container) as socket:
        socket.wire.send(b"\x82\x01x")  # not masked
        assert socket.receive() == (CLOSE, b"\x03\xea")
    assert inspect(moorage, container)["State"]["Running"]


def test_stdin_that_ends_with_its_client(moorage: Instance, containers: list[str]) -> None:
    container = create(moorage, "cat", OpenStdin=True, StdinOnce=True)
    containers.append(container)
    with attach(moorage, container) as socket:
        start(moorage, container)
        socket.send(b"last words")
        assert socket.until(b"words") == b"last words"
        socket.send(b"\x03\xe8", CLOSE)
        assert socket.receive()[0] == CLOSE
    assert wait(moorage, container) == 0


def test_much_data_both_ways(moorage: Instance, containers: list[str]) -> None:
    """A client that writes without reading is held up, and loses nothing."""
    container = create(moorage, "sh", "-c", "head -c 8000000 /dev/zero; md5sum", OpenStdin=True, StdinOnce=True)
    containers.append(container)
    with attach(moorage, container) as socket:
        start(moorage, container)
        zeros = 0
        while zeros < 8_000_000:
            opcode, payload = socket.receive()
            assert opcode == BINARY
            assert not payload.strip(b"\0")
            zeros += len(payload)
        data = bytes(range(256)) * 2000
        for _ in range(4):
            socket.send(data)
        socket.send(b"\x03\xe8", CLOSE)
        assert socket.receive()[0] == CLOSE
    assert wait(moorage, container) == 0
    told = moorage.docker("logs", container).stdout.rpartition("\0")[2]
    assert told.split()[0] == hashlib.md5(data * 4, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        ({}, 400, "not websocket protocol"),
        ({"Connection": "Upgrade", "Upgrade": "tcp"}, 400, "not websocket protocol"),
        ({"Connection": "Upgrade", "Upgrade": "websocket"}, 400, "mismatch challenge/response"),
    ],
)
def test_bad_handshakes(
    moorage: Instance, containers: list[str], headers: dict[str, str], status: int, text: str
) -> None:
    container = create(moorage, "true")
    containers.append(container)
    with Wire(moorage.socket, 60) as wire:
        wire.send(request(f"GET /v1.51/containers/{container}/attach/ws?{ALL}", **headers))
        answer = wire.answer()
    assert (answer.status, answer.json["message"]) == (status, text)


def test_what_is_wrong_with_the_container_is_told_first(moorage: Instance, containers: list[str]) -> None:
    container = create(moorage, "sleep", "100", StopSignal="SIGKILL")
    containers.append(container)
    start(moorage, container)
    done(call(moorage, f"POST /containers/{container}/pause"))
    paused = call(moorage, f"GET /containers/{container}/attach/ws")
    assert paused.status == 409
    assert paused.json["message"] == f"container {container} is paused, unpause the container before attach"
    done(call(moorage, f"POST /containers/{container}/unpause"))
    assert call(moorage, "GET /containers/nosuch/attach/ws").status == 404
    keys = call(moorage, f"GET /containers/{container}/attach/ws?detachKeys=rubbish")
    assert (keys.status, keys.json["message"]) == (400, "Invalid detach keys (rubbish) provided")
