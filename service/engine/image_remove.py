"""`rmi` and `image prune` (API: ImageDelete, ImagePrune).

What dockerd calls a soft conflict can be forced, a hard one cannot. The rows go in one transaction, so that a create
or a pull either finds the image whole or not at all; directories and blobs follow after the commit, and what a crash
leaves of them is collected at the next start.
"""

from service import bell
from service.content.reference import familiar, parse
from service.engine import events, image_events
from service.engine.images import resolve
from service.engine.layers import Lease
from service.errors import Conflict, InvalidParameter, NotFound
from service.ids import short
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.engine.engine import Engine
    from service.store.images import LayerRow

    Records = list[dict[str, str]]


class _InUse(Conflict):
    """A conflict because of a container, which removing a parent on the way passes over in silence."""


def remove(engine: "Engine", name: str, *, force: bool = False, prune: bool = True) -> "Records":
    """Untag, and remove the image when that was its last name. Docker's records of what was done. Blocking.

    `prune` removes parents that nothing needs any more, too. Raises NotFound, InvalidParameter, Conflict.
    """
    with Lease(engine):
        records, layers = _remove(engine, name, force=force, prune=prune)
        if layers:
            _discard(engine, layers)
    return records


def _remove(engine: "Engine", name: str, *, force: bool, prune: bool) -> "tuple[Records, list[LayerRow]]":
    database = engine.store
    records: Records = []
    layers: list[LayerRow] = []
    if not name.strip():
        raise InvalidParameter("image name cannot be blank")
    with database.write():
        image_id = resolve(engine, name)
        names = _names(database_names(engine, image_id))
        by_name = not (image_id.startswith(name) or image_id.removeprefix("sha256:").startswith(name))
        if by_name:
            _untag_one(engine, image_id, name, names, records, force=force)
            if database_names(engine, image_id):
                image_id = ""
        elif _single(names):
            _check(engine, image_id, soft=not force, names_count=False)
            _untag_all(engine, image_id, records)
        if image_id:
            layers = _delete(engine, image_id, records, force=force, prune=prune, quiet=by_name)
    bell.ring(engine.settings.bell)
    return records, layers


def database_names(engine: "Engine", image_id: str) -> "list[str]":
    """All canonical names of an image, tags and digests."""
    return store.tags_of(engine.store, image_id) + store.digests_of(engine.store, image_id)


def _names(canonical: "list[str]") -> "list[tuple[str, str]]":
    """(repository, name) of canonical names."""
    return [(_repository(name), name) for name in canonical]


def _repository(name: str) -> str:
    return name.partition("@")[0] if "@" in name else name.rpartition(":")[0]


def _single(names: "list[tuple[str, str]]") -> bool:
    """Whether all names are one tag (or none) and digests of one repository."""
    tags = [name for _, name in names if "@" not in name]
    return bool(names) and len(tags) <= 1 and len({repository for repository, _ in names}) == 1


def _untag_one(
    engine: "Engine",
    image_id: str,
    typed: str,
    names: "list[tuple[str, str]]",
    records: "Records",
    *,
    force: bool,
) -> None:
    """Take away the name that was given; with the last tag of a repository its digests go, too."""
    if not force and _single(names):
        user = store.container_using(engine.store, image_id)
        if user:
            raise Conflict(
                f'conflict: unable to remove repository reference "{typed}" (must force) - container {short(user)} '
                f"is using its referenced image {short(image_id)}"
            )
    reference = parse(typed)
    _untag(engine, image_id, reference.stored, records, announce=True)
    if reference.digest:
        return
    left = [name for repository, name in names if repository == reference.repository and name != reference.stored]
    if any("@" not in name for name in left):
        return
    for name in left:
        _untag(engine, image_id, name, records, announce=False)


def _untag_all(engine: "Engine", image_id: str, records: "Records") -> None:
    for name in database_names(engine, image_id):
        _untag(engine, image_id, name, records, announce=True)


def _untag(engine: "Engine", image_id: str, name: str, records: "Records", *, announce: bool) -> None:
    if not store.untag(engine.store, name):
        raise NotFound(f"No such image: {familiar(name)}")
    if announce:
        image_events.record(engine.store, "untag", store.get(engine.store, image_id), image_id)
    records.append({"Untagged": familiar(name)})


