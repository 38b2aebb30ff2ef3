"""conmon's command line, and the two pipes by which it is led. conmon is a container's monitor: it holds its streams,
writes its log, waits for its end and then runs the exit hook; it outlives whoever started it.

    create   spawn conmon, blocked on its start pipe → into a control group of its own → released
             conmon runs `runc create`; the container waits, its streams can be attached to
    .wait    the container's pid comes through the sync pipe, or the reason why there is none
    then     attach_socket.connect(attach_path(…)), runc.start(…), and at the end exits.read(…)

    >>> creation = conmon.create(settings, id, bundle=bundle.write(settings, id, spec), generation=1,
    ...     log=conmon.log_file(path), terminal=False, open_stdin=False, stdin_once=False, exit_command=[])
    >>> created = creation.wait()
    >>> stream = await attach_socket.connect(conmon.attach_path(settings, id))
    >>> runc.start(settings, id)
    >>> await stream.read()
    (1, b'hello\\n')
"""

import os

from service import jsontext, process
from service.errors import Conflict, StartFailed, SystemFailure
from service.kernel import cgroup, pidfd
from service.runtime import bundle as bundles
from service.runtime import exits, facts, runc
from service.settings import find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any

    from service.settings import Settings

    Name = tuple[str, int] | tuple[str, int, int, int]  # of a socket

_SYNC_FD, _START_FD, _ATTACH_FD = 3, 4, 5  # where conmon finds its pipes
_RESERVED_FROM = 10  # sockets that are only kept open, so that nobody else takes the port
_UNIX_PATH_MAX = 107
_FIONREAD = 0x541B  # asm-generic/ioctls.h


def program(settings: "Settings") -> str:
    """conmon's full path. Raises SystemFailure when it is not installed."""
    try:
        return find_program(settings.conmon or "conmon")
    except FileNotFoundError as error:
        raise SystemFailure(str(error)) from error


def kept_sockets(conmon_pid: int, start_time: int, addresses: "Collection[Name]", count: int) -> list[int]:
    """Copies of the first `count` of the `reserved_fds` of a start that are bound to one of `addresses`; the caller
    closes them.

    Fewer when there are not so many; none when that conmon has ended.
    """
    import _socket

    found: list[int] = []
    try:
        process_fd = pidfd.opened(conmon_pid)
    except ProcessLookupError:
        return found
    fd = -1
    try:
        if not pidfd.is_running(conmon_pid, "conmon", start_time):
            return found  # its pid is another's by now: those sockets, whatever they are bound to, are not ours
        for number in range(_RESERVED_FROM, 65536):
            fd = pidfd.descriptor_of(process_fd, number)
            reserved = _socket.socket(fileno=fd)
            fd = -1
            if reserved.getsockname() in addresses:
                found.append(reserved.detach())
            reserved.close()
            if len(found) == count:
                break
    except OSError:
        pass  # that was the last one, or it is no socket, or conmon has ended
    finally:
        if fd >= 0:
            os.close(fd)
        os.close(process_fd)
    return found


class Created:
    """A created container or a started exec: host pids of its first process and of its monitor, and when they started
    (clock ticks since boot; 0: it has ended)."""

    __slots__ = ("conmon_pid", "conmon_start", "pid", "pid_start")

    def __init__(self, pid: int, conmon_pid: int) -> None:
        self.pid, self.conmon_pid = pid, conmon_pid
        self.pid_start = pidfd.process_start_time(pid)
        self.conmon_start = pidfd.process_start_time(conmon_pid)

    def state(self) -> dict[str, int]:
        """What is kept of it, by the names of the store."""
        return {name: getattr(self, name) for name in self.__slots__}


