"""The log as conmon writes it, read as Docker shows it: cut anywhere, grown, rotated."""

import os
import random
from pathlib import Path

import pytest

from service.runtime import log_file, log_parts, log_rotation
from service.runtime.log_file import PIECE, LogFile
from service.timestamps import nanoseconds


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


def test_the_end_of_a_line_without_end_is_found_from_behind(tmp_path: Path) -> None:
    """A progress bar that never sends a newline: its last pieces are had without reading the gigabyte before."""
    path = tmp_path / "log"
    texts_written = [b"%07d" % number * 300 for number in range(20_000)]
    path.write_bytes(b"".join(record("stdout", "P", text) for text in texts_written))
    log = LogFile(str(path))
    log.end_at_present()
    log.skip_to_last(3, with_rest=True)
    assert os.lseek(log._row[0].fd, 0, os.SEEK_CUR) > path.stat().st_size - 4 * log_file._BATCH
    found = texts(log) + [text for _, _, text in log.rest()]
    assert len(found) == 3
    assert b"".join(texts_written).endswith(b"".join(found))
    log.close()


# ── over the parts that rotation makes ───────────────────────────────────────────────────────────────────────────────


class Written:
    """A log as conmon and the rotation make it, step by step, and what was written so far."""

    def __init__(self, folder: Path, seed: int) -> None:
        folder.mkdir()
        self.path = folder / "ctr.log"
        self.path.touch()
        self.drawn = random.Random(seed)
        self.count = 0
        self.begun = False

    def write(self, lines: int) -> None:
        with self.path.open("ab") as file:
            for _ in range(lines):
                parts = [b"%d " % self.count] + [b"more "] * self.drawn.choice((0, 0, 0, 1, 2))
                second = self.count % 60
                for part in parts[:-1]:
                    file.write(record("stdout", "P", part, second))
                file.write(record("stdout", "F", parts[-1], second))
                self.count += 1

    def begin(self) -> None:
        """The part gets its name; conmon still writes to it."""
        listed = log_parts.listed(str(self.path))
        os.link(self.path, log_parts.part_path(str(self.path), listed[-1].number + 1 if listed else 1))
        self.begun = True

    def finish(self) -> None:
        """conmon goes on in a new file."""
        Path(f"{self.path}.tmp").touch()
        os.rename(f"{self.path}.tmp", self.path)
        self.begun = False

    def pack(self) -> None:
        for part in log_parts.listed(str(self.path))[: -1 if self.begun else None]:
            if not part.packed and self.drawn.random() < 0.5:
                log_rotation._pack(part.path)

    def step(self) -> None:
        """Anything that can happen next."""
        action = self.drawn.randrange(5)
        if action < 2:
            self.write(self.drawn.randrange(12))
        elif action == 2 and not self.begun:
            self.begin()
        elif action == 3 and self.begun:
            self.finish()
        elif action == 4:
            self.pack()


def numbers(found: list[bytes]) -> list[int]:
    return [int(text.split()[0]) for text in found]


@pytest.mark.parametrize("seed", range(20))
def test_a_reader_follows_over_rotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(log_file, "_BATCH", 256)
    monkeypatch.setattr(log_file, "_AHEAD", 2)
    before = len(os.listdir("/proc/self/fd"))
    written = Written(tmp_path / "c", seed)
    follower = LogFile(str(written.path))
    found: list[bytes] = []
    for _ in range(120):
        written.step()
        if written.drawn.random() < 0.5:
            found += [text for _, _, text in follower.read()]  # sometimes far behind, by many rotations
    found += texts(follower)
    assert numbers(found) == list(range(written.count))
    follower.close()
    late = LogFile(str(written.path))
    assert texts(late) == found
    late.close()
    for count in (0, 1, 3, 17, 60, 10_000):
        log = LogFile(str(written.path))
        log.end_at_present()
        log.skip_to_last(count, with_rest=True)
        assert texts(log) == found[max(0, len(found) - count) :]
        log.close()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_what_is_removed_while_it_is_read_was_there_to_be_read(tmp_path: Path) -> None:
    written = Written(tmp_path / "c", 1)
    for _ in range(5):
        written.write(10)
        written.begin()
        written.finish()
    written.write(10)
    log = LogFile(str(written.path))
    found = [text for _, _, text in log.read()]
    for part in log_parts.listed(str(written.path)):
        os.unlink(part.path)
    assert numbers(found + texts(log)) == list(range(60))
    log.close()


def test_the_end_is_where_it_was_at_the_beginning(tmp_path: Path) -> None:
    written = Written(tmp_path / "c", 2)
    written.write(10)
    log = LogFile(str(written.path))
    log.end_at_present()
    written.write(5)
    written.begin()
    written.finish()
    written.write(5)
    assert numbers(texts(log)) == list(range(10))
    log.close()


def test_a_moment_is_found_without_reading_what_is_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ctr.log"
    lines = [
        f"2026-11-24T{n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}.000000000+00:00 stdout F {n} {'x' * 90}\n"
        for n in range(50_000)
    ]
    path.write_text("".join(lines))
    for second in (0, 1, 25_000, 49_999, 60_000):
        moment = nanoseconds(f"2026-11-24T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z")
        log = LogFile(str(path))
        log.skip_to(moment)
        found = numbers(texts(log))
        assert found == list(range(found[0], 50_000))
        assert found[0] <= second
        assert min(second, 49_999) - found[0] < 3000
        log.close()
