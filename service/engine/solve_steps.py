"""The steps of a BuildKit build that make layers: COPY, ADD and WORKDIR here, RUN in `solve_run`.

A step's key says what its layer depends on: the layers below it (by their content: a step that was done again with the
same result changes nothing above it), the instruction, and the content of what it copies or mounts. Not what secrets
and agents are, nor the predefined proxy arguments.
"""

import asyncio
import hashlib
import os
import weakref

from service import jsontext, timestamps
from service.build_files import TOO_MANY_LINKS
from service.builder import configuration
from service.builder.words import expanded_plainly, quoted
from service.content import copying_parents, tarball
from service.engine import build_copy, build_files, child_image, solve_cache, solve_plan
from service.engine.build_files import Copy, tree
from service.errors import InvalidParameter, NotFound, SystemFailure
from service.patterns import glob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from service.build_files import Job, Tree
    from service.builder.instructions import Instruction
    from service.engine.solve import Solve
    from service.engine.solve_image import Built
    from service.engine.solve_told import Step
    from service.store.images import LayerRow

_URLS = ("http://", "https://", "git@", "ssh://", "git://")
_EMPTY_TAR = bytes(1024)
_doing: "weakref.WeakValueDictionary[str, asyncio.Lock]" = weakref.WeakValueDictionary()


def hashed(*parts: object) -> str:
    """A key of parts that are JSON."""
    return hashlib.sha256(jsontext.dump_bytes(list(parts))).hexdigest()


def chain(layers: "Sequence[LayerRow]") -> str:
    """What layers are, as a part of a key."""
    return layers[-1].chain_id if layers else ""


def lock(key: str) -> asyncio.Lock:
    """The lock of one step, or of one directory: two builds (or two stages) do not make the same thing at once."""
    return _doing.setdefault(key, asyncio.Lock())


async def kept(
    solve: "Solve",
    step: "Step",
    key: str,
    description: str,
    work: "Callable[[], Awaitable[LayerRow]]",
    *,
    ignores_cache: bool,
) -> "tuple[LayerRow, str, str]":
    """The layer of a step, when it was made (RFC 3339), and `key`: of the cache, or made now."""
    doing = lock(key)
    async with doing:
        if not ignores_cache:
            found = await solve.thread(solve_cache.found, solve.engine, solve.lease, key)
            if found is not None:
                step.cached = True
                return found[0], timestamps.rfc3339(found[1].created_ns), key
            if key in solve.imported:
                step.cached = True
                return *solve.imported[key], key
        async with solve.working:
            layer = await work()
        created_ns = timestamps.now_ns()
        await solve.thread(solve_cache.keep, solve.engine, key, layer, description, created_ns)
        return layer, timestamps.rfc3339(created_ns), key


def not_there(solve: "Solve", path: str) -> SystemFailure:
    """What is copied or mounted does not exist: in BuildKit's words."""
    missing = os.path.normpath("/" + path.lstrip("/"))
    return unreadable(solve, f"{quoted(missing)}: not found")


def unreadable(solve: "Solve", reason: str) -> SystemFailure:
    """Why what is copied or mounted has no hash: in BuildKit's words."""
    return SystemFailure(f"failed to calculate checksum of ref {solve.id}::{hashed(reason)[:25]}: {reason}")


def layer_of(solve: "Solve", below: "Sequence[LayerRow]", upper: str) -> "LayerRow":
    """The layer of what was written to `upper`, which is moved, on top of others; an empty one when nothing was.

    Blocking.
    """
    base = child_image.Base(solve.engine, solve.lease, "")
    base.layers = list(below)
    made = base.taken(upper)
    return made if made is not None else _empty_layer(solve, base)


def timed(solve: "Solve", below: "Sequence[LayerRow]", directory: str, latest: int) -> "LayerRow":
    """The layer of a layer's directory on top of others, no file of it younger than `latest` (seconds since 1970).

    Blocking.
    """
    base = child_image.Base(solve.engine, solve.lease, "")
    base.layers = list(below)
    made = base.layer(directory, latest)
    return made if made is not None else _empty_layer(solve, base)


def _empty_layer(solve: "Solve", base: child_image.Base) -> "LayerRow":
    pieces = [_EMPTY_TAR]
    packed = tarball.store_layer(solve.engine.settings, lambda _: pieces.pop() if pieces else b"")
    return base.registered(packed)


# ── WORKDIR ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def work_directory(solve: "Solve", built: "Built", instruction: "Instruction", step: "Step") -> None:
    """WORKDIR: a directory, made where it is missing."""
    told = configuration.work_directory(built.state, instruction, as_written=True)
    path, user = built.state.config["WorkingDir"], str(built.state.config.get("User") or "")
    if not path.strip("/."):
        step.cached = True
        built.step(told)
        return
    key = hashed("mkdir", chain(built.layers), path, user)

    async def work() -> "LayerRow":
        upper, scratch = solve.files.folder(), solve.files.folder()
        job: Job = {
            "do": "make",
            "staging": solve.files.staging,
            "target": solve.tree(built.layers, upper, scratch),
            "destination": path,
            "owner": user,
            "later": True,
        }
        await solve.files.done(job)
        return await solve.thread(layer_of, solve, built.layers, upper)

    made = await kept(solve, step, key, step.name, work, ignores_cache=solve.ignores_cache(built))
    built.step(told, *made)


