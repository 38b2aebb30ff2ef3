"""grpclib bound to open connections, with a client (here, grpclib's server) that serves files and the like."""

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server

from compat_api.buildkit import channel, filesync
from compat_api.buildkit.session import Session, Sessions
from compat_api.buildkit.wire import attachable_pb2 as attachable
from compat_api.buildkit.wire.filesync_pb2 import (
    BytesMessage,
    CredentialsRequest,
    CredentialsResponse,
    FetchTokenRequest,
    FetchTokenResponse,
    GetTokenAuthorityRequest,
    GetTokenAuthorityResponse,
    Packet,
    Stat,
)
from service.engine.engine import Engine
from service.engine.solving import Gone
from service.errors import Conflict, MoorageError, SystemFailure
from service.settings import Settings

SECONDS = 60  # the longest that anything here may take
Served = Callable[[Any], Awaitable[None]]


class Client:
    """What a client serves on its session."""

    def __init__(self, methods: dict[str, tuple[Served, type, type]]) -> None:
        self.methods = methods

    def __mapping__(self) -> dict[str, Handler]:
        return {
            path: Handler(serve, Cardinality.STREAM_STREAM, request, answer)
            for path, (serve, request, answer) in self.methods.items()
        }


@asynccontextmanager
async def connected(
    tmp_path: Path, methods: dict[str, tuple[Served, type, type]], pieces: int = 0
) -> AsyncIterator[Session]:
    """A session whose client serves `methods`; `pieces`: what it sends comes in pieces of at most that many bytes."""
    engine = Engine(Settings({"MOORAGE_ROOT": str(tmp_path / "lib"), "MOORAGE_RUN": str(tmp_path / "run")}))
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    server = Server([Client(methods)])
    theirs_transport, _ = await loop.connect_accepted_socket(server._protocol_factory, theirs)
    session = Session(engine, "id", "name", "key", list(methods))
    protocol: asyncio.Protocol = session.calls.protocol
    if pieces:
        whole = protocol.data_received
        dice = random.Random(1)

        def cut(data: bytes) -> None:
            at = 0
            while at < len(data):
                size = dice.randint(1, pieces)
                whole(data[at : at + size])
                at += size

        protocol.data_received = cut  # type: ignore[method-assign]  # the wire's pieces are nobody's choice
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, ours)
    try:
        yield session
    finally:
        session.calls.close()
        theirs_transport.close()
        transport.close()


def read(folder: str) -> dict[str, bytes]:
    """The files in a folder."""
    return {name: Path(folder, name).read_bytes() for name in os.listdir(folder)}


def files(contents: dict[str, bytes], asked: "list[str] | None" = None) -> Served:
    """Serves FileSync.DiffCopy with these files (no directories)."""

    async def serve(stream: Any) -> None:
        names = sorted(contents)
        for name in names:
            await stream.send_message(Packet(stat=Stat(path=name, mode=0o644, size=len(contents[name]), modTime=1)))
        await stream.send_message(Packet())
        async for packet in stream:
            if packet.type == Packet.PACKET_REQ:
                name = names[packet.ID]
                if asked is not None:
                    asked.append(name)
                data = contents[name]
                for at in range(0, len(data), 50_000):
                    await stream.send_message(
                        Packet(type=Packet.PACKET_DATA, ID=packet.ID, data=data[at : at + 50_000])
                    )
                await stream.send_message(Packet(type=Packet.PACKET_DATA, ID=packet.ID))
            elif packet.type == Packet.PACKET_FIN:
                await stream.send_message(Packet(type=Packet.PACKET_FIN))
                return

    return serve


