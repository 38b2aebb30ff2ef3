"""Following events (API: SystemEvents): first those of the past that were asked for, then each as it is committed."""

import time

from service.engine.bell_watch import changes
from service.engine.volumes import has_label
from service.errors import InvalidParameter
from service.moments import moment
from service.store import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from typing import Any

    from service.engine.engine import Engine
    from service.model.event import Event

_KINDS = (
    "builder", "config", "container", "daemon", "image", "network", "node", "plugin", "secret", "service", "volume",
)  # fmt: skip
_NAMED_BY = {"container": "name", "image": "name", "network": "name"}  # the attribute that a filter by name looks at


def follow(engine: "Engine", since: str, until: str, filters: "Mapping[str, list[str]]") -> "AsyncIterator[Event]":
    """The events that the filters keep; filters with names that mean nothing keep all, as dockerd's do.

    Raises InvalidParameter now; nothing is raised once it is iterated.
    """
    since_ns = _moment(since) if since else None
    until_ns = _moment(until) if until else None
    if since_ns is not None and until_ns is not None and until_ns < since_ns:
        raise InvalidParameter(f"`since` time ({since}) cannot be after `until` time ({until})")
    start = 0 if since_ns is not None else events.last(engine.store)
    return _follow(engine, start, since_ns or 0, until_ns, filters)


def _moment(text: str) -> int:
    try:
        return moment(text)
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


def _wanted(event: "Event", filters: "Mapping[str, Sequence[str]]") -> bool:
    attributes = event["Actor"]["Attributes"]
    if filters.get("type") and event["Type"] not in filters["type"]:
        return False
    if filters.get("event") and not any(
        event["Action"] == action or event["Action"].startswith(action + ":") for action in filters["event"]
    ):
        return False
    if filters.get("scope") and "local" not in filters["scope"]:
        return False
    if not all(has_label(attributes, label) for label in filters.get("label", ())):
        return False
    kinds = [kind for kind in _KINDS if filters.get(kind)]
    return not kinds or any(_names(event, kind, filters[kind]) for kind in kinds)


def _names(event: "Event", kind: str, wanted: "Sequence[str]") -> bool:
    """Whether the event's object is of this kind and one of `wanted` names it (id, beginning of an id, or name)."""
    actor, attributes = event["Actor"]["ID"], event["Actor"]["Attributes"]
    if event["Type"] != kind:
        return (
            kind in ("container", "image")
            and event["Type"] in ("network", "volume", "container")
            and (attributes.get(kind, "") in wanted)
        )
    name = attributes.get(_NAMED_BY.get(kind, ""), "")
    bare = name.partition(":")[0]
    return any(text in (actor, name, bare) or (text and actor.startswith(text)) for text in wanted)


async def lines_of(found: "AsyncIterator[Event]") -> "AsyncIterator[bytes]":
    """One JSON object per event and line, with the keys of API versions before 1.52 (status, id, from)."""
    from service import jsontext

    async for event in found:
        yield jsontext.dump_bytes(message(event)) + b"\n"


def message(event: "Event") -> "dict[str, Any]":
    """API: EventMessage."""
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


def lines(engine: "Engine", since: str, until: str, filters: "Mapping[str, list[str]]") -> "AsyncIterator[bytes]":
    """`follow`, as lines. Raises InvalidParameter now."""
    return lines_of(follow(engine, since, until, filters))
