"""DNS messages (RFC 1035) as far as a server for container names needs them. Pure: bytes in, bytes out.

A question is read strictly: one question, no compression in it. What is not a query we could answer is told apart by
`parse` returning None, and is passed on or dropped by the caller as it came.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

A, PTR, AAAA, OPT = 1, 12, 28, 41
OK, FORMAT_ERROR, SERVER_FAILURE, REFUSED = 0, 1, 2, 5
TTL = 600  # seconds; what dockerd says
_PLAIN_UDP = 512  # bytes of an answer to a client that does not say how much it takes (RFC 1035, 4.2.1)
_HEADER = 12


class Question:
    """What is asked. `name` is lower case, without the dot at its end."""

    __slots__ = ("kind", "message_id", "name", "raw", "recursion", "room")

    def __init__(self, message_id: bytes, name: str, kind: int, raw: bytes, recursion: int, room: int) -> None:
        self.message_id, self.name, self.kind = message_id, name, kind
        self.raw = raw  # the question section as it came: it is sent back to the letter
        self.recursion = recursion
        self.room = room  # bytes of an answer that the client takes by UDP


def parse(packet: bytes) -> "Question | None":
    """The question of a query; None for anything that is not one plain query."""
    if len(packet) < _HEADER or packet[2] & 0xF8 or packet[4:6] != b"\0\1" or packet[6:10] != b"\0\0\0\0":
        return None
    labels, at = [], _HEADER
    while True:
        if at >= len(packet):
            return None
        length = packet[at]
        if not length:
            break
        if length > 63 or at - _HEADER > 255:
            return None
        labels.append(packet[at + 1 : at + 1 + length])
        at += 1 + length
    end = at + 5
    if end > len(packet):
        return None
    kind, internet = packet[at + 1 : at + 3], packet[at + 3 : end]
    if internet not in (b"\0\1", b"\0\xff"):
        return None
    name = b".".join(labels).decode("utf-8", "surrogateescape").lower()
    room = _PLAIN_UDP
    if packet[10:12] == b"\0\1" and packet[end : end + 3] == b"\0\0\x29":  # EDNS: RFC 6891, 6.1.2
        room = max(room, int.from_bytes(packet[end + 3 : end + 5], "big"))
    return Question(packet[:2], name, int.from_bytes(kind, "big"), packet[_HEADER:end], packet[2] & 1, room)


def answer(question: Question, values: "Sequence[bytes]" = (), *, code: int = OK, room: int = 65535) -> bytes:
    """A reply with one record per value, each of the question's own kind.

    What does not fit into `room` is left out and the reply is marked as cut, so that the client asks again by TCP.
    """
    records = [
        b"\xc0\x0c" + question.kind.to_bytes(2, "big") + b"\0\1" + TTL.to_bytes(4, "big")
        + len(value).to_bytes(2, "big") + value
        for value in values
    ]  # fmt: skip
    size, fitting = _HEADER + len(question.raw), 0
    while fitting < len(records) and size + len(records[fitting]) <= room:
        size += len(records[fitting])
        fitting += 1
    cut = 2 if fitting < len(records) else 0
    recursion_to_be_had = 0 if code == SERVER_FAILURE else 0x80
    flags = bytes((0x80 | cut | question.recursion, recursion_to_be_had | code))
    counts = b"\0\1" + fitting.to_bytes(2, "big") + b"\0\0\0\0"
    return question.message_id + flags + counts + question.raw + b"".join(records[:fitting])


def encoded(name: str) -> bytes:
    """A name as the value of a PTR record."""
    labels = [label.encode("utf-8", "surrogateescape")[:63] for label in name.split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def address_of_reverse(name: str) -> str:
    """The address that a reverse name (`4.3.2.1.in-addr.arpa`, nibbles below `ip6.arpa`) means; "" when it is none.

    IPv6 in its full length, eight groups of four digits.
    """
    if name.endswith(".in-addr.arpa"):
        parts = name.removesuffix(".in-addr.arpa").split(".")
        return ".".join(reversed(parts)) if len(parts) == 4 else ""
    if name.endswith(".ip6.arpa"):
        digits = "".join(reversed(name.removesuffix(".ip6.arpa").split(".")))
        return ":".join(digits[at : at + 4] for at in range(0, 32, 4)) if len(digits) == 32 else ""
    return ""


def is_reply_to(packet: bytes, message_id: bytes, question: bytes) -> bool:
    """Whether a packet from a server answers our question: the same id, and the question to the letter."""
    return packet[:2] == message_id and len(packet) >= _HEADER and bool(packet[2] & 0x80) and (
        packet[_HEADER : _HEADER + len(question)].lower() == question.lower()
    )  # fmt: skip
