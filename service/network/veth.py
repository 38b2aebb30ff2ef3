"""An endpoint's veth pair: one end in the bridge, the other in the container's namespace with address and route."""

import os

from service.kernel import netlink, netns
from service.network import ipam

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.kernel.netlink import Channel
    from service.model.network import Endpoint


def make_namespace(path: str) -> None:
    """The container's network namespace at `path`, its loopback interface up. A leftover there is replaced."""
    netns.delete(path)
    netns.create(path, _loopback_up)


def _loopback_up() -> None:
    with netlink.Channel() as channel:
        channel.request(netlink.set_up(1))


def attach(channel: "Channel", endpoint: "Endpoint", bridge: int, namespace: str) -> None:
    """Make the pair and set up the end in the namespace. What a crash left of it is removed first.

    Raises OSError when the kernel refuses, FileNotFoundError when there is no namespace at `namespace`.
    """
    fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pair = netlink.add_veth(
            endpoint["HostInterface"],
            peer=endpoint["Interface"],
            peer_namespace=fd,
            peer_mac=bytes.fromhex(endpoint["Mac"].replace(":", "")),
            master=bridge,
            mtu=endpoint["MTU"],
        )
        channel.request(netlink.delete_link(endpoint["HostInterface"]), pair)
    finally:
        os.close(fd)
    found = netlink.link(channel, endpoint["HostInterface"])
    if found is None:
        raise FileNotFoundError(endpoint["HostInterface"])
    channel.request(netlink.set_hairpin(found.index))
    netns.inside(namespace, lambda: _configure(endpoint))


def _configure(endpoint: "Endpoint") -> None:
    name = endpoint["Interface"]
    if not endpoint["IPv6"]:
        _without_ipv6(name)
    with netlink.Channel() as channel:
        found = netlink.link(channel, name)
        if found is None:
            raise FileNotFoundError(name)
        messages = [netlink.add_address(found.index, ipam.packed(endpoint["IPv4"]), endpoint["IPv4Prefix"])]
        if endpoint["IPv6"]:
            messages.append(netlink.add_address(found.index, ipam.packed(endpoint["IPv6"]), endpoint["IPv6Prefix"]))
        messages.append(netlink.set_up(found.index))
        if endpoint["DefaultRoute"]:
            for gateway in (endpoint["Gateway"], endpoint["IPv6Gateway"]):
                if gateway:
                    messages.append(netlink.add_default_route(found.index, ipam.packed(gateway)))
        channel.request(*messages)


def _without_ipv6(interface: str) -> None:
    """No link-local address where the network has no IPv6, as dockerd does it."""
    try:
        fd = os.open(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # the kernel has no IPv6
    try:
        os.write(fd, b"1")
    finally:
        os.close(fd)


def detach(channel: "Channel", endpoints: "Sequence[Endpoint]") -> None:
    """Remove the pairs. Nothing for those that are gone."""
    channel.request(*[netlink.delete_link(known["HostInterface"]) for known in endpoints if known["HostInterface"]])