@pytest.mark.parametrize("pieces", [0, 7, 40_000], ids=["as they come", "seven bytes", "large"])
async def test_files_come_whole_however_the_bytes_arrive(tmp_path: Path, pieces: int) -> None:
    contents = {"large": os.urandom(300_000 if pieces == 7 else 40 << 20), "small": b"x", "zero": b""}
    contents |= {f"many{number}": os.urandom(100) for number in range(200)}
    asked: list[str] = []
    served: dict[str, tuple[Served, type, type]] = {filesync.FETCH: (files(contents, asked), Packet, Packet)}
    async with asyncio.timeout(SECONDS), connected(tmp_path, served, pieces) as session:
        async with session.local("context") as folder:
            assert read(folder) == contents
        assert sorted(asked) == sorted(contents.keys() - {"zero"})
        asked.clear()
        async with session.local("context"):
            assert asked == []
        # both at once: two copies, neither of which had to be sent
        async with session.local("context") as one, session.local("context") as other:
            assert one != other
            assert read(other) == contents
        assert asked == []


async def test_the_clients_words_when_it_cannot_send_its_files(tmp_path: Path) -> None:
    async def refuse(_stream: Any) -> None:
        raise GRPCError(Status.NOT_FOUND, "no access allowed to dir context")

    async def broken(stream: Any) -> None:
        await stream.send_message(Packet(type=Packet.PACKET_ERR, data=b"open x: permission denied"))
        async for _ in stream:
            pass

    for serve, words in ((refuse, "no access allowed to dir context"), (broken, "open x: permission denied")):
        async with asyncio.timeout(SECONDS), connected(tmp_path, {filesync.FETCH: (serve, Packet, Packet)}) as session:
            with pytest.raises(SystemFailure, match=words):
                async with session.local("context"):
                    pass


async def test_a_client_that_leaves_in_the_middle(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def hang(stream: Any) -> None:
        await stream.send_message(Packet(stat=Stat(path="f", mode=0o644, size=9, modTime=1)))
        begun.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(SECONDS), connected(tmp_path, {filesync.FETCH: (hang, Packet, Packet)}) as session:

        async def fetch() -> None:
            async with session.local("context"):
                pass

        task = asyncio.create_task(fetch())
        await begun.wait()
        session.calls.protocol.connection_lost(None)
        with pytest.raises(Gone):
            await task
    # nothing is held: the copy can be had again
    async with (
        asyncio.timeout(SECONDS),
        connected(tmp_path, {filesync.FETCH: (files({"f": b"x"}), Packet, Packet)}) as s,
        s.local("context") as folder,
    ):
        assert folder.endswith("/0/tree")


async def test_a_message_longer_than_any_window_ends_the_connection(tmp_path: Path) -> None:
    async def flood(stream: Any) -> None:
        await stream.send_message(Packet(type=Packet.PACKET_DATA, data=bytes(channel.WINDOW)))

    async with asyncio.timeout(SECONDS), connected(tmp_path, {filesync.FETCH: (flood, Packet, Packet)}) as session:
        with pytest.raises(MoorageError):
            async with session.local("context"):
                pass


async def test_secrets_agents_and_archives(tmp_path: Path) -> None:
    async def secret(stream: Any) -> None:
        request = await stream.recv_message()
        if request.ID != "known":
            raise GRPCError(Status.NOT_FOUND, "secret not found")
        await stream.send_message(attachable.GetSecretResponse(data=b"s3cret"))

    async def agent(stream: Any) -> None:
        request = await stream.recv_message()
        if request.ID != "default":
            raise GRPCError(Status.UNKNOWN, f"unset ssh forward key {request.ID}")
        await stream.send_message(attachable.CheckAgentResponse())

    async def forward(stream: Any) -> None:
        async for message in stream:
            await stream.send_message(BytesMessage(data=message.data.upper()))

    archive = bytearray()

    async def take(stream: Any) -> None:
        async for message in stream:
            archive.extend(message.data)

    served: dict[str, tuple[Served, type, type]] = {
        "/moby.buildkit.secrets.v1.Secrets/GetSecret": (
            secret,
            attachable.GetSecretRequest,
            attachable.GetSecretResponse,
        ),
        "/moby.sshforward.v1.SSH/CheckAgent": (agent, attachable.CheckAgentRequest, attachable.CheckAgentResponse),
        "/moby.sshforward.v1.SSH/ForwardAgent": (forward, BytesMessage, BytesMessage),
        filesync.GIVE: (take, BytesMessage, BytesMessage),
    }

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000
        yield b"end"

    async with asyncio.timeout(SECONDS), connected(tmp_path, served) as session:
        assert await session.secret("known") == b"s3cret"
        assert await session.secret("other") is None
        nobody = (await session.credentials("registry")).source
        assert nobody is not None
        assert (await nobody.login()).is_empty  # the client serves no logins
        assert await nobody.token("https://registry/token", "", []) is None
        path = str(tmp_path / "agent")
        async with session.ssh("", path):
            assert os.stat(path).st_mode & 0o777 == 0o600
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"who is there")
            assert await reader.readexactly(12) == b"WHO IS THERE"
            writer.close()
        assert "agent" not in os.listdir(tmp_path)
        with pytest.raises(MoorageError, match="unset ssh forward key other"):
            async with session.ssh("other", path):
                pass
        await session.send_tar(0, pieces())
        assert archive == b"x" * 3_000_000 + b"end"


