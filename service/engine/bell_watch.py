"""Waiting for what another process commits: inotify on the bell, one watch for all waiters of this process.

Nobody polls: a follower of events that waits a day costs nothing until something happens.
"""

import asyncio
import os

from service.kernel.inotify import CLOSE_WRITE, MODIFY, Inotify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from service.engine.engine import Engine


class Changes:
    """The watch on one bell. Begun at the first waiter, ended with the process."""

    def __init__(self, path: str) -> None:
        self.inotify = Inotify()
        self.inotify.watch(path, MODIFY | CLOSE_WRITE)
        self.waiting: set[asyncio.Future[None]] = set()
        self.loop = asyncio.get_running_loop()
        self.loop.add_reader(self.inotify.fd, self._rung)

    def _rung(self) -> None:
        self.inotify.drain()
        for future in list(self.waiting):
            if not future.done():
                future.set_result(None)

    def listen(self) -> "asyncio.Future[None]":
        """A future that is done at the next ring. Take it before looking into the store, or a ring may be missed."""
        future: asyncio.Future[None] = self.loop.create_future()
        self.waiting.add(future)
        future.add_done_callback(self.waiting.discard)
        return future

    async def until(self, condition: "Callable[[], bool]", seconds: float) -> bool:
        """Wait until `condition()` holds, looked at now and after every ring. False when `seconds` ran out first."""
        deadline = self.loop.time() + seconds
        while True:
            rung = self.listen()
            if condition():
                rung.cancel()
                return True
            left = deadline - self.loop.time()
            if left <= 0:
                rung.cancel()
                return False
            await asyncio.wait((rung,), timeout=None if left == float("inf") else left)
            if not rung.done():
                rung.cancel()


def changes(engine: "Engine") -> Changes:
    """The watch of this engine's bell."""
    watch: Changes | None = engine.watch
    if watch is None:
        if not os.path.exists(engine.settings.bell):
            engine.open()
        watch = engine.watch = Changes(engine.settings.bell)
    return watch
