"""Two hosts and a router between them, each in a network namespace: who reaches whom across a real network.

    there 10.213.41.2 ── 10.213.41.1 router 10.213.40.1 ── 10.213.40.2 here ── bridges ── containers
    fd00:213:41::2                                         fd00:213:40::2

The router sends what is for a container's address to `here`, and `there` asks the router for everything: so whatever
does not arrive was kept out by `here`. A server tells its caller which address it sees.
"""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from service.kernel import netlink, netns
from tests.service.network.conftest import PATIENCE, Server, call, run
from tests.support.instance import Instance

HERE, HERE_TOO, THERE = "10.213.40.2", "10.213.40.3", "10.213.41.2"
HERE6, HERE6_TOO, THERE6 = "fd00:213:40::2", "fd00:213:40::3", "fd00:213:41::2"
UDP = socket.SOCK_DGRAM
PORT = 7000  # of servers; in a namespace of its own nobody else has it


class Hosts:
    """The namespaces, and a moorage on the host `here`."""

    def __init__(self, folder: str) -> None:
        self.here, self.router, self.there = (f"{folder}/{name}" for name in ("here", "router", "there"))
        self.moorage = Instance(namespace=self.here, idle_seconds=1.0)
        self.servers: list[Server] = []

    def build(self) -> None:
        """Make and cable them."""
        for path in (self.here, self.router, self.there):
            netns.create(path, _loopback)
        for near, subnet in ((self.here, 40), (self.there, 41)):
            _cable(near, self.router, f"up{subnet}")
            for path, last in ((near, 2), (self.router, 1)):
                device = "up0" if path == near else f"up{subnet}"
                for words in ((f"10.213.{subnet}.{last}/24",), (f"fd00:213:{subnet}::{last}/64", "nodad")):
                    run(path, "ip", "addr", "add", words[0], "dev", device, *words[1:])
                run(path, "ip", "link", "set", device, "up")
            run(near, "ip", "route", "add", "default", "via", f"10.213.{subnet}.1")
            run(near, "ip", "-6", "route", "add", "default", "via", f"fd00:213:{subnet}::1")
        run(self.here, "ip", "addr", "add", f"{HERE_TOO}/24", "dev", "up0")
        never_a_source = ("nodad", "preferred_lft", "0")
        run(self.here, "ip", "addr", "add", f"{HERE6_TOO}/64", "dev", "up0", *never_a_source)
        for path, value in ((self.here, 0), (self.router, 1), (self.there, 0)):  # a new namespace copies the machine's
            for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
                run(path, "sh", "-c", f"echo {value} >/proc/sys/net/{name}")
        run(self.router, "ip", "route", "add", self.moorage.subnets.rpartition("/")[0], "via", HERE)
        run(self.router, "ip", "-6", "route", "add", "fd00:213:50::/63", "via", HERE6)

    def close(self) -> None:
        """Take all of it down."""
        try:
            self.moorage.close()
        finally:
            for path in (self.here, self.router, self.there):
                if os.path.exists(path):
                    netns.delete(path)

    def container(self, name: str, *words: str) -> str:
        """Start a container that sleeps; the path of its network namespace."""
        self.moorage.docker("run", "-d", "--name", name, *words, "busybox", "sleep", "1000")
        return f"/proc/{self.moorage.docker('inspect', '-f', '{{.State.Pid}}', name).stdout.strip()}/ns/net"

    def address(self, name: str, network: str = "bridge", key: str = "IPAddress") -> str:
        """A container's address."""
        shown = f'{{{{(index .NetworkSettings.Networks "{network}").{key}}}}}'
        return self.moorage.docker("inspect", "-f", shown, name).stdout.strip()

    def published(self, name: str, port: str) -> int:
        """The host port."""
        return int(self.moorage.docker("port", name, port).stdout.split("\n")[0].rpartition(":")[2])

    def serve(self, namespace: str, port: int = PORT, address: str = "0.0.0.0", kind: int = socket.SOCK_STREAM) -> None:
        """Serve until the test ends."""
        self.servers.append(Server(namespace, port, address, kind))


def _loopback() -> None:
    with netlink.Channel() as channel:
        channel.request(netlink.set_up(1))


