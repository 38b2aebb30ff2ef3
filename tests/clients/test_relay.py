"""Ports published at IPv6 addresses of the host: those that no packet filter leads to a container."""

import functools
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.kernel import netns
from tests.support.instance import Instance, keepers_of
from tests.support.ports import free_port, free_ports

ECHO = "nc -ll -p 80 -e cat"  # every connection gets back what it sends


@pytest.fixture
def published(moorage: Instance) -> Iterator[Callable[..., int]]:
    """`published(binding, command)`: the host port of a container `box` that runs the command."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")

    def start(binding: str, command: str, *more: str) -> int:
        moorage.docker("run", "-d", "--name", "box", "-p", binding, *more, "busybox", "sh", "-c", command)
        return int(moorage.docker("port", "box").stdout.split()[-1].rpartition(":")[2])

    yield start
    moorage.docker("rm", "-f", "box", check=False)
    for network in ("elsewhere", "six"):
        moorage.docker("network", "rm", network, check=False)


def echoed(address: str, port: int, data: bytes = b"hello") -> bytes:
    """What comes back from a connection, after all of it was sent."""
    with socket.create_connection((address, port), 30) as caller:
        caller.settimeout(30)
        sent, said = 0, b""
        caller.setblocking(False)
        while sent < len(data) or len(said) < len(data):
            caller.settimeout(0.05 if sent < len(data) else 30)
            if sent < len(data):
                try:
                    sent += caller.send(data[sent : sent + 65536])
                except TimeoutError:
                    pass  # it wants to be listened to first
                caller.settimeout(0.001)
            try:
                piece = caller.recv(1 << 20)
            except TimeoutError:
                continue
            if not piece:
                break
            said += piece
        return said


def answers(address: str, port: int) -> bool:
    try:
        return echoed(address, port) == b"hello"
    except OSError:
        return False


def test_streams(moorage: Instance, published: Callable[..., int]) -> None:
    port = published("[::1]::80", ECHO)
    moorage.until(lambda: answers("::1", port), 60, "nobody answers")
    data = os.urandom(5 << 20)
    assert echoed("::1", port, data) == data
    with socket.create_connection(("::1", port), 30) as caller:
        caller.settimeout(60)
        caller.sendall(b"all I say")
        caller.shutdown(socket.SHUT_WR)  # and the rest of what is said to it arrives
        with caller.makefile("rb") as said:
            assert said.read() == b"all I say"
    assert moorage.docker("port", "box").stdout.strip() == f"80/tcp -> [::1]:{port}"
    assert f"[::1]:{port}->80/tcp" in moorage.docker("ps", "--format", "{{.Ports}}").stdout.replace("::1:", "[::1]:", 1)


@pytest.mark.parametrize("network", ["bridge", "six"])
def test_localhost_in_both_families(moorage: Instance, published: Callable[..., int], network: str) -> None:
    """No address named: all of them, whichever the container itself has."""
    if network == "six":
        moorage.docker("network", "create", "--ipv6", "--subnet", "fd00:214::/64", "six")
    port = published("80", ECHO, "--network", network)
    moorage.until(lambda: answers("::1", port), 60, "nobody answers")
    assert answers("127.0.0.1", port)
    assert moorage.docker("port", "box").stdout.split() == [
        "80/tcp",
        "->",
        f"0.0.0.0:{port}",
        "80/tcp",
        "->",
        f"[::]:{port}",
    ]
    assert (
        moorage.docker("ps", "--format", "{{.Ports}}").stdout.strip() == f"0.0.0.0:{port}->80/tcp, [::]:{port}->80/tcp"
    )
    moorage.wait_idle()  # no service is needed for it
    assert answers("::1", port)
    moorage.docker("kill", "box")
    moorage.until(lambda: not keepers_of(moorage.root), 60, "a keeper stays that nobody needs")
    for address in ("127.0.0.1", "::1"):
        assert not answers(address, port)


def test_a_range_of_ports(moorage: Instance, published: Callable[..., int]) -> None:
    first = free_ports(100)
    last = published(
        f"{first}-{first + 99}:7000-7099", "for port in 7000 7050 7099; do nc -ll -p $port -e echo $port & done; wait"
    )
    assert last == first + 99
    for number in (0, 50, 99):
        speaks = functools.partial(said, first + number)
        moorage.until(speaks, 60, f"{number} is silent")
        assert speaks() == b"%d\n" % (7000 + number)


def said(port: int) -> bytes:
    """What is said at once by whoever is called at ::1; nothing when nobody is there."""
    try:
        with socket.create_connection(("::1", port), 30) as caller, caller.makefile("rb") as answer:
            return answer.read()
    except OSError:
        return b""


def test_many_at_once(moorage: Instance, published: Callable[..., int]) -> None:
    """Some say much, some little, and some leave in the middle."""
    port = published("80", "sleep 600")
    data = os.urandom(1 << 20)
    with ThreadPoolExecutor(60) as callers, server_in(moorage, 80) as server:
        server.listen(100)
        callers.submit(echo_all, server, callers)
        left = [callers.submit(leave, port, data) for _ in range(20)]
        sizes = [1 << (number % 21) for number in range(40)]
        said_back = [callers.submit(echoed, "::1", port, data[:size]) for size in sizes]
        assert [back.result() == data[:size] for back, size in zip(said_back, sizes, strict=True)] == [True] * 40
        assert [one.result() for one in left] == [None] * 20
        server.shutdown(socket.SHUT_RDWR)
    (keeper,) = keepers_of(moorage.root)
    moorage.until(lambda: len(os.listdir(f"/proc/{keeper}/fd")) < 30, 60, "descriptors are left open")


def server_in(moorage: Instance, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket that is bound in the container's network."""
    inside = f"{moorage.run}/netns/" + moorage.docker("inspect", "-f", "{{.Id}}", "box").stdout.strip()
    server = netns.inside(inside, lambda: socket.socket(socket.AF_INET, kind))
    server.bind(("0.0.0.0", port))
    return server


