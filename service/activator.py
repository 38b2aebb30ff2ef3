"""Holds the socket where no systemd does: `activator.py [--group NAME] SOCKET COMMAND…`.

Does for one socket what systemd does for a socket unit with Accept=no: listens, starts the command when a client
connects (LISTEN_FDS says where the socket is), waits until it exits, and listens again. The socket stays open
throughout, so a client that connects between two processes waits in its backlog. It waits in poll(2): no timer, no CPU.

SIGTERM: the service is asked to stop and waited for, the socket file is removed. Containers are not touched.
Standard library only; it stays for as long as the socket is served, so it imports little.
"""

import _socket
import errno
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import NoReturn

BACKLOG = 4096  # the kernel lowers it to net.core.somaxconn
_LISTEN_FD = 3  # sd_listen_fds(3): SD_LISTEN_FDS_START
_ENDING = (signal.SIGTERM, signal.SIGINT)
_LONGEST_PAUSE = 5.0  # seconds between starts of a service that fails each time


class _Stopped(BaseException):
    """SIGTERM or SIGINT arrived."""


def _say(text: str) -> None:
    os.write(2, f"activator: {text}\n".encode())


def listen(path: str, group: str = "") -> "_socket.socket":
    """A listening unix socket at `path`, mode 0660, of `group` when that group exists. Raises OSError.

    A socket file that nobody listens on (its owner was killed) is replaced; a live one is refused with EADDRINUSE.
    """
    if os.path.exists(path):
        probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            probe.connect(path)
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        except ConnectionRefusedError:
            pass
        finally:
            probe.close()
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    unready = f"{path}.{os.getpid()}"
    before = os.umask(0o177)  # nobody else may connect before the group is right
    try:
        listener.bind(unready)
    finally:
        os.umask(before)
    if group:
        import grp

        try:
            os.chown(unready, -1, grp.getgrnam(group).gr_gid)
        except KeyError:
            _say(f"no group {group}: only root can connect")
    os.chmod(unready, 0o660)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    os.rename(unready, path)  # who sees the file can connect
    return listener


def start(command: "Sequence[str]", listener: "_socket.socket") -> int:
    """Start the service with the socket as systemd hands it over; its pid."""
    pid = os.fork()  # not posix_spawn: LISTEN_PID must hold the child's own pid
    if pid:
        return pid
    try:
        if listener.fileno() == _LISTEN_FD:
            os.set_inheritable(_LISTEN_FD, True)
        else:
            os.dup2(listener.fileno(), _LISTEN_FD)
        for number in (*_ENDING, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        handed = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "moorage.socket"}
        os.execve(command[0], list(command), {**os.environ, **handed})
    except OSError as error:
        _say(f"{command[0]}: {error.strerror}")
    finally:
        os._exit(127)


def serve(listener: "_socket.socket", command: "Sequence[str]") -> "NoReturn":
    """Start the service each time somebody waits on the socket. Ends by an exception only."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    pause = 0.0
    while True:
        poll.poll()
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # between the fork and the `try` nobody would know the pid
        pid = start(command, listener)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
            _say(f"started {pid}")
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except _Stopped:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
            raise
        _say(f"{pid} ended with {code}")
        # A service that cannot start must not be started in a circle; one that was killed is started again at once.
        pause = min(_LONGEST_PAUSE, pause * 2 or 0.1) if code > 0 else 0.0
        time.sleep(pause)


def main(arguments: "Sequence[str]") -> int:
    """Parse, listen, serve. The exit code: 0 after SIGTERM, 1 when the socket cannot be had, 2 for a wrong call."""
    group = ""
    if arguments[:1] == ["--group"]:
        group, arguments = arguments[1], arguments[2:]
    if len(arguments) < 2:
        _say("usage: [--group NAME] SOCKET COMMAND…")
        return 2
    path, *command = arguments

    def stop(_number: int, _frame: "FrameType | None") -> None:
        raise _Stopped

    for number in _ENDING:
        signal.signal(number, stop)
    try:
        listener = listen(path, group)
    except OSError as error:
        _say(f"{path}: {error.strerror}")
        return 1
    try:
        serve(listener, command)
    except _Stopped:
        os.unlink(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
