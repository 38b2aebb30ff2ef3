"""Sessions: connections on which the client serves a build what only it has (`solving.Session`).

A client opens one by POST /session, or inside a gRPC stream (`Control.Session`), and names it; builds refer to it by
that name, often before it is there.
"""

import asyncio
import contextlib
import hashlib
import os
from urllib.parse import urlsplit

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from compat_api.buildkit import channel, filesync
from compat_api.buildkit.wire import attachable_pb2 as attachable
from compat_api.buildkit.wire import content_pb2 as content
from compat_api.buildkit.wire.filesync_pb2 import (
    BytesMessage,
    CredentialsRequest,
    CredentialsResponse,
    FetchTokenRequest,
    FetchTokenResponse,
    GetTokenAuthorityRequest,
    GetTokenAuthorityResponse,
)
from service.content import mirror
from service.content.reference import DEFAULT_DOMAIN, OFFICIAL_HOST
from service.content.registry_credentials import Credentials
from service.engine.solving import Gone
from service.errors import Conflict, InvalidParameter, NotFound, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from typing import Any

    from service.engine.engine import Engine
    from service.engine.solving import Transferred

_HEADER = "x-docker-expose-session-"
_WAIT = 5.0  # seconds that a build waits for its session, which is opened beside it (buildkit: session/manager.go)
_PIECE = 1 << 20  # bytes that are read or sent in one go
_CREDENTIALS = "/moby.filesync.v1.Auth/Credentials"
_AUTHORITY = "/moby.filesync.v1.Auth/GetTokenAuthority"
_TOKEN = "/moby.filesync.v1.Auth/FetchToken"  # noqa: S105 - a method's name
_SECRET = "/moby.buildkit.secrets.v1.Secrets/GetSecret"  # noqa: S105 - a method's name
_AGENT, _FORWARD = "/moby.sshforward.v1.SSH/CheckAgent", "/moby.sshforward.v1.SSH/ForwardAgent"
_BLOB = "/containerd.services.content.v1.Content/Read"
_STORE = "buildkit-attachable-store-id"  # metadata: which of several stores
_UPLOAD = "/moby.upload.v1.Upload/Pull"
_OUTPUT = "buildkit-attachable-exporter-id"  # metadata: which of several outputs


