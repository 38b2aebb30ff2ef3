"""What builds keep for later ones: layers of steps, cache mounts, copies of clients' directories.

`buildx du` and `prune`, and the API's BuildPrune and the build cache of SystemDataUsage, show and remove the same.
"""

import re
import time

from service import bell, timestamps
from service.content import mirror
from service.engine import events, solve_cache
from service.errors import InvalidParameter
from service.moments import moment
from service.store import build_cache as rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.engine.engine import Engine

    Test = Callable[["Record"], bool]

every = all  # `all` is what the API calls an option
_PASSED_OVER = ("label", "label!")  # what is kept has no labels; `docker system prune` gives its filters to everything
_FILTERS = ("description", "id", "inuse", "parent", "private", "shared", "type", "until", "unused-for")


class Record:
    """One thing that is kept. `size`: bytes that its removal gives back; `shared`: an image has it, too."""

    def __init__(self, row: rows.CacheRow, *, in_use: bool, shared: bool) -> None:
        self.row, self.in_use, self.shared = row, in_use, shared
        self.id, self.type, self.description, self.size = row.id, row.type, row.description, row.size
        self.created_ns, self.used_ns, self.uses = row.created_ns, row.used_ns, row.uses
        self.parents: tuple[str, ...] = ()
        self.mutable = row.type != rows.STEP


def records(engine: "Engine") -> list[Record]:
    """Everything that is kept, what was used last at the end. Blocking."""
    shared = rows.image_chains(engine.store)
    kept = rows.least_recently_used_first(engine.store)
    by_chain = {row.chain_id: row.id for row in kept if row.chain_id}
    found = []
    for row in kept:
        record = Record(row, in_use=solve_cache.is_used(engine, row), shared=row.chain_id in shared)
        if row.parent in by_chain:
            record.parents = (by_chain[row.parent],)
        found.append(record)
    for copy in mirror.usage(engine.settings.mirrors):
        row = rows.CacheRow(copy.id, "", rows.LOCAL, description=f"local source for {copy.name}", size=copy.size)
        row.created_ns, row.used_ns, row.uses = int(copy.created * 1e9), int(copy.used * 1e9), copy.uses
        found.append(Record(row, in_use=copy.in_use, shared=False))
    return sorted(found, key=lambda record: record.used_ns)


def remove(
    engine: "Engine", wanted: "Test", *, shared: bool = True, keep_bytes: int = 0, keep_ns: int = 0
) -> list[Record]:
    """Remove what `wanted` says and nobody uses; which were removed. Blocking.

    `shared`: also what an image has as well. `keep_bytes`: so much may stay, of what was used last; `keep_ns`: what was
    used within that time stays.
    """
    found, now = records(engine), time.time_ns()
    total = sum(record.size for record in found)
    gone: list[Record] = []
    for record in found:
        if keep_bytes and total <= keep_bytes:
            break
        young = keep_ns and now - record.used_ns < keep_ns
        if record.in_use or young or (record.shared and not shared) or not wanted(record):
            continue
        gone.append(record)
        total -= record.size
    removed_rows = {row.id for row in solve_cache.remove(engine, [one.row for one in gone if one.row.key])}
    removed = [
        one
        for one in gone
        if one.id in removed_rows or (not one.row.key and mirror.remove(engine.settings.mirrors, one.id))
    ]
    with engine.store.write():
        reclaimed = str(sum(record.size for record in removed))
        events.record(engine.store, "builder", "prune", "", {"reclaimed": reclaimed})
    bell.ring(engine.settings.bell)
    return removed


def prune(
    engine: "Engine", filters: "Mapping[str, list[str]]", *, all: bool, keep_bytes: int
) -> "tuple[list[str], int]":
    """API: BuildPrune: (ids, bytes) of what was removed. Raises InvalidParameter in dockerd's words. Blocking."""
    keep_ns = 0
    conditions = []
    for key, values in filters.items():
        if key not in _FILTERS + _PASSED_OVER:
            raise InvalidParameter(f"failed to prune build cache: invalid filter '{key}'")
        if key in _PASSED_OVER:
            continue
        if len(values) > 1:
            raise InvalidParameter("failed to prune build cache: filters expect only one value")
        if key in ("until", "unused-for"):
            keep_ns = _age(key, values[0]) if values else 0
            continue
        conditions.append(matching([f"{key}=={''.join(values)}" if key in _TEXTS else key]))
    gone = remove(
        engine,
        lambda record: every(fits(record) for fits in conditions),
        shared=all,
        keep_bytes=keep_bytes,
        keep_ns=keep_ns,
    )
    return [record.id for record in gone], sum(record.size for record in gone)


def _age(key: str, text: str) -> int:
    try:
        return max(0, time.time_ns() - moment(text))
    except InvalidParameter as error:
        raise InvalidParameter(
            f"failed to prune build cache: \"{key}\" filter expects a duration (e.g., '24h') or a timestamp: "
            + error.message
        ) from None


def describe(engine: "Engine") -> "list[dict[str, object]]":
    """API: the build cache of SystemDataUsage. Blocking."""
    return [
        {
            "ID": record.id,
            "Parents": list(record.parents),
            "Type": record.type,
            "Description": record.description,
            "InUse": record.in_use,
            "Shared": record.shared,
            "Size": record.size,
            "CreatedAt": timestamps.rfc3339(record.created_ns),
            "LastUsedAt": timestamps.rfc3339(record.used_ns),
            "UsageCount": record.uses,
        }
        for record in records(engine)
    ]


_TEXTS: "dict[str, Callable[[Record], str]]" = {
    "id": lambda record: record.id,
    "type": lambda record: record.type,
    "description": lambda record: record.description,
    "parent": lambda record: ";".join(record.parents),
    "parents": lambda record: ";".join(record.parents),
}
_TRUTHS: "dict[str, Test]" = {
    "inuse": lambda record: record.in_use,
    "mutable": lambda record: record.mutable,
    "immutable": lambda record: not record.mutable,
    "shared": lambda record: record.shared,
    "private": lambda record: not record.shared,
}


def matching(filters: "Sequence[str]") -> "Test":
    """A test for containerd's filters (`type==regular,inuse`): any of them must fit; none is all.

    Raises InvalidParameter for one that cannot be read.
    """
    any_of = [[_condition(part.strip()) for part in text.split(",")] for text in filters if text]
    return lambda record: not any_of or any(every(test(record) for test in tests) for tests in any_of)


def _condition(text: str) -> "Test":
    parts = re.fullmatch(r"([a-z]+)(?:(==|!=|~=)(.*))?", text, re.DOTALL)
    if parts is None:
        raise InvalidParameter(f"parse error: [{text}]")
    name, operator, wanted = parts[1], parts[2], (parts[3] or "").strip("\"'")
    truth, value = _TRUTHS.get(name), _TEXTS.get(name)
    if truth is not None:
        if operator is None:
            return truth
        return lambda record: (str(truth(record)).lower() == wanted) is (operator != "!=")
    if value is None:
        return lambda _record: False
    if operator is None:
        return lambda record: bool(value(record))
    if operator == "~=":
        return lambda record: wanted in value(record)
    return lambda record: (value(record) == wanted) is (operator == "==")
