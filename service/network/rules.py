"""The packet filter: one nftables table per instance, whose rules never change while containers come and go.

What changes are elements: a network adds its interface and subnet to four sets, a published port adds one element to a
map. So publishing costs one small message, and the whole table can be written anew from the store at any time.

What the rules say, in the words of Docker's bridge driver:

- A published port is redirected to its container, whoever calls: another machine, the host itself (also by 127.0.0.1)
  or a container, on the same bridge too (then with the bridge's address as its source, else the answer would take a
  shorter way back and not be recognised).
- Into a bridge go only answers and what was redirected to a published port. So networks are apart from one another,
  and other machines cannot route to a container past its published ports.
- Out of a bridge goes everything, with the host's address as its source, unless the network is internal.
- A network whose gateway mode is `routed` keeps its addresses on the way out, and other machines may call them: its
  published ports, and by ping; `nat-unprotected` lets all in that finds its way.
- Calls from the host to 127.0.0.1 leave by a bridge, which needs `route_localnet` there; hence packets from a bridge
  that claim a loopback address, or ask for one, are dropped before anything else looks at them. A neighbour that sends
  something for 127.0.0.1 to this machine gets nothing redirected: a port published there is the host's own (dockerd
  before 28 lets neighbours in).
- Calls from the host to ::1 are not redirected: the kernel takes no answer for ::1 from a bridge. The keeper listens
  there (engine.relay).
"""

from service.errors import SystemFailure
from service.kernel import nftables
from service.kernel.nftables import INET, Element
from service.network import ipam
from service.network.ports import PROTOCOLS, is_redirected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from service.kernel.netlink import Channel
    from service.model.network import Endpoint, NetworkRecord, Port
    from service.settings import Settings

BRIDGE = "com.docker.network.bridge."  # how the bridge driver's options begin
SOURCE = "com.docker.network.host_ipv"  # and 4 or 6: the address of the host that calls to the outside come from
_RULES = """
  chain early {
    type filter hook prerouting priority -300; policy accept;
    ip saddr 127.0.0.0/8 iifname @bridges drop
    ip daddr 127.0.0.0/8 iifname @bridges drop
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    ip daddr 127.0.0.0/8 return
    fib daddr type local jump published
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ip6 daddr ::1 return
    fib daddr type local jump published
  }
  chain published {
    dnat ip to ip daddr . meta l4proto . th dport map @published4
    dnat ip to meta l4proto . th dport map @published_any4
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @published6
    dnat ip6 to meta l4proto . th dport map @published_any6
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ct status dnat ip saddr . oifname @subnets4 masquerade
    ct status dnat ip6 saddr . oifname @subnets6 masquerade
    ct status dnat ip saddr 127.0.0.0/8 oifname @bridges masquerade
    ip saddr . oifname @subnets4 return
    ip6 saddr . oifname @subnets6 return
    snat ip to ip saddr map @source4
    snat ip6 to ip6 saddr map @source6
    ip saddr @masqueraded4 masquerade
    ip6 saddr @masqueraded6 masquerade
  }
  chain forward {
    type filter hook forward priority 0; policy %(policy)s;
    ct state established,related accept
    oifname @bridges ct status dnat accept
    iifname . oifname @talkative accept
    iifname @internal drop
    ip daddr . meta l4proto . th dport @open4 accept
    ip6 daddr . meta l4proto . th dport @open6 accept
    ip daddr . oifname @routed4 icmp type echo-request accept
    ip6 daddr . oifname @routed6 icmpv6 type echo-request accept
    ip daddr . oifname @unprotected4 accept
    ip6 daddr . oifname @unprotected6 accept
    oifname @bridges drop
    iifname @bridges accept
  }
"""
_RULE_COUNT = sum(
    1 for line in _RULES.splitlines() if line.startswith("    ") and not line.lstrip().startswith("type ")
)
# A set of one field says of what it is (`typeof`): the nft of Debian 12 crashes on sets and maps of a plain `type` that
# one of Debian 13 has written, and both may be on a machine (in a container that shares the host's network, say).
_SETS = {
    "bridges": "typeof iifname;",
    "internal": "typeof iifname;",
    "talkative": "type ifname . ifname;",
    "subnets4": "type ipv4_addr . ifname; flags interval;",
    "subnets6": "type ipv6_addr . ifname; flags interval;",
    "routed4": "type ipv4_addr . ifname; flags interval;",
    "routed6": "type ipv6_addr . ifname; flags interval;",
    "unprotected4": "type ipv4_addr . ifname; flags interval;",
    "unprotected6": "type ipv6_addr . ifname; flags interval;",
    "open4": "type ipv4_addr . inet_proto . inet_service;",
    "open6": "type ipv6_addr . inet_proto . inet_service;",
    "masqueraded4": "typeof ip saddr; flags interval;",
    "masqueraded6": "typeof ip6 saddr; flags interval;",
}
_MAPS = {
    "source4": "typeof ip saddr : ip saddr; flags interval;",
    "source6": "typeof ip6 saddr : ip6 saddr; flags interval;",
    "published4": "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;",
    "published_any4": "type inet_proto . inet_service : ipv4_addr . inet_service;",
    "published6": "type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service;",
    "published_any6": "type inet_proto . inet_service : ipv6_addr . inet_service;",
}


