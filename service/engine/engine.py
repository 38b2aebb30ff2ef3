"""The engine: settings, the store, and what only lives as long as this process.

Verbs are functions in the sibling modules, each taking the engine first. What several short-lived processes must agree
on is in the store; an attribute here is only for the connections that this process holds.
"""

import os

from service import bell, journal
from service.store.database import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from service.settings import Settings

    Result = TypeVar("Result")

# Some work goes at a client's pace (an archive that arrives, one that is read): a few slow clients must not keep a
# start or a list waiting. Threads are made when all others are busy; asyncio's own pool has six on a small machine.
_THREADS = 32


class Engine:
    """One per process. Cheap to make: directories and the database are made when `open` finds them missing."""

    def __init__(self, settings: "Settings") -> None:
        self.settings = settings
        self.store = Database(settings.database)
        self.attachments: dict[str, Any] = {}  # engine.attach: who waits for a container's streams, by container id
        self.held = 0  # work in flight that is not a request (see idle): pulls that outlive their client, …
        self.watch: Any = None  # engine.bell_watch: the one inotify watch of this process
        self.listed: dict[str, Any] = {}  # engine.container_list: what is known of records, by their text
        self.weighing: dict[frozenset[str], Any] = {}  # engine.system: uses of the disk that are being weighed
        self.prunes: dict[str, Any] = {}  # engine.prune: a lock for each kind
        self.removals: set[str] = set()  # containers that a client of this process is removing
        self.building: Any = None  # compat_api.buildkit: the sessions and builds of this process
        self.followers = 0  # clients that follow events now
        self.flusher: Any = None  # engine.flushing: what brings layers to the disk behind the answers
        self._threads: Any = None
        self._locks: dict[str, Any] = {}

    def open(self) -> None:
        """Make the directories that are missing. Nobody but root gets to containers' files: a program there may be
        set-user-ID, and would be root here as well."""
        for folder, mode in ((self.settings.root, 0o710), (self.settings.run, 0o711)):
            if not os.path.isdir(folder):
                os.makedirs(folder, mode)
        for name in ("containers", "volumes", "tmp"):
            _make(f"{self.settings.root}/{name}", 0o711 if name != "tmp" else 0o700)
        for name in ("containers", "exits", "netns"):
            _make(f"{self.settings.run}/{name}", 0o711)
        for folder in (self.settings.root, f"{self.settings.run}/containers"):
            if os.stat(folder).st_mode & 0o007:
                os.chmod(folder, 0o710)  # noqa: S103 - less than what it had; root alone is in the group
        bell.make(self.settings.bell)

    def log(self, message: str) -> None:
        """A line for the journal: the service's stderr."""
        journal.write("info", message)

    async def thread(self, work: "Callable[..., Result]", *arguments: "Any") -> "Result":
        """Run blocking work (a write to the store, a mount, a program) off the event loop."""
        import asyncio

        if self._threads is None:
            from concurrent.futures import ThreadPoolExecutor

            self._threads = ThreadPoolExecutor(_THREADS, "engine")
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*arguments))

    def lock(self, container_id: str) -> "Any":
        """The asyncio lock of one container: one verb at a time changes it (within this process)."""
        import asyncio

        return self._locks.setdefault(container_id, asyncio.Lock())

    def forget_lock(self, container_id: str) -> None:
        """The container is gone: so is its lock, unless somebody waits for it."""
        lock = self._locks.get(container_id)
        if lock is not None and not lock.locked():
            del self._locks[container_id]


def _make(path: str, mode: int) -> None:
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
