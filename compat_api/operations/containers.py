"""/containers: list, create, inspect and the verbs of a container's life. Streams stand in modules of their own."""

from compat_api.declaration import ApiVersion, Filters, Flag, Header, Int, Text, delete, get, post
from compat_api.reply import Later, Reply, Stream
from compat_api.versions import apply, has
from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from compat_api.schemas.containers import ContainerCreateRequest, ContainerUpdateRequest
    from service.engine.engine import Engine


_EMPTY_OBJECT = 7  # bytes of a start's body that dockerd does not look at


@get("/containers/json")
def container_list(
    engine: "Engine",
    all: bool = Flag(),
    limit: int = Int(),
    size: bool = Flag(),
    filters: "dict[str, list[str]]" = Filters(),
) -> "Reply | Later":
    """List containers (API: ContainerList)."""

    def answer() -> Reply:
        from service.engine import container_list

        found = container_list.summaries(engine, all=all, limit=limit, size=size, filters=filters)
        return Reply.json(found, shape="ContainerSummary")

    return Later(answer) if size else answer()


@get("/containers/{id*}/json")
def container_inspect(engine: "Engine", id: str, size: bool = Flag()) -> "Reply | Later":
    """Inspect a container (API: ContainerInspect)."""

    def answer() -> Reply:
        from service.engine import inspect

        return Reply.json(inspect.inspect(engine, id, size=size), shape="ContainerInspect")

    return Later(answer) if size else answer()


@post("/containers/create", body="compat_api.schemas.containers:ContainerCreateRequest", body_required=True)
async def container_create(
    engine: "Engine",
    name: str = Text(),
    platform: str = Text(),
    version: tuple[int, int] = ApiVersion(),
    *,
    body: "ContainerCreateRequest",
) -> Reply:
    """Create a container (API: ContainerCreate)."""
    from compat_api import create_request
    from service.engine import create

    request = body.model_dump(exclude_unset=True)
    for key in ("Cmd", "Entrypoint"):
        if isinstance(request.get(key), str):
            request[key] = [request[key]]
    empty = not any(request.values())  # what is filled in below is not the client's
    adapted = [] if empty else create_request.as_newest(request, version)
    if not has("create platform", version):
        platform = ""
    container_id, warnings = await engine.thread(
        lambda: create.create(engine, name, request, platform, recursive_read_only=has("recursive read-only", version))
    )
    return Reply.json({"Id": container_id, "Warnings": warnings + adapted}, status=201)


