"""`attach`: clients joined to the streams of a container's first process (API: ContainerAttach).

conmon stands still while one of its attached sockets is not read, and with it the container, its log and every other
client. So this process holds one connection per container, however many clients attach, and gives each its own buffer;
a client that lets its buffer fill holds the container up, as it does in dockerd.

A client may attach before the container is started (that is what `docker run` does): it waits in `engine.attachments`
until the launch says that conmon's socket is there and `runc start` was not yet called. So not one byte is lost of a
process that prints and exits at once. The launch runs in a thread; around it stands

    with attach.waiters(engine, container_id) as before_start:
        await engine.thread(lambda: launch.start(…, before_start=before_start))
"""

import asyncio

from service import bell
from service.engine import events
from service.engine.bell_watch import changes
from service.errors import Conflict, NotFound, NotModified
from service.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from types import TracebackType
    from typing import Any

    from service.engine.engine import Engine
    from service.model.container import Container
    from service.runtime.attach_socket import AttachSocket
    from service.runtime.log_file import Message

    Output = list[tuple[int, bytes]]  # (stream, bytes) in the order of arrival

STDOUT, STDERR = 1, 2
BUFFER = 1_000_000  # bytes a client may be behind before the container waits for it (moby: bytespipe blockThreshold)
_CONNECT_TIMEOUT = 30.0  # seconds a launch waits for its clients to be joined


