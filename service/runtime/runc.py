"""The OCI runtime's command line. Everything that is asked of runc is asked here.

Three things need no program, and are done by hand where that is exactly what runc would do: a signal to the first
process, the release of a created container (which waits on a fifo), and the removal of what a dead one left. Each
saves about 9 ms and falls back to runc whenever the state found is not the plain case.
"""

import os
import stat

from service import jsontext, process
from service.errors import Conflict, NotFound, StartFailed, StartRefused, SystemFailure
from service.kernel import cgroup, pidfd
from service.runtime import stated
from service.settings import find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.errors import MoorageError
    from service.settings import Settings

_LOCK = 3  # the runtime's descriptor that it knows nothing of
SIGKILL = 9
_WAIT_SECONDS = 10.0  # for a process that was sent SIGKILL; only the kernel (a dead disk, say) delays it longer


def chosen(settings: "Settings", container_id: str) -> str:
    """The link that leads to a container's runtime, where it has another one than the rest."""
    return settings.container_run(container_id) + "/runtime"


def program(settings: "Settings", container_id: str = "") -> str:
    """The full path of the runtime, or of a container's. Raises SystemFailure when it is not installed."""
    if container_id:
        try:
            return os.readlink(chosen(settings, container_id))
        except FileNotFoundError:
            pass  # it has the same as the rest
    try:
        return find_program(settings.runtime or "runc")
    except FileNotFoundError as error:
        raise SystemFailure(str(error)) from error


