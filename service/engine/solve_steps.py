"""The steps of a BuildKit build that make layers: RUN, COPY, ADD and WORKDIR.

A step's key says what its layer depends on: the layers below it (by their content: a step that was done again with the
same result changes nothing above it), the instruction, and the content of what it copies or mounts. Not what secrets
and agents are, nor the predefined proxy arguments.
"""

import asyncio
import hashlib
import os
import re
import weakref

from service import jsontext, timestamps
from service.build_files import TOO_MANY_LINKS
from service.builder import configuration, run_mounts
from service.builder.arguments import PREDEFINED
from service.builder.dockerfile import BadDockerfile, heredoc_of
from service.builder.words import expanded_plainly, quoted
from service.content import copying_parents, platforms, tarball
from service.engine import build_copy, build_files, build_run, child_image, container_config, solve_cache, solve_plan
from service.engine.build_files import Copy, tree
from service.engine.solving import NETWORK_HOST, SECURITY_INSECURE
from service.errors import InvalidParameter, MoorageError, NotFound, StartRefused, SystemFailure
from service.patterns import glob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AsyncExitStack
    from typing import Any

    from service.build_files import Job, Tree
    from service.builder.instructions import Instruction
    from service.builder.run_mounts import RunMount
    from service.engine.solve import Solve
    from service.engine.solve_image import Built
    from service.engine.solve_told import Step
    from service.model.container import MountPoint
    from service.store.images import LayerRow

SANDBOX = "buildkitsandbox"  # the name of the machine that a step sees
_URLS = ("http://", "https://", "git@", "ssh://", "git://")
_EMPTY_TAR = bytes(1024)
_UNKNOWN_FORMAT = b"exec format error"
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


def _not_there(solve: "Solve", path: str) -> SystemFailure:
    """What is copied or mounted does not exist: in BuildKit's words."""
    missing = os.path.normpath("/" + path.lstrip("/"))
    return _unreadable(solve, f"{quoted(missing)}: not found")


def _unreadable(solve: "Solve", reason: str) -> SystemFailure:
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
        raise _not_there(solve, error.message) from None
    except SystemFailure as error:
        if error.message.startswith(TOO_MANY_LINKS):
            raise _unreadable(solve, error.message) from None
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
            raise _unreadable(solve, told) from None
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


# ── RUN ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def mounts_of(built_working: str, instruction: "Instruction", expand: "Callable[[str], str]") -> "list[RunMount]":
    """The mounts of a RUN. Raises BadDockerfile."""
    return [
        run_mounts.placed(run_mounts.parse(text, expand), built_working) for text in instruction.flags.get("mount", ())
    ]


def command(built: "Built", instruction: "Instruction") -> "list[str]":
    """What RUN runs: a heredoc alone is the shell's text (or a program, with #!), others go to the shell."""
    state = built.state
    shell = list(state.config.get("Shell") or configuration.SHELL)
    if not instruction.heredocs:
        return state.command(instruction)
    text = instruction.arguments[0]
    if heredoc_of(text) is None:
        return [*shell, "\n".join([text, *(heredoc.content + heredoc.name for heredoc in instruction.heredocs)])]
    heredoc = instruction.heredocs[0]
    if heredoc.text.startswith("#!"):
        return [*shell, f"/dev/pipes/{heredoc.name}"]
    return [*shell, heredoc.text]


