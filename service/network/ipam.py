"""Addresses: which subnet a network gets, which address an endpoint gets. Pure; the store makes the choice hold.

Numbers instead of the `ipaddress` module, which costs a cold process 7 ms. Docker's default pools:
https://docs.docker.com/engine/network/#automatic-subnet-allocation
"""

import _socket

from service.errors import Forbidden, InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_FAMILIES = {32: _socket.AF_INET, 128: _socket.AF_INET6}
DEFAULT_POOLS = (
    "172.17.0.0/16/16,172.18.0.0/16/16,172.19.0.0/16/16,172.20.0.0/14/16,172.24.0.0/14/16,172.28.0.0/14/16,"
    "192.168.0.0/16/20"
)


class Subnet:
    """A range of addresses: `base` as a number, `prefix` its fixed bits, of `bits` (32 or 128)."""

    __slots__ = ("base", "bits", "prefix")

    def __init__(self, base: int, prefix: int, bits: int = 32) -> None:
        self.base, self.prefix, self.bits = base, prefix, bits

    def __str__(self) -> str:
        return f"{address_text(self.base, self.bits)}/{self.prefix}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subnet) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash((self.base, self.prefix, self.bits))

    @property
    def last(self) -> int:
        """The highest address (IPv4: the broadcast address)."""
        return self.base | ((1 << (self.bits - self.prefix)) - 1)

    @property
    def reserved(self) -> "set[int]":
        """The addresses that nobody may have: the network's own, and IPv4's broadcast address, where it has such."""
        if self.prefix >= self.bits - 1:
            return set()
        return {self.base, self.last} if self.bits == 32 else {self.base}

    def contains(self, address: int) -> bool:
        """Whether a number is one of these addresses."""
        return self.base <= address <= self.last

    def overlaps(self, other: "Subnet") -> bool:
        """Whether the two share an address."""
        return self.bits == other.bits and self.base <= other.last and other.base <= self.last


def parse_address(text: str) -> "tuple[int, int]":
    """An address as a number and its size in bits (32 or 128). Raises ValueError."""
    bits = 128 if ":" in text else 32
    try:
        return int.from_bytes(_socket.inet_pton(_FAMILIES[bits], text), "big"), bits
    except OSError:
        raise ValueError(f"not an IP address: {text!r}") from None


def address_text(number: int, bits: int = 32) -> str:
    """A number as an address."""
    return _socket.inet_ntop(_FAMILIES[bits], number.to_bytes(bits // 8, "big"))


def packed(text: str) -> bytes:
    """An address as the kernel wants it: 4 or 16 bytes. Raises ValueError."""
    number, bits = parse_address(text)
    return number.to_bytes(bits // 8, "big")


def parse_subnet(text: str) -> Subnet:
    """ "10.1.2.0/24"; host bits are dropped, as Docker does for what it stores. Raises ValueError."""
    address, slash, length = text.partition("/")
    number, bits = parse_address(address)
    if not slash or not length.isdigit() or int(length) > bits:
        raise ValueError(f"invalid CIDR address: {text}")
    prefix = int(length)
    return Subnet(number >> (bits - prefix) << (bits - prefix), prefix, bits)


def pools(text: str, bits: int = 32) -> "Iterator[Subnet]":
    """The subnets that a list of pools gives, in order: "10.10.0.0/16/24" is 256 subnets of /24. Raises ValueError.

    `bits`: of the family that is wanted; pools of the other one are passed over.
    """
    for pool in text.split(","):
        if not pool.strip():
            continue
        whole, _, size = pool.strip().rpartition("/")
        outer, prefix = parse_subnet(whole), int(size)
        if not outer.prefix <= prefix <= outer.bits:
            raise ValueError(f"invalid pool: {pool}")
        for base in () if outer.bits != bits else range(outer.base, outer.last + 1, 1 << (outer.bits - prefix)):
            yield Subnet(base, prefix, outer.bits)


def choose_subnet(candidates: "Iterable[Subnet]", used: "Collection[Subnet]") -> Subnet:
    """The first candidate that overlaps nothing in use. Raises InvalidParameter when there is none."""
    for candidate in candidates:
        if not any(candidate.overlaps(other) for other in used):
            return candidate
    raise InvalidParameter("all predefined address pools have been fully subnetted")


def lowest_free(subnet: Subnet, taken: "Collection[int]", within: "Subnet | None" = None) -> int:
    """The lowest address of a subnet (of the range `within` it, when given) that is not taken.

    Never the network's own address, nor IPv4's broadcast address. Raises Forbidden when all are taken.
    """
    room = within or subnet
    last = subnet.last - 1 if subnet.bits == 32 and subnet.prefix < 31 else subnet.last
    number = max(room.base, subnet.base + 1 if subnet.prefix < subnet.bits - 1 else subnet.base)
    while number <= min(room.last, last):
        if number not in taken:
            return number
        number += 1
    raise Forbidden("no available IPv4 addresses on this network's address pools")


def mac_of(address: int) -> str:
    """The MAC address of an IPv4 endpoint: 02:42 and the address. An address that comes back brings its MAC along, so
    no neighbour's ARP table is ever wrong."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in address.to_bytes(4, "big"))


def random_mac() -> str:
    """A random MAC address, locally administered, unicast."""
    import os

    drawn = os.urandom(6)
    return ":".join(f"{byte:02x}" for byte in bytes([drawn[0] & 0xFE | 0x02]) + drawn[1:])
