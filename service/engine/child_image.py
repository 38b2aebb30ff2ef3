"""A new image on top of another one: what commit and every step of a build end with. Blocking: call in a thread."""

from service import bell, jsontext, timestamps, version
from service.content import image_config, writable
from service.engine import flushing, image_events
from service.engine.layers import Lease, held_layer, image_row, register
from service.errors import NotFound
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.content.layers import Unpacked
    from service.content.platforms import Platform
    from service.content.reference import Reference
    from service.content.tarball import ArchiveLayer
    from service.engine.engine import Engine
    from service.store.images import ImageRow, LayerRow


class Base:
    """What a new image begins with: the image `id`, or nothing at all. Its layers are kept by the lease.

    Raises NotFound when the image (or one of its layers) is not here any more.
    """

    def __init__(self, engine: "Engine", lease: Lease, id: str) -> None:
        self.engine, self.lease, self.id = engine, lease, id
        self.config: dict[str, Any] = {}
        self.layers: list[LayerRow] = []
        if not id:
            return
        with engine.store.write(durable=False):
            self.config = jsontext.loads(store.get(engine.store, id).config)
            self.layers = store.layers_of(engine.store, id)
            lease.hold(*(layer.chain_id for layer in self.layers))

    def layer(self, directory: str, latest: "int | None" = None) -> "LayerRow | None":
        """A registered layer of what stands in `directory` (an upper directory); None when nothing does. `latest`,
        seconds since 1970: no file of it is younger than that.

        Raises SystemFailure.
        """
        packed = writable.copied(self.engine.settings, directory, latest)
        return None if packed is None else self.registered(packed)

    def taken(self, directory: str) -> "LayerRow | None":
        """As `layer`, of a directory that nobody uses any more: it is moved. Its blob is made when it is wanted."""
        unpacked = writable.taken(self.engine.settings, directory)
        return None if unpacked is None else self._known(unpacked)

    def registered(self, packed: "ArchiveLayer") -> "LayerRow":
        """A layer that was unpacked just now, known under its chain. Raises SystemFailure."""
        database = self.engine.store
        unpacked, packed.unpacked = packed.unpacked, None
        assert unpacked is not None
        try:
            with database.write(durable=False):
                self.lease.hold(packed.blob)
                store.add_layer_blob(database, packed.diff_id, packed.blob, packed.media_type, packed.blob_size)
        except BaseException:
            unpacked.discard()
            raise
        return self._known(unpacked)

    def _known(self, unpacked: "Unpacked") -> "LayerRow":
        try:
            diff_ids = [layer.diff_id for layer in self.layers]
            chain_id = image_config.chain_ids([*diff_ids, unpacked.diff_id])[-1]
            row = held_layer(self.engine, self.lease, chain_id)
        except BaseException:
            unpacked.discard()
            raise
        if row is None:
            return register(self.engine, self.lease, unpacked, chain_id, self.layers)
        unpacked.discard()
        return row


class Step:
    """What is said of the new image beside its layer. Configurations are Docker's ContainerConfig."""

    def __init__(
        self,
        config: "dict[str, Any]",
        container_config: "dict[str, Any]",
        *,
        container_id: str = "",
        author: str = "",
        comment: str = "",
        platform: "Platform | None" = None,
    ) -> None:
        """`platform`: of an image that begins with nothing; None: this machine's."""
        self.config, self.container_config = config, container_config
        self.container_id, self.author, self.comment = container_id, author, comment
        self.platform = platform


def create(base: Base, layer: "LayerRow | None", step: Step, target: "Reference | None" = None) -> "ImageRow":
    """Register the image that `layer` (None: none) makes of `base`, and tag it. Raises NotFound."""
    row = image_row(jsontext.dump_bytes(_document(base, layer, step)), [*base.layers, *([layer] if layer else ())])
    row.parent = base.id
    database = base.engine.store
    with database.write():
        if base.id and not store.exists(database, base.id):
            raise NotFound(f"No such image: {base.id}")
        store.insert(database, row, [known.chain_id for known in (*base.layers, *([layer] if layer else ()))])
        store.set_built(database, row.id)
        base.lease.hold(row.id)  # a prune must not take it before a next step stands on it
        image_events.record(database, "create", row, row.id)
        if target is not None:
            store.tag(database, target.stored, row.id, timestamps.now_ns())
            image_events.record(database, "tag", row, target.familiar)
    if layer is not None:
        flushing.soon(base.engine)
    bell.ring(base.engine.settings.bell)
    return row


def _document(base: Base, layer: "LayerRow | None", step: Step) -> "dict[str, Any]":
    """The image's configuration, in the keys and the order of moby's image.Image."""
    system, architecture, variant = step.platform or image_config.host_platform()
    if base.id:
        architecture = base.config.get("architecture") or architecture
        variant = base.config.get("variant") or ""
    created = timestamps.now()
    history = {
        "created": created,
        "created_by": " ".join(step.container_config.get("Cmd") or ()),
        **({"author": step.author} if step.author else {}),
        **({"comment": step.comment} if step.comment else {}),
        **({} if layer else {"empty_layer": True}),
    }
    diff_ids = [known.diff_id for known in base.layers] + ([layer.diff_id] if layer else [])
    return {
        "architecture": architecture,
        **({"variant": variant} if variant else {}),
        **({"author": step.author} if step.author else {}),
        **({"comment": step.comment} if step.comment else {}),
        "config": step.config,
        **({"container": step.container_id} if step.container_id else {}),
        "container_config": step.container_config,
        "created": created,
        "docker_version": version.DOCKER,
        "history": [*(base.config.get("history") or ()), history],
        "os": base.config.get("os") or system,
        **{key: base.config[key] for key in ("os.version", "os.features") if base.config.get(key)},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
