"""How many of a network's addresses are taken, and how many are left (API: NetworkStatus, IPAMStatus, SubnetStatus)."""

from service.network import ipam
from service.store import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.model.network import IPAMConfig, NetworkRecord
    from service.store.database import Database

_MOST = (1 << 64) - 1  # both counters end here


def describe(database: "Database", network: "NetworkRecord") -> "dict[str, Any]":
    """API: NetworkStatus. Without `Subnets` for a network that has none, as dockerd leaves it out."""
    counted = subnets(database, network)
    return {"IPAM": {"Subnets": counted} if counted else {}}


def subnets(database: "Database", network: "NetworkRecord") -> "dict[str, dict[str, int]]":
    """By subnet: `IPsInUse`, those of the subnet that nobody can be given any more (also the network's own address,
    IPv4's broadcast address, the gateway and the auxiliary ones), and `DynamicIPsAvailable`, those that a container
    that asks for none may get. Empty for a network without addresses.
    """
    given = [ipam.parse_address(address) for address in stored.addresses(database, network["Id"])]
    found = {}
    for pool in () if network["ConfigOnly"] else network["IPAM"]["Config"] or ():
        subnet = ipam.parse_subnet(pool["Subnet"])
        used = _reserved(pool, subnet)
        used.update(number for number, bits in given if bits == subnet.bits and subnet.contains(number))
        room = ipam.parse_subnet(pool["IPRange"]) if pool.get("IPRange") else subnet
        free = room.last - room.base + 1 - sum(room.contains(number) for number in used)
        found[pool["Subnet"]] = {"IPsInUse": min(len(used), _MOST), "DynamicIPsAvailable": min(free, _MOST)}
    return found


def _reserved(pool: "IPAMConfig", subnet: ipam.Subnet) -> "set[int]":
    named = [(pool.get("Gateway") or "").partition("/")[0], *(pool.get("AuxiliaryAddresses") or {}).values()]
    reserved = {ipam.parse_address(address)[0] for address in named if address}
    return reserved | subnet.reserved
