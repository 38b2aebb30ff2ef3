"""The service process with operations of the tests' own: each shows one way in which an answer can go out.

Started like the product (`python -I -S`), with the product's own life; only the operations under /test/ are added.
"""

import sys

ROOT = __file__.rpartition("/tests/")[0]
VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
sys.path[:0] = [ROOT]
sys.path += [f"{sys.executable.rpartition('/bin/')[0]}/lib/{VERSION}/site-packages", "/usr/lib/python3/dist-packages"]

from compat_api import life, operations  # noqa: E402 - the path is found above
from compat_api.declaration import STREAM, Filters, Flag, Header, Int, Text, Texts, get, post  # noqa: E402 - as above
from compat_api.reply import Hijack, Later, Reply, Stream  # noqa: E402 - as above
from service.errors import NotFound, NotModified  # noqa: E402 - as above

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from compat_api.reply import Connection

operations.CHAPTERS["test"] = ()
seen: "dict[str, Any]" = {}
weights: "list[Any]" = []


@get("/test/short")
def short(
    limit: int = Int(),
    all: bool = Flag(),
    filters: "dict[str, list[str]]" = Filters(),
    name: "list[str]" = Texts(),
) -> Reply:
    """Everything that a query can say, told back."""
    return Reply.json({"limit": limit, "all": all, "filters": filters, "name": list(name)})


@get("/test/large")
def large() -> Reply:
    """An answer that needs several segments."""
    return Reply.json(["x" * 100] * 100)


@get("/test/huge")
def huge() -> Reply:
    """An answer larger than what a socket holds."""
    return Reply.json(["x" * 1000] * 3000)


@get("/test/seen")
def tell_seen() -> Reply:
    """What the other operations have noted."""
    return Reply.json(seen)


@get("/test/{id}/named/{rest*}/end")
def named(id: str, rest: str) -> Reply:
    """Path values."""
    return Reply.json([id, rest])


@get("/test/broken")
def broken() -> Reply:
    """A bug."""
    raise KeyError("/a/secret/path")


@post("/test/unchanged")
async def unchanged() -> Reply:
    """Nothing to do."""
    raise NotModified("already so")


@get("/test/weighed")
def weighed(size: bool = Flag(), missing: bool = Flag()) -> "Reply | Later":
    """Short, but for a size: that is weighed until `/test/weights` is asked for."""
    import threading

    def weigh() -> Reply:
        if missing:
            raise NotFound("no such scales")
        assert weights[0].wait(20)
        return Reply.json({"thread": threading.current_thread() is not threading.main_thread()})

    if size:
        weights.extend([] if weights else [threading.Event()])  # stage 0 asks first, and leaves it to the loop
        return Later(weigh)
    return Reply.json({"thread": False})


@get("/test/weights")
def put_weights() -> Reply:
    """Let what is being weighed end."""
    weights[0].set()
    return Reply.empty()


@get("/test/later")
async def later(ms: int = Int(), header: str = Header(name="x-test")) -> Reply:
    """An answer after a while."""
    import asyncio

    await asyncio.sleep(ms / 1000)
    return Reply.json({"header": header})


@post("/test/start")
async def start() -> Reply:
    """An answer without a body."""
    return Reply.empty()


@post("/test/create", body="tests.support.wire_schema:Thing")
async def create(*, body: "Any") -> Reply:
    """A validated body."""
    return Reply.json({"Name": body.Name, "Size": body.Size}, status=201)


@post("/test/must", body="tests.support.wire_schema:Thing", body_required=True)
async def must(*, body: "Any") -> Reply:
    """A body that must be there."""
    return Reply.json({"Name": body.Name}, status=201)


@post("/test/upload", body=STREAM)
async def upload(*, body: "Any") -> Reply:
    """A body taken as it comes."""
    import hashlib

    digest, size = hashlib.sha256(), 0
    async for piece in body:
        digest.update(piece)
        size += len(piece)
    return Reply.json({"size": size, "sha256": digest.hexdigest()})


@post("/test/transform", body=STREAM)
async def transform(*, body: "Any") -> Stream:
    """A stream that answers while its body still arrives."""

    async def pieces() -> "AsyncIterator[bytes]":
        async for piece in body:
            yield piece.upper()

    return Stream(pieces())


@get("/test/stream")
async def stream(count: int = Int(), size: int = Int()) -> Stream:
    """Pieces, as fast as the client takes them."""

    seen["stream closed"] = False

    async def pieces() -> "AsyncIterator[bytes]":
        try:
            for number in range(count):
                seen["pieces"] = number + 1
                yield b"x" * size
        finally:
            seen["stream closed"] = True

    return Stream(pieces(), content_type=b"application/vnd.docker.multiplexed-stream")


@get("/test/follow")
async def follow(key: str = Text()) -> Stream:
    """A follower to whom nothing ever happens."""

    async def pieces() -> "AsyncIterator[bytes]":
        import asyncio

        seen[key] = "following"
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            seen[key] = "left"

    return Stream(pieces())


@post("/test/echo")
async def echo() -> Hijack:
    """What comes goes back in frames; the end is told."""

    async def serve(connection: "Connection") -> None:
        from compat_api.streams.multiplex import STDERR, STDOUT, frame

        while data := await connection.read():
            await connection.write(frame(STDOUT, data))
        await connection.write(frame(STDERR, b"end"))

    return Hijack(serve, b"application/vnd.docker.multiplexed-stream")


@post("/test/body-echo", body="tests.support.wire_schema:Thing")
async def body_echo(*, body: "Any") -> Hijack:
    """The same, with a JSON body before it."""

    async def serve(connection: "Connection") -> None:
        await connection.write(body.Name.encode() + b"|")
        while data := await connection.read():
            await connection.write(data)
        await connection.write(b"|end")

    return Hijack(serve)


@post("/test/refuse")
async def refuse() -> Hijack:
    """A hijack that is refused."""
    raise NotFound("No such container: x")


@post("/test/flood")
async def flood(mib: int = Int()) -> Hijack:
    """More output than any buffer holds."""

    async def serve(connection: "Connection") -> None:
        for number in range(mib * 16):
            await connection.write(b"y" * 65536)
            seen["flooded"] = number + 1

    return Hijack(serve)


@post("/test/sink")
async def sink() -> Hijack:
    """A handler that does not read until it is told to."""

    async def serve(connection: "Connection") -> None:
        import asyncio

        seen["sink"] = "waiting"
        while seen.get("sink") != "go":  # noqa: ASYNC110 - told by another request
            await asyncio.sleep(0.01)
        total = 0
        while data := await connection.read():
            total += len(data)
        await connection.write(b"%d" % total)

    return Hijack(serve)


@post("/test/go")
async def go() -> Reply:
    """Let the sink read."""
    seen["sink"] = "go"
    return Reply.empty()


@post("/test/silent")
async def silent(key: str = Text()) -> Hijack:
    """A container that says nothing: only the client's leaving ends it."""

    async def serve(connection: "Connection") -> None:
        seen[key] = "attached"
        await connection.gone()
        seen[key] = "left"

    return Hijack(serve)


if __name__ == "__main__":
    life.main(sys.argv[1:])
