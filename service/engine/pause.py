"""pause, unpause: all processes of a container stand still, or go on.

A file in the container's run directory says that this is being changed: where the service was killed in between, nobody
knows what the kernel does and what the store says, and a container that stands still while it is said to run could
neither be let go on nor, with cgroup v1, be killed. The next service lets it go on. The runtime holds the container's
lock, too, for it may outlive the service that has asked it.
"""

import os

from service import bell
from service.engine import events, release
from service.errors import Conflict, MoorageError, NotFound, SystemFailure
from service.store import containers, health

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.engine.engine import Engine
    from service.settings import Settings
    from service.store.database import Database


async def pause(engine: "Engine", reference: str) -> None:
    """API: ContainerPause. Raises Conflict when it does not run or is paused already."""
    container = containers.find(engine.store, reference)
    status, container_id = container["state"]["status"], container["record"]["Id"]
    if status in ("running", "paused", "restarting"):
        await engine.thread(_pause, engine.settings, engine.store, container_id)
    else:
        raise Conflict(f"container {container_id} is not running")


def _pause(settings: "Settings", database: "Database", container_id: str) -> None:
    from service.runtime import runc

    with release.exclusively(settings, container_id) as lock:  # its end is recorded under this lock: not in between
        container = containers.get(database, container_id)
        status = container["state"]["status"]
        if status == "paused":
            raise Conflict(f"Container {container_id} is already paused")
        if status == "restarting":
            raise Conflict(f"Container {container_id} is restarting, wait until the container is running")
        if status != "running":
            raise Conflict(f"container {container_id} is not running")
        with _Mark(settings, container_id):
            try:
                runc.pause(settings, container_id, lock.fd)
            except (Conflict, NotFound, SystemFailure) as error:
                raise type(error)(f"cannot pause container {container_id}: {error.message}") from error
            with database.write():
                containers.set_state(database, container_id, status="paused")
                health.rest(database, container_id)
                events.container(database, container["record"], "pause")
    bell.ring(settings.bell)


async def unpause(engine: "Engine", reference: str) -> None:
    """API: ContainerUnpause. Raises Conflict when it is not paused."""
    container = containers.find(engine.store, reference)
    await engine.thread(resume, engine.settings, engine.store, container["record"]["Id"])


def resume(settings: "Settings", database: "Database", container_id: str, *, quietly: bool = False) -> None:
    """Let a paused container go on. Raises NotFound, or Conflict when it is not paused.

    `quietly`: only to die, so it is not said to run again.
    """
    from service.runtime import runc

    with release.exclusively(settings, container_id) as lock:  # as above
        container = containers.get(database, container_id)
        if container["state"]["status"] != "paused":
            raise Conflict(f"Container {container_id} is not paused")
        with _Mark(settings, container_id):
            try:
                runc.resume(settings, container_id, lock.fd)
            except (Conflict, SystemFailure) as error:
                raise type(error)(f"Cannot unpause container {container_id}: {error.message}") from error
            if quietly:
                return
            with database.write():
                containers.set_state(database, container_id, status="running")
                events.container(database, container["record"], "unpause")
    bell.ring(settings.bell)


def settle(settings: "Settings", database: "Database", container_id: str) -> None:
    """At start: let one go on whose file is there. Waits for the runtime, which outlives the service that asked it."""
    from service.runtime import runc

    with release.exclusively(settings, container_id) as lock:
        container = containers.get(database, container_id)
        status = container["state"]["status"]
        if status not in ("running", "paused"):
            return  # it has ended meanwhile, and the file with it
        with _Mark(settings, container_id):
            try:
                runc.resume(settings, container_id, lock.fd)
            except Conflict:
                pass  # it goes on already
            if status == "paused":
                with database.write():
                    containers.set_state(database, container_id, status="running")
                    events.container(database, container["record"], "unpause")
    bell.ring(settings.bell)


class _Mark:
    """`with _Mark(settings, id):` the file that says so."""

    def __init__(self, settings: "Settings", container_id: str) -> None:
        self.file = settings.container_run(container_id) + "/pausing"

    def __enter__(self) -> None:
        os.close(os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def __exit__(self, kind: "type[BaseException] | None", error: object, trace: object) -> None:
        if kind is None or issubclass(kind, MoorageError):  # else nobody knows what is true
            os.unlink(self.file)
