"""`python -m tests.bench.networks [--dockerd SOCKET] [--rounds 20]`: what networks cost.

moorage works in a network namespace of its own; so may dockerd (its namespace is found by its socket; it needs
`busybox:latest`, and is left alone otherwise). Rounds are interleaved; both are awake. A caller outside, one cable away
from either, uses published ports. Everything goes by the API, and traffic over sockets that the bench opens in the
containers' namespaces: no process in a container is measured.
"""

import argparse
import os
import socket
import statistics
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from service.kernel import netlink, netns
from tests.bench.crowds import call, together
from tests.support.dns import question, read
from tests.support.instance import Instance

NETWORK, CONTAINER = "bench-net", "bench-one"
INSIDE, OUTSIDE = "192.0.2.1", "192.0.2.2"  # the ends of the cable
PORT = 7000
PIECE = 1 << 20


class Engine:
    """One engine under measurement, with a network, a container on it, and a caller outside."""

    def __init__(self, stack: ExitStack, name: str, path: str, namespace: str, folder: str) -> None:
        self.name, self.path, self.namespace = name, path, namespace
        self.outside = f"{folder}/{name}"
        netns.create(self.outside, _loopback)
        stack.callback(netns.delete, self.outside)
        cable = f"bench{os.getpid() % 10000}"
        fd = os.open(self.outside, os.O_RDONLY)
        try:
            words = ("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", f"/proc/self/fd/{fd}")
            subprocess.run(["nsenter", f"--net={namespace}", *words], pass_fds=(fd,), check=True)
        finally:
            os.close(fd)
        subprocess.run(["nsenter", f"--net={namespace}", "ip", "link", "set", "lo", "up"], check=True)
        for where, device, address in ((namespace, cable, INSIDE), (self.outside, "eth0", OUTSIDE)):
            for command in (("addr", "add", f"{address}/24", "dev", device), ("link", "set", device, "up")):
                subprocess.run(["nsenter", f"--net={where}", "ip", *command], check=True)
        stack.callback(self.clear)
        self.ask("POST /networks/create", {"Name": NETWORK})
        self.ask("POST /networks/create", {"Name": NETWORK + "2"})
        self.ask(f"POST /containers/create?name={CONTAINER}", asked(PortBindings={f"{PORT}/tcp": [{"HostPort": ""}]}))
        self.ask(f"POST /containers/{CONTAINER}/start")
        self.ask(f"POST /containers/create?name={CONTAINER}2", asked())
        self.ask(f"POST /containers/{CONTAINER}2/start")
        known = self.ask(f"GET /containers/{CONTAINER}/json")
        self.container = f"/proc/{known['State']['Pid']}/ns/net"
        self.gateway = known["NetworkSettings"]["Networks"][NETWORK]["Gateway"]
        self.port = int(known["NetworkSettings"]["Ports"][f"{PORT}/tcp"][0]["HostPort"])

    def ask(self, line: str, body: Any = None) -> Any:
        """One request; its document. Raises AssertionError when it fails."""
        answer = call(self.path, line, body)
        return answer.json if answer.body else None

    def clear(self) -> None:
        """Take away what was made."""
        for line in (
            *(f"DELETE /containers/{CONTAINER}{more}?force=1&v=1" for more in ("", "2")),
            *(f"DELETE /networks/{NETWORK}{more}" for more in ("", "2")),
        ):
            try:
                self.ask(line)
            except AssertionError:
                pass  # it did not come to be

    # ── milliseconds ─────────────────────────────────────────────────────────────────────────────────────────────

    def took(self, *requests: "tuple[str, Any]") -> float:
        """Milliseconds of requests, one after the other."""
        begun = time.perf_counter()
        for line, body in requests:
            self.ask(line, body)
        return (time.perf_counter() - begun) * 1000

    def crowd(self, count: int) -> "dict[str, float]":
        """So many containers on one network, started by as many clients at once, and removed."""
        names = [f"bench-{number}" for number in range(count)]
        together(lambda name: self.ask(f"POST /containers/create?name={name}", asked()), names, 8)
        found = {}
        for row, line in (("start", "POST /containers/{}/start"), ("removal", "DELETE /containers/{}?force=1&v=1")):
            begun = time.perf_counter()
            together(lambda name, line=line: self.ask(line.format(name)), names, count)  # type: ignore[misc]  # a default binds it
            found[f"{count} containers on one network, {row}, ms"] = (time.perf_counter() - begun) * 1000
            if row == "start":
                one = ("bench-last", asked())
                found["one more beside them, start, ms"] = self.one(*one)[0]
        return found

    def one(self, name: str, body: Any) -> tuple[float, float]:
        """Milliseconds of the start of a container, and of its removal."""
        self.ask(f"POST /containers/create?name={name}", body)
        start = self.took((f"POST /containers/{name}/start", None))
        return start, self.took((f"DELETE /containers/{name}?force=1&v=1", None))

    # ── names, bytes ─────────────────────────────────────────────────────────────────────────────────────────────

    def lookups(self, count: int) -> float:
        """Microseconds of one question for another container's name, over that many."""
        packet = question(CONTAINER + "2", "A")
        with netns.inside(self.container, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
            asking.settimeout(10)
            asking.connect(("127.0.0.11", 53))
            begun = time.perf_counter()
            for _ in range(count):
                asking.send(packet)
                said = asking.recv(512)
            took = (time.perf_counter() - begun) * 1e6 / count
        assert len(read(said).records) == 1
        return took

    def throughput(self, source: str, server: str, address: str, listen: int, port: int, size: int) -> float:
        """MB/s of one TCP connection from one namespace to a server in another."""
        with netns.inside(server, lambda: socket.socket(socket.AF_INET)) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("0.0.0.0", listen))
            listening.listen()
            done: list[float] = []

            def receive() -> None:
                caller, _ = listening.accept()
                with caller:
                    buffer, left = bytearray(PIECE), size
                    while left:
                        got = caller.recv_into(buffer)
                        assert got
                        left -= got
                    done.append(time.perf_counter())

            receiver = threading.Thread(target=receive, daemon=True)
            receiver.start()
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with netns.inside(source, lambda: socket.socket(family)) as sending:
                sending.connect((address, port))
                piece, begun = bytes(PIECE), time.perf_counter()
                for _ in range(size // PIECE):
                    sending.sendall(piece)
                receiver.join()
        return size / 1e6 / (done[0] - begun)


def _loopback() -> None:
    with netlink.Channel() as channel:
        channel.request(netlink.set_up(1))


def asked(**host: Any) -> dict[str, Any]:
    """A container that sleeps on the network."""
    exposed: dict[str, Any] = {port: {} for port in host.get("PortBindings", ())}
    return {
        "Image": "busybox",
        "Cmd": ["sleep", "6000"],
        "ExposedPorts": exposed,
        "HostConfig": {"NetworkMode": NETWORK, **host},
    }


def namespace_of(path: str) -> str:
    """The network namespace of whoever listens on a socket."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return f"/proc/{pid}/ns/net"


def measure(engines: list[Engine], rounds: int, containers: int, size: int) -> "dict[str, dict[str, list[float]]]":
    """All figures, round by round."""
    rows: dict[str, dict[str, list[float]]] = {}

    def note(row: str, engine: Engine, value: float) -> None:
        rows.setdefault(row, {}).setdefault(engine.name, []).append(value)

    for _ in range(rounds):
        for engine in engines:
            engine.ask("GET /version")  # wakes the one that may sleep
            create = engine.took(("POST /networks/create", {"Name": "bench-new"}))
            remove = engine.took(("DELETE /networks/bench-new", None))
            note("network create, ms", engine, create)
            note("network rm, ms", engine, remove)
            note("network create and rm, ms", engine, create + remove)
            body = {"Container": CONTAINER}
            connect = engine.took((f"POST /networks/{NETWORK}2/connect", body))
            leave = engine.took((f"POST /networks/{NETWORK}2/disconnect", body))
            note("connect a running container, ms", engine, connect)
            note("disconnect it, ms", engine, leave)
            note("connect and disconnect, ms", engine, connect + leave)
            start, end = engine.one("bench-new", asked(PortBindings={"80/tcp": [{"HostPort": ""}]}))
            note("container on it with a port, start, ms", engine, start)
            note("its removal (running), ms", engine, end)
            note("a container's name, microseconds", engine, engine.lookups(500))
    for number in range(max(4, rounds // 4)):
        for engine in engines if number % 2 else reversed(engines):  # who is first is slower, whoever it is
            out = engine.throughput(engine.container, engine.namespace, engine.gateway, PORT + 1, PORT + 1, size)
            note("container to host, MB/s", engine, out)
            published = (engine.outside, engine.container, INSIDE, PORT, engine.port, size)
            note("another host to a published port, MB/s", engine, engine.throughput(*published))
            near = (engine.namespace, engine.container, "127.0.0.1", PORT, engine.port, size)
            note("127.0.0.1 to a published port, MB/s", engine, engine.throughput(*near))
            near6 = (engine.namespace, engine.container, "::1", PORT, engine.port, size)
            note("::1 to a published port, MB/s", engine, engine.throughput(*near6))
    for _ in range(2 if containers else 0):
        for engine in engines:
            for row, value in engine.crowd(containers).items():
                note(row, engine, value)
    return rows


def table(rows: "dict[str, dict[str, list[float]]]", engines: list[Engine]) -> str:
    """Markdown: best / median, and the ratio of the medians."""
    lines = ["| best / median | " + " | ".join(e.name for e in engines) + " | moorage : dockerd (medians) |"]
    lines.append("| --- |" + " --- |" * (len(engines) + 1))
    for row, values in rows.items():
        best: Callable[[list[float]], float] = max if row.endswith("MB/s") else min
        cells = [f"{best(values[e.name]):.0f} / {statistics.median(values[e.name]):.0f}" for e in engines]
        medians = [statistics.median(values[e.name]) for e in engines]
        ratio = f"{medians[0] / medians[1]:.2f}" if len(medians) > 1 else "-"
        lines.append(f"| {row} | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    """Set up what is there, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.networks")
    parser.add_argument("--dockerd", default="", help="socket of a running dockerd that has busybox:latest")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--containers", type=int, default=100, help="how many on one network; 0: none")
    parser.add_argument("--megabytes", type=int, default=1024, help="sent for a throughput")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mb", dir="/tmp"))
        own = f"{folder}/net"
        netns.create(own, _loopback)
        stack.callback(netns.delete, own)
        # awake all the time, and gone before its end is looked at: its program for layers goes with it
        moorage = stack.enter_context(Instance(namespace=own, idle_seconds=20))
        moorage.load_busybox()
        engines = [Engine(stack, "moorage", moorage.socket, own, folder)]
        if chosen.dockerd:
            path = chosen.dockerd.removeprefix("unix://")
            engines.append(Engine(stack, "dockerd", path, namespace_of(path), folder))
        print(table(measure(engines, chosen.rounds, chosen.containers, chosen.megabytes << 20), engines), flush=True)


if __name__ == "__main__":
    main()
