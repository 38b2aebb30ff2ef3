"""The manifest and the blobs under which an image leaves: by push, and in an archive."""

from service import jsontext
from service.content import blobs, image_config, writable
from service.content.registry_types import DOCKER_MANIFEST, OCI_MANIFEST
from service.content.rootfs import layer_path
from service.content.tarball import DOCKER_LAYER, DOCKER_LAYER_GZIP, OCI_LAYER, gzip
from service.errors import SystemFailure
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.engine.engine import Engine
    from service.engine.layers import Lease
    from service.store.images import ImageRow, LayerRow

DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"


class LayerBlob:
    """The stored blob of one layer. `repositories` are known to have it (canonical)."""

    __slots__ = ("diff_id", "digest", "media_type", "repositories", "size")

    def __init__(self, diff_id: str, digest: str, media_type: str, size: int, repositories: "list[str]") -> None:
        self.diff_id, self.digest, self.media_type, self.size = diff_id, digest, media_type, size
        self.repositories = repositories


def pack(engine: "Engine", lease: "Lease", layers: "Sequence[LayerRow]") -> None:
    """Make the blobs of layers that a build has left without: they have not been wanted until now.

    Blocking, as long as it takes to pack them: not inside a transaction. Raises SystemFailure.
    """
    for layer in layers:
        if store.layer_blobs(engine.store, layer.diff_id):
            continue
        digest, size = writable.packed(engine.settings, layer_path(engine.settings, layer.directory), layer.diff_id)
        with engine.store.write(durable=False):
            lease.hold(digest)
            store.add_layer_blob(engine.store, layer.diff_id, digest, DOCKER_LAYER, size)


def layer_blob(engine: "Engine", diff_id: str) -> LayerBlob:
    """The blob of a layer. Raises SystemFailure when it is not here."""
    known = store.layer_blobs(engine.store, diff_id)
    for digest, media_type, size, _ in known:
        if blobs.size(engine.settings, digest) >= 0:
            repositories = [row[3] for row in known if row[0] == digest and row[3]]
            return LayerBlob(diff_id, digest, media_type, size, repositories)
    raise SystemFailure(f"the blob of layer {diff_id} is not here")


def layer_blobs(engine: "Engine", image_id: str) -> "list[LayerBlob]":
    """The blobs of an image's layers, lowest first. Raises SystemFailure."""
    return [layer_blob(engine, layer.diff_id) for layer in store.layers_of(engine.store, image_id)]


def compressed(engine: "Engine", lease: "Lease", blob: LayerBlob) -> LayerBlob:
    """The layer as a push sends it: what never was in a registry is compressed now, and kept so instead.

    Blocking. Raises SystemFailure.
    """
    if blob.repositories or blob.digest != blob.diff_id:
        return blob
    digest, size = gzip(engine.settings, blob.digest)
    with engine.store.write():
        lease.hold(digest)
        store.add_layer_blob(engine.store, blob.diff_id, digest, DOCKER_LAYER_GZIP, size)
        store.drop_layer_blob(engine.store, blob.diff_id, blob.digest)
        lease.let_go(blob.digest)
        unneeded = blob.digest not in store.needed_blobs(engine.store)
    if unneeded:
        blobs.remove(engine.settings, blob.digest)
    return LayerBlob(blob.diff_id, digest, DOCKER_LAYER_GZIP, size, [])


def manifest(engine: "Engine", row: "ImageRow", layers: "Sequence[LayerBlob]", *, oci: bool) -> "tuple[str, bytes]":
    """(media type, content): the manifest that the image came with, so that its digest stays; else one made here."""
    if row.manifest and blobs.size(engine.settings, row.manifest) >= 0:
        content = blobs.read(engine.settings, row.manifest)
        whole = image_config.digest(content) == row.manifest  # a power cut may have kept it from the disk
        document = jsontext.loads(content) if whole else {}
        if whole and [layer["digest"] for layer in document.get("layers") or ()] == [layer.digest for layer in layers]:
            return document.get("mediaType") or OCI_MANIFEST, content
    media_type = OCI_MANIFEST if oci else DOCKER_MANIFEST
    config = row.config.encode()
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {
            "mediaType": OCI_CONFIG if oci else DOCKER_CONFIG,
            "size": len(config),
            "digest": image_config.digest(config),
        },
        "layers": [
            {"mediaType": _layer_type(layer.media_type, oci=oci), "size": layer.size, "digest": layer.digest}
            for layer in layers
        ],
    }
    return media_type, jsontext.dump_bytes(document)


def _layer_type(media_type: str, *, oci: bool) -> str:
    """The media type of a layer in the family of the manifest, by its compression."""
    for compression in ("gzip", "zstd"):
        if media_type.endswith(compression):
            return f"{OCI_LAYER}+{compression}" if oci else f"{DOCKER_LAYER}.{compression}"
    return OCI_LAYER if oci else DOCKER_LAYER
