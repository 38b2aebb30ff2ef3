"""Layers reach the disk behind the answer, and a boot after a power cut finds out which have not.

A layer is registered while its files are still the kernel's to write, with the boot in which that was: nobody who waits
for a pull or a load waits for the disk. Then one syncfs(2) covers all that was written before, and the note is taken
away. What a later process finds:

    a note of this boot      only the service was killed; the files are whole, and are flushed now
    a note of another boot   the machine went down before the flush: the layer is unpacked anew from its blob, whose
                             digest says whether it is whole (of a build's, which has no blob yet, the files are packed
                             to find out). Where that fails, the images on it are removed, unless a container was made
                             from them

The store itself is durable (SQLite, synchronous=FULL), so a registered layer never lacks its note. Blocking.

A flush holds up whoever else waits for that disk: clients bring their own notes about a build to it. So after a build
it waits until none has ended for a while.
"""

import _thread
import fcntl
import os
import time

from service.content import blobs, writable
from service.content import layers as unpacking
from service.content.rootfs import layer_path
from service.engine import layers
from service.errors import MoorageError, SystemFailure
from service.kernel import pidfd
from service.kernel.tree import remove_tree
from service.store import build_cache
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.engine.engine import Engine
    from service.store.images import LayerRow


QUIET_SECONDS = 3.0  # after a build; the next one of somebody who works begins sooner
_LATEST_SECONDS = 15.0  # after which it is not put off any longer
_LOOK_SECONDS = 0.2


class Flusher:
    """The one thread of a process that flushes. While it is `running` the process does not leave."""

    def __init__(self, engine: "Engine") -> None:
        self.engine, self.running = engine, False
        self._wanted = False
        self._due = self._latest = 0.0  # on the monotonic clock
        self._lock = _thread.allocate_lock()

    def want(self, after: float) -> None:
        """Flush what is registered by now; `after` so many seconds in which nobody asks for it once more."""
        with self._lock:
            now = time.monotonic()
            if not self._wanted:
                self._due, self._latest = now + after, now + _LATEST_SECONDS
            elif self._due > now:  # else it is about to begin
                self._due = min(now + after, self._latest)
            self._wanted = True
            if not self.running:
                self.running = True
                _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self.running = False
                    break
                left = self._due - time.monotonic()
                if left <= 0:
                    self._wanted = False
            if left > 0:
                time.sleep(min(left, _LOOK_SECONDS))
                continue
            try:
                now(self.engine)
            except (MoorageError, OSError) as error:  # the notes stay: the next process tries again
                self.engine.log(f"layers could not be brought to the disk: {error}")
        self.engine.store.close()


def soon(engine: "Engine", after: float = 0.0) -> None:
    """Bring what is registered to the disk, without waiting for it; `after` so many seconds without another call."""
    if engine.flusher is None:
        engine.flusher = Flusher(engine)
    engine.flusher.want(after)


def now(engine: "Engine") -> None:
    """Bring what is registered to the disk. Raises OSError."""
    chain_ids = [chain_id for chain_id, boot in store.unflushed(engine.store) if boot == pidfd.boot_id()]
    if not chain_ids:
        return
    blobs.flush(engine.settings)
    with engine.store.write():
        store.set_flushed(engine.store, chain_ids)


def at_start(engine: "Engine", *, rebooted: bool) -> None:
    """Make good what is noted. Another process that is at it is waited for.

    After a boot, what an interrupted pull has left goes: nobody noted whether those blobs had reached the disk.
    """
    if rebooted:
        with engine.store.write():
            needed = store.needed_blobs(engine.store)
        began = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        for digest in blobs.every(engine.settings):
            if digest not in needed and blobs.was_before(engine.settings, digest, began):  # later: somebody is at work
                blobs.remove(engine.settings, digest)
    try:
        lock = os.open(f"{engine.settings.root}/layers", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # no image was ever here
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        doubtful = {chain_id for chain_id, boot in store.unflushed(engine.store) if boot != pidfd.boot_id()}
        if doubtful:
            _repair(engine, doubtful)
    finally:
        os.close(lock)
    soon(engine)


def _repair(engine: "Engine", doubtful: "set[str]") -> None:
    waiting = [row for chain_id in doubtful if (row := store.layer(engine.store, chain_id)) is not None]
    while waiting:
        lowest = [row for row in waiting if row.parent not in {other.chain_id for other in waiting}]
        for row in lowest:
            waiting.remove(row)
            try:
                _unpack_anew(engine, row)
            except layers.Lost as error:
                _give_up(engine, row, error.message)
            except SystemFailure as error:  # its note stays
                engine.log(f"layer {row.chain_id} could not be looked at after the machine went down: {error}")
    layers.collect(engine)


def _unpack_anew(engine: "Engine", row: "LayerRow") -> None:
    """Fill a layer's directory from its blob; what a build made has none, and is whole or lost.

    Killed in the middle it is done again: the note is there to the end.
    """
    if not store.layer_blobs(engine.store, row.diff_id):
        if not writable.is_whole(engine.settings, layer_path(engine.settings, row.directory), row.diff_id):
            raise layers.Lost(f"layer {row.diff_id} is damaged, and was not in any other form here")
        with engine.store.write():
            store.set_unflushed(engine.store, row.chain_id)
        return
    unpacked = layers.unpack_again(engine, row.diff_id)
    try:
        below: list[str] = []
        parent = store.layer(engine.store, row.parent)
        while parent is not None:
            below.insert(0, parent.directory)
            parent = store.layer(engine.store, parent.parent)
        unpacking.settle(engine.settings, unpacked, below)
        folder = f"{engine.settings.root}/layers/{row.directory}"
        os.makedirs(folder, 0o711, exist_ok=True)
        remove_tree(f"{folder}/diff")
        os.rename(f"{unpacked.path}/diff", f"{folder}/diff")
        with engine.store.write():
            store.set_unflushed(engine.store, row.chain_id)
    finally:
        unpacked.discard()


def _give_up(engine: "Engine", row: "LayerRow", reason: str) -> None:
    """The layer cannot be had again: let go of the images on it that nothing was made from."""
    with engine.store.write():
        store.set_flushed(engine.store, [row.chain_id])
        build_cache.remove_above(engine.store, row.chain_id)
        for image_id in store.of_layer(engine.store, row.chain_id):
            names = ", ".join(store.tags_of(engine.store, image_id)) or "untagged"
            if store.container_using(engine.store, image_id) is not None:
                told = "a container was made from it: it stays, and may be damaged"
            else:
                store.delete(engine.store, image_id)
                told = "removed"
            engine.log(f"image {image_id} ({names}) had not reached the disk when the machine went down: {told}")
    engine.log(reason)
