"""WebSockets (RFC 6455), the server's side: the handshake, frames, and a connection that speaks them.

The frames are pure: bytes in, what they mean out. A data frame is handed on piece by piece as it arrives, so its length
costs no memory. Extensions are not offered, so none can be in use.
"""

import asyncio

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from compat_api.reply import Connection, Headers

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL, PROTOCOL_ERROR = 1000, 1002  # how a connection is closed (section 7.4.1)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LONGEST_CONTROL = 125  # bytes that a control frame may carry
_FAREWELL = 2.0  # seconds in which a client may answer that the connection is closed


def handshake(upgrade: str, connection: str, key: str, version: str, protocol: str) -> "Headers":
    """The fields of the answer `101 Switching Protocols` to what a client's headers say. Raises InvalidParameter."""
    if upgrade.lower() != "websocket" or "upgrade" not in connection.lower():
        raise InvalidParameter("not websocket protocol")
    if not key:
        raise InvalidParameter("mismatch challenge/response")
    if version != "13":
        raise InvalidParameter("missing or bad WebSocket Version")
    if "," in protocol:
        raise InvalidParameter("missing or bad WebSocket-Protocol")
    from base64 import b64encode
    from hashlib import sha1

    proof = b64encode(sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest())
    fields = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Accept", proof)]
    if protocol.strip():
        fields.append((b"Sec-WebSocket-Protocol", protocol.strip().encode("latin-1")))
    return fields


def frame(opcode: int, payload: bytes) -> bytes:
    """One whole message as a frame of a server (which are not masked)."""
    length = len(payload)
    if length <= 125:
        return bytes((0x80 | opcode, length)) + payload
    if length < 1 << 16:
        return bytes((0x80 | opcode, 126)) + length.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + length.to_bytes(8, "big") + payload


class Broken(Exception):  # noqa: N818 - it says what the connection is
    """The client does not keep to the protocol; the message says how."""


class Decoder:
    """Takes what a client sends, in any pieces; gives (opcode, payload).

    Data has the opcode TEXT or BINARY and comes in pieces as it arrives; the payload of a control frame is whole.
    Nothing comes after CLOSE.
    """

    def __init__(self) -> None:
        self._waiting = bytearray()  # of a header, or of a control frame's payload
        self._opcode = 0  # of the frame whose payload is being read …
        self._mask = b""
        self._left = -1  # … and how much of it is to come; -1 between frames
        self._message = 0  # the opcode of the message that is not complete, if there is one
        self._final = True
        self._closed = False

    def feed(self, data: bytes) -> "list[tuple[int, bytes]]":
        """What is complete with these bytes. Raises Broken."""
        found: list[tuple[int, bytes]] = []
        self._waiting += data
        while not self._closed:
            if self._left < 0 and not self._header():
                break
            control = self._opcode >= CLOSE
            if len(self._waiting) < (self._left if control else min(self._left, 1)):
                break
            payload = self._payload()
            if control:
                self._left = -1
                self._closed = self._opcode == CLOSE
                if self._closed and len(payload) == 1:
                    raise Broken("half a status in a close frame")
                found.append((self._opcode, payload))
                continue
            if payload:
                found.append((self._message, payload))
            if not self._left:
                self._left = -1
                self._message = 0 if self._final else self._message
        return found

    def _header(self) -> bool:
        """Take a frame's header; false when it is not complete."""
        have = self._waiting
        if len(have) < 2:
            return False
        length = have[1] & 0x7F
        extended = {126: 2, 127: 8}.get(length, 0)
        if not have[1] & 0x80:
            raise Broken("a frame that is not masked")
        self._check(have[0], length)
        if len(have) < 2 + extended + 4:
            return False
        if extended:
            length = int.from_bytes(have[2 : 2 + extended], "big")
            if length >> 63:
                raise Broken("a length below zero")
        self._opcode, final = have[0] & 0x0F, bool(have[0] & 0x80)
        if self._opcode < CLOSE:
            self._message, self._final = self._message or self._opcode, final
        self._mask, self._left = bytes(have[2 + extended : 6 + extended]), length
        del have[: 6 + extended]
        return True

    def _payload(self) -> bytes:
        """Take what is there of the present frame's payload, unmasked."""
        masked = bytes(self._waiting[: self._left])
        del self._waiting[: self._left]
        size = len(masked)
        self._left -= size
        key = (self._mask * (size // 4 + 1))[:size]
        self._mask = self._mask[size % 4 :] + self._mask[: size % 4]
        return (int.from_bytes(masked, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")

    def _check(self, first: int, length: int) -> None:
        """Refuse what a first byte may not say."""
        opcode, final = first & 0x0F, bool(first & 0x80)
        if first & 0x70:
            raise Broken("an extension that was not agreed on")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise Broken(f"opcode {opcode}")
        if opcode >= CLOSE:
            if not final or length > _LONGEST_CONTROL:
                raise Broken("a control frame in pieces")
        elif (opcode == CONTINUATION) != bool(self._message):
            raise Broken("a message within another, or the rest of none")


class WebSocket:
    """A connection whose data travel in frames of one kind. Pings are answered while `read` is waited for."""

    def __init__(self, connection: "Connection", opcode: int) -> None:
        self.connection, self.opcode = connection, opcode
        self._decoder = Decoder()
        self._closed = False  # the client has said that it closes, or cannot be understood …
        self._said = False  # … so have we
        self._gone = asyncio.Event()  # and all that it sent before was read

    async def read(self) -> bytes:
        """The next data from the client; b"" once it has closed the connection or its sending side."""
        while not self._closed:
            arrived = await self.connection.read()
            if not arrived:
                return b""
            try:
                data = [
                    payload for opcode, payload in self._decoder.feed(arrived) if await self._is_data(opcode, payload)
                ]
            except Broken:
                self._closed = True
                await self._say_close(PROTOCOL_ERROR)
                break
            if data:
                return b"".join(data)
        self._gone.set()
        return b""

    async def _is_data(self, opcode: int, payload: bytes) -> bool:
        """False for a control frame, which is answered."""
        if opcode == PING:
            await self.connection.write(frame(PONG, payload))
        elif opcode == CLOSE:
            self._closed = True
            await self._say_close(int.from_bytes(payload[:2], "big") or NORMAL)
        return opcode in (TEXT, BINARY)

    async def write(self, data: bytes) -> None:
        """Send data. Raises ConnectionResetError when the client is gone."""
        if data and not self._said:
            await self.connection.write(frame(self.opcode, data))

    async def gone(self) -> None:
        """Returns when the client has closed the connection, or has left without a word."""
        waits = [asyncio.ensure_future(self.connection.gone()), asyncio.ensure_future(self._gone.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def close(self) -> None:
        """Say that it is over, and give the client a moment to say so too: what it has not read would be lost else."""
        await self._say_close(NORMAL)
        try:
            async with asyncio.timeout(_FAREWELL):
                while await self.read():
                    pass
        except TimeoutError:
            return

    async def _say_close(self, status: int) -> None:
        if not self._said:
            self._said = True
            await self.connection.write(frame(CLOSE, status.to_bytes(2, "big")))
