"""logs: what a container has written, and what it is writing (API: ContainerLogs).

The log is read by this process whenever a client wants it; nobody polls: inotify tells of new records, the bell of the
container's end. A client that does not read stops the reading: nothing is kept for it.
"""

import asyncio
import time

from service import timestamps
from service.engine import log_config
from service.engine.bell_watch import changes
from service.errors import Conflict, NotFound, NotImplemented_
from service.kernel.inotify import CREATE, MODIFY, MOVED_TO, Inotify
from service.runtime.log_file import LogFile
from service.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from service.engine.engine import Engine
    from service.model.container import Container
    from service.runtime.journal_log import JournalLog
    from service.runtime.log_file import Message

_UP = ("running", "paused")
_FIRST_WORDS = 0.05  # seconds: dockerd's start answers so much later than ours, when a short program has spoken already


def check_readable(container: "Container") -> None:
    """Raises Conflict for a container that is going away, NotImplemented_ when its log driver keeps nothing.

    Raises what `log_config.parse` does for options that mean nothing, as dockerd does.
    """
    if container["state"]["status"] in ("removing", "dead"):
        raise Conflict("can not get logs from container which is dead or marked for removal")
    if container["record"]["HostConfig"]["LogConfig"]["Type"] == "none":
        raise NotImplemented_("configured logging driver does not support reading")
    log_config.parse(container["record"])


def opened(engine: "Engine", container: "Container", *, whole_lines: bool = True) -> "LogFile | JournalLog":
    """A reader of a container's log, wherever its driver keeps it."""
    container_id = container["record"]["Id"]
    if container["record"]["HostConfig"]["LogConfig"]["Type"] == "journald":
        from service.runtime.journal_log import JournalLog

        return JournalLog(container_id)
    return LogFile(engine.settings.container_log(container_id), whole_lines=whole_lines)


async def messages(
    engine: "Engine",
    container: "Container",
    *,
    follow: bool = False,
    tail: "int | None" = None,
    since_ns: int = 0,
    until_ns: int = 0,
) -> "AsyncIterator[list[Message]]":
    """Batches of messages, oldest first: the last `tail` of them (None: all), of those the ones within the times.

    `follow` goes on until the container ends (this start of it), when it runs at all.
    """
    if not follow:
        container = await _after_its_first_words(engine, container)
    running = container["state"]["status"] in _UP
    follow = follow and running
    log = await engine.thread(lambda: opened(engine, container))

    def begin() -> None:
        if not follow:
            log.settle()
            log.end_at_present()
        if tail is not None:
            log.skip_to_last(tail, with_rest=not running)
        elif since_ns:
            log.skip_to(since_ns)

    try:
        await engine.thread(begin)
        source = _following(engine, container, log, until_ns) if follow else _present(engine, container, log)
        chosen = _Between(since_ns, until_ns)
        async for batch in source:
            if within := chosen.of(batch):
                yield within
            if chosen.over:
                return
    finally:
        log.close()


async def _after_its_first_words(engine: "Engine", container: "Container") -> "Container":
    """The container as it is when it has ended, or has run for a moment: who starts one and asks at once what it has
    written (docker-py: `run(detach=True).logs()`) is not to meet it before its first word."""
    if container["state"]["status"] != "running":
        return container
    left = _FIRST_WORDS - (time.time_ns() - timestamps.nanoseconds(container["state"]["started_at"])) / 1e9
    if not 0 < left <= _FIRST_WORDS:  # the clock may have been set
        return container

    def ended() -> bool:
        nonlocal container
        try:
            container = containers.get(engine.store, container["record"]["Id"])
        except NotFound:
            return True  # removed meanwhile: its log is still the one that was asked for
        return container["state"]["status"] != "running"

    await changes(engine).until(ended, left)
    return container


class _Between:
    """Leaves out what is before `since`, and what comes with and after the first message later than `until`.

    As dockerd does it: moments may go back (a clock was set), but once something was late enough, the rest is, too.
    """

    def __init__(self, since_ns: int, until_ns: int) -> None:
        self.since_ns, self.until_ns = since_ns, until_ns
        self.over = False

    def of(self, batch: "list[Message]") -> "list[Message]":
        """The messages of a batch that are wanted."""
        if self.since_ns:
            first = next((at for at, message in enumerate(batch) if nanoseconds(message[1]) >= self.since_ns), None)
            if first is None:
                return []
            self.since_ns, batch = 0, batch[first:]
        if self.until_ns:
            late = next((at for at, message in enumerate(batch) if nanoseconds(message[1]) > self.until_ns), None)
            if late is not None:
                self.over = True
                return batch[:late]
        return batch


