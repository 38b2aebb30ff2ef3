"""A port published at an IPv6 address of the host, by a container that only has IPv4."""

import os
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from service.kernel import netns
from tests.support.instance import Instance, keepers_of

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
    moorage.docker("network", "rm", "elsewhere", check=False)


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
    with pytest.raises(OSError):  # noqa: PT011 - refused; on some machines it is unreachable
        socket.create_connection(("127.0.0.1", port), 5)
    assert f"[::1]:{port}->80/tcp" in moorage.docker("ps", "--format", "{{.Ports}}").stdout.replace("::1:", "[::1]:", 1)


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


def test_again_at_once_and_elsewhere(moorage: Instance, published: Callable[..., int]) -> None:
    """The keeper may still hold the sockets of the last start; and the address changes with the network."""
    port = published("[::1]:18094:80", ECHO)
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
    inside = f"{moorage.run}/netns/" + moorage.docker("inspect", "-f", "{{.Id}}", "box").stdout.strip()
    with (
        netns.inside(inside, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as server,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as two,
    ):
        server.bind(("0.0.0.0", 53))
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
