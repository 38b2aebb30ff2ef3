"""A container's /etc/resolv.conf (resolv.conf(5)), and the sockets of its own name server (engine.name_service)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ADDRESS, PORT = "127.0.0.11", 53  # where a container on a network with names finds its name server
SYSTEMD_RESOLVED = "/run/systemd/resolve/resolv.conf"  # what resolved itself asks, when the host only says 127.0.0.53
# what dockerd falls back to when the host names no server that a container can reach
_PUBLIC = ("8.8.8.8", "8.8.4.4")
_PUBLIC_IPV6 = ("2001:4860:4860::8888", "2001:4860:4860::8844")


class Resolver:
    """What a resolv.conf says."""

    __slots__ = ("nameservers", "options", "other", "search")

    def __init__(self, text: str = "") -> None:
        self.nameservers: list[str] = []
        self.search: list[str] = []
        self.options: list[str] = []
        self.other: list[str] = []  # lines that say something else (sortlist)
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
            else:
                self.other.append(line)


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
    named: bool = False,
) -> str:
    """/etc/resolv.conf for a container, from the host's and what the container asks for instead.

    In a namespace of its own a container cannot reach servers on the host's loopback (nor, without IPv6, any server
    of IPv6): those are left out. `search` of "." asks for none. `named`: the server is the container's own, which is to
    be asked for names without a dot as well.
    """
    known = Resolver(host)
    found = list(servers) or known.nameservers
    if own_namespace and not servers:
        found = [server for server in found if not _loopback(server) and (ipv6 or ":" not in server)]
        found = found or [*_PUBLIC, *(_PUBLIC_IPV6 if ipv6 else ())]
    domains = [domain for domain in search if domain != "."] if search else known.search
    lines = [f"nameserver {server}\n" for server in found]
    if domains:
        lines.append(f"search {' '.join(domains)}\n")
    words = list(options or known.options)
    if named and not any(word.startswith("ndots:") for word in words):
        words.append("ndots:0")
    if words:
        lines.append(f"options {' '.join(words)}\n")
    lines += [f"{line}\n" for line in known.other]
    return "".join(lines)


def _loopback(server: str) -> bool:
    return server.startswith("127.") or server == "::1"


def host_servers() -> "list[str]":
    """Whom this host asks, from the host's own place: servers on its loopback serve as well."""
    return _host().nameservers or list(_PUBLIC)


def keeps_bare_names(options: "Sequence[str]") -> bool:
    """Whether a container's options (the host's, without any) ask for dots in a name: `ndots:` above 0.

    Then a name without a dot is no one's outside: the client asks again with its search domains (moby:
    libnetwork/resolver.go, NdotsSet).
    """
    wanted = [word.partition(":")[2] for word in options or _host().options if word.startswith("ndots:")]
    return bool(wanted) and wanted[-1].isdigit() and int(wanted[-1]) > 0


def _host() -> Resolver:
    try:
        with open("/etc/resolv.conf", "rb") as file:
            return Resolver(file.read().decode("utf-8", "replace"))
    except FileNotFoundError:
        return Resolver()


def open_sockets() -> list[int]:
    """A name server's two sockets (UDP, and TCP that listens), in the network namespace of the calling thread."""
    import _socket

    made: list[_socket.socket] = []
    for kind in (_socket.SOCK_DGRAM, _socket.SOCK_STREAM):
        server = _socket.socket(_socket.AF_INET, kind | _socket.SOCK_CLOEXEC)
        made.append(server)
        server.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        server.bind((ADDRESS, PORT))
    made[1].listen(64)
    return [server.detach() for server in made]
