"""The bell: one file that every process touches after it has committed something that others may wait for.

Waiters watch it with inotify (`engine.events`), so nobody polls and a ring with no listener costs one write.
"""

import posix


def make(path: str) -> None:
    """Make the file if it is missing."""
    posix.close(posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_CLOEXEC, 0o600))


def ring(path: str) -> None:
    """Tell whoever listens to look into the store. Call after the commit, never before."""
    fd = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
    try:
        posix.pwrite(fd, b"\n", 0)
    finally:
        posix.close(fd)
