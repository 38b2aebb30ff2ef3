"""Programs that are started once for a process and fork for every piece of work.

A start of Python costs 12 ms of processor time and more with what it imports, the fork of a small one 1 ms: that counts
for an image of twenty layers, and for a build of ten steps. Such a program ends with the process that started it, when
its socket closes. Its standard input is that socket; a message comes with the descriptors that the work needs. Called
from threads.
"""

import _socket
import _thread
import os
import sys

from service import process
from service.errors import SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from service.settings import Settings

_ATTEMPTS = 2  # the second with a new program: the first may have been killed since it was last needed
_LONGEST = 64  # bytes of an answer
_INT = 4  # bytes


class Forker:
    """One such program, by its path and arguments; nothing is started before it is needed. `does`: for errors."""

    def __init__(self, path: str, *arguments: str, does: str) -> None:
        self.path, self.arguments, self.does = path, arguments, does
        self._lock = _thread.allocate_lock()
        self._program: list[tuple[_socket.socket, int]] = []  # our end of its socket, and its pid

    def ask(self, settings: "Settings", message: bytes, descriptors: "Sequence[int]") -> None:
        """Have a piece of work done. The descriptors stay the caller's. Raises SystemFailure."""
        with self._lock:
            self._retried(settings, message, descriptors, answers=False)

    def begin(self, settings: "Settings", message: bytes, descriptors: "Sequence[int]") -> tuple[int, int]:
        """As `ask`; the process that does it: its pid, and a descriptor of it (pidfd_open(2)), the caller's."""
        with self._lock:
            return self._retried(settings, message, descriptors, answers=True)

    def end(self) -> None:
        """End the program, if it was started: for who needs it within a process that goes on."""
        with self._lock:
            self._end()

    def _retried(
        self, settings: "Settings", message: bytes, descriptors: "Sequence[int]", *, answers: bool
    ) -> tuple[int, int]:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._once(settings, message, descriptors, answers=answers)
            except OSError as error:
                self._end()
                if attempt == _ATTEMPTS:
                    reason = os.strerror(error.errno or 0).lower()
                    raise SystemFailure(f"the program that {self.does} does not start: {reason}") from error
        raise AssertionError

    def _once(
        self, settings: "Settings", message: bytes, descriptors: "Sequence[int]", *, answers: bool
    ) -> tuple[int, int]:
        if not self._program:
            self._program.append(self._started(settings))
        control = self._program[0][0]
        packed = b"".join(fd.to_bytes(_INT, sys.byteorder) for fd in descriptors)
        control.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)], _socket.MSG_NOSIGNAL)
        if not answers:
            return 0, -1
        told, ancillary, _, _ = control.recvmsg(_LONGEST, _socket.CMSG_SPACE(_INT), _socket.MSG_CMSG_CLOEXEC)
        if not ancillary:
            raise BrokenPipeError(32, os.strerror(32))  # it has ended
        return int(told), int.from_bytes(ancillary[0][2][:_INT], sys.byteorder)

    def _started(self, settings: "Settings") -> "tuple[_socket.socket, int]":
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            argv = [settings.python, "-I", "-S", self.path, *self.arguments]
            return ours, process.spawn(argv, environment=settings.environment(), stdin=theirs.fileno(), stderr=2)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()

    def _end(self) -> None:
        if self._program:
            ours, pid = self._program.pop()
            ours.close()
            process.wait(pid)


def received(message: int, count: int) -> "tuple[bytes, list[int]]":
    """In such a program: the next message (at most `message` bytes) and its descriptors (at most `count`); an empty one
    when nobody is there to ask any more."""
    control = _control()
    try:
        data, ancillary, _, _ = control.recvmsg(message, _socket.CMSG_SPACE(count * _INT))
    finally:
        control.detach()
    passed = ancillary[0][2] if ancillary else b""
    return data, [int.from_bytes(passed[at : at + _INT], sys.byteorder) for at in range(0, len(passed), _INT)]


def answer(pid: int, descriptor: int) -> None:
    """In such a program: answer `begin` with a process of ours. Raises BrokenPipeError when nobody is there."""
    control = _control()
    try:
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptor.to_bytes(_INT, sys.byteorder))
        control.sendmsg([b"%d" % pid], [rights], _socket.MSG_NOSIGNAL)
    finally:
        control.detach()


def finish(work: "Callable[[], int]") -> "NoReturn":
    """In a process that such a program has forked: do its work, and end with the code that `work` returns; with 1 when
    it raises, which is told on standard error."""
    code = 1
    try:
        code = work()
    except BaseException:  # noqa: BLE001 - whatever it was is told to who asked
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _control() -> "_socket.socket":
    return _socket.socket(fileno=0)
