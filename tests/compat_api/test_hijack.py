"""Connections taken over from HTTP, byte by byte on raw sockets."""

import socket
import time
from collections.abc import Iterator

import pytest

from tests.support.wire import WireService, chunked, request

UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
RAW = "application/vnd.docker.raw-stream"
END = b"\x02\0\0\0\0\0\0\x03end"


def out(data: bytes) -> bytes:
    """`data` as a frame of stdout, spelled here without the code under test."""
    return b"\x01\0\0\0" + len(data).to_bytes(4, "big") + data


@pytest.fixture(scope="module")
def service() -> Iterator[WireService]:
    with WireService() as running:
        yield running


def test_upgraded(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(request("POST /v1.44/test/echo", **UPGRADE))
        head = wire.head()
        assert (head.status, head.reason) == (101, "UPGRADED")
        assert head.headers["connection"] == "Upgrade"
        assert head.headers["upgrade"] == "tcp"
        assert head.headers["content-type"] == MULTIPLEXED
        assert head.headers["api-version"] == "1.55"
        wire.send(b"one")
        assert wire.exactly(11) == out(b"one")
        wire.send(b"two")
        assert wire.exactly(11) == out(b"two")
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.rest() == END


def test_streams_had_one_content_type_before_1_42(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(request("POST /v1.41/test/echo", **UPGRADE))
        assert wire.head().headers["content-type"] == RAW


def test_without_upgrade(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(request("POST /test/echo"))
        head = wire.head()
        assert (head.status, head.reason, head.headers["content-type"]) == (200, "OK", RAW)
        assert "transfer-encoding" not in head.headers
        assert "content-length" not in head.headers
        wire.send(b"one")
        assert wire.exactly(11) == out(b"one")
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.rest() == END


@pytest.mark.parametrize("headers", [{}, UPGRADE], ids=["plain", "upgrade"])
@pytest.mark.parametrize("early", [b"typed early\n", b"GET /test/seen HTTP/1.1\r\n\r\n", b"\0" * 300_000])
def test_bytes_in_the_segment_of_the_head_are_stdin(
    service: WireService, headers: dict[str, str], early: bytes
) -> None:
    with service.connect() as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        wire.send(request("POST /test/body-echo", **headers) + early)
        assert wire.head().status in (101, 200)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.rest() == b"|" + early + b"|end"


@pytest.mark.parametrize("headers", [{}, UPGRADE], ids=["plain", "upgrade"])
@pytest.mark.parametrize("chunks", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("cut", [1, 40, 10_000], ids=["byte by byte", "pieces", "at once"])
def test_a_json_body_never_becomes_stdin(service: WireService, headers: dict[str, str], chunks: bool, cut: int) -> None:
    body, stdin = b'{"Name": "the body"}', b"stdin\0bytes"
    headers = {**headers, "Content_Type": "application/json"}
    if chunks:
        wire_bytes = request(
            "POST /test/body-echo", chunked(body[:7], body[7:]), **headers, Transfer_Encoding="chunked"
        )
    else:
        wire_bytes = request("POST /test/body-echo", body, **headers)
    wire_bytes += stdin
    with service.connect() as wire:
        for at in range(0, len(wire_bytes), cut):
            wire.send(wire_bytes[at : at + cut])
            if cut == 1:
                time.sleep(0.0002)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.head().status in (101, 200)
        assert wire.rest() == b"the body|" + stdin + b"|end"


def test_a_body_that_the_operation_does_not_know_is_consumed_as_well(service: WireService) -> None:
    """dockerode sends its options as JSON to attach."""
    with service.connect() as wire:
        wire.send(request("POST /test/echo", b'{"stream":true}', Content_Type="application/json", **UPGRADE) + b"in")
        assert wire.head().status == 101
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.rest() == out(b"in") + END


@pytest.mark.parametrize("headers", [{}, UPGRADE], ids=["plain", "upgrade"])
def test_a_refused_hijack_closes_and_reads_no_request_out_of_stdin(
    service: WireService, headers: dict[str, str]
) -> None:
    with service.connect() as wire:
        wire.send(request("POST /test/refuse", **headers) + request("POST /test/go"))
        answer = wire.answer()
        assert (answer.status, answer.json) == (404, {"message": "No such container: x"})
        assert answer.headers["connection"] == "close"
        assert wire.rest() == b""
    assert service.seen().get("sink") != "go"


def test_a_keep_alive_connection_may_end_in_a_hijack(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(request("GET /_ping"))
        assert wire.answer().body == b"OK"
        wire.send(request("GET /test/later") + request("POST /test/echo", **UPGRADE) + b"x")
        assert wire.answer().status == 200
        assert wire.head().status == 101
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.rest() == out(b"x") + END


def test_output_waits_for_a_slow_client(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(request("POST /test/flood?mib=32", **UPGRADE))
        wire.head()
        service.until_seen("flooded", service.seen().get("flooded"))
        time.sleep(0.3)
        stalled = service.seen()["flooded"]
        assert stalled < 64, "4 MiB were taken in although the client does not read"
        assert wire.rest() == b"y" * (32 << 20)


def test_input_waits_for_a_slow_handler(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(request("POST /test/sink", **UPGRADE))
        wire.head()
        wire.socket.setblocking(False)
        taken = 0
        end = time.monotonic() + 1
        while time.monotonic() < end:
            try:
                taken += wire.socket.send(b"z" * 65536)
            except BlockingIOError:
                time.sleep(0.01)
        assert taken < 2 << 20, "the service takes in what nobody reads"
        wire.socket.settimeout(10)
        service.ask("POST /test/go")
        wire.send(b"z" * 1_000_000)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.rest() == b"%d" % (taken + 1_000_000)


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_client_that_leaves_a_silent_container_is_noticed(service: WireService, half_closed: bool) -> None:
    key = f"silent-{half_closed}"
    with service.connect() as wire:
        wire.send(request(f"POST /test/silent?key={key}", **UPGRADE))
        wire.head()
        service.until_seen(key, "attached")
        if half_closed:
            wire.socket.shutdown(socket.SHUT_WR)
            time.sleep(0.1)
            assert service.seen()[key] == "attached", "half-closed is not gone"
    service.until_seen(key, "left")


def test_the_header_is_sent_before_the_handler_has_anything_to_say(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(request("POST /test/silent?key=header", **UPGRADE))
        assert wire.head().status == 101
        assert wire.received == b""


def test_sigterm_ends_hijacks_and_finishes_requests() -> None:
    with WireService() as service, service.connect() as held, service.connect() as asking:
        held.send(request("POST /test/silent?key=x", **UPGRADE))
        assert held.head().status == 101
        asking.send(request("GET /test/later?ms=600"))
        time.sleep(0.2)
        assert service.stop() == 0
        assert asking.answer().status == 200
        assert held.rest() == b""
