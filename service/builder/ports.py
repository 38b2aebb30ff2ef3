"""EXPOSE: what its words mean to BuildKit from 0.20 on (behaviour of dockerfile2llb/convert_expose.go)."""

import ipaddress

from service.builder.dockerfile import BadDockerfile
from service.builder.words import quoted

_PROTOCOLS = ("tcp", "udp", "sctp")
_MOST = 65535


def exposed(text: str) -> "list[str]":
    """`[[ip:]port:]port[-port][/protocol]` as ports with their protocols; an address and a port of the host are read,
    and mean nothing. Raises BadDockerfile."""
    *host, container = text.split(":")
    numbers, _, protocol = container.partition("/")
    protocol = protocol.lower() or "tcp"
    if not numbers:
        raise BadDockerfile(f"invalid port: {quoted(text)}: no port specified")
    if protocol not in _PROTOCOLS:
        raise BadDockerfile(f"invalid port: {quoted(text)}: invalid proto: {container.partition('/')[2]}")
    address, of_host = ":".join(host[:-1]), host[-1] if host else ""
    if address and not _is_address(address.removeprefix("[").removesuffix("]")):
        raise BadDockerfile(f"invalid IP address: {address}")
    first, last = _range(numbers, "containerPort")
    if of_host:
        start, end = _range(of_host, "hostPort")
        if end - start != last - first and first != last:
            told = f"invalid ranges specified for container and host Ports: {numbers} and {of_host}"
            raise BadDockerfile(told)
    return [f"{number}/{protocol}" for number in range(first, last + 1)]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _range(text: str, what: str) -> "tuple[int, int]":
    first, dash, last = text.partition("-")
    ends = [first, last if dash else first]
    if not all(end.isascii() and end.isdigit() and len(end) < 9 and int(end) <= _MOST for end in ends):
        raise BadDockerfile(f"invalid {what}: {text}")
    start, end = map(int, ends)
    if start > end:
        raise BadDockerfile(f"invalid {what}: {text}")
    return start, end
