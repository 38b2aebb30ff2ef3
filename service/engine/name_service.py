"""The duty `names`: containers on networks that a user made find each other by name.

Every such container has a server of its own at 127.0.0.11:53, as under dockerd (many an nginx configuration names it).
Its sockets are made in the container's network namespace by the launch, before the first process runs there, and are
inherited by the container's monitor; the keeper takes copies of them from there. So nobody's question is lost while a
keeper is killed and comes back: it waits in the socket.

What is asked is looked for among the names of the containers on the same networks (names, short ids, aliases, host
names; several with one name are all answered, in changing order), and else sent on to the servers of the host, or to
those that the container was given. Only user-defined networks are searched, and a container that has no way out gets no
way out by names either.
"""

import _socket
import os
import time

from service import daemon_json
from service.errors import InvalidParameter, NotFound
from service.network import dns, ipam
from service.network.dns_message import (
    AAAA,
    PTR,
    REFUSED,
    SERVER_FAILURE,
    A,
    Question,
    address_of_reverse,
    answer,
    encoded,
    is_reply_to,
    parse,
)
from service.store import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.keeper import Keeper
    from service.model.container import Container
    from service.model.network import Endpoint
    from service.store.database import Database

_WAIT = 4.0  # seconds for one server's answer (moby: libnetwork/resolver.go extIOTimeout)
_SERVERS = 3  # so many are asked, one after the other
_AT_ONCE = 1024  # questions on their way out for one container; more are refused
_CLIENTS = 64  # TCP connections of one container
_CLIENT_WAIT = 10.0  # seconds that a TCP client may say nothing
_PAUSE = 1.0  # seconds until TCP clients are accepted again when none could be
_BATCH = 64  # packets read at once: other containers wait meanwhile
_PIECE = 4096  # bytes read from a TCP client at once, for the same reason: a question has 17 or more
_UNSENT = 65536  # bytes of answers that wait for a TCP client; with more it is not listened to
_LARGEST = 65535


class Directory:
    """Who is called what, network by network, as of the store's last change. Shared by all containers' servers."""

    def __init__(self, database: "Database") -> None:
        self.database = database
        self._version = -1
        self._own: dict[str, list[Endpoint]] = {}
        self._names: dict[str, dict[str, list[Endpoint]]] = {}
        self._addresses: dict[str, dict[str, str]] = {}

    def fresh(self) -> "Directory":
        """Itself, with nothing remembered that another process may have changed."""
        version = self.database.version()
        if version != self._version:
            self._own.clear()
            self._names.clear()
            self._addresses.clear()
            self._version = version
        return self

    def networks_of(self, container_id: str) -> "list[Endpoint]":
        """The container's places on networks with names."""
        if container_id not in self._own:
            known = stored.endpoints_of(self.database, container_id)
            self._own[container_id] = [place for place in known if place["DNSNames"] is not None]
        return self._own[container_id]

    def named(self, network_id: str, name: str) -> "list[Endpoint]":
        """Everybody on the network who is called so."""
        self._read(network_id)
        return self._names[network_id].get(name, [])

    def name_at(self, network_id: str, address: str) -> str:
        """The name of the container that has an address there; "" when nobody has."""
        self._read(network_id)
        return self._addresses[network_id].get(address, "")

    def _read(self, network_id: str) -> None:
        if network_id in self._names:
            return
        names = self._names[network_id] = {}
        addresses = self._addresses[network_id] = {}
        for present_name, place in stored.members(self.database, network_id):
            # the first one is the name at the start: the container may have been renamed since
            for name in dict.fromkeys([present_name, *(place["DNSNames"] or ())[1:]]):
                names.setdefault(name.lower(), []).append(place)
            for address in (place["IPv4"], place["IPv6"]):
                if address:
                    addresses[_comparable(address)] = present_name


