"""`--squash`: the layers that a build has put on its base become one (moby: daemon/images, SquashImage). Blocking."""

from service import bell, jsontext, timestamps
from service.engine import child_image, flushing, image_events
from service.engine.layers import image_row
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.engine.engine import Engine
    from service.engine.layers import Lease
    from service.store.images import ImageRow, LayerRow


class Squashing:
    """The image `id`, built on the image `base` (empty: on nothing)."""

    def __init__(self, engine: "Engine", lease: "Lease", id: str, base: str) -> None:
        """Raises NotFound when one of them is not here any more."""
        self.engine, self.lease, self.id, self.base = engine, lease, id, base
        self.image = child_image.Base(engine, lease, id)
        self.below = child_image.Base(engine, lease, base)

    @property
    def layers(self) -> "list[LayerRow]":
        """Those that are to become one, lowest first."""
        return self.image.layers[len(self.below.layers) :]

    def register(self, directory: str) -> "ImageRow":
        """The image with what stands in `directory` (in overlayfs' form; it is moved) instead of its own layers."""
        layer = self.below.taken(directory)
        layers = [*self.below.layers, *([layer] if layer else ())]
        document, now = self.image.config, timestamps.now()
        history = list(document.get("history") or ())
        known = len(self.below.config.get("history") or ())
        merged = {
            "created": now,
            "comment": f"merge {self.id} to {self.base}" if self.base else f"create new from {self.id}",
            **({} if layer else {"empty_layer": True}),
        }
        document = {
            **document,
            "created": now,
            "history": [*history[:known], *({**entry, "empty_layer": True} for entry in history[known:]), merged],
            "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in layers]},
        }
        row = image_row(jsontext.dump_bytes(document), layers)
        database = self.engine.store
        with database.write():
            store.insert(database, row, [each.chain_id for each in layers])
            self.lease.hold(row.id)
            image_events.record(database, "create", row, row.id)
        if layer is not None:
            flushing.soon(self.engine)
        bell.ring(self.engine.settings.bell)
        return row
