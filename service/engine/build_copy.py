"""COPY and ADD: files of the context, of stages and images, of the network or of the Dockerfile itself."""

import os

from service.builder import modes
from service.engine import build_files
from service.engine.build_files import Copy, tree
from service.errors import InvalidParameter, MoorageError, NotFound, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.build_files import Job, Tree
    from service.builder.instructions import Instruction
    from service.engine.build import Build
    from service.engine.build_files import BuildFiles

_UNNAMED = "__unnamed__"


async def copied(build: "Build", instruction: "Instruction") -> None:
    """Do one COPY or ADD. Raises MoorageError with dockerd's sentences."""
    name = instruction.name.upper()
    destination = instruction.arguments[-1]
    sources = await _sources(build, instruction, destination)
    chown, chmod = instruction.flag("chown"), instruction.flag("chmod")
    target = tree()

    async def targeted() -> "Tree":
        made = await build.thread(_target, build)
        target.update(made)
        return target

    job: Job = {
        "do": "copy",
        "staging": build.files.staging,
        "sources": sources,
        "destination": absolute(build.state.config.get("WorkingDir") or "", destination),
        "owner": chown,
        "keeps_owner": bool(instruction.flag("from")),
        "mode": mode(chmod),
    }
    try:
        async with Copy(build.files, job, f"{name} failed: ", targeted) as copying:
            found = copying.found
            if not found:
                raise SystemFailure(f"{name} failed: no source files were specified")
            if len(found) > 1 and not destination.endswith("/"):
                raise SystemFailure(
                    f"When using {name} with more than one source file, the destination must be a directory and end "
                    "with a /"
                )
            flags = (f"--chown={chown} " if chown else "") + (f"--chmod={chmod} " if chmod else "")
            told = f"{name} {flags}{_hash([hash for _, hash in found])} in {destination} "
            config = {**build.state.config, "Cmd": [*build.shell(), f"#(nop) {told}"]}
            if await build.cached(config):
                return
            archives = await _archives(build, instruction, found, sources)
            try:
                await copying.copy([number for number in range(len(found)) if number not in archives])
            except InvalidParameter as error:
                raise SystemFailure(
                    f"unable to convert uid/gid chown string to host mapping: {error.message}"
                ) from None
            except SystemFailure as error:
                raise SystemFailure(f"failed to copy files: {error.message}") from None
        for number in archives:
            try:
                await build.files.extract(target, job["destination"], found[number][0])
            except SystemFailure as error:
                raise SystemFailure(f"failed to copy files: {error.message}") from None
    except NotFound as error:
        reason = f"stat {error.message}: file does not exist"
        if not instruction.flag("from"):
            reason = f"file not found in build context or excluded by .dockerignore: {reason}"
        raise SystemFailure(f"{name} failed: {reason}") from None
    await build.commit_files(config, target["upper"])


def _target(build: "Build") -> "Tree":
    """What a step writes to: over the image that it begins with."""
    return tree(build.lower_paths(build.image), build.files.folder(), build.files.folder())


def absolute(working: str, destination: str) -> str:
    """A destination as a path from the root."""
    if destination.startswith("/"):
        return destination
    path = os.path.normpath(f"/{working}/{destination}")
    path = "/" + path.lstrip("/")
    return path + "/" if destination.endswith("/") and path != "/" else path


def mode(text: str) -> str:
    """What --chmod says, checked. Raises InvalidParameter."""
    try:
        if text:
            modes.parse(text)
    except modes.BadMode as error:
        raise InvalidParameter(str(error)) from None
    return text


def _hash(hashes: "list[str]") -> str:
    import hashlib

    return hashes[0] if len(hashes) == 1 else f"multi:{hashlib.sha256(','.join(hashes).encode()).hexdigest()}"


async def _sources(build: "Build", instruction: "Instruction", destination: str) -> "list[tuple[Tree, list[str]]]":
    """Where the sources are: trees, with the patterns that are looked for in each."""
    name, origin = instruction.name.upper(), instruction.flag("from")
    local = tree(await _layers(build, origin)) if origin else tree(path=build.files.context)
    sources: list[tuple[Tree, list[str]]] = []
    for word in instruction.sources:
        if not word.startswith(("http://", "https://")):
            sources.append((local, [word]))
        elif name == "COPY":
            raise SystemFailure("COPY failed: source can't be a URL for COPY")
        else:
            folder, file = await _downloaded(build, word, destination)
            sources.append((tree(path=folder), [literal(file)]))
    for heredoc in instruction.inline:
        folder = build.files.folder()
        text = heredoc.text
        if heredoc.expand:
            from service.builder.words import expanded_plainly

            text = expanded_plainly(text, build.state.variables(), build.escape)
        if "/" in heredoc.name or heredoc.name in ("", ".", ".."):
            raise InvalidParameter(f"{name} cannot make a file named {heredoc.name!r}")
        await build.thread(write, f"{folder}/{heredoc.name}", text.encode("utf-8", "replace"))
        sources.append((tree(path=folder), [literal(heredoc.name)]))
    if not sources:
        raise SystemFailure(f"{name} failed: no source files were specified")
    return sources


