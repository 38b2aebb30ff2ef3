"""The host's own packet filter: where it drops what is forwarded, our bridges are let through.

nftables asks every table that looks at forwarded packets, and each may drop. Where iptables' FORWARD chain drops by
default (dockerd and ufw set it so), accepting a packet in our table does not save it. So a chain of ours goes into
that FORWARD chain; it lets DOCKER-USER (the place for an administrator's own rules) decide first, then accepts what
our bridges send and get: what may really pass is decided by our own table.

iptables keeps its rules in nftables, or, as `iptables-legacy`, in tables of the kernel's older packet filter, which
asks as well. Both may be there at once.
"""

from service.kernel import nftables
from service.kernel.nftables import IPV4, IPV6

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from service.kernel.netlink import Channel
    from service.settings import Settings

    class Filter(Protocol):
        """iptables' table `filter` of one family, in one of its two places."""

        program: str

        def drops(self) -> bool:
            """Whether its FORWARD chain drops what no rule accepts."""

        def has(self, chain: str) -> bool:
            """Whether there is such a chain."""

        def knows(self, chain: str, name: str) -> bool:
            """Whether a rule of a chain names an interface, or jumps to a chain."""


_DROP = 0
_PROGRAMS = ((IPV4, "iptables", "ip_tables_names"), (IPV6, "ip6tables", "ip6_tables_names"))


class _InNftables:
    """Looked at by netlink: 0.1 ms for a question."""

    def __init__(self, nf: "Channel", family: int, program: str) -> None:
        self.nf, self.family = nf, family
        self.program = _found(program + "-nft") or _found(program)

    def drops(self) -> bool:
        return nftables.chain_policy(self.nf, self.family, "filter", "FORWARD") == _DROP

    def has(self, chain: str) -> bool:
        return nftables.has_chain(self.nf, self.family, "filter", chain)

    def knows(self, chain: str, name: str) -> bool:
        rules = nftables.rules(self.nf, self.family, "filter", chain)
        return any(name.encode() + b"\0" in rule for rule in rules)


class _Legacy:
    """Looked at by running the program (3 ms), where the kernel says that it has such tables at all."""

    def __init__(self, settings: "Settings", program: str) -> None:
        self.program = program
        self.lines = [line.split() for line in _run(settings, program, "-S").splitlines()]

    def drops(self) -> bool:
        return ["-P", "FORWARD", "DROP"] in self.lines

    def has(self, chain: str) -> bool:
        return ["-N", chain] in self.lines

    def knows(self, chain: str, name: str) -> bool:
        return any(line[:2] == ["-A", chain] and name in line[2:] for line in self.lines)


def _filters(settings: "Settings", nf: "Channel") -> "Iterator[Filter]":
    for family, program, names in _PROGRAMS:
        yield _InNftables(nf, family, program)
        if _has_legacy(names):
            legacy = _found(program + "-legacy") or _found(program)
            if legacy:
                yield _Legacy(settings, legacy)


def _has_legacy(names: str) -> bool:
    try:
        with open(f"/proc/thread-self/net/{names}", encoding="ascii") as file:
            return "filter" in file.read().split()
    except FileNotFoundError:
        return False  # the kernel has no such packet filter, or nobody has used it


def chain_name(settings: "Settings") -> str:
    """The chain of this instance (iptables allows 28 characters)."""
    return settings.nft_table.upper()[:20] + "-FORWARD"


def open_for(settings: "Settings", nf: "Channel", bridge: str) -> None:
    """Let a bridge's packets through iptables' FORWARD chains that drop. Raises SystemFailure.

    iptables itself is only run when something is missing (or to look, as `iptables-legacy`).
    """
    for known in _filters(settings, nf):
        if known.drops():
            _open(settings, known, bridge)


def _open(settings: "Settings", known: "Filter", bridge: str) -> None:
    chain = chain_name(settings)
    if known.knows("FORWARD", chain) and known.knows(chain, bridge):
        return
    if not known.program:
        return  # a chain that looks like iptables' but was made by hand: its owner decides
    if not known.has(chain):
        _run(settings, known.program, "-N", chain)
    if known.has("DOCKER-USER") and not known.knows(chain, "DOCKER-USER"):
        _run(settings, known.program, "-I", chain, "-j", "DOCKER-USER")
    if not known.knows(chain, bridge):
        for direction in ("-i", "-o"):
            _run(settings, known.program, "-A", chain, direction, bridge, "-j", "ACCEPT")
    if not known.knows("FORWARD", chain):
        _run(settings, known.program, "-I", "FORWARD", "-j", chain)


def close_for(settings: "Settings", nf: "Channel", bridge: str) -> None:
    """Take back what `open_for` did for a bridge. Raises SystemFailure."""
    chain = chain_name(settings)
    for known in _filters(settings, nf):
        if known.knows(chain, bridge) and known.program:
            for direction in ("-i", "-o"):
                _run(settings, known.program, "-D", chain, direction, bridge, "-j", "ACCEPT")


def _found(program: str) -> str:
    from service.settings import find_program

    try:
        return find_program(program)
    except FileNotFoundError:
        return ""


def _run(settings: "Settings", program: str, *arguments: str) -> str:
    """What iptables says. Raises SystemFailure with its complaint."""
    from service import process

    done = process.run([program, "-w", "10", "-t", "filter", *arguments], environment=settings.environment())
    return done.check().stdout.decode("utf-8", "replace")
