"""Which host ports a container gets for what it publishes, and what may be called at its own addresses instead."""

from service.engine import network_options
from service.errors import SystemFailure
from service.network import ipam, ports, rules
from service.store import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.model.container import ContainerRecord
    from service.model.network import Endpoint, NetworkRecord, Port
    from service.store.database import Database


def take_ports(
    database: "Database", record: "ContainerRecord", carrier: "Endpoint", taken: "list[Port]", held: "list[int]"
) -> None:
    """Host ports for what a container publishes: added to `taken`, and the sockets that hold them to `held`.

    Raises SystemFailure in dockerd's words when one cannot be had, InvalidParameter.
    """
    if carrier["Driver"] != "bridge":  # others are on the network of the host: nothing to publish
        return
    network = stored.find(database, carrier["NetworkId"])
    default = network["Options"].get(network_options.HOST_BINDING, "0.0.0.0")
    everywhere = [default] if default != "0.0.0.0" else _everywhere(carrier)
    try:
        for wish in ports.wishes(record["HostConfig"], record["Config"]):
            meant = [
                host_ip
                for host_ip in _meant(carrier, wish, everywhere)
                if not _is_routed(network, _address(carrier, host_ip))
            ]
            if meant:
                taken.extend(_take_port(database, record, carrier, wish, meant, held))
    except ports.PortTaken as refused:
        raise SystemFailure(
            "driver failed programming external connectivity on endpoint "
            f"{record['Name']} ({carrier['Id']}): {refused.message}"
        ) from refused


def _everywhere(carrier: "Endpoint") -> "list[str]":
    """All addresses of the host, those of IPv6 also for a container that has only IPv4 (moby 26:
    libnetwork/drivers/bridge/port_mapping_linux.go)."""
    return [*(["0.0.0.0"] if carrier["IPv4"] else []), *(["::"] if ports.serves_ipv6() else [])]


def _meant(carrier: "Endpoint", wish: ports.Wish, everywhere: "list[str]") -> "list[str]":
    """The host's addresses that a wish is about: `everywhere` when it names none. Raises PortTaken."""
    meant = [ipam.address_text(*ipam.parse_address(wish.host_ip))] if wish.host_ip else everywhere
    for host_ip in meant:
        if not _address(carrier, host_ip):
            raise ports.PortTaken(
                f"cannot publish on {ports.shown(host_ip, wish.first)}: the endpoint has no address of that family"
            )
    return meant


def _address(carrier: "Endpoint", host_ip: str) -> str:
    """The container's address that an address of the host leads to: of its family, else IPv4, by the keeper."""
    return carrier["IPv6"] or carrier["IPv4"] if ":" in host_ip else carrier["IPv4"]


def _is_routed(network: "NetworkRecord", address: str) -> bool:
    return rules.gateway_mode(network, 128 if ":" in address else 32) == "routed"


def open_ports(database: "Database", record: "ContainerRecord", carrier: "Endpoint") -> None:
    """Note at the endpoint what all may call there: the published ports, where its network is routed."""
    opened = []
    network = stored.find(database, carrier["NetworkId"])
    for address in (carrier["IPv4"], carrier["IPv6"]):
        if address and carrier["Driver"] == "bridge" and _is_routed(network, address):
            wishes = ports.wishes(record["HostConfig"], record["Config"])
            opened += [
                (address, protocol, number)
                for protocol, number in dict.fromkeys((wish.protocol, wish.container_port) for wish in wishes)
            ]
    if opened:
        carrier["Open"] = opened


def _take_port(
    database: "Database",
    record: "ContainerRecord",
    carrier: "Endpoint",
    wish: ports.Wish,
    meant: "list[str]",
    held: "list[int]",
) -> "list[Port]":
    """The first host port of a wish that is free on every address that is meant."""
    refusal = ports.PortTaken("all ports are allocated")
    for number in ports.candidates(wish, stored.cursor(database) if not wish.first else 0):
        taken = next((ip for ip in meant if stored.port_owner(database, wish.protocol, ip, number) is not None), None)
        if taken is not None:
            refusal = ports.PortTaken(f"Bind for {taken}:{number} failed: port is already allocated")
            continue
        try:
            held.extend(ports.bind_all(wish.protocol, meant, number))
        except ports.PortTaken as refused:
            refusal = refused
            continue
        if not wish.first:
            stored.set_cursor(database, number)
        given: list[Port] = [
            {
                "Protocol": wish.protocol,
                "HostIP": host_ip,
                "HostPort": number,
                "ContainerPort": wish.container_port,
                "ContainerIP": _address(carrier, host_ip),
                "ContainerId": record["Id"],
            }
            for host_ip in meant
        ]
        for port in given:
            stored.insert_port(database, port)
        return given
    raise refusal
