"""Published ports: what a request asks for, and which host ports it gets.

A host port is taken twice over: by a row in the store (ours do not collide), and by a bound socket that the container's
monitor holds for as long as the container runs (no other program gets it). Packets are redirected before they reach
that socket; only where the packet filter cannot do it, at addresses of IPv6, somebody listens on it (engine.relay).
"""

import _socket
import errno

from service.errors import InvalidParameter, MoorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from service.model.network import Port

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_KINDS = {"tcp": _socket.SOCK_STREAM, "udp": _socket.SOCK_DGRAM, "sctp": _socket.SOCK_STREAM}
_BACKLOG = 1024  # connections that wait for the keeper (engine.relay)
_SHARER = 0x6D6F6F72  # a user id that nobody has
_REASONS = {
    errno.EADDRINUSE: "address already in use",
    errno.EADDRNOTAVAIL: "cannot assign requested address",
    errno.EAFNOSUPPORT: "address family not supported by protocol",
}


class Wish:
    """One binding as asked for: host ports `first`..`last`; 0 means any free one."""

    __slots__ = ("container_port", "first", "host_ip", "last", "protocol")

    def __init__(self, protocol: str, container_port: int, host_ip: str, first: int, last: int) -> None:
        self.protocol, self.container_port = protocol, container_port
        self.host_ip, self.first, self.last = host_ip, first, last


class PortTaken(MoorageError):  # noqa: N818 - a state of the world, as the other names in errors.py
    """A host port cannot be had; becomes the sentence about the endpoint."""


def parse_port(text: str) -> "tuple[int, str]":
    """ "80/tcp" or "80": number and protocol. Raises InvalidParameter."""
    number, _, protocol = text.partition("/")
    protocol = (protocol or "tcp").lower()
    if protocol not in PROTOCOLS:
        raise InvalidParameter(f"invalid proto: {protocol}")
    if not number.isdigit() or not 0 < int(number) < 65536:
        raise InvalidParameter(f'invalid port specification: "{number}"')
    return int(number), protocol


def _range(text: str) -> "tuple[int, int]":
    first, dash, last = text.partition("-")
    numbers = (first, last if dash else first)
    if not all(number.isdigit() and int(number) < 65536 for number in numbers) or int(first) > int(numbers[1]):
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return int(first), int(numbers[1])


def wishes(host_config: "Mapping[str, Any]", config: "Mapping[str, Any]") -> "list[Wish]":
    """The bindings that a container asks for, those of fixed ports first. Raises InvalidParameter."""
    found = []
    bindings: Mapping[str, Any] = host_config.get("PortBindings") or {}
    for port, hosts in sorted(bindings.items(), key=lambda item: parse_port(item[0])):
        number, protocol = parse_port(port)
        blank: dict[str, str] = {}
        for host in hosts or (blank,):
            host_ip = (host.get("HostIp") or "").strip("[]")
            first, last = _range(host.get("HostPort") or "0")
            found.append(Wish(protocol, number, host_ip, first, last))
    if host_config.get("PublishAllPorts"):
        asked = {(wish.container_port, wish.protocol) for wish in found}
        for number, protocol in sorted(parse_port(port) for port in config.get("ExposedPorts") or {}):
            if (number, protocol) not in asked:
                found.append(Wish(protocol, number, "", 0, 0))
    return sorted(found, key=lambda wish: (wish.first == 0, wish.first != wish.last))


def ephemeral_range() -> "tuple[int, int]":
    """The ports from which an unspecified host port is taken (inclusive), as dockerd takes them."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
            first, last = file.read().split()
        return int(first), int(last)
    except OSError:
        return 49153, 65535


def candidates(wish: Wish, cursor: int) -> "Iterator[int]":
    """The host ports to try, in order. Unspecified ones go on after `cursor`, so that a freed port rests a while."""
    if wish.first:
        yield from range(wish.first, wish.last + 1)
        return
    first, last = ephemeral_range()
    start = cursor + 1 if first <= cursor < last else first
    yield from range(start, last + 1)
    yield from range(first, start)


def is_redirected(port: "Port") -> bool:
    """Whether the packet filter leads callers of the host's address to the container: both are of one family."""
    return (":" in port["HostIP"]) == (":" in port["ContainerIP"])


def is_listened(host_ip: str) -> bool:
    """Whether the keeper listens at an address of the host (engine.relay): for containers that only have IPv4, and for
    calls from the host to ::1."""
    return ":" in host_ip


def serves_ipv6() -> bool:
    """Whether this machine has IPv6, in dockerd's sense: somebody can listen at ::1."""
    try:
        tried = _socket.socket(_socket.AF_INET6, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    except OSError:
        return False
    try:
        tried.bind(("::1", 0))
    except OSError:
        return False
    finally:
        tried.close()
    return True


def _socket_of(family: int, protocol: str, *, shared: bool) -> "_socket.socket":
    """`shared`: others that were made so may be bound to the same port, and nobody else: such sockets share a port with
    those of the same user only (SO_REUSEPORT), and no program of any user but this one makes them."""
    if not shared:
        return _socket.socket(family, _KINDS[protocol] | _socket.SOCK_CLOEXEC, PROTOCOLS[protocol])
    from service.kernel.libc import libc

    before = libc().setfsuid(_SHARER)  # of this thread alone
    try:
        made = _socket.socket(family, _KINDS[protocol] | _socket.SOCK_CLOEXEC, PROTOCOLS[protocol])
    finally:
        libc().setfsuid(before)
    made.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, 1)
    return made


def bind(protocol: str, host_ip: str, port: int) -> "_socket.socket | None":
    """A socket that occupies a host port; it is listened on where the keeper is to (`is_listened`). None where the
    kernel does not know the protocol (sctp as a module). Raises PortTaken.

    The keeper may hold the one of the container's last start for a moment longer: those are shared.

    SO_REUSEADDR lets us in beside connections that are winding down; switched off afterwards, it keeps a later
    listener out even when that one sets it.
    """
    family = _socket.AF_INET6 if ":" in host_ip else _socket.AF_INET
    held = None
    try:
        held = _socket_of(family, protocol, shared=is_listened(host_ip))
        if protocol == "tcp":
            held.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if family == _socket.AF_INET6:
            held.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        held.bind((host_ip, port))
        if protocol == "tcp":
            held.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 0)
        if protocol != "udp" and is_listened(host_ip):
            held.listen(_BACKLOG)
    except OSError as error:
        if held is not None:
            held.close()
        elif error.errno == errno.EPROTONOSUPPORT:
            return None
        if error.errno in _REASONS:
            said = f"failed to bind host port {shown(host_ip, port)}/{protocol}: {_REASONS[error.errno]}"
            raise PortTaken(said) from None
        raise
    return held


def bind_all(protocol: str, host_ips: "Sequence[str]", port: int) -> "list[int]":
    """The descriptors that occupy a host port on all the addresses. Raises PortTaken; then none is occupied."""
    held = []
    try:
        for host_ip in host_ips:
            one = bind(protocol, host_ip, port)
            if one is not None:
                held.append(one)
    except BaseException:
        for one in held:
            one.close()
        raise
    return [one.detach() for one in held]


def shown(host_ip: str, port: int) -> str:
    """Address and port as people write them."""
    return f"[{host_ip}]:{port}" if ":" in host_ip else f"{host_ip}:{port}"
