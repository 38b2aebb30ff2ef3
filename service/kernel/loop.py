"""A small event loop on epoll(7), for a program that mostly sleeps: timers, descriptors, children, watched paths.

It wakes only for what was asked for, however many descriptors it holds; there is no tick. A callback that raises is
told of (`complain`) and the loop goes on: what one thing cannot do must not end the others. `asyncio` would cost such a
program four times its memory.
"""

import _signal  # type: ignore[import-not-found]  # what `signal` wraps; its enums cost a process 3 ms
import os
import select
import time

from service.kernel.inotify import Inotify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SIGCHLD = 17
_MOMENT = 5.0  # seconds that an orphan's end is remembered: long before its pid is given out again


class Loop:
    """One per process. Times are `time.monotonic()` seconds."""

    def __init__(self, complain: "Callable[[BaseException], None]") -> None:
        self._complain = complain
        self._timers: dict[object, tuple[float, Callable[[], None]]] = {}
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._children: dict[int, Callable[[int], None]] = {}
        self._orphans: dict[int, tuple[int, float]] = {}  # reaped before anybody asked: pid → exit code, when
        self._watches: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        self._known: set[int] = set()  # what epoll has been told of
        self._inotify = Inotify()
        self.readable(self._inotify.fd, self._changed)
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._woken = woken
        self.readable(woken, self._reap)
        _signal.signal(_SIGCHLD, lambda *_: None)  # a handler, or the signal would not write to the pipe
        _signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def at(self, when: float, call: "Callable[[], None]") -> object:
        """Call once, at that time or as soon after as may be. What is returned cancels it."""
        token = object()
        self._timers[token] = (when, call)
        return token

    def cancel(self, token: object) -> None:
        """Forget a timer; harmless when it has rung."""
        self._timers.pop(token, None)

    def readable(self, fd: int, call: "Callable[[], None]") -> None:
        """Call whenever there is something to read, or the other end is gone. `forget` it before closing it."""
        self._readers[fd] = call
        self._register(fd)

    def writable(self, fd: int, call: "Callable[[], None]") -> None:
        """Call once, when there is room to write, a connection stands, or the other end is gone."""
        self._writers[fd] = call
        self._register(fd)

    def forget(self, fd: int) -> None:
        """No more calls for this descriptor."""
        self._readers.pop(fd, None)
        self._writers.pop(fd, None)
        if fd in self._known:
            self._known.remove(fd)
            self._epoll.unregister(fd)

    def _register(self, fd: int) -> None:
        events = (select.EPOLLIN if fd in self._readers else 0) | (select.EPOLLOUT if fd in self._writers else 0)
        if fd in self._known and events:
            self._epoll.modify(fd, events)
        elif fd in self._known:  # else its hang-up would wake us for ever
            self.forget(fd)
        else:
            self._epoll.register(fd, events)
            self._known.add(fd)

    def child(self, pid: int, call: "Callable[[int], None]") -> None:
        """Call once with the exit code (minus the signal that ended it) of a child, or of an orphan that became one."""
        self._children[pid] = call
        code, reaped = self._orphans.pop(pid, (0, 0.0))
        if time.monotonic() - reaped < _MOMENT:
            self.at(0.0, lambda: self._ended(pid, code))

    def watch(self, path: str, mask: int, call: "Callable[[], None]") -> int:
        """Call after something happened to a path (masks: `kernel.inotify`). Raises OSError. What is returned ends it.

        A path that is watched already keeps one watch: the later mask and call stand.
        """
        watch = self._inotify.watch(path, mask)
        self._watches[watch] = call
        return watch

    def unwatch(self, watch: int) -> None:
        """End a watch; harmless when its file is gone."""
        if self._watches.pop(watch, None):
            self._inotify.unwatch(watch)

    def run_once(self) -> None:
        """Sleep until something is to be done, and do it."""
        wait = None
        if self._timers:
            wait = max(0.0, min(when for when, _ in self._timers.values()) - time.monotonic()) + 0.001
        for fd, happened in self._epoll.poll(wait):
            if fd in self._writers and happened & ~select.EPOLLIN:
                call = self._writers.pop(fd)
                self._register(fd)
                self._call(call)
            if fd in self._readers and happened & ~select.EPOLLOUT:
                self._call(self._readers[fd])
        now = time.monotonic()
        for token, (when, call) in list(self._timers.items()):
            if when <= now and token in self._timers:
                del self._timers[token]
                self._call(call)

    def _call(self, call: "Callable[[], None]") -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - told of; the loop is for more than the one who failed
            self._complain(error)

    def _changed(self) -> None:
        for watch in self._inotify.changed():
            if watch in self._watches:
                self._call(self._watches[watch])

    def _reap(self) -> None:
        os.read(self._woken, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, code: int) -> None:
        call = self._children.pop(pid, None)
        if call is not None:
            self._call(lambda: call(code))
            return
        now = time.monotonic()
        for old in [orphan for orphan, (_, reaped) in self._orphans.items() if now - reaped >= _MOMENT]:
            del self._orphans[old]
        self._orphans[pid] = (code, now)  # its parent may only just have ended, and somebody be about to ask for it
