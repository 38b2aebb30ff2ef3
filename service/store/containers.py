"""The rows of `containers`."""

from service import jsontext
from service.errors import Conflict, InvalidParameter, NotFound
from service.ids import is_hex
from service.store.database import Database, IntegrityError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from service.model.container import Container, ContainerRecord, ContainerState

_STATE = (
    "status", "pid", "conmon_pid", "exit_code", "error", "oom_killed", "started_at", "finished_at",
    "restart_count", "stopped_by_user", "generation", "boot_id", "holds", "kept",
    "duties", "backoff_ms", "restart_due", "restart_canceled", "pid_start", "conmon_start",
)  # fmt: skip
_BOOLEANS = frozenset(("oom_killed", "stopped_by_user", "holds", "kept", "restart_canceled"))
_COLUMNS = "record, " + ", ".join(_STATE)


def _container(row: "tuple[Any, ...]") -> "Container":
    return {"record": jsontext.loads(row[0]), "state": _state(row)}


def _state(row: "tuple[Any, ...]") -> "ContainerState":
    found = dict(zip(_STATE, row[1:], strict=True))
    for name in _BOOLEANS:
        found[name] = bool(found[name])
    return found  # type: ignore[return-value]  # the columns are the keys


def insert(database: Database, record: "ContainerRecord", created_ns: int) -> None:
    """Register a created container. Raises Conflict when its name is taken."""
    try:
        database.change(
            "INSERT INTO containers (id, name, created_ns, image_id, record, hidden) VALUES (?, ?, ?, ?, ?, ?)",
            (
                record["Id"],
                record["Name"],
                created_ns,
                record["Image"],
                jsontext.dumps(record),
                bool(record.get("Hidden")),
            ),
        )
    except IntegrityError:
        raise name_taken(record["Name"], name_owner(database, record["Name"]) or "") from None
    for mount in record["Mounts"]:
        if mount["Type"] == "volume":
            database.change("INSERT OR IGNORE INTO volume_uses VALUES (?, ?)", (mount["Name"], record["Id"]))


def name_owner(database: Database, name: str) -> "str | None":
    """The id of the container with exactly this name (no leading slash), or None."""
    row = database.row("SELECT id FROM containers WHERE name = ?", (name,))
    return row[0] if row else None


