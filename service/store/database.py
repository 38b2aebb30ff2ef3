"""The SQLite file and its transactions, shared by several short-lived processes (service, exit hooks, boot unit).

Measured: with WAL, `synchronous=FULL`, `BEGIN IMMEDIATE` for every write and a busy timeout of 10 s, 200 hooks at once
gave no error. A deferred BEGIN that reads and then writes failed at once in 135 of 200, whatever the timeout, so there
is no way to start one here. `_sqlite3` is the C module under `sqlite3`, without its 5 ms of imports (`store.sqlite`).
"""

import _thread
import os

from service.errors import SystemFailure
from service.store import schema
from service.store.sqlite import _sqlite3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any

BUSY_TIMEOUT = 10.0  # seconds
IntegrityError = _sqlite3.IntegrityError  # a UNIQUE rule said no
_FULL, _IO_WRITE = 13, 778  # sqlite.org/rescode.html: SQLITE_FULL, SQLITE_IOERR_WRITE


def _no_room(error: BaseException) -> "SystemFailure | None":
    """What an error of SQLite means when the disk has no room; None for every other."""
    if isinstance(error, _sqlite3.OperationalError) and error.sqlite_errorcode in (_FULL, _IO_WRITE):
        return SystemFailure("write database: no space left on device")
    return None


class Database:
    """The database of one `Settings.root`. Every thread gets its own connection, opened when first used.

    Not `durable` is for what a power cut may take back (health checks): a commit does not wait for the disk.
    """

    def __init__(self, path: str, *, durable: bool = True) -> None:
        self.path = path
        self._synchronous = "FULL" if durable else "NORMAL"
        self._local = _thread._local()

    def _connection(self) -> "_sqlite3.Connection":
        connection: _sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            fresh = not os.path.exists(self.path)
            connection = _sqlite3.connect(self.path, timeout=BUSY_TIMEOUT, isolation_level=None)
            if fresh:
                os.chmod(self.path, 0o600)
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            connection.execute("PRAGMA foreign_keys=ON")
            schema.migrate(connection)
            self._local.connection = connection
            self._local.depth = 0
        return connection

    def rows(self, sql: str, arguments: "Sequence[object]" = ()) -> "list[tuple[Any, ...]]":
        """All rows of a query."""
        return self._connection().execute(sql, arguments).fetchall()

    def row(self, sql: str, arguments: "Sequence[object]" = ()) -> "tuple[Any, ...] | None":
        """The first row of a query, or None."""
        found: tuple[Any, ...] | None = self._connection().execute(sql, arguments).fetchone()
        return found

    def change(self, sql: str, arguments: "Sequence[object]" = ()) -> int:
        """Run a statement that writes; how many rows it changed. Only inside `write()`."""
        connection = self._connection()
        if not self._local.depth:
            raise RuntimeError("a write outside `with database.write()`")
        try:
            return connection.execute(sql, arguments).rowcount
        except _sqlite3.OperationalError as error:
            raise _no_room(error) or error from error

    def version(self) -> int:
        """A number that changes when another connection has committed (PRAGMA data_version): what was read is old."""
        found = self.row("PRAGMA data_version")
        assert found is not None
        return int(found[0])

    def last_row(self) -> int:
        """The rowid of the last insert on this thread's connection."""
        found = self.row("SELECT last_insert_rowid()")
        assert found is not None
        return int(found[0])

    def write(self, *, durable: bool = True) -> "Transaction":
        """One transaction: `with database.write(): …`. Never hold it across an await. Nesting joins the outer one.

        Not `durable` is for what a power cut may take back, as the steps of a verb before its last one: the commit does
        not wait for the disk, and the next one that does brings it along.
        """
        return Transaction(self, durable=durable)

    def close(self) -> None:
        """Close this thread's connection."""
        connection: _sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None


class Transaction:
    """BEGIN IMMEDIATE on enter; COMMIT on leaving, ROLLBACK when an exception leaves.

    Raises SystemFailure when the disk has no room; nothing is changed then.
    """

    def __init__(self, database: Database, *, durable: bool) -> None:
        self.database, self.durable = database, durable

    def __enter__(self) -> None:
        connection = self.database._connection()
        if not self.database._local.depth:
            try:
                self._wait_for_disk(connection, self.durable)
                connection.execute("BEGIN IMMEDIATE")
            except _sqlite3.OperationalError as failure:
                self._wait_for_disk(connection, True)
                raise _no_room(failure) or failure from failure
        self.database._local.depth += 1

    def _wait_for_disk(self, connection: "_sqlite3.Connection", wanted: bool) -> None:
        if not self.durable:
            connection.execute(f"PRAGMA synchronous={self.database._synchronous if wanted else 'NORMAL'}")

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        local = self.database._local
        local.depth -= 1
        if not local.depth:
            connection: _sqlite3.Connection = local.connection
            try:
                # SQLite may have rolled back by itself: on a full disk it does
                if connection.in_transaction or kind is None:
                    connection.execute("COMMIT" if kind is None else "ROLLBACK")
            except _sqlite3.OperationalError as failure:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise _no_room(failure) or failure from failure
            finally:
                self._wait_for_disk(connection, True)
