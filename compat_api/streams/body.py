"""Where a request's body ends, found without a parser that might read on: pure, bytes in, bytes out.

The loop's HTTP parser (llhttp) is given heads only. It leaves out the body of every request with an Upgrade header,
and reads what follows an upgrade-less hijack as the next request; both would turn a body into stdin, or stdin into
requests.
Source: RFC 9112, sections 6 and 7.1.
"""

_MAXIMUM_CHUNK_LINE = 4096  # bytes: a size and its extensions, or a trailer field


class BadBody(ValueError):  # noqa: N818 - what it is, as HTTP says it
    """The body's framing is broken; nothing after it can be understood."""


class Plain:
    """A body of a known length."""

    def __init__(self, length: int) -> None:
        self.left = length

    @property
    def done(self) -> bool:
        """Whether all of it has come."""
        return self.left == 0

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """(pieces of the body, what comes after its end)."""
        piece, rest = data[: self.left], data[self.left :]
        self.left -= len(piece)
        return ([piece] if piece else []), rest


class Chunked:
    """A body in chunks, each after a line with its length."""

    def __init__(self) -> None:
        self.pending = b""  # an unfinished line
        self.left = 0  # bytes of the present chunk still to come
        self.state = "size"  # size → data → end of data → size … → trailer → done

    @property
    def done(self) -> bool:
        """Whether all of it has come, trailer included."""
        return self.state == "done"

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """(pieces of the body, what comes after its end). Raises BadBody."""
        pieces: list[bytes] = []
        data, self.pending = self.pending + data, b""
        at = 0
        while at < len(data) and self.state != "done":
            if self.state == "data":
                piece = data[at : at + self.left]
                pieces.append(piece)
                at += len(piece)
                self.left -= len(piece)
                if not self.left:
                    self.state = "end of data"
                continue
            end = data.find(b"\n", at)
            if end < 0:
                if len(data) - at > _MAXIMUM_CHUNK_LINE:
                    raise BadBody("chunk line too long")
                self.pending = data[at:]
                return pieces, b""
            self._line(data[at:end].removesuffix(b"\r"))
            at = end + 1
        return pieces, data[at:]

    def _line(self, line: bytes) -> None:
        if self.state == "end of data":
            if line:
                raise BadBody("chunk longer than its size")
            self.state = "size"
        elif self.state == "trailer":
            if not line:
                self.state = "done"
        else:
            digits = line.partition(b";")[0].strip()
            if not digits or digits.strip(b"0123456789abcdefABCDEF") or len(digits) > 16:
                raise BadBody("bad chunk size")
            self.left = int(digits, 16)
            self.state = "data" if self.left else "trailer"


def reader(headers: "list[tuple[bytes, bytes]]") -> "Plain | Chunked":
    """The reader of the body that these headers (names in lower case) announce; of none, one that is done at once.

    Raises BadBody when they contradict one another.
    """
    length: bytes | None = None
    chunked = False
    for name, value in headers:
        if name == b"content-length":
            if (length is not None and value != length) or not value.isdigit():
                raise BadBody("bad Content-Length")
            length = value
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked" or chunked:
                raise BadBody("unsupported transfer encoding")
            chunked = True
    if chunked:
        if length is not None:
            raise BadBody("both Content-Length and chunks")
        return Chunked()
    return Plain(int(length or 0))