def literal(name: str) -> str:
    """A file's name as a pattern that means it alone."""
    return "".join(f"\\{sign}" if sign in "\\*?[" else sign for sign in name) if set(name) & set("*?[") else name


def write(path: str, content: bytes, mode: int = 0o644, mtime: int = 0) -> None:
    """Make a file. Blocking."""
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, mode)
    os.utime(path, (mtime, mtime))


def _append(path: str, content: bytes) -> None:
    with open(path, "ab") as file:
        file.write(content)


async def _layers(build: "Build", origin: str) -> "list[str]":
    """The layers of --from: a stage by name or number, or an image."""
    failing = f"invalid from flag value {origin}: "
    try:
        if origin.isascii() and origin.lstrip("-").isdigit() and len(origin) < 10:
            number = int(origin)
            if number == len(build.results):
                raise SystemFailure("refers to current build stage")
            if not 0 <= number < len(build.results):
                raise SystemFailure("index out of bounds")
            image = build.results[number][1]
        else:
            image = await build.base(origin, build.options.platform)
    except MoorageError as error:
        raise type(error)(failing + error.message) from None
    return await build.thread(build.lower_paths, image)


async def _archives(
    build: "Build", instruction: "Instruction", found: "list[tuple[str, str]]", sources: "list[tuple[Tree, list[str]]]"
) -> "list[int]":
    """Which of the found files ADD unpacks: archives of the context. Downloads and heredocs are copied as they are."""
    if instruction.name != "add" or all(place["path"] != build.files.context for place, _ in sources):
        return []
    await build.files.unpacked()
    archives = []
    for number, (path, hash) in enumerate(found):
        if hash.startswith("file:") and await build.thread(build_files.is_archive, build.files.context, path):
            archives.append(number)
    return archives


async def _downloaded(build: "Build", url: str, destination: str) -> "tuple[str, str]":
    """Fetch a file, telling how far it is; the directory that it is in, and its name."""
    from service.engine import progress

    async def told(current: int, total: int) -> None:
        await build.tell(progress.bar("", "Downloading", current, total))

    found = await downloaded(build.files, url, destination, told, failing="ADD failed: ")
    await build.say("\n")
    return found


async def downloaded(
    files: "BuildFiles",
    url: str,
    destination: str,
    told: "Callable[[int, int], Awaitable[None]]",
    *,
    failing: str = "",
    later: bool = False,
) -> "tuple[str, str]":
    """Fetch a file; the directory that it is in, and its name. `told` takes bytes so far, and in all. `later`: by
    BuildKit's rules.

    Raises SystemFailure, beginning with `failing`.
    """
    import email.message
    import email.utils
    from urllib.parse import unquote, urlsplit

    import aiohttp

    thread = files.engine.thread
    path = unquote(urlsplit(url).path)
    folder = files.folder()
    try:
        async with aiohttp.ClientSession(auto_decompress=False) as session, session.get(url) as response:
            if response.status >= 400 and later:
                raise SystemFailure(f"failed to load cache key: invalid response status {response.status}")
            if response.status >= 400:
                said = (await response.content.read(4096)).decode("utf-8", "replace").strip()
                raise SystemFailure(
                    f"{failing}failed to GET {url} with status {response.status} {response.reason}: {said}"
                )
            name = "" if path.endswith("/") else os.path.basename(path)
            if not name and response.headers.get("Content-Disposition"):
                header = email.message.Message()
                header["Content-Disposition"] = response.headers["Content-Disposition"]
                name = os.path.basename(header.get_filename() or "")
            if not name and destination.endswith("/") and not later:
                raise SystemFailure(f"{failing}cannot determine filename for source {url}")
            name = name or _UNNAMED
            if name in (".", ".."):
                raise SystemFailure(f"{failing}cannot determine filename for source {url}")
            total, current = response.content_length or 0, 0
            async for piece in response.content.iter_chunked(1 << 20):
                await thread(_append, f"{folder}/{name}", piece)
                current += len(piece)
                await told(current, total)
            if not current:
                await thread(_append, f"{folder}/{name}", b"")
            stated = response.headers.get("Last-Modified") or ""
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise SystemFailure(f'{failing}Get "{url}": {error}') from None
    try:
        mtime = int(email.utils.parsedate_to_datetime(stated).timestamp()) if stated else 0
    except ValueError:
        mtime = 0
    os.chmod(f"{folder}/{name}", 0o600)
    os.utime(f"{folder}/{name}", (mtime, mtime))
    return folder, name