def flag(network: "NetworkRecord", option: str, default: bool) -> bool:
    """One of Docker's `com.docker.network.bridge.…` switches of a network."""
    value = network["Options"].get(BRIDGE + option, "")
    return value.lower() in ("1", "t", "true") if value else default


def gateway_mode(network: "NetworkRecord", bits: int) -> str:
    """How the addresses of a bridge network (of `bits` bits, 32 or 128) are connected with the world: "nat" (also when
    nothing is said), "nat-unprotected", "routed" or "isolated"."""
    return network["Options"].get(f"{BRIDGE}gateway_mode_ipv{'4' if bits == 32 else '6'}") or "nat"


def bridge_name(network: "NetworkRecord") -> str:
    """The interface of a bridge network (at most 15 bytes: the kernel's limit)."""
    return network["Options"].get(BRIDGE + "name") or "br-" + network["Id"][:12]


def _network_elements(network: "NetworkRecord") -> "dict[str, list[str]]":
    bridge = f'"{bridge_name(network)}"'
    found: dict[str, list[str]] = {"bridges": [bridge]}
    if network["Internal"]:
        found["internal"] = [bridge]
    if flag(network, "enable_icc", True):
        found["talkative"] = [f"{bridge} . {bridge}"]
    for pool in network["IPAM"]["Config"] or ():
        version = "6" if ":" in pool["Subnet"] else "4"
        found.setdefault("subnets" + version, []).append(f"{pool['Subnet']} . {bridge}")
        mode = gateway_mode(network, 128 if version == "6" else 32)
        name = {"routed": "routed", "nat-unprotected": "unprotected"}.get(mode)
        if name:
            found.setdefault(name + version, []).append(f"{pool['Subnet']} . {bridge}")
        if not network["Internal"] and mode != "routed" and flag(network, "enable_ip_masquerade", True):
            source = network["Options"].get(SOURCE + version)
            if source:
                found.setdefault("source" + version, []).append(f"{pool['Subnet']} : {source}")
            else:
                found.setdefault("masqueraded" + version, []).append(pool["Subnet"])
    return found


def _open_ports(endpoint: "Endpoint") -> "list[tuple[str, str, int, int]]":
    """Set, address, protocol and port of everything that all may call at an endpoint."""
    found = []
    for address, protocol, number in endpoint.get("Open") or ():
        found.append(("open6" if ":" in address else "open4", address, PROTOCOLS[protocol], number))
    return found


def open_elements(endpoint: "Endpoint") -> "list[Element]":
    """The elements that let everybody call ports of an endpoint at its own address (gateway mode `routed`)."""
    return [
        Element(name, ipam.packed(address) + bytes([protocol, 0, 0, 0]) + port.to_bytes(2, "big") + b"\0\0")
        for name, address, protocol, port in _open_ports(endpoint)
    ]


def port_element(port: "Port") -> Element:
    """The element that publishes a port."""
    version = "6" if ":" in port["ContainerIP"] else "4"
    target = ipam.packed(port["ContainerIP"]) + port["ContainerPort"].to_bytes(2, "big") + b"\0\0"
    key = bytes([PROTOCOLS[port["Protocol"]], 0, 0, 0]) + port["HostPort"].to_bytes(2, "big") + b"\0\0"
    if port["HostIP"] in ("0.0.0.0", "::"):
        return Element("published_any" + version, key, target)
    return Element("published" + version, ipam.packed(port["HostIP"]) + key, target)


