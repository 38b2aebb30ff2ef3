"""openat2(2): open a path inside a directory that nothing on the way can lead out of."""

import os
import stat

from service.kernel.libc import check, syscall

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
_SYS_OPENAT2 = 437
_EFBIG = 27


def open_in_root(root: str, path: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of `path` resolved with `root` as the root directory, for symbolic links and `..` as well.

    Nothing inside `root` (a container's file system, which its owner writes) can lead outside of it.
    Raises OSError as open(2) does.
    """
    return _open(root, path, flags, RESOLVE_IN_ROOT)


def open_beneath(root: str, path: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of `path` below `root`. Raises OSError as open(2) does; EXDEV when anything on the way leads out."""
    return _open(root, path, flags, RESOLVE_BENEATH)


def open_below(directory: int, path: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of `path` below an open directory, no part of which is a symbolic link.

    Raises OSError as open(2) does; ELOOP for a link, EXDEV for `..` that leads out.
    """
    return _open_at(directory, path, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)


def _open(root: str, path: str, flags: int, resolve: int) -> int:
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _open_at(directory, path.lstrip("/") or ".", flags, resolve)
    finally:
        os.close(directory)


def _open_at(directory: int, path: str, flags: int, resolve: int) -> int:
    import ctypes

    how = (ctypes.c_uint64 * 3)(flags | os.O_CLOEXEC, 0, resolve | RESOLVE_NO_MAGICLINKS)
    name = ctypes.c_char_p(os.fsencode(path))
    return check(syscall(_SYS_OPENAT2, directory, name, ctypes.byref(how), ctypes.sizeof(how)), path)


def read_in_root(root: str, path: str, most: int = 1 << 24) -> bytes:
    """What a file inside `root` holds; empty for what is no regular file (a device may have no end, a fifo no writer).

    Raises OSError; EFBIG when it holds more than `most` bytes.
    """
    for flags in (os.O_PATH, os.O_RDONLY | os.O_NONBLOCK):  # a device is not even opened, unless it came just now
        fd = open_in_root(root, path, flags)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return b""
        if flags == os.O_PATH:
            os.close(fd)
    with open(fd, "rb") as file:
        text = file.read(most + 1)
    if len(text) > most:
        raise OSError(_EFBIG, os.strerror(_EFBIG), path)
    return text
