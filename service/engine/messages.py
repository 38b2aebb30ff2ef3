"""Docker's progress messages, from work in a thread to a client that may leave at any time."""

import asyncio

from service.errors import MoorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from concurrent.futures import Future
    from typing import Any

    from service.engine.engine import Engine

    Report = Callable[[dict[str, Any]], None]
    Told = dict[str, Any] | list[dict[str, Any]]

PIECE = 1 << 20
WAITING = 1000  # messages that a slow client may be behind; progress beyond that is dropped


class ClientGone(Exception):  # noqa: N818 - no error of ours
    """The client that the work was for has left."""


def error_message(error: MoorageError) -> "dict[str, Any]":
    """How an error is told once the answer has begun."""
    code = getattr(error, "code", 0)  # of a build's command
    return {"errorDetail": {**({"code": code} if code else {}), "message": error.message}, "error": error.message}


class Body:
    """A request body read by a thread, in large pieces; the next one arrives while the thread works on the last."""

    def __init__(self, pieces: "AsyncIterator[bytes]") -> None:
        self.pieces = aiter(pieces)
        self.loop = asyncio.get_running_loop()
        self.rest = b""
        self.ended = False
        self.coming: Future[bytes] | None = None

    def read(self, count: int) -> bytes:
        """1 to `count` bytes; b"" at the end. Call from a thread. Raises ClientGone when the client has left."""
        if not self.rest and (self.coming is not None or not self.ended):
            coming = self.coming or asyncio.run_coroutine_threadsafe(self._some(), self.loop)
            self.coming = None
            self.rest = coming.result()
            if not self.ended:
                self.coming = asyncio.run_coroutine_threadsafe(self._some(), self.loop)
        piece, self.rest = self.rest[:count], self.rest[count:]
        return piece

    async def _some(self) -> bytes:
        collected: list[bytes] = []
        size = 0
        try:
            while size < PIECE:
                piece = await anext(self.pieces)
                collected.append(piece)
                size += len(piece)
        except StopAsyncIteration:
            self.ended = True
        except ConnectionError as gone:
            raise ClientGone from gone
        return b"".join(collected)


async def apart(pieces: "AsyncIterator[bytes]", work: "Callable[[Callable[[int], bytes]], None]") -> None:
    """Have a request's body read by `work(read)`, in a thread of its own: it may wait for the client for hours, and the
    shared ones are few. What `work` raises is raised here."""
    import threading

    loop, source = asyncio.get_running_loop(), Body(pieces)
    over: asyncio.Future[None] = loop.create_future()

    def finish(error: "BaseException | None") -> None:
        if not over.done():
            over.set_exception(error) if error else over.set_result(None)

    def run() -> None:
        ended: BaseException | None = None
        try:
            work(source.read)
        except BaseException as error:  # noqa: BLE001 - raised again in the task that waits
            ended = error
        loop.call_soon_threadsafe(finish, ended)

    threading.Thread(target=run, daemon=True).start()
    try:
        await over
    except ClientGone as gone:
        raise gone.__cause__ or gone from None


async def from_thread(engine: "Engine", work: "Callable[[Report], None]") -> "AsyncIterator[dict[str, Any]]":
    """What `work` reports, as it does; a MoorageError that ends it goes through to the caller.

    When the caller stops listening, the next report raises ClientGone inside `work`.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    left = False

    def report(message: "dict[str, Any]") -> None:
        if left:
            raise ClientGone
        if queue.qsize() < WAITING or "progressDetail" not in message:
            loop.call_soon_threadsafe(queue.put_nowait, message)

    def run() -> None:
        try:
            work(report)
        finally:
            loop.call_soon_threadsafe(queue.put_nowait, None)

    task = asyncio.ensure_future(engine.thread(run))
    try:
        while (message := await queue.get()) is not None:
            yield message
        await task
    finally:
        left = True
        if not task.done():
            engine.held += 1

            def ended(done: "asyncio.Future[None]") -> None:
                engine.held -= 1
                if not done.cancelled() and done.exception() is not None:
                    engine.log(f"after its client had left: {done.exception()!r}")

            task.add_done_callback(ended)


async def lines(messages: "AsyncIterator[Told]") -> "AsyncIterator[bytes]":
    """The messages as they go over the wire, those in a list at once; an error becomes the last of them."""
    from service import jsontext

    try:
        async for message in messages:
            together = message if isinstance(message, list) else [message]
            yield b"".join([jsontext.dump_bytes(each) + b"\r\n" for each in together])
    except MoorageError as error:
        yield jsontext.dump_bytes(error_message(error)) + b"\r\n"


async def begun(messages: "AsyncIterator[Told]") -> "AsyncIterator[bytes]":
    """`lines`, once there is a first message: until then an error is raised, and becomes the answer's status."""
    try:
        first = await anext(messages)
    except StopAsyncIteration:
        return lines(_none())
    return lines(_chained(first, messages))


async def _none() -> "AsyncIterator[Told]":
    return
    yield {}


async def _chained(first: "Told", rest: "AsyncIterator[Told]") -> "AsyncIterator[Told]":
    yield first
    async for message in rest:
        yield message


async def first_awaited(pieces: "AsyncIterator[bytes]") -> "AsyncIterator[bytes]":
    """The pieces, once there is a first one: until then an error is raised, and becomes the answer's status."""
    first = await anext(pieces)
    return _joined(first, pieces)


async def _joined(first: bytes, rest: "AsyncIterator[bytes]") -> "AsyncIterator[bytes]":
    yield first
    async for piece in rest:
        yield piece