def name_taken(name: str, owner: str) -> Conflict:
    """The error that says so, in Docker's words."""
    return Conflict(
        f'Conflict. The container name "/{name}" is already in use by container "{owner}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )


def replace_record(database: Database, record: "ContainerRecord") -> None:
    """Store a changed record (rename, update, connect). Raises Conflict when its name is taken."""
    try:
        database.change(
            "UPDATE containers SET name = ?, record = ? WHERE id = ?",
            (record["Name"], jsontext.dumps(record), record["Id"]),
        )
        database.change("UPDATE links SET child_name = ? WHERE child_id = ?", (record["Name"], record["Id"]))
    except IntegrityError:
        raise name_taken(record["Name"], name_owner(database, record["Name"]) or "") from None


def resolve(database: Database, reference: str) -> str:
    """The id that a full id, a name (`web`, `/web`, a link's `web/db`) or an unambiguous beginning of an id means.

    Raises NotFound, or InvalidParameter when several ids begin so (moby: daemon/container.go GetContainer).
    """
    if not reference:
        raise InvalidParameter(f"invalid name or ID supplied: {reference!r}".replace("'", '"'))
    row = database.row("SELECT id FROM containers WHERE id = ?", (reference,)) or database.row(
        "SELECT id FROM containers WHERE name = ? AND NOT hidden", (reference.removeprefix("/"),)
    )
    parent, slash, alias = reference.removeprefix("/").partition("/")
    if slash:  # what a link calls it
        row = database.row(
            "SELECT child_id FROM links JOIN containers AS parents ON parents.id = parent_id "
            "JOIN containers AS children ON children.id = child_id WHERE parents.name = ? AND alias = ?",
            (parent, alias),
        )
    if row:
        return str(row[0])
    if is_hex(reference):
        # a range on the primary key, not LIKE: hexadecimal digits end before "g"
        rows = database.rows(
            "SELECT id FROM containers WHERE id >= ? AND id < ? AND NOT hidden LIMIT 2", (reference, reference + "g")
        )
        if len(rows) == 1:
            return str(rows[0][0])
        if rows:
            raise InvalidParameter(f"multiple IDs found with provided prefix: {reference}")
    raise NotFound(f"No such container: {reference}")


def get(database: Database, container_id: str) -> "Container":
    """The container with this full id. Raises NotFound."""
    row = database.row(f"SELECT {_COLUMNS} FROM containers WHERE id = ?", (container_id,))
    if row is None:
        raise NotFound(f"No such container: {container_id}")
    return _container(row)


def find(database: Database, reference: str) -> "Container":
    """`get` of what `resolve` says. Raises NotFound or InvalidParameter."""
    return get(database, resolve(database, reference))


def newest_first(database: Database, statuses: "Sequence[str]" = ()) -> "list[Container]":
    """All containers but the hidden ones, the youngest first; only those in one of `statuses` when given."""
    return [_container(row) for row in _newest_first(database, statuses)]


def texts_newest_first(database: Database, statuses: "Sequence[str]" = ()) -> "list[tuple[str, ContainerState]]":
    """As `newest_first`, with the records as the text that is stored: for who has read most of them before."""
    return [(row[0], _state(row)) for row in _newest_first(database, statuses)]


def _newest_first(database: Database, statuses: "Sequence[str]") -> "list[tuple[Any, ...]]":
    where = f" AND status IN ({', '.join('?' * len(statuses))})" if statuses else ""
    return database.rows(
        f"SELECT {_COLUMNS} FROM containers WHERE NOT hidden{where} ORDER BY created_ns DESC, id", statuses
    )


def of_builds(database: Database, statuses: "Sequence[str]") -> "list[Container]":
    """The hidden containers in one of `statuses`: what steps of builds run in."""
    where = f"status IN ({', '.join('?' * len(statuses))})"
    return [
        _container(row)
        for row in database.rows(f"SELECT {_COLUMNS} FROM containers WHERE hidden AND {where}", statuses)
    ]


def ids_of_image(database: Database, image_id: str) -> list[str]:
    """The containers made from an image."""
    return [row[0] for row in database.rows("SELECT id FROM containers WHERE image_id = ?", (image_id,))]


def set_state(database: Database, container_id: str, **changes: "Any") -> None:
    """Write some of the state columns, by name."""
    unknown = changes.keys() - set(_STATE)
    if unknown:
        raise TypeError(f"no state column {unknown}")
    columns = ", ".join(f"{name} = ?" for name in changes)
    database.change(f"UPDATE containers SET {columns} WHERE id = ?", (*changes.values(), container_id))


def claim_exit(database: Database, container_id: str, generation: int, exit_code: int, finished_at: str) -> bool:
    """Record that the process of one start has ended. False when that start's end was recorded before.

    The service and the exit hook both try; the one that is told True goes on (event, `--rm`, restart policy). One that
    is `restarting` has not begun: what ends then is the process of a start that was given up, which nobody was told of.
    """
    return bool(
        database.change(
            "UPDATE containers SET status = 'exited', pid = 0, duties = '', exit_code = ?, finished_at = ? "
            "WHERE id = ? AND generation = ? AND status IN ('running', 'paused')",
            (exit_code, finished_at, container_id, generation),
        )
    )


def delete(database: Database, container_id: str) -> bool:
    """Forget a container and what refers to it. False when it was gone already."""
    return bool(database.change("DELETE FROM containers WHERE id = ?", (container_id,)))


def volumes_of(database: Database, container_id: str) -> list[str]:
    """The names of the volumes that a container uses."""
    return [row[0] for row in database.rows("SELECT volume FROM volume_uses WHERE container_id = ?", (container_id,))]


def all_ids(database: Database) -> list[str]:
    """The ids of all containers, in no order."""
    return [row[0] for row in database.rows("SELECT id FROM containers")]


def is_hidden(database: Database, container_id: str) -> bool:
    """Whether it is a container of a build, which no client is told of."""
    return database.row("SELECT 1 FROM containers WHERE id = ? AND hidden", (container_id,)) is not None


def kept(database: Database) -> "list[tuple[str, str, int, str, int]]":
    """What the keeper has to see to: (id, status, generation, duties, restart_due) of what runs and has duties, and of
    what waits to be restarted."""
    return database.rows(
        "SELECT id, status, generation, duties, restart_due FROM containers WHERE duties <> '' OR status = 'restarting'"
    )


def monitored(database: Database) -> "list[tuple[str, str, int, int, int, int, int]]":
    """The containers that are said to run, or that are being removed, those of builds as well: as `execs.monitored`."""
    return database.rows(
        "SELECT '', id, generation, pid, pid_start, conmon_pid, conmon_start FROM containers "
        "WHERE status IN ('running', 'paused', 'removing')"
    )


def ids_needing_care(database: Database) -> list[str]:
    """The containers that are said to run, or that may hold something, or that are half removed."""
    return [
        row[0]
        for row in database.rows(
            "SELECT id FROM containers WHERE holds OR kept OR status IN ('running', 'paused', 'restarting', 'removing')"
        )
    ]
