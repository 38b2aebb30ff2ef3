"""POST /build with `version=2`: a build by BuildKit that is asked for in REST, as docker CLIs did before buildx.

The client's session is one of POST /session; without it, or beside it, the context is the request's body.
"""

import asyncio
import base64
import uuid

from compat_api.buildkit import frontend, outputs
from compat_api.buildkit.session import no_agent
from compat_api.buildkit.wire import control_pb2 as control
from service import jsontext
from service.content.registry_credentials import Credentials
from service.engine.messages import error_message
from service.engine.solving import Gone
from service.errors import Conflict, MoorageError, NotFound, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from compat_api.buildkit.builds import Build, Builds
    from compat_api.buildkit.session import Session
    from service.engine.solving import Transferred

UPLOAD, FROM_SESSION, FROM_REQUEST = "upload-request:", "client-session", "upload-request"
_WAIT = 5.0  # seconds that a build and its upload, two requests, wait for each other (moby: builder-next)
_CONTEXT = "http://buildkit-session/"


class Uploads:
    """Contexts that come in a request of their own, by the id of the build that wants them."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[tuple[AsyncIterator[bytes], asyncio.Event]]] = {}

    def _of(self, id: str) -> "asyncio.Future[tuple[AsyncIterator[bytes], asyncio.Event]]":
        return self._waiting.setdefault(id, asyncio.get_running_loop().create_future())

    async def give(self, id: str, body: "AsyncIterator[bytes]") -> None:
        """Have a build read `body`; returns when it has. Raises Conflict when it has one already."""
        waiting, read = self._of(id), asyncio.Event()
        if waiting.done():
            raise Conflict(f"build {id} has its context already")
        waiting.set_result((body, read))
        try:
            await read.wait()
        finally:
            self._waiting.pop(id, None)

    async def take(self, id: str) -> "tuple[AsyncIterator[bytes], asyncio.Event]":
        """The body for a build, and what to set when it was read. Raises SystemFailure when none comes."""
        try:
            return await asyncio.wait_for(asyncio.shield(self._of(id)), _WAIT)
        except TimeoutError:
            self._waiting.pop(id, None)
            raise SystemFailure(f"no context was uploaded for build {id}") from None


class Posted:
    """A session whose client has put its context into a request."""

    def __init__(self, session: "Session | None", body: "AsyncIterator[bytes]") -> None:
        self._session, self._body = session, body

    @property
    def _client(self) -> "Session":
        if self._session is None:
            raise Gone("the client has no session")
        return self._session

    async def upload(self, url: str) -> "AsyncIterator[bytes]":  # noqa: ARG002 - there is one
        """The context."""
        async for piece in self._body:
            yield piece

    def local(
        self,
        name: str,
        *,
        include: "Sequence[str]" = (),
        exclude: "Sequence[str]" = (),
        follow: "Sequence[str]" = (),
        transferred: "Transferred | None" = None,
    ) -> "AbstractAsyncContextManager[str]":
        """One of the client's directories."""
        return self._client.local(name, include=include, exclude=exclude, follow=follow, transferred=transferred)

    async def secret(self, id: str) -> "bytes | None":
        """A secret."""
        return None if self._session is None else await self._session.secret(id)

    def ssh(self, id: str, path: str) -> "AbstractAsyncContextManager[None]":
        """The client's agent."""
        if self._session is None:
            raise NotFound(no_agent(id))
        return self._session.ssh(id, path)

    async def credentials(self, host: str) -> Credentials:
        """A login."""
        return Credentials() if self._session is None else await self._session.credentials(host)

    async def send_tar(self, number: int, pieces: "AsyncIterator[bytes]") -> None:
        """An archive for the client."""
        await self._client.send_tar(number, pieces)

    async def send_tree(
        self, number: int, folder: str, transferred: "Transferred | None" = None, *, moment_ns: "int | None" = None
    ) -> None:
        """Files for the client."""
        await self._client.send_tree(number, folder, transferred, moment_ns=moment_ns)


class Request:
    """What is asked for, in BuildKit's words."""

    def __init__(
        self,
        id: str,
        session: str,
        remote: str,
        options: "Mapping[str, str]",
        exporters: "Sequence[tuple[str, Mapping[str, str]]]",
    ) -> None:
        self.remote, self.session, self.options = remote, session, dict(options)
        self.solve = control.SolveRequest(
            Ref=id or uuid.uuid4().hex,
            Session=session,
            Frontend="dockerfile.v0",
            Exporters=[control.Exporter(Type=type, Attrs=attributes) for type, attributes in exporters],
        )


async def build(builds: "Builds", request: Request, body: "AsyncIterator[bytes]") -> "AsyncIterator[bytes]":
    """Build; the progress, and the image at the end, as the messages of POST /build."""
    options, read = request.options, None
    if request.remote == FROM_REQUEST:
        body, read = await builds.uploads.take(request.solve.Ref)
    elif request.remote and request.remote != FROM_SESSION:
        options["context"] = request.remote
    try:
        async with builds.run(request.solve) as made:
            if request.remote in ("", FROM_REQUEST):
                options["context"] = _CONTEXT + made.ref
                session = await builds.sessions.get(request.session) if request.session else None
                made.session = Posted(session, body)
            elif not request.session:
                made.session = Posted(None, body)
            making = asyncio.create_task(_make(builds, made, options), name="build by REST")
            making.add_done_callback(lambda _: made.progress.end())
            made.task = making
            try:
                async for told in made.progress.follow():
                    trace = base64.b64encode(told.SerializeToString()).decode("ascii")
                    yield _line({"id": "moby.buildkit.trace", "aux": trace})
                id = await _result(making)
                if id:
                    yield _line({"id": "moby.image.id", "aux": {"ID": id}})
            finally:
                making.cancel()
                await asyncio.wait((making,))
    except MoorageError as error:
        yield _line(error_message(error))
    finally:
        if read is not None:
            read.set()


async def _result(making: "asyncio.Task[dict[str, str]]") -> str:
    """The id of the image that was made, if one was. Raises SystemFailure when the build was ended by a request."""
    try:
        answer = await making
    except asyncio.CancelledError:
        if not making.cancelled():
            raise
        raise SystemFailure("context canceled") from None
    return answer.get("containerimage.config.digest") or answer.get("containerimage.digest", "")


async def _make(builds: "Builds", made: "Build", options: "Mapping[str, str]") -> dict[str, str]:
    solved = await frontend.make(builds, made, frontend.Wanted("dockerfile.v0", options, {}, ()))
    return await outputs.export(builds, made, solved, {})


def _line(message: "dict[str, object]") -> bytes:
    return jsontext.dumps(message).encode() + b"\r\n"
