"""Networks: list, inspect, create, remove, prune (API: the Network operations; engine.membership has the others).

The verbs that change something block; the service calls them in a thread. Errors in dockerd's words.
"""

import os

from service import bell, timestamps
from service.engine import (
    endpoints,
    network_mode,
    network_options,
    swarm,
)
from service.errors import Forbidden, InvalidParameter, NotFound, SystemFailure
from service.ids import new_id, short
from service.kernel import netlink, nftables
from service.network import bridge, forward, ipam, rules, vlan
from service.store import containers, events
from service.store import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from service.model.network import IPAMConfig, NetworkRecord
    from service.settings import Settings
    from service.store.database import Database

_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
_UNSHOWN = ("GivenSubnets", "BridgeOfUser", "MadeParent")


# look


def describe(database: "Database", network: "NetworkRecord", *, members: bool) -> "dict[str, Any]":
    """Docker's Network of inspect (with `members`, the containers on it) and list (without)."""
    shown: dict[str, Any] = {key: value for key, value in network.items() if key not in _UNSHOWN}
    shown["Containers"] = {}
    for name, endpoint in stored.members(database, network["Id"]) if members else ():
        shown["Containers"][endpoint["ContainerId"]] = {
            "Name": name,
            "EndpointID": endpoint["Id"],
            "MacAddress": endpoint["Mac"],
            "IPv4Address": f"{endpoint['IPv4']}/{endpoint['IPv4Prefix']}" if endpoint["IPv4"] else "",
            "IPv6Address": f"{endpoint['IPv6']}/{endpoint['IPv6Prefix']}" if endpoint["IPv6"] else "",
        }
    return shown


def matching(settings: "Settings", database: "Database", filters: "Mapping[str, list[str]]") -> "list[NetworkRecord]":
    """The networks that pass all filters. Raises InvalidParameter for a filter that does not exist."""
    endpoints.predefined(settings, database)
    for key in filters:
        if key not in _FILTERS:
            raise InvalidParameter(f"invalid filter '{key}'")
    used = stored.used_ids(database) if filters.get("dangling") else set()
    return [network for network in stored.all_networks(database) if _passes(network, filters, used)]


def _passes(network: "NetworkRecord", filters: "Mapping[str, list[str]]", used: "set[str]") -> bool:
    predefined = network["Name"] in network_mode.PREDEFINED
    for key, wanted in filters.items():
        if not wanted:
            continue
        if key == "dangling":
            dangling = not predefined and network["Id"] not in used
            if not any(dangling == _boolean(key, text) for text in wanted):
                return False
        elif key == "type":
            if not any(_is_type(text, predefined) for text in wanted):
                return False
        elif key == "label":
            if not all(_has_label(network["Labels"], text) for text in wanted):
                return False
        elif key in ("name", "id"):
            if not any(_matches(text, network["Name" if key == "name" else "Id"]) for text in wanted):
                return False
        elif network["Driver" if key == "driver" else "Scope"] not in wanted:
            return False
    return True


def _boolean(key: str, text: str) -> bool:
    if text.lower() in ("1", "t", "true"):
        return True
    if text.lower() in ("0", "f", "false"):
        return False
    raise InvalidParameter(f'invalid value for filter \'{key}\', must be "true" (or "1"), or "false" (or "0")')


def _is_type(text: str, predefined: bool) -> bool:
    if text not in ("custom", "builtin"):
        raise InvalidParameter(f"invalid filter: 'type'='{text}'")
    return predefined == (text == "builtin")


