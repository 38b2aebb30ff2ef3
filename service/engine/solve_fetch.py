"""What a BuildKit build fetches from the network: contexts that are not the client's, and the sources of ADD."""

import base64
import contextlib
import hashlib
import re
from urllib.parse import urlsplit

from service.content import git
from service.engine import build_copy, solve_steps
from service.engine.build_files import Copy, is_archive, tree
from service.errors import InvalidParameter, NotFound, SystemFailure
from service.kernel.tree import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.build_files import Job, Tree
    from service.builder.instructions import Instruction
    from service.engine.solve import Solve
    from service.engine.solve_told import Step
    from service.store.images import LayerRow

_SESSION = ("http://buildkit-session/", "https://buildkit-session/")
_GIT = re.compile(r"^(?:git://|ssh://|git@|github\.com/)|^https?://[^#?]*\.git(?:[#?]|$)")
_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}  # by algorithm: the length of a digest


async def context(solve: "Solve", url: str) -> str:
    """A context that the client uploads, or that is in the network, as a directory. Raises SystemFailure."""
    if url.startswith(_SESSION):
        async with solve.step("[internal] load remote build context") as step:
            return await _spooled(solve, url, solve.session.upload(url), step)
    if _GIT.match(url):
        solve.used.place(url, "", context=url == solve.attributes.get("context"))
        async with solve.step(f"[internal] load git source {_public(url)}"):
            return await _repository(solve, url)
    from service.engine.import_ import fetched

    async with solve.step(f"[internal] load remote build context {_public(url)}") as step:
        return await _spooled(solve, url, fetched(solve.engine, url), step)


async def _spooled(solve: "Solve", url: str, pieces: "AsyncIterator[bytes]", step: "Step") -> str:
    """An archive as a directory; what is no archive is a Dockerfile."""
    told, total = step.transferred("transferring context:"), 0
    folder, digest = solve.files.folder(), hashlib.sha256()
    path = f"{folder}/Dockerfile"
    with await solve.thread(open, path, "wb") as file:
        async for piece in pieces:
            await solve.thread(file.write, piece)
            digest.update(piece)
            total += len(piece)
            told(total, 0)
    told(total, 0, done=True)
    solve.used.place(url, f"sha256:{digest.hexdigest()}", context=url == solve.attributes.get("context"))
    if not await solve.thread(is_archive, folder, "Dockerfile"):
        return folder
    context = solve.files.folder()
    await solve.files.extract(tree(upper=context, work=solve.files.folder()), "/", "Dockerfile", folder)
    await solve.thread(remove_tree, folder)
    return context


async def _repository(solve: "Solve", url: str, *, keeps_git: "bool | None" = None, commit: str = "") -> str:
    checkout = solve.files.folder()
    authorization = await _authorization(solve, url) if url.startswith(("http://", "https://")) else ""
    try:
        async with contextlib.AsyncExitStack() as stack:
            agent = await _agent(solve, stack) if git.is_by_ssh(url) else ""
            return await solve.thread(
                lambda: git.fetched(
                    solve.engine.settings,
                    checkout,
                    solve.files.home,
                    url,
                    keeps_git=keeps_git,
                    commit=commit,
                    authorization=authorization,
                    agent=agent,
                )
            )
    except NotFound as error:
        raise SystemFailure(f"failed to load cache key: {error.message}") from None


async def _agent(solve: "Solve", stack: "contextlib.AsyncExitStack") -> str:
    """The socket of the client's agent, for as long as `stack` lasts. Raises NotFound when it forwards none."""
    solve.used.agents.setdefault("default", True)
    path = await solve.thread(solve.private_path)
    await stack.enter_async_context(solve.session.ssh("default", path))
    return path


async def _authorization(solve: "Solve", url: str) -> str:
    """The header Authorization for a repository, of the client's secrets that BuildKit has names for."""
    host = urlsplit(url).hostname or ""
    for name in (f"GIT_AUTH_HEADER.{host}", "GIT_AUTH_HEADER"):
        if header := await solve.session.secret(name):
            return header.decode("utf-8", "replace").strip()
    for name in (f"GIT_AUTH_TOKEN.{host}", "GIT_AUTH_TOKEN"):
        if token := await solve.session.secret(name):
            return "basic " + base64.b64encode(b"x-access-token:" + token.strip()).decode()
    return ""


def _public(url: str) -> str:
    """A URL without what may be a password."""
    return re.sub(r"//[^/@]*@", "//", url)


async def source(solve: "Solve", instruction: "Instruction", url: str) -> "tuple[str, str]":
    """What ADD names: a directory, and what is looked for in it. Raises SystemFailure, InvalidParameter."""
    name, checksum = instruction.name.upper(), instruction.flag("checksum")
    if name == "COPY" and _GIT.match(url):
        raise InvalidParameter("source can't be a git ref for COPY")
    if name == "COPY":
        raise InvalidParameter(f"source can't be a URL for {name}")
    if _GIT.match(url):
        solve.used.place(url, "")
        keeps = bool(instruction.flag("keep-git-dir")) if "keep-git-dir" in instruction.flags else None
        return await _repository(solve, url, keeps_git=keeps, commit=checksum.lower()), "."
    algorithm, _, digits = checksum.partition(":")
    if checksum:
        _check(algorithm, digits)
    async with solve.step(_public(url)) as step:

        async def told(current: int, total: int) -> None:
            step.line_soon("downloading", current, total, done=False)

        folder, file = await build_copy.downloaded(solve.files, url, instruction.arguments[-1], told, later=True)
        got = await solve.thread(_digest, f"{folder}/{file}", algorithm or "sha256")
        solve.used.place(url, got)
        if checksum and got != checksum:
            raise SystemFailure(f"digest mismatch {got}: {checksum}")
    return folder, build_copy.literal(file)


def _check(algorithm: str, digits: str) -> None:
    """Raises InvalidParameter in BuildKit's words for what is no digest."""
    if not digits or not algorithm:
        raise InvalidParameter("invalid checksum digest format")
    if algorithm not in _DIGITS:
        raise InvalidParameter("unsupported digest algorithm")
    if len(digits) != _DIGITS[algorithm]:
        raise InvalidParameter("invalid checksum digest length")
    if digits.strip("0123456789abcdef"):
        raise InvalidParameter("invalid checksum digest format")


def _digest(path: str, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return f"{algorithm}:{digest.hexdigest()}"


async def layer(solve: "Solve", origin: "Tree") -> "LayerRow":
    """A directory as a layer of its own: what a stage begins with whose FROM names a context."""
    upper, scratch = solve.files.folder(), solve.files.folder()
    job: Job = {
        "do": "copy",
        "staging": solve.files.staging,
        "target": tree(upper=upper, work=scratch),
        "sources": [(origin, ["."])],
        "destination": "/",
        "keeps_owner": True,
        "later": True,
    }
    try:
        async with Copy(solve.files, job, "") as copying:
            await copying.copy(list(range(len(copying.found))))
    except NotFound as error:
        raise SystemFailure(f"failed to load context: {error.message}") from None
    return await solve.thread(solve_steps.layer_of, solve, [], upper)
