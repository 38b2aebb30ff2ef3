"""What a build tells, kept for whoever follows it (`solving.Progress`), and as BuildKit's messages.

A follower gets the whole picture first. Of a vertex and of a status only the latest state is kept for a follower that
is behind: they are told whole. Output is kept in full, and the step that writes it waits for a follower that is far
behind.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections import deque

from compat_api.buildkit.wire import control_pb2 as control
from compat_api.buildkit.wire import ops_pb2 as ops
from service.engine import solving
from service.engine.solving import CANCELED, Log, Status, Vertex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from google.protobuf.timestamp_pb2 import Timestamp

    Event = Vertex | Status | Log | solving.Warning

_BEHIND = 1 << 20  # bytes of output that a follower may be behind before the build waits
_REMEMBERED = 2 << 20  # bytes of output that are kept for who comes later
_MESSAGE = 1 << 20  # bytes of output in one message: gRPC takes 4 MiB by default
_RHYTHM = 0.02  # seconds between messages: what comes meanwhile goes together


class Follower:
    """One client's stream of a build's progress."""

    def __init__(self) -> None:
        self.vertices: dict[str, Vertex] = {}
        self.statuses: dict[tuple[str, str], Status] = {}
        self.lines: deque[Log | solving.Warning] = deque()
        self.bytes = 0
        self.ended = False
        self.arrived = asyncio.Event()
        self.over = asyncio.Event()  # set with `ended`
        self.caught_up = asyncio.Event()
        self.caught_up.set()

    def add(self, event: "Event") -> None:
        """Something to tell."""
        if isinstance(event, Vertex):
            self.vertices[event.digest] = event
        elif isinstance(event, Status):
            self.statuses[event.vertex, event.id] = event
        else:
            self.lines.append(event)
            self.bytes += _size(event)
            if self.bytes > _BEHIND:
                self.caught_up.clear()
        self.arrived.set()

    def end(self) -> None:
        """Nothing more comes (or nobody listens any more)."""
        self.ended = True
        self.arrived.set()
        self.over.set()
        self.caught_up.set()

    def take(self) -> "control.StatusResponse | None":
        """What is to be told now; None when there is nothing."""
        if not (self.vertices or self.statuses or self.lines):
            return None
        told = control.StatusResponse(vertexes=[vertex(found) for found in self.vertices.values()])
        told.statuses.extend(status(found) for found in self.statuses.values())
        self.vertices.clear()
        self.statuses.clear()
        size = 0
        while self.lines and size < _MESSAGE:
            line = self.lines.popleft()
            size += _size(line)
            if isinstance(line, Log):
                told.logs.append(log(line))
            else:
                told.warnings.append(warning(line))
        self.bytes -= size
        if self.bytes <= _BEHIND:
            self.caught_up.set()
        return told

    def drain(self) -> "list[control.StatusResponse]":
        """All that is to be told now."""
        return list(iter(self.take, None))


class Progress:
    """The progress of one build."""

    def __init__(self) -> None:
        self.vertices: dict[str, Vertex] = {}
        self.warnings = 0
        self._statuses: dict[tuple[str, str], Status] = {}
        self._lines: deque[Log | solving.Warning] = deque()
        self._bytes = 0
        self._followers: list[Follower] = []
        self.ended = False

    async def tell(self, event: "Event") -> None:
        """Take an event; waits for followers that are far behind with output (`solving.Progress.tell`)."""
        self.add(event)
        for follower in list(self._followers):
            await follower.caught_up.wait()

    def add(self, event: "Event") -> None:
        """As `tell`, without waiting."""
        if isinstance(event, Vertex):
            self.vertices[event.digest] = event
        elif isinstance(event, Status):
            self._statuses[event.vertex, event.id] = event
        else:
            self.warnings += isinstance(event, solving.Warning)
            self._lines.append(event)
            self._bytes += _size(event)
            while self._bytes > _REMEMBERED:
                self._bytes -= _size(self._lines.popleft())
        if not self.ended:
            for follower in self._followers:
                follower.add(event)

    def end(self) -> None:
        """The build is over. A step that has not ended is given up, and told to be: the client does not wait for it."""
        if self.ended:
            return
        now = time.time_ns()
        for found in list(self.vertices.values()):
            if found.started_ns and not found.completed_ns:
                self.add(dataclasses.replace(found, completed_ns=now, error=CANCELED))
        self.ended = True
        for follower in self._followers:
            follower.end()

    async def follow(self) -> "AsyncGenerator[control.StatusResponse, None]":
        """All that there is to tell, until the build ends."""
        follower = Follower()
        for event in (*self.vertices.values(), *self._statuses.values(), *self._lines):
            follower.add(event)
        if self.ended:
            follower.end()
        self._followers.append(follower)
        try:
            while True:
                while (told := follower.take()) is not None:
                    yield told
                if follower.ended:
                    return
                follower.arrived.clear()
                await follower.arrived.wait()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_RHYTHM):
                        await follower.over.wait()  # what is the last is told at once: the client waits for it
        finally:
            follower.end()
            self._followers.remove(follower)

    def steps(self) -> "tuple[int, int, int]":
        """How many there were, were done, and were in the cache."""
        found = self.vertices.values()
        return len(found), sum(bool(each.completed_ns) for each in found), sum(each.cached for each in found)

    def story(self) -> "list[control.StatusResponse]":
        """All that was told, in the order of its time, as clients that print it line by line need it."""
        entries: list[tuple[int, int, Event]] = []
        ends: dict[str, int] = {}
        for found in self.vertices.values():
            begun = dataclasses.replace(found, completed_ns=0, cached=False, error="")
            entries.append((found.started_ns, 0, begun))
            if begun != found:
                ends[found.digest] = found.completed_ns or found.started_ns
                entries.append((ends[found.digest], 3, found))
        entries += [(line.completed_ns or line.started_ns, 1, line) for line in self._statuses.values()]
        for said in self._lines:
            entries.append((said.time_ns if isinstance(said, Log) else ends.get(said.vertex, 0), 2, said))
        follower, told, last = Follower(), [], -1
        for _, kind, event in sorted(entries, key=lambda entry: entry[:2]):
            if kind != last or follower.bytes > _MESSAGE:
                told += follower.drain()
            follower.add(event)
            last = kind
        return told + follower.drain()


def _size(event: "Log | solving.Warning") -> int:
    return len(event.data) if isinstance(event, Log) else len(event.text) + 200


def moment(nanoseconds: int, to: "Timestamp") -> None:
    """Set a timestamp; 0 leaves it out."""
    if nanoseconds:
        to.FromNanoseconds(nanoseconds)


def vertex(found: Vertex) -> control.Vertex:
    """A vertex as a message."""
    told = control.Vertex(
        digest=found.digest, inputs=found.inputs, name=found.name, cached=found.cached, error=found.error
    )
    if found.started_ns:
        moment(found.started_ns, told.started)
    if found.completed_ns:
        moment(found.completed_ns, told.completed)
    if found.group:
        told.progressGroup.id = told.progressGroup.name = found.group
    return told


def status(found: Status) -> control.VertexStatus:
    """A status as a message. Clients show its ID."""
    told = control.VertexStatus(
        ID=found.id, vertex=found.vertex, name=found.name or found.id, current=found.current, total=found.total
    )
    if found.started_ns:
        moment(found.started_ns, told.started)
    if found.completed_ns:
        moment(found.completed_ns, told.completed)
    moment(found.completed_ns or found.started_ns, told.timestamp)
    return told


def log(found: Log) -> control.VertexLog:
    """Output as a message."""
    told = control.VertexLog(vertex=found.vertex, stream=found.stream, msg=found.data)
    moment(found.time_ns, told.timestamp)
    return told


def warning(found: solving.Warning) -> control.VertexWarning:
    """A warning as a message."""
    told = control.VertexWarning(
        vertex=found.vertex,
        level=found.level,
        short=found.short.encode(),
        detail=[line.encode() for line in found.detail],
        url=found.url,
    )
    if found.filename:
        told.info.CopyFrom(ops.SourceInfo(filename=found.filename, data=found.text, language="Dockerfile"))
    told.ranges.extend(
        ops.Range(start=ops.Position(line=lines.start), end=ops.Position(line=lines.end)) for lines in found.ranges
    )
    return told
