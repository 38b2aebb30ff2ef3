"""A container's places on networks: given when it starts, taken back when it ends, shown by inspect and list.

A start goes through three steps, because the slow ones are better done while the runtime creates the container:
`prepare` (what the store decides: addresses, host ports), `open_namespace` (the runtime needs it to be there), `wire`
(interfaces and rules). `release` undoes all of them, wherever they stopped: its rows go last, so a crash leaves enough
to do it again.

Synchronous and light to import: the exit hook and the boot unit call it too.
"""

import fcntl
import os

from service import timestamps
from service.engine import default_bridge, endpoint_settings, network_options, publishing
from service.engine.network_mode import PREDEFINED, asked_networks, dns_names, mode_of
from service.errors import Conflict, Forbidden, InvalidParameter, NotFound, SystemFailure
from service.ids import new_id
from service.kernel import netlink, netns, nftables
from service.network import bridge, dns, firewalld, forward, ipam, rules, veth, vlan
from service.store import containers, events
from service.store import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from typing import Any

    from service.model.container import ContainerRecord
    from service.model.network import Endpoint, NetworkRecord, Port
    from service.settings import Settings
    from service.store.database import Database


class Plan:
    """What `prepare` decided for one start.

    `netns_path`: the namespace for the runtime; empty: the host's. `reserved_fds`: sockets that hold the published
    ports, for the container's monitor to inherit; `close` our copies then.
    """

    __slots__ = ("database", "endpoints", "files_of", "netns_path", "owns_namespace", "ports", "record", "reserved_fds")

    def __init__(self, database: "Database", record: "ContainerRecord") -> None:
        self.database, self.record = database, record
        self.netns_path = ""
        self.owns_namespace = False
        self.files_of = ""  # container:<id>: whose /etc/hosts, hostname and resolv.conf are shared
        self.endpoints: list[Endpoint] = []
        self.ports: list[Port] = []
        self.reserved_fds: list[int] = []

    def close(self) -> None:
        """Close our copies of the reserved sockets."""
        while self.reserved_fds:
            os.close(self.reserved_fds.pop())


class exclusively:  # noqa: N801 - reads as a word in `with exclusively(...)`
    """One process (and thread) at a time looks at bridges and rules and puts them right."""

    def __init__(self, settings: "Settings") -> None:
        self.path = settings.run + "/network.lock"

    def __enter__(self) -> None:
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.fd, fcntl.LOCK_EX)

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        os.close(self.fd)


# the networks that are always there


def predefined(settings: "Settings", database: "Database") -> None:
    """Register `bridge`, `host` and `none`, with ids that stay, when they are missing.

    `bridge` follows daemon.json, as with a dockerd that is started anew: it is made again, as the file says by now,
    when no container is on it.
    """
    if PREDEFINED.keys() <= stored.ids_by_name(database).keys():
        default_bridge.follow(settings, database)
        return
    with database.write():
        for name, driver in PREDEFINED.items():
            if stored.by_name(database, name) is None:
                stored.insert(database, _predefined(settings, database, name, driver))


def _predefined(settings: "Settings", database: "Database", name: str, driver: str) -> "NetworkRecord":
    record: NetworkRecord = {
        "Name": name,
        "Id": new_id(),
        "Created": timestamps.now(),
        "Scope": "local",
        "Driver": driver,
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": None},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Options": {},
        "Labels": {},
    }
    if name == "bridge":
        default_bridge.settle(settings, database, record)
    return record


def bridges(database: "Database") -> "list[NetworkRecord]":
    """The networks that have a bridge."""
    return [network for network in stored.all_networks(database) if network["Driver"] == "bridge"]


def namespace_of(settings: "Settings", container_id: str) -> str:
    """Where the network namespace of a container is kept while it runs."""
    return f"{settings.run}/netns/{container_id}"


def is_closed(settings: "Settings") -> bool:
    """Whether forwarding was off on this machine before us: then we forward nothing that is not ours."""
    return os.path.exists(_forwarding_memory(settings))


def _forwarding_memory(settings: "Settings") -> str:
    return settings.run + "/forwarding"


# prepare


