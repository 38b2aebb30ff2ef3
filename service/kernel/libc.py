"""The C library's calls that Python has no name for. Each raises OSError with the path concerned.

`ctypes` is imported at the first call: a process that mounts nothing never pays for it (about 6 ms).
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_loaded: "list[Any]" = []


def libc() -> "Any":
    """The C library of this process, with errno kept per thread."""
    if not _loaded:
        import ctypes

        _loaded.append(ctypes.CDLL(None, use_errno=True))
    return _loaded[0]


def check(result: int, *paths: str) -> int:
    """`result`, unless it is negative: then OSError from errno, naming up to two paths."""
    if result >= 0:
        return result
    import ctypes

    number = ctypes.get_errno()
    if not paths:
        raise OSError(number, os.strerror(number))
    raise OSError(number, os.strerror(number), paths[0], None, *paths[1:2])


def syscall(number: int, *arguments: "Any") -> int:
    """A system call by number, for those without a wrapper in the C library (the numbers of openat2 and later are
    the same on every architecture)."""
    import ctypes

    widened = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return int(libc().syscall(ctypes.c_long(number), *widened))
