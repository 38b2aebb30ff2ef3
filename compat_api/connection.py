"""One client connection in the event loop: uvicorn's protocol, plus what Docker's wire needs and uvicorn does not have.

- The connection can be taken over (`hijack`): after `Upgrade: tcp`, and without any upgrade (200 and raw bytes).
- The parser is given one head at a time and bodies are read by `streams.body`: so the JSON body of a request that is
  hijacked never becomes stdin, and bytes sent right after such a request are kept for the stream.
- A client that closes only its sending side still gets its answer; one that leaves entirely is noticed at once, also
  when the service has nothing to send to it.
- It knows whether closing it now would lose something (`busy`, `pending`): the idle exit depends on that.

It touches uvicorn's internals, so uvicorn is pinned and tests/compat_api/test_connection.py holds the contract.
"""

import asyncio
import socket
import time

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from compat_api import negotiation, operations
from compat_api.declaration import unquote
from compat_api.streams import body
from compat_api.streams.hijack import HijackedConnection
from service.errors import MoorageError
from service.idle import grace_left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from compat_api.server import Server

_PREFACE = b"PRI * HTTP/2.0\r\n\r\n"  # how a client begins that knows it may speak HTTP/2 (RFC 9113, 3.4)
_LONGEST_HEAD = 1 << 20  # bytes; Go's default for a request's head
_KEPT_BACK = 65536  # bytes kept after a request that may be hijacked, until it is


