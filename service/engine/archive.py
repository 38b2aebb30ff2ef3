"""`cp` and `export`: a container's files out and in as a tar (API: ContainerArchive…, PutContainerArchive, …Export).

The work itself is done by a program of its own (`service/container_files.py`), which sees the container's files only.
"""

import os

from service import bell
from service.engine import events, release
from service.engine.files_process import FilesProcess, Missing, NotTaken
from service.errors import Conflict, MoorageError, NotFound
from service.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType

    from service.container_files import Job, PathStat
    from service.content.view import Bind, View
    from service.engine.engine import Engine
    from service.kernel.fstab import Device
    from service.model.container import Container, ContainerRecord, MountPoint
    from service.settings import Settings

_UP = ("running", "paused")
_TELLING = 10  # bytes at the beginning of a tar that tell whether it is compressed


async def stat(engine: "Engine", reference: str, path: str) -> "PathStat":
    """What is at `path`. Raises NotFound for the container or the path, SystemFailure for what cannot be looked at."""
    container = containers.find(engine.store, reference)
    job: Job = {"do": "stat", "view": await engine.thread(_view, engine, container), "path": path}
    async with FilesProcess(engine, job) as program:
        found = await _found(program, path, reference)
    if _has_volumes(container):
        await engine.thread(_announce, engine, container, "")
        await engine.thread(_unmounted, engine, container)
    return found


async def archive(engine: "Engine", reference: str, path: str) -> "tuple[PathStat, FilesProcess]":
    """What is at `path`, and its tar. Raises as `stat` does."""
    container = containers.find(engine.store, reference)
    job: Job = {"do": "archive", "view": await engine.thread(_view, engine, container), "path": path}
    program = await FilesProcess(engine, job).begin()
    try:
        found = await _found(program, path, reference)
        await engine.thread(_announce, engine, container, "archive-path")
        program.at_close = lambda: engine.thread(_unmounted, engine, container)
    except BaseException:
        await program.aclose()
        raise
    return found, program


async def _found(program: FilesProcess, path: str, reference: str) -> "PathStat":
    try:
        found: PathStat = (await program.answer())["stat"]
    except Missing:
        raise _not_found(path, reference) from None
    return found


def _not_found(path: str, reference: str) -> NotFound:
    return NotFound(f"Could not find the file {path} in container {reference}")


async def export(engine: "Engine", reference: str) -> FilesProcess:
    """The whole root file system as a tar. Raises NotFound, or Conflict for a container that is going."""
    container = containers.find(engine.store, reference)
    container_id, status = container["record"]["Id"], container["state"]["status"]
    if status == "dead":
        raise Conflict(f"You cannot export container {container_id} which is Dead")
    if status == "removing":
        raise Conflict(f"You cannot export container {container_id} which is being removed")

    async def told() -> None:
        await engine.thread(_announce, engine, container, "export")

    job: Job = {"do": "export", "view": _root_view(engine.settings, container["record"]), "path": "/"}
    program = await FilesProcess(engine, job, at_end=told).begin()
    try:
        await program.answer()
    except MoorageError as error:
        await program.aclose()
        raise type(error)(f"Error exporting container {reference}: {error.message}") from None
    except BaseException:
        await program.aclose()
        raise
    return program


async def extract(
    engine: "Engine",
    reference: str,
    path: str,
    tar: "AsyncIterator[bytes]",
    *,
    keep_kinds: bool = False,
    as_user: bool = False,
) -> None:
    """Extract a tar (compressed or not) into the directory at `path`.

    `keep_kinds`: no directory is replaced by a file, nor a file by a directory; `as_user`: what is extracted is the
    container's user's. Raises NotFound, InvalidParameter for a place that is no directory or read-only, SystemFailure
    for the rest.

    A container that does not run stays so until the end: its writable layer can be in one mount only.
    """
    container_id = containers.find(engine.store, reference)["record"]["Id"]
    async with _Standstill(engine, container_id) as standstill:
        container = containers.get(engine.store, container_id)
        config, host = container["record"]["Config"], container["record"]["HostConfig"]
        view = await engine.thread(_view, engine, container)
        view["writable"] = True
        job: Job = {
            "do": "extract",
            "view": view,
            "path": path,
            "read_only_root": bool(host.get("ReadonlyRootfs")),
            "points": [(mount["Destination"], mount["RW"]) for mount in container["record"]["Mounts"]],
            "owner": (config.get("User") or "") if as_user else "",
            "keep_kinds": keep_kinds,
        }
        async with FilesProcess(engine, job, fed=True, kept=standstill.descriptors) as program:
            try:
                ready = await program.answer()
                if ready["shared"] and container["state"]["status"] in _UP:
                    standstill.end()
                await feed(program, tar)
                await program.answer()
            except Missing:
                raise _not_found(path, reference) from None
    await engine.thread(_announce, engine, container, "extract-to-dir")
    await engine.thread(_unmounted, engine, container)


