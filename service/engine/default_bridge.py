"""The default network, `bridge`, as daemon.json wants it: its addresses, its MTU, what its neighbours may do."""

from service import daemon_json, journal
from service.engine import subnets
from service.errors import MoorageError
from service.kernel import netlink
from service.network import bridge, ipam, rules
from service.store import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.model.network import IPAMConfig, NetworkRecord
    from service.settings import Settings
    from service.store.database import Database

# by the bits of an address: the auxiliary address that is the containers' way out instead of the bridge's own
GATEWAYS = {32: "DefaultGatewayIPv4", 128: "DefaultGatewayIPv6"}
_SUBNET = ("bip", "fixed-cidr")  # the settings that name the subnet
_waiting: "list[dict[str, Any]]" = []  # what could not be done yet, as somebody is on the network


def settle(settings: "Settings", database: "Database", record: "NetworkRecord") -> None:
    """Fill in addresses and options. What cannot be had is told in the journal, and the network is as without it."""
    asked = daemon_json.readable(settings.daemon_json).default_bridge
    try:
        _fill(settings, database, record, asked)
    except (ValueError, MoorageError) as error:
        reason = error.message if isinstance(error, MoorageError) else str(error)
        journal.write("error", f"{settings.daemon_json}: the default network cannot be so: {reason}")
        _fill(settings, database, record, {})
    record["Asked"] = asked


def follow(settings: "Settings", database: "Database") -> None:
    """Make the network anew when daemon.json has changed and no container is on it; else that waits, and is told."""
    from service.engine import endpoints

    asked = daemon_json.readable(settings.daemon_json).default_bridge
    known = stored.by_name(database, "bridge")
    if known is None or known.get("Asked", {}) == asked:
        return
    if stored.endpoints_on(database, known["Id"]):
        if asked not in _waiting:
            _waiting[:] = [asked]
            journal.write("warning", f"{settings.daemon_json}: the default network changes when no container is on it")
        return
    with endpoints.exclusively(settings), database.write():
        record = stored.by_name(database, "bridge")
        if record is None or record.get("Asked", {}) == asked or stored.endpoints_on(database, record["Id"]):
            return
        with netlink.Channel() as channel:
            bridge.delete(channel, record)  # the next start makes it, of the new MTU
        settle(settings, database, record)
        stored.replace(database, record)
        endpoints.write_rules(settings, database)  # a crash before the commit: all of it is done again


def _fill(settings: "Settings", database: "Database", record: "NetworkRecord", asked: "dict[str, Any]") -> None:
    """Raises ValueError, or MoorageError when what is asked for cannot be had."""
    former = record["IPAM"]["Config"] or ()
    kept = next((pool["Subnet"] for pool in former if ":" not in pool["Subnet"]), "")
    if any(key in asked or key in record.get("Asked", {}) for key in _SUBNET):
        kept = ""
    if not kept and not any(key in asked for key in _SUBNET):
        kept = str(subnets.free(settings, database, settings.bridge, besides=record["Id"]))
    gateway, _, length = str(asked.get("bip", "")).partition("/")
    pools = [_pool(kept or (f"{gateway}/{length}" if gateway else asked["fixed-cidr"]), gateway, asked, 32)]
    record["EnableIPv6"] = bool(asked.get("ipv6"))
    if record["EnableIPv6"]:
        named = asked.get("fixed-cidr-v6") or str(subnets.of_ipv6(settings, database, record["Id"]))
        pools.append(_pool(named, "", asked, 128))
    taken = subnets.used(database, besides=record["Id"])
    for pool in pools:
        if any(ipam.parse_subnet(pool["Subnet"]).overlaps(other) for other in taken):
            raise ValueError(f"{pool['Subnet']} overlaps with another network")
    record["IPAM"]["Config"] = pools
    record["Options"] = {
        rules.BRIDGE + "default_bridge": "true",
        rules.BRIDGE + "enable_icc": str(asked.get("icc", True)).lower(),
        rules.BRIDGE + "enable_ip_masquerade": str(asked.get("ip-masq", True)).lower(),
        rules.BRIDGE + "host_binding_ipv4": ipam.address_text(ipam.parse_address(asked.get("ip", "0.0.0.0"))[0]),
        rules.BRIDGE + "name": settings.bridge,
        "com.docker.network.driver.mtu": str(asked.get("mtu") or 1500),
    }


def _pool(text: str, gateway: str, asked: "dict[str, Any]", bits: int) -> "IPAMConfig":
    subnet = ipam.parse_subnet(text)
    if subnet.bits != bits:
        raise ValueError(f"invalid subnet: {text}")
    pool: IPAMConfig = {"Subnet": str(subnet)}
    within = None
    if bits == 32 and "fixed-cidr" in asked:
        within = ipam.parse_subnet(asked["fixed-cidr"])
        if not (subnet.contains(within.base) and subnet.contains(within.last)):
            raise ValueError(f"{within} is no part of {subnet}")
        pool["IPRange"] = str(within)
    pool["Gateway"] = gateway or ipam.address_text(ipam.lowest_free(subnet, (), within), bits)
    way_out = asked.get("default-gateway" if bits == 32 else "default-gateway-v6")
    if way_out:
        if not subnet.contains(ipam.parse_address(way_out)[0]):
            raise ValueError(f"{way_out} is no address of {subnet}")
        pool["AuxiliaryAddresses"] = {GATEWAYS[bits]: way_out}
    return pool
