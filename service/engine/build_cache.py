"""The cache of builds by BuildKit (API: BuildPrune), which is not served: there is never anything in it."""

from service import bell
from service.engine import events
from service.errors import InvalidParameter
from service.moments import moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.engine.engine import Engine

_FILTERS = ("description", "id", "inuse", "parent", "private", "shared", "type", "until", "unused-for")


def prune(engine: "Engine", filters: "Mapping[str, list[str]]") -> "tuple[list[str], int]":
    """Remove what the filters keep: (ids, bytes). Raises InvalidParameter in dockerd's words. Blocking."""
    for key, values in filters.items():
        if key not in _FILTERS:
            raise InvalidParameter(f"failed to prune build cache: invalid filter '{key}'")
        if key in ("until", "unused-for"):
            if len(values) > 1:
                raise InvalidParameter("failed to prune build cache: filters expect only one value")
            try:
                for text in values:
                    moment(text)
            except InvalidParameter as error:
                raise InvalidParameter(
                    f"failed to prune build cache: \"{key}\" filter expects a duration (e.g., '24h') or a timestamp: "
                    + error.message
                ) from None
    with engine.store.write():
        events.record(engine.store, "builder", "prune", "", {"reclaimed": "0"})
    bell.ring(engine.settings.bell)
    return [], 0
