"""Which subnet a network gets that names none: the first of the pools that nobody uses."""

from service import daemon_json
from service.errors import SystemFailure
from service.kernel import netlink
from service.network import ipam
from service.store import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.settings import Settings
    from service.store.database import Database


def free(
    settings: "Settings", database: "Database", own_bridge: str = "", *, bits: int = 32, besides: str = ""
) -> ipam.Subnet:
    """A subnet from the pools that neither a network of ours nor a route of this machine uses.

    Routes by `own_bridge` do not count: that is the bridge of an instance whose store was lost. `bits`: of an address
    (32, 128); `besides`: a network (its id) whose subnets do not count. Raises InvalidParameter when all are in use, or
    no pool is of that family, SystemFailure for pools that cannot be understood.
    """
    taken = used(database, besides=besides)
    with netlink.Channel() as channel:
        own = netlink.link(channel, own_bridge) if own_bridge else None
        for destination, prefix, index in netlink.routes(channel, netlink.AF_INET if bits == 32 else netlink.AF_INET6):
            if own is None or index != own.index:
                taken.add(ipam.Subnet(int.from_bytes(destination, "big"), prefix, bits))
    given = pools(settings)
    try:
        return ipam.choose_subnet(ipam.pools(given if bits == 128 or "." in given else ipam.DEFAULT_POOLS, bits), taken)
    except ValueError as error:
        raise SystemFailure(f"the address pools for networks cannot be understood: {error}") from None


def pools(settings: "Settings") -> str:
    """The pools that networks take their subnets from, as `ipam.pools` reads them; empty: Docker's own.

    Those of the environment, or those of daemon.json. Raises SystemFailure.
    """
    return settings.subnets or ",".join(
        f"{base}/{size}" for base, size in daemon_json.read(settings.daemon_json).address_pools
    )


def used(database: "Database", *, besides: str = "") -> "set[ipam.Subnet]":
    """The subnets of our networks, besides that of one id."""
    return {
        ipam.parse_subnet(pool["Subnet"])
        for network in stored.all_networks(database)
        if not network["ConfigOnly"] and network["Id"] != besides
        for pool in network["IPAM"]["Config"] or ()
    }


def of_ipv6(settings: "Settings", database: "Database", network_id: str) -> ipam.Subnet:
    """For a network that wants IPv6 and names no subnet: one of the pools', or, where none is of IPv6, a /64 of unique
    local addresses (RFC 4193)."""
    if ":" in pools(settings):
        return free(settings, database, bits=128)
    return ipam.Subnet((0xFD << 120) | (int(network_id[:14], 16) << 64), 64, 128)