def prepare(settings: "Settings", database: "Database", record: "ContainerRecord") -> Plan:
    """Decide everything for a start: networks, addresses, host ports. One write transaction, or part of the caller's.

    Raises NotFound (a network), Conflict (the container whose network is shared does not run), InvalidParameter, and
    SystemFailure in dockerd's words when a host port is taken. Release what an earlier start left before.
    """
    plan = Plan(database, record)
    mode = mode_of(record)
    if mode.startswith("container:"):
        _share(settings, database, plan, mode.partition(":")[2])
        return plan
    predefined(settings, database)
    if mode != "host":
        plan.netns_path = namespace_of(settings, record["Id"])
        plan.owns_namespace = True
    if not mode:
        return plan
    try:
        with database.write():
            sandbox = new_id()
            wanted = list(_wanted(database, record, mode))
            names = endpoint_settings.interfaces(
                [(asked, network_options.prefix(network)) for network, asked in wanted]
            )
            for (network, asked), interface in zip(wanted, names, strict=True):
                plan.endpoints.append(allocate(database, record, network, asked, sandbox=sandbox, interface=interface))
            carrier = choose_default_route(plan.endpoints)
            if carrier is not None:
                publishing.open_ports(database, record, carrier)
            for endpoint in plan.endpoints:
                stored.insert_endpoint(database, endpoint)
                announce(database, "connect", endpoint)
            if carrier is not None:
                try:
                    publishing.take_ports(database, record, carrier, plan.ports, plan.reserved_fds)
                except SystemFailure as refused:
                    raise SystemFailure(f"failed to set up container networking: {refused.message}") from refused
    except BaseException:
        plan.close()
        raise
    return plan


def _share(settings: "Settings", database: "Database", plan: Plan, reference: str) -> None:
    try:
        owner = containers.find(database, reference)
    except NotFound as error:  # dockerd: not as a 404, which would say that the container to start is missing
        raise Conflict(f"joining network namespace of container: {error.message}") from None
    owner_id, owner_mode, status = owner["record"]["Id"], mode_of(owner["record"]), owner["state"]["status"]
    if owner_id == plan.record["Id"]:
        raise Conflict("cannot join own network namespace")
    if status == "restarting":
        raise Conflict(
            f"cannot join network namespace of container: Container {reference} is restarting, wait until the "
            "container is running"
        )
    if status not in ("running", "paused"):
        raise Conflict(
            f"cannot join network namespace of a non running container: container {owner['record']['Name']} is {status}"
        )
    plan.files_of = owner_id
    if owner_mode.startswith("container:"):
        _share(settings, database, plan, owner_mode.partition(":")[2])
    elif owner_mode != "host":
        plan.netns_path = namespace_of(settings, owner_id)


def _wanted(
    database: "Database", record: "ContainerRecord", mode: str
) -> "Iterable[tuple[NetworkRecord, dict[str, Any]]]":
    """The networks to join with what was asked for each; the network of the mode first, as eth0."""
    asked = {}
    for name, wanted in asked_networks(record).items():
        network = stored.find(database, name)
        asked[network["Name"]] = network, wanted
    _check_mixture(mode, [network for network, _ in asked.values()])
    by_id = {network["Id"]: name for name, (network, _) in asked.items()}
    main = next((name for known, name in by_id.items() if known.startswith(mode)), mode) if mode not in asked else mode
    for name in sorted(asked, key=lambda name: (name != main, name)):
        yield asked[name]


def _check_mixture(mode: str, networks: "Sequence[NetworkRecord]") -> None:
    """Raise InvalidParameter unless these networks can be had at once (moby: updateNetworkSettings)."""
    drivers = [network["Driver"] for network in networks]
    if "host" in drivers and mode != "host":
        raise InvalidParameter(
            "cannot connect container to host network - container must be created in host network mode"
        )
    if mode == "host" and drivers != ["host"]:
        raise InvalidParameter(
            "container sharing network namespace with another container or host cannot be connected to any other "
            "network"
        )
    if "null" in drivers and len(drivers) > 1:
        raise InvalidParameter(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )


