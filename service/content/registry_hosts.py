"""Where the registry of a domain answers, and how it is spoken to: mirrors, certificates, plain HTTP, proxies.

Certificates lie where dockerd looks for them: <certs.d>/<host[:port]>/ holds authorities (*.crt), and a client's own
certificates (*.cert) each with its key (*.key). Proxies are those of the service's environment, by Go's rules.
"""

import ipaddress
import os

from service import daemon_json
from service.content import registry_config
from service.content.reference import DEFAULT_DOMAIN, OFFICIAL_HOST
from service.errors import SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

    from service.content.reference import Reference
    from service.settings import Settings


class Host:
    """One place to ask for images: `domain` is what names and credentials call it, `name` where it really answers.

    `schemes` are tried in this order; `path` is the repository there, where it is another than the one that was named.
    """

    __slots__ = ("domain", "insecure", "is_mirror", "name", "path", "schemes")

    def __init__(
        self, domain: str, schemes: tuple[str, ...], *, insecure: bool, is_mirror: bool = False, path: str = ""
    ) -> None:
        self.domain, self.schemes, self.insecure, self.is_mirror, self.path = domain, schemes, insecure, is_mirror, path
        self.name = OFFICIAL_HOST if domain == DEFAULT_DOMAIN else domain


def host(settings: "Settings", domain: str, path: str = "") -> Host:
    """Where the registry of a domain itself answers. Raises Forbidden when registries.conf blocks it."""
    rule = registry_config.rule(settings, f"{domain}/{path}".rstrip("/"))
    return _host(settings, domain, insecure=rule is not None and rule.insecure)


def _host(settings: "Settings", domain: str, *, insecure: bool, is_mirror: bool = False, path: str = "") -> Host:
    insecure = insecure or may_be_insecure(settings, domain)
    schemes = ("https", "http") if insecure else ("https",)
    return Host(domain, schemes, insecure=insecure, is_mirror=is_mirror, path=path)


def hosts(settings: "Settings", reference: "Reference") -> "list[Host]":
    """Where to look for an image: at the mirrors of Docker Hub, those of registries.conf, the registry itself.

    Raises Forbidden when registries.conf blocks it, SystemFailure for a file of settings that cannot be understood.
    """
    name = reference.repository
    rule = registry_config.rule(settings, str(reference)) or registry_config.rule(settings, name)
    found = []
    for url in mirrors(settings) if reference.domain == DEFAULT_DOMAIN else ():
        scheme, _, rest = url.rpartition("://")
        domain = rest.rstrip("/")
        insecure = may_be_insecure(settings, domain)
        found.append(Host(domain, (scheme or "https",), insecure=insecure, is_mirror=True))
    if rule is None:
        return [*found, _host(settings, reference.domain, insecure=False)]
    rest = rule.rest(name) or ""
    for mirror in rule.mirrors:
        if mirror.serves(reference):
            domain, _, path = (mirror.location + rest).partition("/")
            found.append(_host(settings, domain, insecure=mirror.insecure, is_mirror=True, path=path))
    domain, _, path = rule.moved(name).partition("/")
    return [*found, _host(settings, domain, insecure=rule.insecure, path=path)]


def mirrors(settings: "Settings") -> "list[str]":
    """The URLs of Docker Hub's mirrors, by the environment and by daemon.json."""
    return [*settings.registry_mirrors, *daemon_json.read(settings.daemon_json).registry_mirrors]


def insecure_registries(settings: "Settings") -> "list[str]":
    """The hosts, host:port and networks that are allowed plain HTTP, by the environment and by daemon.json."""
    listed = [entry.strip() for entry in settings.insecure_registries.split(",")]
    return [entry for entry in (*listed, *daemon_json.read(settings.daemon_json).insecure_registries) if entry]


def may_be_insecure(settings: "Settings", domain: str) -> bool:
    """Whether plain HTTP and unknown certificates are accepted: this machine itself, and what the settings name."""
    allowed = insecure_registries(settings)
    name = _without_port(domain)
    if domain in allowed or name in allowed:
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name == "localhost"
    return address.is_loopback or any(
        address in ipaddress.ip_network(entry, strict=False) for entry in allowed if is_network(entry)
    )


def is_network(entry: str) -> bool:
    """Whether an entry of insecure registries is a network, and not a host's name."""
    try:
        ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return "/" in entry


def _without_port(domain: str) -> str:
    return domain.rpartition(":")[0] if ":" in domain and not domain.endswith("]") else domain


def ssl_context(settings: "Settings", place: Host) -> "ssl.SSLContext":
    """How a registry's certificate is looked at, and our own shown. Blocking.

    Raises SystemFailure, in dockerd's words, for half a pair of files and for a file that is none.
    """
    import ssl

    context = ssl.create_default_context()
    # Python 3.13 asks more of an authority than Go does: many a private one has no key usage in its certificate
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if place.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    folder = f"{settings.certs_directory}/{place.name}"
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return context
    for name in names:
        stem, extension = os.path.splitext(name)
        try:
            if extension == ".crt":
                context.load_verify_locations(f"{folder}/{name}")
            elif extension == ".cert":
                if f"{stem}.key" not in names:
                    raise SystemFailure(
                        f"missing key {stem}.key for client certificate {name}. CA certificates must use the "
                        "extension .crt"
                    )
                context.load_cert_chain(f"{folder}/{name}", f"{folder}/{stem}.key")
            elif extension == ".key" and f"{stem}.cert" not in names:
                raise SystemFailure(f"missing client certificate {stem}.cert for key {name}")
        except (OSError, ssl.SSLError) as error:
            raise SystemFailure(f"{folder}/{name}: {error.strerror or error}") from error
    return context


def proxy(settings: "Settings", url: str) -> str:
    """The proxy for a URL; empty when the host itself is to be called.

    As Go's net/http reads HTTP_PROXY, HTTPS_PROXY and NO_PROXY: this machine is never asked for through a proxy;
    `example.com` excepts its subdomains as well, `.example.com` those alone; addresses, networks, ports and `*` count.
    """
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    given = settings.https_proxy if parts.scheme == "https" else settings.http_proxy
    if not given or not parts.hostname:
        return ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if _is_excepted(settings.no_proxy, parts.hostname.lower(), port):
        return ""
    return given if "://" in given else f"http://{given}"


def _is_excepted(no_proxy: str, name: str, port: int) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        address = None
    if name == "localhost" or (address is not None and address.is_loopback):
        return True
    for written in no_proxy.split(","):
        entry = written.strip().lower()
        if entry == "*":
            return True
        if "/" in entry and address is not None:
            try:
                if address in ipaddress.ip_network(entry, strict=False):
                    return True
            except ValueError:
                continue
        wanted = entry
        if entry.count(":") == 1 or "]:" in entry:
            wanted, _, only_port = entry.rpartition(":")
            if only_port != str(port):
                continue
        wanted = wanted.strip("[]").removeprefix("*")
        if not wanted:
            continue
        if name == wanted or name.endswith(wanted if wanted[0] == "." else f".{wanted}"):
            return True
    return False
