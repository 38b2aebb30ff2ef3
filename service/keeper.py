"""The keeper: one small process that does what must be done on time while the service sleeps (engine.duty), and waits
out the backoff of restart policies.

    keeper.py           started by engine.keeping, with its lock as descriptor 3

There is one while something needs it, and none otherwise. It sleeps until the bell rings or a timer is due. It may be
killed at any moment: what it knows stands in the store, and the service's next start, the next launch and the next exit
hook start another. Standard library only, and little of it: it may live as long as the machine.
"""

import os
import sys
import time

sys.path[:0] = [__file__.rpartition("/service/")[0]]  # -I leaves the script's folder out

import fcntl  # noqa: E402 - the path had to be set first

from service import journal, process  # noqa: E402 - as above
from service.engine import duty, exec_exit  # noqa: E402 - as above
from service.engine.keeping import LOCK_FD, sign  # noqa: E402 - as above
from service.errors import NotFound  # noqa: E402 - as above
from service.kernel import cgroup, pidfd  # noqa: E402 - as above
from service.kernel.inotify import CLOSE_WRITE, MODIFY  # noqa: E402 - as above
from service.kernel.loop import Loop  # noqa: E402 - as above
from service.settings import Settings  # noqa: E402 - as above
from service.store import containers  # noqa: E402 - as above
from service.store.database import Database  # noqa: E402 - as above

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from service.engine.duty import Duty
    from service.model.container import ContainerState

    Shared = TypeVar("Shared")

HOOK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "exit_hook.py")
RESTARTS_AT_ONCE = 8  # each is a process of its own, and a launch
RETRY = 1.0  # seconds until what failed is tried again: a restart whose process was killed, or all of it
STEADY = 10.0  # seconds; a container restarted less than that ago may soon need us again: we do not leave meanwhile


class Kept:
    """What is kept of one start of a container."""

    __slots__ = ("duties", "generation", "status")

    def __init__(self, generation: int, status: str) -> None:
        self.generation, self.status = generation, status
        self.duties: dict[str, Duty | None] = {}  # by name; None for one that could not be taken up


