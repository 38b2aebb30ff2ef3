"""Stage 0 and its hand-over to the event loop: each case begins with a process that has answered nothing yet."""

import os
import socket
import threading
import time
from collections.abc import Callable

import pytest

from compat_api.stage0 import read_request
from tests.support.wire import Answer, Wire, WireService, chunked, request

PING = request("HEAD /_ping")
LIST = request("GET /v1.41/test/short")
LARGE = request("GET /test/large")
START = request("POST /test/start", Content_Length="0")
LATER = request("GET /test/later")
CREATE = request("POST /test/create", b'{"Name":"x"}', Content_Type="application/json")
EXPECTED = {PING: 200, LIST: 200, LARGE: 200, START: 204, LATER: 200, CREATE: 201}


def exchange(wire: Wire, *requests: bytes, sent: bool = False) -> list[Answer]:
    """Send (all at once, unless it has been sent) and read each answer."""
    if not sent:
        wire.send(b"".join(requests))
    answers = [wire.answer(head_only=one is PING) for one in requests]
    assert [answer.status for answer in answers] == [EXPECTED[one] for one in requests]
    return answers


def in_the_loop(service: WireService) -> bool:
    """Whether the process has left stage 0: asyncio's C part is mapped then."""
    with open(f"/proc/{service.process.pid}/maps", encoding="utf-8") as maps:
        return "_asyncio" in maps.read()


def keep_alive(service: WireService) -> None:
    with service.connect() as wire:
        for one in (PING, LIST, START, LIST, CREATE, PING):
            exchange(wire, one)


def short_operations_stay_in_stage_0(service: WireService) -> None:
    with service.connect() as wire:
        exchange(wire, PING, LIST, LIST)
    answer = service.ask("GET /no/such/path")
    assert (answer.status, answer.json) == (404, {"message": "page not found"})
    assert service.ask("GET /v1.99/_ping").status == 400
    assert service.ask("GET /test/broken").status == 500
    assert not in_the_loop(service)
    service.ask("GET /test/later")
    assert in_the_loop(service)


def what_takes_long_is_left_to_a_thread_of_the_loop(service: WireService) -> None:
    assert service.ask("GET /test/weighed").json == {"thread": False}
    assert not in_the_loop(service)
    with service.connect() as slow:
        slow.send(request("GET /test/weighed?size=1"))
        while service.ask("GET /test/short").status == 200 and not in_the_loop(service):
            pass
        assert service.ask("GET /test/weights").status == 204  # answered while that one weighs
        assert slow.answer().json == {"thread": True}
    answer = service.ask("GET /test/weighed?size=1&missing=1")
    assert (answer.status, answer.json) == (404, {"message": "no such scales"})


def a_huge_answer_that_nobody_reads(service: WireService) -> None:
    with service.connect() as lazy:
        lazy.send(request("GET /test/huge") + PING)
        deadline = time.monotonic() + 20
        while not in_the_loop(service):  # which is to write the rest
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(lazy.answer().json) == 3000
        exchange(lazy, PING, sent=True)


def both_ways_answer_the_same(service: WireService) -> None:
    def told(line: str) -> tuple[int, str, dict[str, str], bytes]:
        answer = service.ask(line)
        answer.headers.pop("date")
        return answer.status, answer.reason, answer.headers, answer.body

    lines = ["GET /_ping", "HEAD /_ping", "GET /v1.30/test/short?limit=4", "GET /test/short?limit=x", "GET /nothing"]
    lines += ["GET /v1.99/_ping", "GET /v1.2/_ping", "GET /test/broken", "DELETE /_ping", "GET /test/a/named/b/c/end"]
    before = [told(line) for line in lines]
    assert not in_the_loop(service)
    service.ask("GET /test/later")
    assert [told(line) for line in lines] == before


