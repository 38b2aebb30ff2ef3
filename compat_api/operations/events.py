"""/events."""

from compat_api.declaration import Filters, Text, get
from compat_api.reply import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.engine.engine import Engine


@get("/events")
async def system_events(
    engine: "Engine", since: str = Text(), until: str = Text(), filters: "dict[str, list[str]]" = Filters()
) -> Stream:
    """What happens, as it happens (API: SystemEvents)."""
    from service.engine import event_stream

    return Stream(event_stream.lines(engine, since, until, filters))
