"""A network's bridge: made when it is missing, put right when somebody changed it."""

import os

from service.errors import SystemFailure
from service.kernel import netlink
from service.network import ipam
from service.network.rules import bridge_name, flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.kernel.netlink import Channel
    from service.model.network import NetworkRecord


def ensure(channel: "Channel", network: "NetworkRecord", ports: "Iterable[str]" = ()) -> int:
    """The index of the network's bridge, which is up and has the gateways' addresses when this returns.

    `ports`: host interfaces of the network's endpoints, put back into a bridge that had to be made anew.
    Raises SystemFailure when an interface of that name is no bridge, OSError when the kernel refuses.
    """
    name = bridge_name(network)
    found = netlink.link(channel, name)
    if found is None:
        channel.request(netlink.add_bridge(name, mac=_mac(network), mtu=mtu(network)))
        found = netlink.link(channel, name)
        if found is None:
            raise SystemFailure(f"the bridge {name} vanished while it was made")
        _adopt(channel, found.index, ports, isolated=not flag(network, "enable_icc", True))
    index: int = found.index
    if found.kind != "bridge":
        raise SystemFailure(f"existing interface {name} is not a bridge")
    _addresses(channel, found.index, network)
    if not found.up:
        channel.request(netlink.set_up(found.index))
    _switch(f"/proc/sys/net/ipv4/conf/{name}/route_localnet")
    return index


def _mac(network: "NetworkRecord") -> bytes:
    """The bridge's hardware address: of its own, or it changes with every port; and always the same, or containers that
    know their gateway go on calling the one of a bridge that was deleted and made again."""
    return bytes.fromhex("0642" + network["Id"][:8])  # locally administered, and no container's (those begin with 02)


def mtu(network: "NetworkRecord") -> int:
    """The MTU that the network's options ask for; 0: the kernel's own."""
    value = network["Options"].get("com.docker.network.driver.mtu", "")
    return int(value) if value.isdigit() else 0


def _adopt(channel: "Channel", bridge: int, ports: "Iterable[str]", *, isolated: bool) -> None:
    for port in ports:
        found = netlink.link(channel, port)
        if found is not None:
            channel.request(netlink.set_master(found.index, bridge), netlink.set_port(found.index, isolated=isolated))


def _addresses(channel: "Channel", index: int, network: "NetworkRecord") -> None:
    for family, bits in ((netlink.AF_INET, 32), (netlink.AF_INET6, 128)):
        if bits == 32 and flag(network, "inhibit_ipv4", False):
            continue
        wanted = set()
        for pool in network["IPAM"]["Config"] or ():
            subnet = ipam.parse_subnet(pool["Subnet"])
            gateway = pool.get("Gateway")
            if subnet.bits == bits and gateway:
                wanted.add((ipam.packed(gateway.partition("/")[0]), subnet.prefix))
        if family == netlink.AF_INET6 and not wanted:
            continue
        present = set(netlink.addresses(channel, index, family))
        foreign = {known for known in present - wanted if known[0][:2] != b"\xfe\x80"}  # the kernel's link-local stays
        for address, prefix in () if network.get("BridgeOfUser") else foreign:
            channel.request(netlink.delete_address(index, address, prefix))
        for address, prefix in wanted - present:
            channel.request(netlink.add_address(index, address, prefix))


def _switch(path: str, value: bytes = b"1") -> bool:
    """Set a sysctl that differs. True when it did."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.read(fd, 16).strip() == value:
            return False
        os.pwrite(fd, value, 0)
    finally:
        os.close(fd)
    return True


def enable_forwarding(memory: str, *, ipv6: bool = False) -> bool:
    """Switch IPv4 (and IPv6) forwarding on. True when IPv4's was off on this boot before us.

    Then the table's forward chain is closed for everybody else, as dockerd closes the FORWARD chain: switching a
    machine's forwarding on must not make it a router between its other networks. `memory`: the file that remembers.
    """
    if ipv6 and _value("/proc/sys/net/ipv6/conf/all/forwarding") == b"0":
        _keep_router_advertisements()
        _switch("/proc/sys/net/ipv6/conf/all/forwarding")
    if _value("/proc/sys/net/ipv4/ip_forward") != b"0":
        return os.path.exists(memory)
    os.close(os.open(memory, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))  # first: a crash must not forget it
    _switch("/proc/sys/net/ipv4/ip_forward")
    return True


def _keep_router_advertisements() -> None:
    """A forwarding machine ignores router advertisements unless told otherwise: the host must not lose its routes."""
    for interface in os.listdir("/proc/sys/net/ipv6/conf"):
        path = f"/proc/sys/net/ipv6/conf/{interface}/accept_ra"
        if interface != "all" and _value(path) == b"1":
            _switch(path, b"2")


def _value(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read().strip()


def delete(channel: "Channel", network: "NetworkRecord") -> None:
    """Delete the network's bridge. Nothing when there is none, or what has its name is not ours."""
    found = None if network.get("BridgeOfUser") else netlink.link(channel, bridge_name(network))
    if found is not None and found.kind == "bridge":
        channel.request(netlink.delete_link(bridge_name(network)))
