"""Several streams in one: frames of a stream number and a length before the bytes (API: ContainerAttach).

Pure. A session with a terminal has one stream only and is sent raw.
"""

STDIN, STDOUT, STDERR = 0, 1, 2


def frame(stream: int, data: bytes) -> bytes:
    """One frame: the stream's number, three zero bytes, the length in four bytes (big endian), the bytes."""
    return b"%c\0\0\0%b%b" % (stream, len(data).to_bytes(4, "big"), data)


def frames(pieces: "list[tuple[int, bytes]]") -> bytes:
    """Pieces in order, those of one stream that follow each other joined into one frame."""
    framed: list[bytes] = []
    together: list[bytes] = []
    stream = STDOUT
    for number, data in pieces:
        if together and number != stream:
            framed.append(frame(stream, b"".join(together)))
            together = []
        stream = number
        together.append(data)
    if together:
        framed.append(frame(stream, b"".join(together)))
    return b"".join(framed)


def raw(pieces: "list[tuple[int, bytes]]") -> bytes:
    """Pieces in order, without frames."""
    return b"".join([data for _, data in pieces])


class Splitter:
    """The other direction: takes bytes as they arrive, gives (stream, bytes) for each complete frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> "list[tuple[int, bytes]]":
        """The frames that are complete now. Raises ValueError when a header cannot be one."""
        self._buffer += data
        complete = []
        while len(self._buffer) >= 8:
            if self._buffer[0] > 3 or any(self._buffer[1:4]):
                raise ValueError(f"not the header of a frame: {bytes(self._buffer[:8])!r}")
            length = int.from_bytes(self._buffer[4:8], "big")
            if len(self._buffer) < 8 + length:
                break
            complete.append((self._buffer[0], bytes(self._buffer[8 : 8 + length])))
            del self._buffer[: 8 + length]
        return complete

    @property
    def pending(self) -> bytes:
        """What waits for its frame to be complete."""
        return bytes(self._buffer)
