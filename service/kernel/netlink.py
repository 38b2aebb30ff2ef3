"""netlink(7): how the kernel is told about interfaces, addresses and routes (rtnetlink(7)), without any program.

Measured: a veth pair into a namespace with addresses and routes takes 2 ms here; `ip -batch` 7 ms, pyroute2 21 ms and
225 ms to import it. The same sockets carry nfnetlink (`kernel/nftables.py`). Only `_socket`: the `socket` module costs
a cold process 6 ms.
"""

import _socket
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
REQUEST, ACK, EXCL, CREATE, DUMP = 0x1, 0x4, 0x200, 0x400, 0x300  # NLM_F_…, linux/netlink.h
REPLACE = 0x100
NESTED = 0x8000  # NLA_F_NESTED
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_SOL_NETLINK, _NETLINK_GET_STRICT_CHK = 270, 12
AF_INET, AF_INET6, AF_BRIDGE = 2, 10, 7

ENOENT, ESRCH, EEXIST, ENODEV, EADDRNOTAVAIL = 2, 3, 17, 19, 99  # errno(3)


def attribute(kind: int, data: bytes) -> bytes:
    """One netlink attribute, padded to four bytes."""
    size = 4 + len(data)
    return _ATTRIBUTE.pack(size, kind) + data + b"\0" * (-size % 4)


def nested(kind: int, *inner: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | NESTED, b"".join(inner))


def u32(kind: int, value: int) -> bytes:
    """An attribute of 32 bits in the machine's order."""
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    """An attribute that is a zero-terminated string."""
    return attribute(kind, os.fsencode(value) + b"\0")


def attributes(data: bytes, start: int = 0) -> "dict[int, bytes]":
    """The attributes that follow each other in `data` from `start`, by kind without its flags (the last one wins)."""
    found = {}
    while start + 4 <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, start)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[start + 4 : start + size]
        start += (size + 3) & ~3
    return found


class Message:
    """One request: its type, flags and body, and the errors that mean "it is already so"."""

    __slots__ = ("body", "flags", "kind", "tolerated")

    def __init__(self, kind: int, flags: int, body: bytes, tolerated: "Collection[int]" = ()) -> None:
        self.kind, self.flags, self.body, self.tolerated = kind, flags, body, tolerated