@post("/containers/{id}/start")
async def container_start(
    engine: "Engine",
    id: str,
    detach_keys: str = Text(name="detachKeys"),
    checkpoint: str = Text(),
    length: str = Header(name="content-length"),
    encoding: str = Header(name="transfer-encoding"),
) -> Reply:
    """Start a container (API: ContainerStart)."""
    from service.engine import lifecycle

    del detach_keys  # the attach request carries the ones that count; the CLI sends them here too
    if encoding or int(length or 0) > _EMPTY_OBJECT:
        raise InvalidParameter(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    if checkpoint:
        from compat_api.operations.containers_checkpoints import refuse_start

        refuse_start(engine)
    await lifecycle.start(engine, id)
    return Reply.empty()


@post("/containers/{id}/stop")
async def container_stop(
    engine: "Engine", id: str, t: str = Text(), signal: str = Text(), version: tuple[int, int] = ApiVersion()
) -> Reply:
    """Stop a container (API: ContainerStop)."""
    from service.engine import lifecycle

    await lifecycle.stop(engine, id, _seconds(t), signal if has("stop signal", version) else "")
    return Reply.empty()


@post("/containers/{id}/restart")
async def container_restart(
    engine: "Engine", id: str, t: str = Text(), signal: str = Text(), version: tuple[int, int] = ApiVersion()
) -> Reply:
    """Restart a container (API: ContainerRestart)."""
    from service.engine import lifecycle

    await lifecycle.restart(engine, id, _seconds(t), signal if has("stop signal", version) else "")
    return Reply.empty()


def _seconds(text: str) -> "int | None":
    """A timeout of the query: absent or blank means the container's own."""
    return Int(name="t").read([text]) if text else None


@post("/containers/{id}/kill")
async def container_kill(engine: "Engine", id: str, signal: str = Text()) -> Reply:
    """Send a signal (API: ContainerKill)."""
    from service.engine import lifecycle

    await lifecycle.kill(engine, id, signal)
    return Reply.empty()


@post("/containers/{id}/pause")
async def container_pause(engine: "Engine", id: str) -> Reply:
    """Freeze all processes (API: ContainerPause)."""
    from service.engine import pause

    await pause.pause(engine, id)
    return Reply.empty()


@post("/containers/{id}/unpause")
async def container_unpause(engine: "Engine", id: str) -> Reply:
    """Thaw them (API: ContainerUnpause)."""
    from service.engine import pause

    await pause.unpause(engine, id)
    return Reply.empty()


@post("/containers/{id}/update", body="compat_api.schemas.containers:ContainerUpdateRequest")
async def container_update(
    engine: "Engine", id: str, version: tuple[int, int] = ApiVersion(), *, body: "ContainerUpdateRequest"
) -> Reply:
    """Change limits and restart policy (API: ContainerUpdate)."""
    from service.engine import update

    request = apply("ContainerUpdateRequest", body.model_dump(exclude_unset=True), version)
    return Reply.json({"Warnings": await update.update(engine, id, request) or None})


@post("/containers/{id}/rename")
async def container_rename(engine: "Engine", id: str, name: str = Text()) -> Reply:
    """Rename (API: ContainerRename)."""
    from service.engine import lifecycle

    await lifecycle.rename(engine, id, name)
    return Reply.empty()


@delete("/containers/{id}/checkpoints/{checkpoint}")  # here, because its path is one of the next operation's as well
async def checkpoint_delete(engine: "Engine", id: str, checkpoint: str) -> Reply:  # noqa: ARG001 - the path's
    """Remove a checkpoint (not in Docker's description)."""
    from compat_api.operations.containers_checkpoints import refusal

    raise refusal(engine)


@delete("/containers/{id*}")
async def container_delete(
    engine: "Engine", id: str, v: bool = Flag(), force: bool = Flag(), link: bool = Flag()
) -> Reply:
    """Remove a container (API: ContainerDelete); with `link` only the name that another one has for it (`web/db`)."""
    from service.engine import lifecycle

    await lifecycle.delete(engine, id, force=force, volumes=v, link=link)
    return Reply.empty()


@post("/containers/{id}/wait")
async def container_wait(
    engine: "Engine", id: str, condition: str = Text("not-running"), version: tuple[int, int] = ApiVersion()
) -> "Reply | Stream":
    """Wait for an exit (API: ContainerWait). From 1.30 the headers go out before it, and conditions are known."""
    from service.engine import lifecycle

    early = has("wait answers before the exit", version)
    waiter = lifecycle.Waiter(engine, id, condition or "not-running" if early else "not-running")
    if not early:
        code, error = await waiter.result()
        return Reply.json(_exit(code, error))
    return Stream(_when_ended(waiter))


async def _when_ended(waiter: "object") -> "AsyncIterator[bytes]":
    from service import jsontext
    from service.engine.lifecycle import Waiter

    assert isinstance(waiter, Waiter)
    code, error = await waiter.result()
    yield jsontext.dump_bytes(_exit(code, error)) + b"\n"


def _exit(code: int, error: str) -> "dict[str, object]":
    return {"StatusCode": code, "Error": {"Message": error}} if error else {"StatusCode": code}


@post("/containers/prune")
async def container_prune(engine: "Engine", filters: "dict[str, list[str]]" = Filters()) -> Reply:
    """Remove all stopped containers (API: ContainerPrune)."""
    from service.engine import prune

    gone, freed = await engine.thread(prune.alone, engine, "container", prune.containers, engine, filters)
    return Reply.json({"ContainersDeleted": gone or None, "SpaceReclaimed": freed})
