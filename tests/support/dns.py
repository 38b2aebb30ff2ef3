"""Names asked for, as a client on the wire does, and a name server outside that answers what containers do not know."""

import socket
import threading
from typing import NamedTuple

from service.kernel import netns
from service.network import dns_message

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "ANY": 255}
CODES = {0: "OK", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
PATIENCE = 30.0  # seconds for an answer; a forwarder that asks two servers needs eight


class Reply(NamedTuple):
    """What was answered. `records` are (name, type, TTL, value), the values as text, in the order they came."""

    code: str
    flags: str
    records: "tuple[tuple[str, int, int, str], ...]"


def question(name: str, kind: str, *, edns: int = 0) -> bytes:
    """A query for recursion. `edns`: so many bytes the client takes."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".") if label) + b"\0"
    packet = b"\x12\x34\1\0\0\1\0\0\0\0\0" + (b"\1" if edns else b"\0") + labels
    packet += TYPES[kind].to_bytes(2, "big") + b"\0\1"
    return packet + (b"\0\0\x29" + edns.to_bytes(2, "big") + b"\0\0\0\0\0\0" if edns else b"")


def ask(namespace: str, packet: bytes, *, stream: bool = False, server: str = "127.0.0.11") -> bytes:
    """The answer to a packet, from a socket in a network namespace; by TCP when `stream`. Raises OSError."""
    kind = socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
    with netns.inside(namespace, lambda: socket.socket(socket.AF_INET, kind)) as asking:
        asking.settimeout(PATIENCE)
        asking.connect((server, 53))
        if not stream:
            asking.send(packet)
            return asking.recv(65535)
        asking.sendall(len(packet).to_bytes(2, "big") + packet)
        size = int.from_bytes(asking.recv(2, socket.MSG_WAITALL), "big")
        return asking.recv(size, socket.MSG_WAITALL)


def read(packet: bytes) -> Reply:
    """What an answer says. Raises AssertionError for what is none."""
    assert packet[:2] == b"\x12\x34", packet
    assert packet[2] & 0x80, packet
    names = {"AA": packet[2] & 4, "TC": packet[2] & 2, "RD": packet[2] & 1, "RA": packet[3] & 0x80}
    flags = " ".join(name for name, there in names.items() if there)
    at = 12
    for _ in range(int.from_bytes(packet[4:6], "big")):
        at = _name(packet, at)[1] + 4
    records = []
    for _ in range(int.from_bytes(packet[6:8], "big")):
        name, at = _name(packet, at)
        kind, ttl = int.from_bytes(packet[at : at + 2], "big"), int.from_bytes(packet[at + 4 : at + 8], "big")
        size, at = int.from_bytes(packet[at + 8 : at + 10], "big"), at + 10
        value = packet[at : at + size]
        text = value.hex()
        if kind in (1, 28):
            text = socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, value)
        elif kind in (5, 12):
            text = _name(packet, at)[0]
        elif kind == 15:
            text = f"{int.from_bytes(value[:2], 'big')} {_name(packet, at + 2)[0]}"
        records.append((name, kind, ttl, text))
        at += size
    return Reply(CODES.get(packet[3] & 15, str(packet[3] & 15)), flags, tuple(records))


def _name(packet: bytes, at: int) -> tuple[str, int]:
    """The name at a place, and where it ends there."""
    labels, end = [], 0
    while length := packet[at]:
        if length >= 0xC0:
            end = end or at + 2
            at = int.from_bytes(packet[at : at + 2], "big") & 0x3FFF
            continue
        labels.append(packet[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), end or at + 1


class Upstream:
    """A name server at port 53 of an address in a network namespace.

    `known`: by (name, type), the values of its records; other names do not exist, other types of known names are empty.
    """

    def __init__(self, namespace: str, address: str, known: "dict[tuple[str, str], list[bytes]]") -> None:
        self.known = {(name, TYPES[kind]): values for (name, kind), values in known.items()}
        self.asked: list[tuple[str, int]] = []
        self.udp, self.tcp = (
            netns.inside(namespace, lambda kind=kind: socket.socket(socket.AF_INET, kind))  # type: ignore[misc]  # a default binds it
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)
        )
        for server in (self.udp, self.tcp):
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((address, 53))
        self.tcp.listen()
        self.threads = [threading.Thread(target=work) for work in (self._datagrams, self._connections)]
        for thread in self.threads:
            thread.start()

    def _answer(self, packet: bytes, room: int) -> bytes:
        asked = dns_message.parse(packet)
        assert asked is not None, packet
        self.asked.append((asked.name, asked.kind))
        values = self.known.get((asked.name, asked.kind), [])
        exists = any(name == asked.name for name, _ in self.known)
        said = dns_message.answer(asked, values, code=0 if exists else 3, room=max(room, min(asked.room, 4096)))
        return said[:2] + bytes((said[2] & 0xFB,)) + said[3:]  # no authority: as a server that passes on

    def _datagrams(self) -> None:
        while True:
            try:
                packet, sender = self.udp.recvfrom(65535)
                if sender is None:
                    return
            except OSError:
                return
            self.udp.sendto(self._answer(packet, 512), sender)

    def _connections(self) -> None:
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            with connection:
                while size := int.from_bytes(connection.recv(2, socket.MSG_WAITALL), "big"):
                    said = self._answer(connection.recv(size, socket.MSG_WAITALL), 65535)
                    connection.sendall(len(said).to_bytes(2, "big") + said)

    def close(self) -> None:
        """Stop serving."""
        for server in (self.udp, self.tcp):
            try:
                server.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # a datagram socket that is not connected says so, and wakes its reader all the same
        for thread in self.threads:
            thread.join(30)
        self.udp.close()
        self.tcp.close()