def allocate(
    database: "Database",
    record: "ContainerRecord",
    network: "NetworkRecord",
    asked: "dict[str, Any]",
    *,
    sandbox: str,
    interface: str,
) -> "Endpoint":
    """A place on a network: addresses chosen, nothing stored or made. Inside the transaction that stores it.

    Raises InvalidParameter for an address that cannot be had there, Forbidden when it, or every one, is taken.
    """
    if network["ConfigOnly"]:
        raise Forbidden("cannot create endpoint on configuration-only network")
    endpoint_settings.check(network["Name"], network, asked)
    endpoint_id = new_id()
    endpoint: Endpoint = {
        "Id": endpoint_id,
        "NetworkId": network["Id"],
        "NetworkName": network["Name"],
        "Driver": network["Driver"],
        "ContainerId": record["Id"],
        "ContainerName": record["Name"],
        "SandboxId": sandbox,
        "Bridge": "",
        "Interface": "",
        "HostInterface": "",
        "Mac": "",
        "IPv4": "",
        "IPv4Prefix": 0,
        "Gateway": "",
        "IPv6": "",
        "IPv6Prefix": 0,
        "IPv6Gateway": "",
        "MTU": 0,
        "DefaultRoute": False,
        "Settings": asked,
        "DNSNames": None if network["Name"] in PREDEFINED else dns_names(record, asked),
    }
    if network["Driver"] == "bridge":
        endpoint["Bridge"] = rules.bridge_name(network)
        endpoint["HostInterface"] = "veth" + endpoint_id[:7]
        endpoint["MTU"] = bridge.mtu(network)
        if not rules.flag(network, "enable_icc", True):
            endpoint["Isolated"] = True
    if network["Driver"] == "bridge" or network["Driver"] in vlan.MODES:
        endpoint["Interface"] = interface
        options = asked.get("DriverOpts") or {}
        if options.get(endpoint_settings.SYSCTLS):
            endpoint["Sysctls"] = endpoint_settings.sysctls(options[endpoint_settings.SYSCTLS])
        _allocate_addresses(database, network, endpoint)
        number = ipam.parse_address(endpoint["IPv4"])[0] if endpoint["IPv4"] else 0
        if network["Driver"] == "ipvlan":
            if asked.get("MacAddress"):
                raise SystemFailure("ipvlan interfaces do not support custom mac address assignment")
            if vlan.mode(network) != "l2" and not network["Internal"]:
                endpoint["RouteByDevice"] = True
                endpoint["Gateway"] = endpoint["IPv6Gateway"] = ""
        elif asked.get("MacAddress"):
            endpoint["Mac"] = endpoint_settings.parse_mac(asked["MacAddress"])
        else:
            endpoint["Mac"] = ipam.mac_of(number) if number else ipam.random_mac()
    return endpoint


def _allocate_addresses(database: "Database", network: "NetworkRecord", endpoint: "Endpoint") -> None:
    known = (ipam.parse_address(address) for address in stored.addresses(database, network["Id"]))
    taken = set(known)
    wanted = endpoint["Settings"].get("IPAMConfig") or {}
    for pool in network["IPAM"]["Config"] or ():
        subnet = ipam.parse_subnet(pool["Subnet"])
        static = wanted.get("IPv4Address" if subnet.bits == 32 else "IPv6Address")
        if endpoint["IPv4" if subnet.bits == 32 else "IPv6"]:
            continue
        if static and not subnet.contains(ipam.parse_address(static)[0]):
            continue
        gateway = (pool.get("Gateway") or "").partition("/")[0]
        held = {number for number, bits in taken if bits == subnet.bits} | subnet.reserved
        held.update(
            ipam.parse_address(address)[0]
            for address in (gateway, *(pool.get("AuxiliaryAddresses") or {}).values())
            if address
        )
        if static:
            number = ipam.parse_address(static)[0]
            if number in held:
                raise Forbidden("Address already in use")
        else:
            within = ipam.parse_subnet(pool["IPRange"]) if pool.get("IPRange") else None
            number = _free_address(network, subnet, held, within)
        named = (pool.get("AuxiliaryAddresses") or {}).get(default_bridge.GATEWAYS[subnet.bits])
        way_out = "" if network["Internal"] else named or gateway
        if subnet.bits == 32:
            endpoint["IPv4"], endpoint["IPv4Prefix"] = ipam.address_text(number), subnet.prefix
            endpoint["Gateway"] = way_out
        else:
            endpoint["IPv6"], endpoint["IPv6Prefix"] = ipam.address_text(number, 128), subnet.prefix
            endpoint["IPv6Gateway"] = way_out


def _free_address(network: "NetworkRecord", subnet: ipam.Subnet, held: "set[int]", within: "ipam.Subnet | None") -> int:
    try:
        return ipam.lowest_free(subnet, held, within)
    except Forbidden:
        version = "4" if subnet.bits == 32 else "6"
        raise Forbidden(
            f"no available IPv{version} addresses on this network's address pools: {network['Name']} ({network['Id']})"
        ) from None


def choose_default_route(endpoints: "list[Endpoint]") -> "Endpoint | None":
    """Mark the endpoint that provides it: the highest GwPriority; among equals the network whose name sorts first."""
    able = [
        endpoint
        for endpoint in endpoints
        if endpoint["Gateway"] or endpoint["IPv6Gateway"] or endpoint.get("RouteByDevice")
    ]
    best = min(
        able, key=lambda known: (-int(known["Settings"].get("GwPriority") or 0), known["NetworkName"]), default=None
    )
    for endpoint in endpoints:
        endpoint["DefaultRoute"] = endpoint is best
    return best


def announce(database: "Database", action: str, endpoint: "Endpoint") -> None:
    """Record the event of a container that joins or leaves a network; of a build's own nothing is told."""
    if containers.is_hidden(database, endpoint["ContainerId"]):
        return
    attributes = {
        "container": endpoint["ContainerId"],
        "name": endpoint["NetworkName"],
        "type": endpoint["Driver"],
    }
    events.append(database, timestamps.now_ns(), "network", action, endpoint["NetworkId"], attributes)


