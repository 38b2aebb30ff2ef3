"""How a container ended, as conmon left it: `exits/<id>` holds the exit code, an `oom` file says memory ran out."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.settings import Settings


class ExitRecord:
    """`exit_code` is 128 plus the signal when a signal ended it; `finished_ns` in nanoseconds since 1970."""

    __slots__ = ("exit_code", "finished_ns", "oom_killed")

    def __init__(self, exit_code: int, finished_ns: int, oom_killed: bool) -> None:
        self.exit_code, self.finished_ns, self.oom_killed = exit_code, finished_ns, oom_killed


def directory(settings: "Settings") -> str:
    """Where an exit file appears (renamed into place) under its container's id: a place to watch with inotify."""
    return settings.run + "/exits"


def read(settings: "Settings", container_id: str) -> "ExitRecord | None":
    """The end of the last start, None while it runs (or when a killed monitor could not tell)."""
    return read_at(f"{directory(settings)}/{container_id}", settings.container_run(container_id))


def read_exec(settings: "Settings", container_id: str, exec_id: str) -> "ExitRecord | None":
    """The end of an exec session, None while it runs."""
    folder = f"{settings.container_run(container_id)}/exec/{exec_id}"
    return read_at(folder + "/exit", folder)


def read_at(path: str, persist: str) -> "ExitRecord | None":
    """The exit file at `path`, with the oom file of the monitor's directory `persist`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        text, finished = os.read(fd, 32), os.fstat(fd).st_mtime_ns
    finally:
        os.close(fd)
    code = int(text) if text.strip().lstrip(b"-").isdigit() else -1
    # conmon says -1 when it could not learn the code; Docker's word for an unknown end is 255
    return ExitRecord(code if code >= 0 else 255, finished, os.path.exists(persist + "/oom"))


def forget(settings: "Settings", container_id: str) -> None:
    """Take away what an earlier start left, before the next one."""
    run = settings.container_run(container_id)
    for path in (f"{directory(settings)}/{container_id}", run + "/exit", run + "/oom", run + "/bundle/oom"):
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