# ── COPY, ADD ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def copied(solve: "Solve", built: "Built", instruction: "Instruction", step: "Step") -> None:
    """COPY and ADD."""
    name, destination = instruction.name.upper(), instruction.arguments[-1]
    chown, chmod = instruction.flag("chown"), instruction.flag("chmod")
    if destination.endswith("/."):
        destination = destination[:-1]
    sources, unpacks = await _sources(solve, built, instruction)
    target = build_copy.absolute(built.state.config.get("WorkingDir") or "", destination)
    upper, scratch = solve.files.folder(), solve.files.folder()
    place = solve.tree(built.layers, upper, scratch)
    job: Job = {
        "do": "copy",
        "staging": solve.files.staging,
        "target": place,
        "sources": sources,
        "destination": target,
        "owner": chown,
        "keeps_owner": bool(instruction.flag("from")),
        "mode": build_copy.mode(chmod),
        "later": True,
        "exclude": _excluded(solve, instruction),
        "parents": bool(instruction.flag("parents")),
    }
    told = " ".join(
        (
            name,
            *(f"--{flag}" for flag in ("parents",) if instruction.flag(flag)),
            *(f"--{flag}={instruction.flag(flag)}" for flag in ("chown", "chmod") if instruction.flag(flag)),
            *instruction.sources,
            *(f"<<{heredoc.name}" for heredoc in instruction.inline),
            instruction.arguments[-1],
            "# buildkit",
        )
    )
    try:
        async with Copy(solve.files, job, "") as copying:
            found = copying.found
            archives = await _archives(solve, instruction, found, sources, unpacks)
            key = hashed(
                "copy",
                chain(built.layers),
                [[path.rstrip("/"), hash, number in archives] for number, (path, hash) in enumerate(found)],
                [target, chown, chmod, job["keeps_owner"], job["exclude"], job["parents"]],
            )

            async def work() -> "LayerRow":
                wanted = [number for number in range(len(found)) if number not in archives]
                if wanted:
                    await copying.copy(wanted)
                for number in archives:
                    await solve.files.extract(place, target, found[number][0], sources[0][0]["path"], owner=chown)
                return await solve.thread(layer_of, solve, built.layers, upper)

            made = await kept(solve, step, key, step.name, work, ignores_cache=solve.ignores_cache(built))
    except NotFound as error:
        raise not_there(solve, error.message) from None
    except SystemFailure as error:
        if error.message.startswith(TOO_MANY_LINKS):
            raise unreadable(solve, error.message) from None
        raise
    built.step(told, *made)


def _excluded(solve: "Solve", instruction: "Instruction") -> "list[str]":
    """The patterns of --exclude. Raises SystemFailure for a malformed one."""
    patterns = [pattern.strip() for pattern in instruction.flags.get("exclude", ()) if pattern.strip()]
    for pattern in patterns:
        try:
            glob(pattern)
        except ValueError as error:
            told = f"invalid excludepatterns: [{' '.join(patterns)}]: {error}"
            raise unreadable(solve, told) from None
    return [os.path.normpath(pattern) for pattern in patterns]


async def _sources(
    solve: "Solve", built: "Built", instruction: "Instruction"
) -> "tuple[list[tuple[Tree, list[str]]], bool]":
    """Trees with the patterns that are looked for in each; whether archives among them are unpacked."""
    origin = instruction.flag("from")
    unpacks = instruction.name == "add" and instruction.flags.get("unpack", ["true"])[-1] == "true"
    sources: list[tuple[Tree, list[str]]] = []
    local: Tree | None = None
    if instruction.flag("checksum"):
        if len(instruction.arguments) > 2:
            raise InvalidParameter("checksum can't be specified for multiple sources")
        if not all(word.startswith(_URLS) for word in instruction.sources):
            raise InvalidParameter("checksum requires HTTP(S) or Git sources")
    for word in instruction.sources:
        if word.startswith(_URLS) and not origin:
            sources.append(await solve.fetched(instruction, word))
            continue
        if local is None:
            local = await solve.source(origin) if origin else tree(path=await solve.context())
        asked = copying_parents.written(word) if instruction.flag("parents") else solve_plan.inside(word) or "."
        sources.append((local, [asked]))
    for heredoc in instruction.inline:
        text = heredoc.text
        if heredoc.expand:
            text = expanded_plainly(text, built.state.variables(), built.state.escape)
        if "/" in heredoc.name or heredoc.name in ("", ".", ".."):
            raise InvalidParameter(f"{instruction.name.upper()} cannot make a file named {heredoc.name!r}")
        folder = solve.files.folder()
        content = text.encode("utf-8", "replace")
        moment = solve.epoch if solve.epoch is not None else int(timestamps.now_ns() // 1_000_000_000)
        await solve.thread(build_copy.write, f"{folder}/{heredoc.name}", content, 0o644, moment)
        sources.append((tree(path=folder), [build_copy.literal(heredoc.name)]))
    return sources, unpacks


async def _archives(
    solve: "Solve",
    instruction: "Instruction",
    found: "Sequence[tuple[str, str]]",
    sources: "Sequence[tuple[Tree, list[str]]]",
    unpacks: bool,
) -> "list[int]":
    asked = "unpack" in instruction.flags
    if instruction.name != "add" or not unpacks or instruction.flag("from"):
        return []
    places = {place["path"] for place, _ in sources}
    if len(places) != 1 or (not asked and places != {solve.context_path}):
        return []
    folder = places.pop()
    return [
        number
        for number, (path, hash) in enumerate(found)
        if hash.startswith("file:") and await solve.thread(build_files.is_archive, folder, path)
    ]


def held(solve: "Solve", layers: "Sequence[LayerRow]") -> None:
    """Keep layers as long as the build lasts. Blocking."""
    with solve.engine.store.write(durable=False):
        solve.lease.hold(*(layer.chain_id for layer in layers))
