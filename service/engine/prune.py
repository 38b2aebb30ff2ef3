"""`container prune` (API: ContainerPrune)."""

import time

from service import bell, timestamps
from service.engine import events, remove
from service.engine.volumes import has_label
from service.errors import Conflict, InvalidParameter, NotFound
from service.kernel.tree import disk_usage
from service.store import containers as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.engine.engine import Engine


def containers(engine: "Engine", filters: "Mapping[str, list[str]]") -> tuple[list[str], int]:
    """Remove every container that is neither up nor restarting and that the filters keep. (ids, bytes). Blocking."""
    for key in filters:
        if key not in ("until", "label", "label!"):
            raise InvalidParameter(f"invalid filter '{key}'")
    until = moment(filters["until"][0]) if filters.get("until") else None
    gone, freed = [], 0
    for container in stored.newest_first(engine.store, ("created", "exited", "dead")):
        record = container["record"]
        labels = record["Config"]["Labels"] or {}
        if until is not None and timestamps.nanoseconds(record["Created"]) > until:
            continue
        if not all(has_label(labels, wanted) for wanted in filters.get("label", ())):
            continue
        if any(has_label(labels, unwanted) for unwanted in filters.get("label!", ())):
            continue
        size = disk_usage(engine.settings.container_root(record["Id"]) + "/diff")
        try:
            remove.remove(engine.settings, engine.store, record["Id"], anonymous_volumes=False)
        except (Conflict, NotFound):
            continue  # started or removed since we looked
        gone.append(record["Id"])
        freed += size
    with engine.store.write():
        events.record(engine.store, "container", "prune", "", {"reclaimed": str(freed)})
    bell.ring(engine.settings.bell)
    return gone, freed


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def moment(text: str) -> int:
    """Nanoseconds since 1970 of a `since` or `until`: Unix seconds, RFC 3339 (also without zone), or a Go duration ago.

    Raises InvalidParameter.
    """
    whole, dot, fraction = text.partition(".")
    if whole.lstrip("-").isdigit() and (not dot or fraction.isdigit()):
        return int(whole) * 1_000_000_000 + (int((fraction + "000000000")[:9]) if fraction else 0)
    ago = duration(text)
    if ago is not None:
        return int((time.time() - ago) * 1e9)
    for candidate in (text, text + "Z", text + ":00Z", text + "T00:00:00Z"):
        try:
            return timestamps.nanoseconds(candidate)
        except (ValueError, IndexError):
            continue
    raise InvalidParameter(f"failed to parse value as time or duration: {text!r}".replace("'", '"'))


def duration(text: str) -> "float | None":
    """The seconds that a Go duration such as "1h30m" spells; None when it is none."""
    total, rest = 0.0, text
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit = next((unit for unit in ("ms", "us", "µs", "ns", "h", "m", "s") if rest[digits:].startswith(unit)), "")
        if not digits or not unit or rest[:digits].count(".") > 1:
            return None
        total += float(rest[:digits]) * _UNITS[unit]
        rest = rest[digits + len(unit) :]
    return total if text else None