def _comparable(address: str) -> str:
    """An address as reverse names spell it out."""
    if ":" not in address:
        return address
    digits = f"{ipam.parse_address(address)[0]:032x}"
    return ":".join(digits[at : at + 4] for at in range(0, 32, 4))


def linked(place: "Endpoint", name: str) -> str:
    """What `name` means to a container on a network: its own links are aliases there (EndpointSettings.Links)."""
    wanted = place["Settings"].get("Links")
    if not wanted:
        return name
    from service.engine.links import parse

    for target, alias in map(parse, wanted):
        if alias.lower() == name:
            return target[:12] if len(target) == 64 else target.lower()
    return name


class Names:
    """The server of one start of one container (engine.duty.Duty)."""

    def __init__(self, keeper: "Keeper", container: "Container") -> None:
        from service.engine import endpoints
        from service.runtime import conmon

        self.loop, self.settings = keeper.loop, keeper.settings
        self.directory: Directory = keeper.shared(Directory)
        self.record = container["record"]
        self.container_id = self.record["Id"]
        self.pending: set[Forwarded] = set()
        self.clients: set[Client] = set()
        state = container["state"]
        descriptors = conmon.kept_sockets(state["conmon_pid"], state["conmon_start"], {(dns.ADDRESS, dns.PORT)}, 2)
        if len(descriptors) != 2:  # it joined its first network with names after its start
            for fd in descriptors:
                os.close(fd)
            try:
                descriptors = endpoints.open_name_sockets(self.settings, self.container_id)
            except FileNotFoundError:  # its namespace is gone: it has ended since we looked
                raise NotFound(f"No such container: {self.container_id}") from None
        self.udp, self.tcp = (_socket.socket(fileno=fd) for fd in descriptors)  # in the order in which they were made
        self.pause: object = None
        for server in (self.udp, self.tcp):
            server.setblocking(False)
        self.loop.readable(self.udp.fileno(), self._questions)
        self._listen()

    def changed(self, status: str) -> None:
        """A paused container asks nothing; what it asked before is answered all the same."""

    def end(self) -> None:
        """Close everything."""
        self.loop.cancel(self.pause)
        for question in list(self.pending):
            question.close()
        for client in list(self.clients):
            client.close()
        for server in (self.udp, self.tcp):
            self.loop.forget(server.fileno())
            server.close()

    # ── what is known here ───────────────────────────────────────────────────────────────────────────────────────

    def reply(self, question: Question, room: int) -> "bytes | None":
        """The answer, if the name is one of ours; None: others may know."""
        directory = self.directory.fresh()
        places = directory.networks_of(self.container_id)
        if question.kind == PTR:
            address = address_of_reverse(question.name)
            for place in places:
                name = address and directory.name_at(place["NetworkId"], address)
                if name:
                    return answer(question, [encoded(f"{name}.{place['NetworkName']}")], room=room)
            return None
        for place in places:
            found = directory.named(place["NetworkId"], linked(place, question.name))
            if not found and question.name.endswith("." + place["NetworkName"].lower()):
                short = question.name[: -len(place["NetworkName"]) - 1]
                found = directory.named(place["NetworkId"], linked(place, short))
            if found:
                values = _addresses(found, question.kind)
                if len(values) > 1:
                    first = int.from_bytes(os.urandom(2), "big") % len(values)
                    values = values[first:] + values[:first]
                return answer(question, values, room=room)
        bare = question.name and "." not in question.name and question.kind in (A, AAAA)
        if bare and dns.keeps_bare_names(self.record["HostConfig"].get("DnsOptions") or ()):
            return answer(question, room=room)
        return None

    def servers(self) -> "list[str]":
        """Whom to ask about other names: nobody, when the container has no way out."""
        places = self.directory.networks_of(self.container_id)
        if not any(place["Gateway"] or place["IPv6Gateway"] for place in places):
            return []
        said = daemon_json.readable(self.settings.daemon_json)
        given = self.record["HostConfig"].get("Dns") or said.dns or dns.host_servers()
        return [server for server in given if server != dns.ADDRESS][:_SERVERS]

    # ── UDP ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _questions(self) -> None:
        for _ in range(_BATCH):
            try:
                packet, sender = self.udp.recvfrom(_LARGEST)
            except BlockingIOError:
                return
            self._question(packet, sender)

    def _question(self, packet: bytes, sender: "Any") -> None:
        question = parse(packet)
        if question is None:
            return
        said = self.reply(question, question.room)
        if said is not None:
            self._send(said, sender)
        elif len(self.pending) >= _AT_ONCE:
            self._send(answer(question, code=REFUSED), sender)
        else:
            Forwarded(self, packet, question, _socket.SOCK_DGRAM, lambda data: self._send(data, sender)).ask()

    def _send(self, data: bytes, to: "Any") -> None:
        try:
            self.udp.sendto(data, to)
        except OSError:
            return  # its buffer is full, or nobody is there any more: datagrams may be lost, and are asked for again

    # ── TCP ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _listen(self) -> None:
        self.loop.readable(self.tcp.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_BATCH):
            try:
                fd, _ = self.tcp._accept()  # type: ignore[attr-defined]  # of _socket, not of the class around it
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError:  # no descriptors, or no memory: who connects has to wait, and the loop must not spin
                self.loop.forget(self.tcp.fileno())
                self.pause = self.loop.at(time.monotonic() + _PAUSE, self._listen)
                return
            connection = _socket.socket(fileno=fd)
            if len(self.clients) < _CLIENTS:
                self.clients.add(Client(self, connection))
            else:
                connection.close()


