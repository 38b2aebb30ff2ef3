"""macvlan and ipvlan: a container's interface stands directly on one of the host's, its parent, without a bridge."""

import os

from service.errors import SystemFailure
from service.kernel import netlink, netns
from service.network import veth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from service.kernel.netlink import Channel
    from service.model.network import Endpoint, NetworkRecord

MODES = {
    "macvlan": {"bridge": 4, "private": 1, "vepa": 2, "passthru": 8},  # linux/if_link.h, MACVLAN_MODE_…; default first
    "ipvlan": {"l2": 0, "l3": 1, "l3s": 2},  # IPVLAN_MODE_…
}
FLAGS = {"bridge": 0, "private": 1, "vepa": 2}  # IPVLAN_F_…
PARENT = "parent"  # driver option: the host's interface; `eth0.10` is made when it is missing


def mode(network: "NetworkRecord") -> str:
    """The mode of a macvlan or ipvlan network."""
    driver = network["Driver"]
    return network["Options"].get(driver + "_mode") or next(iter(MODES[driver]))


def parent(network: "NetworkRecord") -> str:
    """The host's interface that a network's containers stand on; without one of the user's, a dummy of its own."""
    given = network["Options"].get(PARENT)
    return given or ("dm-" if network["Driver"] == "macvlan" else "di-") + network["Id"][:12]


def ensure(channel: "Channel", network: "NetworkRecord") -> int:
    """The index of the network's parent, made when it is missing. Raises SystemFailure in dockerd's words, OSError."""
    name = parent(network)
    found = netlink.link(channel, name)
    if found is None:
        if network["Options"].get(PARENT):
            master, number = _vlan(channel, name)
            channel.request(netlink.add_vlan(name, master, number))
        else:
            channel.request(netlink.add_dummy(name))
        found = netlink.link(channel, name)
        if found is None:
            raise SystemFailure(f"the interface {name} vanished while it was made")
        channel.request(netlink.set_up(found.index))
    index: int = found.index
    return index


def _vlan(channel: "Channel", name: str) -> "tuple[int, int]":
    if "." not in name:
        raise SystemFailure(f"invalid subinterface vlan name {name}, example formatting is eth0.10")
    master, _, number = name.partition(".")
    if "." in number:
        raise SystemFailure(
            f"required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {name}"
        )
    if not number.isdecimal():
        raise SystemFailure(f"unable to parse a valid vlan id from: {number} (ex. eth0.10 for vlan 10)")
    found = netlink.link(channel, master)
    if found is None:
        raise SystemFailure(f"-o parent interface was not found on the host: {master}")
    if not 1 <= int(number) <= 4094:
        raise SystemFailure(f"vlan id must be between 1-4094, received: {int(number)}")
    return found.index, int(number)


def delete(channel: "Channel", network: "NetworkRecord") -> None:
    """Delete the parent, where `ensure` had made it for this network."""
    if network.get("MadeParent"):
        channel.request(netlink.delete_link(parent(network)))


def attach(channel: "Channel", network: "NetworkRecord", endpoint: "Endpoint", index: int, namespace: str) -> None:
    """Make the interface in the namespace and set it up. What a crash left of it is removed first.

    Raises SystemFailure when the kernel refuses the interface, OSError otherwise.
    """
    detach(endpoint, namespace)
    kind, name = MODES[network["Driver"]], mode(network)
    fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if network["Driver"] == "macvlan":
            mac = bytes.fromhex(endpoint["Mac"].replace(":", ""))
            message = netlink.add_macvlan(endpoint["Interface"], index, fd, mac=mac, mode=kind[name])
        else:
            flag = FLAGS[network["Options"].get("ipvlan_flag") or "bridge"]
            message = netlink.add_ipvlan(endpoint["Interface"], index, fd, mode=kind[name], flags=flag)
        channel.request(message)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise SystemFailure(f"failed to create the {network['Driver']} port: {reason}") from error
    finally:
        os.close(fd)
    netns.inside(namespace, lambda: veth.configure(endpoint))


def detach(endpoint: "Endpoint", namespace: str) -> None:
    """Delete an endpoint's interface. Nothing when there is none, or no namespace. Raises OSError."""
    if netns.exists(namespace):
        netns.inside(namespace, _deleting(endpoint["Interface"]))


def _deleting(name: str) -> "Callable[[], None]":
    def delete_there() -> None:
        with netlink.Channel() as channel:
            channel.request(netlink.delete_link(name))

    return delete_there
