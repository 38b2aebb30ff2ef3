"""The rows of `images` and what belongs to them: names, digests, layers, blobs, leases.

A name here is canonical (docker.io/library/busybox:latest); `content.reference` makes and shortens it. An image id is
`sha256:` and 64 digits. What unpacked layers and blobs are still needed is decided here, from the rows alone.
"""

import os

from service.errors import NotFound
from service.ids import is_hex
from service.kernel import pidfd
from service.store.database import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMNS = "id, created_ns, size, config, manifest, tagged_ns, parent"


class ImageRow:
    """One image as stored; `config` is JSON, verbatim."""

    __slots__ = ("config", "created_ns", "id", "manifest", "parent", "size", "tagged_ns")

    def __init__(
        self, id: str, created_ns: int, size: int, config: str, manifest: str = "", tagged_ns: int = 0, parent: str = ""
    ) -> None:
        self.id, self.created_ns, self.size, self.config = id, created_ns, size, config
        self.manifest, self.tagged_ns, self.parent = manifest, tagged_ns, parent


# images


def insert(database: Database, image: ImageRow, chain_ids: "Sequence[str]") -> bool:
    """Register an image whose layers are registered. False when it is known already (its manifest is then noted)."""
    if not database.change(
        f"INSERT OR IGNORE INTO images ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (image.id, image.created_ns, image.size, image.config, image.manifest, image.tagged_ns, image.parent),
    ):
        if image.manifest:
            database.change("UPDATE images SET manifest = ? WHERE id = ?", (image.manifest, image.id))
        return False
    for position, chain_id in enumerate(chain_ids):
        database.change("INSERT INTO image_layers VALUES (?, ?, ?)", (image.id, position, chain_id))
    return True


def get(database: Database, image_id: str) -> ImageRow:
    """The image with this id. Raises NotFound."""
    row = database.row(f"SELECT {_COLUMNS} FROM images WHERE id = ?", (image_id,))
    if row is None:
        raise NotFound(f"No such image: {image_id}")
    return ImageRow(*row)


def exists(database: Database, image_id: str) -> bool:
    """Whether the image is (still) there. Ask in the transaction that comes to depend on it."""
    return database.row("SELECT 1 FROM images WHERE id = ?", (image_id,)) is not None


def newest_first(database: Database) -> list[ImageRow]:
    """All images, the youngest first."""
    return [ImageRow(*row) for row in database.rows(f"SELECT {_COLUMNS} FROM images ORDER BY created_ns DESC, id")]


def count(database: Database) -> int:
    """How many images there are."""
    row = database.row("SELECT count(*) FROM images")
    assert row is not None
    return int(row[0])


def container_counts(database: Database) -> "dict[str, int]":
    """image id → how many containers were made from it."""
    return dict(database.rows("SELECT image_id, count(*) FROM containers GROUP BY image_id"))


def container_using(database: Database, image_id: str, *, running: "bool | None" = None) -> "str | None":
    """A container that is made from an image or has it mounted: any, or one that is (not) running; None for none."""
    state = {None: "", True: "AND status IN ('running', 'paused', 'restarting')"}.get(
        running, "AND status NOT IN ('running', 'paused', 'restarting')"
    )
    row = database.row(
        "SELECT id FROM containers WHERE (image_id = ? OR EXISTS (SELECT 1 FROM json_each(record, '$.Mounts') AS mount "
        f"WHERE json_extract(mount.value, '$.Image') = ?)) {state} LIMIT 1",
        (image_id, image_id),
    )
    return row[0] if row else None


def delete(database: Database, image_id: str) -> bool:
    """Forget an image with its names. False when it was gone already."""
    return bool(database.change("DELETE FROM images WHERE id = ?", (image_id,)))


def set_parent(database: Database, image_id: str, parent: str) -> None:
    """Note the image that this one was made from, locally (classic build, commit)."""
    database.change("UPDATE images SET parent = ? WHERE id = ?", (parent, image_id))


def set_built(database: Database, image_id: str) -> None:
    """Note that this image was made here, from its parent."""
    database.change("UPDATE images SET built = 1 WHERE id = ?", (image_id,))


