"""`save`: images into one archive (API: ImageGet, ImageGetAll).

An OCI layout that is a docker-archive, too. Layers go in as their blobs are stored, compressed: nothing is packed
again, so every reader finds the digests that a registry knows, and the image ids stay. Streamed piece by piece.
"""

from service import bell, jsontext
from service.content import blobs, image_config
from service.content.reference import familiar, parse_any
from service.content.registry_types import OCI_INDEX
from service.content.tar import BLOCK, ZEROS, header
from service.engine import image_events, images, manifests
from service.engine.layers import Lease
from service.errors import InvalidParameter, NotFound
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import Any

    from service.engine.engine import Engine
    from service.engine.manifests import LayerBlob
    from service.store.images import ImageRow, LayerRow

_PIECE = 1 << 20


class _Saved:
    """One image to be saved, and the canonical names that were asked for."""

    def __init__(
        self, engine: "Engine", row: "ImageRow", names: "list[str]", layers: "list[LayerBlob] | None" = None
    ) -> None:
        self.row, self.names = row, names
        self.layers = manifests.layer_blobs(engine, row.id) if layers is None else layers
        self.config = row.config.encode()
        self.media_type, self.manifest = manifests.manifest(engine, row, self.layers, oci=True)
        self.annotations: dict[str, str] = {}  # of its entry in the index

    def annotate(self, manifest: "dict[str, str]", descriptor: "dict[str, str]") -> None:
        """Note something in the manifest, and beside it in the index."""
        if manifest:
            known = jsontext.loads(self.manifest)
            known["annotations"] = {**known.get("annotations", {}), **manifest}
            self.manifest = jsontext.dump_bytes(known)
        self.annotations = descriptor


def choose(
    engine: "Engine", names: "Sequence[str]", platforms: "Sequence[str]" = ()
) -> "list[tuple[ImageRow, list[str]]]":
    """The images that the names mean, each with the canonical names that it is saved by; a repository without a tag
    means all its tags.

    `platforms`: where any are given, every image must be of one of them. Raises NotFound.

    Blocking. The last place that may raise: what follows is a stream.
    """
    if not names:
        raise InvalidParameter("no images specified")
    chosen: dict[str, list[str]] = {}
    for name in names:
        parsed = parse_any(name)
        if not isinstance(parsed, str) and parsed.is_name_only:
            tagged = store.tags_in(engine.store, parsed.repository)
            if tagged:
                for canonical, image_id in tagged:
                    _find(engine, image_id, platforms)
                    chosen.setdefault(image_id, []).append(canonical)
                continue
        image = _find(engine, name, platforms)
        wanted = chosen.setdefault(image.id, [])
        if not isinstance(parsed, str) and not parsed.digest and store.by_reference(engine.store, parsed.stored):
            wanted.append(parsed.stored)
    return [(store.get(engine.store, image_id), names) for image_id, names in chosen.items()]


def _find(engine: "Engine", name: str, platforms: "Sequence[str]") -> images.Image:
    for platform in platforms[:-1]:
        try:
            return images.find(engine, name, platform)
        except NotFound:
            pass  # it may be of the next one
    return images.find(engine, name, platforms[-1] if platforms else "")


async def stream(engine: "Engine", names: "Sequence[str]", platforms: "Sequence[str]" = ()) -> "AsyncIterator[bytes]":
    """The archive. Raises NotFound before its first piece."""
    async with Lease(engine) as lease:
        saved = await engine.thread(_hold, engine, lease, names, platforms)
        async for piece in _archive(engine, saved):
            yield piece
        await engine.thread(_announce, engine, saved)


def unregistered(
    engine: "Engine", lease: Lease, row: "ImageRow", layers: "Sequence[LayerRow]", names: "list[str]"
) -> "_Saved":
    """An image that the store does not know, made of layers that the lease holds. `names`: canonical. Blocking."""
    manifests.pack(engine, lease, layers)
    return _Saved(engine, row, names, [manifests.layer_blob(engine, layer.diff_id) for layer in layers])


def archive(engine: "Engine", saved: "_Saved") -> "AsyncIterator[bytes]":
    """The archive of one image."""
    return _archive(engine, [saved])


def _hold(engine: "Engine", lease: Lease, names: "Sequence[str]", platforms: "Sequence[str]") -> "list[_Saved]":
    with engine.store.write(durable=False):
        chosen = choose(engine, names, platforms)
        layers = {layer.chain_id: layer for row, _ in chosen for layer in store.layers_of(engine.store, row.id)}
        lease.hold(*layers)
    manifests.pack(engine, lease, list(layers.values()))
    with engine.store.write():
        saved = [_Saved(engine, row, canonical) for row, canonical in chosen]
        for image in saved:
            lease.hold(*(layer.digest for layer in image.layers))
    return saved


def _announce(engine: "Engine", saved: "list[_Saved]") -> None:
    with engine.store.write():
        for image in saved:
            image_events.record(engine.store, "save", image.row, image.row.id)
    bell.ring(engine.settings.bell)


async def _archive(engine: "Engine", saved: "list[_Saved]") -> "AsyncIterator[bytes]":
    yield header("blobs/", 0, 0o755, kind="5") + header("blobs/sha256/", 0, 0o755, kind="5")
    written: set[str] = set()
    for image in saved:
        for layer in image.layers:
            if layer.digest in written:
                continue
            written.add(layer.digest)
            async for piece in _blob(engine, layer):
                yield piece
        for content in (image.config, image.manifest):
            digest = image_config.digest(content)
            if digest not in written:
                written.add(digest)
                yield _member(_place(digest), content)
    for name, document in _documents(saved):
        yield _member(name, jsontext.dump_bytes(document))
    yield ZEROS * 2


async def _blob(engine: "Engine", layer: "LayerBlob") -> "AsyncIterator[bytes]":
    yield header(_place(layer.digest), layer.size)
    file = await engine.thread(blobs.opened, engine.settings, layer.digest)
    try:
        left = layer.size
        while left and (piece := await engine.thread(file.read, min(_PIECE, left))):
            left -= len(piece)
            yield piece
    finally:
        file.close()
    if left:
        raise NotFound(f"blob {layer.digest} is shorter than it was")
    yield bytes(-layer.size % BLOCK)


def _documents(saved: "list[_Saved]") -> "list[tuple[str, Any]]":
    descriptors: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for image in saved:
        described = {
            "mediaType": image.media_type,
            "digest": image_config.digest(image.manifest),
            "size": len(image.manifest),
        }
        for name in image.names:
            repository, _, tag = name.rpartition(":")
            annotations = {
                **image.annotations,
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": tag,
            }
            descriptors.append({**described, "annotations": annotations})
            if image.layers:
                repositories.setdefault(familiar(repository), {})[tag] = image.layers[-1].digest[7:]
        if not image.names:
            descriptors.append({**described, **({"annotations": image.annotations} if image.annotations else {})})
    listed = [
        {
            "Config": _place(image.row.id),
            "RepoTags": [familiar(name) for name in image.names] or None,
            "Layers": [_place(layer.digest) for layer in image.layers],
        }
        for image in saved
    ]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors}
    documents: list[tuple[str, Any]] = [("index.json", index), ("manifest.json", listed)]
    documents.append(("oci-layout", {"imageLayoutVersion": "1.0.0"}))
    if repositories:
        documents.append(("repositories", repositories))
    return documents


def _member(name: str, content: bytes) -> bytes:
    return header(name, len(content)) + content + bytes(-len(content) % BLOCK)


def _place(digest: str) -> str:
    return "blobs/sha256/" + digest.rpartition(":")[2]
