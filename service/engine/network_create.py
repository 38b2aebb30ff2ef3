"""A network is made (API: NetworkCreate): everything that can be wrong with it is found before anything is changed."""

import os

from service import bell, daemon_json, timestamps
from service.engine import endpoints, network_mode, network_options, networks, subnets, swarm
from service.errors import Forbidden, InvalidParameter, NotFound, SystemFailure
from service.ids import new_id
from service.kernel import netlink
from service.network import ipam, rules, vlan
from service.store import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from service.daemon_json import DaemonJson
    from service.model.network import IPAMConfig, NetworkRecord
    from service.settings import Settings
    from service.store.database import Database


def create(settings: "Settings", database: "Database", asked: "Mapping[str, Any]") -> "tuple[str, str]":
    """Make a network; its id, and a warning or "" (API: NetworkCreate, the body's names).

    Raises InvalidParameter, Conflict (the name is taken), Forbidden (a predefined name, an overlapping subnet),
    NotFound (no such driver).
    """
    endpoints.predefined(settings, database)
    name, driver = asked.get("Name") or "", asked.get("Driver") or "bridge"
    if name in network_mode.PREDEFINED:
        raise Forbidden(f"operation is not permitted on predefined {name} network ")
    if driver == "overlay":
        raise Forbidden(swarm.NOT_A_MANAGER)
    _check_configuration(asked)
    record = _record(name, driver, asked, daemon_json.read(settings.daemon_json))
    pools = _given_pools(asked.get("IPAM") or {})
    if not name.strip():
        raise InvalidParameter("invalid name: name is empty")
    if driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver != "bridge" and driver not in vlan.MODES:
        raise NotFound(f'could not find plugin {driver} in v1 plugin registry: plugin "{driver}" not found')
    if record["ConfigOnly"]:
        return _remember(settings, database, record, pools), ""
    if asked.get("Scope") == "swarm":
        raise Forbidden("cannot create a swarm scoped network when swarm is not active")
    with database.write():
        _adopt(database, record, pools)
        network_options.check(driver, record["Options"], internal=record["Internal"])
        _subnets(settings, database, record, pools)
        if driver == "bridge":
            _claim_bridge(database, record)
        else:
            _claim_parent(database, record)
        stored.insert(database, record)
        networks.announce(database, "create", record)
    try:
        _establish(settings, database, record)
    except BaseException as error:
        _abolish(settings, database, record)
        if isinstance(error, OSError):  # the kernel does not want it so: an MTU, a name
            raise SystemFailure(os.strerror(error.errno or 0).lower()) from error
        raise
    bell.ring(settings.bell)
    return record["Id"], ""


def _record(name: str, driver: str, asked: "Mapping[str, Any]", defaults: "DaemonJson") -> "NetworkRecord":
    given = asked.get("IPAM") or {}
    if (given.get("Driver") or "default") != "default":
        raise NotFound(
            f'could not find plugin {given["Driver"]} in v1 plugin registry: plugin "{given["Driver"]}" not found'
        )
    options = {str(key): str(value) for key, value in (asked.get("Options") or {}).items()}
    if not asked.get("ConfigFrom"):
        options = {**defaults.network_options.get(driver, {}), **options}
    wanted = options.get("com.docker.network.bridge.name", "")
    if len(wanted.encode()) > 15 or "/" in wanted or any(letter.isspace() for letter in wanted):
        raise InvalidParameter(f"invalid bridge name: {wanted}")
    ipv4 = asked.get("EnableIPv4")
    return {
        "Name": name,
        "Id": new_id(),
        "Created": timestamps.now(),
        "Scope": "local",
        "Driver": driver,
        "EnableIPv4": True if ipv4 is None else bool(ipv4),
        "EnableIPv6": bool(asked.get("EnableIPv6")),
        "IPAM": {"Driver": "default", "Options": given.get("Options"), "Config": []},
        "Internal": bool(asked.get("Internal")),
        "Attachable": bool(asked.get("Attachable")),
        "Ingress": False,
        "ConfigFrom": {"Network": (asked.get("ConfigFrom") or {}).get("Network") or ""},
        "ConfigOnly": bool(asked.get("ConfigOnly")),
        "Options": dict(sorted(options.items())),
        "Labels": dict(sorted((asked.get("Labels") or {}).items())),
    }