async def run(solve: "Solve", built: "Built", instruction: "Instruction", step: "Step") -> None:
    """RUN."""
    from contextlib import AsyncExitStack

    state = built.state
    words = command(built, instruction)
    environment = state.environment()
    variables = state.variables()
    counted = [f"{name}={variables.get(name, '')}" for name in dict.fromkeys(state.arguments.declared)]
    proxies = {f"{name}=" for name in PREDEFINED - set(state.arguments.defined)}
    saved = [f"|{len(counted)}", *counted, *words] if counted else words
    if device := instruction.flag("device"):
        raise InvalidParameter(f"failed to load LLB: device {device} is requested by the build but not registered")
    network, security = _allowed(solve, instruction)
    mounts = mounts_of(state.config.get("WorkingDir") or "", instruction, solve.expander(built))
    async with AsyncExitStack() as stack:
        origins = [await _origin(solve, mount) for mount in mounts]
        contents = [await _content(solve, mount, origin) for mount, origin in zip(mounts, origins, strict=True)]
        key = hashed(
            "run",
            chain(built.layers),
            saved,
            [variable for variable in environment if f"{variable.partition('=')[0]}=" not in proxies],
            state.config.get("WorkingDir") or "",
            state.config.get("User") or "",
            network,
            security,
            contents,
            solve.host_key,
            [heredoc.text for heredoc in instruction.heredocs],
        )

        async def work() -> "LayerRow":
            host = {**solve.host, "NetworkMode": network, "Privileged": security == "insecure"}
            whole = container_config.whole(
                {
                    **{name: state.config.get(name) for name in ("User", "WorkingDir")},
                    "Hostname": solve.attributes.get("hostname") or SANDBOX,
                    "Env": [*environment, "HOSTNAME"],
                    "Cmd": words,
                }
            )
            container = build_run.HiddenContainer(
                solve.engine,
                solve.lease,
                layers=[layer.directory for layer in built.layers],
                config=whole,
                host=host,
            )
            unknown = False  # whether the kernel knew no way to run it

            async def told(stream: int, data: bytes) -> None:
                nonlocal unknown
                unknown = unknown or _UNKNOWN_FORMAT in data
                await step.log(stream, data)

            async with container:
                for mount, origin in zip(mounts, origins, strict=True):
                    await _mount(solve, stack, container, mount, origin)
                await _scripts(solve, container, instruction)
                stubs = await solve.thread(
                    _missing, solve.lower(built.layers), [p["Destination"] for p in container.mounts]
                )
                await container.create()
                try:
                    code, _ = await build_run.ran(solve.engine, container.id, told)
                except StartRefused as error:
                    said = error.message[error.message.find("unable to start") :].removesuffix(": unknown")
                    await step.log(2, f"runc run failed: {said}\n".encode())
                    code = 1
                if code and unknown and built.is_foreign(solve.here):
                    text = f"this machine ({platforms.text(solve.here)}) has no binfmt_misc handler for such programs\n"
                    await step.log(2, text.encode())
                if code:
                    raise SystemFailure(f'process "{" ".join(words)}" did not complete successfully: exit code: {code}')
                await solve.thread(_clean, container.upper, stubs)
                return await solve.thread(layer_of, solve, built.layers, container.upper)

        try:
            made = await kept(
                solve,
                step,
                key,
                f"mount / from exec {' '.join(words)}",
                work,
                ignores_cache=solve.ignores_cache(built),
            )
        except MoorageError as error:
            if isinstance(error, SystemFailure):
                raise
            said = re.sub(
                r"/\S+/sources/[0-9a-f]+-[0-9]+", "", error.message
            )  # where a mount's source is on this machine
            raise SystemFailure(f'process "{" ".join(words)}" did not complete successfully: {said}') from None
    built.step(f"RUN {' '.join(saved)} # buildkit", *made)


def _allowed(solve: "Solve", instruction: "Instruction") -> "tuple[str, str]":
    """Network mode and security mode of a step. Raises BadDockerfile, InvalidParameter."""
    network = instruction.flag("network") or solve.attributes.get("force-network-mode") or "default"
    security = instruction.flag("security") or "sandbox"
    if network not in ("default", "none", "host"):
        raise BadDockerfile(f'dockerfile parse error on line {instruction.number}: invalid network mode "{network}"')
    if security not in ("sandbox", "insecure"):
        raise BadDockerfile(f'dockerfile parse error on line {instruction.number}: security "{security}" is not valid')
    if network == "host" and NETWORK_HOST not in solve.request.entitlements:
        raise InvalidParameter(f"failed to load LLB: {NETWORK_HOST} is not allowed")
    if security == "insecure" and SECURITY_INSECURE not in solve.request.entitlements:
        raise InvalidParameter(f"failed to load LLB: {SECURITY_INSECURE} is not allowed")
    return network, security


async def _origin(solve: "Solve", mount: "RunMount") -> "Tree | None":
    if mount.origin:
        return await solve.source(mount.origin)
    if mount.type == run_mounts.BIND:
        return tree(path=await solve.context())
    return None


async def _content(solve: "Solve", mount: "RunMount", origin: "Tree | None") -> "list[object]":
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
                raise _not_there(solve, mount.source) from None
        else:
            told.append(origin["layers"])
    return told


