"""The program that unpacks and packs layers (`layer_program.py`), started once for a process, forked for every layer.

A start of Python costs 12 ms of processor time, the fork of a small one 1 ms: that counts for an image of twenty
layers, and for a build of ten steps. It ends with the process that started it, when its socket closes. Called from
threads.
"""

import _socket
import _thread
import os
import sys

from service import process
from service.errors import SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.settings import Settings

_ATTEMPTS = 2  # the second with a new program: the first may have been killed since it was last needed
_lock = _thread.allocate_lock()
_program: "list[tuple[_socket.socket, int]]" = []  # our end of its socket, and its pid


def unpack(settings: "Settings", folder: str, source: int, answer: int) -> None:
    """Have the tar that `source` gives unpacked into `folder`; what came of it is written to `answer`.

    Both descriptors stay the caller's. The work is over when `answer` has no writer any more. Raises SystemFailure.
    """
    _ask(settings, b"unpack", folder, source, answer)


def pack(settings: "Settings", folder: str, sink: int, answer: int, latest: "int | None" = None) -> None:
    """Have `folder`, in overlayfs' form, written to `sink` as a layer's tar; as `unpack`. `latest`: seconds since 1970,
    no file is told to be younger."""
    _ask(settings, b"pack" if latest is None else b"pack@%d" % latest, folder, sink, answer)


def settle(settings: "Settings", folder: str, sink: int, answer: int) -> None:
    """As `pack`, and make `folder` what that tar would be unpacked to. Nobody else may write to it."""
    _ask(settings, b"settle", folder, sink, answer)


def answer_of(answer: int) -> bytes:
    """What the program says, once it has ended: all that comes from our end of the pipe, which is closed then."""
    said = b""
    try:
        while part := os.read(answer, 65536):
            said += part
    finally:
        os.close(answer)
    return said


def _ask(settings: "Settings", verb: bytes, folder: str, tar: int, answer: int) -> None:
    message = verb + b"\0" + os.fsencode(folder)
    descriptors = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (tar, answer))
    with _lock:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                if not _program:
                    _program.append(_started(settings))
                _program[0][0].sendmsg(
                    [message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)], _socket.MSG_NOSIGNAL
                )
            except OSError as error:
                _end()
                if attempt == _ATTEMPTS:
                    reason = os.strerror(error.errno or 0).lower()
                    raise SystemFailure(
                        f"the program that {verb.partition(b'@')[0].decode()}s layers does not start: {reason}"
                    ) from error
            else:
                return


def end() -> None:
    """End the program, if it was started: for who uses layers within a process that goes on."""
    with _lock:
        _end()


def _end() -> None:
    if _program:
        ours, pid = _program.pop()
        ours.close()
        process.wait(pid)


def _started(settings: "Settings") -> "tuple[_socket.socket, int]":
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        argv = [settings.python, "-I", "-S", f"{os.path.dirname(__file__)}/layer_program.py"]
        return ours, process.spawn(argv, environment=settings.environment(), stdin=theirs.fileno(), stderr=2)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
