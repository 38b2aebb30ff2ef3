"""What a built result becomes: an image here, files or an archive for the client."""

from service import bell, jsontext, timestamps
from service.content import image_config
from service.content import reference as references
from service.engine import image_events, save, solve_cache, solve_told
from service.engine.build_files import PROGRAM
from service.engine.files_process import FilesProcess
from service.engine.layers import image_row
from service.engine.solving import SolveFailed
from service.errors import MoorageError
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.build_files import Job
    from service.content.reference import Reference
    from service.engine.engine import Engine
    from service.engine.solve_result import Result
    from service.engine.solve_told import Step
    from service.engine.solving import Exporter, Progress, Session
    from service.store.images import ImageRow

_IMAGES = ("moby", "image")
_ARCHIVES = ("oci", "docker")


async def export(
    engine: "Engine", result: "Result", exporter: "Exporter", session: "Session", progress: "Progress"
) -> "dict[str, str]":
    """Export a result; what the client is told of it (`containerimage.digest` and the like). Raises SolveFailed."""
    if result.built is None:
        return {}
    if exporter.attributes.get("rewrite-timestamp", "false").lower() not in ("false", "0", "f"):
        raise SolveFailed("the times of files cannot be rewritten: rewrite-timestamp is not supported")
    try:
        if exporter.type in _IMAGES:
            return await _image(engine, result, exporter, progress)
        if exporter.type in _ARCHIVES:
            return await _archive(engine, result, exporter, session, progress)
        if exporter.type == "local":
            async with solve_told.Step(progress, "exporting to client directory", key=f"{result.id} local") as step:
                root = await result.root()
                await session.send_tree(exporter.number, root, step.transferred("copying files"))
            return {}
        if exporter.type == "tar":
            async with solve_told.Step(progress, "exporting to client tarball", key=f"{result.id} tar") as step:
                await session.send_tar(exporter.number, _told(_tar(result), step, "sending tarball"))
            return {}
    except SolveFailed:
        raise
    except MoorageError as error:
        raise SolveFailed(error.message) from None
    raise SolveFailed(f"exporter {exporter.type!r} could not be found".replace("'", '"'))


def _config(result: "Result", exporter: "Exporter") -> bytes:
    """The configuration: the client may have changed it."""
    config = bytes(exporter.metadata.get("containerimage.config") or result.config)
    if exporter.inline_cache and result.built is not None:
        return jsontext.dump_bytes({**jsontext.loads(config), solve_cache.INLINE: result.built.keys})
    return config


def _names(exporter: "Exporter") -> "list[Reference]":
    found = []
    for name in (exporter.attributes.get("name") or "").split(","):
        if name:
            parsed = references.parse(name)
            if parsed.digest:
                raise SolveFailed(f"failed to parse {name}: a digest cannot be given")
            found.append(parsed)
    return found


async def _image(engine: "Engine", result: "Result", exporter: "Exporter", progress: "Progress") -> "dict[str, str]":
    names = _names(exporter)
    async with solve_told.Step(progress, "exporting to image", key=f"{result.id} image") as step:
        await step.line("exporting layers")
        row = await engine.thread(_register, engine, result, _config(result, exporter), names)
        await step.line("exporting layers", done=True)
        await step.line(f"writing image {row.id}", done=True)
        for name in names:
            await step.line(f"naming to {name}", done=True)
    return {
        "containerimage.config.digest": row.id,
        "containerimage.digest": row.id,
        **({"image.name": ",".join(map(str, names))} if names else {}),
    }


def _register(engine: "Engine", result: "Result", config: bytes, names: "list[Reference]") -> "ImageRow":
    assert result.built is not None
    layers = result.built.layers
    row = image_row(config, layers)
    with engine.store.write():
        fresh = store.insert(engine.store, row, [layer.chain_id for layer in layers])
        result.solve.lease.hold(row.id)
        if fresh:
            image_events.record(engine.store, "create", row, row.id)
        for name in names:
            store.tag(engine.store, name.stored, row.id, timestamps.now_ns())
            image_events.record(engine.store, "tag", row, references.familiar(name.stored))
    bell.ring(engine.settings.bell)
    return row


async def _archive(
    engine: "Engine", result: "Result", exporter: "Exporter", session: "Session", progress: "Progress"
) -> "dict[str, str]":
    """An OCI layout that is a docker-archive, too."""
    assert result.built is not None
    layers, config = result.built.layers, _config(result, exporter)
    names = [name.stored for name in _names(exporter)]
    async with solve_told.Step(progress, f"exporting to {exporter.type} image format", key=f"{result.id} oci") as step:
        row = image_row(config, layers)
        saved = await engine.thread(save.unregistered, engine, result.solve.lease, row, layers, names)
        await session.send_tar(exporter.number, _told(save.archive(engine, saved), step, "sending tarball"))
    return {
        "containerimage.config.digest": row.id,
        "containerimage.digest": image_config.digest(saved.manifest),
        **({"image.name": ",".join(names)} if names else {}),
    }


async def _told(pieces: "AsyncIterator[bytes]", step: "Step", line: str) -> "AsyncIterator[bytes]":
    sent = 0
    async for piece in pieces:
        sent += len(piece)
        step.line_soon(line, sent, 0, done=False)
        yield piece
    await step.line(line, sent, done=True)


async def _tar(result: "Result") -> "AsyncIterator[bytes]":
    """The files as a tar."""
    assert result.built is not None
    solve = result.solve
    job: Job = {"do": "pack", "staging": solve.files.staging, "target": solve.tree(result.built.layers)}
    async with FilesProcess(solve.engine, job, program=PROGRAM) as program:
        async for piece in program:
            yield piece
