"""The end of an exec session, recorded once by whoever comes first: its exit hook, the service, the container's end."""

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

KILLED = 137  # the exit code of a process that went down with its container (128 + SIGKILL)


def record(settings: "Settings", database: "Database", exec_id: str, exit_code: int) -> bool:
    """Write down how a session ended, with its event. False when that was done before, or its container is gone."""
    try:
        session = execs.get(database, exec_id)
    except NotFound:
        return False
    with database.write():
        recorded = _end(database, session, exit_code)
    if recorded:
        bell.ring(settings.bell)
    return recorded


def end_all(database: "Database", container_id: str) -> None:
    """A container has ended: so has everything in it. Inside the transaction that records the container's end."""
    for session in execs.running(database, container_id):
        _end(database, session, KILLED)


def _end(database: "Database", session: "Exec", exit_code: int) -> bool:
    exec_id = session["record"]["ID"]
    if not execs.claim_exit(database, exec_id, exit_code, time.time_ns()):
        return False
    container = containers.get(database, session["record"]["ContainerID"])
    events.container(database, container["record"], "exec_die", {"execID": exec_id, "exitCode": str(exit_code)})
    return True