def _cable(near: str, far: str, name: str) -> None:
    """From `up0` in the one namespace to `name` in the other."""
    fd = os.open(far, os.O_RDONLY)
    try:
        words = ("ip", "link", "add", "up0", "type", "veth", "peer", "name", name, "netns", f"/proc/self/fd/{fd}")
        subprocess.run(["nsenter", f"--net={near}", *words], pass_fds=(fd,), check=True)
    finally:
        os.close(fd)


@pytest.fixture(scope="module")
def world() -> Iterator[Hosts]:
    """The hosts; networks `one`, `two` (with IPv6), and `closed` (internal)."""
    if os.geteuid():
        pytest.skip("needs root: it makes network namespaces")
    with tempfile.TemporaryDirectory(prefix="mh", dir="/tmp") as folder:
        hosts = Hosts(folder)
        try:
            try:
                hosts.build()
            except (OSError, AssertionError, subprocess.CalledProcessError) as error:
                pytest.skip(f"this machine makes no network namespaces: {error}")
            hosts.moorage.start()
            hosts.moorage.load_busybox()
            hosts.moorage.docker("network", "create", "one")
            hosts.moorage.docker("network", "create", "--ipv6", "--subnet", "fd00:213:50::/64", "two")
            hosts.moorage.docker("network", "create", "--internal", "closed")
            yield hosts
        finally:
            hosts.close()


@pytest.fixture
def hosts(world: Hosts) -> Iterator[Hosts]:
    """The hosts without containers."""
    yield world
    for server in world.servers:
        server.close()
    world.servers.clear()
    left = world.moorage.docker("ps", "-aq").stdout.split()
    if left:
        world.moorage.docker("rm", "-f", *left)


def unreachable(namespace: str, address: str, port: int, kind: int = socket.SOCK_STREAM) -> bool:
    """Whether a call does not arrive: refused, sent nowhere, or lost."""
    try:
        call(namespace, address, port, kind, PATIENCE)
    except OSError:
        return True
    return False


def test_out_of_a_bridge_with_the_hosts_address(hosts: Hosts) -> None:
    for kind in (socket.SOCK_STREAM, UDP):
        hosts.serve(hosts.there, kind=kind)
    for name, words in (("plain", ()), ("own", ("--network", "one"))):
        inside = hosts.container(name, *words)
        assert call(inside, THERE, PORT) == HERE
        assert call(inside, THERE, PORT, UDP) == HERE


def test_out_by_ipv6(hosts: Hosts) -> None:
    hosts.serve(hosts.there, PORT, THERE6)
    inside = hosts.container("six", "--network", "two")
    assert call(inside, THERE6, PORT) == HERE6


def test_an_internal_network_leads_nowhere(hosts: Hosts) -> None:
    hosts.serve(hosts.there)
    inside = hosts.container("shut", "--network", "closed")
    assert unreachable(inside, THERE, PORT)
    gateway = hosts.moorage.docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "closed").stdout
    run(inside, "ip", "route", "add", "default", "via", gateway.strip())  # as one with NET_ADMIN could
    assert unreachable(inside, THERE, PORT)
    hosts.serve(inside)
    assert unreachable(hosts.there, hosts.address("shut", "closed"), PORT)
    beside = hosts.container("beside", "--network", "closed")
    assert call(beside, hosts.address("shut", "closed"), PORT) == hosts.address("beside", "closed")


def test_networks_are_apart(hosts: Hosts) -> None:
    first, second = hosts.container("first", "--network", "one"), hosts.container("second", "--network", "two")
    hosts.container("plain")
    for namespace in (first, second):
        hosts.serve(namespace)
    assert call(hosts.container("beside", "--network", "one"), hosts.address("first", "one"), PORT)
    assert unreachable(first, hosts.address("second", "two"), PORT)
    assert unreachable(second, hosts.address("first", "one"), PORT)
    assert unreachable(hosts.container("other"), hosts.address("first", "one"), PORT)
    assert call(hosts.here, hosts.address("first", "one"), PORT), "the host itself reaches its containers"


def test_nobody_outside_reaches_what_is_not_published(hosts: Hosts) -> None:
    inside = hosts.container("web", "-p", f"0:{PORT}", "--network", "two")
    hosts.serve(inside)
    hosts.serve(inside, PORT + 1)
    address = hosts.address("web", "two")
    assert call(hosts.there, HERE, hosts.published("web", str(PORT)))
    assert unreachable(hosts.there, address, PORT + 1)
    assert unreachable(hosts.router, address, PORT + 1)
    assert unreachable(hosts.there, address, PORT), "published or not: not past the host's port"
    hosts.serve(inside, PORT + 2, hosts.address("web", "two", "GlobalIPv6Address"))
    assert unreachable(hosts.there, hosts.address("web", "two", "GlobalIPv6Address"), PORT + 2)