def built_from(database: Database, parent: str) -> list[ImageRow]:
    """The images made here from this one (empty: from nothing), the youngest first."""
    return [
        ImageRow(*row)
        for row in database.rows(
            f"SELECT {_COLUMNS} FROM images WHERE parent = ? AND built ORDER BY created_ns DESC, id", (parent,)
        )
    ]


def children(database: Database, image_id: str) -> list[str]:
    """The images made from this one."""
    return [row[0] for row in database.rows("SELECT id FROM images WHERE parent = ?", (image_id,))]


def by_prefix(database: Database, digits: str) -> "str | None":
    """The only image whose id begins so (with or without `sha256:`), or None."""
    digits = digits.removeprefix("sha256:")
    if not is_hex(digits):
        return None
    low = "sha256:" + digits
    rows = database.rows("SELECT id FROM images WHERE id >= ? AND id < ? LIMIT 2", (low, low + "g"))
    return rows[0][0] if len(rows) == 1 else None


# names


def by_reference(database: Database, stored: str) -> "str | None":
    """The image that a canonical name (name:tag or name@digest) means, or None."""
    table = "image_digests" if "@" in stored else "image_tags"
    row = database.row(f"SELECT image_id FROM {table} WHERE reference = ?", (stored,))
    return row[0] if row else None


def tag(database: Database, stored: str, image_id: str, now_ns: int) -> "str | None":
    """Let a canonical name:tag mean this image; the image that it meant before, or None."""
    before = by_reference(database, stored)
    database.change("INSERT OR REPLACE INTO image_tags VALUES (?, ?)", (stored, image_id))
    database.change("UPDATE images SET tagged_ns = ? WHERE id = ?", (now_ns, image_id))
    return before


def add_digest(database: Database, stored: str, image_id: str) -> None:
    """Let a canonical name@digest mean this image."""
    database.change("INSERT OR REPLACE INTO image_digests VALUES (?, ?)", (stored, image_id))


def untag(database: Database, stored: str) -> bool:
    """Take a canonical name away. False when it meant nothing."""
    table = "image_digests" if "@" in stored else "image_tags"
    return bool(database.change(f"DELETE FROM {table} WHERE reference = ?", (stored,)))


def tags_of(database: Database, image_id: str) -> list[str]:
    """The image's canonical name:tag, sorted."""
    return [
        row[0]
        for row in database.rows("SELECT reference FROM image_tags WHERE image_id = ? ORDER BY reference", (image_id,))
    ]


def digests_of(database: Database, image_id: str) -> list[str]:
    """The image's canonical name@digest, sorted."""
    return [
        row[0]
        for row in database.rows(
            "SELECT reference FROM image_digests WHERE image_id = ? ORDER BY reference", (image_id,)
        )
    ]


def all_names(database: Database) -> "dict[str, tuple[list[str], list[str]]]":
    """image id → its canonical tags and digests, sorted."""
    names: dict[str, tuple[list[str], list[str]]] = {}
    for image_id, reference in database.rows("SELECT image_id, reference FROM image_tags ORDER BY reference"):
        names.setdefault(image_id, ([], []))[0].append(reference)
    for image_id, reference in database.rows("SELECT image_id, reference FROM image_digests ORDER BY reference"):
        names.setdefault(image_id, ([], []))[1].append(reference)
    return names


def tag_owners(database: Database) -> "dict[str, str]":
    """canonical name (name:tag or name@digest) → image id."""
    return dict(
        database.rows(
            "SELECT reference, image_id FROM image_tags UNION ALL SELECT reference, image_id FROM image_digests"
        )
    )


def tags_in(database: Database, repository: str) -> "list[tuple[str, str]]":
    """(canonical name:tag, image id) of one repository, sorted."""
    low = repository + ":"
    return [
        (row[0], row[1])
        for row in database.rows(
            "SELECT reference, image_id FROM image_tags WHERE reference >= ? AND reference < ? ORDER BY reference",
            (low, repository + ";"),
        )
    ]


# layers


class LayerRow:
    """One unpacked layer."""

    __slots__ = ("chain_id", "diff_id", "directory", "parent", "size")

    def __init__(self, chain_id: str, diff_id: str, parent: str, directory: str, size: int) -> None:
        self.chain_id, self.diff_id, self.parent = chain_id, diff_id, parent
        self.directory, self.size = directory, size


