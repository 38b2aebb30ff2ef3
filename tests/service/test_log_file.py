"""The log as conmon writes it, read as Docker shows it: cut anywhere, grown, rotated."""

import os
import random
from pathlib import Path

import pytest

from service.runtime import log_file
from service.runtime.log_file import PIECE, LogFile


def record(stream: str, flag: str, text: bytes, second: int = 0) -> bytes:
    return f"2026-11-24T00:00:{second:02d}.000000000+00:00 {stream} {flag} ".encode() + text + b"\n"


def texts(log: LogFile) -> list[bytes]:
    found = []
    while batch := log.read():
        found += [text for _, _, text in batch]
    return found


def test_records_cut_anywhere(tmp_path: Path) -> None:
    whole = record("stdout", "P", b"one ") + record("stderr", "F", b"err") + record("stdout", "F", b"two")
    for cut in range(len(whole) + 1):
        path = tmp_path / "log"
        path.write_bytes(whole[:cut])
        log = LogFile(str(path))
        found = texts(log)
        with path.open("ab") as file:
            file.write(whole[cut:])
        assert found + texts(log) == [b"err\n", b"one two\n"], cut
        assert log.rest() == []
        log.close()


def test_a_line_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(record("stdout", "F", b"a") + record("stdout", "P", b"b"))
    log = LogFile(str(path))
    assert texts(log) == [b"a\n"]
    assert [text for _, _, text in log.rest()] == [b"b"]
    log.close()
    log = LogFile(str(path), whole_lines=False)
    assert texts(log) == [b"a\n", b"b"]
    log.close()


def test_tail_against_a_plain_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "_BATCH", 512)  # many batches of a small file
    drawn = random.Random(7)
    for _ in range(30):
        path = tmp_path / "log"
        lines = []
        for number in range(drawn.randrange(0, 120)):
            stream = drawn.choice(("stdout", "stderr"))
            parts = [
                b"%d-%d " % (number, part) * drawn.randrange(1, 4) for part in range(drawn.choice((1, 1, 1, 2, 3)))
            ]
            lines += [record(stream, "P", part) for part in parts[:-1]] + [record(stream, "F", parts[-1])]
        path.write_bytes(b"".join(lines))
        everything = LogFile(str(path))
        expected = texts(everything)
        everything.close()
        for count in (0, 1, 2, 7, 50, 119, 500):
            log = LogFile(str(path))
            log.skip_to_last(count, with_rest=True)
            assert texts(log) + [text for _, _, text in log.rest()] == expected[max(0, len(expected) - count) :]
            log.close()


def test_memory_of_a_line_without_end_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(record("stdout", "P", b"x" * 8192) for _ in range(200)))
    log = LogFile(str(path))
    found = texts(log)
    assert all(len(text) == PIECE for text in found)
    assert sum(map(len, found)) + sum(len(text) for _, _, text in log.rest()) == 200 * 8192
    log.close()


def test_rotation_and_truncation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(record("stdout", "F", b"old"))
    log = LogFile(str(path))
    assert texts(log) == [b"old\n"]
    (tmp_path / "new").write_bytes(record("stdout", "F", b"new"))
    os.replace(tmp_path / "new", path)
    assert texts(log) == [b"new\n"]
    path.write_bytes(b"")
    assert texts(log) == []
    with path.open("ab") as file:
        file.write(record("stdout", "F", b"again"))
    assert texts(log) == [b"again\n"]
    log.close()


def test_no_file_yet(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"))
    assert log.read() == []
    (tmp_path / "log").write_bytes(record("stdout", "F", b"x"))
    assert texts(log) == [b"x\n"]
    log.close()
