"""WebSocket frames without a socket: any split into pieces means the same, what is against the rules is refused."""

import os

import pytest

from compat_api.streams.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Broken,
    Decoder,
    frame,
    handshake,
)
from service.errors import InvalidParameter
from tests.support.websocket import masked

RFC = bytes.fromhex("818537fa213d7f9f4d5158")  # section 5.7: a masked "Hello"


def joined(pieces: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Pieces of data that follow each other, as one."""
    together: list[tuple[int, bytes]] = []
    for opcode, payload in pieces:
        before = together.pop()[1] if opcode in (TEXT, BINARY) and together and together[-1][0] == opcode else b""
        together.append((opcode, before + payload))
    return together


def read(data: bytes, step: int) -> list[tuple[int, bytes]]:
    decoder = Decoder()
    found = []
    for at in range(0, len(data), step):
        found += decoder.feed(data[at : at + step])
    return joined(found)


STREAM = (
    RFC
    + masked(PING, b"ping")
    + masked(BINARY, b"one ", final=False)
    + masked(PING, b"")
    + masked(CONTINUATION, b"", final=False)
    + masked(CONTINUATION, b"two")
    + masked(TEXT, b"")
    + masked(BINARY, bytes(range(256)) * 300)
    + masked(PONG, b"unasked")
    + masked(CLOSE, b"\x03\xe8bye")
    + b"after the end"
)
MEANT = [
    *((TEXT, b"Hello"), (PING, b"ping"), (BINARY, b"one "), (PING, b""), (BINARY, b"two" + bytes(range(256)) * 300)),
    *((PONG, b"unasked"), (CLOSE, b"\x03\xe8bye")),
]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000, len(STREAM)])
def test_any_split_means_the_same(step: int) -> None:
    assert read(STREAM, step) == MEANT


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 200_000])
def test_lengths(size: int) -> None:
    data = os.urandom(size)
    assert b"".join(payload for _, payload in Decoder().feed(masked(BINARY, data))) == data
    sent = frame(BINARY, data)
    assert sent[-size:] == data or not size
    assert len(sent) - size == (2 if size < 126 else 4 if size < 65536 else 10)


def test_a_long_frame_is_not_collected() -> None:
    decoder = Decoder()
    head = masked(BINARY, bytes(1_000_000))
    decoder.feed(head[:14])
    assert decoder.feed(head[14:1014]) == [(BINARY, bytes(1000))]
    assert not decoder._waiting


@pytest.mark.parametrize(
    "data",
    [
        b"\x82\x01x",  # not masked
        bytes((0xC2,)) + masked(BINARY, b"x")[1:],  # an extension's bit
        masked(3, b""),
        masked(11, b""),
        masked(PING, b"x", final=False),
        masked(PING, bytes(126)),
        masked(CONTINUATION, b"rest of nothing"),
        masked(TEXT, b"a", final=False) + masked(TEXT, b"b"),
        masked(CLOSE, b"x"),
        b"\x82\xff\x80" + bytes(7) + b"mask",
    ],
    ids=lambda data: data[:2].hex(),  # what follows is masked by chance
)
def test_what_is_against_the_rules(data: bytes) -> None:
    for step in (1, len(data)):
        with pytest.raises(Broken):
            read(data, step)


def test_the_handshake_of_the_rfc() -> None:
    fields = dict(handshake("WebSocket", "keep-alive, Upgrade", "dGhlIHNhbXBsZSBub25jZQ==", "13", "chat"))
    assert fields[b"Sec-WebSocket-Accept"] == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert fields[b"Sec-WebSocket-Protocol"] == b"chat"


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        (("", "", "key", "13", ""), "not websocket protocol"),
        (("tcp", "Upgrade", "key", "13", ""), "not websocket protocol"),
        (("websocket", "close", "key", "13", ""), "not websocket protocol"),
        (("websocket", "Upgrade", "", "13", ""), "mismatch challenge/response"),
        (("websocket", "Upgrade", "key", "8", ""), "missing or bad WebSocket Version"),
        (("websocket", "Upgrade", "key", "13", "a, b"), "missing or bad WebSocket-Protocol"),
    ],
)
def test_bad_handshakes(headers: tuple[str, str, str, str, str], text: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        handshake(*headers)
    assert error.value.message == text