def _addresses(found: "list[Endpoint]", kind: int) -> "list[bytes]":
    """The record values of a kind; none for kinds that are no addresses: the name exists, and has no such record."""
    if kind == A:
        texts = [place["IPv4"] for place in found if place["IPv4"]]
        return [ipam.parse_address(text)[0].to_bytes(4, "big") for text in texts]
    if kind == AAAA:
        texts = [place["IPv6"] for place in found if place["IPv6"]]
        return [ipam.parse_address(text)[0].to_bytes(16, "big") for text in texts]
    return []


class Client:
    """One TCP connection from the container: questions in, answers out, each with its length before it."""

    def __init__(self, names: Names, connection: "_socket.socket") -> None:
        self.names, self.socket = names, connection
        connection.setblocking(False)
        self.read, self.unsent, self.deaf = b"", b"", False
        names.loop.readable(connection.fileno(), self._readable)
        self.timer = names.loop.at(time.monotonic() + _CLIENT_WAIT, self.close)

    def close(self) -> None:
        """End it, whatever was under way."""
        if self in self.names.clients:
            self.names.clients.discard(self)
            self.names.loop.cancel(self.timer)
            self.names.loop.forget(self.socket.fileno())
            self.socket.close()

    def _readable(self) -> None:
        try:
            data = self.socket.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self.read += data
        self.names.loop.cancel(self.timer)
        self.timer = self.names.loop.at(time.monotonic() + _CLIENT_WAIT, self.close)
        self._questions()

    def _questions(self) -> None:
        """Answer what was read, as long as the client takes the answers."""
        while not self.deaf and self in self.names.clients:
            size = int.from_bytes(self.read[:2], "big")
            if len(self.read) < 2 or len(self.read) < 2 + size:
                return
            packet, self.read = self.read[2 : 2 + size], self.read[2 + size :]
            self._question(packet)

    def _question(self, packet: bytes) -> None:
        question = parse(packet)
        if question is None:
            self.close()
            return
        said = self.names.reply(question, _LARGEST)
        if said is not None:
            self.send(said)
        elif len(self.names.pending) >= _AT_ONCE:
            self.send(answer(question, code=REFUSED))
        else:
            Forwarded(self.names, packet, question, _socket.SOCK_STREAM, self.send).ask()

    def send(self, data: bytes) -> None:
        """One answer; what the client does not take at once waits for it."""
        if self not in self.names.clients:
            return
        self.unsent += len(data).to_bytes(2, "big") + data
        self._write()
        if (
            len(self.unsent) > _UNSENT and not self.deaf and self in self.names.clients
        ):  # it asks and does not read: its own time runs out
            self.deaf = True
            self.names.loop.forget(self.socket.fileno())
            self.names.loop.writable(self.socket.fileno(), self._flush)

    def _flush(self) -> None:
        """There is room again."""
        self._write()
        if self.deaf and not self.unsent and self in self.names.clients:
            self.deaf = False
            self.names.loop.readable(self.socket.fileno(), self._readable)
            self._questions()

    def _write(self) -> None:
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            pass  # no room: the loop tells when there is
        except OSError:
            self.close()
            return
        if self.unsent:
            self.names.loop.writable(self.socket.fileno(), self._flush)


