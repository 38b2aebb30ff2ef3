"""Networks and endpoints as they are stored: Docker's own words, as JSON in the store."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NotRequired, TypedDict

    class IPAMConfig(TypedDict):
        """One range of addresses of a network."""

        Subnet: str
        IPRange: NotRequired[str]
        Gateway: NotRequired[str]
        AuxiliaryAddresses: NotRequired[dict[str, str]]
        GatewayChosen: NotRequired[bool]  # the user named the subnet and not the gateway: then it is not shown

    class IPAM(TypedDict):
        """Where a network's addresses come from."""

        Driver: str
        Options: dict[str, str] | None
        Config: list[IPAMConfig] | None

    class NetworkRecord(TypedDict):
        """What `network create` decided, as `GET /networks/{id}` shows it (without Containers)."""

        Name: str
        Id: str
        Created: str
        Scope: str  # "local"
        Driver: str  # bridge | macvlan | ipvlan | host | null
        EnableIPv4: bool
        EnableIPv6: bool
        IPAM: IPAM
        Internal: bool
        Attachable: bool
        Ingress: bool
        ConfigFrom: dict[str, str]
        ConfigOnly: bool
        Options: dict[str, str]
        Labels: dict[str, str]
        GivenSubnets: NotRequired[bool]  # the user named the subnets (else they came from a pool); not shown
        GivenFamilies: NotRequired[list[int]]  # of which families, by the bits of an address; not shown
        MadeParent: NotRequired[bool]  # macvlan, ipvlan: the parent was made for it, and goes with it; not shown
        Asked: NotRequired[dict[str, Any]]  # `bridge`: what of daemon.json it was made of; not shown
        BridgeOfUser: NotRequired[bool]  # the bridge was there before the network, and stays; not shown

    class Endpoint(TypedDict):
        """A container's place on a network, while it runs."""

        Id: str
        NetworkId: str
        NetworkName: str
        Driver: str
        ContainerId: str
        ContainerName: str  # at the time of the start
        SandboxId: str  # of the network namespace: the same for all endpoints of a container
        Bridge: str  # the bridge's interface; empty for all other drivers
        Interface: str  # in the container: eth0, eth1, …
        HostInterface: str  # the other end of the veth pair; empty without one: macvlan, ipvlan
        Mac: str
        IPv4: str
        IPv4Prefix: int
        Gateway: str  # empty for an internal network
        IPv6: str
        IPv6Prefix: int
        IPv6Gateway: str
        MTU: int
        DefaultRoute: bool  # this endpoint provides the container's default route
        Settings: dict[str, Any]  # as requested (EndpointSettings): IPAMConfig, Links, Aliases, DriverOpts, GwPriority
        DNSNames: list[str] | None
        Isolated: NotRequired[bool]  # enable_icc=false: nothing goes to its neighbours on the bridge
        Open: NotRequired[list[tuple[str, str, int]]]  # gateway mode `routed`: what all may call there
        RouteByDevice: NotRequired[bool]  # ipvlan l3: everything leaves by the interface, without a gateway
        Sysctls: NotRequired[
            list[tuple[str, str]]
        ]  # of its interface: (path below /proc/sys, with IFNAME in it; value)

    class Port(TypedDict):
        """A published port."""

        Protocol: str  # tcp | udp | sctp
        HostIP: str
        HostPort: int
        ContainerPort: int
        ContainerIP: str
        ContainerId: str
