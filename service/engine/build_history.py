"""Finished builds: what was asked for, how it ended, what was said meanwhile.

A record is written when its build ends, its blobs before it, so a record never refers to what was not there. Clients
list and remove them (`docker buildx history`). Kept as by BuildKit: the newest `ENTRIES` always, others for
`SECONDS`; and never more than `MOST` and `BYTES`. What is pinned stays.
"""

import dataclasses
import re
import time

from service import jsontext
from service.content import build_records
from service.errors import InvalidParameter, NotFound
from service.moments import duration, moment
from service.store import build_history as rows
from service.store import images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from service.engine.engine import Engine

    Test = Callable[["Record"], bool]

ENTRIES, SECONDS = 50, 48 * 3600  # buildkit: solver/llbsolver/history
MOST, BYTES = 1000, 256 << 20  # records, and bytes of their blobs
RUNNING, COMPLETED, ERROR, CANCELED = "running", "completed", "error", "canceled"
_OPERATORS = re.compile(r"(.+?)(>=|<=|==|!=|~=|>|<)(.*)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Blob:
    """What a record refers to."""

    media_type: str
    digest: str
    size: int
    annotations: "Mapping[str, str]" = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Record:
    """One build. Times in nanoseconds since 1970; `completed_ns` is 0 while it goes on."""

    ref: str
    created_ns: int
    completed_ns: int = 0
    frontend: str = ""
    attributes: "Mapping[str, str]" = dataclasses.field(default_factory=dict)  # the frontend's options
    outputs: "Sequence[tuple[str, Mapping[str, str]]]" = ()  # the exporters: type and attributes
    response: "Mapping[str, str]" = dataclasses.field(default_factory=dict)  # what the exporters said
    failure: "tuple[int, str] | None" = None  # gRPC's status, and the message
    steps: int = 0
    completed_steps: int = 0
    cached_steps: int = 0
    warnings: int = 0
    logs: "Blob | None" = None  # the progress
    error: "Blob | None" = None  # the failure with all its details
    attestations: "Sequence[Blob]" = ()  # what it was made of
    results: "dict[str, Blob]" = dataclasses.field(default_factory=dict)  # by the number of the output
    pinned: bool = False

    @property
    def status(self) -> str:
        """How it stands, in the words of filters."""
        if not self.completed_ns:
            return RUNNING
        if self.failure is None:
            return COMPLETED
        return CANCELED if "context canceled" in self.failure[1] else ERROR

    @property
    def repository(self) -> str:
        """Where its context comes from: what the client says of its working copy, or a context that is a repository."""
        told = self.attributes.get("vcs:source")
        if told is not None:
            return told
        context = self.attributes.get("context", "")
        return context.partition("#")[0] if re.match(r"git://|git@|[a-z]+://.*\.git(#|$)", context) else ""

    def blobs(self) -> "list[Blob]":
        """All that it refers to and that is kept for it."""
        return [blob for blob in (self.logs, self.error, *self.attestations) if blob is not None]


def blob(engine: "Engine", media_type: str, content: bytes, annotations: "Mapping[str, str] | None" = None) -> Blob:
    """Keep something that a record is about to refer to. Blocking."""
    digest = build_records.put(engine.settings.build_records, content)
    return Blob(media_type, digest, len(content), annotations or {})


def keep(engine: "Engine", record: Record) -> None:
    """Keep a finished build, whose blobs are there already; the oldest ones make room. Blocking."""
    text = jsontext.dumps(dataclasses.asdict(record))
    found = record.blobs()
    size = sum(each.size for each in found)
    row = rows.HistoryRow(record.ref, record.created_ns, record.completed_ns, int(record.pinned), size, text)
    with engine.store.write(durable=False):
        rows.put(engine.store, row, (each.digest for each in found))
        surplus = _surplus(rows.weights(engine.store))
        for ref in surplus:
            rows.remove(engine.store, ref)
    if surplus:
        sweep(engine)


def _surplus(weights: "list[tuple[str, int, int]]") -> list[str]:
    oldest, total, surplus = time.time_ns() - SECONDS * 10**9, 0, []
    for number, (ref, completed_ns, size) in enumerate(weights):
        total += size
        if (number >= ENTRIES and completed_ns < oldest) or number >= MOST or total > BYTES:
            surplus.append(ref)
    return surplus


def sweep(engine: "Engine") -> None:
    """Remove blobs that no record needs. Blocking."""
    build_records.sweep(engine.settings.build_records, rows.blobs(engine.store))


def records(engine: "Engine") -> list[Record]:
    """All of them, the one that ended last first. Blocking."""
    return [_record(row) for row in rows.newest_first(engine.store)]


def find(engine: "Engine", ref: str) -> "Record | None":
    """One by its name. Blocking."""
    row = rows.get(engine.store, ref)
    return _record(row) if row is not None else None


def _record(row: rows.HistoryRow) -> Record:
    known: dict[str, Any] = jsontext.loads(row.record)
    known["pinned"] = row.pinned
    for name in ("logs", "error"):
        known[name] = Blob(**known[name]) if known[name] else None
    known["attestations"] = [Blob(**each) for each in known["attestations"]]
    known["results"] = {name: Blob(**each) for name, each in known["results"].items()}
    known["failure"] = tuple(known["failure"]) if known["failure"] else None
    return Record(**known)


def remove(engine: "Engine", ref: str) -> None:
    """Forget one. Raises NotFound in BuildKit's words. Blocking."""
    with engine.store.write():
        found = rows.remove(engine.store, ref)
    if not found:
        raise NotFound(f'lease "ref_{ref}": not found')
    sweep(engine)


def pin(engine: "Engine", ref: str, *, pinned: bool) -> None:
    """Have one stay, or not any more. Raises NotFound. Blocking."""
    with engine.store.write():
        if not rows.pin(engine.store, ref, pinned):
            raise NotFound(f"failed to retrieve ref {ref}: file does not exist")


def content(engine: "Engine", digest: str) -> bytes:
    """A blob of a record, or the configuration of an image that a build has made. Raises NotFound. Blocking."""
    if rows.has_blob(engine.store, digest):
        return build_records.read(engine.settings.build_records, digest)
    if not images.exists(engine.store, digest):
        raise NotFound(f"content {digest}: not found")
    return images.get(engine.store, digest).config.encode()


# ── which of them ────────────────────────────────────────────────────────────────────────────────────────────────────


def matching(filters: "Sequence[str]") -> "Test":
    """A test for filters such as `status==error,startedAt>=1h`: any of them must fit, in all its parts; none is all.

    Raises InvalidParameter for one that cannot be read.
    """
    any_of = [[_condition(part.strip()) for part in _parts(text)] for text in filters if text]
    return lambda record: not any_of or any(all(test(record) for test in tests) for tests in any_of)


def _parts(text: str) -> "list[str]":
    """The fields of a line of CSV. Raises InvalidParameter."""
    import csv

    try:
        return next(iter(csv.reader([text], strict=True)), [])
    except csv.Error as error:
        raise InvalidParameter(f"parse error: [{text}]: {error}") from None


def _condition(text: str) -> "Test":
    parts = _OPERATORS.fullmatch(text)
    if parts is None:
        if not re.fullmatch(r"\w+", text):
            raise InvalidParameter(f"failed to parse history filters {[text]}: parse error")
        return lambda record: bool(_texts(record).get(text))
    name, operator, wanted = parts[1], parts[2], parts[3].strip("\"'")
    if name in ("startedAt", "completedAt", "duration"):
        return _timed(name, operator, wanted)
    if operator in ("<", "<=", ">", ">="):
        raise InvalidParameter(f"failed to parse history filters {[text]}: unsupported operator {operator!r}")
    if operator == "~=":
        try:
            pattern = re.compile(wanted)
        except re.error as error:
            raise InvalidParameter(f"failed to parse history filters {[text]}: {error}") from None
        return lambda record: pattern.search(_texts(record).get(name, "")) is not None
    return lambda record: (_texts(record).get(name, "") == wanted) is (operator == "==")


def _texts(record: Record) -> "dict[str, str]":
    return {"ref": record.ref, "status": record.status, "repository": record.repository}


def _timed(name: str, operator: str, wanted: str) -> "Test":
    if operator not in ("<", "<=", ">", ">="):
        raise InvalidParameter(f"invalid separator for {name}: {operator}, expected <=, <, >= or >")
    if name == "duration":
        limit = duration(wanted)
        if limit is None:
            raise InvalidParameter(f"invalid duration {wanted}")
    else:
        try:
            limit = moment(wanted) // 10**9  # BuildKit compares seconds
        except InvalidParameter:
            raise InvalidParameter(f"invalid time {wanted}") from None

    def value(record: Record) -> int:
        if name == "startedAt":
            return record.created_ns // 10**9
        if name == "completedAt":
            return record.completed_ns // 10**9
        return record.completed_ns - record.created_ns if record.completed_ns else 0

    return {
        "<": lambda record: value(record) < limit,
        "<=": lambda record: value(record) <= limit,
        ">": lambda record: value(record) > limit,
        ">=": lambda record: value(record) >= limit,
    }[operator]
