"""A container's log as conmon writes it, read as Docker shows it.

conmon (format k8s-file) writes one record per line of output, or per read of a line that is not finished:

    2026-11-24T00:16:30.609227692+00:00 stdout F a whole line
    2026-11-24T00:16:30.609227692+00:00 stderr P the beginning of a line

Docker's messages are lines, in pieces of 16 KiB where a line is longer (moby: daemon/logger/copier.go). `LogFile` gives
them in batches, from any start, over all the parts that rotation has made (see `log_parts`), and goes on where it
stopped when more was written. Memory stays bounded whatever the size of the log or of a line. What is open stays
readable though rotation removes it, so a slow reader loses nothing that was there when it began. Standard library only,
blocking.
"""

import os

from service import timestamps
from service.runtime import log_parts
from service.runtime.log_parts import PACKED, identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = tuple[int, bytes, bytes]  # stream (1 or 2), moment as conmon wrote it, bytes

PIECE = 16384  # bytes of the longest message
_BATCH = 262144  # bytes read at once
_STAMP = 35  # characters of conmon's moment: nanoseconds and an offset
_STREAMS = {b"stdout": 1, b"stderr": 2}
_AHEAD = 32  # parts held open before they are read
_MARGIN = 65536  # bytes before a moment that are read as well: lines that had begun by then
_CLOCK_NS = 1_000_000_000  # a file's time of change may be this much before the moment of its last record


