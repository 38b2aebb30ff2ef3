"""The duty `relay`: a port published at an IPv6 address of the host leads to a container that only has IPv4.

The packet filter cannot lead packets from one family into the other; dockerd starts a proxy process for every published
port. Here the keeper carries what comes, and only for ports whose binding names an IPv6 address: a container that
publishes like everybody (`-p 8080:80`) needs no process of ours.

The listening sockets are made by the launch and kept by the container's monitor, as those of the name server are: who
calls while a killed keeper comes back waits. A stream is read only as far as its other end takes it.
"""

import _socket
import os
import time

from service.network import ipam, ports
from service.store import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.keeper import Keeper
    from service.model.container import Container, ContainerRecord
    from service.model.network import Port

    Name = tuple[Any, ...]

_STREAMS = 512  # connections of one container at once; who comes later waits until one ends
_PEERS = 512  # senders of datagrams of one container that are remembered; others are not answered
_QUIET = 90.0  # seconds until a sender of datagrams is forgotten
_PIECE = 16384  # bytes read from a stream at once, and so held for each direction of each
_LARGEST = 65535  # bytes of a datagram
_BATCH = 64  # connections or datagrams taken at once: other containers wait meanwhile
_PAUSE = 1.0  # seconds until connections are accepted again when none could be


def wanted(record: "ContainerRecord") -> bool:
    """Whether its bindings name an IPv6 address of the host: then its endpoint may be without one."""
    bindings = record["HostConfig"].get("PortBindings") or {}
    return any(":" in (host.get("HostIp") or "") for hosts in bindings.values() for host in hosts or ())


class Relay:
    """The relays of one start of one container (engine.duty.Duty)."""

    def __init__(self, keeper: "Keeper", container: "Container") -> None:
        from service.runtime import conmon

        self.loop, self.database = keeper.loop, keeper.store
        self.container_id, state = container["record"]["Id"], container["state"]
        self.servers: list[Streams | Datagrams] = []
        for host_ip, number in sorted({(port["HostIP"], port["HostPort"]) for port in self._ports()}):
            address = ipam.address_text(*ipam.parse_address(host_ip))  # as the kernel writes it
            for fd in conmon.kept_sockets(state["conmon_pid"], state["conmon_start"], (address, number, 0, 0)):
                server = _socket.socket(fileno=fd)
                server.setblocking(False)
                kind = Streams if server.type == _socket.SOCK_STREAM else Datagrams
                self.servers.append(kind(self, server, host_ip, number))

    def changed(self, status: str) -> None:
        """A paused container answers when it goes on."""

    def end(self) -> None:
        """Close everything."""
        for server in self.servers:
            server.close()

    def _ports(self) -> "list[Port]":
        return [port for port in stored.ports_of(self.database, self.container_id) if ports.is_relayed(port)]

    def target(self, protocol: str, host_ip: str, number: int) -> "tuple[str, int] | None":
        """Where a port leads now: the container may have moved to another network."""
        for port in self._ports():
            if (port["Protocol"], port["HostIP"], port["HostPort"]) == (protocol, host_ip, number):
                return port["ContainerIP"], port["ContainerPort"]
        return None