def test_published_across_the_network(hosts: Hosts) -> None:
    inside = hosts.container("web", "-p", f"0:{PORT}", "-p", f"0:{PORT}/udp", "--network", "two")
    hosts.serve(inside, PORT, "::")  # takes callers by IPv4 as well
    hosts.serve(inside, PORT, kind=UDP)
    port, udp = hosts.published("web", f"{PORT}/tcp"), hosts.published("web", f"{PORT}/udp")
    assert call(hosts.there, HERE, port) == f"::ffff:{THERE}", "the caller's own address is seen"
    assert call(hosts.there, HERE_TOO, port) == f"::ffff:{THERE}"
    assert call(hosts.there, HERE6, port) == THERE6
    assert call(hosts.there, HERE, udp, UDP) == THERE
    assert call(hosts.here, "127.0.0.1", port)
    assert call(hosts.here, HERE, port)


def test_published_by_ipv6_where_the_container_has_none(hosts: Hosts) -> None:
    """Each address of the host answers by itself; the container sees the host, as it does with dockerd."""
    words = ("-p", f"0:{PORT}", "-p", f"0:{PORT}/udp", "-p", f"[::1]:18004:{PORT}", "-p", f"[{HERE6}]:18005:{PORT}")
    inside = hosts.container("web", *words)
    for kind in (socket.SOCK_STREAM, UDP):
        hosts.serve(inside, kind=kind)
    port, udp = hosts.published("web", f"{PORT}/tcp"), hosts.published("web", f"{PORT}/udp")
    gateway = hosts.address("web", key="Gateway")
    for caller, address in ((hosts.there, HERE6), (hosts.there, HERE6_TOO), (hosts.here, HERE6), (hosts.here, "::1")):
        assert call(caller, address, port) == gateway, address
        assert call(caller, address, udp, UDP) == gateway, address
    assert call(hosts.there, HERE, port) == THERE, "by IPv4 the caller's own address is seen"
    assert call(hosts.here, "::1", 18004) == gateway
    assert unreachable(hosts.there, HERE6, 18004)
    assert call(hosts.there, HERE6, 18005) == gateway
    assert unreachable(hosts.there, HERE6_TOO, 18005)
    run(hosts.here, "nft", "flush", "ruleset")
    assert call(hosts.there, HERE6, port) == gateway
    hosts.moorage.docker("rm", "-f", "web")
    assert unreachable(hosts.there, HERE6, port)
    assert unreachable(hosts.there, HERE6, udp, UDP)


def test_published_by_a_network_that_is_joined_later(hosts: Hosts) -> None:
    inside = hosts.container("web", "-p", f"18006:{PORT}", "--network", "closed")
    hosts.serve(inside)
    assert hosts.moorage.docker("port", "web").stdout == ""
    assert unreachable(hosts.there, HERE, 18006)
    hosts.moorage.docker("network", "connect", "bridge", "web")
    assert hosts.moorage.docker("port", "web").stdout.split("\n")[0] == f"{PORT}/tcp -> 0.0.0.0:18006"
    assert call(hosts.there, HERE, 18006) == THERE
    for caller, address in ((hosts.there, HERE6), (hosts.here, "::1")):
        assert call(caller, address, 18006) == hosts.address("web", key="Gateway")
    hosts.container("late", "-p", f"18006:{PORT}", "--network", "closed")
    refused = hosts.moorage.docker("network", "connect", "bridge", "late", check=False)
    assert "daemon: driver failed programming external connectivity on endpoint late (" in refused.stderr
    assert "Bind for 0.0.0.0:18006 failed: port is already allocated" in refused.stderr
    assert hosts.moorage.docker("inspect", "-f", "{{len .NetworkSettings.Networks}}", "late").stdout == "1\n"
    hosts.moorage.docker("rm", "-f", "web")
    hosts.moorage.docker("network", "connect", "bridge", "late")
    assert hosts.published("late", str(PORT)) == 18006
    hosts.moorage.docker("restart", "-t", "0", "late")
    assert hosts.published("late", str(PORT)) == 18006