class _Open:
    """One part, open for reading from its beginning. `live`: conmon may still write to it."""

    __slots__ = ("fd", "live", "number", "position", "unpack")

    def __init__(self, fd: int, number: int, *, packed: bool = False, live: bool = False) -> None:
        self.fd, self.number, self.live = fd, number, live
        self.position = 0  # bytes given so far
        self.unpack = _unpacker() if packed else None

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; empty at the end."""
        if self.unpack is None:
            data = os.read(self.fd, size)
        else:
            data = b""
            while not data and not self.unpack.eof:
                packed = self.unpack.unconsumed_tail or os.read(self.fd, 65536)
                data = self.unpack.decompress(packed, size)
                if not packed and not data:
                    break  # cut off: what could be unpacked was given
        self.position += len(data)
        return data

    def seek(self, position: int) -> None:
        """Go to an offset; a compressed part only to its beginning."""
        if self.unpack is not None:
            self.unpack, position = _unpacker(), 0
        self.position = os.lseek(self.fd, position, os.SEEK_SET)


class LogFile:
    """One reader of one log. `whole_lines` False gives every record at once, as a terminal would have shown it."""

    def __init__(self, path: str, *, whole_lines: bool = True) -> None:
        self.path = path
        self.whole_lines = whole_lines
        self._row: list[_Open] = []  # what is read now, and what comes after it
        self._counted: list[_Open] | None = None  # what was read only to count, and is to be read again
        self._after = 0  # parts up to this number are read
        self._until: tuple[int, int] | None = None  # (part, offset) where reading ends
        self._cut = b""  # the beginning of a record that conmon has not written to its end
        self._unfinished: dict[int, list[bytes]] = {}  # by stream: moment, then the parts of its line so far
        self._skip = 0

    # ── where to begin and to end ────────────────────────────────────────────────────────────────────────────────

    def skip_to_last(self, count: int, *, with_rest: bool) -> None:
        """Begin `count` messages before the present end. `with_rest`: a line without an end will count as one."""
        if not self._open():
            return
        start = self._start_of_last(count)
        self._begin_at(start)
        self._counted, seen = [], 0
        while data := self._data():
            seen += len(self._messages(data))
        if with_rest:
            seen += len(self._unfinished)
        self._cut, self._unfinished = b"", {}
        self._row, self._counted = self._counted + self._row, None
        self._begin_at(start)
        self._skip = max(0, seen - count)

    def skip_to(self, moment_ns: int) -> None:
        """Begin not long before a moment (nanoseconds since 1970); messages of before are still to be left out."""
        if not self._open():
            return
        number = self._row[-1].number
        for part in log_parts.listed(self.path):
            try:
                if os.stat(part.path).st_mtime_ns + _CLOCK_NS >= moment_ns:
                    number = min(number, part.number)
                    break
            except FileNotFoundError:
                continue
        self._begin_at((number, 0))
        if self._open() and self._row[0].unpack is None:
            fd = self._row[0].fd
            position = max(0, _first_at(fd, moment_ns) - _MARGIN)
            self._row[0].seek(_record_after(fd, position) if position else 0)

    def end_at_present(self) -> None:
        """What is written from now on is not read: a container that writes faster than its client reads has an end."""
        if self._open():
            live = _live(self.path, self._after)
            if live is not None:
                self._until = live.number, os.fstat(live.fd).st_size
                os.close(live.fd)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self) -> "list[Message]":
        """The next messages, about a quarter of a megabyte of them; empty when there are none now."""
        while data := self._data():
            messages = self._messages(data)
            if self._skip:
                skipped = min(self._skip, len(messages))
                self._skip -= skipped
                messages = messages[skipped:]
            if messages:
                return messages
        return []

    def settle(self) -> None:
        """Nothing to wait for: what conmon has written is there to be read."""

    def rest(self) -> "list[Message]":
        """Lines without an end: call it when nothing will be written any more."""
        left = [(stream, parts[0], b"".join(parts[1:])) for stream, parts in self._unfinished.items()]
        self._unfinished.clear()
        if self._skip:
            self._skip, left = max(0, self._skip - len(left)), left[self._skip :]
        return left

    def close(self) -> None:
        """Give the descriptors back."""
        while self._row:
            os.close(self._row.pop().fd)

    # ── the row of parts ─────────────────────────────────────────────────────────────────────────────────────────

    def _data(self) -> bytes:
        """The next bytes, of whichever part; empty at the end."""
        while self._open():
            part = self._row[0]
            room = _BATCH
            if self._until is not None:
                room = min(room, self._until[1] - part.position) if part.number == self._until[0] else room
                if room <= 0 or part.number > self._until[0]:
                    return b""
            # in this order: what was written before conmon went on to the next file is there to be read afterwards
            finished = not part.live or self._replaced(part)
            if data := part.read(room):
                return data
            if not finished:
                return b""
            self._after = part.number
            self._cut = b""
            del self._row[0]
            if self._counted is not None and len(self._counted) < _AHEAD:
                self._counted.append(part)
            else:
                os.close(part.fd)
        return b""

    def _open(self) -> bool:
        if not self._row:
            self._row = _row(self.path, self._after)
        return bool(self._row)

    def _begin_at(self, start: tuple[int, int]) -> None:
        """Go to an offset in a part (or to the beginning of the next one that is still there)."""
        number, position = start
        self._after = number - 1
        if not self._row or self._row[0].number != number or not _consecutive(self._row):
            self.close()
        if self._open():
            self._row[0].seek(position if self._row[0].number == number else 0)
        for part in self._row[1:]:
            part.seek(0)

    def _replaced(self, part: _Open) -> bool:
        """Whether conmon writes to another file by now (rotation). A file cut short is read from its beginning."""
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            return False
        mine = os.fstat(part.fd)
        if identity(now) != identity(mine):
            return True
        if mine.st_size < part.position:
            part.seek(0)
            self._cut = b""
        return False

    def _start_of_last(self, count: int) -> tuple[int, int]:
        """(part, offset) of a record's beginning, with at least `count` messages from there on if there are so many.

        Walks backwards; a whole batch more than needed is taken, so that lines whose beginning stands before the
        offset are not among the last ones.
        """
        live = _live(self.path, self._after)
        if live is None:
            return self._after + 1, 0
        ends, enough = 0, False
        behind = [part for part in log_parts.listed(self.path) if self._after < part.number < live.number]
        part: _Open | None = live
        number = live.number
        while part is not None:
            number = part.number
            try:
                if part.unpack is not None:
                    enough = ends > count
                    while data := part.read(_BATCH):
                        ends += _ends(data)
                else:
                    position = os.fstat(part.fd).st_size
                    while position > 0:
                        size = min(_BATCH, position)
                        position -= size
                        block = os.pread(part.fd, size, position)
                        enough = ends > count
                        ends += _ends(block)
                        if enough and position > 0:
                            return number, position + block.index(b"\n") + 1 if b"\n" in block else position + size
            finally:
                os.close(part.fd)
            part = None
            while behind and not enough and part is None:
                part = _opened(self.path, behind.pop().number)
        return number, 0

    # ── records ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _messages(self, data: bytes) -> "list[Message]":
        lines = (self._cut + data).split(b"\n")
        self._cut = lines.pop()
        messages: list[Message] = []
        for line in lines:
            stream = _STREAMS.get(line[_STAMP + 1 : _STAMP + 7])
            if stream is None:
                continue  # not a record: conmon was stopped in the middle of a write
            stamp, text = line[:_STAMP], line[_STAMP + 10 :]
            full = line[_STAMP + 8 : _STAMP + 9] == b"F"
            if not self.whole_lines:
                messages.append((stream, stamp, text + b"\n" if full else text))
            elif full and stream not in self._unfinished and len(text) < PIECE:
                messages.append((stream, stamp, text + b"\n"))
            else:
                self._join(messages, stream, stamp, text, full)
        return messages

    def _join(self, messages: "list[Message]", stream: int, stamp: bytes, text: bytes, full: bool) -> None:
        first, *parts = self._unfinished.pop(stream, [stamp])
        whole = b"".join(parts) + text
        while len(whole) >= PIECE and (len(whole) > PIECE or not full):
            messages.append((stream, first, whole[:PIECE]))
            whole = whole[PIECE:]
        if full:
            messages.append((stream, first, whole + b"\n"))
        elif whole:
            self._unfinished[stream] = [first, whole]


def _consecutive(row: "list[_Open]") -> bool:
    """Whether nothing was left out of a row, for want of descriptors."""
    return row[-1].number - row[0].number == len(row) - 1


def _unpacker() -> "Any":  # zlib gives its class no name
    import zlib

    return zlib.decompressobj(31)  # gzip's header and trailer


def _opened(log: str, number: int) -> "_Open | None":
    """An earlier part; None when it is not there any more."""
    plain = log_parts.part_path(log, number)
    for path in (plain, plain + PACKED, plain):  # compressed between two looks; or removed
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        return _Open(fd, number, packed=path != plain)
    return None


def _live(log: str, after: int) -> "_Open | None":
    """The file that conmon writes to, with the number that it will have as a part; None when there is no log.

    `after`: a number below which it cannot be.
    """
    while True:
        try:
            fd = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None  # nothing was ever written, or the container is gone
        mine = identity(os.fstat(fd))
        parts = log_parts.listed(log)
        number = max(parts[-1].number if parts else 0, after) + 1
        try:
            if parts and not parts[-1].packed and identity(os.stat(parts[-1].path)) == mine:
                number = parts[-1].number  # a rotation has begun
            if identity(os.stat(log)) == mine:
                return _Open(fd, number, live=True)
        except FileNotFoundError:
            pass  # a part was removed, or compressed: look again
        os.close(fd)


def _row(log: str, after: int) -> "list[_Open]":
    """The next parts, oldest first, opened; the last is the live one unless there are too many."""
    live = _live(log, after)
    if live is None:
        return []
    row: list[_Open] = []
    for listed in log_parts.listed(log):
        if after < listed.number < live.number and (part := _opened(log, listed.number)) is not None:
            row.append(part)
            if len(row) == _AHEAD:
                os.close(live.fd)
                return row
    return [*row, live]


def _ends(block: bytes) -> int:
    """How many messages end in a block of records: never more than there are, but for the one it was cut in."""
    count = 0
    unfinished: dict[bytes, int] = {}
    for line in block.split(b"\n"):
        stream = line[_STAMP + 1 : _STAMP + 7]
        if stream not in _STREAMS:
            continue
        if line[_STAMP + 8 : _STAMP + 9] == b"F":
            count += 1
            unfinished[stream] = 0
        else:
            pieces, unfinished[stream] = divmod(unfinished.get(stream, 0) + len(line) - _STAMP - 10, PIECE)
            count += pieces
    return count


def _first_at(fd: int, moment_ns: int) -> int:
    """The offset of the first record at or after a moment, found by halving; the end when there is none."""
    low, high = 0, os.fstat(fd).st_size
    while high - low > _MARGIN:
        middle = (low + high) // 2
        start = _record_after(fd, middle)
        stamp = os.pread(fd, _STAMP, start)
        try:
            earlier = timestamps.nanoseconds(stamp.decode("ascii", "replace")) < moment_ns
        except ValueError:
            earlier = False  # nothing that could be read: look before it
        if earlier and start < high:
            low = start
        else:
            high = middle
    return low


def _record_after(fd: int, position: int) -> int:
    """The offset where the first record after `position` begins; the end of the file when none does."""
    while block := os.pread(fd, _MARGIN, position):
        at = block.find(b"\n")
        if at >= 0:
            return position + at + 1
        position += len(block)
    return position
