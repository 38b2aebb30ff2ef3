"""Where the listening socket comes from: from systemd (sd_listen_fds(3)), or bound by ourselves without it.

systemd-python's C module is used without its Python wrapper, whose imports (`socket`, enum classes) make it 10 ms
instead of 1.5.
"""

import _socket
import os

from service.errors import SystemFailure

_LISTEN_FDS_START = 3
_BACKLOG = 4096
_GROUP = "docker"  # its members may use the socket, as dockerd has it


def adopt() -> "_socket.socket | None":
    """The socket that the service manager passed, non-blocking; None when it passed none.

    Raises SystemFailure when what it passed is not a listening stream socket.
    """
    if "LISTEN_FDS" not in os.environ:
        return None
    from systemd import _daemon  # type: ignore[attr-defined]  # ships no types

    count = _daemon._listen_fds(True)
    if count < 1:
        return None
    if not _daemon._is_socket(_LISTEN_FDS_START, _socket.AF_UNSPEC, _socket.SOCK_STREAM, 1):
        raise SystemFailure("the service manager passed something that is not a listening stream socket")
    listener = _socket.socket(fileno=_LISTEN_FDS_START)
    listener.setblocking(False)  # shared with the service manager's copy, which is non-blocking as well
    return listener


def notify(state: str) -> None:
    """Tell the service manager (sd_notify(3)), e.g. "READY=1". Nothing happens when it did not ask to be told."""
    if "NOTIFY_SOCKET" in os.environ:
        from systemd import _daemon  # type: ignore[attr-defined]  # ships no types

        _daemon.notify(state)


def bind(path: str) -> "_socket.socket":
    """Listen on `path`, mode 0660, group docker where there is one. A stale socket file is replaced.

    Raises SystemFailure when another process listens there, or when something that is not a socket is in the way.
    """
    _remove_stale(path)
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    before = os.umask(0o117)  # never open wider than it will be, not even between bind and chmod
    try:
        listener.bind(path)
    except OSError as error:
        raise SystemFailure(f"cannot listen on {path}: {error.strerror}") from error
    finally:
        os.umask(before)
    _give_to_group(path)
    listener.listen(_BACKLOG)
    return listener


def _remove_stale(path: str) -> None:
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        probe.connect(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        if (os.lstat(path).st_mode & 0o170000) != 0o140000:  # S_IFSOCK: a plain file refuses in the same way
            raise SystemFailure(f"cannot listen on {path}: it exists and is not a socket") from None
        os.unlink(path)
        return
    except BlockingIOError:
        pass  # its backlog is full: somebody is there
    except OSError as error:
        raise SystemFailure(f"cannot listen on {path}: {error.strerror}") from error
    finally:
        probe.close()
    raise SystemFailure(f"cannot listen on {path}: another process listens there")


def _give_to_group(path: str) -> None:
    if os.geteuid():
        return
    import grp

    try:
        group = grp.getgrnam(_GROUP).gr_gid
    except KeyError:
        return  # then root alone may use it
    os.chown(path, 0, group)
