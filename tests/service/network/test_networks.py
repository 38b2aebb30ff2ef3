"""User-defined networks, and what list and inspect show."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.engine import membership, network_create, network_settings, network_status, networks
from service.errors import Conflict, Forbidden, InvalidParameter, MoorageError, NotFound, SystemFailure
from service.kernel import netlink
from service.store import containers, events
from tests.service.network.conftest import PATIENCE, UNREACHABLE, Host, Server, call, everywhere_on, reached, run

Serve = Callable[..., Server]
WEB = {"80/tcp": [{"HostPort": "8080"}]}


def ipam(subnet: str, **more: Any) -> dict[str, Any]:
    return {"IPAM": {"Config": [{"Subnet": subnet, **more}]}}


def inspect(host: Host, name: str) -> dict[str, Any]:
    found = networks.find(host.settings, host.engine.store, name)
    return networks.describe(host.engine.store, found, members=True)


def connect(host: Host, network: str, container: str, **asked: Any) -> None:
    host.do(membership.connect, host.settings, host.engine.store, network, container, asked)


def disconnect(host: Host, network: str, container: str) -> None:
    host.do(membership.disconnect, host.settings, host.engine.store, network, container)


def remove(host: Host, network: str) -> None:
    host.do(networks.remove, host.settings, host.engine.store, network)


def shown(host: Host, container_id: str) -> dict[str, Any]:
    known = containers.get(host.engine.store, container_id)
    return network_settings.settings_for_inspect(host.settings, host.engine.store, known["record"], known["state"])


def test_the_predefined_networks(host: Host) -> None:
    found = host.do(networks.matching, host.settings, host.engine.store, {})
    assert {(network["Name"], network["Driver"]) for network in found} == {
        ("bridge", "bridge"),
        ("host", "host"),
        ("none", "null"),
    }
    again = host.do(networks.matching, host.settings, host.engine.store, {})
    assert [network["Id"] for network in again] == [network["Id"] for network in found]
    assert inspect(host, "bridge")["IPAM"]["Config"] == [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]


def test_inspect_shows_the_containers(host: Host) -> None:
    web = host.container("web")
    assert inspect(host, "bridge")["Containers"][web.id] == {
        "Name": "web",
        "EndpointID": web.plan.endpoints[0]["Id"],
        "MacAddress": "02:42:ac:11:00:02",
        "IPv4Address": "172.17.0.2/16",
        "IPv6Address": "",
    }


def test_inspect_of_a_container(host: Host) -> None:
    web = host.container("web", ports=WEB, ExposedPorts={"443/tcp": {}})
    running = shown(host, web.id)
    everywhere = [{"HostIp": address, "HostPort": "8080"} for address in everywhere_on(host)]
    assert running["Ports"] == {"80/tcp": everywhere, "443/tcp": None}
    assert running["IPAddress"] == "172.17.0.2"
    assert running["Networks"]["bridge"]["NetworkID"] == inspect(host, "bridge")["Id"]
    web.release()
    stopped = shown(host, web.id)
    assert (stopped["Ports"], stopped["SandboxID"], stopped["IPAddress"]) == ({}, "", "")
    assert stopped["Networks"]["bridge"]["NetworkID"] == inspect(host, "bridge")["Id"]  # compose compares it
    assert stopped["Networks"]["bridge"]["EndpointID"] == ""


def test_create_shows_exactly_what_was_given(host: Host) -> None:
    asked = ipam("10.7.0.0/24", IPRange="10.7.0.128/25", AuxiliaryAddresses={"printer": "10.7.0.5"})
    host.network("my net", **asked, Options={"x": "y"}, Labels={"l": "v"}, Attachable=True)
    made = inspect(host, "my net")
    assert made["IPAM"] == {
        "Driver": "default",
        "Options": None,
        "Config": [
            {
                "Subnet": "10.7.0.0/24",
                "IPRange": "10.7.0.128/25",
                "AuxiliaryAddresses": {"printer": "10.7.0.5"},
            }
        ],
    }
    assert (made["Options"], made["Labels"], made["Attachable"]) == ({"x": "y"}, {"l": "v"}, True)
    assert "GivenSubnets" not in made
    assert "10.7.0.128/24" in host.run("ip", "addr", "show", f"br-{made['Id'][:12]}"), "the gateway that was not named"
    host.network("six", EnableIPv6=True, **ipam("fd00:7::/64"))
    assert [sorted(pool) for pool in inspect(host, "six")["IPAM"]["Config"]] == [["Subnet"], ["Gateway", "Subnet"]]


@pytest.mark.parametrize(
    ("asked", "kind", "text"),
    [
        ({"Name": "bridge"}, Forbidden, "operation is not permitted on predefined bridge network "),
        ({"Name": " "}, InvalidParameter, "invalid name"),
        ({"Name": "taken"}, Conflict, "network with name taken already exists"),
        ({"Name": "n", "Driver": "host"}, Forbidden, 'only one instance of "host" network is allowed'),
        ({"Name": "n", "Driver": "nosuch"}, NotFound, 'plugin "nosuch" not found'),
        ({"Name": "n", **ipam("10.8.0.0/25")}, Forbidden, "Pool overlaps with other one on this address space"),
        ({"Name": "n", **ipam("garbage")}, InvalidParameter, "invalid subnet garbage: invalid CIDR block notation"),
        (
            {"Name": "n", **ipam("10.9.0.1/24")},
            InvalidParameter,
            "invalid subnet 10.9.0.1/24: it should be 10.9.0.0/24",
        ),
        ({"Name": "n", **ipam("10.9.0.0/24", Gateway="10.1.1.1")}, InvalidParameter, "invalid gateway 10.1.1.1"),
    ],
)
def test_what_cannot_be_created(host: Host, asked: dict[str, Any], kind: type[MoorageError], text: str) -> None:
    host.network("taken", **ipam("10.8.0.0/24"))
    with pytest.raises(kind) as refused:
        host.do(network_create.create, host.settings, host.engine.store, asked)
    assert text in refused.value.message


def test_networks_are_apart(host: Host, serve: Serve) -> None:
    host.network("one")
    host.network("two")
    first, second = host.container("a", "one"), host.container("b", "two", ports=WEB)
    neighbour = host.container("c", "two")
    serve(second.namespace, 80)
    assert call(neighbour.namespace, second.ip, 80) == neighbour.ip
    with pytest.raises(UNREACHABLE):
        call(first.namespace, second.ip, 80, patience=PATIENCE)
    assert call(first.namespace, "192.0.2.1", 8080)  # but a published port is for all


def test_an_internal_network_has_no_way_out(host: Host, serve: Serve) -> None:
    host.network("inside", Internal=True)
    first, second = host.container("a", "inside"), host.container("b", "inside")
    serve(host.outside, 7000)
    serve(second.namespace, 80)
    assert call(first.namespace, second.ip, 80)
    assert "default" not in first.run("ip", "route")
    first.run("ip", "route", "add", "default", "via", first.ip[: first.ip.rindex(".")] + ".1")
    with pytest.raises(UNREACHABLE):
        call(first.namespace, "192.0.2.2", 7000, patience=PATIENCE)


def test_static_addresses(host: Host) -> None:
    host.network("fixed", **ipam("10.7.0.0/24"))
    wanted = {"fixed": {"IPAMConfig": {"IPv4Address": "10.7.0.77"}}}
    assert host.container("a", "fixed", endpoints=wanted).ip == "10.7.0.77"
    with pytest.raises(Forbidden, match="Address already in use"):
        host.container("b", "fixed", endpoints=wanted)
    for end in ("10.7.0.0", "10.7.0.255", "10.7.0.1"):
        with pytest.raises(Forbidden, match="Address already in use"):
            host.container("e" + end, "fixed", endpoints={"fixed": {"IPAMConfig": {"IPv4Address": end}}})
    outside = {"fixed": {"IPAMConfig": {"IPv4Address": "10.9.0.7"}}}
    with pytest.raises(InvalidParameter, match="no configured subnet or ip-range contain the IP address"):
        host.container("c", "fixed", endpoints=outside)
    default = {"bridge": {"IPAMConfig": {"IPv4Address": "172.17.0.9"}}}
    with pytest.raises(InvalidParameter, match="supported on user defined networks only"):
        host.container("d", endpoints=default)


def test_ipv6(host: Host, serve: Serve) -> None:
    try:
        host.run("ip", "addr", "add", "2001:db8::1/64", "dev", "up0", "nodad")
    except AssertionError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    run(host.outside, "ip", "addr", "add", "2001:db8::2/64", "dev", "eth0", "nodad")
    host.network("six", EnableIPv6=True, **ipam("fd00:7::/64"))
    web = host.container("web", "six", ports=WEB)
    server = serve(web.namespace, 80, "::")
    serve(host.outside, 7000, "::")
    assert web.plan.endpoints[0]["IPv6"] == "fd00:7::2"
    assert [port["HostIP"] for port in web.plan.ports] == ["0.0.0.0", "::"]
    assert reached(host.outside, "2001:db8::1", 8080) == "2001:db8::2"
    assert call(host.outside, "192.0.2.1", 8080) == "::ffff:192.0.2.2"
    assert reached(web.namespace, "2001:db8::2", 7000) == "2001:db8::1"
    server.close()  # a socket keeps its namespace
    web.release()
    assert host.left_behind() == []


def test_connect_and_disconnect_live(host: Host, serve: Serve) -> None:
    host.network("back", **ipam("10.7.0.0/24"))
    web, other = host.container("web", ports=WEB), host.container("other", "back")
    serve(web.namespace, 80)
    connect(host, "back", "web", Aliases=["www"])
    assert set(shown(host, web.id)["Networks"]) == {"bridge", "back"}
    assert shown(host, web.id)["Networks"]["back"]["DNSNames"] == ["web", "www", web.id[:12]]
    assert call(other.namespace, "10.7.0.3", 80) == other.ip
    with pytest.raises(Forbidden, match="endpoint with name web already exists in network back"):
        connect(host, "back", "web")
    assert call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"
    disconnect(host, "bridge", "web")  # the published port moves to the network that is left
    assert "default via 10.7.0.1" in web.run("ip", "route")
    assert call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"
    disconnect(host, "back", "web")
    assert shown(host, web.id)["Networks"] == {}
    with pytest.raises(SystemFailure, match="is not connected to network back"):
        disconnect(host, "back", "web")
    web.release()
    other.release()
    assert host.left_behind() == []


def test_connect_what_does_not_run(host: Host) -> None:
    host.network("back", **ipam("10.7.0.0/24"))
    record = host.record("web")
    connect(host, "back", "web", IPAMConfig={"IPv4Address": "10.7.0.9"})
    record = containers.get(host.engine.store, record["Id"])["record"]
    web = host.start(record)
    assert "10.7.0.9/24" in web.run("ip", "addr", "show", "eth1")
    assert "default via 10.7.0.1" in web.run("ip", "route")  # the network whose name sorts first


@pytest.mark.parametrize(
    ("network", "mode", "text"),
    [
        (
            "host",
            "default",
            "cannot connect container to host network - container must be created in host network mode",
        ),
        ("none", "default", "one of the networks in private (none) mode"),
        ("bridge", "host", "container sharing network namespace with another container or host"),
    ],
)
def test_what_cannot_be_connected(host: Host, network: str, mode: str, text: str) -> None:
    host.record("web", mode)
    with pytest.raises(InvalidParameter) as refused:
        connect(host, network, "web")
    assert text in refused.value.message


def test_remove(host: Host) -> None:
    network_id = host.network("gone")
    assert f"br-{network_id[:12]}" in host.run("ip", "link")
    busy = host.container("busy", "gone")
    with pytest.raises(Forbidden) as refused:
        remove(host, "gone")
    assert refused.value.message.startswith(
        'error while removing network: network gone has active endpoints (name:"busy" id:"'
    )
    busy.release()
    remove(host, "gone")
    assert f"br-{network_id[:12]}" not in host.run("ip", "link")
    assert network_id[:12] not in host.run("nft", "list", "ruleset")
    with pytest.raises(NotFound, match="network gone not found"):
        remove(host, "gone")
    with pytest.raises(Forbidden, match="bridge is a pre-defined network and cannot be removed"):
        remove(host, "bridge")
    actions = [event["Action"] for event in events.after(host.engine.store, 0) if event["Type"] == "network"]
    assert actions == ["create", "connect", "disconnect", "destroy"]


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_iptables_forgets_a_removed_network(host: Host, program: str) -> None:
    try:
        host.run(program, "-P", "FORWARD", "DROP")
    except AssertionError as error:
        pytest.skip(f"this machine has no {program}: {error}")
    network_id = host.network("gone")
    assert network_id[:12] in host.run(program, "-S")
    remove(host, "gone")
    assert network_id[:12] not in host.run(program, "-S")


def test_prune_spares_what_containers_will_need(host: Host) -> None:
    for name in ("free", "wanted", "labelled"):
        host.network(name, Labels={"keep": ""} if name == "labelled" else {})
    host.record("sleeper", "wanted")

    def prune(filters: dict[str, list[str]]) -> list[str] | None:
        return host.do(networks.prune, host.settings, host.engine.store, filters)

    assert prune({"label!": ["keep"]}) == ["free"]
    assert prune({}) == ["labelled"]
    assert prune({}) is None
    with pytest.raises(InvalidParameter):
        prune({"foo": ["a"]})


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"driver": ["null"]}, {"none"}),
        ({"type": ["custom"]}, {"mine"}),
        ({"name": ["^m"]}, {"mine"}),
        ({"label": ["a=b"]}, {"mine"}),
        ({"label": ["a=c"]}, set()),
        ({"scope": ["swarm"]}, set()),
        ({"dangling": ["true"]}, {"mine"}),
        ({"dangling": ["false"]}, {"bridge", "host", "none"}),
    ],
)
def test_filters(host: Host, filters: dict[str, list[str]], names: set[str]) -> None:
    host.network("mine", Labels={"a": "b"})
    found = host.do(networks.matching, host.settings, host.engine.store, filters)
    assert {network["Name"] for network in found} == names


@pytest.mark.parametrize("filters", [{"foo": ["a"]}, {"type": ["a"]}, {"dangling": ["perhaps"]}])
def test_bad_filters(host: Host, filters: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidParameter):
        host.do(networks.matching, host.settings, host.engine.store, filters)


def test_networks_made_from_a_configuration(host: Host) -> None:
    pool = {"Subnet": "10.7.0.0/24", "Gateway": "10.7.0.9"}
    host.network("conf", ConfigOnly=True, IPAM={"Config": [pool]}, Options={"a": "b"}, Labels={"x": "y"})
    shown = inspect(host, "conf")
    assert (shown["Driver"], shown["ConfigOnly"], shown["IPAM"]["Config"]) == ("null", True, [pool])
    made = host.network("made", ConfigFrom={"Network": "conf"}, Internal=True)
    shown = inspect(host, "made")
    assert (shown["Driver"], shown["ConfigFrom"], shown["Internal"]) == ("bridge", {"Network": "conf"}, True)
    assert (shown["IPAM"]["Config"], shown["Options"], shown["Labels"]) == ([pool], {"a": "b"}, {"x": "y"})
    assert "10.7.0.9" in host.run("ip", "addr", "show", f"br-{made[:12]}")
    web = host.container("web", "made")
    assert web.ip == "10.7.0.1"
    with pytest.raises(Forbidden, match="cannot create endpoint on configuration-only network"):
        host.container("other", "conf")
    with pytest.raises(Forbidden, match='configuration network "conf" is in use'):
        remove(host, "conf")
    web.release()
    remove(host, "made")
    assert host.do(networks.prune, host.settings, host.engine.store, {}) is None, "a configuration waits for its use"
    remove(host, "conf")
    assert host.left_behind() == []


@pytest.mark.parametrize(
    ("asked", "kind", "text"),
    [
        ({"ConfigOnly": True, "Internal": True}, Forbidden, "can only contain network specific fields"),
        ({"ConfigOnly": True, "Scope": "local"}, Forbidden, "can only contain network specific fields"),
        ({"ConfigOnly": True, "ConfigFrom": {"Network": "conf"}}, Forbidden, "cannot depend on another configuration"),
        ({"ConfigFrom": {"Network": "nosuch"}}, NotFound, 'configuration network "nosuch" does not exist'),
        ({"ConfigFrom": {"Network": "bridge"}}, NotFound, 'configuration network "bridge" does not exist'),
        ({"ConfigFrom": {"Network": "conf"}, "Options": {"a": "b"}}, Forbidden, "network driver options are not"),
        ({"ConfigFrom": {"Network": "conf"}, "Labels": {"a": "b"}}, Forbidden, "user specified configurations are"),
        (
            {"ConfigFrom": {"Network": "conf"}, **ipam("10.8.0.0/24")},
            Forbidden,
            "user specified configurations are not",
        ),
        ({"ConfigFrom": {"Network": "odd"}}, InvalidParameter, "enable_icc value: zz"),
        ({"Ingress": True}, Forbidden, "Ingress network can only be global scope network"),
        (ipam("10.8.0.0/30", Gateway="10.8.0.0"), SystemFailure, "gateway (10.8.0.0): Address already in use"),
        (ipam("10.8.0.0/30", Gateway="10.8.0.3"), SystemFailure, "gateway (10.8.0.3): Address already in use"),
        (
            {"IPAM": {"Config": [{"Subnet": "fd00:98::/64"}, {"Subnet": "fd00:99::/64"}]}},
            Forbidden,
            "bridge driver doesn't support multiple subnets",
        ),
    ],
)
def test_refusals_change_nothing(host: Host, asked: dict[str, Any], kind: type[MoorageError], text: str) -> None:
    host.network("conf", ConfigOnly=True)
    host.network("odd", ConfigOnly=True, Options={"com.docker.network.bridge.enable_icc": "zz"})
    before = host.run("ip", "link"), host.do(networks.matching, host.settings, host.engine.store, {})
    with pytest.raises(kind) as refused:
        host.network("n", **asked)
    assert text in refused.value.message
    assert (host.run("ip", "link"), host.do(networks.matching, host.settings, host.engine.store, {})) == before


@pytest.mark.parametrize(
    ("pool", "containers", "used", "left"),
    [
        ({"Subnet": "10.7.0.0/24"}, 2, 5, 251),
        ({"Subnet": "10.7.0.0/24", "IPRange": "10.7.0.128/25", "AuxiliaryAddresses": {"a": "10.7.0.5"}}, 1, 5, 125),
        ({"Subnet": "fd00:7::/64"}, 1, 3, (1 << 64) - 3),
        ({"Subnet": "fd00:7::/48"}, 1, 3, (1 << 64) - 1),
    ],
)
def test_counters_of_addresses(host: Host, pool: dict[str, Any], containers: int, used: int, left: int) -> None:
    host.network("counted", EnableIPv4="." in pool["Subnet"], IPAM={"Config": [pool]})
    started = [host.container(f"c{number}", "counted") for number in range(containers)]

    def counted() -> dict[str, dict[str, int]]:
        found = networks.find(host.settings, host.engine.store, "counted")
        return network_status.subnets(host.engine.store, found)

    assert counted() == {pool["Subnet"]: {"IPsInUse": used, "DynamicIPsAvailable": left}}
    started[0].release()
    assert counted()[pool["Subnet"]]["IPsInUse"] == used - 1
    assert network_status.subnets(host.engine.store, networks.find(host.settings, host.engine.store, "none")) == {}


def test_addresses_from_pools_of_ones_own(host: Host) -> None:
    host.settings.subnets = "10.19.0.0/24/24,10.20.0.0/23/24,fd00:20::/63/64"
    shown = []
    assert inspect(host, "bridge")["IPAM"]["Config"][0]["Subnet"] == "10.19.0.0/24"
    for name in ("one", "two"):
        host.network(name, EnableIPv6=True)
        shown.append([pool["Subnet"] for pool in inspect(host, name)["IPAM"]["Config"]])
    assert shown == [["10.20.0.0/24", "fd00:20::/64"], ["10.20.1.0/24", "fd00:20:0:1::/64"]]
    with pytest.raises(InvalidParameter, match="all predefined address pools have been fully subnetted"):
        host.network("three")
    remove(host, "one")
    host.network("three", EnableIPv6=True)
    assert [pool["Subnet"] for pool in inspect(host, "three")["IPAM"]["Config"]] == shown[0]


@pytest.mark.timeout(300)
def test_many_networks_at_once(host: Host) -> None:
    """Made and removed side by side: no subnet is given twice, and the packet filter knows those that are there."""
    host.settings.subnets = "10.64.0.0/16/24"

    def known() -> list[Any]:
        return [inspect(host, name) for name in made]

    with ThreadPoolExecutor(50) as clients:
        made = [f"many{number}" for number in range(50)]
        list(clients.map(host.network, made))
        assert len({network["IPAM"]["Config"][0]["Subnet"] for network in known()}) == 50
        assert in_the_packet_filter(host) == {"mtest0", *(f"br-{network['Id'][:12]}" for network in known())}
        others = [f"more{number}" for number in range(25)]
        left = [clients.submit(remove, host, name) for name in made]
        list(clients.map(host.network, others))
        assert [each.result() for each in left] == [None] * 50
        made = others
        assert len({network["IPAM"]["Config"][0]["Subnet"] for network in known()}) == 25
        bridges = {"mtest0", *(f"br-{network['Id'][:12]}" for network in known())}
        assert in_the_packet_filter(host) == bridges
        links = host.do(lambda: netlink.links(netlink.Channel()))
        assert {link.name for link in links if link.kind == "bridge"} == bridges - {"mtest0"}  # nobody was on that one
        list(clients.map(lambda name: remove(host, name), others))
    assert in_the_packet_filter(host) == {"mtest0"}


def in_the_packet_filter(host: Host) -> set[str]:
    """The bridges that it knows."""
    return set(re.findall(r'"([^"]+)"', host.run("nft", "list", "set", "inet", "mtest", "bridges")))


def test_the_default_route_goes_to_the_highest_priority(host: Host) -> None:
    for name, number in (("a", 7), ("b", 8), ("c", 9)):
        host.network(name, **ipam(f"10.{number}.0.0/24"))

    def gateway() -> str:
        return web.run("ip", "route", "show", "default").split()[2]

    web = host.container("web", "a", endpoints={"a": {}, "b": {"GwPriority": 5}}, ports=WEB)
    assert gateway() == "10.8.0.1"
    assert web.plan.ports[0]["ContainerIP"] == "10.8.0.2"
    connect(host, "c", "web", GwPriority=9, IPAMConfig={"IPv4Address": "10.9.0.77"}, MacAddress="02:00:00:00:00:77")
    assert gateway() == "10.9.0.1"
    said = web.run("ip", "addr", "show", "eth2")
    assert "10.9.0.77/24" in said
    assert "02:00:00:00:00:77" in said
    assert "8080 : 10.9.0.77 . 80" in host.run("nft", "list", "map", "inet", "mtest", "published_any4")
    disconnect(host, "c", "web")
    assert gateway() == "10.8.0.1"
    disconnect(host, "b", "web")
    assert gateway() == "10.7.0.1"
    assert "8080 : 10.7.0.2 . 80" in host.run("nft", "list", "map", "inet", "mtest", "published_any4")