def _has_label(labels: "Mapping[str, str]", wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


def _matches(pattern: str, value: str) -> bool:
    """As dockerd's filters: the same, or found by the pattern as a regular expression."""
    if pattern == value:
        return True
    import re

    try:
        return re.search(pattern, value) is not None
    except re.error:
        return False


def find(settings: "Settings", database: "Database", reference: str, scope: str = "") -> "NetworkRecord":
    """The network that an id, a name, or the beginning of an id means. Raises NotFound or InvalidParameter."""
    endpoints.predefined(settings, database)
    found = stored.find(database, reference)
    if scope and scope != found["Scope"]:
        raise NotFound(f"network {reference} not found")
    return found


# create


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
    record = _record(name, driver, asked)
    pools = _given_pools(asked.get("IPAM") or {})
    if not name.strip():
        raise InvalidParameter("invalid name: name is empty")
    if driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver != "bridge" and driver not in vlan.MODES:
        raise NotFound(f'could not find plugin {driver} in v1 plugin registry: plugin "{driver}" not found')
    if asked.get("Scope") == "swarm":
        raise Forbidden("cannot create a swarm scoped network when swarm is not active")
    network_options.check(driver, record["Options"], internal=record["Internal"])
    with database.write():
        _subnets(settings, database, record, pools)
        if driver == "bridge":
            _claim_bridge(database, record)
        else:
            _claim_parent(database, record)
        stored.insert(database, record)
        _announce(database, "create", record)
    try:
        _establish(settings, database, record)
    except BaseException as error:
        _abolish(settings, database, record)
        if isinstance(error, OSError):  # the kernel does not want it so: an MTU, a name
            raise SystemFailure(os.strerror(error.errno or 0).lower()) from error
        raise
    bell.ring(settings.bell)
    return record["Id"], ""


def _record(name: str, driver: str, asked: "Mapping[str, Any]") -> "NetworkRecord":
    for option, what in (("ConfigOnly", "config-only networks"), ("Ingress", "ingress networks")):
        if asked.get(option):
            raise InvalidParameter(f"{what} are not supported")
    source = (asked.get("ConfigFrom") or {}).get("Network")
    if source:  # there cannot be one, see above
        raise NotFound(f'configuration network "{source}" does not exist')
    given = asked.get("IPAM") or {}
    if (given.get("Driver") or "default") != "default":
        raise NotFound(
            f'could not find plugin {given["Driver"]} in v1 plugin registry: plugin "{given["Driver"]}" not found'
        )
    options = {str(key): str(value) for key, value in (asked.get("Options") or {}).items()}
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
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Options": options,
        "Labels": dict(asked.get("Labels") or {}),
    }


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
    if 128 in families:
        record["EnableIPv6"] = True
    elif record["EnableIPv6"]:
        pools.append(_unique_local(record["Id"]))
    used = endpoints.used_subnets(database)
    for pool in pools:
        subnet = ipam.parse_subnet(pool["Subnet"])
        if any(subnet.overlaps(other) for other in used):
            raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")
        used.add(subnet)
    if record["EnableIPv4"] and 32 not in families:
        subnet = endpoints.free_subnet(settings, database)
        pools.insert(0, {"Subnet": str(subnet)})
    for pool in pools:
        bits = ipam.parse_subnet(pool["Subnet"]).bits
        if record["Driver"] == "bridge" and not network_options.is_isolated(record, bits):
            _gateway(pool)
        _reserve(pool)
    if sum(":" not in pool["Subnet"] for pool in pools) > 1 and record["Driver"] == "bridge":
        raise Forbidden("bridge driver doesn't support multiple subnets")
    record["GivenSubnets"] = bool(families)
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
    taken = {pool.get("Gateway")}
    for name, address in (pool.get("AuxiliaryAddresses") or {}).items():
        if address in taken:
            raise SystemFailure(f"failed to allocate secondary ip address ({name}:{address}): Address already in use")
        taken.add(address)


def _unique_local(network_id: str) -> "IPAMConfig":
    """A /64 of unique local addresses (RFC 4193) for a network that wants IPv6 and names no subnet."""
    base = (0xFD << 120) | (int(network_id[:14], 16) << 64)
    return {"Subnet": f"{ipam.address_text(base, 128)}/64"}


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


