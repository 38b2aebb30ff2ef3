"""RUN of a build: a container that runs one command to its end, by the same launch path as every other.

The classic builder's containers are made by `create` and can be seen. BuildKit's cannot: `HiddenContainer` is such a
one; nobody is told of it, and the build's lease says who removes it when the build is killed.
"""

import asyncio
import contextlib

from service import bell, ids, timestamps
from service.engine import create, host_config, lifecycle, network_mode
from service.engine.bell_watch import changes
from service.errors import NotFound
from service.store import containers
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from typing import Any, TypeVar

    from service.engine.engine import Engine
    from service.engine.layers import Lease
    from service.model.container import ContainerRecord, MountPoint

    Result = TypeVar("Result")


async def ran(
    engine: "Engine", container_id: str, told: "Callable[[int, bytes], Awaitable[None]]"
) -> "tuple[int, str]":
    """Run a created container to its end; `told` takes what it writes (stream 1 or 2, bytes) and may hold it up.

    Its exit code, and why it did not start. Raises MoorageError when it cannot be started, NotFound when somebody has
    removed it meanwhile.
    """
    from service.engine import attach

    attachment, _ = await attach.attach(engine, container_id, stdin=False, stdout=True, stderr=True)
    try:
        await finished(lifecycle.start(engine, container_id))
        while pieces := await attachment.read():
            for stream, data in pieces:
                await told(stream, data)
        await changes(engine).until(lambda: not _runs(engine, container_id), float("inf"))
        state = containers.get(engine.store, container_id)["state"]
        return state["exit_code"], state["error"]
    finally:
        attachment.leave()


async def finished(work: "Coroutine[Any, Any, Result]") -> "Result":
    """Wait for work to its end, even when the build is given up meanwhile: what it made can be taken away then."""
    doing = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        while not doing.done():  # it may be given up by more than one
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait((doing,))
        if not doing.cancelled():
            doing.exception()  # seen
        raise


def _runs(engine: "Engine", container_id: str) -> bool:
    return containers.get(engine.store, container_id)["state"]["status"] in ("running", "paused")


class HiddenContainer:
    """The container of one RUN. `async with`: it is gone afterwards, whatever happened."""

    def __init__(
        self,
        engine: "Engine",
        lease: "Lease",
        *,
        layers: "Sequence[str]",
        config: "dict[str, Any]",
        host: "dict[str, Any]",
    ) -> None:
        """`layers`: directories of those below it, lowest first; `config`: Docker's ContainerConfig, whole; `host`: its
        HostConfig, as a request has it."""
        self.engine, self.lease = engine, lease
        self.layers, self.config, self.host = layers, config, host
        self.id = ids.new_id()
        self.mounts: list[MountPoint] = []
        self.secret_environment: list[str] = []  # files, one variable each

    @property
    def upper(self) -> str:
        """Where what it writes lies."""
        return self.engine.settings.container_root(self.id) + "/diff"

    async def __aenter__(self) -> "HiddenContainer":
        return self

    async def create(self) -> None:
        """Register it. Raises InvalidParameter for what cannot be run as asked."""
        await finished(self.engine.thread(self._create))

    def _create(self) -> None:
        from service.content import rootfs

        engine = self.engine
        host = host_config.complete({**self.host, "LogConfig": {"Type": "none", "Config": {}}}, [], config=self.config)
        command = self.config["Cmd"]
        record: ContainerRecord = {
            "Id": self.id,
            "Name": f"build {self.id}",  # no user's can be called so
            "Created": timestamps.now(),
            "Path": command[0],
            "Args": command[1:],
            "Image": "",
            "Config": self.config,
            "HostConfig": host,
            "EndpointsConfig": network_mode.wanted(engine.store, host, {}),
            "Mounts": sorted(self.mounts, key=lambda point: (point["Destination"].count("/"), point["Destination"])),
            "Layers": list(self.layers),
            "Platform": "linux",
            "Hidden": True,
            "Volatile": True,
            "SecretEnvironment": self.secret_environment,
        }
        rootfs.prepare(engine.settings, self.id)
        try:
            with engine.store.write():
                containers.insert(engine.store, record, timestamps.nanoseconds(record["Created"]))
                store.lease(engine.store, self.lease.owner, [create.LEASED + self.id], timestamps.now_ns())
        except BaseException:
            rootfs.remove(engine.settings, self.id)
            raise
        bell.ring(engine.settings.bell)

    async def __aexit__(self, *_: object) -> None:
        await finished(self._remove())

    async def _remove(self) -> None:
        try:
            await lifecycle.delete(self.engine, self.id, force=True, volumes=True, link=False)
        except NotFound:
            return  # it was never made
        await self.engine.thread(self._let_go)

    def _let_go(self) -> None:
        with self.engine.store.write():
            store.let_go(self.engine.store, self.lease.owner, create.LEASED + self.id)
