"""The duty `relay`: what is published at the host's IPv6 addresses (`-p 8080:80` means them, too), and what the packet
filter cannot lead to the container.

That are all calls for a container that only has IPv4, since packets do not go from one family into the other; and calls
from the host to ::1 (`localhost`, for most programs), for whose answers the kernel knows no way back from a bridge.
dockerd starts a proxy process for every published port and family. Here the keeper carries what comes for all of them;
127.0.0.1, the host's IPv4 addresses, and IPv6 where the container has it remain the kernel's.

The listening sockets are made by the launch and kept by the container's monitor, as those of the name server are: who
calls while a killed keeper comes back waits. A stream is read only as far as its other end takes it; one of which there
is much goes through a pipe and never comes here (splice(2)).
"""

import _socket
import fcntl
import os
import struct
import time

from service import journal
from service.network import ports
from service.store import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.keeper import Keeper
    from service.model.container import Container

    Name = tuple[Any, ...]

_STREAMS = 4096  # connections of one port at once; who comes later waits until one ends
_SHARE = 16  # … and at most this part of the descriptors that we may have
_PEERS = 512  # senders of datagrams of one container that are remembered; others are not answered
_QUIET = 90.0  # seconds until a sender of datagrams is forgotten
_PIECE = 16384  # bytes read from a stream at once, and so held for each direction of each
_BULK = 1 << 20  # bytes moved through a pipe at once
_F_SETPIPE_SZ = 1031  # linux/fcntl.h
_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: a close that resets
_QUIETLY = 1 | 2  # SPLICE_F_MOVE, SPLICE_F_NONBLOCK
_ALIVE = 15  # seconds after which a silent end is asked whether it is there, and between later questions (as Go does)
_LARGEST = 65535  # bytes of a datagram
_ANCILLARY = 64  # bytes for what comes along with a datagram: struct in6_pktinfo, with its header
_BATCH = 64  # connections or datagrams taken at once: other containers wait meanwhile
_PAUSE = 1.0  # seconds until connections are accepted again when none could be


class Relay:
    """The relays of one start of one container (engine.duty.Duty)."""

    def __init__(self, keeper: "Keeper", container: "Container") -> None:
        from service.runtime import conmon

        self.loop, self.database = keeper.loop, keeper.store
        self.container_id, state = container["record"]["Id"], container["state"]
        self.servers: list[Streams | Datagrams] = []
        self._targets: dict[tuple[str, str, int], tuple[str, int]] = {}
        self._version = -1
        listened = set(self._read())
        names = {(host_ip, number, 0, 0) for _, host_ip, number in listened}
        kept = conmon.kept_sockets(state["conmon_pid"], state["conmon_start"], names, len(listened))
        servers = [_socket.socket(fileno=fd) for fd in kept]
        for protocol, host_ip, number in listened - {_key(server) for server in servers}:  # published after its start
            try:
                servers += filter(None, [ports.bind(protocol, host_ip, number)])
            except ports.PortTaken as taken:  # between the store's word and ours; the other ports are served
                journal.write("info", f"relay: container {self.container_id}: {taken.message}")
        for server in servers:
            server.setblocking(False)
            kind = Streams if server.type == _socket.SOCK_STREAM else Datagrams
            self.servers.append(kind(self, server))

    def changed(self, status: str) -> None:
        """A paused container answers when it goes on."""

    def end(self) -> None:
        """Close everything."""
        for server in self.servers:
            server.close()

    def _read(self) -> "dict[tuple[str, str, int], tuple[str, int]]":
        """By protocol, address and port of the host: where it leads, as the store says now."""
        version = self.database.version()
        if version != self._version:
            self._targets = {
                (port["Protocol"], port["HostIP"], port["HostPort"]): (port["ContainerIP"], port["ContainerPort"])
                for port in stored.ports_of(self.database, self.container_id)
                if ports.is_listened(port["HostIP"])
            }
            self._version = version
        return self._targets

    def target(self, server: "_socket.socket") -> "tuple[str, int] | None":
        """Where a port leads now: the container may have moved to another network."""
        return self._read().get(_key(server))


