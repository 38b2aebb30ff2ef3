"""The text of a container's /etc/resolv.conf (resolv.conf(5)). Pure."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEMD_RESOLVED = "/run/systemd/resolve/resolv.conf"  # what resolved itself asks, when the host only says 127.0.0.53
_PUBLIC = ("8.8.8.8", "8.8.4.4")  # what dockerd falls back to when the host names no server that a container can reach


class Resolver:
    """What a resolv.conf says."""

    __slots__ = ("nameservers", "options", "search")

    def __init__(self, text: str = "") -> None:
        self.nameservers: list[str] = []
        self.search: list[str] = []
        self.options: list[str] = []
        for line in text.splitlines():
            words = line.split("#")[0].split(";")[0].split()
            if len(words) < 2:
                continue
            if words[0] == "nameserver":
                self.nameservers.append(words[1])
            elif words[0] in ("search", "domain"):
                self.search = words[1:]
            elif words[0] == "options":
                self.options.extend(words[1:])


def only_resolved(text: str) -> bool:
    """Whether the only server named is systemd-resolved's stub, which no container can reach."""
    return Resolver(text).nameservers == ["127.0.0.53"]


def resolv_text(
    host: str,
    *,
    servers: "Sequence[str]" = (),
    search: "Sequence[str]" = (),
    options: "Sequence[str]" = (),
    own_namespace: bool = True,
    ipv6: bool = False,
) -> str:
    """/etc/resolv.conf for a container, from the host's and what the container asks for instead.

    In a namespace of its own a container cannot reach servers on the host's loopback (nor, without IPv6, any server
    of IPv6): those are left out. `search` of "." asks for none.
    """
    known = Resolver(host)
    found = list(servers) or known.nameservers
    if own_namespace and not servers:
        found = [server for server in found if not _loopback(server) and (ipv6 or ":" not in server)] or list(_PUBLIC)
    domains = [domain for domain in search if domain != "."] if search else known.search
    lines = [f"nameserver {server}\n" for server in found]
    if domains:
        lines.append(f"search {' '.join(domains)}\n")
    if options or known.options:
        lines.append(f"options {' '.join(options or known.options)}\n")
    return "".join(lines)


def _loopback(server: str) -> bool:
    return server.startswith("127.") or server == "::1"