def _towards(target: "tuple[str, int]", kind: int) -> "_socket.socket":
    """A socket that is connected with a container, or about to be. Raises OSError."""
    family = _socket.AF_INET6 if ":" in target[0] else _socket.AF_INET
    made = _socket.socket(family, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    made.setblocking(False)
    try:
        made.connect(target)
    except BlockingIOError:
        pass
    except OSError:
        made.close()
        raise
    return made


class Streams:
    """A published TCP port."""

    def __init__(self, relay: Relay, server: "_socket.socket", host_ip: str, number: int) -> None:
        self.relay, self.loop, self.server = relay, relay.loop, server
        self.host_ip, self.number = host_ip, number
        self.open: set[Stream] = set()
        self.listening = False
        self.pause: object = None
        self.listen()

    def listen(self) -> None:
        """Take connections, unless there are as many as may be."""
        if not self.listening and len(self.open) < _STREAMS:
            self.listening = True
            self.loop.readable(self.server.fileno(), self._accept)

    def _deaf(self) -> None:
        self.listening = False
        self.loop.forget(self.server.fileno())

    def close(self) -> None:
        """End the port and all that goes through it."""
        self.loop.cancel(self.pause)
        self._deaf()
        self.server.close()
        for stream in list(self.open):
            stream.close()

    def _accept(self) -> None:
        target = self.relay.target("tcp", self.host_ip, self.number)
        for _ in range(_BATCH):
            if len(self.open) >= _STREAMS:
                self._deaf()
                return
            try:
                fd, _ = self.server._accept()  # type: ignore[attr-defined]  # of _socket, not of the class around it
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError:  # no descriptors, or no memory: who connects has to wait, and the loop must not spin
                self._deaf()
                self.pause = self.loop.at(time.monotonic() + _PAUSE, self.listen)
                return
            caller = _socket.socket(fileno=fd)
            caller.setblocking(False)
            try:
                if target is None:
                    raise OSError
                self.open.add(Stream(self, caller, _towards(target, _socket.SOCK_STREAM)))
            except OSError:
                caller.close()  # nobody is there: the caller is told so


class Stream:
    """One connection, and its other half to the container. What one end says is kept until the other takes it."""

    def __init__(self, port: Streams, caller: "_socket.socket", container: "_socket.socket") -> None:
        self.port, self.loop = port, port.loop
        self.ends = (caller, container)
        self.unsent = [b"", b""]  # for each end
        self.said_all = [False, False]  # each end
        self.connecting = True
        self._watch()

    def close(self) -> None:
        """End both halves."""
        if self in self.port.open or self.connecting:
            self.port.open.discard(self)
            for end in self.ends:
                self.loop.forget(end.fileno())
                end.close()
            self.connecting = False

    def _finish(self) -> None:
        self.close()
        self.port.listen()

    def _watch(self) -> None:
        """Ask for what can go on: reading where the other end has taken everything, writing where something waits."""
        for number, end in enumerate(self.ends):
            self.loop.forget(end.fileno())
            if not self.connecting and not self.said_all[number] and not self.unsent[1 - number]:
                self.loop.readable(end.fileno(), self._reader(number))
            if self.unsent[number] or (number and self.connecting):
                self.loop.writable(end.fileno(), self._writer(number))

    def _reader(self, number: int) -> "Any":
        return lambda: self._guarded(self._read, number)

    def _writer(self, number: int) -> "Any":
        return lambda: self._guarded(self._write, number)

    def _guarded(self, step: "Any", number: int) -> None:
        try:
            step(number)
        except BlockingIOError:
            pass
        except OSError:
            self._finish()
            return
        if all(self.said_all) and not any(self.unsent):
            self._finish()
        else:
            self._watch()

    def _read(self, number: int) -> None:
        data = self.ends[number].recv(_PIECE)
        if data:
            self.unsent[1 - number] = data
            self._write(1 - number)
        else:
            self.said_all[number] = True
            self.ends[1 - number].shutdown(_socket.SHUT_WR)

    def _write(self, number: int) -> None:
        if self.connecting:
            error = self.ends[1].getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
            self.connecting = False
        if self.unsent[number]:
            self.unsent[number] = self.unsent[number][self.ends[number].send(self.unsent[number]) :]


class Datagrams:
    """A published UDP port."""

    def __init__(self, relay: Relay, server: "_socket.socket", host_ip: str, number: int) -> None:
        self.relay, self.loop, self.server = relay, relay.loop, server
        self.host_ip, self.number = host_ip, number
        self.peers: dict[Name, Peer] = {}
        self.loop.readable(server.fileno(), self._received)

    def close(self) -> None:
        """End the port."""
        self.loop.forget(self.server.fileno())
        self.server.close()
        for peer in list(self.peers.values()):
            peer.close()

    def _received(self) -> None:
        for _ in range(_BATCH):
            try:
                data, sender = self.server.recvfrom(_LARGEST)
            except OSError:
                return  # nothing more, or an answer that could not be delivered
            peer = self.peers.get(sender)
            if peer is None:
                target = self.relay.target("udp", self.host_ip, self.number)
                if target is None or len(self.peers) >= _PEERS:
                    continue
                try:
                    peer = self.peers[sender] = Peer(self, sender, _towards(target, _socket.SOCK_DGRAM))
                except OSError:
                    continue
            peer.send(data)


class Peer:
    """One sender of datagrams, and a socket of its own to the container."""

    def __init__(self, port: Datagrams, name: "Name", container: "_socket.socket") -> None:
        self.port, self.name, self.container = port, name, container
        self.timer = port.loop.at(time.monotonic() + _QUIET, self._look)
        self.used = time.monotonic()
        port.loop.readable(container.fileno(), self._answered)

    def close(self) -> None:
        """Forget the sender."""
        self.port.peers.pop(self.name, None)
        self.port.loop.cancel(self.timer)
        self.port.loop.forget(self.container.fileno())
        self.container.close()

    def _look(self) -> None:
        if self.used + _QUIET <= time.monotonic():
            self.close()
        else:
            self.timer = self.port.loop.at(self.used + _QUIET, self._look)

    def send(self, data: bytes) -> None:
        """A datagram for the container; one that cannot be sent is lost, as datagrams are."""
        self.used = time.monotonic()
        try:
            self.container.send(data)
        except OSError:
            return  # its buffer is full, or nobody listens there

    def _answered(self) -> None:
        for _ in range(_BATCH):
            try:
                data = self.container.recv(_LARGEST)
                self.port.server.sendto(data, self.name)
            except OSError:
                return  # nothing more; or nobody listens there, which the sender finds out by itself
            self.used = time.monotonic()
