"""Where a build's Dockerfile and its files come from: the request's body, or a place in the network."""

import os

from service.builder import ignore
from service.builder.dockerfile import BadDockerfile, Dockerfile, parse
from service.content import git
from service.engine.build_files import BuildFiles
from service.engine.import_ import fetched
from service.errors import InvalidParameter, NotFound, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.engine.build_options import Options

_TELLING = 512  # bytes at the beginning of a download that tell a tar from a Dockerfile
_LARGEST = 16 << 20  # bytes of a Dockerfile that is fetched


async def begun(files: BuildFiles, options: "Options", body: "AsyncIterator[bytes]") -> Dockerfile:
    """Fill the context; its Dockerfile. Raises InvalidParameter, SystemFailure, NotFound."""
    if not options.remote:
        await files.receive(body)
        if files.is_little:
            return _of_context(files, options)
        return await files.engine.thread(_of_context, files, options)
    async for _ in body:
        continue  # nothing is wanted of it
    if options.remote == "client-session":
        raise InvalidParameter(
            "experimental session with v1 builder is no longer supported, use builder version v2 (BuildKit) instead"
        )
    if git.is_repository(options.remote):
        settings = files.engine.settings
        try:
            files.context = await files.engine.thread(git.fetched, settings, files.folder(), files.home, options.remote)
        except NotFound as error:
            raise SystemFailure(f"error fetching: {error.message}") from None
        return await files.engine.thread(_of_context, files, options)
    if not options.remote.startswith(("http://", "https://")):
        raise SystemFailure(f"remoteURL ({options.remote}) could not be recognized as URL")
    return await _downloaded(files, options)


async def _downloaded(files: BuildFiles, options: "Options") -> Dockerfile:
    pieces = fetched(files.engine, options.remote)
    first = b""
    try:
        async for piece in pieces:
            first += piece
            if len(first) >= _TELLING:
                break
    except SystemFailure as error:
        raise SystemFailure(f"error downloading remote context {options.remote}: {error.message}") from None
    if not first:
        raise SystemFailure(f"error detecting content type for remote {options.remote}: empty response")
    if not _is_text(first):
        await files.receive(_joined(first, pieces))
        return await files.engine.thread(_of_context, files, options)
    async for piece in pieces:
        first += piece
        if len(first) > _LARGEST:
            raise InvalidParameter("the Dockerfile is too large")
    return _parsed(first)


async def _joined(first: bytes, rest: "AsyncIterator[bytes]") -> "AsyncIterator[bytes]":
    yield first
    async for piece in rest:
        yield piece


def _is_text(beginning: bytes) -> bool:
    from service.content.layers import compression

    return not compression(beginning) and b"\0" not in beginning


def _of_context(files: BuildFiles, options: "Options") -> Dockerfile:
    """The Dockerfile of the context. It is taken out of the context itself where .dockerignore says so."""
    path = options.dockerfile
    if os.path.normpath(path).split("/")[0] == "..":
        raise SystemFailure(f"forbidden path outside the build context: {path} ()")
    try:
        text = files.read(path)
    except NotFound:
        try:
            if path != "Dockerfile":
                raise
            path = "dockerfile"
            text = files.read(path)
        except NotFound:
            raise SystemFailure(f"Cannot locate specified Dockerfile: {options.dockerfile}") from None
    if not text:
        raise InvalidParameter(f"the Dockerfile ({path}) cannot be empty")
    try:
        parsed = _parsed(text)
    except InvalidParameter as error:
        raise InvalidParameter(f"failed to parse {path}: {error.message}") from None
    _leave_out(files, path)
    return parsed


def _leave_out(files: BuildFiles, path: str) -> None:
    try:
        listed = ignore.patterns(files.read(".dockerignore").decode("utf-8", "replace"))
    except NotFound:
        return
    for name in (".dockerignore", os.path.normpath(path)):
        if ignore.leaves_out(listed, name):
            files.leave_out(name)


def _parsed(text: bytes) -> Dockerfile:
    try:
        return parse(text)
    except BadDockerfile as error:
        raise InvalidParameter(str(error)) from None