def http_1_0(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(b"GET /_ping HTTP/1.0\r\n\r\n")
        assert wire.rest().endswith(b"\r\n\r\nOK")


def http_1_0_in_the_loop(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(b"POST /test/start HTTP/1.0\r\n\r\n")
        assert b" 204 " in wire.rest()


def close_when_asked(service: WireService) -> None:
    for line in ("GET /_ping", "GET /test/later"):
        with service.connect() as wire:
            wire.send(request(line, Connection="close"))
            assert wire.answer().headers["connection"] == "close"
            assert wire.rest() == b""


def head_in_two_parts(service: WireService) -> None:
    for cut in (1, 5, 12, len(PING) - 3, len(PING) - 1):
        with service.connect() as wire:
            wire.send(PING[:cut])
            time.sleep(0.01)
            wire.send(PING[cut:])
            exchange(wire, PING, sent=True)
            exchange(wire, LIST)


def byte_by_byte(service: WireService) -> None:
    with service.connect() as wire:
        for at in range(len(LIST)):
            wire.send(LIST[at : at + 1])
            time.sleep(0.002)
        exchange(wire, LIST, sent=True)


def pipelined(service: WireService) -> None:
    with service.connect() as wire:
        exchange(wire, PING, LIST, PING, START, LIST, CREATE, LATER, LIST)


def pipelined_and_cut(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(PING + LIST[:20])
        exchange(wire, PING, sent=True)
        time.sleep(0.2)
        wire.send(LIST[20:])
        exchange(wire, LIST, sent=True)


def body_first(service: WireService) -> None:
    with service.connect() as wire:
        exchange(wire, CREATE)
        exchange(wire, PING)


def body_in_two_parts(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(CREATE[:-10])
        time.sleep(0.1)
        wire.send(CREATE[-10:])
        exchange(wire, CREATE, sent=True)


def body_in_chunks(service: WireService) -> None:
    with service.connect() as wire:
        body = chunked(b'{"Na', b'me":"ch', b'unks"}')
        sent = request("POST /test/create", body, Content_Type="application/json", Transfer_Encoding="chunked")
        wire.send(sent + LIST)
        assert wire.answer().json["Name"] == "chunks"
        exchange(wire, LIST, sent=True)


def what_is_not_http(service: WireService) -> None:
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n"):
        with service.connect() as wire:
            wire.send(garbage)
            assert wire.rest().startswith(b"HTTP/1.1 400 Bad Request\r\n")


def bad_query(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(request("GET /test/short?limit=x"))
        answer = wire.answer()
        assert (answer.status, answer.json) == (400, {"message": 'strconv.Atoi: parsing "x": invalid syntax'})
        wire.send(
            request("GET /test/short?limit=3&all=1&filters=%7B%22status%22%3A%5B%22running%22%5D%7D&name=a&name=b")
        )
        assert wire.answer().json == {
            "limit": 3,
            "all": True,
            "filters": {"status": ["running"]},
            "name": ["a", "b"],
        }


def many_at_once(service: WireService) -> None:
    """Twelve clients: four at once, the rest while the loop is imported; one is silent, one leaves."""
    failed: list[str] = []

    def client(number: int) -> None:
        try:
            time.sleep(0 if number < 4 else number * 0.012)
            with service.connect() as wire:
                if number == 5:
                    return
                if number == 6:
                    time.sleep(0.5)
                for _ in range(3):
                    exchange(wire, (PING, LIST, START, CREATE)[number % 4])
        except Exception as error:
            failed.append(f"{number}: {error!r}")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


def half_closed(service: WireService) -> None:
    for one in (PING, LIST, LATER, CREATE):
        with service.connect() as wire:
            wire.send(one)
            wire.socket.shutdown(socket.SHUT_WR)
            exchange(wire, one, sent=True)
            assert wire.rest() == b""


def half_closed_while_waiting(service: WireService) -> None:
    with service.connect() as wire:
        wire.send(request("GET /test/later?ms=200") + request("GET /test/later?ms=1"))
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.answer().status == 200
        assert wire.answer().status == 200
        assert wire.rest() == b""


def slow_reader(service: WireService) -> None:
    """Pipelined lists that nobody reads: the send buffer fills in stage 0, and the loop writes the rest."""
    with service.connect() as wire:
        count = 150
        sender = threading.Thread(target=wire.send, args=(LARGE * count,))
        sender.start()
        time.sleep(0.5)
        bodies = {answer.body for answer in exchange(wire, *[LARGE] * count, sent=True)}
        sender.join()
        assert len(bodies) == 1
    assert in_the_loop(service)


def leaves_at_once(service: WireService) -> None:
    service.connect().socket.close()
    time.sleep(0.1)
    with service.connect() as wire:
        exchange(wire, PING)


def sigterm(service: WireService) -> None:
    with service.connect() as kept:
        exchange(kept, PING)
        assert service.stop() == 0
        assert kept.rest() == b""
    assert not os.path.exists(service.path)


CASES = [
    keep_alive,
    short_operations_stay_in_stage_0,
    what_takes_long_is_left_to_a_thread_of_the_loop,
    a_huge_answer_that_nobody_reads,
    both_ways_answer_the_same,
    http_1_0,
    http_1_0_in_the_loop,
    close_when_asked,
    head_in_two_parts,
    byte_by_byte,
    pipelined,
    pipelined_and_cut,
    body_first,
    body_in_two_parts,
    body_in_chunks,
    what_is_not_http,
    bad_query,
    many_at_once,
    half_closed,
    half_closed_while_waiting,
    slow_reader,
    leaves_at_once,
    sigterm,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_hand_over(case: Callable[[WireService], None]) -> None:
    with WireService() as service:
        case(service)


def test_a_huge_answer_to_who_reads_it_needs_no_loop() -> None:
    for _ in range(5):  # a machine with much else to do may keep us from reading
        with WireService() as service:
            assert len(service.ask("GET /test/huge").json) == 3000
            if not in_the_loop(service):
                return
    pytest.fail("the loop was called for each time")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /_ping HTTP/1.1\r\nHost: d\r\n",  # not complete
        b"GET /_ping HTTP/2.0\r\n\r\n",
        b"BREW /_ping HTTP/1.1\r\n\r\n",
        b"GET  /_ping HTTP/1.1\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nX : blank\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nA: 1\r\n folded\r\n\r\n",
        b"POST /_ping HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /_ping HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
        b"GET http://d/_ping HTTP/1.1\r\n\r\n",
        b"GET /_ping%zz HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_not_wholly_understood_is_left_to_the_loop(head: bytes) -> None:
    assert read_request(head) is None


def test_a_request_is_taken_exactly() -> None:
    read = read_request(b"GET /v1.44/x%2Fy?a=1 HTTP/1.1\r\nHost: d\r\nX-A: b c \r\n\r\nGET")
    assert read is not None
    assert (read.method, read.path, read.query, read.keep_alive) == ("GET", "/v1.44/x/y", b"a=1", True)
    assert (read.length, read.headers) == (53, {b"host": b"d", b"x-a": b"b c"})
