"""grpclib on connections that are open already, with the roles either way; and bulk data past python-h2.

In a session the client serves and we ask: a `Channel` is bound to the connection instead of dialling. What comes in
bulk there (a build's context) is nearly all DATA frames without flags, and each costs python-h2 tens of microseconds.
So `_Protocol` splits the frames itself: plain DATA of a stream that asked for it (`Bulk`) goes to that stream, all else
to h2. h2 never sees the bypassed bytes; its windows stay right because exactly those bytes are given back by
WINDOW_UPDATE frames of our own, once they have been used: that is the back-pressure.

grpclib is pinned: this touches its protocol classes, and tests/compat_api/test_buildkit_channel.py holds the contract.
"""

import asyncio
import struct

import grpclib.client
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.protocol import H2Protocol
from h2.settings import SettingCodes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import BaseTransport
    from collections.abc import Sequence
    from typing import Any

    from google.protobuf.message import Message

    Metadata = Sequence[tuple[str, str]]

WINDOW = (
    16 << 20
)  # bytes on their way to us, per stream and connection: 64 KiB would cost a round trip every two packets
CONFIGURATION = Configuration(http2_connection_window_size=WINDOW, http2_stream_window_size=WINDOW)
_FRAME = 1 << 20  # bytes of the largest frame that we take
_LONGEST = WINDOW // 2  # bytes of the longest message: one longer than the window would never come whole
_GIVE_BACK = 1 << 20  # bytes that are used before the client is told: a frame per packet would cost as much as it saves
_DATA, _HEAD = 0, struct.Struct(">IBI")  # of a frame: its length and type, its flags, and its stream
_SHORT = 4096  # bytes of a frame that are copied rather than handed on by themselves
_TOGETHER = 64 << 10  # bytes that are written before they go out in the middle of a turn
_PREFIX = struct.Struct(">BI")  # of a gRPC message: whether it is compressed, and its length


class Bulk:
    """Messages of one stream as they come, undecoded. It stands in for grpclib's buffer of that stream."""

    def __init__(self, protocol: "_Protocol", stream_id: int) -> None:
        self._protocol, self._id = protocol, stream_id
        self._bytes = bytearray()
        self._enough = _PREFIX.size  # bytes that are worth a look: a message's length, or all of it
        self._owed = 0  # bytes that have come and are not given back
        self._ended = False
        self._arrived = asyncio.Event()

    def feed(self, piece: "bytes | memoryview") -> None:
        """Bytes of DATA frames."""
        self._bytes += piece
        self._owed += len(piece)
        if self._owed > WINDOW + _FRAME:
            self._protocol.abort()  # beyond what the windows allow
        elif len(self._bytes) >= self._enough:
            self._arrived.set()

    def add(self, data: bytes, ack_size: int) -> None:
        """Bytes that h2 has seen (the last frame of a stream): they are acknowledged there."""
        self._protocol.connection.ack(self._id, ack_size)
        self.feed(memoryview(data))
        self._owed -= len(data)

    def eof(self) -> None:
        """The other end has said all."""
        self._ended = True
        self._arrived.set()

    def unacked_size(self) -> int:
        """grpclib releases the stream: what is owed goes back to the connection."""
        self._protocol.give_back(self._id, self._owed, stream=False)
        self._owed = 0
        return 0

    async def next(self) -> "list[bytes]":
        """What has come: one message or more; none at the end."""
        while not (messages := self._split()):
            if not await self._more():
                return []
        return messages

    def _split(self) -> "list[bytes]":
        held, messages, at = self._bytes, [], 0
        end, self._enough = len(held), _PREFIX.size
        with memoryview(held) as view:
            while end - at >= _PREFIX.size:
                compressed, length = _PREFIX.unpack_from(held, at)
                start = at + _PREFIX.size
                if compressed or length > _LONGEST:  # we offer no compression, and it would never come whole
                    self._protocol.abort()
                    at = end
                    break
                if end - start < length:
                    self._enough += length
                    break
                messages.append(bytes(view[start : start + length]))
                at = start + length
        del held[:at]
        return messages

    async def raw(self, most: int) -> bytes:
        """What has come and not been taken, at most so many bytes, messages as they are framed; none at the end."""
        self._enough = 1
        while not self._bytes:
            if not await self._more():
                return b""
        taken = bytes(self._bytes[:most])
        del self._bytes[:most]
        return taken

    def give_again(self, taken: bytes) -> None:
        """Have what `raw` gave come once more."""
        self._bytes[:0] = taken

    async def _more(self) -> bool:
        """Wait for more; false when nothing comes any more."""
        if self._ended:
            return False
        self._arrived.clear()
        await self._arrived.wait()
        return True

    async def gather(self, seconds: float) -> None:
        """Let all lie for a while that comes on the connection: to take it as it comes, frame by frame, would cost more
        than the rest."""
        self._protocol.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._protocol.resume_reading()

    def used(self) -> None:
        """What was taken has been dealt with: the other end may send as much again."""
        left = len(self._bytes)
        if self._owed - left >= _GIVE_BACK:
            self._protocol.give_back(self._id, self._owed - left, stream=True)
            self._owed = left


