"""Containers and their streams over raw sockets: what a client library would do, without its own buffers between."""

import json
from typing import Any

from tests.support.instance import Instance
from tests.support.wire import Answer, Wire, request

UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}
VERSION = "/v1.51"


def call(moorage: Instance, line: str, body: Any = None) -> Answer:
    """One request (`POST /containers/…`), its body as JSON."""
    method, path = line.split(" ", 1)
    with Wire(moorage.socket, 60) as wire:
        if body is None:
            wire.send(request(f"{method} {VERSION}{path}"))
        else:
            wire.send(request(f"{method} {VERSION}{path}", json.dumps(body).encode(), Content_Type="application/json"))
        return wire.answer()


def done(answer: Answer) -> Any:
    """What a successful answer says. Raises AssertionError with the error's text."""
    assert answer.status < 300, (answer.status, answer.body)
    return answer.json if answer.body.strip() else None


def create(moorage: Instance, *command: str, network: str = "none", **config: Any) -> str:
    """A created container of busybox; its id."""
    host = {"NetworkMode": network, **config.pop("HostConfig", {})}
    made = done(
        call(
            moorage,
            "POST /containers/create",
            {"Image": "busybox", "Cmd": list(command), "HostConfig": host, **config},
        )
    )
    return str(made["Id"])


def start(moorage: Instance, container: str) -> None:
    """Start it."""
    done(call(moorage, f"POST /containers/{container}/start"))


def run(moorage: Instance, *command: str, **config: Any) -> str:
    """A started container of busybox; its id."""
    container = create(moorage, *command, **config)
    start(moorage, container)
    return container


def wait(moorage: Instance, container: str) -> int:
    """Its exit code, when it has ended."""
    return int(done(call(moorage, f"POST /containers/{container}/wait"))["StatusCode"])


def remove(moorage: Instance, container: str) -> None:
    """Remove it, running or not."""
    done(call(moorage, f"DELETE /containers/{container}?force=1"))


def inspect(moorage: Instance, container: str) -> Any:
    """What inspect says."""
    return done(call(moorage, f"GET /containers/{container}/json"))


def hijack(
    moorage: Instance, path: str, body: Any = None, *, upgrade: bool = True, stdin: bytes = b"", version: str = VERSION
) -> Wire:
    """A connection taken over by `POST path`; `stdin` is sent in one piece with the request."""
    wire = Wire(moorage.socket, 30)
    headers = dict(UPGRADE) if upgrade else {}
    raw = b"" if body is None else json.dumps(body).encode()
    if raw:
        headers["Content_Type"] = "application/json"
    wire.send(request(f"POST {version}{path}", raw, **headers) + stdin)
    head = wire.head()
    assert (head.status, head.reason) == ((101, "UPGRADED") if upgrade else (200, "OK")), (head.status, wire.rest())
    wire.content_type = head.headers["content-type"]  # type: ignore[attr-defined]  # noted for the tests that ask
    return wire


def exec_create(moorage: Instance, container: str, *command: str, **options: Any) -> str:
    """A created exec session; its id."""
    asked = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True, **options}
    return str(done(call(moorage, f"POST /containers/{container}/exec", asked))["Id"])


def exec_inspect(moorage: Instance, session: str) -> Any:
    """What inspect says of a session."""
    return done(call(moorage, f"GET /exec/{session}/json"))


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """The frames of a multiplexed stream, read without the code under test. Raises AssertionError for a broken one."""
    found, at = [], 0
    while at < len(data):
        assert data[at] in (1, 2), data[at : at + 20]
        assert data[at + 1 : at + 4] == b"\0\0\0", data[at : at + 20]
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        assert len(data) >= at + 8 + length, f"{len(data) - at - 8} of {length} bytes"
        found.append((data[at], data[at + 8 : at + 8 + length]))
        at += 8 + length
    return found


def of_stream(data: bytes, stream: int) -> bytes:
    """The bytes of one stream in a multiplexed one."""
    return b"".join(piece for number, piece in frames(data) if number == stream)


def everything(wire: Wire) -> bytes:
    """Everything until the other side closes, for streams too large for `Wire.rest`."""
    pieces = [wire.received]
    while piece := wire.socket.recv(1 << 20):
        pieces.append(piece)
    wire.received = b""
    return b"".join(pieces)
