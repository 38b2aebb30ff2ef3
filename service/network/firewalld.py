"""firewalld, where it runs: it refuses what is forwarded from an interface that none of its zones has.

As dockerd does, a bridge is put into the zone `docker` (which accepts everything: what may really pass is decided by
our own table), and the policy `docker-forwarding` lets every zone send to that one. Both are made when they are
missing, which takes one reload of firewalld on a machine that never had them. A bridge that is in another zone is
there because its administrator wants it so.

firewalld is told by D-Bus, through busctl (10 to 40 ms a call; firewall-cmd takes 300). It is told twice: for now, and
for its next start, as nobody of ours may be awake then. Source: firewalld.dbus(5).
"""

from service.errors import SystemFailure
from service.kernel import nftables
from service.kernel.nftables import INET, IPV4

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from service.kernel.netlink import Channel
    from service.settings import Settings

ZONE, POLICY = "docker", "docker-forwarding"
_NAME = "org.fedoraproject.FirewallD1"
_PATH = "/org/fedoraproject/FirewallD1"
_PATIENCE = 10.0  # seconds for a call: others wait for the networks' lock meanwhile. A reload takes one
# where firewalld asks for an interface's zone: in its own table, or (with the backend iptables) among iptables' chains;
# the first name is that of version 1, the other one of version 2
_PLACES = (
    (INET, "firewalld", ("filter_INPUT_ZONES", "filter_INPUT_POLICIES")),
    (IPV4, "filter", ("INPUT_ZONES", "INPUT_POLICIES")),
)


class _Refused(Exception):  # noqa: N818 - firewalld's own word for it is in its text
    """What firewalld, or the way to it, said against a call."""


def open_for(settings: "Settings", nf: "Channel", bridge: str) -> None:
    """Have firewalld know a bridge. What it says against that is written to the journal.

    Without firewalld that takes four questions to the kernel; with it, a look at its rules when all is well.
    """
    rules = _rules(nf)
    if rules is not None and not any(nftables.compares(rule, bridge) for rule in rules):
        _complaining(settings, _add, bridge)


def close_for(settings: "Settings", nf: "Channel", bridge: str) -> None:
    """Take back what `open_for` did for a bridge; zone and policy stay, as dockerd's."""
    if _rules(nf) is not None:
        _complaining(settings, _remove, bridge)


def _rules(nf: "Channel") -> "list[bytes] | None":
    """The rules by which firewalld finds the zone of what comes in; None where there is no firewalld."""
    for family, table, chains in _PLACES:
        for chain in chains:
            if nftables.has_chain(nf, family, table, chain):
                return nftables.rules(nf, family, table, chain)
    return None


def _complaining(settings: "Settings", work: "Callable[[Settings, str], None]", bridge: str) -> None:
    from service import journal

    try:
        work(settings, bridge)
    except (_Refused, FileNotFoundError, SystemFailure) as error:
        journal.write("warning", f"firewalld was not told of {bridge}: {error}")


def _add(settings: "Settings", bridge: str) -> None:
    _make_zone(settings)
    zone = _path(_call(settings, "config", "config", "getZoneByName", "s", ZONE))
    _call(settings, zone, "config.zone", "addInterface", "s", bridge, fine=("ALREADY_ENABLED",))
    _call(settings, "", "zone", "addInterface", "ss", ZONE, bridge, fine=("ZONE_ALREADY_SET", "ZONE_CONFLICT"))


def _remove(settings: "Settings", bridge: str) -> None:
    _call(settings, "", "zone", "removeInterface", "ss", ZONE, bridge, fine=("UNKNOWN_INTERFACE", "INVALID_ZONE"))
    zone = _path(_call(settings, "config", "config", "getZoneByName", "s", ZONE, fine=("INVALID_ZONE",)))
    if zone:
        _call(settings, zone, "config.zone", "removeInterface", "s", bridge, fine=("NOT_ENABLED",))


def _make_zone(settings: "Settings") -> None:
    """Zone and policy. A reload takes them into use; what was made before a crash is found there the next time."""
    known = _call(settings, "", "zone", "getZones") + _call(settings, "", "policy", "getPolicies")
    if f'"{ZONE}"' in known and f'"{POLICY}"' in known:
        return
    accept = ("target", "s", "ACCEPT")
    for method, name, *described in (
        ("addZone2", ZONE, "2", *("description", "s", "bridges of containers' networks"), *accept),
        (
            *("addPolicy", POLICY, "3", *accept),
            *("ingress_zones", "as", "1", "ANY", "egress_zones", "as", "1", ZONE),
        ),
    ):
        _call(settings, "config", "config", method, "sa{sv}", name, *described, fine=("NAME_CONFLICT",))
    _call(settings, "", "", "reload")


def _path(answer: str) -> str:
    """The object path in busctl's `o "/…"`; "" in none."""
    return answer.partition('"')[2].rstrip('"\n')


def _call(
    settings: "Settings", path: str, interface: str, method: str, *arguments: str, fine: "tuple[str, ...]" = ()
) -> str:
    """What a method of firewalld answers, as busctl writes it; "" when it refuses with one of the errors `fine`.

    Raises _Refused with its words, FileNotFoundError without busctl, SystemFailure when there is no answer.
    """
    from service import process
    from service.settings import find_program

    path = path if path.startswith("/") else f"{_PATH}/{path}".rstrip("/")
    interface = f"{_NAME}.{interface}".rstrip(".")
    bus = {"DBUS_SYSTEM_BUS_ADDRESS": settings.system_bus} if settings.system_bus else {}
    done = process.run(
        [find_program("busctl"), "call", "--", _NAME, path, interface, method, *arguments],
        environment={**settings.environment(), **bus},
        seconds=_PATIENCE,
    )
    if not done.code:
        return done.stdout.decode("utf-8", "replace")
    said = done.stderr.decode("utf-8", "replace").strip()
    if any(word in said for word in fine):
        return ""
    raise _Refused(said)
