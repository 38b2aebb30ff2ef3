"""`kill -9` in the middle of connect, disconnect, create and remove: what it left is put right."""

from collections.abc import Callable
from typing import Any

import pytest

from service import bell
from service.engine import membership, network_create, networks
from service.errors import MoorageError
from service.kernel import netlink, netns
from service.network import ports, rules
from service.store import containers
from service.store import networks as stored
from tests.service.network.conftest import Container, Host, Interrupted

WEB = {"80/tcp": [{"HostPort": "8080"}]}
STRIDE = 53  # lines of ours between two places to be killed at: each costs a fork


def disorder(host: Host, container: Container) -> list[str]:
    """What the machine has otherwise than the store says of a container that runs: nothing, when all is well."""
    store, found = host.engine.store, []
    places = stored.endpoints_of(store, container.id)
    links = {link.name for link in host.do(lambda: netlink.links(netlink.Channel()))}
    own = {link.name for link in netns.inside(container.namespace, lambda: netlink.links(netlink.Channel()))}
    known = {place["HostInterface"] for place in stored.all_endpoints(store)}
    if {name for name in links if name.startswith("veth")} != known:
        found.append(f"host interfaces {links}, known {known}")
    if own - {"lo"} != {place["Interface"] for place in places}:
        found.append(f"interfaces {own}")
    gateway = next((place["Gateway"] for place in places if place["DefaultRoute"]), "")
    routes = [line.split()[2] for line in container.run("ip", "route").splitlines() if line.startswith("default")]
    if routes != [gateway] * bool(gateway):
        found.append(f"default routes {routes}, known {gateway}")
    with open(host.settings.container_root(container.id) + "/hosts", encoding="utf-8") as file:
        lines = sorted(line.split()[0] for line in file if line.split()[1:] == [container.name])
    if lines != sorted(place["IPv4"] for place in places):
        found.append(f"/etc/hosts {lines}")
    published = host.run("nft", "list", "map", "inet", "mtest", "published_any4")
    for port in filter(ports.is_redirected, stored.ports_of(store, container.id)):
        if f"{port['HostPort']} : {port['ContainerIP']} . {port['ContainerPort']}" not in published:
            found.append(f"{port} in {published}")
    asked = set(containers.get(store, container.id)["record"]["EndpointsConfig"])
    if asked != {place["NetworkName"] for place in places}:
        found.append(f"remembered {asked}")
    return found


def verb(host: Host, call: Callable[..., Any], network: str, *rest: Any) -> Callable[[], Any]:
    return lambda: call(host.settings, host.engine.store, network, "web", *rest)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["connect", "disconnect"])
def test_killed_anywhere(host: Host, name: str) -> None:
    """`back` sorts before `bridge`: with every join and leave the default route and the published port move."""
    host.network("back", IPAM={"Config": [{"Subnet": "10.7.0.0/24"}]})
    web = host.container("web", ports=WEB)
    host.container("other", "back")
    do = verb(host, membership.connect, "back", {}), verb(host, membership.disconnect, "back")
    there, back = do if name == "connect" else do[::-1]
    if name == "disconnect":
        host.do(back)
    assert disorder(host, web) == []
    at, killed, kills = 1, True, 0
    while killed:
        killed = Interrupted(host).run(there, at)
        kills += killed
        host.do(membership.finish, host.settings, host.engine.store, containers.get(host.engine.store, web.id))
        assert disorder(host, web) == [], f"killed at line {at}"
        present = any(place["NetworkName"] == "back" for place in stored.endpoints_of(host.engine.store, web.id))
        if present == (name == "connect"):  # it came to its end, now or afterwards
            host.do(back)
        at += STRIDE
    assert kills > 10


@pytest.mark.timeout(300)
def test_killed_anywhere_where_joining_publishes(host: Host) -> None:
    """An internal network published nothing: the ports come with the one that is joined, or not at all."""
    store = host.engine.store
    host.network("shut", Internal=True)
    host.network("back", IPAM={"Config": [{"Subnet": "10.7.0.0/24"}]})
    at, killed, kills = 1, True, 0
    while killed:
        web = host.container("web", "shut", ports=WEB)
        assert stored.ports_of(store, web.id) == []
        killed = Interrupted(host).run(verb(host, membership.connect, "back", {}), at)
        kills += killed
        host.do(membership.finish, host.settings, store, containers.get(store, web.id))
        assert disorder(host, web) == [], f"killed at line {at}"
        joined = any(place["NetworkName"] == "back" for place in stored.endpoints_of(store, web.id))
        published = {port["HostPort"] for port in stored.ports_of(store, web.id)}
        assert published == ({8080} if joined else set()), f"killed at line {at}"
        web.release()
        with store.write():
            containers.delete(store, web.id)
        bell.ring(host.settings.bell)  # the keeper has its names' sockets, and they its namespace
        assert host.left_behind() == []
        at += STRIDE
    assert kills > 10


def test_a_network_that_cannot_be_joined_any_more_is_left(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service was killed in a connect, and when it comes back the interface cannot be had."""
    host.network("back")
    web = host.container("web", ports=WEB)
    at = 1
    while not stored.endpoints_on(host.engine.store, stored.find(host.engine.store, "back")["Id"]):
        assert Interrupted(host).run(verb(host, membership.connect, "back", {}), at)
        at += 5

    def refuse(*_: Any) -> None:
        raise MoorageError("no more")

    monkeypatch.setattr("service.network.veth.attach", refuse)
    with pytest.raises(MoorageError, match="no more"):
        host.do(membership.finish, host.settings, host.engine.store, containers.get(host.engine.store, web.id))
    assert disorder(host, web) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["create", "remove"])
def test_killed_anywhere_with_a_network(host: Host, name: str) -> None:
    """Either it is there and works, or nothing is left of it."""
    store = host.engine.store
    host.container("zero")
    asked = {"Name": "back", "IPAM": {"Config": [{"Subnet": "10.7.0.0/24"}]}}

    def create() -> None:
        network_create.create(host.settings, store, asked)

    def remove() -> None:
        networks.remove(host.settings, store, "back")

    at, killed, kills = 1, True, 0
    while killed:
        if name == "remove" and stored.by_name(store, "back") is None:
            host.do(create)
        killed = Interrupted(host).run(create if name == "create" else remove, at)
        kills += killed
        if stored.by_name(store, "back") is not None:
            user = host.container(f"user{at}", "back")
            assert user.ip == "10.7.0.2"
            assert "10.7.0.1" in host.run("ip", "addr")
            user.release()
            if name == "create":
                host.do(remove)
        if stored.by_name(store, "back") is None:
            kept = {
                rules.bridge_name(network) for network in stored.all_networks(store) if network["Driver"] == "bridge"
            }
            links = host.do(lambda: netlink.links(netlink.Channel()))
            assert {link.name for link in links if link.kind == "bridge"} == kept
            host.do(networks.find, host.settings, store, "bridge")
        at += STRIDE
    assert kills > 5
