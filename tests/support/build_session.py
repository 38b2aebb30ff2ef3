"""A client of a build without a wire: its session serves directories of this machine, its progress is remembered."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from service.builder import ignore
from service.content.registry_credentials import Credentials
from service.engine import solve, solving
from service.engine.engine import Engine
from service.engine.solving import CacheOption, Exporter, Log, SolveRequest, Status, Transferred, Vertex
from service.errors import NotFound, SystemFailure


class FolderSession:
    """`solving.Session`. `sent`: what was given back, by the number of the output: bytes of a tar, or a tree."""

    def __init__(self, folders: Mapping[str, str], secrets: "Mapping[str, bytes] | None" = None) -> None:
        self.folders, self.secrets = folders, secrets or {}
        self.uploads: dict[str, bytes] = {}
        self.sent: dict[int, Any] = {}
        self.asked: list[tuple[str, tuple[str, ...]]] = []  # directories that were asked for, and what of them
        self.agents: dict[str, str] = {}  # id → socket

    @contextlib.asynccontextmanager
    async def local(
        self,
        name: str,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        follow: Sequence[str] = (),
        transferred: Transferred | None = None,
    ) -> AsyncIterator[str]:
        """A copy, without what is excluded."""
        del include
        self.asked.append((name, tuple(follow)))
        if name not in self.folders:
            raise NotFound(f"no local directory {name}")
        with tempfile.TemporaryDirectory() as made:
            copy = f"{made}/{name}"
            source = self.folders[name]

            def left_out(folder: str, names: list[str]) -> list[str]:
                below = os.path.relpath(folder, source)
                paths = {each: os.path.normpath(f"{below}/{each}") for each in names}
                return [each for each, path in paths.items() if ignore.leaves_out(list(exclude), path)]

            shutil.copytree(source, copy, symlinks=True, ignore=left_out)
            if transferred is not None:
                transferred(1, 1, done=True)
            yield copy

    async def secret(self, id: str) -> "bytes | None":
        """One of `secrets`."""
        return self.secrets.get(id)

    @contextlib.asynccontextmanager
    async def ssh(self, id: str, path: str) -> AsyncIterator[None]:
        """A link to one of `agents`."""
        if id not in self.agents:
            raise NotFound(f"no agent {id}")
        os.link(self.agents[id], path)
        yield

    async def credentials(self, host: str) -> Credentials:
        """None."""
        del host
        return Credentials()

    async def upload(self, url: str) -> AsyncIterator[bytes]:
        """One of `uploads`."""
        yield self.uploads[url]

    async def blob(self, store: str, digest: str, offset: int) -> AsyncIterator[bytes]:
        """It has none."""
        raise SystemFailure(f"no store {store}")
        yield b""

    async def send_tar(self, number: int, pieces: AsyncIterator[bytes]) -> None:
        """Keep it."""
        self.sent[number] = b"".join([piece async for piece in pieces])

    async def send_tree(
        self, number: int, folder: str, transferred: Transferred | None = None, *, moment_ns: int | None = None
    ) -> None:
        """Keep what is there."""
        del transferred
        self.sent[number] = files_below(folder)


def files_below(folder: str) -> dict[str, tuple[int, bytes]]:
    """Path → mode, and content or target."""
    found = {}
    for top, folders, files in os.walk(folder + "/."):
        for name in folders + files:
            full = f"{top}/{name}"
            path = os.path.relpath(full, folder + "/.")
            status = os.lstat(full)
            if os.path.islink(full):
                found[path] = (status.st_mode, os.readlink(full).encode())
            elif os.path.isfile(full):
                with open(full, "rb") as file:
                    found[path] = (status.st_mode, file.read())
            else:
                found[path] = (status.st_mode, b"")
    return found


class Told:
    """`solving.Progress`: all that was told."""

    def __init__(self) -> None:
        self.events: list[Vertex | Status | Log | solving.Warning] = []

    async def tell(self, event: "Vertex | Status | Log | solving.Warning") -> None:
        """Remember it."""
        self.events.append(event)

    @property
    def ended(self) -> list[Vertex]:
        """The vertices that have come to an end, in that order."""
        return [event for event in self.events if isinstance(event, Vertex) and event.completed_ns]

    def cached(self, beginning: str = "") -> dict[str, bool]:
        """Name of each step → whether it was in the cache; without the internal ones and FROM."""
        return {
            vertex.name: vertex.cached
            for vertex in self.ended
            if vertex.name.startswith("[" + beginning)
            and not vertex.name.startswith("[internal")
            and "] FROM " not in vertex.name
        }

    @property
    def output(self) -> str:
        """What the steps wrote."""
        return b"".join(event.data for event in self.events if isinstance(event, Log)).decode()

    @property
    def warnings(self) -> list[str]:
        """What the checks found."""
        return [event.short for event in self.events if isinstance(event, solving.Warning)]


class Outcome:
    """One build: what was told, and what came of it."""

    def __init__(self, told: Told, session: FolderSession) -> None:
        self.told, self.session = told, session
        self.response: dict[str, str] = {}
        self.config = b""
        self.metadata: dict[str, bytes] = {}

    @property
    def image(self) -> str:
        """Its id."""
        return self.response["containerimage.config.digest"]


async def build(
    engine: Engine,
    session: FolderSession,
    attributes: "Mapping[str, str] | None" = None,
    exporters: Sequence[Exporter] = (Exporter("moby"),),
    entitlements: Sequence[str] = (),
    cache_imports: Sequence[CacheOption] = (),
) -> Outcome:
    """Build and export."""
    outcome = Outcome(Told(), session)
    asked = SolveRequest("test", attributes or {}, entitlements, cache_imports)
    async with solve.solve(engine, asked, session, outcome.told) as solved:
        outcome.config, outcome.metadata = solved.config, dict(solved.metadata)
        for exporter in exporters:
            outcome.response |= await solve.export(engine, solved, exporter, session, outcome.told)
    return outcome
