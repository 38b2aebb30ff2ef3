"""The same requests to dockerd and to moorage: the same statuses, sentences and documents.

Identifiers, times, addresses and paths are masked. Each remaining difference stands in openapi/DIFFERENCES.md with its
reason; a row there that no longer differs fails as well. dockerd before 25 worded many messages differently and had
other fields: there, only whether a request is accepted is compared, and not where it took what later ones refuse.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from compat_api import operations
from tests.differential import documents, mistakes, sameness
from tests.differential.dockerd import Dockerd, Unavailable
from tests.differential.steps import CREATE, LAST, Step, delete, shown
from tests.support import image
from tests.support.differences import Rows
from tests.support.instance import Instance
from tests.support.wire import Answer, Wire, request

WORDED_ALIKE_SINCE = 25
VERSIONS = ("1.24", "1.45")  # the oldest, and the newest of dockerd 26 …
BETWEEN = ("1.41", "1.44")  # … and what clients ask for on their way, for one case of each resource
ONE_OF_EACH = (
    "a plain container",
    "exec sessions",
    "what images are",
    "what networks are",
    "what volumes are",
    "the engine",
)
DOCUMENTS = [
    *((case, version) for case in documents.CASES for version in VERSIONS),
    *((case, version) for case in ONE_OF_EACH for version in BETWEEN),
]
# What dockerd before 25 took and refused as later ones do; in the other cases it took more, with all that follows.
AGELESS = (
    *("paths", "create: names", "create: health checks", "create: limits", "create: security", "create: ports"),
    *("create: names of hosts", "what is not there", "exec", "rename", "links", "queries", "logs", "volumes", "images"),
    *("no swarm", "no plugins", "a plain container", "a terminal", "a process", "a command as text", "limits"),
    *(
        "nothing but an image",
        "capabilities and options",
        "privileged",
        "namespaces of the host",
        "no network",
        "names",
    ),
    *("policies", "a health check", "mounts", "ports", "exits", "what volumes are", "what images are", "the engine"),
)

answers, fields = Rows("Answers"), Rows("Documents")
asked: set[tuple[str, str]] = set()  # (case, version) that have been compared


class Side:
    """One of the two engines that are asked."""

    def __init__(self, socket: str, *, described: bool = False) -> None:
        self.socket, self.described, self.last = socket, described, "none"

    def ask(self, version: str, step: Step, kind: str = "application/json") -> Answer:
        method, path, body = step
        path = path.replace(LAST, self.last).replace(" ", "%20")
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"connection": "close", **({"content-type": kind} if body is not None else {})}
        with Wire(self.socket, timeout=60, described=self.described) as wire:
            wire.send(request(f"{method} {version}{path}", data, **headers))
            answer = wire.answer(head_only=method == "HEAD")
        if answer.status == 201 and answer.body:
            made = answer.json
            self.last = made.get("Id") or made["Name"]
        return answer


@pytest.fixture(scope="module")
def reference() -> Iterator[Dockerd]:
    try:
        with Dockerd() as dockerd:
            if not dockerd.given:
                with open(image.busybox(), "rb") as archive:
                    said = Side(dockerd.socket).ask("", ("POST", "/images/load", archive.read()), "application/x-tar")
                assert said.status == 200, said.body
            yield dockerd
    except Unavailable as reason:
        pytest.skip(str(reason))


def compare(moorage: Instance, reference: Dockerd, case: str, steps: list[Step], version: str) -> list[str]:
    """What differs without a row, one entry per difference."""
    worded = reference.version()[0] >= WORDED_ALIKE_SINCE
    if not worded and case not in AGELESS:
        pytest.skip("dockerd of that age took more")
    theirs, ours = Side(reference.socket), Side(moorage.socket, described=True)
    wrong = []
    with ThreadPoolExecutor(2) as both:
        for step in steps:
            one, other = both.map(lambda side, step=step: side.ask(f"/v{version}", step), (theirs, ours))
            if step[1] == CREATE:
                for side, answer in ((theirs, one), (ours, other)):
                    if answer.status == 201 and case in mistakes.CASES:
                        side.ask("", delete(f"/containers/{side.last}?v=1"))
            wrong += (differing if worded else accepted)(case, step, one, other)
    asked.add((case, version))
    return [f"v{version} {line}" for line in wrong]


def accepted(case: str, step: Step, theirs: Answer, ours: Answer) -> list[str]:
    """For a dockerd of another age: whether both accept the request."""
    if (theirs.status < 400) == (ours.status < 400) or answers.reason(case, shown(step)):
        return []
    return [_told(case, step, theirs, ours)]


def differing(case: str, step: Step, theirs: Answer, ours: Answer) -> list[str]:
    """What differs between two answers and stands in no row."""
    said = [sameness.sentence(answer) for answer in (theirs, ours)]
    statuses = f"{theirs.status} → {ours.status}"
    if statuses != f"{theirs.status} → {theirs.status}" and said[0] == said[1] and answers.reason("*", statuses):
        return []
    if theirs.status != ours.status or said[0] != said[1]:
        return [] if answers.reason(case, shown(step)) else [_told(case, step, theirs, ours)]
    operation = _operation(step)
    found = [
        *sameness.differences(sameness.headers(theirs), sameness.headers(ours)),
        *sameness.differences(sameness.document(theirs), sameness.document(ours)),
    ]
    return [
        f"{case}: {shown(step)}\n  {operation} | {path}\n    dockerd  {_short(one)}\n    moorage  {_short(other)}"
        for path, one, other in found
        if not fields.reason(operation, path)
    ]


def _told(case: str, step: Step, theirs: Answer, ours: Answer) -> str:
    lines = (f"  {name}  {a.status} {sameness.sentence(a)}" for name, a in (("dockerd", theirs), ("moorage", ours)))
    return f"{case} | {shown(step)}\n" + "\n".join(lines)


def _operation(step: Step) -> str:
    found = operations.find(step[0], step[1].partition("?")[0])
    return f"{step[0]} {found[0].path.replace('*}', '}') if found else step[1]}"


def _short(value: Any) -> str:
    text = "absent" if value is ... else json.dumps(value)
    return text if len(text) < 300 else text[:300] + " …"


@pytest.mark.parametrize("case", mistakes.CASES)
def test_the_same_mistakes(moorage: Instance, reference: Dockerd, case: str) -> None:
    wrong = compare(moorage, reference, case, mistakes.CASES[case], reference.version()[1])
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("case", "version"), DOCUMENTS)
def test_the_same_documents(moorage: Instance, reference: Dockerd, case: str, version: str) -> None:
    if _number(version) > _number(reference.version()[1]):
        pytest.skip(f"the reference does not speak {version}")
    wrong = compare(moorage, reference, case, documents.CASES[case], version)
    assert not wrong, "\n".join(wrong)


def test_no_row_is_stale(reference: Dockerd) -> None:
    wanted = {(case, reference.version()[1]) for case in mistakes.CASES}
    wanted |= {*DOCUMENTS}
    if reference.version()[0] < WORDED_ALIKE_SINCE or not wanted <= asked:
        pytest.skip("only after all cases, against a dockerd that words its answers as ours")
    stale = [*answers.stale(), *fields.stale()]
    assert not stale, "these rows of openapi/DIFFERENCES.md differ no longer:\n" + "\n".join(stale)


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
