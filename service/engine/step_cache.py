"""Steps that were built before: found by the image that they began with and the configuration that they had."""

import functools

from service import bell, jsontext, timestamps
from service.builder import cache
from service.content import image_config
from service.engine import container_config, images
from service.engine.layers import image_row
from service.errors import MoorageError
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from service.engine.engine import Engine
    from service.engine.layers import Lease
    from service.store.images import ImageRow


_REMEMBERED = 1000  # configurations of images


@functools.lru_cache(_REMEMBERED)
def _made_by(document: str) -> "dict[str, Any] | None":
    """The configuration of the container that made an image, from the image's; not to be changed."""
    made: dict[str, Any] | None = jsontext.loads(document).get("container_config")
    return made


class Cache:
    """The cache as one stage sees it: once a step was not found, no later one is looked for. Blocking.

    `sources`: images (of a registry, say) whose history counts as well; with them, what was built here counts only
    when one of them was made from it. `off`: nothing is found.
    """

    def __init__(self, engine: "Engine", lease: "Lease", sources: "Sequence[str]", *, off: bool) -> None:
        self.engine, self.lease, self.over = engine, lease, off
        self.sources: list[ImageRow] = []
        self.asked = bool(sources)
        for name in sources:
            try:
                self.sources.append(images.find(engine, name).row)
            except MoorageError:
                continue  # as in dockerd: what is not here is no source

    def find(self, parent: str, config: "dict[str, Any]") -> str:
        """The image that a step made of `parent`; empty when there is none."""
        if self.over:
            return ""
        found = self._built(parent, config)
        if self.asked and not (found and any(self._made_from(row, found) for row in self.sources)):
            found = self._of_sources(parent, config)
        self.over = not found
        return found

    def _built(self, parent: str, config: "dict[str, Any]") -> str:
        for row in store.built_from(self.engine.store, parent):
            made = _made_by(row.config)
            if made and cache.same(made, config):
                return row.id
        return ""

    def _made_from(self, row: "ImageRow", image_id: str) -> bool:
        above = row.parent
        while above:
            if above == image_id:
                return True
            above = store.get(self.engine.store, above).parent if store.exists(self.engine.store, above) else ""
        return False

    def _of_sources(self, parent: str, config: "dict[str, Any]") -> str:
        """A step of a source's history. All but its last become images here: later steps find their parent then."""
        begun = jsontext.loads(store.get(self.engine.store, parent).config) if parent else {}
        step = len(begun.get("history") or ())
        for row in self.sources:
            document = jsontext.loads(row.config)
            history, diff_ids = document.get("history") or [], image_config.diff_ids(document)
            if not cache.continues(history, diff_ids, begun):
                continue
            if history[step].get("created_by") != " ".join(config.get("Cmd") or ()):
                continue
            if step + 1 == len(history):
                if parent and parent != row.id:
                    with self.engine.store.write():
                        store.set_parent(self.engine.store, row.id, parent)
                return row.id
            self.sources = [row]
            return self._restored(parent, begun, document, step, config)
        return ""

    def _restored(
        self, parent: str, begun: "dict[str, Any]", source: "dict[str, Any]", step: int, config: "dict[str, Any]"
    ) -> str:
        history, diff_ids = source["history"], image_config.diff_ids(source)
        layer = cache.layer_of(history, diff_ids, step)
        kept = [*(image_config.diff_ids(begun) if begun else ()), *([layer] if layer else ())]
        document = {
            "architecture": source.get("architecture") or "",
            **({"author": source["author"]} if source.get("author") else {}),
            "config": container_config.whole({key: value for key, value in config.items() if key != "Cmd"}),
            "created": history[step].get("created") or timestamps.NEVER,
            "history": history[: step + 1],
            "os": source.get("os") or "linux",
            "rootfs": {"type": "layers", "diff_ids": kept},
        }
        database = self.engine.store
        with database.write():
            rows = [store.layer(database, chain_id) for chain_id in image_config.chain_ids(kept)]
            known = [row for row in rows if row is not None]
            if len(known) != len(rows):
                return ""  # the source was removed meanwhile
            row = image_row(jsontext.dump_bytes(document), known, parent=parent)
            store.insert(database, row, [layer.chain_id for layer in known])
        bell.ring(self.engine.settings.bell)
        return row.id
