"""The host's own packet filter: where it drops what is forwarded, our bridges are let through.

nftables asks every table that looks at forwarded packets, and each may drop. Where iptables' FORWARD chain drops by
default (dockerd and ufw set it so), accepting a packet in our table does not save it. So a chain of ours goes into
that FORWARD chain; it lets DOCKER-USER (the place for an administrator's own rules) decide first, then accepts what
our bridges send and get: what may really pass is decided by our own table.
"""

from service.kernel import nftables
from service.kernel.nftables import IPV4

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.kernel.netlink import Channel
    from service.process import Finished
    from service.settings import Settings

_DROP = 0


def chain_name(settings: "Settings") -> str:
    """The chain of this instance (iptables allows 28 characters)."""
    return settings.nft_table.upper()[:20] + "-FORWARD"


def open_for(settings: "Settings", nf: "Channel", bridge: str) -> None:
    """Let a bridge's packets through iptables' FORWARD chain when that drops. Raises SystemFailure.

    Looked at by netlink (0.1 ms); iptables itself is only run when something is missing.
    """
    if not _drops(nf):
        return
    chain = chain_name(settings)
    if _knows(nf, "FORWARD", chain) and _knows(nf, chain, bridge):
        return
    if not _installed():
        return  # a chain that looks like iptables' but was made by hand: its owner decides

    def iptables(*arguments: str) -> "Finished":
        return _iptables(settings, *arguments)

    if iptables("-n", "-L", chain).code:
        iptables("-N", chain).check()
    if nftables.has_chain(nf, IPV4, "filter", "DOCKER-USER") and not _knows(nf, chain, "DOCKER-USER"):
        iptables("-I", chain, "-j", "DOCKER-USER").check()
    if not _knows(nf, chain, bridge):
        iptables("-A", chain, "-i", bridge, "-j", "ACCEPT").check()
        iptables("-A", chain, "-o", bridge, "-j", "ACCEPT").check()
    if not _knows(nf, "FORWARD", chain):
        iptables("-I", "FORWARD", "-j", chain).check()


def close_for(settings: "Settings", nf: "Channel", bridge: str) -> None:
    """Take back what `open_for` did for a bridge. Raises SystemFailure."""
    chain = chain_name(settings)
    if _knows(nf, chain, bridge) and _installed():
        for direction in ("-i", "-o"):
            _iptables(settings, "-D", chain, direction, bridge, "-j", "ACCEPT").check()


def _installed() -> bool:
    from service.settings import find_program

    try:
        find_program("iptables")
    except FileNotFoundError:
        return False
    return True


def _iptables(settings: "Settings", *arguments: str) -> "Finished":
    from service import process
    from service.settings import find_program

    argv = [find_program("iptables"), "-w", "10", "-t", "filter", *arguments]
    return process.run(argv, environment=settings.environment())


def _drops(nf: "Channel") -> bool:
    return nftables.chain_policy(nf, IPV4, "filter", "FORWARD") == _DROP


def _knows(nf: "Channel", chain: str, name: str) -> bool:
    return any(name.encode() + b"\0" in rule for rule in nftables.rules(nf, IPV4, "filter", chain))
