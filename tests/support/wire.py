"""Raw HTTP over a Unix socket: exact bytes out, exact bytes in. And the service with the tests' own operations."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import Any

from tests.support import contract, folder

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PRODUCT = (sys.executable, "-I", "-S", f"{ROOT}/service/__main__.py")
SERVICE = (sys.executable, "-I", "-S", f"{ROOT}/tests/support/wire_service.py")
ACTIVATOR = (sys.executable, "-I", "-S", f"{ROOT}/service/activator.py")


_REQUEST = re.compile(rb"(DELETE|GET|HEAD|POST|PUT) (\S+) HTTP/1\.1\r\n")


class Answer:
    """One answer: status, headers by lower-case name, body."""

    def __init__(self, status: int, reason: str, headers: dict[str, str], body: bytes) -> None:
        self.status, self.reason, self.headers, self.body = status, reason, headers, body

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Wire:
    """One connection. What is asked and answered is looked up in the API's description, unless `described` is false."""

    def __init__(self, path: str, timeout: float = 60.0, *, described: bool = True) -> None:
        self.described = described
        self.asked: list[tuple[str, str]] = []  # (method, target) of each request whose answer is still to come
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.received = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        if line := _REQUEST.match(data):
            self.asked.append((line[1].decode(), line[2].decode("latin-1")))
        self.socket.sendall(data)

    def more(self) -> bool:
        """Receive something; false at the end."""
        piece = self.socket.recv(65536)
        self.received += piece
        return bool(piece)

    def exactly(self, count: int) -> bytes:
        """The next `count` bytes. Raises EOFError when there are fewer."""
        while len(self.received) < count:
            if not self.more():
                raise EOFError(f"{len(self.received)} of {count} bytes: {self.received!r}")
        data, self.received = self.received[:count], self.received[count:]
        return data

    def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`. Raises EOFError when it does not come."""
        while mark not in self.received:
            if not self.more():
                raise EOFError(f"no {mark!r} in {self.received!r}")
        return self.exactly(self.received.index(mark) + len(mark))

    def rest(self) -> bytes:
        """Everything until the other side closes."""
        while self.more():
            pass
        return self.exactly(len(self.received))

    def head(self) -> Answer:
        """The next answer's status and headers."""
        first, *lines = self.until(b"\r\n\r\n")[:-4].decode().split("\r\n")
        version, status, reason = first.split(" ", 2)
        assert version == "HTTP/1.1", first
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert len(headers) == len(lines), f"a header is there twice: {lines}"
        return Answer(int(status), reason, headers, b"")

    def rest_of_chunks(self) -> bytes:
        """The rest of a body that comes in chunks; its head was read before."""
        body = b""
        while size := int(self.until(b"\r\n"), 16):
            body += self.exactly(size)
            assert self.exactly(2) == b"\r\n"
        assert self.exactly(2) == b"\r\n"
        return body

    def answer(self, *, head_only: bool = False) -> Answer:
        """The next whole answer."""
        read = self.head()
        if head_only or read.status in (204, 304):
            assert "content-length" not in read.headers or head_only
        elif "content-length" in read.headers:
            read.body = self.exactly(int(read.headers["content-length"]))
        elif read.headers.get("transfer-encoding") == "chunked":
            read.body = self.rest_of_chunks()
        else:
            read.body = self.rest()
        if self.described and self.asked:
            kind = read.headers.get("content-type", "")
            contract.exchange(*self.asked.pop(0), read.status, kind, read.body)
        return read


def request(line: str, body: bytes = b"", /, **headers: str) -> bytes:
    """A request as bytes. Header names are given with `_` for `-`; a body gets its Content-Length."""
    lines = [f"{line} HTTP/1.1", "Host: docker", *(f"{name.replace('_', '-')}: {headers[name]}" for name in headers)]
    if body and "Transfer_Encoding" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*pieces: bytes) -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class WireService:
    """A process with the tests' own operations; on its own socket, or behind the product's activator."""

    def __init__(
        self, *, activated: bool = False, idle_seconds: float = 30.0, service: tuple[str, ...] = SERVICE
    ) -> None:
        self.folder = tempfile.mkdtemp(prefix="mw", dir="/tmp")
        self.path = f"{self.folder}/sock"
        self.environment = {
            "PATH": os.environ["PATH"],
            "MOORAGE_ROOT": f"{self.folder}/root",
            "MOORAGE_RUN": f"{self.folder}/run",
            "MOORAGE_IDLE_SECONDS": str(idle_seconds),
        }
        command = [*ACTIVATOR, self.path, *service] if activated else [*service, "--socket", self.path]
        with open(f"{self.folder}/log", "wb") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        end = time.monotonic() + 60
        while not self._listens():
            assert time.monotonic() < end, self.log()
            assert self.process.poll() is None, self.log()
            time.sleep(0.005)

    def _listens(self) -> bool:
        try:
            Wire(self.path).socket.close()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def __enter__(self) -> "WireService":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def connect(self) -> Wire:
        """A new connection."""
        return Wire(self.path)

    def ask(self, line: str, body: bytes = b"", /, **headers: str) -> Answer:
        """One request on a connection of its own."""
        with self.connect() as wire:
            wire.send(request(line, body, **headers))
            return wire.answer(head_only=line.startswith("HEAD "))

    def seen(self) -> dict[str, Any]:
        """What the operations have noted."""
        noted: dict[str, Any] = self.ask("GET /test/seen").json
        return noted

    def until_seen(self, key: str, value: object, seconds: float = 30.0) -> None:
        """Wait for a note. Raises AssertionError when it does not come."""
        end = time.monotonic() + seconds
        while self.seen().get(key) != value:
            assert time.monotonic() < end, f"{key}: {self.seen().get(key)!r}, not {value!r}"
            time.sleep(0.01)

    def log(self) -> str:
        """What the service wrote to stderr."""
        with open(f"{self.folder}/log", encoding="utf-8", errors="replace") as log:
            return log.read()

    def stop(self, seconds: float = 15.0) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def close(self) -> None:
        """Stop it, and remove its files."""
        try:
            self.stop()
        finally:
            folder.remove(self.folder)