def _port_text(port: "Port") -> "tuple[str, str]":
    element = port_element(port)
    # a protocol by its number: most names nft looks up in /etc/protocols, which a small Debian has not (netbase)
    key = f"{PROTOCOLS[port['Protocol']]} . {port['HostPort']}"
    if "any" not in element.set:
        key = f"{port['HostIP']} . {key}"
    return element.set, f"{key} : {port['ContainerIP']} . {port['ContainerPort']}"


def render(
    table: str,
    networks: "Iterable[NetworkRecord]",
    ports: "Iterable[Port]",
    opened: "Iterable[Endpoint]" = (),
    *,
    closed: bool,
) -> str:
    """The whole table, for `nft -f`; it replaces the one that is there, in one step. `opened`: endpoints with ports
    that all may call.

    `closed`: forwarding was off on this machine before us, so what is none of our business is not forwarded.
    """
    elements: dict[str, list[str]] = {}
    for network in networks:
        for name, values in _network_elements(network).items():
            elements.setdefault(name, []).extend(values)
    for port in ports:
        if not is_redirected(port):
            continue
        name, value = _port_text(port)
        elements.setdefault(name, []).append(value)
    for endpoint in opened:
        for name, address, protocol, number in _open_ports(endpoint):
            elements.setdefault(name, []).append(f"{address} . {protocol} . {number}")
    lines = [f"table inet {table}", f"delete table inet {table}", f"table inet {table} {{"]
    for kind, definitions in (("set", _SETS), ("map", _MAPS)):
        for name, definition in definitions.items():
            filled = f" elements = {{ {', '.join(elements[name])} }};" if name in elements else ""
            lines.append(f"  {kind} {name} {{ {definition}{filled} }}")
    return "\n".join(lines) + _RULES % {"policy": "drop" if closed else "accept"} + "}\n"


def write(
    settings: "Settings",
    networks: "Iterable[NetworkRecord]",
    ports: "Iterable[Port]",
    opened: "Iterable[Endpoint]",
    *,
    closed: bool,
) -> None:
    """Put the whole table in place. Raises SystemFailure with nft's complaint."""
    from service import process
    from service.settings import find_program

    try:
        nft = find_program("nft")
    except FileNotFoundError as error:
        raise SystemFailure(str(error)) from error
    script = render(settings.nft_table, networks, ports, opened, closed=closed)
    process.run([nft, "-f", "-"], environment=settings.environment(), input_bytes=script.encode()).check()


def intact(nf: "Channel", table: str, network: "NetworkRecord") -> bool:
    """Whether the table has all its rules and knows the network."""
    if len(nftables.rules(nf, INET, table)) != _RULE_COUNT:
        return False
    name = bridge_name(network).encode()
    return nftables.has_element(nf, INET, table, Element("bridges", name + b"\0" * (16 - len(name))))


def publish(table: str, ports: "Sequence[Port]", opened: "Sequence[Endpoint]" = ()) -> None:
    """Let the ports in. An element left by a crash that leads elsewhere is replaced. Raises OSError."""
    elements = _all_elements(ports, opened)
    try:
        nftables.add_elements(INET, table, elements)
    except FileExistsError:
        nftables.delete_elements(INET, table, elements)
        nftables.add_elements(INET, table, elements)
    _forget_flows(ports)


def withdraw(table: str, ports: "Sequence[Port]", opened: "Sequence[Endpoint]" = ()) -> None:
    """Let the ports in no longer. Raises OSError."""
    nftables.delete_elements(INET, table, _all_elements(ports, opened))
    _forget_flows(ports)


def _all_elements(ports: "Sequence[Port]", opened: "Sequence[Endpoint]") -> "list[Element]":
    redirected = [port_element(port) for port in ports if is_redirected(port)]
    return [*redirected, *(element for endpoint in opened for element in open_elements(endpoint))]


def _forget_flows(ports: "Sequence[Port]") -> None:
    for port in ports:
        if port["Protocol"] == "udp":
            from service.kernel import conntrack

            conntrack.forget_udp(port["ContainerIP"], port["HostPort"])
