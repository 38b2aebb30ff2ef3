"""What BuildKit builds keep for later ones: layers of steps, directories of cache mounts, mirrors of contexts.

A step's layer is found by its key alone (`solve_steps` says what goes into it). Everything here blocks.
"""

import fcntl
import os

from service import bell, daemon_json, timestamps
from service.content import mirror
from service.engine import layers as engine_layers
from service.errors import MoorageError
from service.kernel.tree import remove_tree
from service.store import build_cache as rows
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from service.engine.engine import Engine
    from service.engine.layers import Lease
    from service.settings import Settings
    from service.store.build_cache import CacheRow
    from service.store.images import LayerRow

INLINE = "moorage.cache.v0"  # in an image's configuration: the keys of the steps that made its layers
KEPT_AT_MOST = 10 << 30  # bytes of the cache that are left alone; what was least recently used goes first


def folder(settings: "Settings") -> str:
    """Where directories of the cache are, each named by its row's `directory`."""
    return settings.root + "/build"


def found(engine: "Engine", lease: "Lease", key: str) -> "tuple[LayerRow, CacheRow] | None":
    """The layer that a step made, kept from now on by the lease; None when there is none."""
    if rows.by_key(engine.store, key) is None:
        return None
    with engine.store.write(durable=False):
        row = rows.by_key(engine.store, key)
        if row is None:
            return None
        layer = store.layer(engine.store, row.chain_id)
        if layer is None:
            return None
        lease.hold(layer.chain_id)
        rows.used(engine.store, row.id, timestamps.now_ns())
        return layer, row


def keep(engine: "Engine", key: str, layer: "LayerRow", description: str, created_ns: int) -> None:
    """Keep a step's layer."""
    row = rows.CacheRow(
        rows.new_id(),
        key,
        rows.STEP,
        layer.parent,
        layer.chain_id,
        "",
        description[:1024],
        layer.size,
        created_ns,
        timestamps.now_ns(),
        1,
    )
    with engine.store.write(durable=False):
        rows.put(engine.store, row)


def brought(config: "dict[str, Any]", layers: "Sequence[LayerRow]") -> "dict[str, tuple[LayerRow, str]]":
    """What an image with an inline cache says that its layers are the results of: key → layer, and when it was made.

    For the build alone that asked for it: whoever made the image may have written anything there.
    """
    keys = config.get(INLINE)
    history = config.get("history") or ()
    dated = [entry.get("created") or "" for entry in history if not entry.get("empty_layer")]
    if not isinstance(keys, list) or not len(keys) == len(dated) == len(layers):
        return {}
    return {
        key: (layer, created)
        for key, layer, created in zip(keys, layers, dated, strict=True)
        if isinstance(key, str) and key and created
    }


class Directory:
    """A directory of the cache: made when it is first wanted, and not removed before `close`."""

    def __init__(self, engine: "Engine", key: str, type: str, description: str) -> None:
        self.engine, self.key, self.type, self.description = engine, key, type, description
        self.path = ""
        self._lock = -1
        self._row: CacheRow | None = None

    def open(self, filled: "Callable[[str], None] | None" = None) -> str:
        """Where it is. `filled` puts into a new one what it begins with."""
        settings, database = self.engine.settings, self.engine.store
        home = folder(settings)
        os.makedirs(home, 0o700, exist_ok=True)
        while True:
            row = rows.by_key(database, self.key)
            if row is None:
                self._make(home, filled)
                continue
            path = f"{home}/{row.directory}"
            try:
                self._lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                with database.write():  # somebody took it away
                    rows.remove(database, [row.id])
                continue
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            current = rows.by_key(database, self.key)
            if current is None or current.id != row.id:  # pruned while we waited
                os.close(self._lock)
                continue
            with database.write():
                rows.used(database, row.id, timestamps.now_ns())
            self.path, self._row = path + "/data", row
            return self.path

    def _make(self, home: str, filled: "Callable[[str], None] | None") -> None:
        database, name = self.engine.store, f"{self.type.partition('.')[2]}-{os.urandom(8).hex()}"
        os.mkdir(f"{home}/{name}", 0o700)
        lock = os.open(f"{home}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            os.mkdir(f"{home}/{name}/data", 0o755)
            if filled is not None:
                filled(f"{home}/{name}/data")
            now = timestamps.now_ns()
            row = rows.CacheRow(rows.new_id(), self.key, self.type, "", "", name, self.description, 0, now, now)
            with database.write():
                fresh = rows.by_key(database, self.key) is None
                if fresh:
                    rows.put(database, row)
            if not fresh:  # another build was faster
                remove_tree(f"{home}/{name}")
        finally:
            os.close(lock)

    def close(self) -> None:
        """Let go of it, and note how large it is now."""
        if self._row is not None:
            with self.engine.store.write():
                rows.weighed(self.engine.store, self._row.id, weight(self.path))
        if self._lock >= 0:
            os.close(self._lock)
        self._lock, self._row = -1, None


def weight(path: str) -> int:
    """Bytes of the files below a directory."""
    total, levels = 0, [path]
    while levels:
        try:
            with os.scandir(levels.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        levels.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
    return total


def remove(engine: "Engine", gone: "list[CacheRow]") -> "list[CacheRow]":
    """Remove those of the cache that no build is using; which ones went."""
    removed = []
    for row in gone:
        if row.directory and not _remove_directory(engine, row):
            continue
        removed.append(row)
    with engine.store.write():
        rows.remove(engine.store, [row.id for row in removed])
    engine_layers.collect(engine)
    bell.ring(engine.settings.bell)
    return removed


def _remove_directory(engine: "Engine", row: "CacheRow") -> bool:
    path = f"{folder(engine.settings)}/{row.directory}"
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with engine.store.write():
            rows.remove(engine.store, [row.id])
        remove_tree(path)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def is_used(engine: "Engine", row: "CacheRow") -> bool:
    """Whether a build needs it right now."""
    if not row.directory:
        return store.is_leased(engine.store, row.chain_id)
    try:
        lock = os.open(f"{folder(engine.settings)}/{row.directory}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def trim(engine: "Engine") -> None:
    """Remove what was least recently used, until no more is kept than daemon.json says (builder.gc), or 10 GiB; and
    mirrors that nobody has used for long."""
    mirror.collect(engine.settings.mirrors)
    try:
        most = daemon_json.read(engine.settings.daemon_json).build_cache or KEPT_AT_MOST
    except MoorageError as error:  # told to who makes something new; what is there is only cleared up
        engine.log(f"build cache: {error.message}")
        most = KEPT_AT_MOST
    kept = rows.least_recently_used_first(engine.store)
    shared = rows.image_chains(engine.store)
    total = sum(row.size for row in kept if row.chain_id not in shared)
    gone = []
    for row in kept:
        if total <= most:
            break
        if row.chain_id not in shared and not is_used(engine, row):
            gone.append(row)
            total -= row.size
    if gone:
        remove(engine, gone)


def reconcile(engine: "Engine") -> None:
    """At start: remove directories that no row names."""
    known = {row.directory for row in rows.least_recently_used_first(engine.store)}
    home = folder(engine.settings)
    for name in os.listdir(home) if os.path.isdir(home) else ():
        if name in known:
            continue
        lock = os.open(f"{home}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(f"{home}/{name}")
        except BlockingIOError:
            continue  # it is just being made
        finally:
            os.close(lock)
