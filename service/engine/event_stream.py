"""Following events (API: SystemEvents): first those of the past that were asked for, then each as it is committed."""

import time

from service.engine.bell_watch import changes
from service.engine.volumes import has_label
from service.errors import InvalidParameter, MoorageError
from service.moments import moment
from service.store import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from typing import Any

    from service.engine.engine import Engine
    from service.model.event import Event

# filters by the beginning of an object's id or name, whatever the object is (moby: daemon/events/filter.go)
_NAMING = ("config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume")
_WITH_DETAILS = ("exec_create", "exec_start", "health_status")  # actions that go on behind a colon


def follow(engine: "Engine", since: str, until: str, filters: "Mapping[str, list[str]]") -> "AsyncIterator[Event]":
    """The events that the filters keep. Raises InvalidParameter now; nothing is raised once it is iterated.

    What is past is told where `since` or `until` asks for it. An unknown filter keeps everything, as with dockerd.
    """
    since_ns, until_ns = _moment(since), _moment(until)
    if since_ns is not None and until_ns is not None and until_ns < since_ns:
        raise InvalidParameter(f"`since` time ({since}) cannot be after `until` time ({until})")
    start = events.last(engine.store) if since_ns is None and until_ns is None else 0
    return _follow(engine, start, since_ns or 0, until_ns, filters)


def _moment(text: str) -> "int | None":
    if text[:1] == "-" and text[1:].isdigit():
        return int(text) * 1_000_000_000  # before 1970: what `since` asks for is everything
    try:
        return moment(text) if text else None
    except InvalidParameter:
        raise InvalidParameter(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


async def _follow(
    engine: "Engine", seen: int, since_ns: int, until_ns: "int | None", filters: "Mapping[str, list[str]]"
) -> "AsyncIterator[Event]":
    watch = changes(engine)
    engine.followers += 1
    try:
        while True:
            rung = watch.listen()
            try:
                while batch := events.after(engine.store, seen, since_ns):
                    for event in batch:
                        seen = event["seq"]
                        if until_ns is not None and event["time_ns"] > until_ns:
                            return
                        if _wanted(event, filters):
                            yield event
                if until_ns is None:
                    await rung
                    continue
                left = until_ns / 1e9 - time.time()
                if left <= 0:
                    return
                import asyncio

                await asyncio.wait((rung,), timeout=left)
            finally:
                rung.cancel()
    finally:
        engine.followers -= 1


def _wanted(event: "Event", filters: "Mapping[str, list[str]]") -> bool:
    """Whether all filters keep the event; of one filter, any value may."""
    actor, attributes = event["Actor"]["ID"], event["Actor"]["Attributes"]
    name = attributes.get("name", "")
    if filters.get("type") and event["Type"] not in filters["type"]:
        return False
    if filters.get("event") and not _acts(event["Action"], filters["event"]):
        return False
    if filters.get("scope") and "local" not in filters["scope"]:
        return False
    if not all(has_label(attributes, label) for label in filters.get("label", ())):
        return False
    for kind in _NAMING:
        if filters.get(kind) and not any(actor.startswith(text) or name.startswith(text) for text in filters[kind]):
            return False
    return not filters.get("image") or _shows(event, filters["image"])


def _acts(action: str, wanted: "list[str]") -> bool:
    if any(text in _WITH_DETAILS for text in wanted):
        return any(action.startswith(text) for text in wanted)
    return action in wanted


def _shows(event: "Event", images: "list[str]") -> bool:
    """Whether an event is of one of these images, or of a container made from one: by id or name, the tag left out or
    not."""
    actor, attributes = event["Actor"]["ID"], event["Actor"]["Attributes"]
    shown = (actor, attributes.get("name" if event["Type"] == "image" else "image", ""))
    return any(text in images or _without_tag(text) in images for text in shown if text)


def _without_tag(image: str) -> str:
    from service.content import reference

    try:
        return reference.parse(image).familiar_repository
    except MoorageError:
        return image


def message(event: "Event") -> "dict[str, Any]":
    """API: EventMessage, with the keys of API versions before 1.52 (status, id, from)."""
    older: dict[str, Any] = {}
    actor = event["Actor"]
    if event["Type"] in ("container", "image"):
        older = {"status": event["Action"], "id": actor["ID"]}
        if event["Type"] == "container":
            older["from"] = actor["Attributes"].get("image", "")
    return {
        **older,
        "Type": event["Type"],
        "Action": event["Action"],
        "Actor": actor,
        "scope": "local",
        "time": event["time_ns"] // 1_000_000_000,
        "timeNano": event["time_ns"],
    }
