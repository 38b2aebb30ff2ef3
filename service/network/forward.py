"""The host's own packet filter: what iptables refuses to forward, our bridges may send and get.

nftables asks every table that looks at forwarded packets, and each may drop: accepting a packet in our table does not
save it. iptables' FORWARD chain often drops, by its policy (dockerd and ufw set it so) or by a last rule (some clouds'
images come with one). So a chain of ours stands at its beginning, as those of dockerd do; it lets DOCKER-USER (the
place for an administrator's own rules) decide first, then accepts what our bridges send and get: what may really pass
is decided by our own table. It is there before it is needed: when ufw is enabled, nobody of ours may be awake.

iptables keeps its rules in nftables, or, as `iptables-legacy`, in tables of the kernel's older packet filter, which
asks as well. Both may be there at once.
"""

import os

from service.errors import SystemFailure
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
        used: bool  # whether the table is there

        def has(self, chain: str) -> bool:
            """Whether there is such a chain."""

        def accepts(self, chain: str, bridge: str) -> bool:
            """Whether a rule of a chain names an interface."""

        def jumps(self, chain: str, to: str) -> bool:
            """Whether a rule of a chain jumps to another one."""


_PROGRAMS = ((IPV4, "iptables", "ip_tables_names"), (IPV6, "ip6tables", "ip6_tables_names"))


class _InNftables:
    """Looked at by netlink: 0.1 ms for a question."""

    def __init__(self, nf: "Channel", family: int, program: str) -> None:
        self.nf, self.family, self.program = nf, family, program
        self.used = self.has("FORWARD")

    def has(self, chain: str) -> bool:
        return nftables.has_chain(self.nf, self.family, "filter", chain)

    def accepts(self, chain: str, bridge: str) -> bool:
        return any(nftables.compares(rule, bridge) for rule in self._rules(chain))

    def jumps(self, chain: str, to: str) -> bool:
        return any(to.encode() + b"\0" in rule for rule in self._rules(chain))

    def _rules(self, chain: str) -> "list[bytes]":
        return nftables.rules(self.nf, self.family, "filter", chain)


class _Legacy:
    """Looked at by running the program (3 ms), where the kernel says that it has such tables at all."""

    def __init__(self, settings: "Settings", program: str, names: str) -> None:
        self.settings, self.program = settings, program
        self.used = _has_legacy(names)
        self._read: list[list[str]] = []

    def _lines(self) -> "list[list[str]]":
        self._read = self._read or [line.split() for line in _run(self.settings, self.program, "-S").splitlines()]
        return self._read

    def has(self, chain: str) -> bool:
        return ["-N", chain] in self._lines()

    def accepts(self, chain: str, bridge: str) -> bool:
        return self.jumps(chain, bridge)

    def jumps(self, chain: str, to: str) -> bool:
        return any(line[:2] == ["-A", chain] and to in line[2:] for line in self._lines())


def _filters(settings: "Settings", nf: "Channel", *, unused_too: bool) -> "Iterator[Filter]":
    """The tables that are there. `unused_too`: also that which iptables would make when it is first used."""
    for family, program, names in _PROGRAMS:
        usual = _found(program)
        is_legacy = "legacy" in os.path.basename(os.path.realpath(usual))
        modern = _InNftables(nf, family, _found(program + "-nft") or usual)
        if modern.used or (unused_too and usual and not is_legacy):
            yield modern
        legacy = _Legacy(settings, _found(program + "-legacy") or usual, names)
        if legacy.program and (legacy.used or (unused_too and is_legacy)):
            yield legacy


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
    """Let a bridge's packets through iptables' FORWARD chains. Raises SystemFailure.

    iptables itself is only run when something is missing (or to look, as `iptables-legacy`).
    """
    for known in _filters(settings, nf, unused_too=True):
        try:
            _open(settings, known, bridge)
        except SystemFailure as error:
            if known.used:
                raise
            from service import journal

            journal.write("debug", f"iptables is not used, and cannot be: {error.message}")


def _open(settings: "Settings", known: "Filter", bridge: str) -> None:
    chain = chain_name(settings)
    if known.jumps("FORWARD", chain) and known.accepts(chain, bridge):
        return
    if not known.program:
        return  # a chain that looks like iptables' but was made by hand: its owner decides
    words = [] if known.has(chain) else [f":{chain} - [0:0]"]
    if known.has("DOCKER-USER") and not known.jumps(chain, "DOCKER-USER"):
        words.append(f"-I {chain} -j DOCKER-USER")
    if not known.accepts(chain, bridge):
        words += [f"-A {chain} {direction} {bridge} -j ACCEPT" for direction in ("-i", "-o")]
    if not known.jumps("FORWARD", chain):
        words.append(f"-I FORWARD -j {chain}")
    _restore(settings, known.program, words)


def close_for(settings: "Settings", nf: "Channel", bridge: str) -> None:
    """Take back what `open_for` did for a bridge. What iptables says against that is written to the journal: a rule
    that stays accepts nothing once its bridge is gone."""
    chain = chain_name(settings)
    for known in _filters(settings, nf, unused_too=False):
        if known.accepts(chain, bridge) and known.program:
            words = [f"-D {chain} {direction} {bridge} -j ACCEPT" for direction in ("-i", "-o")]
            try:
                _restore(settings, known.program, words)
            except SystemFailure as error:
                from service import journal

                journal.write("warning", f"iptables keeps rules of {bridge}: {error.message}")


def _found(program: str) -> str:
    from service.settings import find_program

    try:
        return find_program(program)
    except FileNotFoundError:
        return ""


def _restore(settings: "Settings", program: str, lines: "list[str]") -> None:
    """Change the table by lines of iptables-save(8), all of them or none. Raises SystemFailure with its complaint."""
    from service import process

    text = "\n".join(("*filter", *lines, "COMMIT", ""))
    command = [program + "-restore", "-n", "-w", "10"]
    process.run(command, environment=settings.environment(), input_bytes=text.encode()).check()


def _run(settings: "Settings", program: str, *arguments: str) -> str:
    """What iptables says. Raises SystemFailure with its complaint."""
    from service import process

    done = process.run([program, "-w", "10", "-t", "filter", *arguments], environment=settings.environment())
    return done.check().stdout.decode("utf-8", "replace")
