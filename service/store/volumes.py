"""The rows of `volumes`."""

from service import jsontext
from service.store.database import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.model.volume import Volume

_COLUMNS = "name, driver, created_at, labels, options, anonymous"


def _volume(row: "tuple[Any, ...]") -> "Volume":
    return {
        "Name": row[0],
        "Driver": row[1],
        "CreatedAt": row[2],
        "Labels": jsontext.loads(row[3]),
        "Options": jsontext.loads(row[4]),
        "anonymous": bool(row[5]),
    }


def insert(database: Database, volume: "Volume") -> bool:
    """Register a volume. False when one of that name is there already."""
    return bool(
        database.change(
            f"INSERT OR IGNORE INTO volumes ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
            (
                volume["Name"],
                volume["Driver"],
                volume["CreatedAt"],
                jsontext.dumps(volume["Labels"]),
                jsontext.dumps(volume["Options"]),
                volume["anonymous"],
            ),
        )
    )


def get(database: Database, name: str) -> "Volume | None":
    """The volume of that name, or None."""
    row = database.row(f"SELECT {_COLUMNS} FROM volumes WHERE name = ?", (name,))
    return _volume(row) if row else None


def by_name(database: Database) -> "list[Volume]":
    """All volumes in the order of their names."""
    return [_volume(row) for row in database.rows(f"SELECT {_COLUMNS} FROM volumes ORDER BY name")]


def names(database: Database) -> set[str]:
    """The names of all volumes."""
    return {row[0] for row in database.rows("SELECT name FROM volumes")}


def drivers(database: Database) -> set[str]:
    """The drivers that keep any volume."""
    return {row[0] for row in database.rows("SELECT DISTINCT driver FROM volumes")}


def users(database: Database, name: str) -> list[str]:
    """The ids of the containers that mount a volume, running or not."""
    return [row[0] for row in database.rows("SELECT container_id FROM volume_uses WHERE volume = ?", (name,))]


def use_counts(database: Database) -> dict[str, int]:
    """How many containers mount each volume that is mounted at all."""
    return dict(database.rows("SELECT volume, count(*) FROM volume_uses GROUP BY volume"))


def delete(database: Database, name: str) -> bool:
    """Forget a volume that no container uses. False when it is in use or not there."""
    return bool(
        database.change(
            "DELETE FROM volumes WHERE name = ? AND NOT EXISTS (SELECT 1 FROM volume_uses WHERE volume = ?)",
            (name, name),
        )
    )


def is_held(database: Database, name: str) -> bool:
    """Whether a container that has its mounts (it runs, starts, or is not yet let go of) uses a volume."""
    return bool(
        database.row(
            "SELECT 1 FROM volume_uses JOIN containers ON containers.id = container_id WHERE volume = ? AND holds",
            (name,),
        )
    )