def features(settings: "Settings", path: str) -> "dict[str, Any]":
    """What the runtime at `path` can do (OCI runtime-spec, `features`; runc 1.1); empty when it does not say."""
    try:
        found = jsontext.loads(stated.words(settings, path, "features"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def mount_options(settings: "Settings", container_id: str) -> frozenset[str]:
    """The mount options that a container's runtime knows; empty when it does not say."""
    return frozenset(features(settings, program(settings, container_id)).get("mountOptions") or ())


def root(settings: "Settings") -> str:
    """Where runc keeps its state: gone after a reboot, as its containers are."""
    return settings.run + "/runc"


def global_arguments(settings: "Settings", log: str = "", *, systemd_cgroup: bool = False) -> list[str]:
    """What stands before the verb. With `log`, errors go there as JSON and only the last sentence to stderr."""
    arguments = ["--root=" + root(settings)]
    if log:
        arguments += ["--log=" + log, "--log-format=json"]
    if systemd_cgroup:
        arguments.append("--systemd-cgroup")
    return arguments


def run(
    settings: "Settings", container_id: str, *verb: str, check: bool = True, input_bytes: bytes = b"", lock: int = -1
) -> process.Finished:
    """Run one verb for a container to its end. With `check`, raises what the failure means (`failure`).

    `lock`: a descriptor that stays open as long as the runtime is at work, also when we are killed meanwhile.
    """
    argv = [program(settings, container_id), *global_arguments(settings), *verb, container_id]
    held = [(lock, _LOCK)] if lock >= 0 else []
    finished = process.run(argv, environment=settings.environment(), input_bytes=input_bytes, descriptors=held)
    if check and finished.code:
        raise _refusal(finished.stderr.decode("utf-8", "replace"))
    return finished


def _refusal(text: str) -> "MoorageError":
    reason = last_sentence(text)
    if "does not exist" in reason:
        return NotFound(reason)
    if "not running" in reason or "not paused" in reason or "cannot" in reason:
        return Conflict(reason)
    return SystemFailure("OCI runtime failed: " + reason)


def last_sentence(text: str) -> str:
    """What runc complains of, from its stderr: the message of its last log line, whatever the log's form."""
    lines = [line for line in text.splitlines() if line.strip()]
    for line in reversed(lines):
        if 'msg="' in line and "level=" in line:
            quoted = line[line.index('msg="') + 4 :]
            try:
                return str(jsontext.loads(quoted))  # logrus quotes as Go does, which here is as JSON does
            except ValueError:
                return quoted.strip('"')
        if line.startswith("{"):
            try:
                return str(jsontext.loads(line)["msg"])
            except (ValueError, KeyError, TypeError):
                continue
    return lines[-1].strip() if lines else ""


def failure(reason: str, verb: str = "create") -> "StartRefused | StartFailed":
    """Why a container or exec did not start, in Docker's words and with Docker's exit code.

    dockerd decides by the text (moby: daemon/errors.go, translateContainerdStartErr), so does this.
    """
    sentence = f"OCI runtime {verb} failed: {reason}: unknown"
    if verb == "create":
        sentence = f"failed to create task for container: failed to create shim task: {sentence}"
    lower = reason.lower()
    if "not a directory" in lower:
        hint = (
            ": Are you trying to mount a directory onto a file (or vice-versa)? "
            "Check if the specified host path exists and is the expected type"
        )
        return StartRefused(sentence + hint, 127)
    if "permission denied" in lower:
        return StartRefused(sentence, 126)
    if "executable file not found" in lower or "no such file or directory" in lower:
        return StartRefused(sentence, 127)
    return StartFailed(sentence)


class State:
    """What runc wrote about a container when it made it (state.json; the fields are the same in runc 1.0 to 1.3)."""

    __slots__ = ("cgroup_paths", "own_pids", "pid", "start_time")

    def __init__(self, document: "dict[str, Any]") -> None:
        self.pid = int(document.get("init_process_pid") or 0)
        self.start_time = int(document.get("init_process_start") or 0)
        self.cgroup_paths: dict[str, str] = document.get("cgroup_paths") or {}
        config = document.get("config") or {}
        namespaces = config.get("namespaces") or ()
        # With a pid namespace of its own, the kernel ends all of its processes with the first.
        self.own_pids = any(n.get("type") == "NEWPID" and not n.get("path") for n in namespaces)

    @property
    def alive(self) -> bool:
        """Whether its first process still runs."""
        return pidfd.is_alive(self.pid, self.start_time)


def state(settings: "Settings", container_id: str) -> "State | None":
    """The runtime's record of a container, None when it knows none."""
    folder = f"{root(settings)}/{container_id}"
    try:
        with open(folder + "/state.json", "rb") as file:
            return State(jsontext.loads(file.read()))
    except (FileNotFoundError, ValueError):
        return _of_crun(folder)


def _of_crun(folder: str) -> "State | None":
    """What crun has written there (crun: src/libcrun/status.c). What it made, it takes away by itself."""
    try:
        with open(folder + "/status", "rb") as file:
            document = jsontext.loads(file.read())
        first = {"init_process_pid": document["pid"], "init_process_start": document["process-start-time"]}
        path = str(document["cgroup-path"])
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None  # never made, or killed while making it
    groups = cgroup.detect()
    names = ("",) if groups.version == 2 else groups.controllers
    return State({**first, "cgroup_paths": {name: groups.directory(name, path) for name in names} if path else {}})


def awaits_start(settings: "Settings", container_id: str) -> bool:
    """Whether a container was created and never let run: its first process waits at the fifo that a start removes."""
    return os.path.exists(f"{root(settings)}/{container_id}/exec.fifo")


def start(settings: "Settings", container_id: str) -> None:
    """Let a created container run. Raises Conflict when it was started before, SystemFailure when it is gone."""
    if not _release(settings, container_id):
        run(settings, container_id, "start")


def _release(settings: "Settings", container_id: str) -> bool:
    """Open the fifo on which the created container's first process waits, read its one byte, and take it away.

    That is all that `runc start` does. False when there is no such fifo or nobody waits there, and for any runtime but
    runc: another one may use the fifo the other way round.
    """
    import select

    if os.path.basename(program(settings, container_id)) != "runc":
        return False

    fifo = f"{root(settings)}/{container_id}/exec.fifo"
    try:
        fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            return False
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        # Our opening lets the writer's open(2) return; the byte follows at once, if it is there at all.
        if not poll.poll(2000) or not os.read(fd, 1):
            return False
    finally:
        os.close(fd)
    os.unlink(fifo)
    return True


def kill(settings: "Settings", container_id: str, signal: int, *, all: bool = False) -> None:
    """Send a signal to the first process, with `all` to every process of the container. Raises NotFound when it is
    gone."""
    known = state(settings, container_id)
    if known is None:
        raise NotFound(f"container not running: {container_id}")
    if all:
        _signal_everything(known, signal)
    elif not pidfd.send_signal(known.pid, signal, known.start_time):
        raise NotFound(f"container not running: {container_id}")


def _signal_everything(known: State, signal: int) -> None:
    directory = _process_directory(known)
    for pid in cgroup.processes(directory) if directory else ():
        pidfd.send_signal(pid, signal)


def _process_directory(known: State) -> str:
    """One directory whose cgroup.procs lists the container's processes."""
    for name in ("", "pids", "memory", "devices", "name=systemd"):
        if known.cgroup_paths.get(name):
            return known.cgroup_paths[name]
    return next(iter(known.cgroup_paths.values()), "")


def ps(settings: "Settings", container_id: str) -> list[int]:
    """The pids (of the host) of all processes of a container. Raises NotFound when the runtime does not know it."""
    known = state(settings, container_id)
    if known is None:
        raise NotFound(f"container not running: {container_id}")
    directory = _process_directory(known)
    return sorted(set(cgroup.processes(directory))) if directory else [known.pid]


def pause(settings: "Settings", container_id: str, lock: int = -1) -> None:
    """Freeze all processes; `lock` as of `run`. Raises Conflict when it does not run."""
    run(settings, container_id, "pause", lock=lock)


def resume(settings: "Settings", container_id: str, lock: int = -1) -> None:
    """Thaw all processes; `lock` as of `run`. Raises Conflict when it is not paused."""
    run(settings, container_id, "resume", lock=lock)


def exec_detached(
    settings: "Settings", container_id: str, *, process_spec: str, pid_file: str, log: str, output: int
) -> int:
    """Start another process in a running container, without a monitor; the pid of the runtime that is starting it.

    When that program ends with 0, `pid_file` names the process, which then belongs to the nearest subreaper above us;
    with anything else, `log` says why not (`refusal`). Both of the process's outputs go to the descriptor `output`.
    """
    argv = [
        program(settings, container_id), *global_arguments(settings, log=log),
        "exec", "--detach", "--process", process_spec, "--pid-file", pid_file, container_id,
    ]  # fmt: skip
    return process.spawn(argv, environment=settings.environment(), stdout=output, stderr=output)


def refusal(log: str, verb: str) -> "MoorageError":
    """What a log file says of a runtime that failed, as `failure` words it."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            reason = last_sentence(file.read())
    except FileNotFoundError:
        reason = ""
    return failure(reason or "the runtime ended without a reason", verb)


def update(settings: "Settings", container_id: str, resources: "dict[str, Any]") -> None:
    """Change the limits of a running container; `resources` as in the OCI config."""
    run(settings, container_id, "update", "--resources", "-", input_bytes=jsontext.dump_bytes(resources))


def delete(settings: "Settings", container_id: str, *, force: bool = False) -> None:
    """Remove what the runtime holds of a container (state, control groups); with `force` end it first. Idempotent.

    Raises Conflict when it still runs and `force` was not given. `runc delete --force` of a live container polls in
    steps of 100 ms: it is ended and waited for here first.
    """
    known = state(settings, container_id)
    if known is not None and known.alive:
        if not force:
            raise Conflict(f"cannot delete container {container_id} that is not stopped")
        _end(known)
    if known is not None and known.own_pids and _sweep(settings, container_id, known):
        return
    if os.path.isdir(f"{root(settings)}/{container_id}"):
        finished = run(settings, container_id, "delete", "--force", check=False)
        if finished.code and os.path.isdir(f"{root(settings)}/{container_id}"):
            raise _refusal(finished.stderr.decode("utf-8", "replace"))


def _end(known: State) -> None:
    """SIGKILL, thawed if need be (a frozen process of cgroup v1 does not die), and wait for the end."""
    freezer = known.cgroup_paths.get("freezer")
    pidfd.send_signal(known.pid, SIGKILL, known.start_time)
    if freezer:
        try:
            cgroup.write(freezer + "/freezer.state", "THAWED")
        except FileNotFoundError:
            pass  # the group is gone: so is what was frozen in it
    pidfd.wait_gone(known.pid, _WAIT_SECONDS, known.start_time)


def _sweep(settings: "Settings", container_id: str, known: State) -> bool:
    """Remove the control groups and the state directory of a container that is dead. False: let runc look at it."""
    if not all(_remove_group(path) for path in dict.fromkeys(known.cgroup_paths.values())):
        return False
    folder = f"{root(settings)}/{container_id}"
    for name in os.listdir(folder):
        try:
            os.unlink(f"{folder}/{name}")
        except IsADirectoryError:
            return False
    os.rmdir(folder)
    return True


def _remove_group(path: str) -> bool:
    """Only what lies below a hierarchy's root, and is empty. A scope of systemd's goes away by itself, or by runc."""
    if not path.startswith(cgroup.ROOT + "/") or path.endswith(".scope"):
        return False
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
