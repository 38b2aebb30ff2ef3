"""Stage 0: answer the short operations on raw sockets, before asyncio is imported.

The rule that keeps it honest: *nothing is read that is not answered*. A request is peeked at (MSG_PEEK); only one that
is complete and wholly understood is consumed, and then answered. Everything else (a body, an upgrade, half a head, an
operation that waits) stays in the kernel's buffer, and the socket goes to the event loop as if it had just been
accepted. So there are no left-over bytes to carry, and the strict reader below never has to handle an error.

It lasts until something needs the loop; many lives of the process (`docker ps`) begin and end here.
"""

import _socket
import select
import time

from compat_api import answers, errors, negotiation
from compat_api.declaration import unquote
from compat_api.reply import Later, Reply
from service.errors import MoorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from compat_api.declaration import Operation
    from service.idle import Idle

_PEEK = _socket.MSG_PEEK | _socket.MSG_DONTWAIT
_WINDOW = 16384  # bytes; a longer head goes to the loop
# How long others wait for a client that reads a large answer: as long as it goes on within …
_STALL, _LONGEST_SEND = 50, 0.5  # … milliseconds, and has it all within so many seconds
_METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE")
_NOT_OURS = (b"transfer-encoding", b"upgrade", b"expect", b"te", b"trailer")


class Request:
    """A request that stage 0 understands wholly. `length`: the bytes it takes on the wire."""

    __slots__ = ("headers", "keep_alive", "length", "method", "path", "query")

    def __init__(
        self, length: int, method: str, path: str, query: bytes, headers: "dict[bytes, bytes]", keep_alive: bool
    ) -> None:
        self.length, self.method, self.path, self.query = length, method, path, query
        self.headers, self.keep_alive = headers, keep_alive