def test_published_on_one_address(hosts: Hosts) -> None:
    words = ("-p", f"{HERE_TOO}:18001:{PORT}", "-p", f"127.0.0.1:18002:{PORT}", "-p", f"{HERE_TOO}:18003:{PORT}/udp")
    inside = hosts.container("web", *words)
    for kind in (socket.SOCK_STREAM, UDP):
        hosts.serve(inside, kind=kind)
    assert call(hosts.there, HERE_TOO, 18001) == THERE
    assert unreachable(hosts.there, HERE, 18001)
    assert call(hosts.there, HERE_TOO, 18003, UDP) == THERE
    assert unreachable(hosts.there, HERE, 18003, UDP)
    assert call(hosts.here, "127.0.0.1", 18002)
    for address in (HERE, HERE_TOO):
        assert unreachable(hosts.there, address, 18002)
    run(hosts.router, "ip", "addr", "del", "127.0.0.1/8", "dev", "lo")  # a neighbour that asks `here` for its loopback
    try:
        run(hosts.router, "ip", "route", "add", "127.0.0.0/8", "via", HERE, "dev", "up40")
        run(hosts.router, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet")
        assert unreachable(hosts.router, "127.0.0.1", 18002)
    finally:
        run(hosts.router, "sh", "-c", "echo 0 >/proc/sys/net/ipv4/conf/all/route_localnet")
        run(hosts.router, "ip", "route", "del", "127.0.0.0/8")
        run(hosts.router, "ip", "addr", "add", "127.0.0.1/8", "dev", "lo")


def test_a_range_of_ports(hosts: Hosts) -> None:
    inside = hosts.container("web", "-p", "18100-18102:7000-7002")
    for number in range(3):
        hosts.serve(inside, PORT + number)
    assert [call(hosts.there, HERE, 18100 + number) for number in range(3)] == [THERE] * 3
    hosts.container("next", "-p", "18100-18110:7000")
    assert hosts.published("next", "7000") == 18103, "the first free one"


@pytest.mark.parametrize("network", ["bridge", "one"])
def test_containers_use_published_ports_as_others_do(hosts: Hosts, network: str) -> None:
    inside = hosts.container("web", "-p", f"0:{PORT}", "-p", f"0:{PORT}/udp", "--network", network)
    for kind in (socket.SOCK_STREAM, UDP):
        hosts.serve(inside, kind=kind)
    port, udp = hosts.published("web", f"{PORT}/tcp"), hosts.published("web", f"{PORT}/udp")
    callers = {
        "itself": inside,
        "on its bridge": hosts.container("beside", "--network", network),
        "on another": hosts.container("other", "--network", "two"),
    }
    for who, caller in callers.items():
        assert call(caller, HERE, port), who
        assert call(caller, HERE, udp, UDP), who


def test_the_hosts_own_name(hosts: Hosts) -> None:
    hosts.serve(hosts.here)
    for name, network in (("plain", "bridge"), ("own", "one")):
        words = ("--add-host", "host.docker.internal:host-gateway", "--network", network)
        inside = hosts.container(name, *words)
        said = hosts.moorage.docker("exec", name, "cat", "/etc/hosts").stdout
        (address,) = [line.split()[0] for line in said.splitlines() if line.endswith("\thost.docker.internal")]
        assert call(inside, address, PORT) == hosts.address(name, network)
    hosts.serve(hosts.here, PORT + 1, address, UDP)
    assert call(inside, address, PORT + 1, UDP)


def test_networks_stay_when_the_service_leaves(hosts: Hosts) -> None:
    hosts.serve(hosts.there)
    inside = hosts.container("web", "-p", f"0:{PORT}")
    hosts.serve(inside, PORT)
    port = hosts.published("web", str(PORT))

    def works() -> bool:
        return call(hosts.there, HERE, port) == THERE and call(inside, THERE, PORT) == HERE

    hosts.moorage.wait_idle()
    assert works()
    assert hosts.moorage.service_pid() is None
    hosts.moorage.docker("ps")
    hosts.moorage.kill_service()
    assert works()
    hosts.moorage.restart()
    assert works()


def test_a_flushed_packet_filter_is_put_back(hosts: Hosts) -> None:
    inside = hosts.container("web", "-p", f"0:{PORT}")
    hosts.serve(inside)
    hosts.serve(inside, PORT + 1)
    port = hosts.published("web", str(PORT))
    run(hosts.here, "nft", "flush", "ruleset")
    assert unreachable(hosts.there, HERE, port)
    hosts.container("next")  # the next start looks after the rules
    assert call(hosts.there, HERE, port) == THERE
    assert unreachable(hosts.there, hosts.address("web"), PORT + 1)


def test_here_is_no_router_between_others(hosts: Hosts) -> None:
    """Forwarding was off before: what is no container's business is still not forwarded."""
    hosts.container("any")
    hosts.serve(hosts.there)
    stranger = f"{os.path.dirname(hosts.here)}/stranger"
    netns.create(stranger, _loopback)
    try:
        _cable(stranger, hosts.here, "up1")
        for path, device, address in ((hosts.here, "up1", "10.213.42.1/24"), (stranger, "up0", "10.213.42.2/24")):
            run(path, "ip", "addr", "add", address, "dev", device)
            run(path, "ip", "link", "set", device, "up")
        run(stranger, "ip", "route", "add", "default", "via", "10.213.42.1")
        run(hosts.router, "ip", "route", "add", "10.213.42.0/24", "via", HERE)
        assert unreachable(stranger, THERE, PORT)
        web = hosts.container("web", "-p", f"0:{PORT}")
        hosts.serve(web)
        assert call(stranger, "10.213.42.1", hosts.published("web", str(PORT))) == "10.213.42.2"
    finally:
        run(hosts.here, "ip", "link", "delete", "up1")
        netns.delete(stranger)


MODE = "com.docker.network.bridge.gateway_mode_ipv"


@pytest.mark.parametrize("mode", ["nat", "routed", "nat-unprotected"])
def test_gateway_modes_from_another_host(hosts: Hosts, mode: str) -> None:
    """What `there` reaches of a container at its own address, when the router knows the way."""
    create = ("network", "create", "-o", f"{MODE}4={mode}", "-o", f"{MODE}6={mode}")
    hosts.moorage.docker(*create, "--ipv6", "--subnet", "fd00:213:50:1::/64", f"by-{mode}")
    try:
        inside = hosts.container("web", "--network", f"by-{mode}", "-p", str(PORT))
        hosts.serve(inside, address="::")
        hosts.serve(inside, PORT + 1, "::")
        hosts.serve(hosts.there, address="::")
        addresses = {
            hosts.address("web", f"by-{mode}"): THERE,
            hosts.address("web", f"by-{mode}", "GlobalIPv6Address"): THERE6,
        }
        for address, caller in addresses.items():
            seen = caller if ":" in caller else f"::ffff:{caller}"
            if mode == "nat":
                assert unreachable(hosts.there, address, PORT)
            else:
                assert call(hosts.there, address, PORT) == seen
            if mode == "nat-unprotected":
                assert call(hosts.there, address, PORT + 1) == seen
            else:
                assert unreachable(hosts.there, address, PORT + 1)
            outward = call(inside, caller, PORT).removeprefix("::ffff:")
            assert outward == (address if mode == "routed" else HERE6 if ":" in caller else HERE)
        host_port = hosts.moorage.docker("port", "web", str(PORT), check=False).stdout
        assert bool(host_port) is (mode != "routed")
        for host in (HERE, HERE6) if host_port else ():
            assert call(hosts.there, host, hosts.published("web", str(PORT))).endswith(
                THERE if host == HERE else THERE6
            )
    finally:
        hosts.moorage.docker("rm", "-f", "web")
        hosts.moorage.docker("network", "rm", f"by-{mode}")


def test_gateway_modes_from_another_network(hosts: Hosts) -> None:
    """What is published on a routed network is open to the containers of others; what is not, is not."""
    hosts.moorage.docker("network", "create", "-o", f"{MODE}4=routed", "routed")
    try:
        inside = hosts.container("web", "--network", "routed", "-p", str(PORT))
        hosts.serve(inside)
        hosts.serve(inside, PORT + 1)
        address, neighbour = hosts.address("web", "routed"), hosts.container("neighbour", "--network", "one")
        assert call(neighbour, address, PORT)
        assert unreachable(neighbour, address, PORT + 1)
    finally:
        hosts.moorage.docker("rm", "-f", "web")
        hosts.moorage.docker("network", "rm", "routed")
