"""What may be asked of an endpoint: everything that is wrong is told at once (moby: daemon/container_operations.go).

A room of its own: create checks it on a cold process, without the network's machinery.
"""

import os

from service.errors import Conflict, InvalidParameter, NotFound
from service.network import ipam
from service.store import networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from service.model.network import NetworkRecord
    from service.store.database import Database

SYSCTLS = "com.docker.network.endpoint.sysctls"  # driver option: what is set on the endpoint's interface
INTERFACE = "com.docker.network.endpoint.ifname"  # driver option: what the interface is called in the container
_PREDEFINED = ("bridge", "host", "none", "default")


def check_config(database: "Database", config: "Mapping[str, Any]") -> None:
    """`EndpointsConfig` of a create. Raises InvalidParameter."""
    problems = []
    for name, asked in config.items():
        if asked is None:
            problems.append(f"invalid config for network {name}: EndpointsConfig is nil")
            continue
        try:
            network: NetworkRecord | None = networks.find(database, name)
        except (NotFound, InvalidParameter):
            network = None  # it may be there at the start
        try:
            check(name if network is None else network["Name"], network, asked)
        except InvalidParameter as error:
            problems.append(f"invalid config for network {name}: {error.message}")
    if problems:
        raise InvalidParameter(_joined(problems))


def check(name: str, network: "NetworkRecord | None", asked: "Mapping[str, Any]") -> None:
    """The settings of an endpoint on a network; None: one that is not there yet. Raises InvalidParameter."""
    wanted = asked.get("IPAMConfig") or {}
    problems = []
    if name in _PREDEFINED:
        if wanted.get("IPv4Address") or wanted.get("IPv6Address"):
            problems.append("user specified IP address is supported on user defined networks only")
        if asked.get("Aliases"):
            problems.append("network-scoped alias is supported only for containers in user defined networks")
    problems += _invalid_addresses(wanted)
    if network is not None or name in _PREDEFINED:
        problems += _not_in_range(network, wanted)
    if asked.get("MacAddress"):
        parse_mac(asked["MacAddress"])
    options = asked.get("DriverOpts") or {}
    try:
        sysctls(options.get(SYSCTLS) or "")
    except InvalidParameter as error:
        problems.append(error.message)
    name = options.get(INTERFACE) or "eth0"
    if len(os.fsencode(name)) > 15 or name in (".", "..") or any(c in "/:" or c.isspace() or c == "\0" for c in name):
        problems.append(f"invalid interface name {name}")  # netdevice(7), dev_valid_name() in the kernel
    if problems:
        raise InvalidParameter("invalid endpoint settings:\n" + _joined(problems))


def interfaces(wanted: "Sequence[tuple[Mapping[str, Any], str]]", taken: "Iterable[str]" = ()) -> list[str]:
    """What the interfaces of endpoints are called in the container: as asked for, else eth0, eth1, … as they are free.

    `wanted`: the settings of each, and the prefix (`eth`) that its network has for them.

    Raises Conflict when two are to have one name.
    """
    used = set(taken)
    names: list[str] = [(asked.get("DriverOpts") or {}).get(INTERFACE) or "" for asked, _ in wanted]
    for name in filter(None, names):
        if name in used:
            raise Conflict(f"interface name {name} is in use already")
        used.add(name)
    for place, name in enumerate(names):
        if not name:
            prefix = wanted[place][1]
            names[place] = next(f"{prefix}{n}" for n in range(len(used) + 1) if f"{prefix}{n}" not in used)
            used.add(names[place])
    return names


def parse_mac(text: str) -> str:
    """An interface's MAC address in its usual form (six pairs with colons), from any form that Go reads.

    Raises InvalidParameter.
    """
    for separator, width in ((":", 2), ("-", 2), (".", 4)):
        parts = text.split(separator)
        if len(parts) * width == 12 and all(len(part) == width for part in parts):
            digits = "".join(parts).lower()
            # of the first byte's last bit the kernel asks that it is not set: one interface, not a group
            if not digits.strip("0123456789abcdef") and digits[1] in "02468ace":
                return ":".join(digits[at : at + 2] for at in range(0, 12, 2))
    raise InvalidParameter(f"invalid MAC address {text}")


def sysctls(text: str) -> "list[tuple[str, str]]":
    """What the driver option SYSCTLS sets: (path below /proc/sys, `IFNAME` in it; value). Raises InvalidParameter."""
    found = []
    for sysctl in filter(None, text.split(",")):
        name, _, value = sysctl.partition("=")
        parts = name.split(".", 4)
        if (
            len(parts) != 5
            or parts[0] != "net"
            or parts[1] not in ("ipv4", "ipv6", "mpls")
            or parts[3] not in ("IFNAME", "ifname")
            or "/" in name
            or "" in parts
        ):
            raise InvalidParameter(
                f"unrecognised network interface sysctl '{sysctl}'; represent 'net.X.Y.ethN.Z=V' as "
                "'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
            )
        found.append((f"net/{parts[1]}/{parts[2]}/IFNAME/{parts[4].replace('.', '/')}", value))
    return found


def _joined(problems: "list[str]") -> str:
    """As moby's multierror shows several errors, and one."""
    if len(problems) == 1:
        return problems[0]
    return "\n".join("* " + problem.replace("\n", "\n\t") for problem in problems)


def _address(text: str) -> "tuple[int, int] | None":
    """(number, bits), or None for what is no address or the unspecified one."""
    try:
        number, bits = ipam.parse_address(text)
    except ValueError:
        return None
    return (number, bits) if number else None


def _invalid_addresses(wanted: "Mapping[str, Any]") -> "Iterator[str]":
    for key, family in (("IPv4Address", 32), ("IPv6Address", 128)):
        text = wanted.get(key)
        if text:
            read = _address(text)
            if read is None or read[1] != family:
                yield f"invalid {key[:4]} address: {text}"
    for text in wanted.get("LinkLocalIPs") or ():
        if _address(text) is None:
            yield f"invalid link-local IP address: {text}"


def _not_in_range(network: "NetworkRecord | None", wanted: "Mapping[str, Any]") -> "Iterator[str]":
    """None: one of the predefined networks, before anybody used it."""
    given = network is not None and network["Name"] not in _PREDEFINED and network.get("GivenSubnets", True)
    families = network.get("GivenFamilies", (32, 128)) if network is not None else ()
    configured = (network["IPAM"]["Config"] if network is not None else None) or ()
    pools = [ipam.parse_subnet(pool["Subnet"]) for pool in configured]
    for key, family in (("IPv4Address", 32), ("IPv6Address", 128)):
        text = wanted.get(key)
        if not text:
            continue
        if not given or family not in families:
            yield "user specified IP address is supported only when connecting to networks with user configured subnets"
            continue
        read = _address(text)
        if read is None or not any(pool.bits == family and pool.contains(read[0]) for pool in pools):
            yield f"no configured subnet or ip-range contain the IP address {text}"
