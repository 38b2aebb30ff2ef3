"""The rows of `events`: what happened, for `GET /events` and for waiters in other processes."""

from service import jsontext
from service.store.database import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from service.model.event import Event

KEPT = 10_000  # the newest that many stay; dockerd keeps 256 in memory, ours must span restarts of the service


def append(
    database: Database, time_ns: int, kind: str, action: str, actor_id: str, attributes: "Mapping[str, str]"
) -> None:
    """Record one event, inside the transaction of the verb that made it true."""
    database.change(
        "INSERT INTO events (time_ns, type, action, actor_id, attributes) VALUES (?, ?, ?, ?, ?)",
        (time_ns, kind, action, actor_id, jsontext.dumps(dict(attributes))),
    )


_SELECT = "SELECT seq, time_ns, type, action, actor_id, attributes FROM events "


def _event(row: "tuple[Any, ...]") -> "Event":
    return {
        "seq": row[0],
        "time_ns": row[1],
        "Type": row[2],
        "Action": row[3],
        "Actor": {"ID": row[4], "Attributes": jsontext.loads(row[5])},
    }


def after(database: Database, seq: int, since_ns: int = 0, limit: int = 1000) -> "list[Event]":
    """Events with a higher number than `seq`, not older than `since_ns`, in order, `limit` at most."""
    sql = _SELECT + "WHERE seq > ? AND time_ns >= ? ORDER BY seq LIMIT ?"
    return [_event(row) for row in database.rows(sql, (seq, since_ns, limit))]


def of_actor(database: Database, actor_id: str, seq: int) -> "list[Event]":
    """The events of one object with a higher number than `seq`, in order."""
    sql = _SELECT + "WHERE seq > ? AND actor_id = ? ORDER BY seq"
    return [_event(row) for row in database.rows(sql, (seq, actor_id))]


def last(database: Database) -> int:
    """The number of the newest event; 0 when there is none."""
    row = database.row("SELECT max(seq) FROM events")
    return (row and row[0]) or 0


def overdue(database: Database) -> bool:
    """Whether so many events have come together that `trim` is worth a write."""
    oldest = database.row("SELECT min(seq) FROM events")
    return bool(oldest and oldest[0] and last(database) - oldest[0] > KEPT * 11 // 10)


def trim(database: Database) -> None:
    """Drop all but the newest `KEPT` events."""
    database.change("DELETE FROM events WHERE seq <= ?", (last(database) - KEPT,))