_PROTOCOLS = {number: name for name, number in ports.PROTOCOLS.items()}


def _key(server: "_socket.socket") -> "tuple[str, str, int]":
    """Protocol, address and port of the host."""
    host_ip, number = server.getsockname()[:2]
    return _PROTOCOLS[server.proto], host_ip, number


def _towards(target: "tuple[str, int]", like: "_socket.socket") -> "_socket.socket":
    """A socket that is connected with a container, or about to be, of the kind of another. Raises OSError."""
    family = _socket.AF_INET6 if ":" in target[0] else _socket.AF_INET
    made = _socket.socket(family, like.type | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK, like.proto)
    made.setblocking(False)
    try:
        made.connect(target)
    except BlockingIOError:
        pass
    except OSError:
        made.close()
        raise
    return made


def _most_streams() -> int:
    import resource

    return min(_STREAMS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE)


class Streams:
    """A published port of TCP, or of SCTP (whose messages become one stream, as they do with dockerd's proxy)."""

    def __init__(self, relay: Relay, server: "_socket.socket") -> None:
        self.relay, self.loop, self.server = relay, relay.loop, server
        self.open: set[Stream] = set()
        self.most = _most_streams()
        self.listening = False
        self.pause: object = None
        self.listen()

    def listen(self) -> None:
        """Take connections, unless there are as many as may be."""
        if not self.listening and len(self.open) < self.most:
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
        target = self.relay.target(self.server)
        for _ in range(_BATCH):
            if len(self.open) >= self.most:
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
                self.open.add(Stream(self, caller, _towards(target, self.server)))
            except OSError:
                caller.close()  # nobody is there: the caller is told so


class Stream:
    """One connection, and its other half to the container. What one end says is kept until the other takes it."""

    __slots__ = ("asked", "connecting", "ends", "loop", "piped", "pipes", "port", "said_all", "unsent")

    def __init__(self, port: Streams, caller: "_socket.socket", container: "_socket.socket") -> None:
        self.port, self.loop = port, port.loop
        self.ends = (caller, container)
        self.unsent = [b"", b""]  # for each end
        self.pipes: list[tuple[int, int] | None] = [None, None]  # towards each end; made when there is much to say
        self.piped = [0, 0]  # bytes in them
        self.said_all = [False, False]  # each end
        self.asked = [(False, False), (False, False)]  # of the loop, for each end: whether to read, whether to write
        self.connecting = True
        if caller.proto == _socket.IPPROTO_TCP:
            for end in self.ends:
                end.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                end.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
                end.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_KEEPIDLE, _ALIVE)
                end.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_KEEPINTVL, _ALIVE)
        self._watch()

    def close(self) -> None:
        """End both halves."""
        if self in self.port.open or self.connecting:
            self.port.open.discard(self)
            for end in self.ends:
                self.loop.forget(end.fileno())
                end.close()
            for pipe in self.pipes:
                for fd in pipe or ():
                    os.close(fd)
            self.connecting = False

    def _finish(self) -> None:
        self.close()
        self.port.listen()

    def _waits(self, number: int) -> bool:
        """Whether something waits until an end takes it."""
        return bool(self.unsent[number] or self.piped[number])

    def _watch(self) -> None:
        """Ask for what can go on: reading where the other end has taken everything, writing where something waits."""
        for number, end in enumerate(self.ends):
            read = not self.connecting and not self.said_all[number] and not self._waits(1 - number)
            write = self._waits(number) or (bool(number) and self.connecting)
            if self.asked[number] == (read, write):
                continue
            self.asked[number] = (read, write)
            self.loop.forget(end.fileno())
            if read:
                self.loop.readable(end.fileno(), self._reader(number))
            if write:
                self.loop.writable(end.fileno(), self._writer(number))

    def _reader(self, number: int) -> "Any":
        return lambda: self._guarded(self._read, number)

    def _writer(self, number: int) -> "Any":
        def write() -> None:
            self.asked[number] = (self.asked[number][0], False)  # the loop calls once
            self._guarded(self._write, number)

        return write

    def _guarded(self, step: "Any", number: int) -> None:
        try:
            step(number)
        except BlockingIOError:
            pass
        except OSError:
            for end in self.ends:  # who reads on is told that it broke off, and does not take it for the end
                end.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _AT_ONCE)
            self._finish()
            return
        if all(self.said_all) and not self._waits(0) and not self._waits(1):
            self._finish()
        else:
            self._watch()

    def _read(self, number: int) -> None:
        other = 1 - number
        pipe = self.pipes[other]
        if pipe is not None:
            self.piped[other] = os.splice(self.ends[number].fileno(), pipe[1], _BULK, flags=_QUIETLY)
        else:
            self.unsent[other] = self.ends[number].recv(_PIECE)
            if len(self.unsent[other]) == _PIECE:
                self._pipe(other)
        if self._waits(other):
            self._write(other)
        else:
            self.said_all[number] = True
            self.ends[other].shutdown(_socket.SHUT_WR)

    def _pipe(self, number: int) -> None:
        try:
            pipe = self.pipes[number] = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.fcntl(pipe[0], _F_SETPIPE_SZ, _BULK)
        except OSError:  # no more descriptors, or no larger pipes: it goes on with what there is
            return

    def _write(self, number: int) -> None:
        if self.connecting:
            error = self.ends[1].getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
            self.connecting = False
        if self.unsent[number]:
            self.unsent[number] = self.unsent[number][self.ends[number].send(self.unsent[number]) :]
        pipe = self.pipes[number]
        if pipe is not None and self.piped[number] and not self.unsent[number]:
            self.piped[number] -= os.splice(pipe[0], self.ends[number].fileno(), self.piped[number], flags=_QUIETLY)