class Creation:
    """conmon on its way: `wait` once, or `abandon`."""

    __slots__ = ("_errors", "_launcher", "_pidfile", "_sync", "_verb", "process_id")

    def __init__(self, launcher: int, sync: int, errors: int, pidfile: str, verb: str) -> None:
        self.process_id = launcher
        self._launcher, self._sync, self._errors = launcher, sync, errors
        self._pidfile, self._verb = pidfile, verb

    def wait(self) -> Created:
        """Wait for `runc create` (or exec). Raises StartRefused or StartFailed with runc's reason in Docker's words."""
        try:
            self._reap()
            pid, message = parse_report(_line(self._sync))
            if pid > 0:
                return Created(pid, _number_in(self._pidfile))
            said = message or _rest(self._errors).decode("utf-8", "replace").strip()
            raise runc.failure(runc.last_sentence(said) or "the monitor ended without a reason", self._verb)
        finally:
            self.abandon()

    def _reap(self) -> None:
        """conmon forks and goes on in its child; the process that was spawned ends at once."""
        launcher, self._launcher = self._launcher, 0
        if launcher and process.wait(launcher):
            said = _rest(self._errors).decode("utf-8", "replace").strip()
            raise StartFailed(f"conmon failed: {said or 'no reason was given'}")

    def abandon(self) -> None:
        """Let go of the pipes (and reap the launcher). conmon itself goes on."""
        for name in ("_sync", "_errors"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)
        if self._launcher:
            launcher, self._launcher = self._launcher, 0
            process.wait(launcher)


class ExecCreation(Creation):
    """An exec on its way. With `attach`, nothing runs before `start`: connect to its streams first."""

    __slots__ = ("_attached", "_release", "_reported")

    def __init__(self, launcher: int, sync: int, errors: int, pidfile: str, *, attached: int, release: int) -> None:
        super().__init__(launcher, sync, errors, pidfile, "exec")
        self._attached, self._release = attached, release
        self._reported = b""  # what came through the sync pipe behind the pid

    def ready(self) -> None:
        """Wait until the attach socket is there to be connected to."""
        self._reap()
        if self._attached >= 0:
            _line(self._attached)
            os.close(self._attached)
            self._attached = -1

    def start(self) -> None:
        """Release the process that was held back for its attach client. Harmless without one."""
        if self._release >= 0:
            os.write(self._release, b"\0")
            os.close(self._release)
            self._release = -1

    def wait(self) -> Created:
        """`start` if that was not done, then wait for the process's pid. Raises as Creation.wait does.

        The sync pipe stays open for `wait_exit`; `abandon` lets go of it.
        """
        self.start()
        self._reap()
        report, _, self._reported = _line(self._sync).partition(b"\n")
        pid, message = parse_report(report)
        if pid > 0:
            return Created(pid, _number_in(self._pidfile))
        said = message or _rest(self._errors).decode("utf-8", "replace").strip()
        self.abandon()
        raise runc.failure(runc.last_sentence(said) or "the monitor ended without a reason", self._verb)

    def wait_exit(self) -> "int | None":
        """After `wait`: the exit code, reported once the attach socket is closed. None: conmon was killed."""
        report = self._reported or (_line(self._sync) if self._sync >= 0 else b"")
        if not report:
            return None
        code = parse_report(report)[0]
        return code if code >= 0 else 255

    def abandon(self) -> None:
        """Let go of all pipes; a process still held back runs (its attach client has gone)."""
        for name in ("_attached", "_release"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)
        super().abandon()


def create(
    settings: "Settings",
    container_id: str,
    *,
    bundle: str,
    generation: int,
    log: "Sequence[str]",
    terminal: bool,
    open_stdin: bool,
    stdin_once: bool,
    exit_command: "Sequence[str]",
    reserved_fds: "Sequence[int]" = (),
) -> Creation:
    """Start conmon and have it run `runc create`; returns as soon as conmon is on its way.

    `log` is what `log_file`, `journal` or `no_log` gives. `generation` numbers the starts: what an earlier one left is
    forgotten. conmon keeps `reserved_fds` open until the container ends. Raises SystemFailure when conmon is not
    installed or cannot start.
    """
    run = settings.container_run(container_id)
    os.makedirs(exits.directory(settings), 0o711, exist_ok=True)
    exits.forget(settings, container_id)
    argv = [
        *_common(settings, container_id, container_id, bundle, run),
        "--exit-dir", exits.directory(settings),
        "--name", f"{container_id}-{generation}",
        *log,
        *_streams(terminal, open_stdin, leave_open=terminal or not stdin_once),
        *_exit_command(exit_command),
    ]  # fmt: skip
    if facts.uses_systemd(settings, cgroup.detect()):
        argv.append("--systemd-cgroup")
    launcher, sync, errors, release, _ = _spawn(settings, argv, bundle, reserved_fds)
    os.close(release)  # what was read from it, conmon does not look at: the end of file releases it as well
    return Creation(launcher, sync, errors, run + "/conmon.pid", "create")


