"""Published ports: what a request asks for, and which host ports it gets.

A host port is taken twice over: by a row in the store (ours do not collide), and by a bound socket that the container's
monitor holds for as long as the container runs (no other program gets it). Nobody listens on that socket; packets
never reach it, they are redirected before.
"""

import _socket

from service.errors import InvalidParameter, MoorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from typing import Any

    from service.model.network import Port

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_KINDS = {"tcp": _socket.SOCK_STREAM, "udp": _socket.SOCK_DGRAM, "sctp": _socket.SOCK_STREAM}
_BACKLOG = 1024  # connections that wait for the keeper (engine.relay)
EADDRINUSE, EADDRNOTAVAIL, EPROTONOSUPPORT = 98, 99, 93


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


def is_relayed(port: "Port") -> bool:
    """Whether the host's address is of another family than the container's: packets cannot be redirected then."""
    return (":" in port["HostIP"]) != (":" in port["ContainerIP"])


def bind(protocol: str, host_ip: str, port: int, *, relayed: bool = False) -> "_socket.socket | None":
    """A socket that occupies a host port. None where the kernel does not know the protocol (sctp as a module).

    `relayed`: it is listened on. The keeper may hold the one of the container's last start for a moment longer.

    SO_REUSEADDR lets us in beside connections that are winding down; switched off afterwards, it keeps a later
    listener out even when that one sets it.
    """
    family = _socket.AF_INET6 if ":" in host_ip else _socket.AF_INET
    try:
        held = _socket.socket(family, _KINDS[protocol] | _socket.SOCK_CLOEXEC, PROTOCOLS[protocol])
    except OSError as error:
        if error.errno == EPROTONOSUPPORT:
            return None
        raise
    try:
        if protocol == "tcp":
            held.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if relayed:
            held.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, 1)
        if family == _socket.AF_INET6:
            held.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        held.bind((host_ip, port))
        if protocol == "tcp":
            held.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 0)
        if protocol == "tcp" and relayed:
            held.listen(_BACKLOG)
    except OSError as error:
        held.close()
        if error.errno == EADDRINUSE:
            raise PortTaken(
                f"failed to bind host port {shown(host_ip, port)}/{protocol}: address already in use"
            ) from None
        if error.errno == EADDRNOTAVAIL:
            raise PortTaken(
                f"failed to bind host port {shown(host_ip, port)}/{protocol}: cannot assign requested address"
            ) from None
        raise
    return held


def bind_all(protocol: str, host_ips: "Sequence[str]", port: int, relayed: "Collection[str]" = ()) -> "list[int]":
    """The descriptors that occupy a host port on all the addresses. Raises PortTaken; then none is occupied.

    `relayed`: the addresses that are listened on.
    """
    held = []
    try:
        for host_ip in host_ips:
            one = bind(protocol, host_ip, port, relayed=host_ip in relayed)
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
