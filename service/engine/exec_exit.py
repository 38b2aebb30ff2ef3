"""The end of an exec session, recorded once by whoever comes first: its exit hook, the service, the container's end."""

import os
import time

from service import bell
from service.engine import events
from service.errors import NotFound
from service.store import containers, execs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.settings import Settings
    from service.store.database import Database
    from service.store.execs import Exec

HOOK = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "exit_hook.py")
_EXPLAINED = 2.0  # seconds in which a service that lives has told why its session did not start
_UNDER_WAY = 5.0  # seconds in which a monitor that was spawned has written its pid file
LOST = 255  # of a process whose monitor was killed: nobody knows
KILLED = 137  # the exit code of a process that went down with its container (128 + SIGKILL)


def record(settings: "Settings", database: "Database", exec_id: str, exit_code: int, *, announced: bool = True) -> bool:
    """Write down how a session ended, with its event. False when that was done before, or its container is gone.

    Not `announced` is one that never came to run: dockerd tells no `exec_die` of it.
    """
    try:
        session = execs.get(database, exec_id)
    except NotFound:
        return False
    with database.write():
        recorded = end(database, session, exit_code, announced)
    if recorded:
        bell.ring(settings.bell)
    return recorded


def record_from_monitor(settings: "Settings", database: "Database", container_id: str, exec_id: str) -> None:
    """What the exit hook does: record what conmon wrote, and take away the session's files.

    Without an exit file conmon failed. Either the process never ran: the service that wanted to start it knows why and
    is given the time to say so. Or that service was killed, which conmon does not survive while it starts a process:
    the process then runs on without a monitor, and this hook waits for its end.
    """
    from service.kernel.tree import remove_tree
    from service.runtime import conmon

    folder = conmon.exec_path(settings, container_id, exec_id)
    if _record_from_monitor(settings, database, container_id, exec_id, folder):
        remove_tree(folder)  # conmon is done with it; a container that is asked something every second would fill /run


def _record_from_monitor(
    settings: "Settings", database: "Database", container_id: str, exec_id: str, folder: str
) -> bool:
    """False when a monitor lives that has its own hook to come."""
    from service.kernel import pidfd
    from service.runtime import exits

    ended = exits.read_exec(settings, container_id, exec_id)
    if ended is not None:
        record(settings, database, exec_id, ended.exit_code)
        return True
    if not _number(folder + "/pid"):
        time.sleep(_EXPLAINED)
    pid, monitor = _number(folder + "/pid"), _number(folder + "/conmon.pid")
    if pidfd.is_running(monitor, "conmon") and monitor != os.getppid():
        return False  # it has come to life meanwhile: its own hook will tell
    while pid and pidfd.is_alive(pid):
        pidfd.wait_gone(pid, 3600.0)
    ended = exits.read_exec(settings, container_id, exec_id)
    record(settings, database, exec_id, ended.exit_code if ended else LOST)
    return True


def _look_again(settings: "Settings", container_id: str, exec_id: str) -> None:
    """Leave a session to a hook of our own, which looks once more in a while."""
    from service import process

    argv = [settings.python, "-I", "-S", HOOK, "exec", container_id, exec_id]
    process.spawn(argv, environment=settings.environment())


def reconcile(settings: "Settings", database: "Database") -> None:
    """Set right the sessions that are said to run and whose monitor is gone: a hook or the service was killed."""
    for session in execs.running(database):
        from service.kernel import pidfd
        from service.runtime import exits

        asked = session["record"]
        if asked.get("Probe"):
            continue  # the keeper's, who lives or sees to them when it comes back
        if session["conmon_pid"] and pidfd.is_running(session["conmon_pid"], "conmon", session["conmon_start"]):
            continue
        ended = exits.read_exec(settings, asked["ContainerID"], asked["ID"])
        if ended is not None:
            record(settings, database, asked["ID"], ended.exit_code)
        elif not _adopt(settings, database, session):
            record(settings, database, asked["ID"], LOST)


def lost(settings: "Settings", database: "Database", container_id: str, exec_id: str) -> None:
    """Neither a session's process nor its monitor lives: record what conmon wrote, if the hook did not."""
    from service.kernel.tree import remove_tree
    from service.runtime import conmon, exits

    ended = exits.read_exec(settings, container_id, exec_id)
    record(settings, database, exec_id, ended.exit_code if ended else LOST)
    remove_tree(conmon.exec_path(settings, container_id, exec_id))


def _adopt(settings: "Settings", database: "Database", session: "Exec") -> bool:
    """The service was killed before it wrote down a session's pids: find them where conmon put them.

    Also true for a monitor that may only be on its way: it is looked for again in two seconds.
    """
    from service.kernel import pidfd
    from service.runtime import conmon

    asked = session["record"]
    folder = conmon.exec_path(settings, asked["ContainerID"], asked["ID"])
    monitor, pid = _number(folder + "/conmon.pid"), _number(folder + "/pid")
    if not monitor:
        try:
            under_way = not session["conmon_pid"] and time.time() - os.stat(folder).st_mtime < _UNDER_WAY
        except FileNotFoundError:
            return False
        if under_way:
            _look_again(settings, asked["ContainerID"], asked["ID"])
        return under_way
    if not pidfd.is_running(monitor, "conmon"):
        return bool(pid) and pidfd.is_alive(pid)  # its hook waits for it
    with database.write():
        execs.set_process(database, asked["ID"], **conmon.Created(pid, monitor).state())
    return True


def _number(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return int(file.read() or 0)
    except FileNotFoundError:
        return 0


def end_all(database: "Database", container_id: str) -> None:
    """A container has ended: so has everything in it, and what was not started never will be (dockerd forgets it too).
    Inside the transaction that records the container's end."""
    execs.forget_unstarted(database, container_id)
    for session in execs.running(database, container_id):
        end(database, session, KILLED, announced=True)


def end_probes(database: "Database") -> None:
    """The keeper that ran health checks was killed: nobody knows how they ended."""
    for session in execs.running(database):
        if session["record"].get("Probe"):
            with database.write():
                end(database, session, LOST, announced=True)


def end(database: "Database", session: "Exec", exit_code: int, announced: bool) -> bool:
    """`record`, as a part of the caller's transaction; the caller rings the bell."""
    exec_id = session["record"]["ID"]
    if not execs.claim_exit(database, exec_id, exit_code, time.time_ns()):
        return False
    if announced:
        container = containers.get(database, session["record"]["ContainerID"])
        attributes = {"execID": exec_id, "exitCode": str(exit_code)}
        events.container(database, container["record"], "exec_die", attributes)
    return True