class Stage0:
    """The listener and the connections accepted so far. `engine` makes the engine when it is first needed."""

    def __init__(self, listener: "_socket.socket", engine: "Callable[[], Any]", idle: "Idle") -> None:
        self.listener, self.engine, self.idle = listener, engine, idle
        self.poll = select.poll()
        self.poll.register(listener.fileno(), select.POLLIN)
        self.watched: dict[int, _socket.socket] = {}  # between requests, ours to answer
        self.silent: dict[int, float] = {}  # accepted (when), and no request answered yet
        self.left: list[tuple[_socket.socket, bytes, bool]] = []  # for the loop: socket, unsent bytes, was answered?
        self.answered = 0

    def watch(self, fd: int) -> None:
        """Wake `turn` when `fd` becomes readable (the signal pipe)."""
        self.poll.register(fd, select.POLLIN)

    def turn(self, timeout: float) -> bool:
        """One look at the sockets, waiting at most `timeout` seconds. True when something happened."""
        ready = self.poll.poll(max(0, int(timeout * 1000) + 1))
        for fd, _ in ready:
            if fd == self.listener.fileno():
                self._accept()
            elif fd in self.watched:
                self._serve(self.watched[fd])
        return bool(ready)

    def youngest_silent(self) -> "float | None":
        """Since when the client that has kept silent for the shortest time is connected; None when all have spoken."""
        return max(self.silent.values(), default=None)

    def hand_over(self) -> "list[tuple[_socket.socket, bytes, bool]]":
        """Every open connection, with the bytes not yet sent on it and whether it has been answered before."""
        for connection in list(self.watched.values()):
            self._leave(connection)
        return self.left

    def leave(self) -> bool:
        """Stop accepting, look at every connection once more, close it. False: something came, go on in the loop."""
        self.poll.unregister(self.listener.fileno())  # new clients wait in the backlog for our successor
        for connection in list(self.watched.values()):
            try:
                connection.shutdown(_socket.SHUT_RD)  # from here on a client's write fails whole (EPIPE)
            except OSError:
                pass  # the client has left already
            self._serve(connection)  # answers what slipped in before; drops the connection at its end
        return not self.left

    def _accept(self) -> None:
        try:
            fd, _ = self.listener._accept()  # type: ignore[attr-defined]  # the C socket's own accept; typeshed hides it
        except (BlockingIOError, ConnectionAbortedError):
            return
        connection = _socket.socket(fileno=fd)
        connection.setblocking(False)
        self.watched[fd] = connection
        self.silent[fd] = time.monotonic()
        self.idle.touch()
        self.poll.register(fd, select.POLLIN)
        self._serve(connection)  # the request is usually there already

    def _leave(self, connection: "_socket.socket", unsent: bytes = b"") -> None:
        fd = connection.fileno()
        self.poll.unregister(fd)
        del self.watched[fd]
        self.left.append((connection, unsent, self.silent.pop(fd, None) is None))

    def _drop(self, connection: "_socket.socket") -> None:
        fd = connection.fileno()
        self.poll.unregister(fd)
        self.silent.pop(fd, None)
        del self.watched[fd]
        connection.close()

    def _serve(self, connection: "_socket.socket") -> None:
        while True:  # pipelined requests: one after the other
            try:
                seen = connection.recv(_WINDOW, _PEEK)
            except BlockingIOError:
                return None  # nothing (more) yet: keep watching
            except OSError:
                return self._drop(connection)
            if not seen:
                return self._drop(connection)  # the client left between requests
            request = read_request(seen)
            reply = self._answer(request) if request else None
            if request is None or reply is None:
                return self._leave(connection)
            wire = answers.whole(reply, request.method == "HEAD", request.keep_alive)
            connection.recv(request.length)  # it is answered, so now it is read
            self.answered += 1
            self.silent.pop(connection.fileno(), None)
            self.idle.touch()
            try:
                sent = _send(connection, wire)
            except OSError:
                return self._drop(connection)
            if sent < len(wire):  # a slow reader: the loop writes the rest
                if not request.keep_alive:
                    connection.shutdown(_socket.SHUT_RD)  # nothing may be answered after `Connection: close`
                return self._leave(connection, wire[sent:])
            if not request.keep_alive:
                return self._drop(connection)

    def _answer(self, request: Request) -> "Reply | None":
        """The answer, or None when the operation is not for stage 0."""
        asked, path = negotiation.split(request.path)
        from compat_api import operations

        found = operations.find(request.method, path)
        if found is None:
            return None if path == "/openapi.json" else errors.unserved(request.method)
        operation, values = found
        if operation.waits or operation.body:
            return None
        return self._call(operation, values, request, asked)

    def _call(self, operation: "Operation", values: list[str], request: Request, asked: str) -> "Reply | None":
        try:
            version = negotiation.version(asked)
            arguments = operation.arguments(request.query, request.headers, version)
            reply: Reply | Later = operation.call(self.engine, values, arguments)
            return None if isinstance(reply, Later) else answers.written(reply, version)
        except MoorageError as error:
            return errors.answer(error)
        except Exception as error:  # noqa: BLE001 - whatever a handler does, the client gets an answer
            return errors.answer(error)


def _send(connection: "_socket.socket", wire: bytes) -> int:
    """Send an answer; how much of it the client took. One larger than a socket's buffer gives it moments to read on:
    the loop, which writes to slow readers, takes 80 ms to come."""
    left, until = memoryview(wire), time.monotonic() + _LONGEST_SEND
    while left:
        try:
            left = left[connection.send(left) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(connection.fileno(), select.POLLOUT)
            if time.monotonic() > until or not poll.poll(_STALL):
                break
    return len(wire) - len(left)


def read_request(seen: bytes) -> "Request | None":
    """The request at the beginning of `seen`, or None when it is not wholly there or not for stage 0."""
    end = seen.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = seen[:end].split(b"\r\n")
    parts = first.split(b" ")
    if len(parts) != 3 or parts[0] not in _METHODS or parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        return None
    keep_alive = parts[2] == b"HTTP/1.1"  # as the loop's protocol: an HTTP/1.0 connection is always closed
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if not colon or not name.replace(b"-", b"").isalnum() or name in _NOT_OURS:
            return None
        if name == b"content-length" and value != b"0":
            return None
        if name == b"connection":
            if value.lower() == b"close":
                keep_alive = False
            elif value.lower() != b"keep-alive":
                return None
        headers[name] = value
    target, _, query = parts[1].partition(b"?")
    if not target.startswith(b"/") or b"#" in parts[1] or not parts[1].isascii():
        return None
    try:
        path = unquote(target)
    except MoorageError:
        return None
    return Request(end + 4, parts[0].decode(), path, query, headers, keep_alive)
