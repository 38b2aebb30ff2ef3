"""The rows of `build_cache`: what builds keep for later ones. An id is 25 letters and digits, as BuildKit's."""

import os

from service.store.database import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

STEP, LOCAL, MOUNT = "regular", "source.local", "exec.cachemount"  # types, in BuildKit's words
_COLUMNS = "id, key, type, parent, chain_id, directory, description, size, created_ns, used_ns, uses"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class CacheRow:
    """One thing that is kept. `size` in bytes: what its removal gives back, unless an image needs its layer."""

    __slots__ = (
        "chain_id", "created_ns", "description", "directory", "id", "key", "parent", "size", "type",
        "used_ns", "uses",
    )  # fmt: skip

    def __init__(
        self,
        id: str,
        key: str,
        type: str,
        parent: str = "",
        chain_id: str = "",
        directory: str = "",
        description: str = "",
        size: int = 0,
        created_ns: int = 0,
        used_ns: int = 0,
        uses: int = 0,
    ) -> None:
        self.id, self.key, self.type, self.parent, self.chain_id = id, key, type, parent, chain_id
        self.directory, self.description, self.size = directory, description, size
        self.created_ns, self.used_ns, self.uses = created_ns, used_ns, uses


def new_id() -> str:
    """A new id."""
    return "".join(_DIGITS[byte % 36] for byte in os.urandom(25))


def by_key(database: Database, key: str) -> "CacheRow | None":
    """What is kept under a key, or None."""
    row = database.row(f"SELECT {_COLUMNS} FROM build_cache WHERE key = ?", (key,))
    return CacheRow(*row) if row else None


def put(database: Database, row: CacheRow) -> None:
    """Keep something, instead of what was kept under the same key."""
    database.change("DELETE FROM build_cache WHERE key = ?", (row.key,))
    database.change(
        f"INSERT INTO build_cache ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.id,
            row.key,
            row.type,
            row.parent,
            row.chain_id,
            row.directory,
            row.description,
            row.size,
            row.created_ns,
            row.used_ns,
            row.uses,
        ),
    )


def used(database: Database, id: str, now_ns: int) -> None:
    """Note that something was used again."""
    database.change("UPDATE build_cache SET used_ns = ?, uses = uses + 1 WHERE id = ?", (now_ns, id))


def weighed(database: Database, id: str, size: int) -> None:
    """Note the size of something that grows and shrinks."""
    database.change("UPDATE build_cache SET size = ? WHERE id = ?", (size, id))


def least_recently_used_first(database: Database) -> "list[CacheRow]":
    """All that is kept."""
    return [
        CacheRow(*row) for row in database.rows(f"SELECT {_COLUMNS} FROM build_cache ORDER BY used_ns, created_ns, id")
    ]


def remove(database: Database, ids: "Iterable[str]") -> None:
    """Forget those."""
    for id in ids:
        database.change("DELETE FROM build_cache WHERE id = ?", (id,))


def remove_above(database: Database, chain_id: str) -> None:
    """Forget what stands on a layer, and the layer itself."""
    database.change(
        "WITH RECURSIVE above(chain_id) AS (SELECT ? UNION SELECT layers.chain_id FROM layers "
        "JOIN above ON layers.parent = above.chain_id) "
        "DELETE FROM build_cache WHERE chain_id IN (SELECT chain_id FROM above)",
        (chain_id,),
    )


def image_chains(database: Database) -> "set[str]":
    """The chains of layers that images need as well."""
    return {row[0] for row in database.rows("SELECT DISTINCT chain_id FROM image_layers")}
