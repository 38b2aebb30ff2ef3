"""What a handler answers: a whole body (now or later), a stream of pieces, or the connection. Free of any framework.

The three ways in (`stage0`, `dispatch`, `app`) each write these to their own kind of connection.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from typing import Any, Protocol

    Headers = Sequence[tuple[bytes, bytes]]

    class Connection(Protocol):
        """A hijacked connection: raw bytes both ways, with back-pressure (`streams/hijack.py` makes it)."""

        async def read(self) -> bytes:
            """The next bytes from the client; b"" once it has closed its sending side."""

        async def write(self, data: bytes) -> None:
            """Send; returns when the transport has room again. Raises ConnectionResetError when the client is gone."""

        async def gone(self) -> None:
            """Returns when the client has left entirely (reset, or both directions closed)."""

        async def close(self) -> None:
            """Flush what was written and close."""

    class RawConnection(Connection, Protocol):
        """One that is no part of a protocol of ours yet."""

        def become(self, protocol: "asyncio.Protocol") -> None:
            """Let another protocol have the connection, with what has come already."""

        async def closed_within(self, seconds: "float | None") -> bool:
            """Whether the connection is closed, waiting at most that long for it (None: as long as it lasts)."""


class Reply:
    """A whole answer. `body` are the bytes as they go out, unless `document` is given instead."""

    __slots__ = ("body", "content_type", "document", "headers", "shape", "status")

    def __init__(
        self,
        body: bytes = b"",
        status: int = 200,
        content_type: bytes = b"application/json",
        headers: "Headers" = (),
    ) -> None:
        self.body, self.status, self.content_type, self.headers = body, status, content_type, headers
        self.document: Any = ...  # nothing; None is JSON's null
        self.shape = ""

    @classmethod
    def json(cls, document: "Any", shape: str = "", status: int = 200, headers: "Headers" = ()) -> "Reply":
        """An answer in JSON. `document` has all that some API version shows; `shape` names it in `versions`, which
        takes from it (or adds to it) what the version asked for has otherwise, before it is written."""
        reply = cls(status=status, headers=headers)
        reply.document, reply.shape = document, shape
        return reply

    @classmethod
    def empty(cls, status: int = 204) -> "Reply":
        """An answer without a body."""
        return cls(status=status)


class Later:
    """What an operation without `async` answers when this very request takes more than a moment (sizes are weighed).

    Stage 0 leaves the request to the loop; the loop has `work()` done by a thread.
    """

    __slots__ = ("work",)

    def __init__(self, work: "Callable[[], Reply]") -> None:
        self.work = work


class Stream:
    """An answer whose body comes in pieces; each piece is sent at once and waits for the client (back-pressure).

    When the client leaves, `pieces` is closed (`aclose()`), wherever it stands: its `finally` clauses run.
    """

    __slots__ = ("content_type", "headers", "pieces", "status")

    def __init__(
        self,
        pieces: "AsyncIterator[bytes]",
        content_type: bytes = b"application/json",
        status: int = 200,
        headers: "Headers" = (),
    ) -> None:
        self.pieces, self.content_type, self.status, self.headers = pieces, content_type, status, headers


class Hijack:
    """The handler takes the connection: `101 UPGRADED` when the client asked for an upgrade to tcp, else `200 OK`.

    `serve(connection)` is called once the header has gone out; the connection is closed when it returns.
    `content_type` is what the answer's header says. `switching`: the header fields of an answer `101 Switching
    Protocols` to a protocol of its own instead.
    """

    __slots__ = ("content_type", "serve", "switching")

    def __init__(
        self,
        serve: "Callable[[RawConnection], Awaitable[None]]",
        content_type: bytes = b"application/vnd.docker.raw-stream",
        switching: "Headers" = (),
    ) -> None:
        self.serve, self.content_type, self.switching = serve, content_type, switching
