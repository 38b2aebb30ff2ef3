"""Taking away a folder whose owners may still be tidying up themselves."""

import shutil
from collections.abc import Callable


def remove(path: str) -> None:
    """Remove a folder with all that is in it. What somebody else removes meanwhile is no error.

    SQLite does so: its last connection takes `-shm` and `-wal` along when it is closed, and a thread's connection is
    closed when the thread ends.
    """
    shutil.rmtree(path, onerror=_unless_gone)


def _unless_gone(function: Callable[..., object], path: str, error: tuple[object, BaseException, object]) -> None:
    del function, path
    if not isinstance(error[1], FileNotFoundError):
        raise error[1]
