"""Ends that nobody tells of: the exit hook was killed, or the monitor (conmon) that would have run it.

`reconcile` finds what ended so while no service lived. While one lives it does the hook's work: before the event loop
(stage 0) by `Looks`, now and then as something is asked, and in the loop by `Watch`, which holds a pidfd of every
monitor: nobody polls, and whoever follows events or waits is told by the bell, as always.

A hook ends its monitor first and works then, under the container's lock, which it takes before. So where the processes
have ended, no hook has the lock and no end is recorded, nobody is left to do it.
"""

import os
import time

from service.engine import exec_exit, keeping, release
from service.engine import exit as ended
from service.errors import MoorageError, NotFound
from service.kernel import pidfd
from service.store import containers, execs

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio

    from service.engine.engine import Engine
    from service.store.database import Database

    Start = tuple[str, str, int]  # exec session, or "" for a container itself; container; its generation
    Processes = tuple[int, int, int, int]  # pid and start time of its first process, and of its monitor

MISGIVING = 2.0  # seconds without news after which it is looked whether anybody is left to bring them: the hook's time
_LOOKED = 1.0  # seconds for which a look is good, before the loop
_EVERY = 0.5  # seconds between two looks for what is new, in the loop: a burst of starts is one look


def _running(database: "Database") -> "dict[Start, Processes]":
    return {row[:3]: row[3:] for row in (*containers.monitored(database), *execs.monitored(database))}


def _see_to(engine: "Engine", one: "Start") -> None:
    """Do what is left of the exit hook's work, if anything is. Blocking: a hook that is just at it is waited for."""
    if one in _running(engine.store):
        _bury(engine, one)
    if containers.kept(engine.store):  # it may wait for its restart, and the hook not have come to call the keeper
        keeping.ensure(engine.settings, engine.store)


def _bury(engine: "Engine", one: "Start") -> None:
    exec_id, container_id, generation = one
    try:
        if exec_id:
            exec_exit.lost(engine.settings, engine.store, container_id, exec_id)
        else:
            ended.conclude(engine.settings, engine.store, container_id, generation)
    except NotFound:
        return  # `--rm`: it has removed itself
    except (MoorageError, OSError) as error:
        engine.log(f"end of {exec_id or container_id}: {error}")


class Looks:
    """Before the event loop: a look at all that is said to run, when something is asked."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self._last = time.monotonic()  # reconcile has just looked

    def look(self) -> None:
        """Look again, if the last time is long enough ago. Blocking: some microseconds for each that runs."""
        now = time.monotonic()
        if now - self._last < _LOOKED:
            return
        self._last = now
        settings, store = self.engine.settings, self.engine.store
        for one, (pid, start_time, monitor, monitor_start_time) in _running(store).items():
            if pidfd.is_alive(monitor, monitor_start_time) or pidfd.is_alive(pid, start_time):
                continue
            try:
                with release.exclusively(settings, one[1], wait=False):
                    containers.get(store, one[1])
            except (BlockingIOError, NotFound):
                continue  # its hook is at it, or was meanwhile
            _bury(self.engine, one)
        if containers.kept(store):
            keeping.ensure(settings, store)


class Watch:
    """In the event loop, from `begin` on as long as the process lasts."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self._watched: dict[Start, int] = {}  # the pidfd whose end is waited for; -1: it has ended, and is seen to
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Watch from now on."""
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name="monitors")

    async def _run(self) -> None:
        import asyncio

        from service.engine.bell_watch import changes

        watch = changes(self.engine)
        while True:
            rung = watch.listen()
            running = _running(self.engine.store)
            for one in [known for known, fd in self._watched.items() if known not in running and fd >= 0]:
                self._close(one)
            for one in running.keys() - self._watched.keys():
                self._follow(one, running[one])
            await rung
            await asyncio.sleep(_EVERY)

    def _follow(self, one: "Start", processes: "Processes") -> None:
        """Wait for the end of its monitor; where that was killed, for its own; then for news."""
        for pid, start_time in (processes[2:], processes[:2]):
            try:
                fd = pidfd.opened(pid) if pid else -1
            except ProcessLookupError:
                continue
            if fd >= 0 and pidfd.is_alive(pid, start_time):
                self._watched[one] = fd
                self._loop.add_reader(fd, self._ended, one, processes)
                return
            if fd >= 0:
                os.close(fd)
        self._watched[one] = -1
        self.engine.held += 1
        self._loop.call_later(MISGIVING, self._misgiving, one)

    def _ended(self, one: "Start", processes: "Processes") -> None:
        self._close(one)
        self._follow(one, processes)

    def _close(self, one: "Start") -> None:
        fd = self._watched.pop(one)
        self._loop.remove_reader(fd)
        os.close(fd)

    def _misgiving(self, one: "Start") -> None:
        seeing = self._loop.create_task(self.engine.thread(_see_to, self.engine, one), name="end of a monitor")
        seeing.add_done_callback(lambda _: self._seen_to(one))

    def _seen_to(self, one: "Start") -> None:
        self.engine.held -= 1
        del self._watched[one]  # where it could not be seen to, it is tried again at the next ring of the bell
