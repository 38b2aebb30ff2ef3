"""DNS messages: questions read strictly, answers that resolvers take, and nothing that a hostile packet can break."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.network import dns_message as dns


def query(name: str, kind: int = dns.A, *, identity: bytes = b"\x12\x34", room: int = 0) -> bytes:
    """A query as resolvers send it, with EDNS when `room` is given."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".") if label)
    extra = b"\0\0\x29" + room.to_bytes(2, "big") + b"\0\0\0\0\0\0" if room else b""
    counts = b"\0\1\0\0\0\0" + (b"\0\1" if room else b"\0\0")
    return identity + b"\1\0" + counts + labels + b"\0" + kind.to_bytes(2, "big") + b"\0\1" + extra


def parsed(packet: bytes) -> dns.Question:
    question = dns.parse(packet)
    assert question is not None
    return question


@pytest.mark.parametrize("name", ["web", "WEB", "a.b.example", "_srv._tcp.x", ""])
def test_a_question(name: str) -> None:
    question = parsed(query(name, dns.AAAA))
    assert (question.name, question.kind, question.recursion, question.room) == (name.lower(), dns.AAAA, 1, 512)
    assert parsed(query(name, room=4096)).room == 4096
    assert parsed(query(name, room=100)).room == 512


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\0" * 12,
        query("web")[:-1],
        query("web").replace(b"\1\0\0\1", b"\x81\0\0\1"),  # a reply
        query("web").replace(b"\1\0\0\1", b"\x29\0\0\1"),  # an update
        query("web").replace(b"\0\1\0\0\0\0\0\0", b"\0\2\0\0\0\0\0\0"),  # two questions
        query("web")[:12] + b"\xc0\x0c\0\1\0\1",  # a name that points to itself
    ],
)
def test_what_is_no_plain_question(packet: bytes) -> None:
    assert dns.parse(packet) is None


@given(st.binary(max_size=80))
@settings(max_examples=500)
def test_no_packet_breaks_the_reader(noise: bytes) -> None:
    dns.parse(noise)
    dns.parse(query("web")[:12] + noise)


def test_an_answer() -> None:
    said = dns.answer(parsed(query("wEb")), [b"\x0a\0\0\2", b"\x0a\0\0\3"])
    assert said[:12] == b"\x12\x34\x81\x80\0\1\0\2\0\0\0\0"
    assert said[12:21] == b"\3wEb\0\0\1\0\1"
    assert said[21:] == b"".join(b"\xc0\x0c\0\1\0\1\0\0\2\x58\0\4\x0a\0\0" + last for last in (b"\2", b"\3"))
    refused = dns.answer(parsed(query("web")), code=dns.REFUSED)
    assert refused[2:8] == b"\x81\x85\0\1\0\0"


def test_what_does_not_fit_is_cut_and_said_so() -> None:
    many = [bytes(4)] * 100
    said = dns.answer(parsed(query("web")), many, room=512)
    assert len(said) <= 512
    assert said[2] & 2, "the client must know that it has to ask by TCP"
    assert int.from_bytes(said[6:8], "big") == (512 - 21) // 16
    whole = dns.answer(parsed(query("web")), many)
    assert (int.from_bytes(whole[6:8], "big"), whole[2] & 2) == (100, 0)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("4.3.2.10.in-addr.arpa", "10.2.3.4"),
        ("3.2.10.in-addr.arpa", ""),
        ("1.0.0.0." + "0." * 20 + "8.b.d.0.1.0.0.2.ip6.arpa", "2001:0db8:0000:0000:0000:0000:0000:0001"),
        ("1.ip6.arpa", ""),
        ("web", ""),
    ],
)
def test_reverse_names(name: str, address: str) -> None:
    assert dns.address_of_reverse(name) == address


def test_only_the_reply_to_our_question_counts() -> None:
    question = parsed(query("web"))
    reply = dns.answer(question)
    assert dns.is_reply_to(reply, b"\x12\x34", question.raw)
    assert not dns.is_reply_to(reply, b"\x12\x35", question.raw), "somebody guesses ids"
    assert not dns.is_reply_to(dns.answer(parsed(query("wob"))), b"\x12\x34", question.raw), "another question's"
    assert not dns.is_reply_to(query("web"), b"\x12\x34", question.raw), "a query is no reply"
