"""The rows of `meta`: single values that must outlive every process (the engine's id, the last boot seen)."""

from service.store.database import Database


def get(database: Database, key: str) -> str:
    """The value, or "" when there is none."""
    row = database.row("SELECT value FROM meta WHERE key = ?", (key,))
    return row[0] if row else ""


def put(database: Database, key: str, value: str) -> None:
    """Set a value."""
    database.change("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def keep(database: Database, key: str, proposed: str) -> str:
    """The value; `proposed` becomes it when there is none yet. Only inside `write()`."""
    database.change("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, proposed))
    return get(database, key)
