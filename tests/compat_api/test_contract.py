"""What is declared, and what is answered, beside Docker's own description of the API."""

import json

import pytest

from compat_api import operations
from compat_api.declaration import OPERATIONS
from tests.differential import documents, mistakes
from tests.differential.steps import CREATE, LAST, Step, delete
from tests.house.operations_table import shape
from tests.support import contract
from tests.support.instance import Instance
from tests.support.wire import Answer, Wire, request

NO_DESCRIPTION = "the API's description is not at hand"
CASES = list(dict.fromkeys((*documents.CASES, *mistakes.CASES)))


@pytest.fixture
def described() -> contract.Contract:
    known = contract.described()
    if known is None:
        pytest.skip(NO_DESCRIPTION)
    return known


def test_parameters(described: contract.Contract) -> None:
    """Every parameter of an operation that is served is declared, and no other."""
    operations.load_all()
    wanted = {(method, shape(path)): (path, said) for (method, path), said in described.operations().items()}
    wrong = []
    for declared in OPERATIONS:
        key = declared.method, shape(declared.path)
        if key not in wanted:
            if not described.allowed.reason(f"{declared.method} {declared.path}", "operation"):
                wrong.append(f"{declared.method} {declared.path} is not described")
            continue
        path, said = wanted[key]
        theirs = {one["name"] for one in said.get("parameters", ()) if one["in"] == "query"}
        ours = {one.name for one in declared.parameters.values() if one.source == "query"}
        wrong += [
            f"{declared.method} {path} | ?{name} | {'is not read' if name in theirs else 'is not described'}"
            for name in sorted(theirs ^ ours)
            if not described.allowed.reason(f"{declared.method} {path}", f"?{name}")
        ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("case", CASES)
def test_answers(moorage: Instance, described: contract.Contract, case: str) -> None:
    """The requests of the differential test, in the newest version; every exchange is looked up (tests/conftest.py)."""
    last = "none"
    for step in (*documents.CASES.get(case, ()), *mistakes.CASES.get(case, ())):
        answer = ask(moorage, step, last)
        if answer.status == 201 and answer.body:
            last = answer.json.get("Id") or answer.json["Name"]
            if step[1] == CREATE and case in mistakes.CASES:
                ask(moorage, delete(f"/containers/{last}?v=1"), last)


def test_as_docker_py_asks(moorage: Instance, described: contract.Contract) -> None:
    client = moorage.client()
    container = client.containers.run("busybox", ["sleep", "100"], detach=True)
    assert client.api.containers()[0]["Id"] == container.id
    assert client.api.images()[0]["RepoTags"] == ["busybox:latest"]
    assert container.exec_run(["echo", "x"]).output == b"x\n"
    assert container.diff() is None
    container.remove(force=True)


def ask(moorage: Instance, step: Step, last: str) -> Answer:
    method, path, body = step
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"connection": "close", **({"content-type": "application/json"} if body is not None else {})}
    with Wire(moorage.socket, timeout=60) as wire:
        wire.send(request(f"{method} {path.replace(LAST, last).replace(' ', '%20')}", data, **headers))
        return wire.answer(head_only=method == "HEAD")