class Datagrams:
    """A published UDP port. Who calls one address of the host is answered from that one."""

    def __init__(self, relay: Relay, server: "_socket.socket") -> None:
        self.relay, self.loop, self.server = relay, relay.loop, server
        self.peers: dict[tuple[Name, bytes], Peer] = {}
        server.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_RECVPKTINFO, 1)
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
                data, ancillary, _, sender = self.server.recvmsg(_LARGEST, _ANCILLARY)
            except OSError:
                return  # nothing more, or an answer that could not be delivered
            called = next((text for _, kind, text in ancillary if kind == _socket.IPV6_PKTINFO), b"")
            peer = self.peers.get((sender, called))
            if peer is None:
                target = self.relay.target(self.server)
                if target is None or len(self.peers) >= _PEERS:
                    continue
                try:
                    peer = Peer(self, sender, called, _towards(target, self.server))
                except OSError:
                    continue
                self.peers[sender, called] = peer
            peer.send(data)


class Peer:
    """One sender of datagrams, and a socket of its own to the container. `called`: the address it sends to, as struct
    in6_pktinfo has it."""

    def __init__(self, port: Datagrams, name: "Name", called: bytes, container: "_socket.socket") -> None:
        self.port, self.name, self.called, self.container = port, name, called, container
        # from that address, by whichever interface leads there; those of a link say themselves which one
        self.source = [(_socket.IPPROTO_IPV6, _socket.IPV6_PKTINFO, called[:16] + bytes(4))] if called else []
        self.timer = port.loop.at(time.monotonic() + _QUIET, self._look)
        self.used = time.monotonic()
        port.loop.readable(container.fileno(), self._answered)

    def close(self) -> None:
        """Forget the sender."""
        self.port.peers.pop((self.name, self.called), None)
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
                self.port.server.sendmsg([data], self.source, 0, self.name)
            except OSError:
                return  # nothing more; or nobody listens there, which the sender finds out by itself
            self.used = time.monotonic()