class Protocol(HttpToolsProtocol):
    """A connection. `unsent`: what stage 0 could not send any more; `answered`: it has had an answer before."""

    def __init__(self, server: "Server", unsent: bytes = b"", answered: bool = False) -> None:
        super().__init__(server.config, server.server_state, {})
        self.house = server
        self.unsent, self.answered = unsent, answered
        self.accepted = time.monotonic()
        self.held_back = bytearray()  # bytes of a head that is not complete, or after a request that may be hijacked
        self.body: body.Plain | body.Chunked | None = None  # inside a request: the reader of its body
        self.may_be_hijacked = False  # nothing is read as a request until this one is answered
        self.ended = False  # the client has closed its sending side …
        self.hung_up = False  # … and the other one
        self.hijacked: HijackedConnection | None = None

    # arriving bytes

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """The connection is in the loop."""
        super().connection_made(transport)
        self.house.hangups.watch(transport, self.left)
        if self.unsent:
            transport.write(self.unsent)
            self.unsent = b""

    def data_received(self, data: bytes) -> None:
        """Bytes from the client: heads to the parser, bodies to the request, the rest as it is due."""
        while data:
            if self.body is not None:
                data = self._feed_body(data)
            elif self.may_be_hijacked:
                self.held_back += data
                if len(self.held_back) > _KEPT_BACK:
                    self.flow.pause_reading()
                return
            else:
                data = self._feed_head(data)

    def _feed_head(self, data: bytes) -> bytes:
        """Give the parser a head once it is complete; what comes after it."""
        start = max(0, len(self.held_back) - 3)
        self.held_back += data
        if not self.held_back.lstrip(b"\r\n"):
            return b""
        end = self.held_back.find(b"\r\n\r\n", start)
        if end < 0:
            end = self.held_back.find(b"\n\n", max(0, start - 1)) - 2  # bare line feeds are lines as well
            if end < -2:
                end = -1
        if end < 0:
            if len(self.held_back) > _LONGEST_HEAD or not self._looks_like_http():
                self.refuse()
            return b""
        head, rest = bytes(self.held_back[: end + 4]), bytes(self.held_back[end + 4 :])
        if head == _PREFACE and not self.answered:
            self._speak_http2()
            return b""
        self.held_back.clear()
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # the parser stops there, as is wanted
        except httptools.HttpParserError:
            self.refuse()
            return b""
        return rest

    def _speak_http2(self) -> None:
        """The connection is gRPC's from here on."""
        task = asyncio.ensure_future(self.house.dispatcher.speak_http2(self.hijack(b"")))
        self.server_state.tasks.add(task)  # the process stays for it as for a request
        task.add_done_callback(self.server_state.tasks.discard)

    def _looks_like_http(self) -> bool:
        """Whether what has come may still become a request: no need to wait for a megabyte of something else."""
        return all(31 < sign < 127 or sign in b"\r\n\t" for sign in self.held_back[:16])

    def refuse(self) -> None:
        """Answer something that is not HTTP, and close."""
        self.body, self.may_be_hijacked = None, False
        self.held_back.clear()
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
                b"400 Bad Request"
            )
            self.transport.close()

    def _feed_body(self, data: bytes) -> bytes:
        assert self.body is not None
        try:
            pieces, rest = self.body.feed(data)
        except body.BadBody:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.refuse()
            return b""
        if pieces:  # those of many small chunks at once
            super().on_body(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self.body.done:
            self.body = None
            super().on_message_complete()
        return rest

    # the parser's callbacks

    def on_headers_complete(self) -> None:
        """The head is complete: is it one that may be hijacked, and what body follows?"""
        path, _, _ = self.url.partition(b"?")
        try:
            reader = body.reader(self.headers)
            _, plain_path = negotiation.split(unquote(path))
        except (body.BadBody, MoorageError) as error:
            raise httptools.HttpParserError(str(error)) from None
        found = operations.find(self.parser.get_method().decode("ascii"), plain_path)
        self.may_be_hijacked = found is not None and found[0].hijacks
        self.body = None if reader.done else reader
        super().on_headers_complete()
        self.cycle.scope["extensions"] = {"moorage": {"protocol": self}}
        if self.may_be_hijacked:
            self.cycle.keep_alive = False  # answered without a hijack: what the client meant as stdin is no request
        if self.body is None:
            super().on_message_complete()

    def on_body(self, data: bytes) -> None:
        """Never called: the parser is given heads only."""

    def on_message_complete(self) -> None:
        """The parser's opinion; the body's end is found in `_feed_body`."""

    def on_response_complete(self) -> None:
        """One answer has gone out."""
        self.answered = True
        self.house.idle.touch()
        super().on_response_complete()
        if self.ended and not self.transport.is_closing() and not self.in_progress():
            self.transport.close()

    # leaving

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's returns None: close at once
        """The client has closed its sending side; true while it waits for an answer."""
        self.ended = True
        if self.hung_up or self.body is not None or not self.in_progress():
            return False
        self.cycle.keep_alive = False
        return True

    def left(self) -> None:
        """The client has closed both directions; what it sent before may not have been read yet."""
        self.hung_up = True
        if self.hijacked is not None:
            self.hijacked.left()
        elif self.ended:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        super().connection_lost(exc)
        self.house.hangups.forget(self.transport)
        self.held_back.clear()
        self.unsent = b""
        self.house.stir()

    def in_progress(self) -> bool:
        """Whether a request is being read or answered."""
        return bool(
            self.body is not None or self.pipeline or (self.cycle is not None and not self.cycle.response_complete)
        )

    def busy(self) -> bool:
        """Whether the process must stay for this connection."""
        if self.in_progress() or self.held_back or self.hijacked is not None:
            return True
        if self.transport.get_write_buffer_size():
            return True
        return not self.answered and grace_left(self.accepted) > 0

    def pending(self) -> bool:
        """Whether the kernel holds bytes that the loop has not read."""
        connection = self.transport.get_extra_info("socket")
        try:
            return bool(connection._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def last_look(self) -> bool:
        """Take no more requests. True when one has slipped in before; else the connection is closed."""
        connection = self.transport.get_extra_info("socket")
        try:
            connection._sock.shutdown(socket.SHUT_RD)  # AF_UNIX: from here on a client's write fails whole (EPIPE)
        except OSError:
            return False  # the client has left
        if self.pending():
            return True
        self.transport.close()
        return False

    def cut(self) -> None:
        """End the answer where it stands: the client sees that it is not complete."""
        self.cycle.disconnected = True
        self.transport.close()

    # taking over

    def hijack(self, head: bytes) -> HijackedConnection:
        """Send `head` and hand the transport over. Called while the request's answer has not begun."""
        cycle, transport = self.cycle, self.transport
        if cycle is not None:  # a connection may begin with another protocol: then there is no request
            cycle.response_started = cycle.response_complete = True  # for uvicorn the request is over
            cycle.on_response = lambda: None
        self.connections.discard(self)
        self.server_state.total_requests += 1
        self._unset_keepalive_if_required()
        if head:
            transport.write(head)
        taken = HijackedConnection(transport, bytes(self.held_back), self.ended, self._hijack_over)
        self.held_back.clear()
        self.hijacked = taken
        transport.set_protocol(taken)
        if not transport.is_reading() and not self.ended:
            transport.resume_reading()
        return taken

    def _hijack_over(self) -> None:
        self.house.idle.touch()
        self.house.stir()
        self.house.hangups.forget(self.transport)
