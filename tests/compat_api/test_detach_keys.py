"""Detach keys: pure, so tested whole, split at every place."""

import pytest

from compat_api.streams.detach_keys import DEFAULT, DetachKeys, parse
from service.errors import InvalidParameter


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-a", b"\x01"),
        ("ctrl-@,ctrl-z,ctrl-[", b"\x00\x1a\x1b"),
        ("ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x1c\x1d\x1e\x1f"),
        ("a,B,DEL", b"aB\x7f"),
    ],
)
def test_parse(text: str, keys: bytes) -> None:
    assert parse(text) == keys


@pytest.mark.parametrize("text", ["ctrl-1", "ctrl-", "ab", "a,,b", "é", "ctrl-P", "del"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"Invalid detach keys \(.*\) provided"):
        parse(text)


def run(keys: bytes, pieces: list[bytes]) -> tuple[bytes, bool]:
    scanner, passed = DetachKeys(keys), b""
    for piece in pieces:
        more, left = scanner.feed(piece)
        passed += more
        if left:
            return passed, True
    return passed + scanner.rest(), False


@pytest.mark.parametrize(
    ("keys", "typed", "passed", "left"),
    [
        (DEFAULT, b"hello", b"hello", False),
        (DEFAULT, b"\x10\x11", b"", True),
        (DEFAULT, b"ls\n\x10\x11rest", b"ls\n", True),
        (DEFAULT, b"\x10\x10\x11", b"\x10", True),
        (DEFAULT, b"\x10x\x11", b"\x10x\x11", False),
        (DEFAULT, b"\x10", b"\x10", False),
        (b"aab", b"aaab", b"a", True),
        (b"abab", b"abaabab", b"aba", True),
        (b"a", b"xyza", b"xyz", True),
    ],
)
def test_feed_split_anywhere(keys: bytes, typed: bytes, passed: bytes, left: bool) -> None:
    for first in range(len(typed) + 1):
        for second in range(first, len(typed) + 1):
            pieces = [typed[:first], typed[first:second], typed[second:]]
            assert run(keys, pieces) == (passed, left), pieces
