"""The keeper is there when something needs it: started by whoever has just given it something to do.

Its lock is taken here and handed to it with the process, so no moment exists in which two could be started. A keeper
that leaves gives the lock back first and then looks into the store once more; we commit first and then look at the
lock: one of the two sees the other.
"""

import fcntl
import os

from service import process
from service.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.settings import Settings
    from service.store.database import Database

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "keeper.py")
LOCK_FD = 3  # where the keeper finds its lock


def ensure(settings: "Settings", database: "Database") -> None:
    """Start the keeper if something needs it and none is there. Call after the commit and the ring of the bell."""
    if not containers.kept(database):
        return
    lock = os.open(settings.keeper_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        argv = [settings.python, "-I", "-S", PROGRAM]
        process.spawn(argv, environment=settings.environment(), stderr=2, descriptors=[(lock, LOCK_FD)])
    except BlockingIOError:
        return  # one lives
    finally:
        os.close(lock)
