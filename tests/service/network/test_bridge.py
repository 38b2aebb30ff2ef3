"""The default bridge: packets really go where they should, and nowhere else."""

import socket
from collections.abc import Callable

import pytest

from service.engine import network_repair, network_settings
from service.kernel import netns
from tests.service.network.conftest import PATIENCE, UNREACHABLE, Host, Server, call, reached, run

WEB = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
Serve = Callable[..., Server]


def test_addresses_and_route(host: Host) -> None:
    first, second = host.container("a"), host.container("b")
    assert (first.ip, second.ip) == ("172.17.0.2", "172.17.0.3")
    assert "default via 172.17.0.1 dev eth0" in first.run("ip", "route")
    assert "02:42:ac:11:00:02" in first.run("ip", "link", "show", "eth0")
    assert "inet6" not in first.run("ip", "addr", "show", "eth0")
    assert "127.0.0.1/8" in first.run("ip", "addr", "show", "lo")


def test_none_has_only_a_loopback(host: Host) -> None:
    alone = host.container("alone", "none")
    assert "eth0" not in alone.run("ip", "link")
    assert "LOOPBACK,UP" in alone.run("ip", "link")


def test_host_mode_needs_no_namespace(host: Host) -> None:
    assert host.container("h", "host", WEB).plan.netns_path == ""


def test_outwards_with_the_address_of_the_host(host: Host, serve: Serve) -> None:
    serve(host.outside, 7000)
    assert call(host.container("a").namespace, "192.0.2.2", 7000) == "192.0.2.1"


def test_neighbours_see_each_other(host: Host, serve: Serve) -> None:
    first, second = host.container("a"), host.container("b")
    serve(second.namespace, 80)
    assert call(first.namespace, second.ip, 80) == first.ip


def test_published_port_from_outside_keeps_the_callers_address(host: Host, serve: Serve) -> None:
    web = host.container("web", ports=WEB)
    serve(web.namespace, 80)
    assert call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.1", "172.17.0.1"])
def test_published_port_from_the_host_itself(host: Host, serve: Serve, address: str) -> None:
    web = host.container("web", ports=WEB)
    serve(web.namespace, 80)
    assert call(host.namespace, address, 8080) in ("172.17.0.1", "192.0.2.1")


def test_published_port_from_containers_of_the_same_bridge(host: Host, serve: Serve) -> None:
    web, other = host.container("web", ports=WEB), host.container("other")
    serve(web.namespace, 80)
    assert call(other.namespace, "192.0.2.1", 8080) == "172.17.0.1"
    assert call(web.namespace, "192.0.2.1", 8080) == "172.17.0.1"  # hairpin: to itself


def test_published_udp(host: Host, serve: Serve) -> None:
    name = host.container("dns", ports={"53/udp": [{"HostPort": "5353"}]})
    serve(name.namespace, 53, kind=socket.SOCK_DGRAM)
    assert call(host.outside, "192.0.2.1", 5353, socket.SOCK_DGRAM) == "192.0.2.2"
    assert call(host.namespace, "127.0.0.1", 5353, socket.SOCK_DGRAM) == "172.17.0.1"