def _check_configuration(asked: "Mapping[str, Any]") -> None:
    """What may be said of a network that is only a configuration, and of one that is made from such a one.

    Raises Forbidden (moby: libnetwork/network.go, validateConfiguration).
    """
    given, source = asked.get("IPAM") or {}, (asked.get("ConfigFrom") or {}).get("Network")
    if asked.get("ConfigOnly") and any(asked.get(key) for key in ("Ingress", "Internal", "Attachable", "Scope")):
        raise Forbidden(
            "configuration network can only contain network specific fields. Network operator fields like "
            "[ ingress | internal | attachable | scope ] are not supported."
        )
    if asked.get("Ingress"):
        raise Forbidden("Ingress network can only be global scope network")
    if source and asked.get("ConfigOnly"):
        raise Forbidden("a configuration network cannot depend on another configuration network")
    if source and (
        any(asked.get(key) for key in ("EnableIPv6", "Labels"))
        or any(given.get(key) for key in ("Config", "Options"))
        or (given.get("Driver") or "default") != "default"
    ):
        raise Forbidden(
            "user specified configurations are not supported if the network depends on a configuration network"
        )
    if source and asked.get("Options"):
        raise Forbidden("network driver options are not supported if the network depends on a configuration network")


def _remember(settings: "Settings", database: "Database", record: "NetworkRecord", pools: "list[IPAMConfig]") -> str:
    """A network that is a configuration for others: nothing is made, no address is taken. Its id."""
    record["Driver"] = "null"
    record["IPAM"]["Config"] = pools or None
    with database.write():
        stored.insert(database, record)
        networks.announce(database, "create", record)
    bell.ring(settings.bell)
    return record["Id"]


def _adopt(database: "Database", record: "NetworkRecord", pools: "list[IPAMConfig]") -> None:
    """Take over what the network's configuration says. Raises NotFound when there is none of that name."""
    name = record["ConfigFrom"]["Network"]
    if not name:
        return
    source = stored.by_name(database, name)
    if source is None or not source["ConfigOnly"]:
        raise NotFound(f'configuration network "{name}" does not exist')
    record["EnableIPv4"], record["EnableIPv6"] = source["EnableIPv4"], source["EnableIPv6"]
    record["Options"], record["Labels"] = dict(source["Options"]), dict(source["Labels"])
    record["IPAM"]["Options"] = source["IPAM"]["Options"]
    pools.extend({**pool} for pool in source["IPAM"]["Config"] or ())


def _given_pools(given: "Mapping[str, Any]") -> "list[IPAMConfig]":
    """The address ranges that a request names. Raises InvalidParameter with everything that is wrong with them."""
    problems: list[str] = []
    pools = [_pool(pool, problems) for pool in given.get("Config") or () if any(pool.values())]
    if problems:
        marked = problems if len(problems) == 1 else [f"* {problem}" for problem in problems]
        raise InvalidParameter("invalid network config:\n" + "\n".join(marked))
    return pools


def _subnets(settings: "Settings", database: "Database", record: "NetworkRecord", pools: "list[IPAMConfig]") -> None:
    """Fill in the address ranges: those given, and one from the pools where IPv4 has none."""
    families = {ipam.parse_subnet(pool["Subnet"]).bits for pool in pools}
    pools.sort(key=lambda pool: ":" in pool["Subnet"])
    for pool in pools:
        if not pool.get("Gateway"):
            pool["GatewayChosen"] = True
    if 128 in families:
        record["EnableIPv6"] = True
    used = subnets.used(database)
    for pool in pools:
        subnet = ipam.parse_subnet(pool["Subnet"])
        if any(subnet.overlaps(other) for other in used):
            raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")
        used.add(subnet)
    if record["EnableIPv4"] and 32 not in families:
        subnet = subnets.free(settings, database)
        pools.append({"Subnet": str(subnet)})
    if record["EnableIPv6"] and 128 not in families:
        pools.append({"Subnet": str(subnets.of_ipv6(settings, database, record["Id"]))})
    for pool in pools:
        bits = ipam.parse_subnet(pool["Subnet"]).bits
        if record["Driver"] == "bridge" and not network_options.is_isolated(record, bits):
            _gateway(pool)
        _reserve(pool)
    of_ipv6 = sum(":" in pool["Subnet"] for pool in pools)
    if max(of_ipv6, len(pools) - of_ipv6) > 1 and record["Driver"] == "bridge":
        raise Forbidden("bridge driver doesn't support multiple subnets")
    record["GivenSubnets"], record["GivenFamilies"] = bool(families), sorted(families)
    record["IPAM"]["Config"] = pools


