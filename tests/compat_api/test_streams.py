"""Framing without I/O: whole, byte by byte, and with bytes that belong to what comes next."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat_api.streams import body, jsonlines, multiplex

FRAMES = [(1, b"out"), (2, b"err"), (1, b""), (1, b"x" * 70_000)]


def test_a_frame_spelled_out() -> None:
    assert multiplex.frame(multiplex.STDERR, b"hello\n") == b"\x02\x00\x00\x00\x00\x00\x00\x06hello\n"
    assert multiplex.frame(1, b"a" * 0x01020304)[:8] == b"\x01\x00\x00\x00\x01\x02\x03\x04"


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 1000, 1 << 20])
def test_frames_come_back_however_they_are_cut(cut: int) -> None:
    wire = b"".join(multiplex.frame(stream, data) for stream, data in FRAMES)
    splitter, found = multiplex.Splitter(), []
    for at in range(0, len(wire), cut):
        found += list(splitter.feed(wire[at : at + cut]))
    assert found == FRAMES


def read(reader: body.Plain | body.Chunked, wire: bytes, cut: int) -> tuple[bytes, bytes]:
    """(the body, what came after it) when `wire` comes in pieces of `cut` bytes."""
    got, rest = b"", b""
    for at in range(0, len(wire), cut):
        if reader.done:
            rest += wire[at : at + cut]
            continue
        pieces, after = reader.feed(wire[at : at + cut])
        got += b"".join(pieces)
        rest += after
    assert reader.done
    return got, rest


CHUNKED = b"5\r\nhello\r\n1;name=value\r\n \r\n00005\r\nworld\r\n0\r\n"


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("trailer", [b"", b"X-Sum: 1\r\nX-Other: 2\r\n"])
@pytest.mark.parametrize("after", [b"", b"stdin\r\n", b"0\r\n\r\n"])
def test_chunks(cut: int, trailer: bytes, after: bytes) -> None:
    assert read(body.Chunked(), CHUNKED + trailer + b"\r\n" + after, cut) == (b"hello world", after)


@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_plain(cut: int) -> None:
    assert read(body.Plain(5), b"helloGET /", cut) == (b"hello", b"GET /")


@given(st.lists(st.binary(min_size=1), max_size=8), st.binary(), st.integers(1, 50))
def test_any_chunks(pieces: list[bytes], after: bytes, cut: int) -> None:
    wire = b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n" + after
    assert read(body.Chunked(), wire, cut) == (b"".join(pieces), after)


@pytest.mark.parametrize(
    "wire",
    [b"x\r\n", b"-1\r\n", b"\r\n", b"5\r\nhello!\r\n", b"1\r\na0\r\n", b"1" * 17 + b"\r\n", b"1" * 5000, b"0x5\r\n"],
)
def test_broken_chunks(wire: bytes) -> None:
    with pytest.raises(body.BadBody):
        body.Chunked().feed(wire)


def test_which_reader() -> None:
    assert body.reader([]).done
    assert body.reader([(b"content-length", b"0")]).done
    plain = body.reader([(b"content-length", b"7"), (b"content-length", b"7")])
    assert isinstance(plain, body.Plain)
    assert plain.left == 7
    assert isinstance(body.reader([(b"transfer-encoding", b"Chunked")]), body.Chunked)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"x")],
        [(b"content-length", b"-1")],
        [(b"content-length", b"1"), (b"content-length", b"2")],
        [(b"content-length", b"1"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
    ],
)
def test_contradictions_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(body.BadBody):
        body.reader(headers)


async def test_lines_close_what_they_read() -> None:
    closed = False

    async def documents() -> AsyncIterator[object]:
        nonlocal closed
        try:
            yield {"status": "é"}
            yield {"status": "two"}
        finally:
            closed = True

    lines = jsonlines.lines(documents())
    assert await anext(lines) == '{"status":"é"}\r\n'.encode()
    assert not closed
    await lines.aclose()  # type: ignore[attr-defined]  # it is an async generator
    assert closed
