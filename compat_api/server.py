"""The event loop's part of a life: connections adopted from stage 0, our own accept, idle exit and draining.

Why not asyncio.Server: closing it cannot be taken back, and between its accept() and connection_made() a connection is
counted nowhere. Here a connection counts from the accept() on. uvicorn gives the HTTP protocol; its own server is not
needed, and its package is entered without running `uvicorn/__init__`, which imports the command line (click: 20 ms).
"""

import asyncio
import errno
import select
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any

    from compat_api.connection import Protocol
    from compat_api.life import Life


def _enter_uvicorn() -> None:
    if "uvicorn" not in sys.modules:
        import importlib.machinery
        import types

        found = importlib.machinery.PathFinder.find_spec("uvicorn")
        assert found is not None
        assert found.submodule_search_locations is not None
        bare = types.ModuleType("uvicorn")
        bare.__path__, bare.__spec__ = list(found.submodule_search_locations), found
        sys.modules["uvicorn"] = bare


_enter_uvicorn()
import uvicorn.config  # noqa: E402 - after the package has been entered
import uvicorn.server  # noqa: E402 - as above

from compat_api.dispatch import Dispatcher  # noqa: E402 - as above

sys.modules["uvicorn"].__dict__.setdefault("Config", uvicorn.config.Config)  # its own modules take it from there

_DRAIN = 10.0  # seconds that requests in flight get when the service is told to stop
_FIRST_LOOK, _LATEST_LOOK = 1.0, 60.0  # seconds to the next look whether what is in flight has ended; it doubles
_NEVER = 10**9  # seconds: keep-alive ends with the process