class Session:
    """What one client serves (`solving.Session`)."""

    def __init__(self, engine: "Engine", id: str, name: str, shared_key: str, methods: "Sequence[str]") -> None:
        self.engine, self.id, self.name, self.shared_key = engine, id, name, shared_key
        self.methods = {method.lower() for method in methods}
        self.calls = channel.Channel()

    @classmethod
    def read(cls, engine: "Engine", fields: "Callable[[str], Sequence[str]]") -> "Session":
        """From the header fields (or metadata) of who opens it. Raises InvalidParameter without an id."""

        def one(name: str) -> str:
            return next(iter(fields(_HEADER + name)), "")

        if not one("uuid"):
            raise InvalidParameter("session: no id given")
        return cls(engine, one("uuid"), one("name"), one("sharedkey"), fields(_HEADER + "grpc-method"))

    def offers(self, method: str) -> bool:
        """Whether the client said that it serves `method`."""
        return method.lower() in self.methods

    @contextlib.contextmanager
    def errors(self) -> "Any":
        """Calls raise what `solving.Session` says."""
        try:
            yield
        except channel.LOST as error:
            raise Gone("the client has ended its session") from error
        except GRPCError as error:
            raise SystemFailure(error.message or error.status.name) from None

    # files

    @contextlib.asynccontextmanager
    async def local(
        self,
        name: str,
        *,
        include: "Sequence[str]" = (),
        exclude: "Sequence[str]" = (),
        follow: "Sequence[str]" = (),
        transferred: "Transferred | None" = None,
    ) -> "AsyncIterator[str]":
        """One of the client's directories (`solving.Session.local`)."""
        engine = self.engine
        folder = engine.settings.mirrors
        key = hashlib.sha256(repr((self.shared_key or self.id, name)).encode()).hexdigest()[:24]
        part = hashlib.sha256(repr((include, exclude, follow)).encode()).hexdigest()[:24]
        receiver = await _kept(engine.thread(_receiver, folder, key, name, part), lambda made: made.mirror.release())
        copy = receiver.mirror
        try:
            with self.errors():
                fetch = filesync.Fetch(engine, receiver, transferred)
                await fetch.run(self.calls, filesync.wanted(name, include, exclude, follow))
            yield copy.tree
        finally:
            if self.shared_key:
                copy.release()
            else:  # nobody can come back to it
                await asyncio.shield(engine.thread(lambda: copy.release(keep=False)))

    async def send_tree(
        self, number: int, folder: str, transferred: "Transferred | None" = None, *, moment_ns: "int | None" = None
    ) -> None:
        """A tree as output `number`."""
        with self.errors():
            await filesync.give(self.engine, self.calls, folder, [(_OUTPUT, str(number))], transferred, moment_ns)

    async def send_tar(self, number: int, pieces: "AsyncIterator[bytes]") -> None:
        """An archive as output `number`."""
        with self.errors():
            metadata = [(_OUTPUT, str(number))]
            async with self.calls.stream(filesync.GIVE, BytesMessage, BytesMessage, metadata) as stream:
                await stream.send_request()
                async for piece in pieces:
                    for start in range(0, len(piece), _PIECE):
                        await stream.send_message(BytesMessage(data=piece[start : start + _PIECE]))
                await stream.end()
                await stream.recv_message()  # the end: the client has closed its file

    async def upload(self, url: str) -> "AsyncIterator[bytes]":
        """What the client sends for a context that it uploads."""
        parts = urlsplit(url)
        metadata = [("urlpath", parts.path), ("urlhost", parts.netloc)]
        with self.errors():
            async with self.calls.stream(_UPLOAD, BytesMessage, BytesMessage, metadata) as stream:
                # We have nothing to say, and must say so at once: else the client's RST_STREAM(NO_ERROR) at its end
                # would look like an abort.
                await stream.send_request(end=True)
                async for message in stream:
                    yield message.data

    async def blob(self, store: str, digest: str, offset: int) -> "AsyncIterator[bytes]":
        """A blob of a store of the client's (`solving.Session.blob`)."""
        if not self.offers(_BLOB):
            raise SystemFailure(f"the client serves no store of blobs: {store}")
        asked = content.ReadContentRequest(digest=digest, offset=offset)
        with self.errors():
            async with self.calls.stream(
                _BLOB, content.ReadContentRequest, content.ReadContentResponse, [(_STORE, store)]
            ) as stream:
                await stream.send_message(asked, end=True)
                async for message in stream:
                    yield message.data

    # what is secret

    async def secret(self, id: str) -> "bytes | None":
        """A secret's content, or None."""
        if not self.offers(_SECRET):
            return None
        with self.errors():
            try:
                answer = await self.calls.ask(_SECRET, attachable.GetSecretRequest(ID=id), attachable.GetSecretResponse)
            except GRPCError as error:
                if error.status is Status.NOT_FOUND:
                    return None
                raise
        data: bytes = answer.data
        return data

    async def credentials(self, host: str) -> Credentials:
        """Whom to ask for the login for a registry: the client, when the registry wants one."""
        return Credentials(source=_Login(self, OFFICIAL_HOST if host == DEFAULT_DOMAIN else host))

    @contextlib.asynccontextmanager
    async def ssh(self, id: str, path: str) -> "AsyncIterator[None]":
        """The client's agent behind a Unix socket at `path`: each connection is a stream to the client."""
        name = id or "default"
        if not self.offers(_AGENT):
            raise NotFound(no_agent(name))
        with self.errors():
            try:
                await self.calls.ask(_AGENT, attachable.CheckAgentRequest(ID=name), attachable.CheckAgentResponse)
            except GRPCError as error:
                raise NotFound(error.message or no_agent(name)) from None
        server = await asyncio.start_unix_server(lambda *ends: self._forward(name, *ends), path)
        os.chmod(path, 0o600)
        try:
            yield
        finally:
            server.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    async def _forward(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to the agent, until either side ends it."""
        try:
            async with self.calls.stream(_FORWARD, BytesMessage, BytesMessage, [("buildkit.ssh.id", name)]) as stream:
                await stream.send_request()
                sending = asyncio.create_task(_send_all(reader, stream), name="to the agent")
                try:
                    async for message in stream:
                        writer.write(message.data)
                        await writer.drain()
                finally:
                    sending.cancel()
        except (GRPCError, *channel.LOST):
            pass  # how the client says that its agent has hung up; the step sees its connection end
        finally:
            writer.close()


class _Login:
    """What a client has for one registry (`registry_credentials.Source`). `host`: as the requests to it name it."""

    def __init__(self, session: Session, host: str) -> None:
        self.session, self.host = session, host

    async def login(self) -> Credentials:
        """The login itself; without a user name, its secret is an identity token."""
        if not self.session.offers(_CREDENTIALS):
            return Credentials()
        with self.session.errors():
            asked = CredentialsRequest(Host=self.host)
            answer = await self.session.calls.ask(_CREDENTIALS, asked, CredentialsResponse)
        if not answer.Username and answer.Secret:
            return Credentials(identity_token=answer.Secret)
        return Credentials(answer.Username, answer.Secret)

    async def token(self, realm: str, service: str, scopes: "Sequence[str]") -> "str | None":
        """A token that the client fetches. None: it can not, or would rather give its login (UNAVAILABLE)."""
        if not (self.session.offers(_TOKEN) and self.session.offers(_AUTHORITY)):
            return None
        with self.session.errors():
            # The key by which builds of one user would know each other's tokens: we keep none, and just ask for it
            # because that is how a client says whether it fetches tokens.
            asked = GetTokenAuthorityRequest(Host=self.host, Salt=os.urandom(32))
            try:
                await self.session.calls.ask(_AUTHORITY, asked, GetTokenAuthorityResponse)
            except GRPCError as error:
                if error.status in (Status.UNIMPLEMENTED, Status.UNAVAILABLE):
                    return None
                raise
            wanted = FetchTokenRequest(
                ClientID="buildkit-client", Host=self.host, Realm=realm, Service=service, Scopes=scopes
            )
            try:
                answer = await self.session.calls.ask(_TOKEN, wanted, FetchTokenResponse)
            except GRPCError as error:
                raise SystemFailure(f"failed to authorize: {error.message or error.status.name}") from None
        token: str = answer.Token
        return token


async def _send_all(reader: asyncio.StreamReader, stream: "Any") -> None:
    while data := await reader.read(32768):
        await stream.send_message(BytesMessage(data=data))
    await stream.end()


async def _kept(work: "Any", undo: "Callable[[Any], object]") -> "Any":
    """The result of work in a thread; when we are cancelled meanwhile, `undo` gets it."""
    future = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(lambda done: done.cancelled() or done.exception() or undo(done.result()))
        raise


def _receiver(folder: str, key: str, name: str, part: str) -> mirror.Receiver:
    """What brings a copy up to date that is ours. Blocking."""
    copy = mirror.acquire(folder, key, name, part)
    try:
        return mirror.Receiver(copy)
    except BaseException:
        copy.release()
        raise


def no_agent(id: str) -> str:
    """What BuildKit says where a client forwards no agent of this id."""
    return f"no SSH key {json_quoted(id or 'default')} forwarded from the client"


def json_quoted(text: str) -> str:
    """A name in quotes, as Go's %q has it for plain names."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Sessions:
    """The sessions that are open, by id."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}
        self._changed = asyncio.Event()

    def add(self, session: Session) -> None:
        """It is open from now on. Raises Conflict when there is one of that id."""
        if session.id in self._open:
            raise Conflict(f"session {session.id} already exists")
        self._open[session.id] = session
        self._changed.set()
        self._changed = asyncio.Event()

    def check(self, id: str) -> None:
        """Raises Conflict when there is one of that id."""
        if id in self._open:
            raise Conflict(f"session {id} already exists")

    def drop(self, session: Session) -> None:
        """It has ended."""
        if self._open.get(session.id) is session:
            del self._open[session.id]
        session.calls.close()

    async def get(self, id: str) -> Session:
        """The session of that id, which may come a little later than what refers to it. Raises SystemFailure."""
        if not id:
            raise InvalidParameter("the build has no session: nobody to ask for its files")
        loop = asyncio.get_running_loop()
        until = loop.time() + _WAIT
        while id not in self._open:
            try:
                await asyncio.wait_for(self._changed.wait(), until - loop.time())
            except TimeoutError:
                raise SystemFailure(f"no active session for {id}: context deadline exceeded") from None
        return self._open[id]
