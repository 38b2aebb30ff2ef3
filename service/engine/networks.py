"""Networks: list, inspect, remove, prune (API: NetworkList, …Inspect, …Delete, …Prune).

The verbs that change something block; the service calls them in a thread. Errors in dockerd's words.
"""

from service import bell, timestamps
from service.engine import (
    endpoints,
    network_mode,
)
from service.errors import Forbidden, InvalidParameter, NotFound
from service.ids import short
from service.kernel import netlink, nftables
from service.network import bridge, firewalld, forward, rules, vlan
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
_UNSHOWN = ("Asked", "GivenSubnets", "GivenFamilies", "BridgeOfUser", "MadeParent")


# look


def describe(database: "Database", network: "NetworkRecord", *, members: bool) -> "dict[str, Any]":
    """Docker's Network of inspect (with `members`, the containers on it) and list (without)."""
    shown: dict[str, Any] = {key: value for key, value in network.items() if key not in _UNSHOWN}
    if network["IPAM"]["Config"] is not None:
        shown["IPAM"] = {**network["IPAM"], "Config": [_shown(pool) for pool in network["IPAM"]["Config"]]}
    options, labels = shown.pop("Options"), shown.pop("Labels")
    shown |= {"Containers": {}, "Options": options, "Labels": labels}  # the order in which inspect has them
    for name, endpoint in stored.members(database, network["Id"]) if members else ():
        shown["Containers"][endpoint["ContainerId"]] = {
            "Name": name,
            "EndpointID": endpoint["Id"],
            "MacAddress": endpoint["Mac"],
            "IPv4Address": f"{endpoint['IPv4']}/{endpoint['IPv4Prefix']}" if endpoint["IPv4"] else "",
            "IPv6Address": f"{endpoint['IPv6']}/{endpoint['IPv6Prefix']}" if endpoint["IPv6"] else "",
        }
    return shown


def _shown(pool: "IPAMConfig") -> "dict[str, Any]":
    """A range of addresses as the user gave it; one that was chosen for him with its gateway."""
    hidden = ("Gateway", "GatewayChosen") if pool.get("GatewayChosen") else ()
    return {key: value for key, value in pool.items() if key not in hidden}


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


def announce(database: "Database", action: str, network: "NetworkRecord") -> None:
    """Record the event of a network that comes or goes."""
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
            if network["ConfigOnly"] and network["Name"] in stored.configurations(database):
                raise Forbidden(f'error while removing network: configuration network "{network["Name"]}" is in use')
            if not stored.delete(database, network["Id"]):
                return
            if not network["ConfigOnly"]:
                announce(database, "destroy", network)
                _dismantle(settings, database, network)


def _dismantle(settings: "Settings", database: "Database", network: "NetworkRecord") -> None:
    with netlink.Channel() as channel:
        delete_link(database, channel, network)
    if network["Driver"] != "bridge":
        return
    with nftables.channel() as nf:
        forward.close_for(settings, nf, rules.bridge_name(network))
        firewalld.close_for(settings, nf, rules.bridge_name(network))
    endpoints.write_rules(settings, database)


def delete_link(database: "Database", channel: netlink.Channel, network: "NetworkRecord") -> None:
    """What a network stands on, unless it is the user's, or another network stands on it too."""
    if network["Driver"] == "bridge":
        bridge.delete(channel, network)
    elif not any(
        known["Id"] != network["Id"] and known["Driver"] in vlan.MODES and vlan.parent(known) == vlan.parent(network)
        for known in stored.all_networks(database)
    ):
        vlan.delete(channel, network)


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
        if network["Name"] in network_mode.PREDEFINED or network["Id"] in used or network["ConfigOnly"]:
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
