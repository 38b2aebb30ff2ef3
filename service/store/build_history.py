"""The rows of `build_history`: finished builds, by the name that their client gave them."""

from service.store.database import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_COLUMNS = "ref, created_ns, completed_ns, pinned, size, record"


class HistoryRow:
    """One build. `record` is JSON (engine.build_history); `size` in bytes, of the blobs that it refers to."""

    __slots__ = ("completed_ns", "created_ns", "pinned", "record", "ref", "size")

    def __init__(self, ref: str, created_ns: int, completed_ns: int, pinned: int, size: int, record: str) -> None:
        self.ref, self.created_ns, self.completed_ns = ref, created_ns, completed_ns
        self.pinned, self.size, self.record = bool(pinned), size, record


def put(database: Database, row: HistoryRow, digests: "Iterable[str]") -> None:
    """Keep a build and note which blobs it needs. One of the same name is replaced."""
    remove(database, row.ref)
    database.change(
        f"INSERT INTO build_history ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
        (row.ref, row.created_ns, row.completed_ns, int(row.pinned), row.size, row.record),
    )
    for digest in set(digests):
        database.change("INSERT INTO build_history_blobs (digest, ref) VALUES (?, ?)", (digest, row.ref))


def get(database: Database, ref: str) -> "HistoryRow | None":
    """One build, or None."""
    found = database.row(f"SELECT {_COLUMNS} FROM build_history WHERE ref = ?", (ref,))
    return HistoryRow(*found) if found else None


def newest_first(database: Database) -> "list[HistoryRow]":
    """All builds."""
    return [
        HistoryRow(*found)
        for found in database.rows(f"SELECT {_COLUMNS} FROM build_history ORDER BY completed_ns DESC, ref")
    ]


def weights(database: Database) -> "list[tuple[str, int, int]]":
    """(name, end in ns, bytes) of the builds that are not pinned, the newest first."""
    found = database.rows(
        "SELECT ref, completed_ns, size FROM build_history WHERE NOT pinned ORDER BY completed_ns DESC, ref"
    )
    return [(ref, completed_ns, size) for ref, completed_ns, size in found]


def pin(database: Database, ref: str, pinned: bool) -> bool:
    """Note whether a build is to stay; false when there is no such build."""
    return database.change("UPDATE build_history SET pinned = ? WHERE ref = ?", (int(pinned), ref)) > 0


def remove(database: Database, ref: str) -> bool:
    """Forget a build; false when there is no such build."""
    return database.change("DELETE FROM build_history WHERE ref = ?", (ref,)) > 0


def has_blob(database: Database, digest: str) -> bool:
    """Whether a build needs that blob."""
    return database.row("SELECT 1 FROM build_history_blobs WHERE digest = ?", (digest,)) is not None


def blobs(database: Database) -> "set[str]":
    """The digests that builds need."""
    return {row[0] for row in database.rows("SELECT DISTINCT digest FROM build_history_blobs")}