def nanoseconds(stamp: bytes) -> int:
    """conmon's moment in nanoseconds since 1970."""
    return timestamps.nanoseconds(stamp.decode("ascii"))


async def _present(
    engine: "Engine", container: "Container", log: "LogFile | JournalLog"
) -> "AsyncIterator[list[Message]]":
    """What is there now. A line that a running container has not finished is not a message yet."""
    while batch := await engine.thread(log.read):
        yield batch
    if container["state"]["status"] not in _UP and (left := log.rest()):
        yield left


async def _following(
    engine: "Engine", container: "Container", log: "LogFile | JournalLog", until_ns: int = 0
) -> "AsyncIterator[list[Message]]":
    watch = Watch(engine, container, log)
    try:
        while True:
            # in this order: what was written before the end is there to be read once the end is known
            ended = watch.ended()
            if ended:
                await engine.thread(log.settle)
            while batch := await engine.thread(log.read):
                yield batch
            if ended:
                if left := log.rest():
                    yield left
                return
            left_seconds = (until_ns - time.time_ns()) / 1e9 if until_ns else None
            if left_seconds is not None and left_seconds <= 0:
                return
            await watch.changed(left_seconds)
    finally:
        watch.close()


async def records(
    engine: "Engine", container: "Container", started: "Callable[[], Awaitable[None]]"
) -> "AsyncIterator[list[Message]]":
    """Everything ever written and everything until the container's end, in the pieces that a terminal gets.

    `started` returns when a container that does not run yet has been started.
    """
    log = await engine.thread(lambda: opened(engine, container, whole_lines=False))
    try:
        if container["state"]["status"] not in _UP:
            while batch := await engine.thread(log.read):
                yield batch
            await started()
            try:
                container = containers.get(engine.store, container["record"]["Id"])
            except NotFound:
                return
        async for batch in _following(engine, container, log):
            yield batch
    finally:
        log.close()


class Watch:
    """Tells when a container's log may have grown, or it has ended. Made before the first look, it misses nothing."""

    def __init__(self, engine: "Engine", container: "Container", log: "LogFile | JournalLog") -> None:
        self.engine = engine
        self.container_id, self.generation = container["record"]["Id"], container["state"]["generation"]
        self.inotify: Inotify | None = None
        if isinstance(log, LogFile):
            self.inotify = Inotify()
            # the directory, not the file: a log that begins anew (rotation) is another file
            self.inotify.watch(engine.settings.container_root(self.container_id), MODIFY | CREATE | MOVED_TO)
            self.fd = self.inotify.fd
        else:
            self.fd = log.fd
        self.loop = asyncio.get_running_loop()
        self.written = asyncio.Event()
        self.loop.add_reader(self.fd, self._written)
        self.rung = changes(engine).listen()

    def _written(self) -> None:
        if self.inotify is not None:
            self.inotify.drain()
        else:
            self.loop.remove_reader(self.fd)  # stays readable until the journal's reader, in its thread, takes note
        self.written.set()

    def ended(self) -> bool:
        """Whether this start of the container is over."""
        try:
            state = containers.get(self.engine.store, self.container_id)["state"]
        except NotFound:
            return True
        return state["status"] not in _UP or state["generation"] != self.generation

    async def changed(self, seconds: "float | None") -> None:
        """Returns at the next change after the last call, or after `seconds`."""
        self.loop.add_reader(self.fd, self._written)
        written = self.loop.create_task(self.written.wait())
        try:
            await asyncio.wait((written, self.rung), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            written.cancel()
        self.written.clear()
        if self.rung.done():
            self.rung = changes(self.engine).listen()

    def close(self) -> None:
        """Let go of the watch."""
        self.rung.cancel()
        self.loop.remove_reader(self.fd)
        if self.inotify is not None:
            self.inotify.close()
