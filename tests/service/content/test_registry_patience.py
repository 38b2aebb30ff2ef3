"""A registry that says nothing for too long is an interruption, in the middle of a blob and before it."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from service.content import reference, registry, registry_hosts
from service.content.registry_credentials import Credentials
from service.errors import MoorageError
from service.settings import Settings

SHORT = 0.3  # seconds that these tests have patience for
DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(registry, "_TIMEOUT", aiohttp.ClientTimeout(total=None, sock_connect=SHORT, sock_read=SHORT))
    names = ("MOORAGE_AUTH_FILE", "MOORAGE_DAEMON_JSON", "MOORAGE_REGISTRIES_CONF", "MOORAGE_CERTS_DIR")
    return Settings({name: str(tmp_path / name) for name in names})


def against(
    settings: Settings, answer: bytes, ask: "Callable[[registry.Registry], Coroutine[Any, Any, None]]"
) -> MoorageError:
    """The error of asking a registry that answers its greeting and then, to each request, `answer` and nothing more."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                while (await reader.readline()).strip():
                    pass
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" if b" /v2/ " in line else answer)
                await writer.drain()
        except ConnectionError:
            return  # it was too much to wait for
        finally:
            writer.close()

    async def run() -> MoorageError:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        named = reference.parse(f"127.0.0.1:{port}/a:1")
        try:
            place = registry_hosts.Host(named.domain, ("http",), insecure=True)
            async with registry.Registry(settings, named, Credentials(), place) as asked:
                with pytest.raises(MoorageError) as told:
                    await asyncio.wait_for(ask(asked), 30)
                return told.value
        finally:
            server.close()

    return asyncio.run(run())


def test_a_blob_that_stands_still(settings: Settings) -> None:
    got: list[bytes] = []

    async def ask(asked: registry.Registry) -> None:
        async for piece in asked.blob(DIGEST):
            got.append(piece)

    error = against(settings, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf", ask)
    assert isinstance(error, registry.Interrupted)
    assert error.message == "i/o timeout"
    assert b"".join(got) == b"half"


def test_a_registry_that_does_not_answer(settings: Settings) -> None:
    async def ask(asked: registry.Registry) -> None:
        await asked.manifest("1")

    error = against(settings, b"", ask)
    assert isinstance(error, registry.Interrupted)
    assert error.message.endswith('/v2/a/manifests/1": i/o timeout')
