"""nfnetlink: looking at nftables and changing the elements of its sets and maps, without the `nft` program.

Measured: one element in or out takes 0.1 to 0.3 ms this way, 4 ms by running `nft`. Whole tables are rare and are left
to `nft -f` (`network.rules`): its language is readable, and atomic too. Formats: linux/netfilter/nf_tables.h.
"""

import struct

from service.kernel.netlink import (
    CREATE,
    NETLINK_NETFILTER,
    Channel,
    Message,
    attribute,
    attributes,
    nested,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

INET, IPV4, IPV6 = 1, 2, 10  # NFPROTO_…
_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GET_TABLE, _GET_CHAIN, _GET_RULE, _NEW_ELEMENT, _GET_ELEMENT, _DELETE_ELEMENT = 1, 4, 7, 12, 13, 14
_BATCH_BEGIN, _BATCH_END = 16, 17


def channel() -> Channel:
    """A channel to nfnetlink in this namespace."""
    return Channel(NETLINK_NETFILTER)


def _header(family: int, resource: int = 0) -> bytes:
    return struct.pack(">BBH", family, 0, resource)  # struct nfgenmsg


class Element:
    """One element of a set, or of a map when `data` is given. Bytes as the kernel keeps them: fields padded to four."""

    __slots__ = ("data", "key", "set")

    def __init__(self, set: str, key: bytes, data: bytes = b"") -> None:
        self.set, self.key, self.data = set, key, data

    def encode(self, family: int, table: str) -> bytes:
        """The body of a message about this element."""
        inner = nested(1, attribute(1, self.key))  # NFTA_SET_ELEM_KEY { NFTA_DATA_VALUE }
        if self.data:
            inner += nested(2, attribute(1, self.data))  # NFTA_SET_ELEM_DATA
        return _header(family) + text(1, table) + text(2, self.set) + nested(3, nested(1, inner))


def _batch(family: int, table: str, kind: int, elements: "Sequence[Element]", flags: int) -> None:
    with channel() as nf:
        sent = [nf.encode(_BATCH_BEGIN, 0, _header(0, 10))]
        waiting = {}
        for element in elements:
            message = Message(_SUBSYSTEM | kind, flags, element.encode(family, table))
            sent.append(nf.encode(message.kind, flags | 4, message.body))
            waiting[nf.sequence] = message
        sent.append(nf.encode(_BATCH_END, 0, _header(0, 10)))
        nf.send(b"".join(sent))
        nf.collect(waiting)


def add_elements(family: int, table: str, elements: "Sequence[Element]") -> None:
    """Add all the elements, or none. An element that is there already is fine, unless it maps to something else.

    Raises FileNotFoundError when the table or the set is missing, OSError otherwise.
    """
    if elements:
        _batch(family, table, _NEW_ELEMENT, elements, CREATE)


def delete_elements(family: int, table: str, elements: "Sequence[Element]") -> None:
    """Take the elements out; those that are missing (or whose table is) are fine. Raises OSError otherwise."""
    if not elements:
        return
    keys = [Element(element.set, element.key) for element in elements]
    try:
        _batch(family, table, _DELETE_ELEMENT, keys, 0)
    except FileNotFoundError:
        if len(keys) > 1:  # one missing element undoes the batch: each by itself then
            for key in keys:
                delete_elements(family, table, [key])


def has_element(nf: Channel, family: int, table: str, element: Element) -> bool:
    """Whether the table has the element."""
    body = Element(element.set, element.key).encode(family, table)
    return nf.ask(_SUBSYSTEM | _GET_ELEMENT, body) is not None


def rules(nf: Channel, family: int, table: str, chain: str = "") -> "list[bytes]":
    """The rules of a table, or of one of its chains, as the kernel encodes them. Empty when there is no such table."""
    body = _header(family) + text(1, table) + (text(2, chain) if chain else b"")
    found = []
    for answer in nf.dump(_SUBSYSTEM | _GET_RULE, body):
        known = attributes(answer, 4)
        if known[1].rstrip(b"\0") == table.encode() and (not chain or known[2].rstrip(b"\0") == chain.encode()):
            found.append(answer)
    return found


def compares(rule: bytes, name: str) -> bool:
    """Whether a rule (as `rules` gives it) compares something with a name, as the name of an interface."""
    return attribute(1, name.encode() + b"\0")[2:] in rule  # NFTA_DATA_VALUE; its length says how much is compared


def chain_policy(nf: Channel, family: int, table: str, chain: str) -> "int | None":
    """The policy of a base chain (0 drop, 1 accept); None when there is no such chain, or it is no base chain."""
    answer = nf.ask(_SUBSYSTEM | _GET_CHAIN, _header(family) + text(1, table) + text(3, chain))
    if answer is None:
        return None
    policy = attributes(answer, 4).get(5)  # NFTA_CHAIN_POLICY
    return struct.unpack(">I", policy)[0] if policy else None


def has_chain(nf: Channel, family: int, table: str, chain: str) -> bool:
    """Whether there is such a chain."""
    return nf.ask(_SUBSYSTEM | _GET_CHAIN, _header(family) + text(1, table) + text(3, chain)) is not None
