"""A connection taken over from HTTP: raw bytes both ways, with back-pressure (`compat_api.reply.Connection`)."""

import asyncio
import fcntl
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SIOCOUTQ = 0x5411  # unix(7): how many bytes the other end has not taken yet
_HEAD_SECONDS = 0.25  # the longest that the first bytes wait for the header to be taken
_READ_AHEAD = 65536  # bytes kept for a handler that does not read; then the client has to wait


class HijackedConnection(asyncio.Protocol):
    """The asyncio protocol that takes the HTTP protocol's place on the transport."""

    def __init__(
        self, transport: asyncio.Transport, pending: bytes, ended: bool, on_lost: "Callable[[], None]"
    ) -> None:
        """`pending`: what came after the request; `ended`: the client has closed its sending side already.

        `on_lost` is called when the connection is closed.
        """
        self.transport, self._on_lost = transport, on_lost
        self.buffer = bytearray(pending)
        self.ended = ended
        self.lost = False
        self.reading_paused = False
        self._head_taken = False
        self._next: asyncio.Protocol | None = None  # who has the connection now
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.Event()  # the client has left
        self._closed = asyncio.Event()  # so have we
        if pending or ended:
            self._arrived.set()

    # asyncio's side

    def data_received(self, data: bytes) -> None:
        """More bytes from the client."""
        if self._next is not None:
            self._next.data_received(data)
            return
        self.buffer += data
        self._arrived.set()
        if len(self.buffer) > _READ_AHEAD and not self.reading_paused:
            self.reading_paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """The client closed its sending side: stdin ends, and the other direction goes on."""
        self.ended = True
        self._arrived.set()
        return self._next is None

    def pause_writing(self) -> None:
        """The client does not read fast enough."""
        self._writable.clear()
        if self._next is not None:
            self._next.pause_writing()

    def resume_writing(self) -> None:
        """There is room again."""
        self._writable.set()
        if self._next is not None:
            self._next.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Both directions are closed."""
        if self._next is not None:
            self._next.connection_lost(exc)
        self.lost = self.ended = True
        for event in (self._arrived, self._writable, self._gone, self._closed):
            event.set()
        self._on_lost()

    def left(self) -> None:
        """The client has closed both directions (the server watches for that, also while reading is paused).

        What it sent before can still be read.
        """
        self._gone.set()
        self._writable.set()
        if self._next is not None:
            self.transport.abort()  # nobody is left to answer

    def abort(self) -> None:
        """Close at once, unsent bytes or not."""
        self.transport.abort()

    # the handler's side

    async def read(self) -> bytes:
        """The next bytes from the client; b"" once it has closed its sending side."""
        while not self.buffer and not self.ended:
            self._arrived.clear()
            await self._arrived.wait()
        data = bytes(self.buffer)
        self.buffer.clear()
        if self.reading_paused and not self.lost:
            self.reading_paused = False
            self.transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send; returns when the transport has room again. Raises ConnectionResetError when the client is gone."""
        if self._gone.is_set() or self.transport.is_closing():
            raise ConnectionResetError("the client has left")
        if not self._head_taken:
            await self._until_head_taken()
        self.transport.write(data)
        await self._writable.wait()
        if self._gone.is_set():
            raise ConnectionResetError("the client has left")

    async def _until_head_taken(self) -> None:
        """Returns when the client has read our header, by itself.

        docker-py reads it through a buffer that it then forgets, and with it whatever came in the same read.
        """
        self._head_taken = True
        fd = self.transport.get_extra_info("socket").fileno()
        end = asyncio.get_running_loop().time() + _HEAD_SECONDS
        while not self.lost and (self.transport.get_write_buffer_size() or _untaken(fd)):
            if asyncio.get_running_loop().time() > end:
                return
            await asyncio.sleep(0.001)

    async def gone(self) -> None:
        """Returns when the client has left entirely (reset, or both directions closed)."""
        await self._gone.wait()

    def become(self, protocol: asyncio.Protocol) -> None:
        """Let another protocol have the connection, with what has come already; it must not close it before."""
        self._next = protocol
        protocol.connection_made(self.transport)
        pending = bytes(self.buffer)
        self.buffer.clear()
        if self.reading_paused:
            self.reading_paused = False
            self.transport.resume_reading()
        if pending:
            protocol.data_received(pending)
        if self.ended:
            self.transport.close()

    async def closed_within(self, seconds: float | None) -> bool:
        """Whether the connection is closed, waiting at most `seconds` for it (None: as long as it lasts)."""
        try:
            await asyncio.wait_for(self._closed.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Flush what was written and close."""
        self.transport.close()
        await self._closed.wait()


def _untaken(fd: int) -> int:
    """How many bytes sent on a socket the other end has not read."""
    return int(struct.unpack("i", fcntl.ioctl(fd, _SIOCOUTQ, b"\0" * 4))[0])
