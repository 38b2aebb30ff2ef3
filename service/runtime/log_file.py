"""A container's log as conmon writes it, read as Docker shows it.

conmon (format k8s-file) writes one record per line of output, or per read of a line that is not finished:

    2026-11-24T00:16:30.609227692+00:00 stdout F a whole line
    2026-11-24T00:16:30.609227692+00:00 stderr P the beginning of a line

Docker's messages are lines, in pieces of 16 KiB where a line is longer (moby: daemon/logger/copier.go). `LogFile` gives
them in batches, from any start, and goes on where it stopped when more was written; memory stays bounded whatever the
size of the log or of a line. Standard library only, blocking.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    Message = tuple[int, bytes, bytes]  # stream (1 or 2), moment as conmon wrote it, bytes

PIECE = 16384  # bytes of the longest message
_BATCH = 262144  # bytes read at once
_STAMP = 35  # characters of conmon's moment: nanoseconds and an offset
_STREAMS = {b"stdout": 1, b"stderr": 2}


class LogFile:
    """One reader of one log. `whole_lines` False gives every record at once, as a terminal would have shown it."""

    def __init__(self, path: str, *, whole_lines: bool = True) -> None:
        self.path = path
        self.whole_lines = whole_lines
        self._fd = -1
        self._cut = b""  # the beginning of a record that conmon has not written to its end
        self._unfinished: dict[int, list[bytes]] = {}  # by stream: moment, then the parts of its line so far
        self._skip = 0

    def read(self) -> "list[Message]":
        """The next messages, about a quarter of a megabyte of them; empty when there are none now."""
        while True:
            if self._fd < 0 and not self._open():
                return []
            data = os.read(self._fd, _BATCH)
            if not data:
                if not self._replaced():
                    return []
                continue
            messages = self._messages(data)
            if self._skip:
                skipped = min(self._skip, len(messages))
                self._skip -= skipped
                messages = messages[skipped:]
            if messages:
                return messages

    def rest(self) -> "list[Message]":
        """Lines without an end: call it when nothing will be written any more."""
        left = [(stream, parts[0], b"".join(parts[1:])) for stream, parts in self._unfinished.items()]
        self._unfinished.clear()
        if self._skip:
            self._skip, left = max(0, self._skip - len(left)), left[self._skip :]
        return left

    def skip_to_last(self, count: int, *, with_rest: bool) -> None:
        """Begin `count` messages before the present end. `with_rest`: a line without an end will count as one."""
        if not self._open():
            return
        start = _start_of_last(self._fd, count)
        os.lseek(self._fd, start, os.SEEK_SET)
        seen = 0
        while data := os.read(self._fd, _BATCH):
            seen += len(self._messages(data))
        if with_rest:
            seen += len(self._unfinished)
        self._cut, self._unfinished = b"", {}
        os.lseek(self._fd, start, os.SEEK_SET)
        self._skip = max(0, seen - count)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> bool:
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False  # nothing was ever written, or the container is gone
        return True

    def _replaced(self) -> bool:
        """At the end: whether conmon has begun a new file (rotation); then that one is read on."""
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            return False
        mine = os.fstat(self._fd)
        if (now.st_ino, now.st_dev) == (mine.st_ino, mine.st_dev):
            if now.st_size >= os.lseek(self._fd, 0, os.SEEK_CUR):
                return False
            os.lseek(self._fd, 0, os.SEEK_SET)  # it was truncated
        else:
            self.close()
        self._cut = b""
        return True

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


def _start_of_last(fd: int, count: int) -> int:
    """An offset where a record begins, with at least `count` messages from there to the end if the file has so many.

    Walks backwards; a whole batch more than needed is taken, so that lines whose beginning stands before the offset
    are not among the last ones.
    """
    position = os.fstat(fd).st_size
    ends = 0
    while position > 0:
        size = min(_BATCH, position)
        position -= size
        block = os.pread(fd, size, position)
        enough = ends > count
        ends += sum(1 for line in block.split(b"\n") if line[_STAMP + 8 : _STAMP + 9] == b"F")
        if enough and position > 0:
            return position + block.index(b"\n") + 1 if b"\n" in block else position + size
    return 0
