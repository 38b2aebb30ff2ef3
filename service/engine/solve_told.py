"""What a build tells of its steps: vertices that begin and end, with lines of progress and output."""

import asyncio
import hashlib
import time

from service.engine.solving import CANCELED, Log, Status, Vertex
from service.errors import MoorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any

    from service.engine.solving import Progress

_SHOWN_EVERY = 0.1  # seconds between two states of one line


class Step:
    """One vertex: `async with`. What is raised inside is its error, and goes on."""

    def __init__(self, progress: "Progress", name: str, inputs: "Sequence[str]" = (), key: str = "") -> None:
        self.progress, self.name, self.inputs = progress, name, tuple(inputs)
        self.digest = "sha256:" + hashlib.sha256((key or name).encode("utf-8", "replace")).hexdigest()
        self.cached = False
        self._started = 0
        self._lines: dict[str, int] = {}
        self._shown: dict[str, float] = {}
        self._telling: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Step":
        self._started = time.time_ns()
        await self.progress.tell(Vertex(self.digest, self.name, self.inputs, self._started))
        return self

    async def __aexit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        if self._telling:
            await asyncio.gather(*self._telling, return_exceptions=True)
        said = ""
        if isinstance(error, MoorageError):
            said = error.message
        elif error is not None:
            said = CANCELED if isinstance(error, asyncio.CancelledError) else str(error)
        ended = Vertex(self.digest, self.name, self.inputs, self._started, time.time_ns(), self.cached, said)
        await asyncio.shield(asyncio.ensure_future(self.progress.tell(ended)))

    async def log(self, stream: int, data: bytes) -> None:
        """Output of the step."""
        await self.progress.tell(Log(self.digest, stream, data, time.time_ns()))

    async def line(self, id: str, current: int = 0, total: int = 0, *, done: bool = False) -> None:
        """A line below the step."""
        now = time.time_ns()
        started = self._lines.setdefault(id, now)
        await self.progress.tell(Status(self.digest, id, id, current, total, started, now if done else 0))

    def transferred(self, id: str) -> "_Line":
        """A line that a transfer tells how far it is."""
        return _Line(self, id)

    def line_soon(self, id: str, current: int, total: int, *, done: bool) -> None:
        """`line`, told in the background; not more often than anybody could read."""
        now = time.monotonic()
        if not done and now - self._shown.get(id, 0.0) < _SHOWN_EVERY:
            return
        self._shown[id] = now
        task = asyncio.ensure_future(self.line(id, current, total, done=done))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)


class _Line:
    def __init__(self, step: Step, id: str) -> None:
        self.step, self.id = step, id

    def __call__(self, current: int, total: int, *, done: bool = False) -> None:
        self.step.line_soon(self.id, current, total, done=done)


async def pulled(step: Step, message: "dict[str, Any]") -> None:
    """Tell what a pull says (Docker's messages) as lines of a step."""
    detail = message.get("progressDetail") or {}
    if message.get("id") and message.get("status") in ("Downloading", "Pull complete", "Download complete"):
        done = message["status"] == "Pull complete"
        await step.line(f"{message['id']}", detail.get("current") or 0, detail.get("total") or 0, done=done)
