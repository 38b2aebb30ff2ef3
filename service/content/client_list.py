"""The list of files that a client told for a mirror, kept as it came: who tells the same again has changed nothing.

    <mirror>/list    a line with the boot, the bytes of all files together, and those of the list; then the list

It says that the tree is what the list says, so it is removed before anything is taken from another list, and written
when all of that is there. It counts in its boot only: nobody knows what a power cut has left. The bytes are nobody's
business here. Everything blocks.
"""

import contextlib
import os

from service.kernel import pidfd

_NAME = "/list"
MOST = 8 << 20  # bytes of a list that is kept; that of 5,000 files has half a million


def read(place: str) -> "tuple[int, bytes] | None":
    """The bytes of the tree's files, and the list by which the tree was made; None when nobody knows."""
    try:
        with open(place + _NAME, "rb") as file:
            head, told = file.readline(200).split(), file.read()
    except FileNotFoundError:
        return None
    if len(head) != 3 or head[0] != pidfd.boot_id().encode() or head[2] != b"%d" % len(told) or not head[1].isdigit():
        return None
    return int(head[1]), told


def forget(place: str) -> None:
    """To be called before the tree is changed."""
    try:
        os.unlink(place + _NAME)
    except FileNotFoundError:
        pass  # there was none


def keep(place: str, size: int, told: bytes) -> None:
    """The tree is what the list `told` says, with `size` bytes in files."""
    writing = place + _NAME + ".new"
    try:
        with open(writing, "wb") as file:
            file.write(f"{pidfd.boot_id()} {size} {len(told)}\n".encode() + told)
        os.rename(writing, place + _NAME)
    except OSError:  # no room: the files are looked at next time
        with contextlib.suppress(FileNotFoundError):
            os.unlink(writing)
