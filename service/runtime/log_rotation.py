"""Rotation of container logs by size, by whoever watches them while a container runs (the keeper).

conmon knows one file. What it can be asked (its ctl fifo) is to go on in a new one: it opens `ctr.log.tmp` and renames
that to `ctr.log`, between two writes. So a rotation is

    ctr.log.tmp is made           then conmon's open cannot fail for want of space (it would end, and with it the log)
    link ctr.log ctr.log.000007   from now on the rotation is under way, for everybody who looks
    conmon is asked               and does it; until then all goes on into the same file, under both names
    what is too old is removed    max-file counts ctr.log itself
    what is left is compressed    when that was asked for; in a thread, for it takes half a second per 20 MB

Every step leaves names that say how far it came, so it can be cut off anywhere: the next look goes on, and no byte is
ever in no file. A container that ends in the middle keeps one file with two names, and its next start goes on there.

Nobody polls: who rotates waits for a write (inotify, one event), and then leaves the log alone for as long as it needs
to fill at its present rate, within bounds.
"""

import _thread
import os
import time

from service import journal
from service.errors import Conflict
from service.runtime import conmon, log_parts
from service.runtime.log_parts import NEXT, PACKED, Limits, identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.settings import Settings

LEAST, MOST = 0.02, 1.0  # seconds between two looks at a log that is written to
_ASK_AGAIN = 2.0  # seconds after which conmon is asked once more, if the request is not in its fifo any more
_BLOCK = 262144  # bytes compressed at once


class Rotation:
    """One running container's log. `look` does what is due, and says when to look again."""

    def __init__(self, settings: "Settings", container_id: str, limits: Limits) -> None:
        self.settings, self.container_id, self.limits = settings, container_id, limits
        self.log = settings.container_log(container_id)
        self.packing = False
        self._asked = 0.0  # when conmon was asked for the rotation that is under way; 0: it was not, by us
        self._seen = (time.monotonic(), 0)  # the last look, and the size then
        self._left_alone = LEAST

    def look(self) -> "tuple[float, bool]":
        """One step. Returns (seconds to leave the log alone, whether it then needs looking at without a write)."""
        try:
            current = os.stat(self.log)
        except FileNotFoundError:
            return MOST, False  # the container is just going
        parts = log_parts.listed(self.log)
        if self._under_way(parts, current):
            return self._ask_later()
        self._asked = 0.0
        self._tidy(parts)
        if current.st_size >= self.limits.max_size:
            self._begin(parts[-1].number + 1 if parts else 1)
            return self._ask()
        return self._pace(current.st_size), False

    def _under_way(self, parts: "list[log_parts.Part]", current: os.stat_result) -> bool:
        if not parts or parts[-1].packed:
            return False
        try:
            return identity(os.stat(parts[-1].path)) == identity(current)
        except FileNotFoundError:
            return False  # it was compressed just now, so it was finished

    def _begin(self, number: int) -> None:
        os.close(os.open(self.log + NEXT, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.link(self.log, log_parts.part_path(self.log, number))

    def _ask(self) -> "tuple[float, bool]":
        try:
            conmon.reopen_log(self.settings, self.container_id)
        except Conflict:
            return MOST, False  # the container has ended
        self._asked = time.monotonic()
        return LEAST, True

    def _ask_later(self) -> "tuple[float, bool]":
        """conmon was asked, perhaps by one who was killed then. Asked twice it would begin two files, and the first
        would lose its name: so it is asked again only when it can be told that it has not got the request."""
        now = time.monotonic()
        if not self._asked:
            self._asked = now
        if now - self._asked < _ASK_AGAIN or conmon.is_being_told(self.settings, self.container_id):
            return min(MOST, max(LEAST, now - self._asked)), True
        return self._ask()

    def _pace(self, size: int) -> float:
        """Half of what it takes to fill up at the present rate, and never more than twice the last pause: a log that
        was quiet for long may be at the beginning of a flood."""
        now = time.monotonic()
        (then, before), self._seen = self._seen, (now, size)
        if now - then > 2 * self._left_alone or size <= before:
            self._left_alone = LEAST
        else:
            filled_in = (self.limits.max_size - size) * (now - then) / (size - before)
            self._left_alone = min(MOST, 2 * self._left_alone, max(LEAST, filled_in / 2))
        return self._left_alone

    def _tidy(self, parts: "list[log_parts.Part]") -> None:
        kept = self.limits.max_files - 1
        for part in parts[:-kept]:
            for path in (part.path, log_parts.part_path(self.log, part.number)):
                _remove(path)
        if self.limits.compress and not self.packing and not all(part.packed for part in parts[-kept:]):
            self.packing = True
            _thread.start_new_thread(self.pack, ())

    def pack(self) -> None:
        """Compress what is not compressed yet. Blocks; `packing` says that it goes on."""
        try:
            os.setpriority(os.PRIO_PROCESS, _thread.get_native_id(), 10)
            for part in log_parts.listed(self.log):
                if not part.packed and not self._under_way([part], os.stat(self.log)):
                    _pack(part.path)
        except FileNotFoundError:
            pass  # the container is being removed
        except OSError as error:  # no space: the part stays as it is, and is tried again after the next rotation
            journal.write("warning", f"{self.container_id}: a part of the log is not compressed: {error}")
        finally:
            self.packing = False


def _pack(path: str) -> None:
    import zlib

    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(path + PACKED + NEXT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            squeeze = zlib.compressobj(6, zlib.DEFLATED, 31)  # 31: gzip's header and trailer around it
            with open(target, "wb", closefd=False) as file:
                while data := os.read(source, _BLOCK):
                    file.write(squeeze.compress(data))
                file.write(squeeze.flush())
            status = os.fstat(source)
            os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))  # readers go by the moment of the last record
            os.fsync(target)  # a power cut must not leave an empty file in the place of a whole one
        except BaseException:
            _remove(path + PACKED + NEXT)
            raise
        finally:
            os.close(target)
        os.rename(path + PACKED + NEXT, path + PACKED)
        _remove(path)
    finally:
        os.close(source)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # somebody was faster, or it was never there