def _delete_link(database: "Database", channel: netlink.Channel, network: "NetworkRecord") -> None:
    """What a network stands on, unless it is the user's, or another network stands on it too."""
    if network["Driver"] == "bridge":
        bridge.delete(channel, network)
    elif not any(
        known["Id"] != network["Id"] and known["Driver"] in vlan.MODES and vlan.parent(known) == vlan.parent(network)
        for known in stored.all_networks(database)
    ):
        vlan.delete(channel, network)


def _establish(settings: "Settings", database: "Database", network: "NetworkRecord") -> None:
    with netlink.Channel() as channel:
        endpoints.ensure(settings, database, channel, network)


def _announce(database: "Database", action: str, network: "NetworkRecord") -> None:
    attributes = {"name": network["Name"], "type": network["Driver"]}
    events.append(database, timestamps.now_ns(), "network", action, network["Id"], attributes)


# remove, prune


def remove(settings: "Settings", database: "Database", reference: str) -> None:
    """Remove a network that no container is on. Raises NotFound, Forbidden (predefined, or in use)."""
    network = find(settings, database, reference)
    if network["Name"] in network_mode.PREDEFINED:
        raise Forbidden(f"{network['Name']} is a pre-defined network and cannot be removed")
    _remove(settings, database, network)
    bell.ring(settings.bell)


def _remove(settings: "Settings", database: "Database", network: "NetworkRecord") -> None:
    """The row goes last: what a crash leaves of the network can be removed again by its name."""
    with endpoints.exclusively(settings):
        busy = stored.members(database, network["Id"])
        if busy:
            active = ", ".join(f'name:"{name}" id:"{short(endpoint["Id"])}"' for name, endpoint in busy)
            raise Forbidden(f"error while removing network: network {network['Name']} has active endpoints ({active})")
        with database.write():
            if not stored.delete(database, network["Id"]):
                return
            _announce(database, "destroy", network)
            _dismantle(settings, database, network)


def _dismantle(settings: "Settings", database: "Database", network: "NetworkRecord") -> None:
    with netlink.Channel() as channel:
        _delete_link(database, channel, network)
    if network["Driver"] != "bridge":
        return
    with nftables.channel() as nf:
        forward.close_for(settings, nf, rules.bridge_name(network))
    endpoints.write_rules(settings, database)


def _abolish(settings: "Settings", database: "Database", network: "NetworkRecord") -> None:
    """Undo a create that failed half-way."""
    with endpoints.exclusively(settings):
        with database.write():
            stored.delete(database, network["Id"])
        with netlink.Channel() as channel:
            _delete_link(database, channel, network)


def prune(settings: "Settings", database: "Database", filters: "Mapping[str, list[str]]") -> "list[str] | None":
    """Remove the networks that no container uses (running or not); their names, or None as dockerd says it.

    Raises InvalidParameter for a bad filter.
    """
    for key in filters:
        if key not in ("until", "label", "label!"):
            raise InvalidParameter(f"invalid filter '{key}'")
    until = _moment(filters["until"]) if filters.get("until") else None
    used = stored.used_ids(database)
    for container in containers.newest_first(database):
        for name in network_mode.asked_networks(container["record"]):
            known = stored.by_name(database, name)
            if known is not None:
                used.add(known["Id"])
    gone = []
    for network in stored.all_networks(database):
        if network["Name"] in network_mode.PREDEFINED or network["Id"] in used:
            continue
        if until is not None and timestamps.nanoseconds(network["Created"]) > until:
            continue
        if not all(_has_label(network["Labels"], wanted) for wanted in filters.get("label", ())):
            continue
        if any(_has_label(network["Labels"], unwanted) for unwanted in filters.get("label!", ())):
            continue
        try:
            _remove(settings, database, network)
        except Forbidden:
            continue  # a container joined it since we looked
        gone.append(network["Name"])
    with database.write():
        events.append(database, timestamps.now_ns(), "network", "prune", "", {"reclaimed": "0"})
    bell.ring(settings.bell)
    return gone or None


def _moment(texts: "list[str]") -> int:
    from service.moments import moment

    if len(texts) != 1:
        raise InvalidParameter("more than one until filter specified")
    return moment(texts[0])
