"""A websocket client that sends exactly what a test says, right or wrong."""

import base64
import hashlib
import os

from tests.support.wire import Wire, request

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def masked(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """A client's frame."""
    key = os.urandom(4)
    length = len(payload)
    if length < 126:
        size = bytes((0x80 | length,))
    elif length < 1 << 16:
        size = b"\xfe" + length.to_bytes(2, "big")
    else:
        size = b"\xff" + length.to_bytes(8, "big")
    hidden = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    return bytes((0x80 * final | opcode,)) + size + key + hidden


class Socket:
    """An open websocket on a wire. Use as a context manager."""

    def __init__(self, path: str, target: str) -> None:
        self.wire = Wire(path, 30)
        key = base64.b64encode(os.urandom(16)).decode()
        self.wire.send(
            request(
                f"GET {target}",
                Connection="Upgrade",
                Upgrade="websocket",
                Sec_WebSocket_Key=key,
                Sec_WebSocket_Version="13",
            )
        )
        head = self.wire.head()
        assert head.status == 101, (head.status, self.wire.rest())
        proof = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
        assert head.headers["sec-websocket-accept"] == base64.b64encode(proof).decode()
        assert (head.headers["upgrade"], head.headers["connection"]) == ("websocket", "Upgrade")

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.socket.close()

    def send(self, data: bytes, opcode: int = BINARY, *, final: bool = True) -> None:
        """Send one frame."""
        self.wire.send(masked(opcode, data, final=final))

    def receive(self) -> tuple[int, bytes]:
        """The next frame. Raises AssertionError when it is not a server's."""
        first, length = self.wire.exactly(2)
        assert first & 0x80, "a server's frame in pieces"
        assert length < 128, "a server's frame is not masked"
        if length > 125:
            length = int.from_bytes(self.wire.exactly(2 if length == 126 else 8), "big")
        return first & 0x0F, self.wire.exactly(length)

    def until(self, mark: bytes) -> bytes:
        """What the data frames say, up to and with `mark`; pongs are passed over."""
        said = b""
        while mark not in said:
            opcode, payload = self.receive()
            assert opcode in (TEXT, BINARY, PONG), (opcode, payload, said)
            said += payload if opcode != PONG else b""
        return said

    def rest(self) -> tuple[bytes, int]:
        """What is said until the end, and the status that the close frame gives; it is answered."""
        said = b""
        while True:
            opcode, payload = self.receive()
            if opcode == CLOSE:
                self.send(payload[:2], CLOSE)
                assert self.wire.rest() == b""
                return said, int.from_bytes(payload[:2], "big")
            said += payload
