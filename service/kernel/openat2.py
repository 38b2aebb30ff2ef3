"""openat2(2): open a path inside a directory that nothing on the way can lead out of."""

import os

from service.kernel.libc import check, syscall

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
_SYS_OPENAT2 = 437


def open_in_root(root: str, path: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of `path` resolved with `root` as the root directory, for symbolic links and `..` as well.

    Nothing inside `root` (a container's file system, which its owner writes) can lead outside of it.
    Raises OSError as open(2) does.
    """
    return _open(root, path, flags, RESOLVE_IN_ROOT)


def open_beneath(root: str, path: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of `path` below `root`. Raises OSError as open(2) does; EXDEV when anything on the way leads out."""
    return _open(root, path, flags, RESOLVE_BENEATH)


def _open(root: str, path: str, flags: int, resolve: int) -> int:
    import ctypes

    how = (ctypes.c_uint64 * 3)(flags | os.O_CLOEXEC, 0, resolve | RESOLVE_NO_MAGICLINKS)
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        name = ctypes.c_char_p(os.fsencode(path.lstrip("/") or "."))
        return check(syscall(_SYS_OPENAT2, directory, name, ctypes.byref(how), ctypes.sizeof(how)), path)
    finally:
        os.close(directory)


def read_in_root(root: str, path: str) -> bytes:
    """What a file inside `root` holds. Raises OSError; never blocks on a fifo that stands there instead."""
    fd = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        return file.read()
