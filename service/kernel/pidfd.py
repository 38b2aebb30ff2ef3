"""Processes: pidfd_open(2), what /proc says of a pid, and whether it is still the one that we knew.

A pid is a number that the kernel gives out again; (pid, start time) names one process for one boot. A zombie has ended:
it is not alive here, whoever may have forgotten to reap it.
"""

import errno
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


_PR_SET_CHILD_SUBREAPER = 36
_PIDFD_GETFD = 438
_EXEC_ATTEMPTS = 100


def process_start_time(pid: int) -> int:
    """When it started, in clock ticks since boot (proc_pid_stat(5), field 22); 0 when it is gone or a zombie."""
    fields = _stat(pid)
    if not fields or fields[0] in (b"Z", b"X", b"x"):
        return 0
    return int(fields[19])


def is_alive(pid: int, start_time: int = 0) -> bool:
    """Whether the process runs; with `start_time` also that it is the same one as then."""
    if pid <= 0:
        return False
    started = process_start_time(pid)
    return started != 0 and start_time in (0, started)


def is_running(pid: int, command: str, start_time: int = 0) -> bool:
    """Whether the process runs and is (still) called `command`. Where `start_time` is not known, a reused pid rarely
    bears the same name."""
    if not is_alive(pid, start_time):
        return False
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().rstrip(b"\n") == command.encode()[:15]
    except (FileNotFoundError, ProcessLookupError):
        return False


def _stat(pid: int) -> list[bytes]:
    """/proc/PID/stat after the command name (which may hold blanks and brackets); empty when it is gone."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return []
    try:
        text = os.read(fd, 4096)
    except ProcessLookupError:
        return []
    finally:
        os.close(fd)
    return text[text.rindex(b")") + 2 :].split()


def parent_of(pid: int) -> int:
    """The parent's pid; 0 when the process is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def kin(pid: int, among: "Iterable[int]") -> list[int]:
    """A session's leader, and those of `among` that are of its session or descend from it; empty when it is gone."""
    parents, found = {}, [pid] if is_alive(pid) else []
    for other in among:
        fields = _stat(other) if other != pid else []
        if fields and int(fields[3]) == pid:
            found.append(other)
        elif fields:
            parents[other] = int(fields[1])
    for ancestor in found:  # grows meanwhile
        found += [child for child, parent in parents.items() if parent == ancestor and child not in found]
    return found


def opened(pid: int) -> int:
    """A descriptor of the process (pidfd_open(2)), closed at exec; the caller closes it. Raises ProcessLookupError when
    it has ended.

    Of a process that is being reaped at that moment, Linux before 6.9 says EINVAL and not ESRCH.
    """
    for attempt in range(_EXEC_ATTEMPTS):
        try:
            return os.pidfd_open(pid)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise
            if not is_alive(pid):
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from error
            if attempt == _EXEC_ATTEMPTS - 1:
                raise  # a thread's id, and not a process's
            time.sleep(0.001)  # one of its threads calls execve: it leads the process in a moment
    raise AssertionError


def wait_gone(pid: int, seconds: float, start_time: int = 0) -> bool:
    """Wait until the process has ended (not: been reaped). False when it still runs after that time."""
    import select

    try:
        fd = opened(pid)
    except ProcessLookupError:
        return True
    try:
        if not is_alive(pid, start_time):
            return True
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(max(0, round(seconds * 1000))))
    finally:
        os.close(fd)


def send_signal(pid: int, signal: int, start_time: int = 0) -> bool:
    """Send a signal to exactly the process meant. False when it has ended."""
    import signal as signals

    try:
        fd = opened(pid)
    except ProcessLookupError:
        return False
    try:
        if not is_alive(pid, start_time):
            return False
        signals.pidfd_send_signal(fd, signal)
    except OSError as error:
        if error.errno == errno.ESRCH:
            return False
        raise
    finally:
        os.close(fd)
    return True


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    from service.kernel.libc import check, libc

    check(libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def descriptor_of(process: int, descriptor: int) -> int:
    """A copy of another process's descriptor (pidfd_getfd(2)), closed at exec. `process` is a pidfd.

    Raises OSError: EBADF where it has no such descriptor, ESRCH when it has ended.
    """
    from service.kernel.libc import check, syscall

    return check(syscall(_PIDFD_GETFD, process, descriptor, 0))


def boot_id() -> str:
    """The random id of this boot of the kernel."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:  # as bytes: a codec is a module more
        return file.read().strip().decode()
