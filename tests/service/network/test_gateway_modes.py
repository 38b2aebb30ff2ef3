"""Networks whose addresses are not hidden behind the host's, and neighbours that are kept apart."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from service.engine import membership, network_settings, networks
from service.errors import InvalidParameter
from service.kernel import netns
from service.store import containers
from tests.service.network.conftest import PATIENCE, UNREACHABLE, Host, Server, call, reached, run

Serve = Callable[..., Server]
MODE = "com.docker.network.bridge.gateway_mode_ipv"
ICC = "com.docker.network.bridge.enable_icc"
WEB = {"80/tcp": [{"HostPort": "8080"}]}


def routed(host: Host, name: str, mode: str, subnet: str = "10.7.0.0/24", **more: Any) -> None:
    """A network of that mode, to which the outside world knows the way."""
    host.network(name, IPAM={"Config": [{"Subnet": subnet}]}, Options={MODE + "4": mode}, **more)
    run(host.outside, "ip", "route", "add", subnet, "via", "192.0.2.1")


def ping(namespace: str, address: str) -> None:
    """An echo request (RFC 792, RFC 4443) and its reply. Raises TimeoutError."""
    six = ":" in address
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
    # the kernel fills in the checksum of ICMPv6; of these eight bytes ICMP's is the complement of the first two
    packet = b"\x80\0\0\0\0\0\0\0" if six else b"\x08\0\xf7\xff\0\0\0\0"
    with netns.inside(namespace, lambda: socket.socket(family, socket.SOCK_RAW, protocol)) as caller:
        caller.settimeout(30)
        caller.connect((address, 0))
        caller.send(packet)
        while caller.recv(1500)[0 if six else 20] != (129 if six else 0):
            pass  # neighbour discovery is of the same protocol


def test_routed(host: Host, serve: Serve) -> None:
    routed(host, "open", "routed")
    web = host.container("web", "open", ports=WEB)
    serve(web.namespace, 80)
    serve(web.namespace, 81)
    serve(host.outside, 7000)
    assert call(host.outside, web.ip, 80) == "192.0.2.2"
    assert call(web.namespace, "192.0.2.2", 7000) == web.ip  # with its own address
    ping(host.outside, web.ip)
    with pytest.raises(UNREACHABLE):
        call(host.outside, web.ip, 81, patience=PATIENCE)
    with pytest.raises(UNREACHABLE):
        call(host.outside, "192.0.2.1", 8080, patience=PATIENCE)  # no port of the host's is taken
    assert web.plan.ports == []
    known = containers.get(host.engine.store, web.id)
    shown = network_settings.settings_for_inspect(host.settings, host.engine.store, known["record"], known["state"])
    assert shown["Ports"] == {"80/tcp": None}
    host.run("nft", "flush", "ruleset")
    host.container("other", "open")  # the rules are written anew, with everybody's ports
    assert call(host.outside, web.ip, 80) == "192.0.2.2"
    web.release()
    assert web.ip not in host.run("nft", "list", "set", "inet", "mtest", "open4")


def test_routed_from_other_networks(host: Host, serve: Serve) -> None:
    routed(host, "open", "routed")
    web = host.container("web", "open", ports=WEB)
    serve(web.namespace, 80)
    serve(web.namespace, 81)
    host.network("inside", Internal=True)
    neighbour, prisoner = host.container("neighbour"), host.container("prisoner", "inside")
    assert call(neighbour.namespace, web.ip, 80)
    with pytest.raises(UNREACHABLE):
        call(neighbour.namespace, web.ip, 81, patience=PATIENCE)
    gateway = prisoner.ip[: prisoner.ip.rindex(".")] + ".1"
    prisoner.run("ip", "route", "add", "default", "via", gateway)
    with pytest.raises(UNREACHABLE):
        call(prisoner.namespace, web.ip, 80, patience=PATIENCE)


def test_open_ports_go_with_the_default_route(host: Host, serve: Serve) -> None:
    routed(host, "open", "routed")
    routed(host, "first", "routed", "10.8.0.0/24")
    web = host.container("web", "open", ports=WEB)
    serve(web.namespace, 80)
    host.do(membership.connect, host.settings, host.engine.store, "first", "web", {})
    assert call(host.outside, "10.8.0.2", 80) == "192.0.2.2"
    host.do(membership.disconnect, host.settings, host.engine.store, "first", "web")
    assert call(host.outside, web.ip, 80) == "192.0.2.2"
    assert "10.8.0.2" not in host.run("nft", "list", "set", "inet", "mtest", "open4")


def test_unprotected(host: Host, serve: Serve) -> None:
    routed(host, "open", "nat-unprotected")
    web = host.container("web", "open", ports=WEB)
    serve(web.namespace, 80)
    serve(web.namespace, 81)
    serve(host.outside, 7000)
    assert call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"
    assert call(host.outside, web.ip, 81) == "192.0.2.2"
    assert call(web.namespace, "192.0.2.2", 7000) == "192.0.2.1"
    host.do(networks.find, host.settings, host.engine.store, "open")


def test_routed_by_ipv6_only(host: Host, serve: Serve) -> None:
    try:
        host.run("ip", "addr", "add", "2001:db8::1/64", "dev", "up0", "nodad")
    except AssertionError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    run(host.outside, "ip", "addr", "add", "2001:db8::2/64", "dev", "eth0", "nodad")
    run(host.outside, "ip", "route", "add", "fd00:7::/64", "via", "2001:db8::1")
    pools = [{"Subnet": "10.7.0.0/24"}, {"Subnet": "fd00:7::/64"}]
    host.network("six", EnableIPv6=True, IPAM={"Config": pools}, Options={MODE + "6": "routed"})
    web = host.container("web", "six", ports=WEB)
    serve(web.namespace, 80, "::")
    assert [port["HostIP"] for port in web.plan.ports] == ["0.0.0.0"]
    assert reached(host.outside, "fd00:7::2", 80) == "2001:db8::2"
    assert call(host.outside, "192.0.2.1", 8080) == "::ffff:192.0.2.2"
    ping(host.outside, "fd00:7::2")


def test_neighbours_apart(host: Host, serve: Serve) -> None:
    """enable_icc=false, also where no br_netfilter shows the packet filter what a bridge carries."""
    host.network("apart", Options={ICC: "false"})
    one, other = host.container("one", "apart"), host.container("other", "apart", ports=WEB)
    serve(other.namespace, 80)
    serve(host.outside, 7000)
    host.run("sh", "-c", "[ ! -e /proc/sys/net/bridge ] || echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables")
    with pytest.raises(OSError):  # noqa: PT011 - no answer, or none even to ARP
        call(one.namespace, other.ip, 80, patience=PATIENCE)
    assert call(one.namespace, "192.0.2.2", 7000) == "192.0.2.1"
    assert call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"
    assert call(one.namespace, "192.0.2.1", 8080)  # published: for all
    bridge = other.plan.endpoints[0]["Bridge"]
    host.run("ip", "link", "del", bridge)
    host.container("third", "apart")  # makes it anew
    assert call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"
    with pytest.raises(OSError):  # noqa: PT011 - as above
        call(one.namespace, other.ip, 80, patience=PATIENCE)


def test_calls_to_the_outside_come_from_the_address_that_was_named(host: Host, serve: Serve) -> None:
    host.run("ip", "addr", "add", "192.0.2.77/24", "dev", "up0")
    host.network("named", Options={"com.docker.network.host_ipv4": "192.0.2.77"})
    web = host.container("web", "named", ports=WEB)
    serve(web.namespace, 80)
    serve(host.outside, 7000)
    assert call(web.namespace, "192.0.2.2", 7000) == "192.0.2.77"
    assert call(host.container("other").namespace, "192.0.2.2", 7000) == "192.0.2.1"
    assert call(host.outside, "192.0.2.77", 8080) == "192.0.2.2"
    for wrong in ("zz", "fd00::1"):
        with pytest.raises(InvalidParameter, match=r"failed to parse com\.docker\.network\.host_ipv4 value"):
            host.network("wrong", Options={"com.docker.network.host_ipv4": wrong})