async def _mount(
    solve: "Solve",
    stack: "AsyncExitStack",
    container: build_run.HiddenContainer,
    mount: "RunMount",
    origin: "Tree | None",
) -> None:
    """Make a mount ready, and put it among those of the container."""
    if mount.type == run_mounts.TMPFS:
        options = [f"size={mount.size}"] if mount.size else []
        container.mounts.append(_point("tmpfs", "", mount.target, Options=[*options, "exec", "mode=1777"]))
    elif mount.type == run_mounts.SECRET:
        await _secret(solve, container, mount)
    elif mount.type == run_mounts.SSH:
        await _agent(solve, stack, container, mount)
    elif mount.type == run_mounts.CACHE:
        path = await _cache(solve, stack, mount, origin)
        container.mounts.append(_point("bind", path, mount.target, writable=not mount.read_only))
    else:
        assert origin is not None
        await _bind(solve, container, mount, origin)


def _point(kind: str, source: str, target: str, *, writable: bool = True, **more: "Any") -> "MountPoint":
    point: Any = {
        "Type": kind,
        "Source": source,
        "Destination": target,
        "Mode": "",
        "RW": writable,
        "Propagation": "rprivate" if kind != "tmpfs" else "",
        **more,
    }
    return point  # type: ignore[no-any-return]  # built from its keys


async def _bind(solve: "Solve", container: build_run.HiddenContainer, mount: "RunMount", origin: "Tree") -> None:
    """Files of a context, a stage or an image. What is written to them is lost with the step."""
    from service.engine import mount_sources

    if mount.read_only and origin["path"]:
        found = await solve.thread(_inside, origin["path"], mount.source)
        container.mounts.append(_point("bind", found, mount.target, writable=False))
        return
    at = mount_sources.place(solve.engine.settings, container.id, mount.target)
    layers = [os.path.basename(os.path.dirname(path)) for path in reversed(origin["layers"])]
    more: dict[str, Any] = {"Layers": [origin["path"]] if origin["path"] else layers, "Name": "", "Image": ""}
    if mount.source.strip("/"):
        more["Subpath"] = mount.source.strip("/")
    if not mount.read_only:
        more |= {"Upper": solve.files.folder(), "Work": solve.files.folder()}
    container.mounts.append(_point("image", at, mount.target, writable=not mount.read_only, **more))


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
    key = hashed("cache", namespace, name, origin and origin["layers"], mount.source if origin else "", owned)
    if mount.sharing == run_mounts.PRIVATE:
        number = 0
        while lock(f"{key}-{number}").locked():
            number += 1
        key = f"{key}-{number}"
    guard = lock(key)
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
        container.mounts.append(_point("bind", path, mount.target, writable=False))


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
        container.mounts.append(_point("bind", path, target))
    container.config["Env"] = [f"SSH_AUTH_SOCK={target}", *(container.config["Env"] or ())]


async def _scripts(solve: "Solve", container: build_run.HiddenContainer, instruction: "Instruction") -> None:
    """A heredoc that names its own interpreter is a file that is run."""
    if not instruction.heredocs or not container.config["Cmd"][-1].startswith("/dev/pipes/"):
        return
    heredoc = instruction.heredocs[0]
    path = await solve.thread(solve.private_file, heredoc.text.encode("utf-8", "replace"), 0o755, 0, 0)
    container.mounts.append(_point("bind", path, f"/dev/pipes/{heredoc.name}", writable=False))


def _missing(layers: "Sequence[str]", targets: "Sequence[str]") -> "list[str]":
    """The paths that the runtime has to make for mounts, the deepest first. Blocking."""
    found: list[str] = []
    for target in targets:
        parts = target.strip("/").split("/")
        for count in range(len(parts), 0, -1):
            path = "/".join(parts[:count])
            if any(os.path.lexists(f"{layer}/{path}") for layer in layers):
                break
            if path not in found:
                found.append(path)
    return sorted(found, key=lambda path: -path.count("/"))


def _clean(upper: str, stubs: "Sequence[str]") -> None:
    """Take away what was made for mounts only, where nothing else has come to be in it. Blocking."""
    for path in stubs:
        full = f"{upper}/{path}"
        above = os.path.dirname(full)
        if os.path.realpath(above) != above:
            continue  # a link that the step made
        before = os.stat(above) if os.path.isdir(above) else None
        try:
            if os.path.isdir(full) and not os.path.islink(full):
                os.rmdir(full)
            elif os.path.isfile(full) and not os.path.islink(full) and not os.path.getsize(full):
                os.unlink(full)
            else:
                continue
        except OSError:
            continue  # the step has put something there
        if before is not None:
            os.utime(above, ns=(before.st_atime_ns, before.st_mtime_ns))


def held(solve: "Solve", layers: "Sequence[LayerRow]") -> None:
    """Keep layers as long as the build lasts. Blocking."""
    with solve.engine.store.write(durable=False):
        solve.lease.hold(*(layer.chain_id for layer in layers))
