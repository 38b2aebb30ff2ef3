"""network_namespaces(7): made without a child process, kept by a bind mount, entered by a thread that then ends.

A namespace belongs to a thread, not to a process; so a thread of its own goes there and nothing else moves.
"""

import _thread
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Result = TypeVar("Result")

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MNT_DETACH = 4096, 2


def _libc() -> "Any":
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, path: str) -> None:
    if result:
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def _in_thread(work: "Callable[[], Result]") -> "Result":
    results: list[Result] = []
    errors: list[BaseException] = []
    done = _thread.allocate_lock()
    done.acquire()

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            errors.append(error)
        finally:
            done.release()

    _thread.start_new_thread(body, ())
    done.acquire()
    if errors:
        raise errors[0]
    return results[0]


def create(path: str, first: "Callable[[], None]") -> None:
    """Make a network namespace that stays at `path`; `first()` runs inside it before anyone can find it there.

    Raises FileExistsError when there is a file at `path`, OSError when the kernel refuses.
    """
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))

    def work() -> None:
        libc = _libc()
        _check(libc.unshare(_CLONE_NEWNET), path)
        first()
        _check(libc.mount(b"/proc/thread-self/ns/net", os.fsencode(path), None, _MS_BIND, None), path)

    try:
        _in_thread(work)
    except BaseException:
        os.unlink(path)
        raise


def delete(path: str) -> None:
    """Let go of the namespace at `path`. Nothing when there is none; it lives on while a process is in it."""
    libc = _libc()
    while not libc.umount2(os.fsencode(path), _MNT_DETACH):
        pass  # mounted more than once (a crash between a mount and its record): peel them all
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def exists(path: str) -> bool:
    """Whether a namespace is mounted at `path` (a file alone is what an interrupted `create` leaves)."""
    try:
        return os.stat(path).st_dev != os.stat(os.path.dirname(path)).st_dev
    except FileNotFoundError:
        return False


def inside(path: str, work: "Callable[[], Result]") -> "Result":
    """What `work()` returns when it runs in the namespace at `path`. Sockets that it opens stay there.

    Raises OSError when there is no such namespace.
    """

    def body() -> "Result":
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc().setns(fd, _CLONE_NEWNET), path)
        finally:
            os.close(fd)
        return work()

    return _in_thread(body)


def counters(pid: int) -> "dict[str, tuple[int, ...]]":
    """What the interfaces of the namespace of a process have carried: name → the 16 columns of proc(5)'s net/dev.

    Read through /proc, so that nobody has to go there. Raises FileNotFoundError when the process is gone.
    """
    with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
        lines = file.read().splitlines()[2:]
    found = {}
    for line in lines:
        name, _, numbers = line.partition(":")
        found[name.strip()] = tuple(int(number) for number in numbers.split())
    return found