class _Standstill:
    """`async with`: nobody starts or removes the container, in this process or in another."""

    def __init__(self, engine: "Engine", container_id: str) -> None:
        self.engine = engine
        self._here = engine.lock(container_id)
        self._everywhere = release.exclusively(engine.settings, container_id)
        self._held = False

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a program is given that is to keep it so, should this process be killed."""
        return (self._everywhere.fd,)

    async def __aenter__(self) -> "_Standstill":
        await self._here.acquire()
        try:
            await self.engine.thread(self._everywhere.__enter__)
        except BaseException:
            self._here.release()
            raise
        self._held = True
        return self

    async def __aexit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        self.end()

    def end(self) -> None:
        """It may change again."""
        if self._held:
            self._held = False
            self._everywhere.__exit__(None, None, None)
            self._here.release()


async def feed(program: FilesProcess, tar: "AsyncIterator[bytes]") -> None:
    """Give the program the tar, decompressed. Returns early when it takes no more (its next answer says why)."""
    from service.content import layers

    pieces = aiter(tar)
    first = b""
    async for piece in pieces:
        first += piece
        if len(first) >= _TELLING:
            break
    try:
        if layers.compression(first):
            await _feed_decompressed(program, _joined(first, pieces))
        else:
            async for piece in _joined(first, pieces):
                await program.feed(piece)
    except NotTaken:
        return
    program.end_of_input()


async def _joined(first: bytes, rest: "AsyncIterator[bytes]") -> "AsyncIterator[bytes]":
    yield first
    async for piece in rest:
        yield piece


async def _feed_decompressed(program: FilesProcess, pieces: "AsyncIterator[bytes]") -> None:
    import asyncio

    from service.content import layers
    from service.engine import messages

    loop = asyncio.get_running_loop()

    def feed(read: "Callable[[int], bytes]") -> None:
        for piece in layers.decompressed(read):
            asyncio.run_coroutine_threadsafe(program.feed(piece), loop).result()

    await messages.apart(pieces, feed)


def _view(engine: "Engine", container: "Container") -> "View":
    """What Docker shows of a container, for reading. Blocking: what it mounts is made to exist when it does not run."""
    view = _root_view(engine.settings, container["record"])
    view["binds"] = list(_binds(engine, container))
    return view


def _root_view(settings: "Settings", record: "ContainerRecord") -> "View":
    """The container's root file system alone: where something is mounted is an empty directory."""
    from service.content import rootfs

    home = settings.container_root(record["Id"])
    return {
        "merged": rootfs.merged_path(settings, record["Id"]),
        "layers": rootfs.lower_paths(settings, record["Layers"]),
        "upper": home + "/diff",
        "work": home + "/work",
        "binds": [],
        "staging": settings.root + "/tmp",
        "writable": False,
    }


def _binds(engine: "Engine", container: "Container") -> "Iterator[Bind]":
    """Volumes, binds, images and the files that Docker provides, a parent before what lies in it."""
    from service.runtime import facts, mounts

    record = container["record"]
    taken = set()
    for point in sorted(record["Mounts"], key=lambda mount: mounts.by_depth(mount["Destination"])):
        taken.add(point["Destination"])
        if point["Type"] == "volume" and point["Driver"] != "local":
            from service.engine import volume_drivers

            place = volume_drivers.place(engine.settings, point["Name"], record["Id"])
            if place:  # else its plugin has it not mounted for this container: an empty directory is shown
                yield _bind(engine, container, {**point, "Source": place})
        elif point["Type"] != "tmpfs":
            yield _bind(engine, container, point)
    read_only = bool(record["HostConfig"].get("ReadonlyRootfs"))
    for destination, source in facts.own_files(engine.settings, record).items():
        if destination not in taken:
            yield {
                "source": source,
                "destination": destination,
                "writable": not read_only,
                "recursive": False,
                "part": "",
                "device": None,
                "layers": None,
            }


def _bind(engine: "Engine", container: "Container", point: "MountPoint") -> "Bind":
    from service.content import rootfs
    from service.engine import local_driver, mount_sources
    from service.store import volumes as stored

    device: Device | None = None
    if point["Type"] == "bind" and container["state"]["status"] not in _UP:
        mount_sources.make_bind_source(point)
    elif point["Type"] == "volume" and point.get("Device"):
        volume = stored.get(engine.store, point["Name"])
        device = local_driver.device(volume["Options"]) if volume else None
    elif point["Type"] == "volume":
        os.makedirs(point["Source"], 0o755, exist_ok=True)
    layers = [rootfs.layer_path(engine.settings, layer) for layer in reversed(point.get("Layers") or ())]
    return {
        "source": point["Source"],
        "destination": point["Destination"],
        "writable": point["RW"],
        "recursive": not point.get("NonRecursive"),
        "part": point.get("Subpath") or "",
        "device": device,
        "layers": layers if point["Type"] == "image" else None,
    }


def _announce(engine: "Engine", container: "Container", action: str) -> None:
    """Record that the container's volumes were mounted for a piece of work, and which (or none to speak of)."""
    with engine.store.write():
        if action != "export":
            events.volumes(engine.store, container["record"], "mount")
        if action:
            events.container(engine.store, container["record"], action)
    bell.ring(engine.settings.bell)


def _unmounted(engine: "Engine", container: "Container") -> None:
    """Record that they are not any more."""
    if _has_volumes(container):
        with engine.store.write():
            events.volumes(engine.store, container["record"], "unmount")
        bell.ring(engine.settings.bell)


def _has_volumes(container: "Container") -> bool:
    return any(mount["Type"] == "volume" for mount in container["record"]["Mounts"])