# open_namespace, wire


def open_namespace(plan: Plan) -> None:
    """Make the network namespace that the runtime is going to use. Raises OSError when the kernel refuses."""
    if not plan.owns_namespace:
        return
    veth.make_namespace(plan.netns_path)
    if _with_names(plan.endpoints):
        # first in the row, so that the keeper finds them at once: published ports may be thousands
        plan.reserved_fds[:0] = netns.inside(plan.netns_path, dns.open_sockets)


def _with_names(endpoints: "list[Endpoint]") -> bool:
    return any(endpoint["DNSNames"] is not None for endpoint in endpoints)


def open_name_sockets(settings: "Settings", container_id: str) -> "list[int]":
    """The sockets of a running container's name server, where it had none at its start. Raises OSError."""
    return netns.inside(namespace_of(settings, container_id), dns.open_sockets)


def wire(settings: "Settings", plan: Plan) -> None:
    """Interfaces, addresses, routes and published ports. Idempotent. Raises OSError or SystemFailure.

    What the endpoints stand on (bridge, packet filter) is looked at first and put right where it is missing.
    """
    endpoints = [endpoint for endpoint in plan.endpoints if endpoint["Interface"]]
    if not endpoints:
        return
    with netlink.Channel() as channel:
        for endpoint in endpoints:
            attach(settings, plan.database, channel, endpoint, plan.netns_path)
    opened = [endpoint for endpoint in endpoints if endpoint.get("Open")]
    if plan.ports or opened:
        rules.publish(settings.nft_table, plan.ports, opened)


def attach(
    settings: "Settings", database: "Database", channel: "netlink.Channel", endpoint: "Endpoint", namespace: str
) -> None:
    """An endpoint's interface, on what its network stands on. Raises OSError or SystemFailure."""
    network = stored.find(database, endpoint["NetworkId"])
    index = ensure(settings, database, channel, network)
    if network["Driver"] == "bridge":
        veth.attach(channel, endpoint, index, namespace)
    else:
        vlan.attach(channel, network, endpoint, index, namespace)


def ensure(settings: "Settings", database: "Database", channel: "netlink.Channel", network: "NetworkRecord") -> int:
    """The index of a network's bridge (or parent), when it, packet filter and forwarding are as they should be.

    Cheap when nothing is missing; else all of it is made from the store. Raises OSError or SystemFailure.
    """
    with exclusively(settings):
        if network["Driver"] != "bridge":
            return vlan.ensure(channel, network)
        members = (known["HostInterface"] for known in stored.endpoints_on(database, network["Id"]))
        index = bridge.ensure(channel, network, members)
        closed = bridge.enable_forwarding(_forwarding_memory(settings), ipv6=network["EnableIPv6"])
        with nftables.channel() as nf:
            if not rules.intact(nf, settings.nft_table, network):
                _write_rules(settings, database, closed=closed)
            forward.open_for(settings, nf, rules.bridge_name(network))
            firewalld.open_for(settings, nf, rules.bridge_name(network))
    return index


def write_rules(settings: "Settings", database: "Database") -> None:
    """The packet filter anew, from the store. Call under `exclusively`. Raises SystemFailure."""
    _write_rules(settings, database, closed=is_closed(settings))


def _write_rules(settings: "Settings", database: "Database", *, closed: bool) -> None:
    rules.write(settings, bridges(database), stored.all_ports(database), stored.opened(database), closed=closed)


# release


def release(settings: "Settings", database: "Database", container_id: str) -> None:
    """Take back all that a start was given: published ports, interfaces, namespace, rows. Idempotent.

    Raises OSError when the kernel refuses; the rows are kept then, so that it can be tried again.
    """
    endpoints = stored.endpoints_of(database, container_id)
    published = stored.ports_of(database, container_id)
    namespace = namespace_of(settings, container_id)
    opened = [endpoint for endpoint in endpoints if endpoint.get("Open")]
    if published or opened:
        with exclusively(settings):  # or a table written anew meanwhile would bring the elements back
            rules.withdraw(settings.nft_table, published, opened)
            veth.detach(endpoints, namespace)
            _forget(database, container_id, endpoints)
        return
    veth.detach(endpoints, namespace)
    if endpoints:
        _forget(database, container_id, endpoints)


def _forget(database: "Database", container_id: str, endpoints: "list[Endpoint]") -> None:
    with database.write():
        stored.delete_ports(database, container_id)
        for endpoint in endpoints:
            if stored.delete_endpoint(database, endpoint["Id"]):
                announce(database, "disconnect", endpoint)