class Forwarded:
    """One question on its way to the servers outside, one after the other until one answers."""

    def __init__(self, names: Names, packet: bytes, question: Question, kind: int, reply: "Any") -> None:
        self.names, self.question, self.kind, self.reply = names, question, kind, reply
        self.message_id = os.urandom(2)  # our own: the client's may be guessed
        self.packet = self.message_id + packet[2:]
        self.left = names.servers()
        self.socket: Any = None
        self.timer: object = None
        self.read = b""

    def ask(self) -> None:
        """Ask the next server; without one the client is told that there is no answer."""
        self.names.pending.add(self)
        while self.left:
            server = self.left.pop(0)
            try:
                self._connect(server)
            except (OSError, InvalidParameter):
                self._hang_up()
                continue
            self.timer = self.names.loop.at(time.monotonic() + _WAIT, self._next)
            return
        self._done(answer(self.question, code=SERVER_FAILURE))

    def _connect(self, server: str) -> None:
        family = _socket.AF_INET6 if ":" in server else _socket.AF_INET
        flags = _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        self.socket = _socket.socket(family, self.kind | flags)
        self.socket.setblocking(False)
        self.read = b""
        try:
            self.socket.connect((server, dns.PORT))
        except BlockingIOError:
            pass  # TCP: it is written to when it stands
        if self.kind == _socket.SOCK_DGRAM:
            self.socket.send(self.packet)
        else:
            self.names.loop.writable(self.socket.fileno(), self._connected)
        self.names.loop.readable(self.socket.fileno(), self._readable)

    def _connected(self) -> None:
        try:
            self.socket.send(len(self.packet).to_bytes(2, "big") + self.packet)
        except OSError:
            self._next()

    def _readable(self) -> None:
        try:
            data = self.socket.recv(_LARGEST)
        except BlockingIOError:
            return
        except OSError:  # nobody listens there
            self._next()
            return
        if self.kind == _socket.SOCK_STREAM:
            self.read += data
            size = int.from_bytes(self.read[:2], "big")
            if data and (len(self.read) < 2 or len(self.read) < 2 + size):
                return
            if len(self.read) < 2 or len(self.read) < 2 + size:  # it hung up before its answer was whole
                self._next()
                return
            data = self.read[2 : 2 + size]
            if not is_reply_to(data, self.message_id, self.question.raw):
                self._next()
                return
        if is_reply_to(data, self.message_id, self.question.raw):
            self._done(self.question.message_id + data[2:])

    def _next(self) -> None:
        self._hang_up()
        self.ask()

    def _done(self, data: bytes) -> None:
        self.close()
        self.reply(data)

    def _hang_up(self) -> None:
        if self.timer is not None:
            self.names.loop.cancel(self.timer)
            self.timer = None
        if self.socket is not None:
            self.names.loop.forget(self.socket.fileno())
            self.socket.close()
            self.socket = None

    def close(self) -> None:
        """Give the question up."""
        self._hang_up()
        self.names.pending.discard(self)