class Hangups:
    """Tells when a client has closed both directions, also where nothing is read from it or written to it.

    An epoll descriptor of its own watches for hang-ups alone; the loop watches that descriptor.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.epoll = select.epoll()
        self.told: dict[int, Callable[[], None]] = {}
        loop.add_reader(self.epoll.fileno(), self._look)

    def watch(self, transport: asyncio.Transport, tell: "Callable[[], None]") -> None:
        """Call `tell` once when the other end of `transport` has left."""
        fd = transport.get_extra_info("socket").fileno()
        self.told[fd] = tell
        self.epoll.register(fd, 0)  # EPOLLHUP is always reported

    def forget(self, transport: asyncio.Transport) -> None:
        """The transport is closed."""
        fd = transport.get_extra_info("socket").fileno()
        if self.told.pop(fd, None):
            self.epoll.unregister(fd)

    def _look(self) -> None:
        for fd, _ in self.epoll.poll(0):
            tell = self.told.pop(fd, None)
            self.epoll.unregister(fd)
            if tell:
                tell()


class Server:
    """What serves while the loop runs."""

    def __init__(self, life: "Life") -> None:
        self.life, self.listener, self.idle = life, life.listener, life.idle
        self.loop = asyncio.get_running_loop()
        self.hangups = Hangups(self.loop)
        self.dispatcher = Dispatcher(life.engine)
        self.config = uvicorn.config.Config(
            self.dispatcher,
            loop="asyncio",
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_NEVER,
        )
        self.server_state = uvicorn.server.ServerState()
        self.arriving: set[asyncio.Task[Any]] = set()  # accepted, not yet a protocol
        self.stop = asyncio.Event()
        self.stirred = asyncio.Event()  # told to stop, or a connection has ended
        self.patience = self._first_look()  # seconds to the next look while something is in flight

    async def serve(self, adopted: "list[tuple[_socket.socket, bytes, bool]]") -> None:
        """Until idle, or told to stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self._told_to_stop)
        if self.life.stopping:  # told between stage 0 and here
            self._told_to_stop()
        self.life.watch()
        for connection, unsent, answered in adopted:
            self.welcome(socket.socket(fileno=connection.detach()), unsent, answered and not unsent)
        self.listen()
        while not self.stop.is_set():
            await self._pause()
            if not self.stop.is_set() and self.idle.remaining() == 0 and self.quiet() and self.leave():
                return
        await self.drain()

    async def _pause(self) -> None:
        """Until told to stop, or until it is time to look whether we may leave.

        While something is in flight, ever more rarely: a follower of events costs nothing. The end of a connection
        is told (`stir`); what else may end the work is found at the next look.
        """
        seconds = None
        if not self.life.path:
            seconds = self.idle.remaining()
            if seconds:
                self.patience = self._first_look()
            else:
                seconds, self.patience = self.patience, min(2 * self.patience, _LATEST_LOOK)
        try:
            await asyncio.wait_for(self.stirred.wait(), seconds)
        except TimeoutError:
            return  # time to look
        if not self.stop.is_set():
            self.stirred.clear()
            self.patience = self._first_look()

    def _first_look(self) -> float:
        return min(_FIRST_LOOK, self.idle.window / 4)

    def stir(self) -> None:
        """A connection has ended: it may be time to leave."""
        self.stirred.set()

    def _told_to_stop(self) -> None:
        self.stop.set()
        self.stirred.set()

    # arriving

    def listen(self) -> None:
        """Accept connections from now on."""
        self.loop.add_reader(self.listener.fileno(), self.accept)

    def deafen(self) -> None:
        """Accept none any more: new clients wait in the backlog for our successor."""
        self.loop.remove_reader(self.listener.fileno())

    def accept(self) -> None:
        """Take what waits in the backlog."""
        for _ in range(64):
            try:
                fd, _ = self.listener._accept()  # type: ignore[attr-defined]  # the C socket's; typeshed hides it
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                self.deafen()
                self.loop.call_later(0.1, self.listen)  # something may be closed by then
                return
            self.welcome(socket.socket(fileno=fd))

    def welcome(self, connection: socket.socket, unsent: bytes = b"", answered: bool = False) -> None:
        """Make a protocol of an accepted connection."""
        from compat_api.connection import Protocol

        connection.setblocking(False)
        self.idle.touch()
        task = self.loop.create_task(
            self.loop.connect_accepted_socket(lambda: Protocol(self, unsent, answered), connection)
        )
        self.arriving.add(task)
        task.add_done_callback(self.arriving.discard)

    # leaving

    def connections(self) -> "list[Protocol]":
        """The connections that HTTP is spoken on (hijacked ones are tasks)."""
        return list(self.server_state.connections)  # type: ignore[arg-type]  # every one is made by `welcome`

    def quiet(self) -> bool:
        """Whether nothing is in flight."""
        if self.arriving or self.server_state.tasks or self.life.held():
            return False
        return not any(connection.busy() or connection.pending() for connection in self.connections())

    def leave(self) -> bool:
        """Stop accepting, look once more, close. False when a request has slipped in: then we go on.

        No coroutine: between the looks and the closing only the kernel's buffers may change.
        """
        self.deafen()
        late = [connection for connection in self.connections() if connection.last_look()]
        if late:
            self.listen()
            return False
        self.life.stop_notice()
        return True

    async def drain(self) -> None:
        """Told to stop: answer what is in flight, end what follows, take nothing new."""
        self.deafen()
        self.life.stop_notice()
        for task in list(self.dispatcher.followers):
            task.cancel()
        for connection in self.connections():
            if connection.in_progress():
                connection.cycle.keep_alive = False
            else:
                connection.last_look()
        await self._finish(_DRAIN)

    async def _finish(self, seconds: float) -> None:
        until = self.loop.time() + seconds
        while self.loop.time() < until and (  # noqa: ASYNC110 - three kinds of things to wait for, once per life
            self.arriving or self.server_state.tasks or any(c.in_progress() for c in self.connections())
        ):
            await asyncio.sleep(0.002)


def run(life: "Life", adopted: "list[tuple[_socket.socket, bytes, bool]]") -> None:
    """Serve in an event loop until idle, or told to stop."""

    async def serve() -> None:
        await Server(life).serve(adopted)

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(serve())  # the process ends next: closing the loop would only take time
