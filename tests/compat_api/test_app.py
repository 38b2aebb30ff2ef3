"""The API's description, and the FastAPI application that owns it."""

import json
import os
from typing import Any

import pytest
from fastapi import FastAPI

from compat_api import app, operations
from compat_api.declaration import OPERATIONS
from tests.support.wire import PRODUCT, ROOT, WireService


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return app.document()


def test_the_description_in_the_tree_is_current(described: dict[str, Any]) -> None:
    with open(os.path.join(ROOT, "openapi", "openapi.json"), encoding="utf-8") as kept:
        assert json.load(kept) == described, "run: python -m compat_api.app > openapi/openapi.json"


def test_every_operation_is_described_once(described: dict[str, Any]) -> None:
    operations.load_all()
    told = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    declared = {(one.method, one.path.replace("*}", "}")) for one in OPERATIONS}
    assert told == declared
    names = [one["operationId"] for methods in described["paths"].values() for one in methods.values()]
    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    for reference in references(described):
        assert reference.removeprefix("#/components/schemas/") in described["components"]["schemas"], reference


def test_the_service_tells_it(described: dict[str, Any]) -> None:
    with WireService(service=PRODUCT) as service:
        assert service.ask("GET /openapi.json").json == described
        assert service.ask("POST /openapi.json").status == 404


def no_engine() -> Any:
    """For operations that need none."""
    raise AssertionError("made an engine")


@pytest.fixture(scope="module")
def application() -> FastAPI:
    return app.build(no_engine)


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/_ping", 200, b"OK"),
        ("GET", "/v1.44/_ping", 200, b"OK"),
        ("HEAD", "/_ping", 200, b""),
        (
            "GET",
            "/v1.99/_ping",
            400,
            b'{"message":"client version 1.99 is too new. Maximum supported API version is 1.55"}',
        ),
    ],
)
async def test_the_application_answers_as_the_service_does(
    application: FastAPI, method: str, path: str, status: int, body: bytes
) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "http_version": "1.1", "scheme": "http", "root_path": "", "method": method, "headers": []}
    await application({**scope, "path": path, "raw_path": path.encode(), "query_string": b""}, receive, send)
    assert (sent[0]["status"], sent[1]["body"].strip()) == (status, body)
