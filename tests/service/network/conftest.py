"""A host of one's own: a network namespace in which the product works, and another one beyond its uplink.

    outside 192.0.2.2 ── 192.0.2.1 host ── bridge ── containers

The product's functions run in a thread that has entered the host's namespace, so its rules, routes and sysctls are the
only ones there, whatever the machine under the test has.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from service import ids, timestamps
from service.engine import container_files, endpoints, network_create, network_mode
from service.engine.engine import Engine
from service.kernel import netlink, netns
from service.network import ports
from service.settings import Settings
from service.store import containers
from tests.support import folder
from tests.support.instance import keepers_of

Result = TypeVar("Result")
UNREACHABLE = (TimeoutError, ConnectionRefusedError)
PATIENCE = 1.0  # seconds that a packet which must not arrive is waited for


class Container:
    """A container as far as the network is concerned: a namespace with nobody in it."""

    def __init__(self, host: "Host", name: str, record: Any, plan: endpoints.Plan) -> None:
        self.host, self.name, self.record, self.plan = host, name, record, plan
        self.id: str = record["Id"]

    @property
    def namespace(self) -> str:
        """Where its network namespace is kept."""
        return self.plan.netns_path

    @property
    def ip(self) -> str:
        """Its first address."""
        return self.plan.endpoints[0]["IPv4"]

    @property
    def host_ports(self) -> list[int]:
        """The host ports that it publishes, each once however many addresses it is published on."""
        return list(dict.fromkeys(port["HostPort"] for port in self.plan.ports))

    def run(self, *argv: str) -> str:
        """What a program says that runs in its namespace."""
        return run(self.namespace, *argv)

    def release(self) -> None:
        """Take its network away, as the exit of its process does."""
        self.plan.close()
        self.host.do(endpoints.release, self.host.settings, self.host.engine.store, self.id)


class Host:
    """The namespaces, and an engine whose bridge and rules live in the host's."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="mn", dir="/tmp")
        self.namespace, self.outside = self.folder + "/host", self.folder + "/outside"
        self.settings = Settings(
            {
                "MOORAGE_ROOT": self.folder + "/lib",
                "MOORAGE_RUN": self.folder + "/run",
                "MOORAGE_BRIDGE": "mtest0",
                "MOORAGE_NFT_TABLE": "mtest",
            }
        )
        self.engine = Engine(self.settings)
        self.engine.open()
        self.made: list[Container] = []

    def build(self) -> None:
        """Make the two namespaces and the cable between them."""
        for path in (self.namespace, self.outside):
            netns.create(path, _loopback)
        index = run(self.namespace, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0")
        assert index == ""
        fd = os.open(self.outside, os.O_RDONLY)
        try:
            subprocess.run(
                ["nsenter", f"--net={self.namespace}", "ip", "link", "set", "eth0", "netns", f"/proc/self/fd/{fd}"],
                pass_fds=(fd,),
                check=True,
            )
        finally:
            os.close(fd)
        run(self.namespace, "ip", "addr", "add", "192.0.2.1/24", "dev", "up0")
        run(self.namespace, "ip", "link", "set", "up0", "up")
        run(self.outside, "ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
        run(self.outside, "ip", "link", "set", "eth0", "up")
        run(self.namespace, "sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward")  # a new namespace copies the machine's
        run(self.namespace, "ip", "route", "add", "default", "via", "192.0.2.2")

    def close(self) -> None:
        """Take it all down; whatever a test left in the namespaces goes with them."""
        for container in self.made:
            container.plan.close()
        held = self.settings.run + "/netns"
        for name in os.listdir(held):
            netns.delete(f"{held}/{name}")
        for path in (self.namespace, self.outside):
            netns.delete(path)
        folder.remove(self.folder)
        deadline = time.monotonic() + 30  # a container that joined a network with names has brought a keeper
        while keepers_of(self.settings.root):
            assert time.monotonic() < deadline, "the keeper stays although all of it was taken away"
            time.sleep(0.02)

    def do(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """`work(*arguments)` on the host."""
        return netns.inside(self.namespace, lambda: work(*arguments))

    def run(self, *argv: str) -> str:
        """What a program says that runs on the host."""
        return run(self.namespace, *argv)

    def record(self, name: str, mode: str = "default", ports: Any = None, **config: Any) -> Any:
        """Register a container; it is not started."""
        endpoints_config = config.pop("endpoints", {})
        host_config = {
            "NetworkMode": mode,
            "PortBindings": ports or {},
            "LogConfig": {"Type": "none", "Config": {}},
            **config.pop("host_config", {}),
        }
        record: Any = {
            "Id": ids.new_id(),
            "Name": name,
            "Created": timestamps.now(),
            "Path": "sh",
            "Args": [],
            "Image": "sha256:0",
            "Config": {"Hostname": name, **config},
            "HostConfig": host_config,
            "EndpointsConfig": network_mode.wanted(
                self.engine.store,
                {"NetworkMode": "bridge" if mode == "default" else mode},
                endpoints_config,
            ),
            "Mounts": [],
            "Layers": [],
            "Platform": "linux",
        }
        with self.engine.store.write():
            containers.insert(self.engine.store, record, time.time_ns())
        os.makedirs(self.settings.container_root(record["Id"]), exist_ok=True)
        return record

    def start(self, record: Any) -> Container:
        """Give a container its network, in the steps of a launch."""
        store = self.engine.store
        plan = self.do(endpoints.prepare, self.settings, store, record)
        container = Container(self, record["Name"], record, plan)
        self.made.append(container)
        os.makedirs(self.settings.container_run(record["Id"]), exist_ok=True)
        self.do(endpoints.open_namespace, plan)
        self.do(container_files.write, self.settings, plan)
        self.do(endpoints.wire, self.settings, plan)
        with store.write():
            containers.set_state(store, record["Id"], status="running", started_at=timestamps.now())
        return container

    def container(self, name: str, mode: str = "default", ports: Any = None, **config: Any) -> Container:
        """A started container."""
        return self.start(self.record(name, mode, ports, **config))

    def network(self, name: str, **asked: Any) -> str:
        """Create a network; its id."""
        return self.do(network_create.create, self.settings, self.engine.store, {"Name": name, **asked})[0]

    def left_behind(self) -> list[str]:
        """Interfaces, namespaces, published ports and rows, of which none should be left; waits for the kernel."""
        deadline = time.monotonic() + 30
        while True:
            left = self._left()
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.02)

    def _left(self) -> list[str]:
        store = self.engine.store
        links = self.do(lambda: netlink.links(netlink.Channel()))
        left = [f"interface {link.name}" for link in links if link.name.startswith("veth")]
        left += [f"namespace {name}" for name in os.listdir(self.settings.run + "/netns")]
        left += [f"endpoint {row[0]}" for row in store.rows("SELECT id FROM endpoints")]
        left += [f"port {row[0]}" for row in store.rows("SELECT host_port FROM ports")]
        if "mtest" in self.run("nft", "list", "tables"):
            for name in ("published4", "published_any4", "published6", "published_any6"):
                if "elements" in self.run("nft", "list", "map", "inet", "mtest", name):
                    left.append(f"elements of {name}")
        return left


class Interrupted:
    """Runs work on the host in a child process that is killed at the n-th line of ours that it executes."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def run(self, work: Callable[[], Any], at: int) -> bool:
        """Whether the child was killed (False: it came to its end before)."""
        child = os.fork()
        if child:
            return os.WIFSIGNALED(os.waitpid(child, 0)[1])
        left = [at]

        def trace(frame: Any, event: str, _: Any) -> Any:
            if "/service/" not in frame.f_code.co_filename or "/tests/" in frame.f_code.co_filename:
                return None
            if event == "line":
                left[0] -= 1
                if left[0] <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        def traced() -> None:
            threading.settrace(trace)
            sys.settrace(trace)
            work()

        try:
            self.host.do(traced)
            os._exit(0)
        finally:
            os._exit(1)


def _loopback() -> None:
    with netlink.Channel() as channel:
        channel.request(netlink.set_up(1))


def run(namespace: str, *argv: str) -> str:
    """What a program says that runs in a network namespace. Raises AssertionError with its complaint."""
    done = subprocess.run(["nsenter", f"--net={namespace}", *argv], capture_output=True, text=True, check=False)
    assert not done.returncode, f"{argv}: {done.stderr}"
    return done.stdout


class Server:
    """Tells every caller, over TCP or UDP (or what `protocol` says), the address that it sees it come from."""

    def __init__(
        self,
        namespace: str,
        port: int,
        address: str = "0.0.0.0",
        kind: int = socket.SOCK_STREAM,
        protocol: int = 0,
    ) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.kind = kind
        self.socket = netns.inside(namespace, lambda: socket.socket(family, kind, protocol))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((address, port))
        if kind == socket.SOCK_STREAM:
            self.socket.listen()
        if protocol:
            self.socket.settimeout(0.2)  # a listener of SCTP's is not woken by its shutdown
        self.closing = False
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while not self.closing:
            try:
                if self.kind == socket.SOCK_STREAM:
                    caller, address = self.socket.accept()
                    with caller:
                        caller.sendall(address[0].encode())
                else:
                    _, address = self.socket.recvfrom(100)
                    if address is None:  # shut down
                        return
                    self.socket.sendto(address[0].encode(), address)
            except TimeoutError:
                continue
            except OSError:
                return

    def close(self) -> None:
        """Stop serving."""
        self.closing = True
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # a datagram socket that nobody connected: shut down all the same
        self.thread.join(60)
        self.socket.close()


def call(
    namespace: str,
    address: str,
    port: int,
    kind: int = socket.SOCK_STREAM,
    patience: float = 5.0,
    protocol: int = 0,
) -> str:
    """The address that a server sees us come from. Raises OSError (a TimeoutError after `patience` seconds)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with netns.inside(namespace, lambda: socket.socket(family, kind, protocol)) as caller:
        caller.settimeout(patience)
        caller.connect((address, port))
        if kind == socket.SOCK_DGRAM:
            caller.sendall(b"hello")
        return caller.recv(100).decode()


def everywhere_on(host: "Host") -> list[str]:
    """The addresses of the host that a port is published on when it names none."""
    return ["0.0.0.0", "::"] if host.do(ports.serves_ipv6) else ["0.0.0.0"]


def reached(namespace: str, address: str, port: int) -> str:
    """`call`, again until it succeeds: a new IPv6 address may still be looked for. Raises OSError after 30 s."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return call(namespace, address, port)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.fixture
def host() -> Iterator[Host]:
    """A host and its outside world, without anything of ours yet."""
    if os.geteuid():
        pytest.skip("needs root: it makes network namespaces")
    built = Host()
    try:
        try:
            built.build()
        except (OSError, AssertionError) as error:
            pytest.skip(f"this machine makes no network namespaces: {error}")
        yield built
    finally:
        built.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """`serve(namespace, port, …)`: a `Server`, closed when the test ends."""
    servers: list[Server] = []

    def start(namespace: str, port: int, *how: Any, **more: Any) -> Server:
        servers.append(Server(namespace, port, *how, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
