"""The rows of `execs`: further processes in a container (API: tag Exec). Light: the exit hook writes them."""

from service import jsontext
from service.errors import NotFound
from service.store.database import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NotRequired, TypedDict

    class ExecRecord(TypedDict):
        """What was asked for at create; never changes."""

        ID: str
        ContainerID: str
        Cmd: list[str]  # at least one word
        Env: list[str]  # as requested; the container's own come before them
        User: str  # the container's when none was asked for
        WorkingDir: str
        Privileged: bool
        Tty: bool
        AttachStdin: bool
        AttachStdout: bool
        AttachStderr: bool
        DetachKeys: str  # as requested
        ConsoleSize: list[int] | None  # height, width
        Probe: NotRequired[bool]  # of a health check: the keeper watches it, not a conmon

    class Exec(TypedDict):
        """A session and what became of it."""

        record: ExecRecord
        started: bool  # a start was asked for: there is no second one
        running: bool
        exit_code: int | None  # None until it has ended
        pid: int  # on the host; 0 before the start
        conmon_pid: int
        pid_start: int  # when those two started, in clock ticks since boot; 0: not known
        conmon_start: int


KEPT_NS = 600 * 1_000_000_000  # how long an ended session can be inspected (dockerd forgets between 5 and 10 minutes)
_COLUMNS = "record, started, running, exit_code, pid, conmon_pid, pid_start, conmon_start"


def _exec(row: "tuple[Any, ...]") -> "Exec":
    return {
        "record": jsontext.loads(row[0]),
        "started": bool(row[1]),
        "running": bool(row[2]),
        "exit_code": row[3],
        "pid": row[4],
        "conmon_pid": row[5],
        "pid_start": row[6],
        "conmon_start": row[7],
    }


def insert(database: Database, record: "ExecRecord", created_ns: int) -> None:
    """Register a session, and forget those of the container that ended long ago."""
    database.change(
        "DELETE FROM execs WHERE container_id = ? AND finished_ns > 0 AND finished_ns < ?",
        (record["ContainerID"], created_ns - KEPT_NS),
    )
    database.change(
        "INSERT INTO execs (id, container_id, created_ns, record) VALUES (?, ?, ?, ?)",
        (record["ID"], record["ContainerID"], created_ns, jsontext.dumps(record)),
    )


def get(database: Database, exec_id: str) -> "Exec":
    """The session with this full id. Raises NotFound."""
    row = database.row(f"SELECT {_COLUMNS} FROM execs WHERE id = ?", (exec_id,))
    if row is None:
        raise NotFound(f"No such exec instance: {exec_id}")
    return _exec(row)


def claim_start(database: Database, exec_id: str) -> bool:
    """Mark as started. False when somebody did before."""
    return bool(database.change("UPDATE execs SET started = 1, running = 1 WHERE id = ? AND started = 0", (exec_id,)))


def set_process(
    database: Database, exec_id: str, *, pid: int, conmon_pid: int, pid_start: int, conmon_start: int
) -> None:
    """Keep the process ids of a session that runs, and when those processes started (clock ticks since boot)."""
    database.change(
        "UPDATE execs SET pid = ?, conmon_pid = ?, pid_start = ?, conmon_start = ? WHERE id = ?",
        (pid, conmon_pid, pid_start, conmon_start, exec_id),
    )


def claim_exit(database: Database, exec_id: str, exit_code: int, finished_ns: int) -> bool:
    """Record the end of a session's process. False when that was done before."""
    return bool(
        database.change(
            "UPDATE execs SET running = 0, exit_code = ?, finished_ns = ? WHERE id = ? AND running = 1",
            (exit_code, finished_ns, exec_id),
        )
    )


def forget_unstarted(database: Database, container_id: str) -> None:
    """Forget the sessions of a container that were created and not started."""
    database.change("DELETE FROM execs WHERE container_id = ? AND started = 0", (container_id,))


def live_ids(database: Database, container_id: str) -> list[str]:
    """The sessions of a container that have not ended (created or running): `ExecIDs` of its inspect."""
    return [
        row[0]
        for row in database.rows(
            "SELECT id FROM execs WHERE container_id = ? AND exit_code IS NULL ORDER BY created_ns", (container_id,)
        )
    ]


def running(database: Database, container_id: str = "") -> "list[Exec]":
    """The sessions that are said to run, in one container or in all."""
    where, arguments = (" AND container_id = ?", (container_id,)) if container_id else ("", ())
    return [_exec(row) for row in database.rows(f"SELECT {_COLUMNS} FROM execs WHERE running = 1{where}", arguments)]


def monitored(database: Database) -> "list[tuple[str, str, int, int, int, int, int]]":
    """The sessions that are said to run under a monitor: (its id, its container, 0, then pid and start time of its
    process, and of its monitor)."""
    return database.rows(
        "SELECT id, container_id, 0, pid, pid_start, conmon_pid, conmon_start FROM execs "
        "WHERE running = 1 AND conmon_pid > 0"
    )
