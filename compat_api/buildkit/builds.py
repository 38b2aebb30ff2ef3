"""The builds that run in this process, by the name that their client gave them (`Ref`).

A client starts a build (`Control.Solve`, which waits), then asks for images within it (`LLBBridge.Solve`), says which
one is the result (`LLBBridge.Return`), and follows the progress (`Control.Status`), all on calls of their own that may
come in any order. Each image is made in a task: its layers live as long as the task does, which is until the build ends
and no other build has it as an input.
"""

import asyncio
import contextlib
import time

from compat_api import errors
from compat_api.buildkit.history import History
from compat_api.buildkit.progress import Progress
from compat_api.buildkit.session import Sessions
from service.engine import solve_cache
from service.errors import Conflict, MoorageError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    from compat_api.buildkit.wire import control_pb2 as control
    from compat_api.buildkit.wire import gateway_pb2 as gateway
    from service.engine.engine import Engine
    from service.engine.solving import Exporter, Session, Solved, SolveRequest
    from service.engine.solving import Progress as Told

_WAIT = 10.0  # seconds that calls wait for the build they belong to
_REST = 1.0  # seconds after a build that its client has for itself, and perhaps the next one
_REMEMBERED = 30.0  # seconds that the progress of a build which has ended can still be asked for


class Refused(NotFound):
    """The build was refused before it began: its client is told so by the call that asked for it."""


class Solver:
    """What builds (`service.engine.solve`, `solve_export`): `solve` makes an image that lasts as long as its context;
    `export` gives one to where it is wanted, and says what the client is told about it."""

    def __init__(
        self,
        solve: "Callable[[Engine, SolveRequest, Session, Told], AbstractAsyncContextManager[Solved]]",
        export: "Callable[[Engine, Any, Exporter, Session, Told], Awaitable[Mapping[str, str]]]",
    ) -> None:
        self.solve, self.export = solve, export


class Image:
    """An image of a build: being made, or made."""

    def __init__(self, engine: "Engine", solver: "Solver") -> None:
        self._engine, self._solver = engine, solver
        self._made: asyncio.Future[Solved] = asyncio.get_running_loop().create_future()
        self._released = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._users = 1  # the build, and images of other builds that it is an input of
        self.needs: list[Image] = []

    def start(self, request: "SolveRequest", session: "Session", progress: Progress) -> None:
        """Begin to make it."""
        self._task = asyncio.create_task(self._live(request, session, progress), name="image")

    async def _live(self, request: "SolveRequest", session: "Session", progress: Progress) -> None:
        try:
            async with self._solver.solve(self._engine, request, session, progress) as solved:
                self._made.set_result(solved)
                await self._released.wait()
        except asyncio.CancelledError:
            self._made.cancel()
            raise
        except Exception as error:
            if self._made.done():
                raise
            self._made.set_exception(error)
            self._made.exception()  # seen: nobody may be waiting any more
        finally:
            for other in self.needs:
                other.release()

    async def made(self) -> "Solved":
        """The image, once it is made. Raises what making it raised."""
        return await asyncio.shield(self._made)

    def solved(self) -> "Solved | None":
        """The image if it is made."""
        good = self._made.done() and not self._made.cancelled() and self._made.exception() is None
        return self._made.result() if good else None

    def use(self) -> None:
        """Another image is made from it."""
        self._users += 1

    def release(self) -> None:
        """One user less; without any, its layers go."""
        self._users -= 1
        if not self._users:
            self._released.set()
            if not self._made.done() and self._task is not None:
                self._task.cancel()

    async def gone(self) -> None:
        """Returns when nothing is left of it, or others still need it."""
        if self._task is not None and not self._users:
            await asyncio.wait((self._task,))
            if not self._task.cancelled():
                self._task.exception()


class Build:
    """One build, from its start to its end."""

    def __init__(self, request: "control.SolveRequest") -> None:
        self.request = request
        self.ref = request.Ref
        self.progress = Progress()
        self.returned: asyncio.Future[gateway.Result] = asyncio.get_running_loop().create_future()
        self.images: dict[str, Image] = {}  # those made so far, by the id of their result
        self.making: list[Image] = []
        self.leaving: list[Image] = []  # those that failed, or were given up
        self.session: Any = None  # who serves it, once that is known
        self.task: asyncio.Task[Any] | None = None  # that makes it, where nobody waits for it in a call
        self.failed: Exception | None = None  # why the last image could not be made
        self.answer: dict[str, str] = {}  # what the outputs have said
        self.error: BaseException | None = None  # how it ended, where not well
        self.result: Solved | None = None  # what it was asked for, once that is made
        self.started_ns, self.ended_ns = time.time_ns(), 0

    async def end(self) -> None:
        """The build is over: what it made, or was making, is let go."""
        # First: a client that has given up (Ctrl-C) reads the progress for three more seconds at most (BuildKit's
        # client), and a process that is ended, with what it holds, may take longer.
        self.progress.end()
        if not self.returned.done():
            self.returned.cancel()
        for image in self.making:
            image.release()
        await asyncio.gather(*(image.gone() for image in (*self.making, *self.leaving)))


