"""RUN --mount of a BuildKit build: what is put where a command runs, and what it means to the key of its step."""

import os

from service.builder import run_mounts
from service.engine import build_copy, build_run, solve_cache, solve_steps
from service.engine.build_files import Copy, tree
from service.errors import NotFound, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from typing import Any

    from service.build_files import Job, Tree
    from service.builder.run_mounts import RunMount
    from service.engine.solve import Solve
    from service.model.container import MountPoint


async def origin(solve: "Solve", mount: "RunMount") -> "Tree | None":
    """The files that a mount takes from somewhere; None where it takes none."""
    if mount.origin:
        return await solve.source(mount.origin)
    if mount.type == run_mounts.BIND:
        return tree(path=await solve.context())
    return None


async def content(solve: "Solve", mount: "RunMount", origin: "Tree | None") -> "list[object]":
    """What a mount means to the key of its step."""
    told: list[object] = [
        mount.type, mount.target, mount.source, mount.id, mount.read_only, mount.environment, mount.mode, mount.uid,
        mount.gid, mount.size,
    ]  # fmt: skip
    if mount.type == run_mounts.BIND and origin is not None:
        if origin["path"]:
            job: Job = {
                "do": "copy",
                "staging": solve.files.staging,
                "target": tree(path=solve.files.folder()),
                "sources": [(origin, [build_copy.literal(mount.source.lstrip("/"))])],
                "destination": "/",
            }
            try:
                async with Copy(solve.files, job, "") as looking:
                    told.append([hash for _, hash in looking.found])
            except NotFound:
                raise solve_steps.not_there(solve, mount.source) from None
        else:
            told.append(origin["layers"])
    return told


async def mount(
    solve: "Solve",
    stack: "AsyncExitStack",
    container: build_run.HiddenContainer,
    mount: "RunMount",
    origin: "Tree | None",
) -> None:
    """Make a mount ready, and put it among those of the container."""
    if mount.type == run_mounts.TMPFS:
        options = [f"size={mount.size}"] if mount.size else []
        container.mounts.append(point("tmpfs", "", mount.target, Options=[*options, "exec", "mode=1777"]))
    elif mount.type == run_mounts.SECRET:
        await _secret(solve, container, mount)
    elif mount.type == run_mounts.SSH:
        await _agent(solve, stack, container, mount)
    elif mount.type == run_mounts.CACHE:
        path = await _cache(solve, stack, mount, origin)
        container.mounts.append(point("bind", path, mount.target, writable=not mount.read_only))
    else:
        assert origin is not None
        await _bind(solve, container, mount, origin)


def point(kind: str, source: str, target: str, *, writable: bool = True, **more: "Any") -> "MountPoint":
    """A mount as containers have them."""
    made: Any = {
        "Type": kind,
        "Source": source,
        "Destination": target,
        "Mode": "",
        "RW": writable,
        "Propagation": "rprivate" if kind != "tmpfs" else "",
        **more,
    }
    return made  # type: ignore[no-any-return]  # built from its keys


async def _bind(solve: "Solve", container: build_run.HiddenContainer, mount: "RunMount", origin: "Tree") -> None:
    """Files of a context, a stage or an image. What is written to them is lost with the step."""
    from service.engine import mount_sources

    if mount.read_only and origin["path"]:
        found = await solve.thread(_inside, origin["path"], mount.source)
        container.mounts.append(point("bind", found, mount.target, writable=False))
        return
    at = mount_sources.place(solve.engine.settings, container.id, mount.target)
    layers = [os.path.basename(os.path.dirname(path)) for path in reversed(origin["layers"])]
    more: dict[str, Any] = {"Layers": [origin["path"]] if origin["path"] else layers, "Name": "", "Image": ""}
    if mount.source.strip("/"):
        more["Subpath"] = mount.source.strip("/")
    if not mount.read_only:
        more |= {"Upper": solve.files.folder(), "Work": solve.files.folder()}
    container.mounts.append(point("image", at, mount.target, writable=not mount.read_only, **more))


def _inside(folder: str, path: str) -> str:
    """A path in a directory of the client's, wherever links inside lead. Raises SystemFailure."""
    from service.kernel.openat2 import open_in_root

    try:
        fd = open_in_root(folder, path, os.O_PATH)
    except OSError as error:
        raise SystemFailure(f"failed to mount {path}: {os.strerror(error.errno or 0).lower()}") from None
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


async def _cache(solve: "Solve", stack: "AsyncExitStack", mount: "RunMount", origin: "Tree | None") -> str:
    """The directory of a cache mount, for this step alone where it is asked for so."""
    name = mount.id or mount.target
    namespace = solve.attributes.get("build-arg:BUILDKIT_CACHE_MOUNT_NS", "")
    owned = [mount.mode, mount.uid, mount.gid]
    key = solve_steps.hashed(
        "cache", namespace, name, origin and origin["layers"], mount.source if origin else "", owned
    )
    if mount.sharing == run_mounts.PRIVATE:
        number = 0
        while solve_steps.lock(f"{key}-{number}").locked():
            number += 1
        key = f"{key}-{number}"
    guard = solve_steps.lock(key)
    if mount.sharing in (run_mounts.PRIVATE, run_mounts.LOCKED):
        await stack.enter_async_context(guard)
    directory = solve_cache.Directory(
        solve.engine,
        key,
        "exec.cachemount",
        f'cached mount {mount.target} from exec with id "{name}"',
    )
    fresh: list[str] = []

    def filled(path: str) -> None:
        os.chmod(path, mount.mode)
        os.chown(path, max(mount.uid, 0), max(mount.gid, 0))
        fresh.append(path)

    path = await solve.thread(directory.open, filled)
    stack.push_async_callback(solve.thread, directory.close)
    if fresh and origin is not None:
        job: Job = {
            "do": "copy",
            "staging": solve.files.staging,
            "target": tree(upper=path, work=solve.files.folder()),
            "sources": [(origin, [build_copy.literal(mount.source.strip("/")) or "."])],
            "destination": "/",
            "keeps_owner": True,
            "later": True,
        }
        async with Copy(solve.files, job, "") as copying:
            await copying.copy(list(range(len(copying.found))))
    return path


async def _secret(solve: "Solve", container: build_run.HiddenContainer, mount: "RunMount") -> None:
    value = await solve.session.secret(mount.id)
    if value is None:
        if mount.required:
            raise SystemFailure(f"secret {mount.id}: not found")
        return
    if mount.environment:
        named = f"{mount.environment}=".encode() + value
        container.secret_environment.append(await solve.thread(solve.private_file, named, 0o400, 0, 0))
    if mount.target:
        path = await solve.thread(solve.private_file, value, mount.mode, max(mount.uid, 0), max(mount.gid, 0))
        container.mounts.append(point("bind", path, mount.target, writable=False))


async def _agent(
    solve: "Solve", stack: "AsyncExitStack", container: build_run.HiddenContainer, mount: "RunMount"
) -> None:
    number = sum(1 for point in container.mounts if point["Destination"].startswith("/run/buildkit/ssh_agent."))
    target = mount.target or f"/run/buildkit/ssh_agent.{number}"
    path = await solve.thread(solve.private_path)
    try:
        await stack.enter_async_context(solve.session.ssh(mount.id, path))
    except NotFound:
        if mount.required:
            raise SystemFailure(f"unset ssh forward key {mount.id}") from None
    else:
        os.chmod(path, mount.mode)
        os.chown(path, max(mount.uid, 0), max(mount.gid, 0))
        container.mounts.append(point("bind", path, target))
    container.config["Env"] = [f"SSH_AUTH_SOCK={target}", *(container.config["Env"] or ())]
