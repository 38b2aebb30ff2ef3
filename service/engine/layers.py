"""Layers and blobs coming to be known, and leaving again: what load, pull, import, commit and delete share.

A layer is registered as soon as it is unpacked, under a lease of the verb that needs it; the image that makes it
needed for good follows in one transaction at the end. So a crash leaves a layer that nothing refers to, or a directory
that the store does not know; `collect` removes both. Blobs that nothing refers to stay for a day: they are what an
interrupted pull goes on from.

None of these steps waits for the disk: the commit of the image does, and brings them along. A power cut before takes
them back, and a boot looks for what is nobody's. Blocking: call in a thread.
"""

import os
import time

from service import timestamps
from service.content import blobs, image_config
from service.content import layers as unpacking
from service.errors import SystemFailure
from service.store import images as store
from service.store.images import ImageRow, LayerRow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from service.engine.engine import Engine


class Lost(SystemFailure):
    """A layer cannot be had again: none of its blobs is here and whole."""


NO_SPACE = "no space left on device"  # how every error of a full disk ends (strerror of ENOSPC)
BLOB_KEPT = 24 * 3600  # seconds that an unneeded blob stays after it was last written


class Lease:
    """Keeps what one verb needs from collection, from `with` (or `async with`) until its end.

    Its own row is there from the beginning: one that outlives its process says that something was left unfinished.
    """

    def __init__(self, engine: "Engine") -> None:
        self.engine, self.database = engine, engine.store
        self.owner = store.lease_owner()
        self.held: set[str] = set()

    def __enter__(self) -> "Lease":
        self.hold(self.owner)
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        with self.database.write(durable=False):
            store.release(self.database, self.owner)
        if kind is not None:
            collect(self.engine)
        if isinstance(error, SystemFailure) and NO_SPACE in error.message:
            self._give_back()

    def _give_back(self) -> None:
        """On a full disk nothing is kept for a later attempt: remove the blobs that only this verb wanted."""
        with self.database.write():
            needed = store.needed_blobs(self.database)
        for digest in self.held - needed:
            blobs.remove(self.engine.settings, digest)

    async def __aenter__(self) -> "Lease":
        return await self.engine.thread(self.__enter__)

    async def __aexit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        await self.engine.thread(self.__exit__, kind, error, trace)

    def hold(self, *objects: str) -> None:
        """Keep chain ids or blob digests. Call inside a transaction when they must still be there."""
        with self.database.write(durable=False):
            store.lease(self.database, self.owner, objects, timestamps.now_ns())
        self.held.update(digest for digest in objects if digest.startswith("sha256:"))

    def let_go(self, digest: str) -> None:
        """A blob is not needed any more, by this verb."""
        with self.database.write():
            store.let_go(self.database, self.owner, digest)
        self.held.discard(digest)


def held_layer(engine: "Engine", lease: Lease, chain_id: str) -> "LayerRow | None":
    """The registered layer of a chain, kept from now on; None when it is not here."""
    if store.layer(engine.store, chain_id) is None:
        return None
    with engine.store.write(durable=False):
        found = store.layer(engine.store, chain_id)
        if found is not None:
            lease.hold(chain_id)
        return found


def register(
    engine: "Engine",
    lease: Lease,
    unpacked: "unpacking.Unpacked",
    chain_id: str,
    below: "Sequence[LayerRow]",
) -> LayerRow:
    """Make an unpacked layer known under its chain id, on top of `below` (lowest first)."""
    parent = below[-1].chain_id if below else ""
    row = LayerRow(chain_id, unpacked.diff_id, parent, unpacked.name, unpacked.size)
    try:
        unpacking.settle(engine.settings, unpacked, [layer.directory for layer in below])
        with engine.store.write(durable=False):
            lease.hold(chain_id)
            fresh = store.insert_layer(engine.store, row)
            known = store.layer(engine.store, chain_id)
    except BaseException:
        unpacked.discard()
        raise
    assert known is not None
    if fresh:
        unpacked.keep()
    else:
        unpacked.discard()
    return known


def unpack_again(engine: "Engine", diff_id: str) -> "unpacking.Unpacked":
    """Unpack a layer that is here on top of other layers once more, from its blob. A blob that is damaged is removed.

    Raises Lost; or another SystemFailure, which says nothing of the blob (no room, a program that was killed).
    """
    reason = f"layer {diff_id} is not here"
    for digest, *_ in store.layer_blobs(engine.store, diff_id):
        if blobs.size(engine.settings, digest) < 0:
            continue
        try:
            with open(blobs.path(engine.settings, digest), "rb") as file:
                unpacked = unpacking.unpack(engine.settings, unpacking.decompressed(file.read))
        except SystemFailure as error:
            if blobs.is_whole(engine.settings, digest):
                raise
            reason = f"layer {diff_id} is damaged: its blob {digest} does not unpack: {error.message}"
        else:
            if unpacked.diff_id == diff_id:
                return unpacked
            unpacked.discard()
            reason = f"layer {diff_id} is damaged: its blob {digest} unpacks to {unpacked.diff_id}"
        blobs.remove(engine.settings, digest)
    raise Lost(reason)


def image_row(config: bytes, layers: "Sequence[LayerRow]", manifest: str = "", parent: str = "") -> ImageRow:
    """The row of an image from its configuration (verbatim) and its registered layers."""
    parsed = image_config.parse(config)
    return ImageRow(
        image_config.digest(config),
        image_config.created_ns(parsed),
        sum(layer.size for layer in layers),
        config.decode(),
        manifest,
        0,
        parent,
    )


def collect(engine: "Engine") -> None:
    """Remove layers that nothing needs, and blobs that nothing has needed for a day."""
    with engine.store.write():
        layers = store.drop_unused_layers(engine.store)
        needed = store.needed_blobs(engine.store)
    for layer in layers:
        unpacking.remove(engine.settings, layer.directory)
    oldest = time.time() - BLOB_KEPT
    for digest in blobs.every(engine.settings):
        if digest not in needed and _written(engine, digest) < oldest:
            blobs.remove(engine.settings, digest)
    blobs.remove_old_partials(engine.settings, oldest)


def _written(engine: "Engine", digest: str) -> float:
    try:
        return os.stat(blobs.path(engine.settings, digest)).st_mtime
    except FileNotFoundError:
        return time.time()


def reconcile(engine: "Engine") -> None:
    """At start: remove what verbs that died have left behind."""
    collect(engine)
    for name in unpacking.leftovers(engine.settings, store.layer_directories(engine.store)):
        unpacking.remove(engine.settings, name)
    blobs.remove_leftovers(engine.settings)
