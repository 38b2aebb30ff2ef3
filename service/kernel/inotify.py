"""inotify(7): being told when a file changes."""

import os
import sys

from service.kernel.libc import check, libc

# include/uapi/linux/inotify.h
MODIFY = 0x00000002
CLOSE_WRITE = 0x00000008
MOVED_FROM = 0x00000040
MOVED_TO = 0x00000080
CREATE = 0x00000100
DELETE = 0x00000200
DELETE_SELF = 0x00000400
MOVE_SELF = 0x00000800
ONESHOT = 0x80000000  # the watch is gone after its first event
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC


class Inotify:
    """One inotify instance; `fd` becomes readable when something watched has changed."""

    def __init__(self) -> None:
        self.fd = check(libc().inotify_init1(_NONBLOCK_CLOEXEC))

    def watch(self, path: str, mask: int) -> int:
        """Watch a path; the watch descriptor. Raises OSError (ENOENT, ENOSPC when the user's watches are used up)."""
        return check(libc().inotify_add_watch(self.fd, os.fsencode(path), mask), path)

    def unwatch(self, watch: int) -> None:
        """End a watch. Harmless when it has ended with its file."""
        libc().inotify_rm_watch(self.fd, watch)

    def changed(self) -> set[int]:
        """Take what is there to read; the watch descriptors concerned."""
        found: set[int] = set()
        while True:
            try:
                piece = os.read(self.fd, 65536)
            except BlockingIOError:
                return found
            at = 0
            while at < len(piece):  # struct inotify_event: wd, mask, cookie, len; then len bytes of name
                found.add(int.from_bytes(piece[at : at + 4], sys.byteorder, signed=True))
                at += 16 + int.from_bytes(piece[at + 12 : at + 16], sys.byteorder)

    def drain(self) -> bool:
        """Take what is there to read; whether there was anything."""
        any_read = False
        while True:
            try:
                if not os.read(self.fd, 65536):
                    return any_read
            except BlockingIOError:
                return any_read
            any_read = True

    def close(self) -> None:
        """Give the instance back."""
        os.close(self.fd)
