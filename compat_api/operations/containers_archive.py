"""A container's files: `cp` both ways, export, changes."""

from compat_api.declaration import STREAM, Flag, Header, Text, get, head, operation
from compat_api.reply import Reply, Stream
from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from service.engine.engine import Engine

TAR = b"application/x-tar"


def path_stat(found: "Mapping[str, object]") -> "tuple[bytes, bytes]":
    """The header that tells what a path leads to."""
    from base64 import b64encode

    from service import jsontext

    return b"X-Docker-Container-Path-Stat", b64encode(jsontext.dump_bytes(found))


def check(path: str) -> None:
    """Raises InvalidParameter when no path was given."""
    if not path:
        raise InvalidParameter("bad parameter: path cannot be empty")


@head("/containers/{id}/archive")
async def container_archive_info(engine: "Engine", id: str, path: str = Text()) -> Reply:
    """What a path in a container leads to (API: ContainerArchiveInfo)."""
    from service.engine import archive

    check(path)
    return Reply(headers=[path_stat(await archive.stat(engine, id, path))])


@get("/containers/{id}/archive")
async def container_archive(
    engine: "Engine", id: str, path: str = Text(), accept_encoding: str = Header(name="accept-encoding")
) -> Stream:
    """What is at a path in a container, as a tar (API: ContainerArchive)."""
    from service.engine import archive

    check(path)
    found, pieces = await archive.archive(engine, id, path)
    coding = content_coding(accept_encoding)
    if not coding:
        return Stream(pieces, TAR, headers=[path_stat(found)])
    from compat_api.streams.compressed import Compressed

    return Stream(
        Compressed(pieces, coding, engine.thread),
        TAR,
        headers=[path_stat(found), (b"Content-Encoding", coding.encode())],
    )


def content_coding(accepted: str) -> str:
    """`gzip`, `deflate` or none, as the client prefers (RFC 9110, section 12.5.3); gzip where it does not mind."""
    best, chosen = 0.0, ""
    qualities = dict(_quality(part) for part in accepted.lower().split(",") if part.strip())
    for coding in ("gzip", "deflate"):
        quality = qualities.get(coding, qualities.get("*", 0.0))
        if quality > best:
            best, chosen = quality, coding
    return chosen if best >= qualities.get("identity", 0.0) else ""


def _quality(part: str) -> tuple[str, float]:
    coding, _, parameter = part.partition(";")
    name, _, value = parameter.strip().partition("=")
    try:
        return coding.strip(), float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return coding.strip(), 0.0


@operation("PUT", "/containers/{id}/archive", STREAM)
async def put_container_archive(
    engine: "Engine",
    id: str,
    path: str = Text(),
    keep_kinds: bool = Flag(name="noOverwriteDirNonDir"),
    as_user: bool = Flag(name="copyUIDGID"),
    *,
    body: "AsyncIterator[bytes]",
) -> Reply:
    """Extract a tar into a directory of a container (API: PutContainerArchive)."""
    from service.engine import archive

    check(path)
    await archive.extract(engine, id, path, body, keep_kinds=keep_kinds, as_user=as_user)
    return Reply()


@get("/containers/{id}/export")
async def container_export(engine: "Engine", id: str) -> Stream:
    """A container's root file system as a tar (API: ContainerExport)."""
    from service.engine import archive

    return Stream(await archive.export(engine, id), b"application/octet-stream")


@get("/containers/{id}/changes")
async def container_changes(engine: "Engine", id: str) -> Reply:
    """What a container has changed in its image's files (API: ContainerChanges)."""
    from service.engine import diff

    return Reply.json(await engine.thread(diff.changes, engine, id))
