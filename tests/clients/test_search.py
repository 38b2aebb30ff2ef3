"""`docker search` against an index that the test makes: docker-registry has none, and no Docker Hub is to be had."""

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.instance import Instance
from tests.support.ports import free_port
from tests.support.registry import PASSWORD, USER
from tests.support.wire import Wire, request


class Index(http.server.ThreadingHTTPServer):
    """The search half of Docker's first registry protocol; `status` and `content` replace its answers."""

    daemon_threads = True
    KNOWN = (
        {
            "name": "moles/burrow",
            "description": "a burrow",
            "star_count": 7,
            "is_official": False,
            "is_automated": True,
        },
        {"name": "burrow", "description": "the burrow", "star_count": 90, "is_official": True},
        {"name": "moles/tunnel", "description": None, "star_count": 0, "is_official": False},
    )

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        self.seen: list[tuple[str, dict[str, list[str]], str]] = []
        self.status, self.content = 200, b""
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        index: Any = self.server
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        index.seen.append((parts.path, query, self.headers.get("Authorization", "")))
        found = [known for known in Index.KNOWN if query.get("q", [""])[0] in str(known["name"])]
        content = index.content or json.dumps({"results": found[: int(query.get("n", ["25"])[0])]}).encode()
        if parts.path == "/v1/_ping":
            content = b"true"
        self.send_response(index.status if parts.path == "/v1/search" else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the test's own output."""


@pytest.fixture
def index() -> Iterator[Index]:
    made = Index()
    yield made
    made.shutdown()
    made.server_close()


def ask(moorage: Instance, query: str, credentials: "dict[str, str] | None" = None) -> Any:
    headers = {}
    if credentials:
        headers["X-Registry-Auth"] = base64.urlsafe_b64encode(json.dumps(credentials).encode()).decode()
    with Wire(moorage.socket) as wire:
        wire.send(request(f"GET /v1.45/images/search?{query}", connection="close", **headers))
        return wire.answer()


def test_docker_search(moorage: Instance, index: Index) -> None:
    lines = moorage.docker("search", "--no-trunc", f"{index.address}/burrow").stdout.splitlines()
    assert lines[0].split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
    assert [line.split()[0] for line in lines[1:]] == ["moles/burrow", "burrow"]
    assert "[OK]" in lines[2]
    assert index.seen[-1][:2] == ("/v1/search", {"q": ["burrow"], "n": ["25"]})


def test_limit_and_filters(moorage: Instance, index: Index) -> None:
    term = f"term={index.address}/burrow"
    assert len(ask(moorage, f"{term}&limit=1").json) == 1
    for filters, names in (
        ({"is-official": ["true"]}, ["burrow"]),
        ({"stars": ["8"]}, ["burrow"]),
        ({"stars": ["7"]}, ["moles/burrow", "burrow"]),
        ({"is-automated": ["true"]}, []),
    ):
        found = ask(moorage, f"{term}&filters={json.dumps(filters, separators=(',', ':'))}").json
        assert [one["name"] for one in found] == names
        assert not any(one["is_automated"] for one in found)


def test_credentials_go_along(moorage: Instance, index: Index) -> None:
    ask(moorage, f"term={index.address}/tunnel", {"username": USER, "password": PASSWORD})
    assert index.seen[-1][2] == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    ask(moorage, f"term={index.address}/tunnel")
    assert index.seen[-1][2] == ""


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (404, b"no", "Unexpected status code 404"),
        (200, b"<html>", "error decoding registry search results"),
        (200, b"[]", "error decoding registry search results"),
        (200, b'{"results": [1]}', "error decoding registry search results"),
        (200, b'{"results": [{"star_count": "many"}]}', "error decoding registry search results"),
    ],
)
def test_an_index_that_answers_nonsense(
    moorage: Instance, index: Index, status: int, content: bytes, message: str
) -> None:
    index.status, index.content = status, content
    answer = ask(moorage, f"term={index.address}/burrow")
    assert (answer.status, answer.json) == (500, {"message": message})


def test_nobody_there(moorage: Instance) -> None:
    port = free_port()
    answer = ask(moorage, f"term=127.0.0.1:{port}/burrow")
    assert answer.status == 400
    assert f"invalid registry endpoint https://127.0.0.1:{port}/v1/" in answer.json["message"]
    assert "connection refused" in answer.json["message"]