class Builds:
    """All of them, and the sessions they use."""

    def __init__(self, engine: "Engine", solver: "Solver") -> None:
        self.engine, self.solver = engine, solver
        self.sessions = Sessions()
        self.history = History(engine)
        self.uploads: Any = None  # rest.Uploads
        self._running: dict[str, Build] = {}
        self._images: dict[str, Image] = {}  # of all builds, by the id of their result
        self._refused: set[str] = set()
        self._changed = asyncio.Event()
        self._ending: set[asyncio.Task[None]] = set()
        self._cleaning: asyncio.Task[None] | None = None
        self._made = False  # whether a build has made something since it was looked what is too much

    @contextlib.asynccontextmanager
    async def run(self, request: "control.SolveRequest") -> "AsyncIterator[Build]":
        """A build lasts as long as this. Raises Conflict when there is one of that name."""
        if request.Ref in self._running:
            raise Conflict(f"job {request.Ref} already exists")
        build = self._running[request.Ref] = Build(request)
        self._changed.set()
        self._changed = asyncio.Event()
        self.engine.held += 1
        self.history.begin(build)
        try:
            yield build
        except BaseException as error:
            build.error = error
            raise
        finally:
            build.ended_ns = time.time_ns()
            # In a task of its own: the client may be gone, and with it the call that we are in.
            ending = asyncio.create_task(self._end(build), name="end of a build")
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            await asyncio.shield(ending)

    async def _end(self, build: Build) -> None:
        try:
            for id in build.images:
                self._images.pop(id, None)
            await build.end()
            try:
                await self.history.end(build)
            except MoorageError as error:
                self.engine.log(f"history of build {build.ref}: {error.message}")
            except Exception as error:  # noqa: BLE001 - the build is made; its client must not hear of this
                errors.report(error)
        finally:
            if build.making or build.leaving:
                self._clean_up()
            self.engine.held -= 1
            asyncio.get_running_loop().call_later(_REMEMBERED, self._running.pop, build.ref, None)

    def _clean_up(self) -> None:
        """Remove what is too much, behind the answers: once for all builds that end meanwhile."""
        self._made = True
        if self._cleaning is None:
            self.engine.held += 1
            self._cleaning = asyncio.create_task(self._clean(), name="clean-up after builds")

    async def _clean(self) -> None:
        try:
            while self._made:
                await asyncio.sleep(_REST)
                self._made = False
                await self.engine.thread(solve_cache.trim, self.engine)
        except Exception as error:  # noqa: BLE001 - no client waits for this; the next build tries again
            errors.report(error)
        finally:
            self._cleaning = None
            self.engine.held -= 1

    def expect(self, ref: str) -> None:
        """A build of that name is asked for, and may begin; an earlier one may have been refused."""
        self._refused.discard(ref)

    def refuse(self, ref: str) -> None:
        """There will be no build of that name: who asks about it does not wait for it."""
        self._refused.add(ref)
        asyncio.get_running_loop().call_later(_REMEMBERED, self._refused.discard, ref)
        self._changed.set()
        self._changed = asyncio.Event()

    def has(self, ref: str) -> bool:
        """Whether a build of that name goes on, or has just ended."""
        return ref in self._running

    async def get(self, ref: str) -> Build:
        """The build of that name; what asks for it may be earlier than what starts it. Raises NotFound, or Refused."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _WAIT
        while ref not in self._running:
            if ref in self._refused:
                raise Refused(f"no such job {ref}")
            try:
                await asyncio.wait_for(self._changed.wait(), until - loop.time())
            except TimeoutError:
                raise NotFound(f"no such job {ref}") from None
        return self._running[ref]

    async def session(self, build: Build) -> "Any":
        """Who serves a build (`solving.Session`). Raises SystemFailure when its session does not come."""
        if build.session is None:
            build.session = await self.sessions.get(build.request.Session)
        return build.session

    def cancel(self, ref: str) -> None:
        """End a build that was asked for by REST; any other ends with the calls of its client."""
        build = self._running.get(ref)
        if build is not None and build.task is not None:
            build.task.cancel()

    async def make(self, build: Build, request: "SolveRequest", needs: "list[Image]") -> "Solved":
        """Have an image made within a build. Raises what making it raises; ends when its caller does."""
        session = await self.session(build)
        image = Image(self.engine, self.solver)
        for other in needs:
            other.use()
        image.needs = needs
        build.making.append(image)
        image.start(request, session, build.progress)
        try:
            solved = await image.made()
        except BaseException:
            build.making.remove(image)
            build.leaving.append(image)
            image.release()
            await asyncio.shield(image.gone())
            raise
        build.images[solved.id] = self._images[solved.id] = image
        return solved

    def image(self, id: str) -> "Image | None":
        """An image by the id of its result, of any build that runs here."""
        return self._images.get(id)
