"""`login` and what a registry says of an image without pulling it (API: SystemAuth, DistributionInspect)."""

from service import jsontext
from service.content import platforms
from service.content.reference import Reference
from service.content.registry import Interrupted, Registry, RegistryError
from service.content.registry_credentials import Credentials
from service.content.registry_types import INDEXES
from service.engine import registry_lookup
from service.errors import InvalidParameter, NotFound, SystemFailure, Unauthorized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.engine.engine import Engine


async def login(engine: "Engine", address: str, given: "dict[str, Any]") -> "dict[str, str]":
    """Try credentials at a registry. Raises Unauthorized when it does not take them, SystemFailure when it is away."""
    domain = _host(address) or "docker.io"
    if domain in ("index.docker.io", "registry-1.docker.io"):
        domain = "docker.io"
    registry = Registry(engine.settings, Reference(domain, ""), Credentials.from_document(given))
    registry.scopes = set()
    registry.wants_identity = registry.is_trial = True
    async with registry:
        try:
            response = await registry.request("GET", "/v2/")
            response.release()
        except RegistryError as error:
            if error.status == 401:
                raise Unauthorized(
                    f"login attempt to {registry.base}/v2/ failed with status: 401 Unauthorized"
                ) from error
            raise
        except Interrupted as error:
            raise SystemFailure(error.message) from error
    return {"IdentityToken": registry.identity_token, "Status": "Login Succeeded"}


_IN_HOSTS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~!$&'()*+,;=:[]<>\""
)  # RFC 3986


def _host(address: str) -> str:
    """host[:port] of a server address, which may be a URL. Raises InvalidParameter as Go's net/url words it."""
    url = address if address.startswith(("http://", "https://")) else "https://" + address
    host = url.partition("://")[2].partition("/")[0].partition("?")[0].partition("#")[0]
    reason = ""
    for at, character in enumerate(host):
        if character < " " or character == "\x7f":
            raise InvalidParameter(
                f"unable to parse server address: parse {_quoted(url)}: net/url: invalid control character in URL"
            )
        if character == "%":
            reason = f"invalid URL escape {_quoted(host[at : at + 3])}"
            break
        if character not in _IN_HOSTS and character < "\x80":
            reason = f"invalid character {_quoted(character)} in host name"
            break
    port = host.rpartition("]")[2].partition(":")[2]
    if not reason and port and not (port.isascii() and port.isdigit()):
        reason = f"invalid port {_quoted(':' + port)} after host"
    if reason:
        raise InvalidParameter(f"unable to parse server address: parse {_quoted(url)}: {reason}")
    return host


def _quoted(text: str) -> str:
    """As Go's %q shows it."""
    return jsontext.dumps(text).replace("\\u00", "\\x").replace("\x7f", "\\x7f")


async def distribution(engine: "Engine", reference: Reference, credentials: Credentials) -> "dict[str, Any]":
    """The descriptor and platforms of an image in its registry, in Docker's shape. Raises MoorageError."""
    reference = reference.with_default_tag()

    async def ask(registry: Registry) -> "dict[str, Any]":
        return await _described(registry, reference.digest or reference.tag)

    try:
        registry, found = await registry_lookup.first(engine, reference, credentials, ask)
    except RegistryError as error:
        if error.status == 404:
            raise NotFound(error.message) from error
        if error.status in (401, 403):
            raise Unauthorized(error.message) from error
        raise
    await registry.close()
    return found


async def _described(registry: Registry, name: str) -> "dict[str, Any]":
    digest, media_type, content = await registry.manifest(name)
    try:
        document = jsontext.loads(content)
        if media_type in INDEXES or "manifests" in document:
            found = [entry["platform"] for entry in document.get("manifests") or () if entry.get("platform")]
        else:
            config = jsontext.loads(await registry.document(document["config"]["digest"]))
            system, architecture, _ = platforms.stated(config)
            found = [{"architecture": architecture, "os": system}]
            if config.get("variant"):
                found[0]["variant"] = config["variant"]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise InvalidParameter(f"the registry's manifest {digest} cannot be read") from None
    return {"Descriptor": {"mediaType": media_type, "digest": digest, "size": len(content)}, "Platforms": found}