def exec_(
    settings: "Settings",
    container_id: str,
    exec_id: str,
    *,
    process_spec: "dict[str, Any]",
    terminal: bool,
    open_stdin: bool,
    exit_command: "Sequence[str]",
    attach: bool,
) -> ExecCreation:
    """Run another process in a running container, under a conmon of its own. `process_spec`: OCI's process object.

    Its files are in `exec/<exec id>` below the container's run directory. With `attach`, call `ready`, connect, and
    then `start`; in any case `wait`.
    """
    folder = exec_path(settings, container_id, exec_id)
    os.makedirs(folder, 0o700, exist_ok=True)
    bundles.write_json(folder + "/process.json", process_spec)
    argv = [
        *_common(settings, container_id, exec_id, folder, folder),
        "--exec",
        "--exec-process-spec", folder + "/process.json",
        *(["--exec-attach"] if attach else []),
        *no_log(),
        *_streams(terminal, open_stdin, leave_open=False),
        *_exit_command(exit_command),
    ]  # fmt: skip
    launcher, sync, errors, release, attached = _spawn(settings, argv, folder, (), attach=attach)
    if attach:
        os.write(release, b"\0")  # the first byte lets conmon run; the second, from `start`, lets runc run
    else:
        os.close(release)
        release = -1
    return ExecCreation(launcher, sync, errors, folder + "/conmon.pid", attached=attached, release=release)


def _common(settings: "Settings", container_id: str, own_id: str, bundle: str, persist: str) -> list[str]:
    argv = [
        program(settings),
        "--api-version", "1",
        "--cid", container_id,
        "--cuuid", own_id,
        "--runtime", runc.program(settings, container_id),
        "--bundle", bundle,
        "--container-pidfile", persist + "/pid",
        "--conmon-pidfile", persist + "/conmon.pid",
        "--persist-dir", persist,
        "--full-attach",  # the attach socket is in the bundle, whatever the length of its path
        "--no-sync-log",
        "--log-level", "error",
        "--syslog",
    ]  # fmt: skip
    for argument in runc.global_arguments(settings, log=persist + "/runc.log"):
        argv += ["--runtime-arg", argument]
    return argv


def log_file(path: str) -> list[str]:
    """The log is one file (`log_file`, `log_rotation`)."""
    return ["--log-path", f"k8s-file:{path}"]


def journal(name: str, tag: str) -> list[str]:
    """The log is the systemd journal (`journal_log`), under the container's name; `tag` identifies its entries."""
    return ["--log-path", "journald", "--log-tag", tag, "--name", name]


def no_log() -> list[str]:
    """Nothing is kept."""
    return ["--log-path", "none"]


def _streams(terminal: bool, open_stdin: bool, *, leave_open: bool) -> list[str]:
    """A client that leaves closes the process's stdin, unless it shall outlive its clients (not StdinOnce)."""
    argv = ["--terminal"] if terminal else []
    if open_stdin:
        argv.append("--stdin")
        if leave_open:
            argv.append("--leave-stdin-open")
    return argv


def _exit_command(command: "Sequence[str]") -> list[str]:
    if not command:
        return []
    argv = ["--exit-command", command[0]]
    for argument in command[1:]:
        argv += ["--exit-command-arg", argument]
    return argv


def _spawn(
    settings: "Settings", argv: list[str], folder: str, reserved: "Sequence[int]", *, attach: bool = False
) -> tuple[int, int, int, int, int]:
    """Spawn conmon in `folder`, and in a control group of its own before it does anything.

    Returns its pid, our ends of the sync, stderr and start pipes, and of the attach pipe (-1 without `attach`).
    """
    os.makedirs(runc.root(settings), 0o700, exist_ok=True)
    sync_read, sync_write = os.pipe()
    start_read, start_write = os.pipe()
    errors_read, errors_write = os.pipe()
    attach_read, attach_write = os.pipe() if attach else (-1, -1)
    given = [(sync_write, _SYNC_FD), (start_read, _START_FD)]
    environment = settings.environment() | {
        "_OCI_SYNCPIPE": str(_SYNC_FD),
        "_OCI_STARTPIPE": str(_START_FD),
        "TMPDIR": _short_directory(settings),  # where it makes its console socket
    }
    if attach:
        given.append((attach_write, _ATTACH_FD))
        environment["_OCI_ATTACHPIPE"] = str(_ATTACH_FD)
    given += [(fd, _RESERVED_FROM + position) for position, fd in enumerate(reserved)]
    try:
        pid = process.spawn(
            # conmon leaves an `oom` file in its working directory, which posix_spawn cannot choose
            [find_program("env"), "-C", folder, *argv],
            environment=environment,
            stderr=errors_write,
            descriptors=given,
        )
    except BaseException:
        for fd in (sync_read, errors_read, start_write, attach_read):
            if fd >= 0:
                os.close(fd)
        raise
    finally:
        for fd in (sync_write, start_read, errors_write, attach_write):
            if fd >= 0:
                os.close(fd)
    try:
        _own_group(settings, pid)
    except OSError as error:
        for fd in (sync_read, errors_read, start_write, attach_read):
            if fd >= 0:
                os.close(fd)
        os.kill(pid, runc.SIGKILL)
        process.wait(pid)
        raise SystemFailure(f"conmon could not be moved out of the service's control group: {error}") from error
    return pid, sync_read, errors_read, start_write, attach_read


