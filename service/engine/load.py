"""`load`: images from an archive (API: ImageLoad)."""

from service import bell, jsontext, timestamps
from service.content import image_config, platforms, tarball
from service.content.reference import parse
from service.engine import flushing, image_events
from service.engine.layers import Lease, held_layer, image_row, register, unpack_again
from service.errors import InvalidParameter
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from service.content.platforms import Platform
    from service.engine.engine import Engine
    from service.store.images import LayerRow


def load(
    engine: "Engine",
    read: "Callable[[int], bytes]",
    report: "Callable[[dict[str, Any]], None]",
    *,
    quiet: bool = True,
    wanted: "Sequence[Platform]" = (),
) -> None:
    """Load every image of an archive. Blocking; `read(n)` gives its bytes, `report` takes Docker's messages.

    `wanted`: only those of one of these platforms; none: of any. One platform of an image is kept: where an index has
    several under one name it is this machine's, or else the first.
    Raises MoorageError when the archive is damaged; images before the damaged one stay loaded, as with dockerd.
    """

    def fits(stated: "Mapping[str, Any]") -> bool:
        return not wanted or any(platforms.matches(platform, stated) for platform in wanted)

    ids: list[str] = []
    parents: list[tuple[str, str]] = []
    named = 0
    with Lease(engine) as lease:
        archive = tarball.Archive(
            engine.settings, lambda digest: _is_here(engine, lease, digest), _progress(report, quiet=quiet)
        )
        try:
            archive.read(read)
            for image in _one_of_each(archive.images(fits), fits):
                config = image_config.parse(image.config)
                layers = _layers(engine, lease, archive, config, image.layers)
                image_id, messages = _register(engine, image, layers)
                ids.append(image_id)
                parents.append((image_id, image.parent))
                named += len(messages)
                for message in messages:
                    report({"stream": message})
            _link(engine, parents)
        finally:
            archive.close()
    if not named:
        for image_id in ids:
            report({"stream": f"Loaded image ID: {image_id}\n"})


def _one_of_each(
    found: "list[tarball.ArchiveImage]", fits: "Callable[[Mapping[str, Any]], bool]"
) -> "list[tarball.ArchiveImage]":
    host = platforms.host()
    chosen: dict[object, tuple[bool, tarball.ArchiveImage]] = {}
    for position, image in enumerate(found):
        stated = _platform(image.config)
        if not fits(stated):
            continue
        name = (tuple(image.names) if image.manifest else ()) or position  # an index tells the manifests
        foreign = not platforms.matches(host, stated)
        if name not in chosen or (chosen[name][0] and not foreign):
            chosen[name] = foreign, image
    return [image for _, image in chosen.values()]


def _platform(config: bytes) -> dict[str, str]:
    try:
        read = jsontext.loads(config)
    except ValueError:
        read = None  # whoever takes the image will be told
    known = read if isinstance(read, dict) else {}
    return {key: known[key] for key in ("os", "architecture", "variant") if isinstance(known.get(key), str)}


def _is_here(engine: "Engine", lease: Lease, digest: str) -> bool:
    """Whether a member with this digest is a layer (its tar, or its blob) that is here, blob and all."""
    from service.content import blobs

    diff_id = store.diff_id_of_blob(engine.store, digest) or digest
    with engine.store.write(durable=False):
        here = [row[0] for row in store.layer_blobs(engine.store, diff_id) if blobs.size(engine.settings, row[0]) >= 0]
        chain_ids = store.chains_of(engine.store, diff_id)
        if not here or not chain_ids:
            return False
        lease.hold(*chain_ids, *here)
    return True


def _layers(
    engine: "Engine", lease: Lease, archive: tarball.Archive, config: "dict[str, Any]", names: "list[str]"
) -> "list[LayerRow]":
    """The image's layers, registered."""
    diff_ids = image_config.diff_ids(config)
    if len(names) != len(diff_ids):
        raise InvalidParameter(f"invalid manifest, layers length mismatch: expected {len(names)}, got {len(diff_ids)}")
    rows: list[LayerRow] = []
    for position, (chain_id, diff_id) in enumerate(zip(image_config.chain_ids(diff_ids), diff_ids, strict=True)):
        row = held_layer(engine, lease, chain_id)
        if row is None:
            unpacked = None
            if archive.member(names[position]) not in archive.passed:
                layer = archive.layer(names[position])
                if layer.diff_id != diff_id:
                    raise InvalidParameter(
                        f'invalid diffID for layer {position}: expected "{diff_id}", got "{layer.diff_id}"'
                    )
                unpacked, layer.unpacked = layer.unpacked, None
                with engine.store.write(durable=False):
                    store.add_layer_blob(engine.store, diff_id, layer.blob, layer.media_type, layer.blob_size)
            row = register(engine, lease, unpacked or unpack_again(engine, diff_id), chain_id, rows)
        rows.append(row)
    return rows


