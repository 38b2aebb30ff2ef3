"""The ASGI callable that the event loop serves: finds the operation, reads what it declares, writes what it answers.

Bodies are validated by pydantic directly: FastAPI's routing in front of the same models was measured to cost a cold
process 150 ms more (docs/decisions.md). FastAPI describes the operations (`app`), which is imported when asked for.
"""

import asyncio

from compat_api import answers, errors, negotiation, operations, params, versions
from compat_api.declaration import STREAM, unquote
from compat_api.reply import Hijack, Later, Reply, Stream
from service.errors import InvalidParameter, MoorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, MutableMapping
    from typing import Any, TypeVar

    from compat_api.declaration import Operation
    from compat_api.streams.hijack import HijackedConnection

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Result = TypeVar("Result")

DESCRIPTION = "/openapi.json"
_LISTS = (b"x-docker-expose-session-grpc-method",)


class Dispatcher:
    """`engine` makes the engine when first needed. `followers`: tasks whose answer lasts as long as it is read."""

    def __init__(self, engine: "Callable[[], Any]") -> None:
        self.engine = engine
        self.followers: set[asyncio.Task[Any]] = set()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one request."""
        try:
            asked, path = negotiation.split(unquote(scope["raw_path"]))
            found = operations.find(scope["method"], path)
        except MoorageError as error:
            await send_whole(errors.answer(error), negotiation.API_VERSION, send)
            return
        if found is not None:
            await self.serve(found[0], found[1], asked, scope, receive, send)
        elif path == DESCRIPTION and scope["method"] == "GET":
            from compat_api.app import describe

            await send_whole(describe(), negotiation.API_VERSION, send)
        else:
            await send_whole(errors.unserved(scope["method"]), negotiation.API_VERSION, send)

    async def serve(
        self, operation: "Operation", values: list[str], asked: str, scope: "Scope", receive: "Receive", send: "Send"
    ) -> None:
        """Serve a request whose operation is found; `asked` is the version in its path."""
        version = negotiation.API_VERSION
        try:
            version = negotiation.version(asked)
            answer = await self.run(operation, values, version, scope, receive)
            if isinstance(answer, Reply):
                answers.written(answer, version)  # may fail as well: then the client gets that as the answer
        except ClientLeft:
            return
        except Exception as error:  # noqa: BLE001 - whatever a handler does, the client gets an answer
            answer = errors.answer(error)
        if isinstance(answer, Reply):
            await send_whole(answer, version, send)
        else:
            await self._follow(answer, version, scope, receive, send)

    async def _follow(
        self, answer: "Stream | Hijack", version: tuple[int, int], scope: "Scope", receive: "Receive", send: "Send"
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.followers.add(task)
        try:
            if isinstance(answer, Stream):
                await send_stream(answer, version, scope, receive, send)
            else:
                await hand_over(answer, version, scope)
        except asyncio.CancelledError:  # the service is told to stop
            scope["extensions"]["moorage"]["protocol"].cut()
        finally:
            self.followers.discard(task)

    async def speak_http2(self, connection: "HijackedConnection") -> None:
        """Serve a connection that began with HTTP/2's preface: gRPC, as on one that was upgraded by POST /grpc."""
        from compat_api.buildkit import server

        task = asyncio.current_task()
        assert task is not None
        self.followers.add(task)
        try:
            await server.services(self.engine()).serve(connection)
            await connection.close()
        except Exception as error:  # noqa: BLE001 - as for a handler; there is no answer to say it with
            errors.report(error)
            connection.abort()
        except asyncio.CancelledError:  # the service is told to stop
            connection.abort()
            raise
        finally:
            self.followers.discard(task)

    async def run(
        self, operation: "Operation", values: list[str], version: tuple[int, int], scope: "Scope", receive: "Receive"
    ) -> "Reply | Stream | Hijack":
        """Read what the operation declares, and call its handler. Raises what the handler raises, and ClientLeft."""
        headers = _fields(scope["headers"])
        arguments = operation.arguments(scope["query_string"], headers, version)
        extra: dict[str, Any] = {}
        if operation.body == STREAM:
            scope["body"] = extra["body"] = Body(receive)
        elif operation.body:
            body = await read_whole(receive)
            extra["body"] = params.read(operation.body, body, headers.get(b"content-type"), operation.body_required)
        elif operation.hijacks:
            await read_whole(receive)  # options that some clients send along: they must not become stdin
        answer = operation.call(self.engine, values, arguments, **extra)
        if operation.waits:
            answer = await answer
        elif isinstance(answer, Later):
            answer = await asyncio.get_running_loop().run_in_executor(None, answer.work)
        if isinstance(answer, Hijack) and not operation.hijacks:
            raise TypeError(f"{operation.method} {operation.path} must say -> Hijack to take the connection over")
        checked: Reply | Stream | Hijack = answer
        return checked


