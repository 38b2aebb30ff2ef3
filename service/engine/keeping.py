"""The keeper is there when something needs it: started by whoever has just given it something to do.

Its lock is taken here and handed to it with the process, so no moment exists in which two could be started. A keeper
that leaves gives the lock back first and then looks into the store once more; we commit first and then look at the
lock: one of the two sees the other.

It may live for months, and the code be replaced meanwhile: then it is ended, which it can bear at any moment, and
another takes over.
"""

import fcntl
import os

from service import process
from service.kernel import pidfd
from service.settings import find_program
from service.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.settings import Settings
    from service.store.database import Database

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "keeper.py")
_KILL, _KILL_SECONDS = 9, 5.0
LOCK_FD = 3  # where the keeper finds its lock


def ensure(settings: "Settings", database: "Database") -> None:
    """Start the keeper if something needs it and none is there. Call after the commit and the ring of the bell."""
    if not containers.kept(database):
        return
    lock = os.open(settings.keeper_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if _free(lock) or (_outdated(settings, lock) and _free(lock)):
            os.ftruncate(lock, 0)
            # setsid forks, so that the keeper is nobody's child: a service that lives on would have to bury it
            argv = [find_program("setsid"), "-f", settings.python, "-I", "-S", PROGRAM]
            process.wait(
                process.spawn(argv, environment=settings.environment(), stderr=2, descriptors=[(lock, LOCK_FD)])
            )
    finally:
        os.close(lock)


def sign(lock: int) -> None:
    """Write into the lock who holds it, and of which code: part of the keeper's own start."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()} {_edition()}".encode(), 0)


def _free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # a keeper lives
    return True


def _edition() -> str:
    """Which code is installed: when a file of the folders that matter was last put in place or taken away."""
    home = os.path.dirname(PROGRAM)
    return " ".join(
        str(os.stat(home + part).st_mtime_ns) for part in ("", "/engine", "/store", "/kernel", "/runtime", "/network")
    )


def _outdated(settings: "Settings", lock: int) -> bool:
    """End the keeper if it was started from other code than is installed now. False if it is of today."""
    pid, _, edition = os.pread(lock, 4096, 0).decode().partition(" ")
    if not pid or edition == _edition() or not pidfd.is_running(int(pid), os.path.basename(settings.python)):
        return False  # nothing written: it is just being started
    pidfd.send_signal(int(pid), _KILL)
    return pidfd.wait_gone(int(pid), _KILL_SECONDS)
