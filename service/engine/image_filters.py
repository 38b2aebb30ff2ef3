"""Which images a list or a prune is about: Docker's image filters."""

from service.content.reference import DEFAULT_DOMAIN, familiar
from service.errors import InvalidParameter
from service.patterns import glob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.engine.engine import Engine
    from service.store.images import ImageRow

_KNOWN = ("before", "dangling", "label", "reference", "since", "until")


class Selection:
    """The filters of one list, read and checked."""

    def __init__(self, engine: "Engine", filters: "Mapping[str, list[str]]", *, all: bool = False) -> None:
        from service.engine.images import find
        from service.moments import moment
        from service.store import images

        for name in filters:
            if name not in _KNOWN:
                raise InvalidParameter(f"invalid filter '{name}'")
        self.all = all
        self.dangling = boolean(filters, "dangling")
        try:
            self.patterns = [(glob(pattern), pattern) for pattern in filters.get("reference", ())]
        except ValueError as error:
            raise InvalidParameter(str(error)) from None
        self.labels = filters.get("label", [])
        self.before_ns = self.since_ns = -1
        for name in filters.get("before", ()):
            created = find(engine, name).row.created_ns
            self.before_ns = created if self.before_ns < 0 else min(created, self.before_ns)
        for value in filters.get("until", ()):
            limit = moment(value)
            self.before_ns = limit if self.before_ns < 0 else min(limit, self.before_ns)
        for name in filters.get("since", ()):
            self.since_ns = max(self.since_ns, find(engine, name).row.created_ns)
        # an image that another was made from is intermediate: shown by `all`, never by `dangling`
        self.parents = {row.parent for row in images.newest_first(engine.store) if row.parent}

    def names(
        self, row: "ImageRow", tags: "list[str]", digests: "list[str]", labels: "Mapping[str, str] | None"
    ) -> "tuple[list[str], list[str]] | None":
        """The canonical tags and digests to show for an image, or None when it is filtered out."""
        if self.before_ns >= 0 and row.created_ns >= self.before_ns:
            return None
        if self.since_ns >= 0 and row.created_ns <= self.since_ns:
            return None
        if not labels_match(self.labels, labels or {}):
            return None
        if self.dangling and row.id in self.parents:
            return None
        if self.patterns:
            tags = [name for name in tags if self._named(name)]
            digests = [name for name in digests if self._named(name)]
        if not tags and not digests:
            if (row.id in self.parents and not self.all) or self.dangling is False or self.patterns:
                return None
        elif self.dangling and tags:
            return None
        return tags, digests

    def _named(self, name: str) -> bool:
        repository = name.partition("@")[0] if "@" in name else name.rpartition(":")[0]
        short, whole = (familiar(name), familiar(repository)), (name, repository)
        return any(
            pattern.matches(target)
            for pattern, text in self.patterns
            for target in (whole if text.startswith(f"{DEFAULT_DOMAIN}/") else short)
        )


def boolean(filters: "Mapping[str, list[str]]", name: str) -> "bool | None":
    """A filter that takes true or false, and not both; None when it is not given. Raises InvalidParameter."""
    values = filters.get(name)
    if not values:
        return None
    true, false = bool({"1", "true"} & {*values}), bool({"0", "false"} & {*values})
    if true == false:
        raise InvalidParameter(f"invalid filter '{name}=[{' '.join(values)}]'")
    return true


def labels_match(wanted: "list[str]", labels: "Mapping[str, str]") -> bool:
    """Whether every `key` or `key=value` is there."""
    for text in wanted:
        key, equals, value = text.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True
