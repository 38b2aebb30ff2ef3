"""/events."""

from compat_api.declaration import ApiVersion, Filters, Header, Text, get
from compat_api.reply import Stream
from compat_api.versions import apply, event_is_known, has

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.engine.engine import Engine
    from service.model.event import Event

# what a client may ask for by `Accept`, the first among equals
_FORMS = ("application/jsonl", "application/x-ndjson", "application/json-seq")


@get("/events")
async def system_events(
    engine: "Engine",
    since: str = Text(),
    until: str = Text(),
    filters: "dict[str, list[str]]" = Filters(),
    accept: str = Header(name="accept"),
    version: tuple[int, int] = ApiVersion(),
) -> Stream:
    """What happens, as it happens (API: SystemEvents)."""
    from service.engine import event_stream

    form = _asked_for(accept) or (_FORMS[0] if has("events as lines", version) else "application/json")
    found = event_stream.follow(engine, since, until, filters)
    start = b"\x1e" if form == "application/json-seq" else b""  # RFC 7464
    return Stream(_lines(found, version, start), content_type=form.encode())


def _asked_for(accept: str) -> str:
    """The one of our forms that an Accept header names with the highest weight; wildcards name none."""
    weights = {}
    for entry in accept.split(","):
        media_type, *parameters = (part.strip() for part in entry.split(";"))
        weight = next((p[2:] for p in parameters if p[:2] == "q="), "1")
        try:
            weights[media_type.lower()] = float(weight)
        except ValueError:
            continue
    named = [form for form in _FORMS if weights.get(form, 0) > 0]
    return max(named, key=lambda form: weights[form], default="")


async def _lines(found: "AsyncIterator[Event]", version: tuple[int, int], start: bytes) -> "AsyncIterator[bytes]":
    from compat_api.streams.jsonlines import line
    from service.engine.event_stream import message

    async for event in found:
        if event_is_known(event["Type"], event["Action"], version):
            yield start + line(apply("Event", message(event), version))