def insert_layer(database: Database, layer: LayerRow) -> bool:
    """Register an unpacked layer, not yet on the disk. False when its chain is known: another directory holds it."""
    return bool(
        database.change(
            "INSERT OR IGNORE INTO layers (chain_id, diff_id, parent, directory, size, unflushed) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (layer.chain_id, layer.diff_id, layer.parent, layer.directory, layer.size, pidfd.boot_id()),
        )
    )


def unflushed(database: Database) -> "list[tuple[str, str]]":
    """(chain id, boot in which it was registered) of the layers that may not have reached the disk."""
    return [(row[0], row[1]) for row in database.rows("SELECT chain_id, unflushed FROM layers WHERE unflushed <> ''")]


def set_flushed(database: Database, chain_ids: "Sequence[str]") -> None:
    """Note that these layers are on the disk."""
    for chain_id in chain_ids:
        database.change("UPDATE layers SET unflushed = '' WHERE chain_id = ?", (chain_id,))


def set_unflushed(database: Database, chain_id: str) -> None:
    """Note that a layer was written anew in this boot."""
    database.change("UPDATE layers SET unflushed = ? WHERE chain_id = ?", (pidfd.boot_id(), chain_id))


def of_layer(database: Database, chain_id: str) -> list[str]:
    """The images that stand on a layer."""
    return [row[0] for row in database.rows("SELECT image_id FROM image_layers WHERE chain_id = ?", (chain_id,))]


def layer(database: Database, chain_id: str) -> "LayerRow | None":
    """The unpacked layer of a chain, or None."""
    row = database.row("SELECT chain_id, diff_id, parent, directory, size FROM layers WHERE chain_id = ?", (chain_id,))
    return LayerRow(*row) if row else None


def chains_of(database: Database, diff_id: str) -> list[str]:
    """The chains whose uppermost layer is this one."""
    return [row[0] for row in database.rows("SELECT chain_id FROM layers WHERE diff_id = ?", (diff_id,))]


def layers_of(database: Database, image_id: str) -> list[LayerRow]:
    """The image's layers, lowest first."""
    return [
        LayerRow(*row)
        for row in database.rows(
            "SELECT l.chain_id, l.diff_id, l.parent, l.directory, l.size FROM image_layers i "
            "JOIN layers l ON l.chain_id = i.chain_id WHERE i.image_id = ? ORDER BY i.position",
            (image_id,),
        )
    ]


def layer_uses(database: Database) -> "list[tuple[str, str, int]]":
    """(image id, chain id, layer size) for every layer of every image."""
    return [
        (row[0], row[1], row[2])
        for row in database.rows(
            "SELECT i.image_id, i.chain_id, l.size FROM image_layers i JOIN layers l ON l.chain_id = i.chain_id"
        )
    ]


def layers_size(database: Database) -> int:
    """Bytes of all unpacked layers."""
    row = database.row("SELECT coalesce(sum(size), 0) FROM layers")
    assert row is not None
    return int(row[0])


def layer_directories(database: Database) -> set[str]:
    """The directory names of all registered layers."""
    return {row[0] for row in database.rows("SELECT directory FROM layers")}


def drop_unused_layers(database: Database) -> list[LayerRow]:
    """Forget the layers that no image, container, lease or build needs; their directories are to be removed after.

    An image removed by force may have left containers behind that still stand on its layers, or mount them.
    """
    _drop_dead_leases(database)
    gone = database.rows(
        "WITH RECURSIVE built(chain_id) AS (SELECT chain_id FROM build_cache UNION "
        "SELECT layers.parent FROM layers JOIN built ON layers.chain_id = built.chain_id) "
        "SELECT chain_id, diff_id, parent, directory, size FROM layers "
        "WHERE chain_id NOT IN (SELECT chain_id FROM image_layers) AND chain_id NOT IN "
        "(SELECT object FROM leases) AND chain_id NOT IN (SELECT chain_id FROM built) AND directory NOT IN "
        "(SELECT held.value FROM containers, json_each(containers.record, '$.Layers') AS held) AND directory NOT IN "
        "(SELECT held.value FROM containers, json_each(containers.record, '$.Mounts') AS mount, "
        "json_each(mount.value, '$.Layers') AS held)"
    )
    for row in gone:
        database.change("DELETE FROM layers WHERE chain_id = ?", (row[0],))
    database.change("DELETE FROM layer_blobs WHERE diff_id NOT IN (SELECT diff_id FROM layers)")
    return [LayerRow(*row) for row in gone]