def _register(engine: "Engine", image: tarball.ArchiveImage, layers: "list[LayerRow]") -> "tuple[str, list[str]]":
    """The one commit of an image: itself, its names, the events. Its id, and the messages about its names."""
    from service.content import blobs

    references = []
    for name in image.names:
        reference = parse(name)
        if not reference.tag:
            raise InvalidParameter(f'invalid tag "{name}"')
        references.append(reference)
    manifest = blobs.put(engine.settings, image.manifest) if image.manifest else ""
    row = image_row(image.config, layers, manifest)
    messages: list[str] = []
    with engine.store.write():
        store.insert(engine.store, row, [layer.chain_id for layer in layers])
        for reference in references:
            before = store.tag(engine.store, reference.stored, row.id, timestamps.now_ns())
            if before not in (None, row.id):
                messages.append(
                    f"The image {reference.familiar} already exists, renaming the old one with ID {before} "
                    "to empty string\n"
                )
            messages.append(f"Loaded image: {reference.familiar}\n")
        image_events.record(engine.store, "load", row, row.id)
    flushing.soon(engine)
    bell.ring(engine.settings.bell)
    return row.id, messages


def _link(engine: "Engine", parents: "list[tuple[str, str]]") -> None:
    """Let the images of an archive, (id, parent) each, know their parents, where those came along.

    Raises InvalidParameter for an image that cannot have been made from the one that is said to be its parent.
    """
    known = {image_id for image_id, _ in parents}
    for image_id, parent in parents:
        if parent not in known:
            continue
        with engine.store.write():
            if not (store.exists(engine.store, image_id) and store.exists(engine.store, parent)):
                continue  # removed meanwhile
            if not _may_be_parent(engine, parent, image_id):
                raise InvalidParameter(f"image {parent} is not a valid parent for {image_id}")
            store.set_parent(engine.store, image_id, parent)


def _may_be_parent(engine: "Engine", parent: str, image_id: str) -> bool:
    """Whether an image is another one but for its last step, and no descendant of it (moby: image/tarexport)."""
    histories = []
    for each in (parent, image_id):
        steps = jsontext.loads(store.get(engine.store, each).config).get("history") or []
        if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
            return False
        histories.append([{**step, "created": _moment(step)} for step in steps])
    above, below = histories
    if (above or below) and below[:-1] != above:
        return False
    ancestor = parent
    while ancestor and ancestor != image_id and store.exists(engine.store, ancestor):
        ancestor = store.get(engine.store, ancestor).parent
    return ancestor != image_id


def _moment(step: "dict[str, Any]") -> int:
    try:
        return timestamps.nanoseconds(step.get("created") or timestamps.NEVER)
    except ValueError:
        return 0


def _progress(report: "Callable[[dict[str, Any]], None]", *, quiet: bool) -> "Callable[[str, int, int], None]":
    """Messages about a layer being read: at most every half MiB, and one at its end (as dockerd)."""
    told: dict[str, int] = {}

    def tell(name: str, current: int, total: int) -> None:
        if current < total and current - told.get(name, -(1 << 30)) < 512 << 10:
            return
        told[name] = current
        report(
            {
                "status": "Loading layer",
                "progressDetail": {"current": current, "total": total},
                "id": _shown(name),
            }
        )

    return (lambda *_: None) if quiet else tell


def _shown(name: str) -> str:
    """Twelve digits of a layer's member name: `<hex>/layer.tar`, `<hex>.tar` and `blobs/sha256/<hex>` all hold some."""
    for part in reversed(name.split("/")):
        digits = part.removesuffix(".tar")
        if len(digits) == 64:
            return digits[:12]
    return name[-12:]