def _pool(given: "Mapping[str, Any]", problems: "list[str]") -> "IPAMConfig":
    text = given.get("Subnet") or ""
    pool: IPAMConfig = {"Subnet": text}
    try:
        subnet = ipam.parse_subnet(text)
    except ValueError:
        problems.append(f"invalid subnet {text}: invalid CIDR block notation")
        return {"Subnet": "0.0.0.0/32"}
    if str(subnet) != text and ":" not in text:
        problems.append(f"invalid subnet {text}: it should be {subnet}")
    if given.get("IPRange"):
        pool["IPRange"] = given["IPRange"]
        try:
            inner = ipam.parse_subnet(given["IPRange"])
            if str(inner) != given["IPRange"] and ":" not in text:
                problems.append(f"invalid ip-range {given['IPRange']}: it should be {inner}")
            elif not (subnet.contains(inner.base) and subnet.contains(inner.last)):
                problems.append(f"invalid ip-range {given['IPRange']}: parent subnet {subnet} doesn't contain ip-range")
        except ValueError:
            problems.append(f"invalid ip-range {given['IPRange']}: invalid CIDR block notation")
    if given.get("Gateway"):
        pool["Gateway"] = given["Gateway"]
        _inside(given["Gateway"], subnet, "gateway", problems)
    if given.get("AuxiliaryAddresses"):
        pool["AuxiliaryAddresses"] = dict(given["AuxiliaryAddresses"])
        for name, address in given["AuxiliaryAddresses"].items():
            _inside(address, subnet, "auxiliary address", problems, shown=name)
    return pool


def _inside(address: str, subnet: ipam.Subnet, what: str, problems: "list[str]", shown: str = "") -> None:
    shown = shown or address  # an auxiliary address is called by its name
    try:
        number, bits = ipam.parse_address(address)
    except ValueError:
        problems.append(f"invalid {what} {shown}: invalid address")
        return
    if bits != subnet.bits or not subnet.contains(number):
        problems.append(f"invalid {what} {shown}: parent subnet {subnet} doesn't contain this address")


def _gateway(pool: "IPAMConfig") -> None:
    """The first address, or the first of the range for containers, unless the user named one (libnetwork/ipam)."""
    if pool.get("Gateway"):
        return
    subnet = ipam.parse_subnet(pool["Subnet"])
    within = ipam.parse_subnet(pool["IPRange"]) if pool.get("IPRange") else None
    reserved = {ipam.parse_address(address)[0] for address in (pool.get("AuxiliaryAddresses") or {}).values()}
    pool["Gateway"] = ipam.address_text(ipam.lowest_free(subnet, reserved, within), subnet.bits)


def _reserve(pool: "IPAMConfig") -> None:
    subnet, gateway = ipam.parse_subnet(pool["Subnet"]), pool.get("Gateway")
    if gateway and ipam.parse_address(gateway)[0] in subnet.reserved:
        raise SystemFailure(f"failed to allocate gateway ({gateway}): Address already in use")
    taken = {gateway}
    for name, address in (pool.get("AuxiliaryAddresses") or {}).items():
        if address in taken:
            raise SystemFailure(f"failed to allocate secondary ip address ({name}:{address}): Address already in use")
        taken.add(address)


def _claim_bridge(database: "Database", record: "NetworkRecord") -> None:
    """Notes when the bridge is the user's own. Raises Forbidden when another network has it, SystemFailure when it
    is no bridge: before anything is stored, so that nobody ever deletes it as ours."""
    name = rules.bridge_name(record)
    for other in endpoints.bridges(database):
        if rules.bridge_name(other) == name:
            raise Forbidden(
                f"cannot create network {record['Id']} ({name}): conflicts with network {other['Id']} ({name}): "
                "networks have same bridge name"
            )
    with netlink.Channel() as channel:
        found = netlink.link(channel, name)
    if found is not None:
        if found.kind != "bridge":
            raise SystemFailure(f"existing interface {name} is not a bridge")
        record["BridgeOfUser"] = True


def _claim_parent(database: "Database", record: "NetworkRecord") -> None:
    """Notes when the parent has to be made. Raises SystemFailure when another network does not share it."""
    name, driver = vlan.parent(record), record["Driver"]
    if not record["Options"].get(vlan.PARENT):
        record["Internal"] = True
    sharing = [
        known for known in stored.all_networks(database) if known["Driver"] == driver and vlan.parent(known) == name
    ]
    for other in sharing:
        if driver == "ipvlan":
            raise SystemFailure(f"network di-{other['Id'][:12]} is already using parent interface {name}")
        if vlan.mode(record) == "passthru":
            raise SystemFailure(
                f"cannot use mode passthru, macvlan network {other['Id']} is already using parent interface {name}"
            )
        if vlan.mode(other) == "passthru":
            raise SystemFailure(
                f"macvlan network {other['Id']} is already using parent interface {name} in mode passthru"
            )
    with netlink.Channel() as channel:
        missing = netlink.link(channel, name) is None
    record["MadeParent"] = missing or any(other.get("MadeParent") for other in sharing)


def _establish(settings: "Settings", database: "Database", network: "NetworkRecord") -> None:
    with netlink.Channel() as channel:
        endpoints.ensure(settings, database, channel, network)


def _abolish(settings: "Settings", database: "Database", network: "NetworkRecord") -> None:
    """Undo a create that failed half-way."""
    with endpoints.exclusively(settings):
        with database.write():
            stored.delete(database, network["Id"])
        with netlink.Channel() as channel:
            networks.delete_link(database, channel, network)
