"""What a built result becomes: an image here, files or an archive for the client."""

import re

from service import bell, jsontext, timestamps
from service.content import image_config
from service.content import reference as references
from service.content.rootfs import layer_path
from service.engine import image_events, save, solve_cache, solve_steps, solve_told
from service.engine.build_files import PROGRAM
from service.engine.files_process import FilesProcess
from service.engine.layers import image_row
from service.engine.solving import SolveFailed
from service.errors import MoorageError
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from typing import Any

    from service.build_files import Job
    from service.content.reference import Reference
    from service.engine.engine import Engine
    from service.engine.solve_result import Result
    from service.engine.solve_told import Step
    from service.engine.solving import Exporter, Progress, Session
    from service.store.images import ImageRow, LayerRow

_IMAGES = ("moby", "image")
_ARCHIVES = ("oci", "docker")
_FILES = ("local", "tar")
_ANNOTATION = re.compile(
    r"annotation(?:-(index|index-descriptor|manifest|manifest-descriptor))?(?:\[[^]]*\])?\.(.+)", re.DOTALL
)


def check(exporter: "Exporter") -> None:
    """Raises SolveFailed for an output that cannot be served as it is asked for: better before the build than after."""
    type, attributes = exporter.type, exporter.attributes
    if type not in (*_IMAGES, *_ARCHIVES, *_FILES):
        raise SolveFailed(f'exporter "{type}" could not be found')
    if type in _FILES:
        return
    try:
        names = _names(exporter)
    except MoorageError as error:
        raise SolveFailed(error.message) from None
    if type == "moby":
        return  # whose client pushes by itself
    compression = attributes.get("compression", "gzip")
    if compression != "gzip":
        raise SolveFailed(f"compression {compression} is not supported: layers are compressed with gzip")
    if any(kind in ("index", "index-descriptor") for kind, _, _ in _annotations(exporter)):
        raise SolveFailed("index annotations not supported for single platform export")
    if type in _ARCHIVES and not _truth(attributes, "tar", default=True):
        raise SolveFailed(f"the {type} exporter makes archives only: tar=false is not supported")
    if type == "image" and _truth(attributes, "push-by-digest"):
        raise SolveFailed("pushing without a name is not supported: push-by-digest")
    if type == "image" and _truth(attributes, "push") and not names:
        raise SolveFailed("tag is needed when pushing to registry")


def _truth(attributes: "Mapping[str, str]", name: str, *, default: bool = False) -> bool:
    """A truth value as Go reads it; without a value it is true."""
    value = attributes.get(name)
    return default if value is None else value.lower() not in ("false", "0", "f")


def _annotations(exporter: "Exporter") -> "list[tuple[str, str, str]]":
    """What is to be noted, and where: (manifest, manifest-descriptor, …; name; text)."""
    found = [(_ANNOTATION.fullmatch(key), value) for key, value in exporter.attributes.items()]
    return [(key[1] or "manifest", key[2], value) for key, value in found if key is not None]


async def export(
    engine: "Engine", result: "Result", exporter: "Exporter", session: "Session", progress: "Progress"
) -> "dict[str, str]":
    """Export a result; what the client is told of it (`containerimage.digest` and the like). Raises SolveFailed."""
    if result.built is None:
        return {}
    epoch = _epoch(result, exporter)
    try:
        if exporter.type in _IMAGES:
            return await _image(engine, result, exporter, session, progress)
        if exporter.type in _ARCHIVES:
            return await _archive(engine, result, exporter, session, progress)
        if exporter.type == "local":
            async with solve_told.Step(progress, "exporting to client directory", key=f"{result.id} local") as step:
                root = await result.root()
                line, moment = step.transferred("copying files"), None if epoch is None else epoch * 1_000_000_000
                await session.send_tree(exporter.number, root, line, moment_ns=moment)
            return {}
        if exporter.type == "tar":
            async with solve_told.Step(progress, "exporting to client tarball", key=f"{result.id} tar") as step:
                await session.send_tar(exporter.number, _told(_tar(result, epoch), step, "sending tarball"))
            return {}
    except SolveFailed:
        raise
    except MoorageError as error:
        raise SolveFailed(error.message) from None
    raise SolveFailed(f"exporter {exporter.type!r} could not be found".replace("'", '"'))


def _epoch(result: "Result", exporter: "Exporter") -> "int | None":
    """SOURCE_DATE_EPOCH, as the build or the output was given it: seconds since 1970. Raises SolveFailed."""
    text = exporter.attributes.get("source-date-epoch")
    if not text:
        return None if result.built is None else result.built.epoch
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise SolveFailed(f"invalid SOURCE_DATE_EPOCH: {text}")
    return int(text)