@pytest.mark.parametrize("fetches", [True, False])
async def test_logins(tmp_path: Path, *, fetches: bool) -> None:
    """Docker Hub is called as requests to it call it; who gives tokens is not asked for the login."""
    asked: list[str] = []

    async def authority(stream: Any) -> None:
        request = await stream.recv_message()
        asked.append(f"authority {request.Host} {len(request.Salt)}")
        if not fetches:
            raise GRPCError(Status.UNAVAILABLE, "client side tokens disabled")
        await stream.send_message(GetTokenAuthorityResponse(PublicKey=b"k" * 32))

    async def token(stream: Any) -> None:
        request = await stream.recv_message()
        asked.append(f"token {request.Host} {request.Realm} {request.Service} {list(request.Scopes)}")
        if "b" in request.Scopes:
            raise GRPCError(Status.UNKNOWN, "failed to fetch oauth token: no")
        await stream.send_message(FetchTokenResponse(Token="t"))

    async def login(stream: Any) -> None:
        request = await stream.recv_message()
        asked.append(f"login {request.Host}")
        await stream.send_message(CredentialsResponse(Secret="identity"))

    served: dict[str, tuple[Served, type, type]] = {
        "/moby.filesync.v1.Auth/GetTokenAuthority": (authority, GetTokenAuthorityRequest, GetTokenAuthorityResponse),
        "/moby.filesync.v1.Auth/FetchToken": (token, FetchTokenRequest, FetchTokenResponse),
        "/moby.filesync.v1.Auth/Credentials": (login, CredentialsRequest, CredentialsResponse),
    }
    async with asyncio.timeout(SECONDS), connected(tmp_path, served) as session:
        source = (await session.credentials("docker.io")).source
        assert source is not None
        assert not asked  # nobody has wanted anything yet
        assert await source.token("https://r/t", "s", ["a"]) == ("t" if fetches else None)
        if fetches:
            with pytest.raises(MoorageError, match="failed to authorize: failed to fetch oauth token: no"):
                await source.token("https://r/t", "s", ["b"])
        assert asked[:1] == ["authority registry-1.docker.io 32"]
        assert ("token registry-1.docker.io https://r/t s ['a']" in asked) == fetches
        assert "login registry-1.docker.io" not in asked
        assert (await source.login()).identity_token == "identity"
        assert asked[-1] == "login registry-1.docker.io"


async def test_sessions_by_name(tmp_path: Path) -> None:
    sessions = Sessions()
    async with asyncio.timeout(SECONDS), connected(tmp_path, {}) as session:
        waiting = asyncio.create_task(sessions.get("id"))  # a build is often earlier than its session
        await asyncio.sleep(0)
        sessions.add(session)
        assert await waiting is session
        with pytest.raises(Conflict, match="session id already exists"):
            sessions.add(session)
        sessions.drop(session)
        sessions.check("id")