def _check(engine: "Engine", image_id: str, *, soft: bool, names_count: bool = True) -> None:
    """Raise Conflict when something needs the image; with `soft` also what force would pass over."""
    database = engine.store
    forced = f"conflict: unable to delete {short(image_id)} (cannot be forced) - "
    must = f"conflict: unable to delete {short(image_id)} (must be forced) - "
    if store.children(database, image_id):
        raise Conflict(forced + "image has dependent child images")
    running = store.container_using(database, image_id, running=True)
    if running:
        raise _InUse(f"{forced}image is being used by running container {short(running)}")
    if soft and names_count and database_names(engine, image_id):
        raise Conflict(must + "image is referenced in multiple repositories")
    stopped = store.container_using(database, image_id, running=False) if soft else None
    if stopped:
        raise _InUse(f"{must}image is being used by stopped container {short(stopped)}")


def _delete(
    engine: "Engine", image_id: str, records: "Records", *, force: bool, prune: bool, quiet: bool
) -> "list[LayerRow]":
    database = engine.store
    dangling = not database_names(engine, image_id) and not store.children(database, image_id)
    try:
        _check(engine, image_id, soft=not force)
    except Conflict as conflict:
        if quiet and (not dangling or isinstance(conflict, _InUse)):
            return []
        raise
    row = store.get(database, image_id)
    _untag_all(engine, image_id, records)
    store.delete(database, image_id)
    layers = store.drop_unused_layers(database)
    events.record(database, "image", "delete", image_id, {"name": image_id})
    records.append({"Deleted": image_id})
    records += [{"Deleted": layer.chain_id} for layer in _top_first(layers)]
    if prune and row.parent and store.exists(database, row.parent):
        layers += _delete(engine, row.parent, records, force=False, prune=True, quiet=True)
    return layers


def _top_first(layers: "list[LayerRow]") -> "list[LayerRow]":
    """Layers in the order in which they come off: a layer before the one it stands on."""
    left = {layer.chain_id: layer for layer in layers}
    ordered: list[LayerRow] = []
    while left:
        parents = {layer.parent for layer in left.values()}
        tops = [layer for chain_id, layer in left.items() if chain_id not in parents]
        ordered += tops
        for layer in tops:
            del left[layer.chain_id]
    return ordered


def _discard(engine: "Engine", layers: "list[LayerRow]") -> None:
    """Remove the directories of layers that are forgotten, and the blobs that only they needed."""
    from service.content import blobs
    from service.content import layers as unpacked

    for layer in layers:
        unpacked.remove(engine.settings, layer.directory)
    needed = store.needed_blobs(engine.store)
    for digest in blobs.every(engine.settings):
        if digest not in needed and not blobs.is_fresh(engine.settings, digest):
            blobs.remove(engine.settings, digest)


def prune(engine: "Engine", filters: "Mapping[str, list[str]]") -> "tuple[Records, int]":
    """Remove the images that nothing names (all that no container uses, with dangling=false). Blocking.

    Docker's records, and the bytes of the layers removed. Raises InvalidParameter for a bad filter.
    """
    from service.engine.image_filters import boolean
    from service.moments import moment

    for key in filters:
        if key not in ("dangling", "label", "label!", "until"):
            raise InvalidParameter(f"invalid filter '{key}'")
    dangling = boolean(filters, "dangling") is not False
    if len(filters.get("until", ())) > 1:
        raise InvalidParameter("more than one until filter specified")
    until = moment(filters["until"][0]) if filters.get("until") else None
    with Lease(engine):
        records, freed = _pruned(engine, filters, dangling=dangling, until=until)
    with engine.store.write():
        events.record(engine.store, "image", "prune", "", {"reclaimed": str(freed)})
    bell.ring(engine.settings.bell)
    return records, freed


def _pruned(
    engine: "Engine", filters: "Mapping[str, list[str]]", *, dangling: bool, until: "int | None"
) -> "tuple[Records, int]":
    from service import jsontext
    from service.engine.image_filters import labels_match

    records: Records = []
    freed = 0
    for row in store.newest_first(engine.store):
        names = database_names(engine, row.id)
        if not names and (store.children(engine.store, row.id) or store.is_leased(engine.store, row.id)):
            continue  # intermediate; or a build goes on from it
        if until is not None and row.created_ns > until:
            continue
        labels = (jsontext.loads(row.config).get("config") or {}).get("Labels") or {}
        if not labels_match(filters.get("label", []), labels):
            continue
        if filters.get("label!") and any(labels_match([text], labels) for text in filters["label!"]):
            continue
        if dangling and any("@" not in name for name in names):
            continue
        for name in [familiar(name) for name in names] or [row.id.removeprefix("sha256:")]:
            try:
                removed, layers = _remove(engine, name, force=False, prune=True)
            except (Conflict, NotFound):
                continue  # used by a container, or gone meanwhile
            records += removed
            freed += sum(layer.size for layer in layers)
            _discard(engine, layers)
    return records, freed