def _config(result: "Result", exporter: "Exporter", layers: "Sequence[LayerRow]") -> bytes:
    """The configuration: the client may have changed it."""
    assert result.built is not None
    config = bytes(exporter.metadata.get("containerimage.config") or result.config)
    more: dict[str, Any] = {}
    if list(layers) != result.built.layers:
        more["rootfs"] = {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
    if exporter.inline_cache:
        more[solve_cache.INLINE] = result.built.keys
    return jsontext.dump_bytes({**jsontext.loads(config), **more}) if more else config


async def _layers(engine: "Engine", result: "Result", exporter: "Exporter") -> "list[LayerRow]":
    """The layers. With `rewrite-timestamp` no file of those that were made here is younger than SOURCE_DATE_EPOCH."""
    assert result.built is not None
    layers, epoch = list(result.built.layers), _epoch(result, exporter)
    asked = exporter.attributes.get("rewrite-timestamp", "false").lower()
    if asked in ("", "false", "0", "f") or epoch is None:
        return layers
    if asked not in ("true", "1", "t"):
        raise SolveFailed(f'non-bool value for rewrite-timestamp: strconv.ParseBool: parsing "{asked}": invalid syntax')
    solve, made = result.solve, layers[: result.built.inherited]
    for layer in layers[result.built.inherited :]:
        key = solve_steps.hashed("times", solve_steps.chain(made), layer.diff_id, epoch)
        async with solve_steps.lock(key):
            found = await engine.thread(solve_cache.found, engine, solve.lease, key)
            if found is None:
                path = layer_path(engine.settings, layer.directory)
                fresh = await solve.thread(solve_steps.timed, solve, list(made), path, epoch)
                told = f"layer {layer.diff_id} with times up to {epoch}"
                await engine.thread(solve_cache.keep, engine, key, fresh, told, timestamps.now_ns())
            else:
                fresh = found[0]
        made.append(fresh)
    return made


def _names(exporter: "Exporter") -> "list[Reference]":
    found = []
    for name in (exporter.attributes.get("name") or "").split(","):
        if name:
            parsed = references.parse(name)
            if parsed.digest:
                raise SolveFailed("refusing to create a tag with a digest reference")
            found.append(parsed)
    return found


async def _image(
    engine: "Engine", result: "Result", exporter: "Exporter", session: "Session", progress: "Progress"
) -> "dict[str, str]":
    names = _names(exporter)
    digest = ""
    async with solve_told.Step(progress, "exporting to image", key=f"{result.id} image") as step:
        await step.line("exporting layers")
        layers = await _layers(engine, result, exporter)
        row = await engine.thread(_register, engine, result, layers, _config(result, exporter, layers), names)
        await step.line("exporting layers", done=True)
        await step.line(f"writing image {row.id}", done=True)
        for name in names:
            await step.line(f"naming to {name}", done=True)
        if exporter.type == "image" and _truth(exporter.attributes, "push"):
            for name in names:
                digest = await _pushed(engine, name.with_default_tag(), session, step)
    return {
        "containerimage.config.digest": row.id,
        "containerimage.digest": digest or row.id,
        **({"image.name": ",".join(map(str, names))} if names else {}),
    }


async def _pushed(engine: "Engine", name: "Reference", session: "Session", step: "Step") -> str:
    """Push an image by the client's login; the digest of its manifest. Raises MoorageError."""
    digest = ""
    await step.line(f"pushing {name}")
    from service.engine import push  # as the pull: loaded when it is wanted

    async for message in push.push(engine, name, await session.credentials(name.domain)):
        detail = message.get("progressDetail") or {}
        if message.get("id") and detail:
            await step.line(f"pushing layer {message['id']}", detail.get("current") or 0, detail.get("total") or 0)
        digest = (message.get("aux") or {}).get("Digest") or digest
    await step.line(f"pushing {name}", done=True)
    return digest


def _register(
    engine: "Engine", result: "Result", layers: "Sequence[LayerRow]", config: bytes, names: "list[Reference]"
) -> "ImageRow":
    row = image_row(config, layers)
    while True:
        known = _is_known(engine, row, names)
        with engine.store.write(durable=not known):  # nobody waits for the disk where nothing is new
            if known and not _is_known(engine, row, names):
                continue  # somebody has removed it meanwhile
            fresh = store.insert(engine.store, row, [layer.chain_id for layer in layers])
            result.solve.lease.hold(row.id)
            if fresh:
                image_events.record(engine.store, "create", row, row.id)
            for name in names:
                store.tag(engine.store, name.stored, row.id, timestamps.now_ns())
                image_events.record(engine.store, "tag", row, name.familiar)
        break
    bell.ring(engine.settings.bell)
    return row


def _is_known(engine: "Engine", row: "ImageRow", names: "list[Reference]") -> bool:
    """Whether the image is here by all of these names."""
    if not store.exists(engine.store, row.id):
        return False
    return {name.stored for name in names} <= set(store.tags_of(engine.store, row.id))


async def _archive(
    engine: "Engine", result: "Result", exporter: "Exporter", session: "Session", progress: "Progress"
) -> "dict[str, str]":
    """An OCI layout that is a docker-archive, too."""
    names = [name.stored for name in _names(exporter)]
    noted: dict[str, dict[str, str]] = {"manifest": {}, "manifest-descriptor": {}}
    for kind, key, text in _annotations(exporter):
        noted[kind][key] = text
    async with solve_told.Step(progress, f"exporting to {exporter.type} image format", key=f"{result.id} oci") as step:
        layers = await _layers(engine, result, exporter)
        row = image_row(_config(result, exporter, layers), layers)
        saved = await engine.thread(save.unregistered, engine, result.solve.lease, row, layers, names)
        saved.annotate(noted["manifest"], noted["manifest-descriptor"])
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


async def _tar(result: "Result", epoch: "int | None") -> "AsyncIterator[bytes]":
    """The files as a tar; `epoch`: seconds since 1970, the time of all of them."""
    assert result.built is not None
    solve = result.solve
    job: Job = {"do": "pack", "staging": solve.files.staging, "target": solve.tree(result.built.layers)}
    if epoch is not None:
        job["moment"] = epoch
    async with FilesProcess(solve.engine, job, program=PROGRAM) as program:
        async for piece in program:
            yield piece