class Attachment:
    """One client's side of a container's streams. `leave` must be called when the client is done with it."""

    def __init__(self, streams: "Streams", container: "Container", *, stdin: bool, wanted: "frozenset[int]") -> None:
        config = container["record"]["Config"]
        self.tty: bool = config["Tty"]
        self.takes_stdin = bool(stdin and config["OpenStdin"])
        self.passes_eof = bool(config["StdinOnce"] and not self.tty)
        self.wanted = wanted
        self._streams = streams
        self._waiting: "Output" = []
        self._size = 0
        self._ended = False
        self._started_at = container["state"]["started_at"]
        self._over = asyncio.Event()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()

    async def read(self) -> "Output":
        """What came since the last call; empty at the end."""
        await self._filled.wait()
        taken, self._waiting, self._size = self._waiting, [], 0
        self._emptied.set()
        if not self._ended:
            self._filled.clear()
        return taken

    async def started(self) -> None:
        """Returns when it is recorded that a container which did not run has been started (or will not be)."""
        await self._streams.joined.wait()
        begun = asyncio.ensure_future(changes(self._streams.engine).until(self._begun, float("inf")))
        over = asyncio.ensure_future(self._over.wait())
        await asyncio.wait((begun, over), return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        over.cancel()

    def _begun(self) -> bool:
        try:
            state = containers.get(self._streams.engine.store, self._streams.container_id)["state"]
        except NotFound:
            return True
        return state["started_at"] != self._started_at

    async def write(self, data: bytes) -> None:
        """To the process's stdin; returns when there is room for more. Waits for the start of a created container."""
        await self._streams.write(data)

    async def close_stdin(self) -> None:
        """The client types no more: end of file for the process."""
        await self._streams.close_stdin()

    def leave(self) -> None:
        """The client is gone, detached, or has read the end."""
        self._streams.remove(self)
        self.end()
        self._emptied.set()

    def put(self, stream: int, data: bytes) -> bool:
        """Take a piece of output; whether there is room for more."""
        if self._ended or stream not in self.wanted:
            return True
        self._waiting.append((stream, data))
        self._size += len(data)
        self._filled.set()
        return self._size < BUFFER

    async def room(self) -> None:
        """Returns when the client has taken what was waiting (or has left)."""
        while self._size >= BUFFER and not self._ended:
            self._emptied.clear()
            await self._emptied.wait()

    def end(self) -> None:
        """No more output will come."""
        self._ended = True
        self._over.set()
        self._filled.set()


class Streams:
    """This process's one connection to a container's conmon, and the clients that share it."""

    def __init__(self, engine: "Engine", container_id: str) -> None:
        self.engine, self.container_id = engine, container_id
        self.clients: list[Attachment] = []
        self.socket: AttachSocket | None = None
        self.over = False
        self._stdin_closed = False
        self.joined = asyncio.Event()  # the connection stands, or never will
        self._lock = asyncio.Lock()
        self._stdin = asyncio.Lock()  # one writer at a time: clients' bytes do not mix within a write
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, attachment: Attachment) -> None:
        """One client more."""
        self.clients.append(attachment)

    def remove(self, attachment: Attachment) -> None:
        """Without a client the connection goes too: conmon then writes to its log alone."""
        if attachment in self.clients:
            self.clients.remove(attachment)
        if not self.clients:
            self.dismiss()

    async def connect(self) -> None:
        """Connect to conmon, once. When that cannot be (the process has ended), the clients see the end."""
        from service.runtime import attach_socket, conmon

        async with self._lock:
            if self.socket is not None or self.over:
                return
            try:
                self.socket = await attach_socket.connect(conmon.attach_path(self.engine.settings, self.container_id))
            except (FileNotFoundError, ConnectionRefusedError):
                self.dismiss()
                return
            self.joined.set()
            self._keep(self._distribute(self.socket))

    def wait_for_start(self) -> None:
        """Connect when the store says that the container runs, end when it is gone: both may be another's doing."""
        self._keep(self._watch())

    async def write(self, data: bytes) -> None:
        """To the process's stdin, once there is a process."""
        async with self._stdin:
            await self.joined.wait()
            if self.socket is not None and not self._stdin_closed:
                try:
                    await self.socket.write_stdin(data)
                except (BrokenPipeError, ConnectionResetError):
                    self._stdin_closed = True  # the process is ending: nobody is left to read this

    async def close_stdin(self) -> None:
        """End of file for the process; later writes go nowhere."""
        async with self._stdin:
            await self.joined.wait()
            if self.socket is not None and not self._stdin_closed:
                self._stdin_closed = True
                self.socket.close_stdin()

    def dismiss(self) -> None:
        """Let go of the connection; every client sees the end."""
        self.over = True
        self.joined.set()
        if self.engine.attachments.get(self.container_id) is self:
            del self.engine.attachments[self.container_id]
        for client in self.clients:
            client.end()
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def _keep(self, work: "Coroutine[Any, Any, None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _distribute(self, socket: "AttachSocket") -> None:
        try:
            while (piece := await socket.read()) is not None:
                stream, data = piece
                for client in [c for c in self.clients if not c.put(stream, data)]:
                    await client.room()
        finally:
            self.dismiss()

    async def _watch(self) -> None:
        def decided() -> bool:
            return self._status() in ("running", "paused", "")

        await changes(self.engine).until(decided, float("inf"))
        if self._status():
            await self.connect()
        else:
            self.dismiss()

    def _status(self) -> str:
        """The container's status; empty when it is gone."""
        try:
            return containers.get(self.engine.store, self.container_id)["state"]["status"]
        except NotFound:
            return ""


class waiters:  # noqa: N801 - reads as a word in `with attach.waiters(...)`
    """Around a launch: gives it its `before_start`, and tells the waiting clients when it failed."""

    def __init__(self, engine: "Engine", container_id: str) -> None:
        self.engine, self.container_id = engine, container_id
        self.loop = asyncio.get_running_loop()

    def __enter__(self) -> "Callable[[], None]":
        return self._before_start

    def _before_start(self) -> None:
        """In the launch's thread: returns when every waiting client is joined to conmon."""
        streams = self.engine.attachments.get(self.container_id)
        if streams is not None:
            asyncio.run_coroutine_threadsafe(streams.connect(), self.loop).result(_CONNECT_TIMEOUT)

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        streams = self.engine.attachments.get(self.container_id)
        failed = isinstance(error, Exception) and not isinstance(error, NotModified)  # not: the request was given up
        if failed and streams is not None and streams.socket is None:
            streams.dismiss()


def check_attachable(container: "Container", reference: str) -> None:
    """Raises Conflict for a container that is paused or between two restarts."""
    status = container["state"]["status"]
    if status == "paused":
        raise Conflict(f"container {reference} is paused, unpause the container before attach")
    if status == "restarting":
        raise Conflict(f"container {reference} is restarting, wait until the container is running")


async def attach(
    engine: "Engine", reference: str, *, stdin: bool, stdout: bool, stderr: bool
) -> "tuple[Attachment, Container]":
    """Join a client to a container. Raises NotFound, or Conflict when the container is paused or restarting.

    When it returns the client misses nothing any more: answer the client only then.
    """
    container = containers.find(engine.store, reference)
    check_attachable(container, reference)
    status, container_id = container["state"]["status"], container["record"]["Id"]
    streams = engine.attachments.get(container_id)
    fresh = streams is None
    if streams is None:
        streams = engine.attachments[container_id] = Streams(engine, container_id)
    attachment = Attachment(streams, container, stdin=stdin, wanted=_wanted(stdout, stderr))
    streams.add(attachment)
    if status == "running":
        await streams.connect()
    elif fresh:
        streams.wait_for_start()
    return attachment, container


def _wanted(stdout: bool, stderr: bool) -> "frozenset[int]":
    return frozenset(stream for stream, asked in ((STDOUT, stdout), (STDERR, stderr)) if asked)


class Replay:
    """A client that wants what was written before as well: its output comes from the log, so nothing is missed or
    told twice where the two meet; its input goes the way of every other client's."""

    def __init__(
        self, engine: "Engine", container: "Container", attachment: Attachment, wanted: "frozenset[int]"
    ) -> None:
        self.tty, self.takes_stdin, self.passes_eof = attachment.tty, attachment.takes_stdin, attachment.passes_eof
        self._attachment = attachment
        self._wanted = wanted
        self._batches = self._all(engine, container)

    async def _all(self, engine: "Engine", container: "Container") -> "AsyncIterator[list[Message]]":
        from service.engine import logs

        async for batch in logs.records(engine, container, self._attachment.started):
            yield batch

    async def read(self) -> "Output":
        """The next output; empty at the end."""
        async for batch in self._batches:
            chosen = [(stream, data) for stream, _, data in batch if stream in self._wanted]
            if chosen:
                return chosen
        return []

    async def write(self, data: bytes) -> None:
        """To the process's stdin."""
        await self._attachment.write(data)

    async def close_stdin(self) -> None:
        """End of file for the process."""
        await self._attachment.close_stdin()

    def leave(self) -> None:
        """The client is gone, detached, or has read the end."""
        self._attachment.leave()


async def attach_with_log(
    engine: "Engine", reference: str, *, stdin: bool, stdout: bool, stderr: bool
) -> "tuple[Replay, Container]":
    """`attach`, with all that the container has ever written first. Raises as it does, or NotImplemented_ (no log)."""
    from service.engine import logs

    logs.check_readable(containers.find(engine.store, reference))
    attachment, container = await attach(engine, reference, stdin=stdin, stdout=False, stderr=False)
    return Replay(engine, container, attachment, _wanted(stdout, stderr)), container


async def announce(engine: "Engine", container: "Container", action: str) -> None:
    """Record the event `attach` or `detach`."""

    def record() -> None:
        with engine.store.write():
            events.container(engine.store, container["record"], action)
        bell.ring(engine.settings.bell)

    await engine.thread(record)
