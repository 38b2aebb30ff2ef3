"""`container prune` (API: ContainerPrune), and the rule that prunes do not run side by side."""

import _thread

from service import bell, timestamps
from service.engine import events, remove
from service.engine.volumes import has_label
from service.errors import Conflict, InvalidParameter, NotFound
from service.kernel.tree import disk_usage
from service.moments import moment
from service.store import containers as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from service.engine.engine import Engine

    Result = TypeVar("Result")


def alone(engine: "Engine", kind: str, work: "Callable[..., Result]", *arguments: object) -> "Result":
    """Do `work(*arguments)`, unless a prune of that kind is under way: then raise Conflict, as dockerd does. Blocking.

    Kinds: `container` (networks too, as in dockerd), `image`, `volume`.
    """
    lock = engine.prunes.setdefault(kind, _thread.allocate_lock())
    if not lock.acquire(blocking=False):
        raise Conflict("a prune operation is already running")
    try:
        return work(*arguments)
    finally:
        lock.release()


def containers(engine: "Engine", filters: "Mapping[str, list[str]]") -> tuple[list[str], int]:
    """Remove every container that is neither up nor restarting and that the filters keep. (ids, bytes). Blocking."""
    for key in filters:
        if key not in ("until", "label", "label!"):
            raise InvalidParameter(f"invalid filter '{key}'")
    if len(filters.get("until", ())) > 1:
        raise InvalidParameter("more than one until filter specified")
    until = moment(filters["until"][0]) if filters.get("until") else None
    gone, freed = [], 0
    for container in stored.newest_first(engine.store, ("created", "exited", "dead")):
        record = container["record"]
        labels = record["Config"]["Labels"] or {}
        if until is not None and timestamps.nanoseconds(record["Created"]) > until:
            continue
        if not all(has_label(labels, wanted) for wanted in filters.get("label", ())):
            continue
        if filters.get("label!") and all(has_label(labels, unwanted) for unwanted in filters["label!"]):
            continue
        size = disk_usage(engine.settings.container_root(record["Id"]) + "/diff")
        try:
            remove.remove(engine.settings, engine.store, record["Id"], record["Id"], anonymous_volumes=False)
        except (Conflict, NotFound):
            continue  # started or removed since we looked
        gone.append(record["Id"])
        freed += size
    with engine.store.write():
        events.record(engine.store, "container", "prune", "", {"reclaimed": str(freed)})
    bell.ring(engine.settings.bell)
    return gone, freed
