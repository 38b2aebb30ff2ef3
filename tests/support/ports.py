"""Ports of the machine that nobody has: tests run beside one another, and beside whatever else is there."""

import contextlib
import random
import socket

_LOWEST, _HIGHEST = 10000, 32000  # below those that the kernel gives to callers (ip_local_port_range)


def free_port() -> int:
    """A TCP port that nobody listens on just now."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody has just now, TCP or UDP."""
    for _ in range(1000):
        first = random.randrange(_LOWEST, _HIGHEST - count)
        if all(map(_free, range(first, first + count))):
            return first
    raise AssertionError(f"there are no {count} free ports in a row")


def _free(port: int) -> bool:
    with contextlib.ExitStack() as opened:
        for family, address in ((socket.AF_INET, ""), (socket.AF_INET6, "::")):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                try:
                    probe = opened.enter_context(socket.socket(family, kind))
                except OSError:
                    continue  # a machine without IPv6
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    probe.bind((address, port))
                except OSError:
                    return False
    return True
