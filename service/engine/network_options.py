"""What the options of a network's driver may say (moby: libnetwork/drivers/bridge, …/macvlan, …/ipvlan)."""

from service.errors import InvalidParameter, SystemFailure
from service.network import ipam, rules, vlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.model.network import NetworkRecord

HOST_BINDING = rules.BRIDGE + "host_binding_ipv4"  # where ports are published that name no address of the host
INTERFACE_PREFIX = "com.docker.network.container_iface_prefix"
MTU = "com.docker.network.driver.mtu"
_SWITCHES = ("enable_icc", "enable_ip_masquerade", "inhibit_ipv4", "default_bridge")
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")  # strconv.ParseBool
_GATEWAY_MODES = ("nat", "nat-unprotected", "routed", "isolated")


def check(driver: str, options: "Mapping[str, str]", *, internal: bool) -> None:
    """Raises InvalidParameter in dockerd's words; SystemFailure where dockerd says 500."""
    if driver == "bridge":
        _check_bridge(options, internal=internal)
    elif driver in vlan.MODES:
        _check_vlan(driver, options)


def prefix(network: "NetworkRecord") -> str:
    """What the interfaces of a network's containers are called, before the number."""
    return (network["Options"].get(INTERFACE_PREFIX) if network["Driver"] == "bridge" else "") or "eth"


def is_isolated(network: "NetworkRecord", bits: int) -> bool:
    """Whether the host has no address on this network, of the family with addresses of `bits`."""
    return rules.gateway_mode(network, bits) == "isolated"


def _check_bridge(options: "Mapping[str, str]", *, internal: bool) -> None:
    for name in _SWITCHES:
        value = options.get(rules.BRIDGE + name)
        if value is not None and value not in _TRUE + _FALSE:
            raise _unread(rules.BRIDGE + name, value, f'strconv.ParseBool: parsing "{value}": invalid syntax')
    for name in (HOST_BINDING, rules.SOURCE + "4", rules.SOURCE + "6"):
        if name in options and not _is_address(options[name]):
            raise _unread(name, options[name], "nil ip")
        if name.startswith(rules.SOURCE) and (":" in options.get(name, "")) != name.endswith("6") and name in options:
            raise _unread(name, options[name], "an address of the other family")
    mtu = options.get(MTU, "0")
    if not (mtu[1:] if mtu[:1] in ("-", "+") else mtu).isdecimal():
        raise _unread(MTU, mtu, f'strconv.Atoi: parsing "{mtu}": invalid syntax')
    if int(mtu) < 0:
        raise InvalidParameter(f"invalid MTU number: {int(mtu)}")
    for version in "46":
        name = f"{rules.BRIDGE}gateway_mode_ipv{version}"
        wanted = options.get(name, "nat")
        if wanted not in _GATEWAY_MODES:
            raise _unread(name, wanted, f"unknown gateway mode {wanted}")
        if wanted == "isolated" and not internal:
            raise SystemFailure("gateway mode 'isolated' can only be used for an internal network")


def _unread(name: str, value: str, why: str) -> InvalidParameter:
    return InvalidParameter(f"failed to parse {name} value: {value} ({why})")


def _is_address(text: str) -> bool:
    try:
        ipam.parse_address(text)
    except ValueError:
        return False
    return True


def _check_vlan(driver: str, options: "Mapping[str, str]") -> None:
    known, asked = list(vlan.MODES[driver]), options.get(driver + "_mode") or ""
    if asked and asked not in known:
        raise SystemFailure(
            f"requested {driver} mode '{asked}' is not valid, '{known[0]}' mode is the {driver} driver default"
        )
    flag = options.get("ipvlan_flag") or ""
    if driver == "ipvlan" and flag and flag not in vlan.FLAGS:
        raise SystemFailure(f"requested ipvlan flag '{flag}' is not valid, 'bridge' is the ipvlan driver default")
    if options.get(vlan.PARENT) == "lo":
        raise SystemFailure(f"loopback interface is not a valid {driver} parent link")