class _Together(asyncio.Transport):
    """What is written in one turn of the loop goes out together: grpclib writes the header, the message and the end of
    an answer one by one, and each would wake the client."""

    def __init__(self, transport: "Any") -> None:
        super().__init__()
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []
        self._size = 0
        for name in ("is_closing", "pause_reading", "resume_reading", "get_extra_info", "abort"):
            setattr(self, name, getattr(transport, name))

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        """Send soon; at once what is much."""
        if not self._pieces:
            self._loop.call_soon(self.send)
        self._pieces.append(bytes(data))
        self._size += len(data)
        if self._size > _TOGETHER:
            self.send()

    def send(self) -> None:
        """Send what was written."""
        data, self._size = b"".join(self._pieces), 0
        self._pieces.clear()
        if data and not self.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Send what was written, and end."""
        self.send()
        self._transport.close()


class Limited(H2Protocol):
    """grpclib's protocol, where a message has a largest size: it is put together in memory."""

    def connection_made(self, transport: "BaseTransport") -> None:
        """As grpclib's."""
        self._together = _Together(transport)
        super().connection_made(self._together)
        made = self.connection.create_stream

        def create_stream(**keywords: "Any") -> "Any":
            stream = made(**keywords)
            receive = stream.recv_data

            async def recv_data(size: int) -> bytes:
                if size > WINDOW:
                    raise GRPCError(
                        Status.RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({size} vs. {WINDOW})"
                    )
                return await receive(size)

            stream.recv_data = recv_data  # type: ignore[method-assign]  # grpclib reads whatever length is announced
            return stream

        self.connection.create_stream = create_stream  # type: ignore[method-assign]  # its one place to make them

    def dismiss(self) -> None:
        """Tell the other end that what it says next was not heard (GOAWAY). The connection is then to be closed."""
        self.connection._connection.close_connection()
        self.connection.flush()
        self._together.send()


