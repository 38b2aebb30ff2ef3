"""Letting go of what a start took: runtime state, network, mounts. Idempotent, so whoever finds leftovers may call it.

`exclusively` is the lock under which a container is started or let go, held across processes (flock): the service, an
exit hook and the boot unit may meet over one container.
"""

import fcntl
import os
import time

from service.engine import endpoints, events, mount_sources
from service.errors import NotFound, SystemFailure
from service.kernel.tree import remove_tree
from service.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from service.model.container import Container
    from service.settings import Settings
    from service.store.database import Database


class exclusively:  # noqa: N801 - reads as a word in `with exclusively(...)`
    """`with exclusively(settings, id):` one process at a time. `wait=False`: raises BlockingIOError when it is held."""

    def __init__(self, settings: "Settings", container_id: str, *, wait: bool = True) -> None:
        self.path = settings.container_run(container_id) + ".lock"
        self.flags = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        self.fd = -1

    def __enter__(self) -> "exclusively":
        while True:
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self.fd, self.flags)
            except BaseException:
                os.close(self.fd)
                raise
            try:  # who held it before may have removed the file with the container: then this lock locks nothing
                if os.stat(self.path).st_ino == os.fstat(self.fd).st_ino:
                    return self
            except FileNotFoundError:
                pass
            os.close(self.fd)

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        if kind is NotFound:  # the container is gone, so is its lock
            remove_tree(self.path)
        os.close(self.fd)


def held(settings: "Settings", container_id: str) -> bool:
    """Whether somebody is at it right now."""
    try:
        with exclusively(settings, container_id, wait=False):
            return False
    except BlockingIOError:
        return True


def leftovers(settings: "Settings", database: "Database", container: "Container") -> None:
    """Let go of what an earlier start still holds, if anything. Call under `exclusively`."""
    if container["state"]["holds"]:
        everything(settings, database, container)


def everything(settings: "Settings", database: "Database", container: "Container") -> None:
    """Runtime state, network and mounts of a container that does not run (any more). Call under `exclusively`.

    Raises SystemFailure or OSError when something could not be let go of; `holds` then stays set.
    """
    from service.content import rootfs
    from service.runtime import runc, shm

    container_id = container["record"]["Id"]
    runc.delete(settings, container_id, force=True)
    _outlive(container["state"]["conmon_pid"], container["state"]["conmon_start"])
    endpoints.release(settings, database, container_id)
    rootfs.unmount(settings, container_id)
    shm.unmount(settings, container_id)
    mount_sources.release(settings, container_id)
    remove_tree(settings.container_run(container_id))
    with database.write():
        if containers.get(database, container_id)["state"]["holds"]:
            events.volumes(database, container["record"], "unmount")
        containers.set_state(database, container_id, holds=0, pid=0, conmon_pid=0)
    mount_sources.release_volumes(settings, database, container["record"])


def _outlive(conmon_pid: int, start_time: int) -> None:
    """Wait for conmon to end: it keeps the published ports' sockets. It has nothing left to do but end."""
    from service.kernel import pidfd

    deadline = time.monotonic() + 5.0
    while conmon_pid and pidfd.is_running(conmon_pid, "conmon", start_time):
        if time.monotonic() > deadline:
            raise SystemFailure(f"conmon {conmon_pid} does not end")
        pidfd.wait_gone(conmon_pid, 0.05, start_time)
