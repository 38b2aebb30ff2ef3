"""What a BuildKit build fetches from the network: contexts that are not the client's, and the sources of ADD."""

import hashlib
import re

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
_CHECKSUM = re.compile(r"^sha256:[0-9a-f]{64}$")


async def context(solve: "Solve", url: str) -> str:
    """A context that the client uploads, or that is in the network, as a directory. Raises SystemFailure."""
    if url.startswith(_SESSION):
        async with solve.step("[internal] load remote build context") as step:
            return await _spooled(solve, solve.session.upload(url), step)
    if _GIT.match(url):
        async with solve.step(f"[internal] load git source {_public(url)}"):
            return await _repository(solve, url, keeps_git=False)
    from service.engine.import_ import fetched

    async with solve.step(f"[internal] load remote build context {_public(url)}") as step:
        return await _spooled(solve, fetched(solve.engine, url), step)


async def _spooled(solve: "Solve", pieces: "AsyncIterator[bytes]", step: "Step") -> str:
    """An archive as a directory; what is no archive is a Dockerfile."""
    told, total = step.transferred("transferring context:"), 0
    folder = solve.files.folder()
    path = f"{folder}/Dockerfile"
    with await solve.thread(open, path, "wb") as file:
        async for piece in pieces:
            await solve.thread(file.write, piece)
            total += len(piece)
            told(total, 0)
    told(total, 0, done=True)
    if not await solve.thread(is_archive, folder, "Dockerfile"):
        return folder
    context = solve.files.folder()
    await solve.files.extract(tree(upper=context, work=solve.files.folder()), "/", "Dockerfile", folder)
    await solve.thread(remove_tree, folder)
    return context


async def _repository(solve: "Solve", url: str, *, keeps_git: bool) -> str:
    checkout = solve.files.folder()
    return await solve.thread(
        lambda: git.fetched(solve.engine.settings, checkout, solve.files.home, url, keeps_git=keeps_git)
    )


def _public(url: str) -> str:
    """A URL without what may be a password."""
    return re.sub(r"//[^/@]*@", "//", url)


async def source(solve: "Solve", instruction: "Instruction", url: str) -> "tuple[str, str]":
    """What ADD names: a directory, and what is looked for in it. Raises SystemFailure, InvalidParameter."""
    name, checksum = instruction.name.upper(), instruction.flag("checksum")
    if name == "COPY":
        raise InvalidParameter(f"source can't be a URL for {name}")
    if _GIT.match(url):
        return await _repository(solve, url, keeps_git=bool(instruction.flag("keep-git-dir"))), "."
    if checksum and not _CHECKSUM.match(checksum):
        raise InvalidParameter(f"invalid checksum digest format: {checksum}")
    async with solve.step(_public(url)) as step:

        async def told(current: int, total: int) -> None:
            step.line_soon("downloading", current, total, done=False)

        folder, file = await build_copy.downloaded(solve.files, url, instruction.arguments[-1], told, failing="")
        if checksum:
            got = await solve.thread(_digest, f"{folder}/{file}")
            if got != checksum:
                raise SystemFailure(f"digest mismatch {got}: {checksum}")
    return folder, build_copy.literal(file)


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


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
