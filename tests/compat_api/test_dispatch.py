"""Answers in the event loop: whole, streamed, and for bodies that come in pieces."""

import hashlib
import os
import time
from collections.abc import Iterator

import pytest

from compat_api.params import BODY_LIMIT
from tests.support.wire import WireService, chunked, request

JSON = {"Content_Type": "application/json"}


@pytest.fixture(scope="module")
def service() -> Iterator[WireService]:
    with WireService() as running:
        yield running


def test_bodies_are_validated(service: WireService) -> None:
    answer = service.ask("POST /test/create", b'{"Name":"x","Size":3,"Unknown":1}', **JSON)
    assert (answer.status, answer.reason, answer.json) == (201, "Created", {"Name": "x", "Size": 3})
    answer = service.ask("POST /test/create", b'{"Size":"x"}', **JSON)
    assert answer.status == 400
    assert answer.json["message"].startswith(
        "invalid JSON: json: cannot unmarshal string into Go struct field Thing.Size"
    )


def test_bodies_that_are_not_json(service: WireService) -> None:
    answer = service.ask("POST /test/create", b"{}", Content_Type="text/plain")
    assert answer.json == {"message": "unsupported Content-Type header (text/plain): must be 'application/json'"}
    assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
    assert service.ask("POST /test/create").status == 201
    answer = service.ask("POST /test/must", **JSON)
    assert (answer.status, answer.json) == (400, {"message": "invalid JSON: got EOF while reading request body"})


def test_a_body_has_its_bound_and_the_connection_goes_on(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(request("POST /test/create", b" " * (BODY_LIMIT + 1), **JSON) + request("GET /_ping"))
        assert wire.answer().json == {"message": "http: request body too large"}
        assert wire.answer().body == b"OK"


def test_a_body_may_wait_for_100_continue(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(request("POST /test/create", **JSON, Content_Length="12", Expect="100-continue"))
        assert wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(b'{"Name":"x"}')
        assert wire.answer().status == 201


def test_contradicting_lengths_are_no_http(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(request("POST /test/create", b"0\r\n\r\n", Transfer_Encoding="chunked", Content_Length="5", **JSON))
        assert wire.rest().startswith(b"HTTP/1.1 400 ")
    with service.connect() as wire:
        wire.send(request("POST /test/create", b"zz\r\n{}", Transfer_Encoding="chunked", **JSON))
        assert wire.rest().startswith(b"HTTP/1.1 400 ")


def test_not_modified_has_neither_body_nor_type(service: WireService) -> None:
    answer = service.ask("POST /test/unchanged")
    assert (answer.status, answer.reason) == (304, "Not Modified")
    assert "content-type" not in answer.headers


def test_headers_reach_the_handler(service: WireService) -> None:
    assert service.ask("GET /test/later", X_Test="value").json == {"header": "value"}


def test_what_nobody_foresaw_names_no_file(service: WireService) -> None:
    service.ask("GET /test/later")
    answer = service.ask("GET /test/broken")
    assert answer.status == 500
    assert "/" not in answer.json["message"]
    assert "KeyError: '/a/secret/path'" in service.log()


@pytest.mark.parametrize("chunks", [False, True])
def test_an_upload_is_taken_as_it_comes(service: WireService, chunks: bool) -> None:
    data = os.urandom(3_000_000)
    with service.connect() as wire:
        if chunks:
            pieces = [data[at : at + 32768] for at in range(0, len(data), 32768)]
            wire.send(request("POST /test/upload", chunked(*pieces), Transfer_Encoding="chunked"))
        else:
            wire.send(request("POST /test/upload", data))
        assert wire.answer().json == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        wire.send(request("GET /_ping"))
        assert wire.answer().body == b"OK"


def test_a_stream_may_answer_while_its_body_arrives(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(request("POST /test/transform", Transfer_Encoding="chunked") + b"3\r\nabc\r\n")
        assert wire.head().headers["transfer-encoding"] == "chunked"
        assert wire.exactly(8) == b"3\r\nABC\r\n"
        wire.send(b"2\r\nde\r\n")
        assert wire.exactly(7) == b"2\r\nDE\r\n"
        wire.send(b"0\r\n\r\n")
        assert wire.exactly(5) == b"0\r\n\r\n"


def test_a_stream_whole(service: WireService) -> None:
    answer = service.ask("GET /v1.44/test/stream?count=5&size=1000")
    assert (answer.status, answer.body) == (200, b"x" * 5000)
    assert answer.headers["content-type"] == "application/vnd.docker.multiplexed-stream"
    answer = service.ask("GET /v1.40/test/stream?count=1&size=1")
    assert answer.headers["content-type"] == "application/vnd.docker.raw-stream"


def test_a_stream_waits_for_its_reader_and_ends_with_it(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(request("GET /test/stream?count=5000&size=65536"))
        assert wire.head().status == 200
        time.sleep(0.5)
        taken = service.seen()["pieces"]
        assert taken < 100, "300 MB are produced although nobody reads them"
    service.until_seen("stream closed", True)
    assert service.seen()["pieces"] < 200


def test_a_follower_that_leaves_is_noticed_though_nothing_happens(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(request("GET /test/follow?key=f"))
        assert wire.head().status == 200, "the header goes out before the first piece"
        service.until_seen("f", "following")
    service.until_seen("f", "left")


def test_sigterm_ends_followers() -> None:
    with WireService() as service, service.connect() as wire:
        wire.send(request("GET /test/follow?key=f"))
        assert wire.head().status == 200
        begun = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - begun < 60
        assert "Traceback" not in service.log(), service.log()
