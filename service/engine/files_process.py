"""The program `container_files` (or `build_files`) at work, seen from the event loop: its answers, what it is fed, what
it gives.

It is an asynchronous iterator of what it gives. `aclose` (or the end of an `async with` block) ends it, wherever it is:
that is what happens when a client leaves.
"""

import asyncio
import fcntl
import os

from service import jsontext, process
from service.engine.process_watch import until_ended, until_over
from service.errors import InvalidParameter, NotFound, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType
    from typing import IO, Any

    from service.engine.engine import Engine
    from service.forking import Forker

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "container_files.py")
PIECE = 1 << 18  # bytes: the most that is read from the program at once
_SIGKILL = 9
_F_SETPIPE_SZ = 1031
_PIPE = 1 << 20  # bytes that are under way: with the kernel's 64 KiB each side waits for the other all the time


class Missing(NotFound):
    """A path that the work needs does not exist; the verb words it."""


def _in_memory(content: bytes) -> int:
    """A descriptor of a file that holds `content` and has no name."""
    fd = os.memfd_create("job")
    with open(os.dup(fd), "wb") as file:
        file.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _pipe(fd: int, mode: str) -> "IO[bytes]":
    return open(fd, mode, 0)


def _kill(known: int) -> None:
    import _signal  # type: ignore[import-not-found]  # typeshed knows `signal` alone

    try:
        _signal.pidfd_send_signal(known, _SIGKILL)
    except ProcessLookupError:
        pass  # it has ended by itself


class NotTaken(Exception):  # noqa: N818 - it says what happened
    """The program takes no more input; its next answer says why."""


class FilesProcess:
    """One run. `fed`: it takes input; `file`: its input is that file, whose descriptor stays the caller's; `kept`:
    descriptors that stay open as long as it lives. `at_end` is awaited when all that it gives was read, `at_close` when
    it has ended, in whichever way."""

    def __init__(
        self,
        engine: "Engine",
        job: "Mapping[str, Any]",
        *,
        program: "str | Forker" = PROGRAM,
        fed: bool = False,
        file: int = -1,
        kept: "tuple[int, ...]" = (),
        at_end: "Callable[[], Awaitable[None]] | None" = None,
        at_close: "Callable[[], Awaitable[None]] | None" = None,
    ) -> None:
        self.engine = engine
        self.settings, self.job, self.fed, self.file, self.kept = engine.settings, job, fed, file, kept
        self.at_end, self.at_close = at_end, at_close
        self.program = program
        self.pid = 0
        self._known = -1  # a descriptor of the process, where a program that forks has it done
        self._input: asyncio.StreamWriter | None = None
        self._answers: asyncio.StreamReader
        self._output: asyncio.StreamReader
        self._transports: list[asyncio.BaseTransport] = []

    async def __aenter__(self) -> "FilesProcess":
        return await self.begin()

    async def begin(self) -> "FilesProcess":
        """Start it; `aclose` must be called from then on. Raises OSError."""
        theirs: list[int] = []
        ours: list[int] = []
        try:
            asked = _in_memory(jsontext.dump_bytes(self.job))
            theirs.append(asked)
            for reads in (False, False, True) if self.fed else (False, False):  # answers, output, input
                source, sink = os.pipe()
                fcntl.fcntl(sink, _F_SETPIPE_SZ, _PIPE)
                ours.append(sink if reads else source)
                theirs.append(source if reads else sink)
            if self.file >= 0:
                theirs.append(os.dup(self.file))
            if isinstance(self.program, str):
                self.pid = process.spawn(
                    [self.settings.python, "-I", "-S", self.program],
                    environment=self.settings.environment(),
                    stdin=theirs[3] if self.fed or self.file >= 0 else -1,
                    stdout=theirs[2],
                    stderr=2,
                    descriptors=[(asked, 3), (theirs[1], 4), *((fd, 5 + place) for place, fd in enumerate(self.kept))],
                )
            else:
                assert not self.kept
                self.pid, self._known = await self._begun(self.program, theirs)
            self._answers, self._output = await self._reader(ours[0]), await self._reader(ours[1])
            if self.fed:
                self._input = await self._writer(ours[2])
        except BaseException:
            for fd in ours[len(self._transports) :]:
                os.close(fd)
            await self.aclose()
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        return self

    async def _begun(self, program: "Forker", descriptors: "list[int]") -> tuple[int, int]:
        """Have it begun, to the end of that even when we are given up meanwhile: else nobody would end it."""
        work = self.engine.thread(program.begin, self.settings, b"+", list(descriptors))
        beginning = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            begun = (await asyncio.gather(beginning, return_exceptions=True))[0]
            if isinstance(begun, tuple):
                self.pid, self._known = begun
            raise

    async def __aexit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        await self.aclose()

    async def _reader(self, fd: int) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(PIECE)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), _pipe(fd, "rb")
        )
        self._transports.append(transport)
        return reader

    async def _writer(self, fd: int) -> asyncio.StreamWriter:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), _pipe(fd, "wb")
        )
        self._transports.append(transport)
        return asyncio.StreamWriter(transport, protocol, None, loop)

    async def answer(self) -> "dict[str, Any]":
        """Its next answer. Raises Missing, InvalidParameter or SystemFailure when that is an error."""
        line = await self._answers.readline()
        if not line:
            raise SystemFailure("the program that works on the container's files has ended unexpectedly")
        said: dict[str, Any] = jsontext.loads(line)
        if "error" in said:
            meanings = {"missing": Missing, "refused": InvalidParameter}
            raise meanings.get(said["kind"], SystemFailure)(said["error"])
        return said

    def __aiter__(self) -> "FilesProcess":
        return self

    async def __anext__(self) -> bytes:
        """The next bytes that it gives. Raises SystemFailure when it did not come to its end."""
        piece = await self._output.read(PIECE)
        if piece:
            return piece
        if not isinstance(self.program, str):
            await self.answer()  # that it is done
        elif code := await self._ended():
            raise SystemFailure(f"reading the container's files: exit code {code}")
        if self.at_end is not None:
            await self.at_end()
        raise StopAsyncIteration

    async def feed(self, data: bytes) -> None:
        """Give it bytes, as fast as it takes them. Raises NotTaken when it has stopped reading."""
        assert self._input is not None
        self._input.write(data)
        try:
            await self._input.drain()
        except ConnectionError:
            raise NotTaken from None

    def end_of_input(self) -> None:
        """That was all."""
        assert self._input is not None
        self._input.close()

    async def _ended(self) -> int:
        """Its exit code, once it has ended; 0 for one that was forked, whose answers say what became of it."""
        if self._known >= 0:
            known, self._known, self.pid = self._known, -1, 0
            try:
                await until_over(known)
            finally:
                os.close(known)
        if not self.pid:
            return 0
        await until_ended(self.pid)
        pid, self.pid = self.pid, 0
        return process.wait(pid)

    async def aclose(self) -> None:
        """End it, if it has not ended."""
        for transport in self._transports:
            if isinstance(transport, asyncio.WriteTransport) and not transport.is_closing():
                transport.abort()  # what it did not take is not waited for
            else:
                transport.close()
        if self.pid:
            if self._known >= 0:
                _kill(self._known)
            else:
                os.kill(self.pid, _SIGKILL)  # ours, and not reaped yet: the number is still its own
            await asyncio.shield(asyncio.ensure_future(self._ended()))
        if self.at_close is not None:
            told, self.at_close = self.at_close, None
            await told()