class _Protocol(Limited):
    """With a way past h2 for `Bulk` streams."""

    def connection_made(self, transport: "BaseTransport") -> None:
        super().connection_made(transport)
        self._transport = self._together
        self._bulk: dict[int, Bulk] = {}
        self._head = bytearray()
        self._left = 0  # bytes that the current frame still has
        self._into: Bulk | None = None  # … and whose they are; None: h2's
        self.connection._connection.update_settings({SettingCodes.MAX_FRAME_SIZE: _FRAME})
        self.connection.flush()

    def data_received(self, data: bytes) -> None:
        """Split into frames, each to whom it is for."""
        view, at, end = memoryview(data), 0, len(data)
        ours = 0  # where the bytes begin that h2 has not had yet
        while at < end:
            if self._left:
                take = min(self._left, end - at)
                if self._into is not None:
                    self._into.feed(view[at : at + take])
                    ours = at + take
                self._left -= take
                at += take
                continue
            if self._head or end - at < _HEAD.size:
                if ours < at and not self._head:
                    super().data_received(bytes(view[ours:at]))
                take = min(_HEAD.size - len(self._head), end - at)
                self._head += view[at : at + take]
                at += take
                ours = at
                if len(self._head) == _HEAD.size:
                    head = bytes(self._head)
                    self._head.clear()
                    if not self._begin(head):
                        super().data_received(head)
                continue
            past = self._short(data, at)
            if past == at and not self._begin(data[at : at + _HEAD.size]):
                at += _HEAD.size
                continue
            if ours < at:
                super().data_received(data[ours:at])
            at = ours = past if past > at else at + _HEAD.size
        if ours < end:
            super().data_received(bytes(view[ours:end]))

    def _short(self, data: bytes, at: int) -> int:
        """Take short frames of one `Bulk` stream that follow one another from `at` on: a list of files is thousands of
        them. Returns where they end. What h2 has not had yet may come before them: it says nothing about their stream.
        """
        pieces, end = [], len(data)
        wanted = -1
        into: Bulk | None = None
        while end - at >= _HEAD.size:
            size_and_type, flags, stream_id = _HEAD.unpack_from(data, at)
            start = at + _HEAD.size
            size = size_and_type >> 8
            if size_and_type & 0xFF != _DATA or flags or size > min(_SHORT, end - start):
                break
            if stream_id != wanted:
                stream = self.processor.streams.get(stream_id)
                if into is not None or stream is None or not isinstance(stream.buffer, Bulk):
                    break
                into, wanted = stream.buffer, stream_id
            at = start + size
            pieces.append(data[start:at])
        if into is not None:
            into.feed(b"".join(pieces))
        return at

    def _begin(self, head: bytes) -> bool:
        """A frame begins; true when it goes past h2."""
        self._left = int.from_bytes(head[:3], "big")
        self._into = None
        if head[3] == _DATA and not head[4]:
            stream = self.processor.streams.get(int.from_bytes(head[5:9], "big") & 0x7FFFFFFF)
            if stream is not None and isinstance(stream.buffer, Bulk):
                self._into = stream.buffer
        return self._into is not None

    def give_back(self, stream_id: int, size: int, *, stream: bool) -> None:
        """Open the windows by `size` bytes: the connection's, and the stream's while it lives."""
        if size and not self._transport.is_closing():
            update = struct.pack(">I", size)
            frames = b"\0\0\4\x08\0\0\0\0\0" + update
            if stream:
                frames += b"\0\0\4\x08\0" + struct.pack(">I", stream_id) + update
            self._transport.write(frames)

    def pause_reading(self) -> None:
        """Take nothing from the connection for now."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take what comes again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """The other end does not keep to the protocol."""
        self._transport.abort()


class Channel(grpclib.client.Channel):
    """Calls to the client on the connection that it opened. `protocol` is what to put on the transport."""

    def __init__(self) -> None:
        super().__init__(host="localhost", port=0, config=CONFIGURATION)
        self.protocol: H2Protocol = _Protocol(grpclib.client.Handler(), self._config, self._h2_config)

    async def _create_connection(self) -> H2Protocol:
        if self.gone:
            raise ConnectionResetError("the session has ended")
        return self.protocol

    @property
    def gone(self) -> bool:
        """Whether the connection is closed (or not yet there)."""
        handler: Any = self.protocol.handler
        return handler.connection_lost or not hasattr(self.protocol, "connection")

    async def ask(self, path: str, request: "Message", answer: "type[Any]", metadata: "Metadata" = ()) -> "Any":
        """One request, one answer. Raises GRPCError, and what `LOST` names."""
        method = grpclib.client.UnaryUnaryMethod(self, path, type(request), answer)
        return await method(request, metadata=list(metadata))

    def stream(self, path: str, request: "type[Any]", answer: "type[Any]", metadata: "Metadata" = ()) -> "Any":
        """Open a stream both ways: grpclib's `Stream`, to be used as `async with`."""
        return grpclib.client.StreamStreamMethod(self, path, request, answer).open(metadata=list(metadata))


LOST = (StreamTerminatedError, ConnectionError)  # what calls raise when the connection or the stream ends


def bulk(stream: "Any") -> Bulk:
    """Take what comes on a stream of a `Channel` as `Bulk`. To be called right after `send_request()`."""
    inner = stream._stream
    inner.buffer = taken = Bulk(stream._channel.protocol, inner.id)
    return taken


def framed(message: bytes) -> bytes:
    """A gRPC message as it is on the wire."""
    return len(message).to_bytes(_PREFIX.size, "big") + message


async def send_raw(stream: "Any", data: bytes) -> None:
    """Send bytes that are whole gRPC messages already; never none: an empty frame is taken for the end."""
    with stream._wrapper:
        await stream._stream.send_data(data)


async def reason(stream: "Any") -> None:
    """The other end has said all before its time: raise why, a GRPCError when its trailers name one."""
    if not stream._end_done:
        await stream.end()
    await stream.recv_initial_metadata()
    await stream.recv_trailing_metadata()


__all__ = ["LOST", "WINDOW", "Bulk", "Channel", "GRPCError", "bulk", "framed", "reason", "send_raw"]