def test_udp_flow_that_began_before_the_start_reaches_the_container(host: Host, serve: Serve) -> None:
    """A sender that never pauses keeps its old, unredirected flow alive in the kernel's memory."""
    host.container("first")  # connection tracking is on

    with netns.inside(host.outside, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.settimeout(3)
        sender.sendto(b"early", ("192.0.2.1", 5353))
        name = host.container("dns", ports={"53/udp": [{"HostPort": "5353"}]})
        serve(name.namespace, 53, kind=socket.SOCK_DGRAM)
        sender.sendto(b"late", ("192.0.2.1", 5353))
        assert sender.recv(100) == b"192.0.2.2"


def test_port_of_one_address_only(host: Host, serve: Serve) -> None:
    web = host.container("web", ports={"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]})
    serve(web.namespace, 80)
    assert call(host.namespace, "127.0.0.1", 8080)
    with pytest.raises(UNREACHABLE):
        call(host.outside, "192.0.2.1", 8080, patience=PATIENCE)


def test_no_way_in_but_the_published_port(host: Host, serve: Serve) -> None:
    web = host.container("web", ports=WEB)
    serve(web.namespace, 80)
    serve(web.namespace, 81)
    host.run("nft", "list", "table", "inet", "mtest")

    run(host.outside, "ip", "route", "add", "172.17.0.0/16", "via", "192.0.2.1")
    for port in (80, 81):
        with pytest.raises(UNREACHABLE):
            call(host.outside, web.ip, port, patience=PATIENCE)
    host.run("nft", "flush", "chain", "inet", "mtest", "forward")  # the same call gets through without our rules
    host.run("nft", "chain inet mtest forward { policy accept; }")
    assert call(host.outside, web.ip, 81) == "192.0.2.2"


def test_a_container_cannot_reach_the_hosts_loopback(host: Host, serve: Serve) -> None:
    bad = host.container("bad")
    serve(host.namespace, 6000, "127.0.0.1")
    for command in (
        ["ip", "addr", "del", "127.0.0.1/8", "dev", "lo"],
        ["sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet"],
        ["ip", "route", "add", "127.0.0.1", "via", "172.17.0.1"],
    ):
        bad.run(*command)
    with pytest.raises(UNREACHABLE):
        call(bad.namespace, "127.0.0.1", 6000, patience=PATIENCE)
    host.run("nft", "flush", "chain", "inet", "mtest", "early")
    assert call(bad.namespace, "127.0.0.1", 6000)  # it is our rule that stops it


def test_the_host_does_not_become_a_router_for_others(host: Host) -> None:
    host.container("a")
    assert host.run("cat", "/proc/sys/net/ipv4/ip_forward").strip() == "1"
    assert "policy drop" in host.run("nft", "list", "chain", "inet", "mtest", "forward")


def test_a_host_that_forwards_already_goes_on_forwarding(host: Host) -> None:
    host.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
    host.container("a")
    assert "policy accept" in host.run("nft", "list", "chain", "inet", "mtest", "forward")


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_iptables_that_drops_what_is_forwarded(host: Host, serve: Serve, program: str) -> None:
    try:
        host.run(program, "-P", "FORWARD", "DROP")
    except AssertionError as error:
        pytest.skip(f"this machine has no {program}: {error}")
    host.run(program, "-N", "DOCKER-USER")
    serve(host.outside, 7000)
    web = host.container("web", ports=WEB)
    serve(web.namespace, 80)
    assert call(web.namespace, "192.0.2.2", 7000) == "192.0.2.1"
    assert call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"
    before = host.run(program, "-S")
    host.container("other")
    assert host.run(program, "-S") == before, "once is enough"
    host.run(program, "-A", "DOCKER-USER", "-s", "192.0.2.2", "-j", "DROP")  # the administrator's word counts
    with pytest.raises(UNREACHABLE):
        call(host.outside, "192.0.2.1", 8080, patience=PATIENCE)


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_iptables_that_refuses_by_a_last_rule(host: Host, serve: Serve, program: str) -> None:
    try:
        host.run(program, "-A", "FORWARD", "-j", "REJECT", "--reject-with", "icmp-host-prohibited")
    except AssertionError as error:
        pytest.skip(f"this machine has no {program}: {error}")
    serve(host.outside, 7000)
    web = host.container("web", ports=WEB)
    serve(web.namespace, 80)
    assert call(web.namespace, "192.0.2.2", 7000) == "192.0.2.1"
    assert call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"


def test_iptables_that_begins_to_drop_while_nobody_is_awake(host: Host, serve: Serve) -> None:
    """As when ufw is enabled on a machine that runs containers."""
    serve(host.outside, 7000)
    web = host.container("web", ports=WEB)
    serve(web.namespace, 80)
    try:
        host.run("iptables", "-P", "FORWARD", "DROP")
    except AssertionError as error:
        pytest.skip(f"this machine has no iptables: {error}")
    assert call(web.namespace, "192.0.2.2", 7000) == "192.0.2.1"
    assert call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"


def test_a_name_that_ends_as_anothers(host: Host, serve: Serve) -> None:
    """Two bridges of the user's naming: what is there for `xbr7` is not taken for `br7`'s."""
    host.run("iptables", "-P", "FORWARD", "DROP")
    serve(host.outside, 7000)
    for name in ("xbr7", "br7"):
        host.network(name, Options={"com.docker.network.bridge.name": name})
        there = host.container(name, name)
        assert call(there.namespace, "192.0.2.2", 7000) == "192.0.2.1"


@pytest.mark.parametrize("program", ["ip6tables-nft", "ip6tables-legacy"])
def test_ip6tables_that_drops_what_is_forwarded(host: Host, serve: Serve, program: str) -> None:
    try:
        host.run(program, "-P", "FORWARD", "DROP")
        host.run("ip", "addr", "add", "2001:db8::1/64", "dev", "up0", "nodad")
    except AssertionError as error:
        pytest.skip(f"this machine has no IPv6, or no {program}: {error}")
    run(host.outside, "ip", "addr", "add", "2001:db8::2/64", "dev", "eth0", "nodad")
    host.network("six", EnableIPv6=True, IPAM={"Config": [{"Subnet": "fd00:7::/64"}]})
    web = host.container("web", "six", ports=WEB)
    serve(web.namespace, 80, "::")
    assert reached(host.outside, "2001:db8::1", 8080) == "2001:db8::2"


def test_flushed_ruleset_is_repaired_with_everybodys_ports(host: Host, serve: Serve) -> None:
    web = host.container("web", ports=WEB)
    serve(web.namespace, 80)
    host.run("nft", "flush", "ruleset")
    with pytest.raises(UNREACHABLE):
        call(host.outside, "192.0.2.1", 8080, patience=PATIENCE)
    host.container("other")
    assert call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"


def test_rules_that_were_flushed_one_by_one_are_repaired(host: Host, serve: Serve) -> None:
    web = host.container("web", ports=WEB)
    serve(web.namespace, 80)
    host.run("nft", "flush", "table", "inet", "mtest")
    host.container("other")
    assert call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"


def test_deleted_bridge_is_made_again_with_its_members(host: Host, serve: Serve) -> None:
    web = host.container("web", ports=WEB)
    serve(web.namespace, 80)
    host.run("ip", "link", "del", "mtest0")
    host.container("other")
    assert call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"


@pytest.mark.parametrize("damage", ["nft flush ruleset", "nft delete table inet mtest", "ip link del mtest0"])
def test_a_service_that_begins_puts_right_what_is_missing(host: Host, serve: Serve, damage: str) -> None:
    web = host.container("web", ports=WEB)
    serve(web.namespace, 80)
    host.run(*damage.split())
    with pytest.raises(UNREACHABLE):
        call(host.outside, "192.0.2.1", 8080, patience=PATIENCE)
    complaints: list[str] = []
    host.do(network_repair.at_start, host.settings, host.engine.store, complaints.append)
    assert call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"
    assert not complaints


def test_a_changed_bridge_address_is_put_right(host: Host, serve: Serve) -> None:
    web = host.container("web")
    serve(host.outside, 7000)
    host.run("ip", "addr", "flush", "dev", "mtest0")
    host.run("ip", "addr", "add", "10.99.0.1/24", "dev", "mtest0")
    host.container("other")
    assert call(web.namespace, "192.0.2.2", 7000) == "192.0.2.1"
    assert "10.99" not in host.run("ip", "addr", "show", "mtest0")


def test_the_default_subnet_avoids_the_hosts_routes(host: Host) -> None:
    host.run("ip", "route", "add", "172.17.5.0/24", "via", "192.0.2.2")
    assert host.container("a").ip == "172.18.0.2"


def test_container_mode_shares_the_namespace(host: Host, serve: Serve) -> None:
    owner = host.container("owner")
    joiner = host.container("joiner", f"container:{owner.id}")
    assert joiner.namespace == owner.namespace
    assert host.do(network_settings.Summaries, host.engine.store).endpoints.keys() == {owner.id}
    joiner.release()
    serve(host.outside, 7000)
    assert call(owner.namespace, "192.0.2.2", 7000) == "192.0.2.1"


def test_the_gateway_keeps_its_mac_while_containers_come_and_go(host: Host) -> None:
    """A bridge without a MAC of its own takes its lowest port's; its neighbours would talk to nobody then."""

    def mac() -> str:
        return host.run("ip", "-br", "link").split("mtest0")[1].split()[1]

    first = host.container("first")
    before = mac()
    others = [host.container(f"c{number}") for number in range(4)]
    first.release()
    for other in others:
        other.release()
    assert host.left_behind() == []
    assert mac() == before
    host.run("ip", "link", "del", "mtest0")
    host.container("last")
    assert mac() == before, "whoever knows the gateway finds it again"