class Keeper:
    """`loop`, `settings` and `store` are the duties' to use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Database(settings.database, durable=False)
        self.loop = Loop(_complain)
        self._kept: dict[str, Kept] = {}
        self._shared: dict[object, Any] = {}
        self._waiting: dict[str, tuple[int, object]] = {}  # restarting containers: generation, timer
        self._starting: dict[str, int] = {}  # container → pid of the process that restarts it
        self._young: dict[str, float] = {}  # restarted lately: until when we stay for it
        self.loop.watch(settings.bell, MODIFY | CLOSE_WRITE, self.look)
        exec_exit.end_probes(self.store)  # of a keeper that was killed

    def run(self) -> None:
        """Do what is to be done until nothing is."""
        self.look()
        while self._needed():
            self.loop.run_once()

    def _needed(self) -> bool:
        return bool(self._kept or self._waiting or self._starting or self._young)

    def look(self) -> None:
        """See what has come, changed and gone since the last look."""
        # without the bell all of it was taken away: an open database would say for ever what it said last
        rows = containers.kept(self.store) if os.path.exists(self.settings.bell) else []
        seen = {row[0] for row in rows}
        for container_id in [known for known in self._kept if known not in seen]:
            self._end(container_id)
        for container_id in [known for known in self._waiting if known not in seen]:
            self.loop.cancel(self._waiting.pop(container_id)[1])
        for container_id, status, generation, duties, due in rows:
            if status == "restarting":
                self._end(container_id)
                self._wait(container_id, generation, due / 1e9)
            else:
                self._keep(container_id, status, generation, duties)
        for container_id in list(self._young):
            if container_id not in seen and not self._runs(container_id):
                self._forget(container_id)

    def _keep(self, container_id: str, status: str, generation: int, duties: str) -> None:
        kept = self._kept.get(container_id)
        if kept is not None and kept.generation != generation:
            self._end(container_id)
            kept = None
        if kept is None:
            kept = self._kept[container_id] = Kept(generation, status)
        elif kept.status != status:
            kept.status = status
            for each in kept.duties.values():
                if each is not None:
                    _guarded(each.changed, status)
        for name in duties.split():
            if name not in kept.duties:  # at its start; or later: it has joined its first network with names
                self._begin(kept, name, container_id)

    def _begin(self, kept: Kept, name: str, container_id: str) -> None:
        kept.duties[name] = None
        try:
            kept.duties[name] = duty.begin(name, self, containers.get(self.store, container_id))
        except NotFound:
            return  # the next look sees that it is gone
        except Exception as error:  # noqa: BLE001 - its other duties, and other containers, are kept all the same
            _complain(error)

    def shared(self, kind: "Callable[[Database], Shared]") -> "Shared":
        """What all duties of one kind use together, made for the first of them."""
        if kind not in self._shared:
            self._shared[kind] = kind(self.store)
        made: Shared = self._shared[kind]
        return made

    def _end(self, container_id: str) -> None:
        kept = self._kept.pop(container_id, None)
        for each in kept.duties.values() if kept else ():
            if each is not None:
                _guarded(each.end)

    # ── restarts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _wait(self, container_id: str, generation: int, due: float) -> None:
        known = self._waiting.get(container_id)
        if container_id in self._starting or (known and known[0] == generation):
            return
        if known:
            self.loop.cancel(known[1])
        timer = self.loop.at(due, lambda: self._restart(container_id))
        self._waiting[container_id] = (generation, timer)

    def _restart(self, container_id: str) -> None:
        """Have a process of its own start it: a launch takes more time and memory than we have."""
        generation, _ = self._waiting[container_id]
        if len(self._starting) >= RESTARTS_AT_ONCE:
            later = self.loop.at(time.monotonic() + 0.1, lambda: self._restart(container_id))
            self._waiting[container_id] = (generation, later)
            return
        del self._waiting[container_id]
        argv = [self.settings.python, "-I", "-S", HOOK, "restart", container_id]
        pid = process.spawn(argv, environment=self.settings.environment(), stderr=2)
        self._starting[container_id] = pid
        self.loop.child(pid, lambda code: self._restarted(container_id, code))

    def _restarted(self, container_id: str, code: int) -> None:
        del self._starting[container_id]
        state = self._state(container_id)
        if code and state and state["status"] == "running":  # it was killed, maybe before its last step
            self._waiting[container_id] = (state["generation"], None)
            self._restart(container_id)
        if code and state and state["status"] == "restarting":  # it was killed, or could not even begin
            timer = self.loop.at(time.monotonic() + RETRY, lambda: self._restart(container_id))
            self._waiting[container_id] = (state["generation"], timer)
        until = time.monotonic() + STEADY
        self._young[container_id] = until
        self.loop.at(until, lambda: self._forget(container_id))
        self.look()

    def _forget(self, container_id: str) -> None:
        if self._young.get(container_id, 0.0) <= time.monotonic() or not self._runs(container_id):
            self._young.pop(container_id, None)

    def _runs(self, container_id: str) -> bool:
        state = self._state(container_id)
        return state is not None and state["status"] in ("running", "paused", "restarting")

    def _state(self, container_id: str) -> "ContainerState | None":
        try:
            return containers.get(self.store, container_id)["state"]
        except NotFound:
            return None


def _guarded(call: "Callable[..., None]", *arguments: str) -> None:
    try:
        call(*arguments)
    except Exception as error:  # noqa: BLE001 - what one cannot do must not end the others
        _complain(error)


def _complain(error: BaseException) -> None:
    journal.failure("keeper", error)


def main() -> None:
    """Leave the control group of whoever started us, then keep."""
    settings = Settings()
    os.set_inheritable(LOCK_FD, False)
    sign(LOCK_FD)
    pidfd.adopt_orphans()  # probes, whose runtime leaves them to us
    process.allow_descriptors()  # questions on their way out, of every container, each with a socket
    os.chdir("/")
    cgroup.enter(cgroup.detect(), settings.monitors_group, os.getpid())
    keeper = None
    while True:
        try:
            keeper = keeper or Keeper(settings)
            keeper.run()
        except Exception as error:  # noqa: BLE001 - a full disk, say: containers rely on us, so it is tried again
            _complain(error)
            if not os.path.exists(settings.bell):
                return  # all of it was taken away
            time.sleep(RETRY)
            continue
        fcntl.flock(LOCK_FD, fcntl.LOCK_UN)
        if not os.path.exists(settings.bell) or not containers.kept(keeper.store):
            return
        try:  # something came while we left, and whoever brought it may have seen the lock held
            fcntl.flock(LOCK_FD, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another keeper has been started for it


if __name__ == "__main__":
    main()