def echo_all(server: socket.socket, threads: ThreadPoolExecutor) -> None:
    while True:
        try:
            caller, _ = server.accept()
        except OSError:
            return  # shut down
        threads.submit(echo, caller)


def echo(caller: socket.socket) -> None:
    with caller:
        while data := caller.recv(65536):
            caller.sendall(data)


def leave(port: int, data: bytes) -> None:
    with socket.create_connection(("::1", port), 30) as caller:
        caller.settimeout(30)
        caller.send(data)


def test_who_calls_while_no_keeper_is_there_waits(moorage: Instance, published: Callable[..., int]) -> None:
    port = published("[::1]::80", ECHO)
    moorage.until(lambda: answers("::1", port), 60, "nobody answers")
    for pid in keepers_of(moorage.root):
        os.kill(pid, signal.SIGKILL)
    moorage.until(lambda: not keepers_of(moorage.root), 30, "it did not end")
    with socket.create_connection(("::1", port), 30) as caller:
        caller.settimeout(60)
        caller.sendall(b"early")
        moorage.kill_service()
        moorage.docker("ps")  # a service that comes looks after the keeper
        assert caller.recv(100) == b"early"


def test_what_breaks_off_is_no_end(moorage: Instance, published: Callable[..., int]) -> None:
    port = published("80", "sleep 600")
    with server_in(moorage, 80) as server:
        server.listen()
        with socket.create_connection(("::1", port), 30) as caller:
            caller.settimeout(60)
            inner, _ = server.accept()
            inner.sendall(b"half")
            assert caller.recv(100) == b"half"
            inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            inner.close()
            with pytest.raises(ConnectionResetError):
                caller.recv(100)


def test_again_at_once_and_elsewhere(moorage: Instance, published: Callable[..., int]) -> None:
    """The keeper may still hold the sockets of the last start; and the address changes with the network."""
    port = published(f"[::1]:{free_port()}:80", ECHO)
    for _ in range(3):
        moorage.docker("restart", "-t", "0", "box")
        moorage.until(lambda: answers("::1", port), 60, "nobody answers")
    moorage.docker("network", "create", "elsewhere")
    moorage.docker("network", "connect", "elsewhere", "box")
    moorage.docker("network", "disconnect", "bridge", "box")
    moorage.until(lambda: answers("::1", port), 60, "nobody answers on the other network")
    moorage.docker("rm", "-f", "box")
    moorage.until(lambda: not answers("::1", port), 60, "somebody answers")
    with socket.socket(socket.AF_INET6) as other:
        moorage.until(lambda: bound(other, port), 60, "the port is not free")


def bound(other: socket.socket, port: int) -> bool:
    try:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("::1", port))
    except OSError:
        return False
    return True


def test_datagrams(moorage: Instance, published: Callable[..., int]) -> None:
    port = published("[::1]::53/udp", "sleep 600")
    with (
        server_in(moorage, 53, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as two,
    ):
        server.settimeout(60)
        peers = []
        for caller in (one, two):
            caller.connect(("::1", port))
            caller.settimeout(60)
            caller.send(b"hello")  # it waits for the keeper, which may only just have been started
            said, peer = server.recvfrom(100)
            assert said == b"hello"
            peers.append(peer)
        for caller, peer, text in ((one, peers[0], b"one"), (two, peers[1], b"two")):
            server.sendto(text, peer)
            assert caller.recv(100) == text


def test_a_container_that_ends_ends_its_connections(moorage: Instance, published: Callable[..., int]) -> None:
    port = published("[::1]::80", ECHO)
    moorage.until(lambda: answers("::1", port), 60, "nobody answers")
    with socket.create_connection(("::1", port), 30) as caller:
        caller.settimeout(60)
        caller.sendall(b"hello")
        assert caller.recv(100) == b"hello"
        moorage.docker("kill", "box")
        try:
            assert caller.recv(100) == b""
        except ConnectionResetError:
            pass