def _own_group(settings: "Settings", pid: int) -> None:
    """Monitors share one control group beside the containers', so that stopping the service stops no monitor."""
    cgroup.enter(cgroup.detect(), settings.monitors_group, pid)


def _short_directory(settings: "Settings") -> str:
    """A directory of ours whose sockets' paths fit into a socket address."""
    return settings.run if len(settings.run) < _UNIX_PATH_MAX - 24 else "/tmp"


def _line(fd: int) -> bytes:
    """What comes through a pipe until the first newline or its end."""
    pieces: list[bytes] = []
    while not pieces or not pieces[-1].endswith(b"\n"):
        piece = os.read(fd, 65536)
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces)


def _rest(fd: int) -> bytes:
    """What is in a pipe now."""
    if fd < 0:
        return b""
    os.set_blocking(fd, False)
    pieces = []
    try:
        while piece := os.read(fd, 65536):
            pieces.append(piece)
    except BlockingIOError:
        pass  # a writer is left that says nothing
    return b"".join(pieces)


def parse_report(report: bytes) -> tuple[int, str]:
    """conmon's message `{"data": PID}` or `{"data": -1, "message": …}`; (0, "") when it ended without one."""
    first = report.split(b"\n", 1)[0]
    if not first:
        return 0, ""
    try:
        message = jsontext.loads(first.decode("utf-8", "replace"))
        return int(message.get("data", message.get("pid", 0))), str(message.get("message") or "")
    except (ValueError, AttributeError):
        return 0, first.decode("utf-8", "replace")


def _number_in(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return int(file.read() or 0)
    except FileNotFoundError:
        return 0


def exec_path(settings: "Settings", container_id: str, exec_id: str) -> str:
    """Where an exec session keeps its process spec, sockets and exit file."""
    return f"{settings.container_run(container_id)}/exec/{exec_id}"


def _streams_path(settings: "Settings", container_id: str, exec_id: "str | None") -> str:
    return exec_path(settings, container_id, exec_id) if exec_id else bundles.path(settings, container_id)


def attach_path(settings: "Settings", container_id: str, exec_id: "str | None" = None) -> str:
    """The attach socket of a container or of an exec session."""
    return _streams_path(settings, container_id, exec_id) + "/attach"


def resize(settings: "Settings", container_id: str, exec_id: "str | None", height: int, width: int) -> None:
    """Give the terminal a new size. Raises Conflict when no process is there to see it."""
    _control(_streams_path(settings, container_id, exec_id), f"1 {height} {width}\n", container_id)


def reopen_log(settings: "Settings", container_id: str) -> None:
    """Have conmon go on in a new log file, under the same name. Raises Conflict when it is gone."""
    _control(bundles.path(settings, container_id), "2 0 0\n", container_id)


def is_being_told(settings: "Settings", container_id: str) -> bool:
    """Whether something that conmon was told (a size, to reopen its log) still waits to be read by it."""
    import fcntl

    try:
        fd = os.open(bundles.path(settings, container_id) + "/ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # no fifo, or nobody reads it
        return False
    try:
        return any(fcntl.ioctl(fd, _FIONREAD, b"\0" * 4))
    finally:
        os.close(fd)


def _control(folder: str, message: str, container_id: str) -> None:
    try:
        fd = os.open(folder + "/ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:  # no fifo, or nobody reads it
        raise Conflict(f"container {container_id} is not running") from error
    try:
        os.write(fd, message.encode())
    finally:
        os.close(fd)
