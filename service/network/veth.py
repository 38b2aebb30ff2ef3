"""An endpoint's veth pair: one end in the bridge, the other in the container's namespace with address and route."""

import os

from service.errors import SystemFailure
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
    channel.request(netlink.set_port(found.index, isolated=endpoint.get("Isolated", False)))
    netns.inside(namespace, lambda: configure(endpoint))


def configure(endpoint: "Endpoint") -> None:
    """Addresses, settings and routes of an endpoint's interface, inside the namespace. Raises as `attach`."""
    name = endpoint["Interface"]
    _sysctl(name, "ipv4", "arp_notify")  # say hello: the bridge may still look for this address at an older port
    if not endpoint["IPv6"]:
        _sysctl(name, "ipv6", "disable_ipv6")  # no link-local address where the network has no IPv6, as dockerd has it
    for path, value in endpoint.get("Sysctls") or ():
        try:
            _write("/proc/sys/" + path.replace("IFNAME", name), value)
        except OSError as error:
            raise SystemFailure(
                f"failed to set sysctl {path}={value}: {os.strerror(error.errno or 0).lower()}"
            ) from error
    with netlink.Channel() as channel:
        found = netlink.link(channel, name)
        if found is None:
            raise FileNotFoundError(name)
        messages = []
        if endpoint["IPv4"]:
            messages.append(netlink.add_address(found.index, ipam.packed(endpoint["IPv4"]), endpoint["IPv4Prefix"]))
        for text in (endpoint["Settings"].get("IPAMConfig") or {}).get("LinkLocalIPs") or ():
            messages.append(netlink.add_address(found.index, ipam.packed(text), 64 if ":" in text else 16))
        if endpoint["IPv6"]:
            messages.append(netlink.add_address(found.index, ipam.packed(endpoint["IPv6"]), endpoint["IPv6Prefix"]))
        messages.append(netlink.set_up(found.index))
        if endpoint["DefaultRoute"]:
            messages += _default_routes(endpoint, found.index)
        channel.request(*messages)


def _default_routes(endpoint: "Endpoint", index: int) -> "list[netlink.Message]":
    if endpoint.get("RouteByDevice"):
        families = ((netlink.AF_INET, endpoint["IPv4"]), (netlink.AF_INET6, endpoint["IPv6"]))
        return [netlink.add_device_route(index, family) for family, address in families if address]
    gateways = (endpoint["Gateway"], endpoint["IPv6Gateway"])
    return [netlink.add_default_route(index, ipam.packed(gateway)) for gateway in gateways if gateway]


def _sysctl(interface: str, version: str, name: str) -> None:
    try:
        _write(f"/proc/sys/net/{version}/conf/{interface}/{name}", "1")
    except FileNotFoundError:
        return  # the kernel has no IPv6


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def set_default_route(endpoint: "Endpoint | None", namespace: str) -> None:
    """Let the default routes of a namespace be the endpoint's; None: it has none. Raises OSError."""

    def change() -> None:
        with netlink.Channel() as channel:
            messages = [netlink.delete_default_route(family) for family in (netlink.AF_INET, netlink.AF_INET6)]
            found = netlink.link(channel, endpoint["Interface"]) if endpoint is not None else None
            if endpoint is not None and found is not None:
                messages += _default_routes(endpoint, found.index)
            channel.request(*messages)

    netns.inside(namespace, change)


def detach(endpoints: "Sequence[Endpoint]", namespace: str) -> None:
    """Take the endpoints' addresses back and let go of the namespace. Idempotent.

    The pairs go with the namespace, a moment later and without our waiting: the kernel waits 20 ms and more for each
    when asked to delete it. Out of its bridge and without its address a pair is harmless even where something still
    keeps the namespace: the same hardware address may soon be another's. Raises OSError when the kernel refuses.
    """
    ours = [endpoint for endpoint in endpoints if endpoint["Interface"]]
    if netns.exists(namespace):
        if ours:
            _unplug(ours)
            netns.inside(namespace, lambda: _strip(ours))
    elif ours:  # an earlier try came further than this one can see: make sure
        with netlink.Channel() as channel:
            channel.request(
                *[netlink.delete_link(endpoint["HostInterface"]) for endpoint in ours if endpoint["HostInterface"]]
            )
    if os.path.lexists(namespace):
        netns.delete(namespace)


def _unplug(endpoints: "Sequence[Endpoint]") -> None:
    with netlink.Channel() as channel:
        for endpoint in endpoints:
            found = netlink.link(channel, endpoint["HostInterface"]) if endpoint["HostInterface"] else None
            if found is not None:
                channel.request(netlink.set_master(found.index, 0))


def _strip(endpoints: "Sequence[Endpoint]") -> None:
    with netlink.Channel() as channel:
        for endpoint in endpoints:
            found = netlink.link(channel, endpoint["Interface"])
            if found is None:
                continue
            if not endpoint["HostInterface"]:  # macvlan: or the parent still has its hardware address at the next start
                channel.request(netlink.delete_link(endpoint["Interface"]))
                continue
            for family in (netlink.AF_INET, netlink.AF_INET6):
                for address, prefix in netlink.addresses(channel, found.index, family):
                    channel.request(netlink.delete_address(found.index, address, prefix))