class Channel:
    """A netlink socket, of the network namespace in which it was made."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = _socket.socket(16, 3 | _socket.SOCK_CLOEXEC, protocol)  # AF_NETLINK, SOCK_RAW
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)  # dumps are filtered by the kernel
        self._socket.bind((0, 0))
        self.sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> "Channel":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def encode(self, kind: int, flags: int, body: bytes) -> bytes:
        """A message with the next sequence number."""
        self.sequence += 1
        size = 16 + len(body)
        return _HEADER.pack(size, kind, flags | REQUEST, self.sequence, 0) + body + b"\0" * (-size % 4)

    def request(self, *messages: Message) -> None:
        """Send the messages in one go; the kernel works through all of them in order, whatever becomes of each.

        Raises OSError for the first that failed in a way that it does not tolerate.
        """
        if not messages:
            return
        waiting = {}
        sent = []
        for message in messages:
            sent.append(self.encode(message.kind, message.flags | ACK, message.body))
            waiting[self.sequence] = message
        self._socket.send(b"".join(sent))
        self.collect(waiting)

    def send(self, data: bytes) -> None:
        """Send encoded messages; their answers are for `collect`."""
        self._socket.send(data)

    def collect(self, waiting: "dict[int, Message]") -> None:
        """Wait for the acknowledgement of every message, by sequence number. Raises OSError as `request` does."""
        failed: OSError | None = None
        while waiting:
            for kind, sequence, body in self._answers():
                if kind != _ERROR or sequence not in waiting:
                    continue
                number = -struct.unpack_from("=i", body)[0]
                message = waiting.pop(sequence)
                if number and number not in message.tolerated and failed is None:
                    failed = OSError(number, os.strerror(number))
        if failed is not None:
            raise failed

    def ask(self, kind: int, body: bytes) -> "bytes | None":
        """The answer to a question about one object; None when there is no such object. Raises OSError otherwise."""
        self._socket.send(self.encode(kind, 0, body))
        while True:
            for answer, sequence, found in self._answers():
                if sequence != self.sequence:
                    continue
                if answer == _ERROR:
                    number = -struct.unpack_from("=i", found)[0]
                    if number in (ENOENT, ENODEV):
                        return None
                    raise OSError(number, os.strerror(number))
                return found

    def dump(self, kind: int, body: bytes) -> "list[bytes]":
        """The bodies of all objects of a kind. Raises OSError."""
        self._socket.send(self.encode(kind, DUMP, body))
        found: list[bytes] = []
        while True:
            for answer, sequence, data in self._answers():
                if sequence != self.sequence:
                    continue
                if answer == _DONE:
                    return found
                if answer == _ERROR:
                    number = -struct.unpack_from("=i", data)[0]
                    if number in (ENOENT, ENODEV):
                        return []
                    raise OSError(number, os.strerror(number))
                found.append(data)

    def _answers(self) -> "Iterator[tuple[int, int, bytes]]":
        data = self._socket.recv(1 << 18)
        start = 0
        while start + 16 <= len(data):
            size, kind, _, sequence, _ = _HEADER.unpack_from(data, start)
            yield kind, sequence, data[start + 16 : start + size]
            start += (size + 3) & ~3


# rtnetlink: links (linux/if_link.h, linux/rtnetlink.h)

_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_IFLA_LINK = 5
_UP = 1  # IFF_UP


class Link:
    """An interface as the kernel has it."""

    __slots__ = ("index", "kind", "mac", "master", "mtu", "name", "peer", "up")

    def __init__(self, answer: bytes) -> None:
        _, _, self.index, flags, _ = _LINK.unpack_from(answer)
        found = attributes(answer, 16)
        self.up = bool(flags & _UP)
        self.name = found[_IFLA_IFNAME].rstrip(b"\0").decode()
        self.mac = found.get(_IFLA_ADDRESS, b"")
        self.mtu = struct.unpack("=I", found[_IFLA_MTU])[0]
        self.master = struct.unpack("=I", found[_IFLA_MASTER])[0] if _IFLA_MASTER in found else 0
        self.peer = struct.unpack("=I", found[5])[0] if 5 in found else 0  # IFLA_LINK
        self.kind = attributes(found[_IFLA_LINKINFO]).get(1, b"").rstrip(b"\0").decode() if 18 in found else ""


def link(channel: Channel, name: str) -> "Link | None":
    """The interface of that name, or None."""
    answer = channel.ask(_GETLINK, _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name))
    return None if answer is None else Link(answer)


def links(channel: Channel) -> "list[Link]":
    """All interfaces."""
    return [Link(answer) for answer in channel.dump(_GETLINK, _LINK.pack(0, 0, 0, 0, 0))]


def add_bridge(name: str, mac: bytes = b"", mtu: int = 0) -> Message:
    """A bridge, down. Nothing when an interface of that name exists (look what it is)."""
    body = _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name)
    if mac:
        body += attribute(_IFLA_ADDRESS, mac)
    if mtu:
        body += u32(_IFLA_MTU, mtu)
    return Message(_NEWLINK, CREATE | EXCL, body + nested(_IFLA_LINKINFO, attribute(1, b"bridge")), (EEXIST,))


def add_veth(name: str, *, peer: str, peer_namespace: int, peer_mac: bytes, master: int, mtu: int = 0) -> Message:
    """A pair of interfaces: `name` here, up, in the bridge with index `master`; `peer` in the namespace (descriptor).

    Raises EEXIST (from `request`) when `name` exists.
    """
    size = u32(_IFLA_MTU, mtu) if mtu else b""
    other = _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, peer) + u32(_IFLA_NET_NS_FD, peer_namespace) + size
    if peer_mac:
        other += attribute(_IFLA_ADDRESS, peer_mac)
    body = _LINK.pack(0, 0, 0, _UP, _UP) + text(_IFLA_IFNAME, name) + u32(_IFLA_MASTER, master) + size
    kind = nested(_IFLA_LINKINFO, attribute(1, b"veth"), nested(2, attribute(1, other)))
    return Message(_NEWLINK, CREATE | EXCL, body + kind)


def add_macvlan(name: str, parent: int, namespace: int, *, mac: bytes, mode: int) -> Message:
    """An interface `name` in a namespace (descriptor), with an address of its own on the interface `parent` here."""
    body = _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name) + u32(_IFLA_LINK, parent)
    body += u32(_IFLA_NET_NS_FD, namespace) + attribute(_IFLA_ADDRESS, mac)
    kind = nested(_IFLA_LINKINFO, attribute(1, b"macvlan"), nested(2, u32(1, mode)))  # IFLA_MACVLAN_MODE
    return Message(_NEWLINK, CREATE | EXCL, body + kind)


def add_ipvlan(name: str, parent: int, namespace: int, *, mode: int, flags: int) -> Message:
    """An interface `name` in a namespace (descriptor) that shares the hardware address of `parent` here."""
    body = _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name) + u32(_IFLA_LINK, parent)
    body += u32(_IFLA_NET_NS_FD, namespace)
    data = nested(2, attribute(1, struct.pack("=H", mode)), attribute(2, struct.pack("=H", flags)))
    return Message(_NEWLINK, CREATE | EXCL, body + nested(_IFLA_LINKINFO, attribute(1, b"ipvlan"), data))


def add_vlan(name: str, parent: int, number: int) -> Message:
    """An interface for the frames of `parent` that carry the tag `number`. Nothing when there is one of that name."""
    body = _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name) + u32(_IFLA_LINK, parent)
    data = nested(2, attribute(1, struct.pack("=H", number)))  # IFLA_VLAN_ID
    return Message(_NEWLINK, CREATE | EXCL, body + nested(_IFLA_LINKINFO, attribute(1, b"vlan"), data), (EEXIST,))


def add_dummy(name: str) -> Message:
    """An interface that leads nowhere. Nothing when there is one of that name."""
    body = _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name)
    return Message(_NEWLINK, CREATE | EXCL, body + nested(_IFLA_LINKINFO, attribute(1, b"dummy")), (EEXIST,))


def set_master(index: int, master: int) -> Message:
    """Put an interface into a bridge (0: take it out)."""
    return Message(_NEWLINK, 0, _LINK.pack(0, 0, index, 0, 0) + u32(_IFLA_MASTER, master))


def set_port(index: int, *, isolated: bool = False) -> Message:
    """Let a bridge port send a frame back where it came from: a container that calls its own published port.

    Between two ports that are `isolated` the bridge carries nothing at all; to the machine itself it does.
    """
    port = nested(12, attribute(4, b"\1"), attribute(33, bytes([isolated])))  # IFLA_PROTINFO { IFLA_BRPORT_… }
    return Message(19, 0, _LINK.pack(AF_BRIDGE, 0, index, 0, 0) + port)  # RTM_SETLINK


def set_up(index: int) -> Message:
    """Switch an interface on."""
    return Message(_NEWLINK, 0, _LINK.pack(0, 0, index, _UP, _UP))


def delete_link(name: str) -> Message:
    """Delete an interface (of a veth pair: both). Nothing when there is none."""
    return Message(_DELLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name), (ENODEV,))


def _family(address: bytes) -> int:
    return AF_INET if len(address) == 4 else AF_INET6


def add_address(index: int, address: bytes, prefix: int) -> Message:
    """Give an interface an address (4 or 16 bytes). Nothing when it has it."""
    body = _ADDRESS.pack(_family(address), prefix, 0, 0, index) + attribute(2, address) + attribute(1, address)
    if len(address) == 4 and prefix < 31:
        mask = (1 << (32 - prefix)) - 1
        body += attribute(4, (int.from_bytes(address, "big") | mask).to_bytes(4, "big"))  # IFA_BROADCAST
    if len(address) == 16:
        body += u32(8, 0x02)  # IFA_FLAGS: IFA_F_NODAD, we have given this address to nobody else
    return Message(_NEWADDR, CREATE | REPLACE, body, (EEXIST,))


def delete_address(index: int, address: bytes, prefix: int) -> Message:
    """Take an address from an interface. Nothing when it does not have it."""
    body = _ADDRESS.pack(_family(address), prefix, 0, 0, index) + attribute(2, address)
    return Message(_DELADDR, 0, body, (EADDRNOTAVAIL,))


def addresses(channel: Channel, index: int, family: int = AF_INET) -> "list[tuple[bytes, int]]":
    """The addresses of an interface with their prefix lengths."""
    found = []
    for answer in channel.dump(_GETADDR, _ADDRESS.pack(family, 0, 0, 0, index)):
        _, prefix, _, _, owner = _ADDRESS.unpack_from(answer)
        if owner == index:
            known = attributes(answer, 8)
            found.append((known.get(2) or known[1], prefix))  # IFA_LOCAL, for IPv6 IFA_ADDRESS
    return found


def add_default_route(index: int, gateway: bytes) -> Message:
    """The default route of a namespace by `gateway`, replacing another one."""
    body = _ROUTE.pack(_family(gateway), 0, 0, 0, 254, 3, 0, 1, 0)  # main table, RTPROT_BOOT, universe, unicast
    return Message(_NEWROUTE, CREATE | REPLACE, body + attribute(5, gateway) + u32(4, index))


def add_device_route(index: int, family: int) -> Message:
    """The default route of a namespace by an interface, without a gateway, replacing another one."""
    body = _ROUTE.pack(family, 0, 0, 0, 254, 3, 253, 1, 0)  # RT_SCOPE_LINK
    return Message(_NEWROUTE, CREATE | REPLACE, body + u32(4, index))


def delete_default_route(family: int) -> Message:
    """Remove the default route. Nothing when there is none."""
    return Message(_DELROUTE, 0, _ROUTE.pack(family, 0, 0, 0, 254, 0, 0, 0, 0), (ESRCH, ENOENT))


def routes(channel: Channel, family: int = AF_INET) -> "list[tuple[bytes, int, int]]":
    """The destinations of the main table: network address, prefix length, interface index. Not the default routes."""
    found = []
    for answer in channel.dump(_GETROUTE, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
        _, prefix, _, _, table, _, _, _, _ = _ROUTE.unpack_from(answer)
        known = attributes(answer, 12)
        if table == 254 and prefix and 1 in known:
            found.append((known[1], prefix, struct.unpack("=I", known[4])[0] if 4 in known else 0))
    return found