# blobs


def add_layer_blob(
    database: Database, diff_id: str, digest: str, media_type: str, size: int, repository: str = ""
) -> None:
    """Note a compressed form of a layer: the blob's digest, and a repository (canonical) that is known to have it."""
    database.change(
        "INSERT OR REPLACE INTO layer_blobs (diff_id, digest, media_type, size, repository) VALUES (?, ?, ?, ?, ?)",
        (diff_id, digest, media_type, size, repository),
    )


def drop_layer_blob(database: Database, diff_id: str, digest: str) -> None:
    """Forget one form of a layer."""
    database.change("DELETE FROM layer_blobs WHERE diff_id = ? AND digest = ?", (diff_id, digest))


def layer_blobs(database: Database, diff_id: str) -> "list[tuple[str, str, int, str]]":
    """(digest, media type, size, repository) of the compressed forms of a layer."""
    return [
        (row[0], row[1], row[2], row[3])
        for row in database.rows(
            "SELECT digest, media_type, size, repository FROM layer_blobs WHERE diff_id = ? "
            "ORDER BY repository, digest",
            (diff_id,),
        )
    ]


def diff_id_of_blob(database: Database, digest: str) -> "str | None":
    """The layer that a blob is a compressed form of, or None."""
    row = database.row("SELECT diff_id FROM layer_blobs WHERE digest = ? LIMIT 1", (digest,))
    return row[0] if row else None


def needed_blobs(database: Database) -> set[str]:
    """The digests of the blobs that registered images and layers, or leases, refer to."""
    _drop_dead_leases(database)
    return {
        row[0]
        for row in database.rows(
            "SELECT digest FROM layer_blobs UNION SELECT manifest FROM images WHERE manifest != '' "
            "UNION SELECT object FROM leases"
        )
    }


# leases: what an unfinished verb needs


def lease_owner() -> str:
    """A new owner for leases: this process (pid and start time in this boot) and one verb of it."""
    return f"{pidfd.boot_id()}:{os.getpid()}:{pidfd.process_start_time(os.getpid())}:{os.urandom(4).hex()}"


def lease(database: Database, owner: str, objects: "Sequence[str]", now_ns: int) -> None:
    """Keep chain ids or blob digests from collection until `release`, or until the process is gone."""
    for name in objects:
        database.change("INSERT OR IGNORE INTO leases VALUES (?, ?, ?)", (name, owner, now_ns))


def release(database: Database, owner: str) -> None:
    """End an owner's leases."""
    database.change("DELETE FROM leases WHERE owner = ?", (owner,))


def is_leased(database: Database, name: str) -> bool:
    """Whether an unfinished verb needs something."""
    return database.row("SELECT 1 FROM leases WHERE object = ? LIMIT 1", (name,)) is not None


def let_go(database: Database, owner: str, name: str) -> None:
    """End one of an owner's leases."""
    database.change("DELETE FROM leases WHERE owner = ? AND object = ?", (owner, name))


def abandoned(database: Database) -> list[str]:
    """What the leases of processes that are gone name."""
    dead = [owner for (owner,) in database.rows("SELECT DISTINCT owner FROM leases") if not _lives(owner)]
    return [row[0] for owner in dead for row in database.rows("SELECT object FROM leases WHERE owner = ?", (owner,))]


def unfinished(database: Database) -> bool:
    """Whether any lease is there: at the start of a process, a verb that was killed has left it."""
    return database.row("SELECT 1 FROM leases LIMIT 1") is not None


def _drop_dead_leases(database: Database) -> None:
    for (owner,) in database.rows("SELECT DISTINCT owner FROM leases"):
        if not _lives(owner):
            release(database, owner)


def _lives(owner: str) -> bool:
    boot, pid, started, _ = owner.split(":")
    return boot == pidfd.boot_id() and pidfd.is_alive(int(pid), int(started))