def _fields(given: "Iterable[tuple[bytes, bytes]]") -> dict[bytes, bytes]:
    """The header fields by name; of a repeated one the last counts, or all, with commas, where it is a list."""
    fields: dict[bytes, bytes] = {}
    for name, value in given:
        fields[name] = fields[name] + b"," + value if name in _LISTS and name in fields else value
    return fields


class ClientLeft(ConnectionResetError):  # noqa: N818 - it is no error
    """The client went away before its request was complete."""


class Body:
    """A request's body as it arrives. `finished` is set once it has been read to its end, or given up."""

    def __init__(self, receive: "Receive") -> None:
        self.receive = receive
        self.finished = asyncio.Event()

    async def __aiter__(self) -> "AsyncIterator[bytes]":
        more = not self.finished.is_set()
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                self.finished.set()
                raise ClientLeft("the client has left")
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]
        self.finished.set()

    async def unless_left(self, work: "Coroutine[Any, Any, Result]") -> "Result":
        """What `work` returns. It reads nothing of the body, which is given up; it is cancelled when the client leaves.

        Raises what `work` raises, and ClientLeft.
        """
        self.finished.set()
        task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(self.receive, None))
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientLeft("the client has left")
            return task.result()
        finally:
            gone.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def read_whole(receive: "Receive") -> bytes:
    """The whole body. Raises ClientLeft, and InvalidParameter when it is larger than a request may be."""
    pieces, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > params.BODY_LIMIT:
            raise InvalidParameter("http: request body too large")
        more = message.get("more_body", False)
    return b"".join(pieces)


async def send_whole(reply: Reply, version: tuple[int, int], send: "Send") -> None:
    """Send a whole answer."""
    answers.written(reply, version)
    await send({"type": "http.response.start", "status": reply.status, "headers": answers.headers(reply)})
    await send({"type": "http.response.body", "body": b"" if reply.status in (204, 304) else reply.body})


async def send_stream(
    stream: Stream, version: tuple[int, int], scope: "Scope", receive: "Receive", send: "Send"
) -> None:
    """Send the pieces as they come, until they end or the client leaves; then close them."""
    content_type = versions.stream_content_type(stream.content_type, version)
    headers = [*answers.common(), (b"Content-Type", content_type), *stream.headers]
    body: Body | None = scope.get("body")
    pump = asyncio.ensure_future(_pump(stream, headers, send))
    gone = asyncio.ensure_future(_gone(receive, body))
    try:
        await asyncio.wait((pump, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        left_early = not pump.done()
        pump.cancel()
        try:
            await pump
        except asyncio.CancelledError:
            if not left_early:
                raise
        finally:
            close = getattr(stream.pieces, "aclose", None)
            if close is not None:
                await close()


async def _pump(stream: Stream, headers: "list[tuple[bytes, bytes]]", send: "Send") -> None:
    await send({"type": "http.response.start", "status": stream.status, "headers": headers})
    async for piece in stream.pieces:
        if piece:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)  # pieces that are always ready must let others, and the end of the client, be seen
    await send({"type": "http.response.body", "body": b""})


async def _gone(receive: "Receive", body: Body | None) -> None:
    """Returns when the client has left; a body that the handler reads by itself is left to it."""
    if body is not None:
        await body.finished.wait()
    while (await receive())["type"] != "http.disconnect":
        pass


async def hand_over(hijack: Hijack, version: tuple[int, int], scope: "Scope") -> None:
    """Give the connection to the handler, after the header that says so; close it when the handler is done."""
    protocol = scope["extensions"]["moorage"]["protocol"]
    upgraded = any(name == b"upgrade" for name, _ in scope["headers"])
    if hijack.switching:
        lines = [b"HTTP/1.1 101 Switching Protocols"]
        fields = list(hijack.switching)
    elif upgraded:
        lines = [b"HTTP/1.1 101 UPGRADED"]
        content_type = versions.stream_content_type(hijack.content_type, version)
        fields = [(b"Content-Type", content_type), (b"Connection", b"Upgrade"), (b"Upgrade", b"tcp")]
    else:
        lines = [b"HTTP/1.1 200 OK"]
        fields = [(b"Content-Type", versions.RAW)]  # dockerd says so even where the frames are multiplexed
    lines += [name + b": " + value for name, value in (*fields, *negotiation.headers())]
    connection = protocol.hijack(b"\r\n".join(lines) + b"\r\n\r\n")
    try:
        await hijack.serve(connection)
    except ConnectionResetError:
        pass  # the client has left: that ends it
    except asyncio.CancelledError:
        connection.abort()
        raise
    except Exception as error:  # noqa: BLE001 - there is no status any more; the journal gets it
        errors.report(error)
    await connection.close()
