"""A registry's side of the wire: the OCI distribution protocol (Docker registry v2), by aiohttp.

One `Registry` speaks to one repository with one set of credentials. They go to the registry itself (basic), or to the
token service that the registry names (bearer); never into a message or a log line, never along a redirect to another
host. Plain HTTP is spoken only to this machine and to the registries that the settings allow.

Sources: opencontainers/distribution-spec spec.md; distribution/distribution docs spec/auth/token.md.
"""

import asyncio
import base64
import hashlib
import ssl

import aiohttp

from service import jsontext
from service.content.registry_types import INDEXES, MANIFESTS
from service.errors import InvalidParameter, MoorageError, NotFound, SystemFailure, Unauthorized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType
    from typing import Any

    from service.content.reference import Reference
    from service.settings import Settings

PIECE = 1 << 20
LARGEST_DOCUMENT = 16 << 20  # bytes of a manifest, a configuration, a token answer
_ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)


class RegistryError(SystemFailure):
    """The registry refused: `code` is its own (MANIFEST_UNKNOWN, DENIED, …), `status` that of HTTP."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code.lower().replace('_', ' ')}: {message}" if code else message)
        self.status, self.code = status, code


class Interrupted(SystemFailure):
    """The connection broke, or the registry asks to come again later: worth another attempt."""


class Credentials:
    """What a client gave for one registry (API: AuthConfig)."""

    __slots__ = ("identity_token", "password", "registry_token", "username")

    def __init__(
        self, username: str = "", password: str = "", identity_token: str = "", registry_token: str = ""
    ) -> None:
        self.username, self.password = username, password
        self.identity_token, self.registry_token = identity_token, registry_token

    @classmethod
    def decode(cls, header: str) -> "Credentials":
        """From X-Registry-Auth: JSON in base64url, padded or not. What cannot be read counts as none, as in dockerd."""
        try:
            given = jsontext.loads(base64.urlsafe_b64decode(header.replace("+", "-").replace("/", "_") + "=="))
        except ValueError:
            return cls()
        return cls.from_document(given) if isinstance(given, dict) else cls()

    @classmethod
    def from_document(cls, given: "dict[str, Any]") -> "Credentials":
        """From an AuthConfig; `auth` is base64 of user:password."""
        username, password = str(given.get("username") or ""), str(given.get("password") or "")
        if given.get("auth") and not username:
            try:
                username, _, password = base64.b64decode(given["auth"]).decode().partition(":")
            except ValueError:
                pass  # as if none were given
        return cls(username, password, str(given.get("identitytoken") or ""), str(given.get("registrytoken") or ""))

    def basic(self) -> str:
        """The Authorization header of basic authentication."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def host_of(domain: str) -> str:
    """Where the registry of a domain answers."""
    return "registry-1.docker.io" if domain == "docker.io" else domain


def may_be_insecure(settings: "Settings", domain: str) -> bool:
    """Whether plain HTTP and unknown certificates are accepted: this machine itself, and what the settings name."""
    allowed = [entry.strip() for entry in settings.insecure_registries.split(",") if entry.strip()]
    name = domain.rpartition(":")[0] if ":" in domain and not domain.endswith("]") else domain
    if domain in allowed or name in allowed:
        return True
    import ipaddress

    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name == "localhost"
    return address.is_loopback or any(
        address in ipaddress.ip_network(entry, strict=False) for entry in allowed if "/" in entry
    )


class Registry:
    """A session with one repository. Use as an async context manager."""

    def __init__(self, settings: "Settings", reference: "Reference", credentials: Credentials) -> None:
        self.repository = reference.path
        self.domain = reference.domain
        self.host = host_of(reference.domain)
        self.credentials = credentials
        self.insecure = may_be_insecure(settings, reference.domain)
        self.base = ""  # scheme and host, once it is known which scheme it speaks
        self.authorization = ""
        self.scopes: set[str] = {f"repository:{self.repository}:pull"}
        self.session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Registry":
        context: ssl.SSLContext | bool = True
        if self.insecure:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self.session = aiohttp.ClientSession(
            timeout=_TIMEOUT,
            connector=aiohttp.TCPConnector(ssl=context, limit=16),
            headers={"User-Agent": "moorage"},
            auto_decompress=False,
            read_bufsize=PIECE,
        )
        return self

    async def __aexit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        assert self.session is not None
        await self.session.close()

    async def connect(self) -> None:
        """Find out which scheme the registry speaks, and whether it wants authentication. Raises SystemFailure."""
        if self.base:
            return
        failure: Exception | None = None
        for scheme in ("https", "http") if self.insecure else ("https",):
            try:
                response = await self._send("GET", f"{scheme}://{self.host}/v2/")
            except (aiohttp.ClientError, TimeoutError, ssl.SSLError) as error:
                failure = failure or error if scheme == "http" else error
                continue
            response.release()
            self.base = f"{scheme}://{self.host}"
            return
        assert failure is not None
        raise SystemFailure(f'Get "https://{self.host}/v2/": {_said(failure)}') from failure

    async def _send(
        self, method: str, url: str, *, headers: "dict[str, str] | None" = None, data: "Any" = None
    ) -> aiohttp.ClientResponse:
        assert self.session is not None
        sent = {**(headers or {}), **({"Authorization": self.authorization} if self.authorization else {})}
        return await self.session.request(
            method, url, headers=sent, data=data, allow_redirects=method in ("GET", "HEAD")
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: "dict[str, str] | None" = None,
        data: "Callable[[], Any] | None" = None,
        accepted: "tuple[int, ...]" = (200,),
    ) -> aiohttp.ClientResponse:
        """One request to the repository (`path` begins with a slash, or is a whole URL of the registry's own choice).

        Authenticates when asked to. Raises RegistryError, Unauthorized, or Interrupted.
        """
        await self.connect()
        url = path if "://" in path else self.base + path
        try:
            for attempt in range(2):
                response = await self._send(method, url, headers=headers, data=data() if data else None)
                if response.status != 401 or attempt:
                    break
                challenge = response.headers.getall("WWW-Authenticate", [])
                response.release()
                await self._authenticate(challenge, f'{method.title()} "{url}"')
            if response.status in accepted:
                return response
            raise await self._refusal(response, method, url)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise Interrupted(f'{method.title()} "{url}": {_said(error)}') from error

    async def _refusal(self, response: aiohttp.ClientResponse, method: str, url: str) -> MoorageError:
        body = await _bounded(response)
        response.release()
        if response.status == 429 or response.status >= 500:
            return Interrupted(f"received unexpected HTTP status: {response.status} {response.reason}")
        try:
            first = jsontext.loads(body)["errors"][0]
            return RegistryError(response.status, str(first["code"]), str(first.get("message") or ""))
        except (ValueError, LookupError, TypeError):
            if response.status == 401:
                return RegistryError(401, "UNAUTHORIZED", "authentication required")
            if response.status == 404:
                return RegistryError(404, "NOT_FOUND", "not found")
            return RegistryError(
                response.status,
                "",
                f"unexpected status from {method} request to {url}: {response.status} {response.reason}",
            )

    async def _authenticate(self, challenges: "list[str]", request: str) -> None:
        """Answer a 401. Raises Unauthorized when there is nothing to answer with."""
        for challenge in challenges:
            scheme, _, rest = challenge.partition(" ")
            if scheme.lower() == "basic":
                if not self.credentials.username:
                    raise SystemFailure(f"{request}: no basic auth credentials")
                self.authorization = self.credentials.basic()
                return
            if scheme.lower() == "bearer":
                self.authorization = "Bearer " + await self._token(_parameters(rest))
                return
        raise RegistryError(401, "UNAUTHORIZED", "authentication required")

    async def _token(self, challenge: "dict[str, str]") -> str:
        if self.credentials.registry_token:
            return self.credentials.registry_token
        realm = challenge.get("realm", "")
        if not realm.startswith("https://") and not (self.insecure and realm.startswith("http://")):
            raise SystemFailure(f"the registry {self.host} names no safe token service")
        assert self.session is not None
        scopes = _merged([*self.scopes, *challenge.get("scope", "").split(" ")])
        query = [("service", challenge.get("service", "")), *(("scope", scope) for scope in scopes)]
        try:
            if self.credentials.identity_token:
                fields = [("grant_type", "refresh_token"), ("refresh_token", self.credentials.identity_token)]
                fields += [
                    ("service", challenge.get("service", "")),
                    ("client_id", "docker"),
                    ("scope", " ".join(scopes)),
                ]
                response = await self.session.post(realm, data=fields, allow_redirects=False)
            else:
                headers = {}
                if self.credentials.username:
                    query.append(("account", self.credentials.username))
                    headers["Authorization"] = self.credentials.basic()
                response = await self.session.get(realm, params=query, headers=headers)
            body = await _bounded(response)
            response.release()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Interrupted(f'Get "{realm}": {_said(error)}') from error
        if response.status in (401, 403):
            raise Unauthorized("unauthorized: incorrect username or password")
        try:
            answer = jsontext.loads(body)
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if response.status != 200 or not token:
            raise SystemFailure(f"the token service of {self.host} answered {response.status} {response.reason}")
        return str(token)

    # ── pull ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def manifest(self, name: str) -> "tuple[str, str, bytes]":
        """(digest, media type, content) of a manifest by tag or digest. Raises as `request`, or SystemFailure."""
        response = await self.request("GET", f"/v2/{self.repository}/manifests/{name}", headers={"Accept": _ACCEPT})
        content = await _bounded(response)
        response.release()
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        if ":" in name and name != digest:
            raise SystemFailure(f"manifest verification failed for digest {name}")
        return digest, media_type, content

    async def tags(self) -> "list[str]":
        """All tags of the repository, page by page."""
        found: list[str] = []
        path: str = f"/v2/{self.repository}/tags/list"
        while path:
            response = await self.request("GET", path)
            found += jsontext.loads(await _bounded(response)).get("tags") or []
            response.release()
            link = response.headers.get("Link", "")
            path = link[link.find("<") + 1 : link.find(">")] if 'rel="next"' in link else ""
        return found

    async def document(self, digest: str) -> bytes:
        """A small blob, verified. Raises as `request`, or SystemFailure."""
        response = await self.request("GET", f"/v2/{self.repository}/blobs/{digest}")
        content = await _bounded(response)
        response.release()
        if "sha256:" + hashlib.sha256(content).hexdigest() != digest:
            raise SystemFailure(f"filesystem layer verification failed for digest {digest}")
        return content

    async def blob(self, digest: str, offset: int = 0) -> "AsyncIterator[bytes]":
        """A blob's content from `offset` on; the first item is b"" when the registry begins at 0 all the same.

        Raises as `request`, and Interrupted in the middle.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = await self.request(
            "GET", f"/v2/{self.repository}/blobs/{digest}", headers=headers, accepted=(200, 206)
        )
        try:
            if offset and response.status == 200:
                yield b""
            async for piece in response.content.iter_chunked(PIECE):
                yield piece
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise Interrupted(_said(error)) from error
        finally:
            response.close()

    # ── push ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def has_blob(self, digest: str) -> bool:
        """Whether the repository has a blob."""
        response = await self.request("HEAD", f"/v2/{self.repository}/blobs/{digest}", accepted=(200, 404))
        response.release()
        return response.status == 200

    async def mount(self, digest: str, source: str) -> "str | None":
        """Let the repository have a blob of another one. None when that worked, else where to upload it."""
        path = f"/v2/{self.repository}/blobs/uploads/?mount={digest}&from={source}"
        response = await self.request("POST", path, accepted=(201, 202))
        response.release()
        return None if response.status == 201 else response.headers["Location"]

    async def upload(
        self, digest: str, pieces: "Callable[[], AsyncIterator[bytes]]", size: int, location: str = ""
    ) -> None:
        """Upload a blob in one piece; `pieces` gives its content anew each time it is called."""
        if not location:
            response = await self.request("POST", f"/v2/{self.repository}/blobs/uploads/", accepted=(202,))
            response.release()
            location = response.headers["Location"]
        url = location if "://" in location else self.base + location
        url += ("&" if "?" in url else "?") + f"digest={digest}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        response = await self.request("PUT", url, headers=headers, data=pieces, accepted=(201,))
        response.release()

    async def put_manifest(self, name: str, media_type: str, content: bytes) -> None:
        """Store a manifest under a tag or a digest."""
        response = await self.request(
            "PUT",
            f"/v2/{self.repository}/manifests/{name}",
            headers={"Content-Type": media_type},
            data=lambda: content,
            accepted=(200, 201),
        )
        response.release()


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """A small answer. Raises InvalidParameter when it is not small."""
    content = b""
    async for piece in response.content.iter_chunked(PIECE):
        content += piece
        if len(content) > LARGEST_DOCUMENT:
            response.close()
            raise InvalidParameter(f"the registry's answer is larger than {LARGEST_DOCUMENT} bytes")
    return content


def _merged(scopes: "list[str]") -> "list[str]":
    """Scopes (type:name:actions) with the actions on one resource together, `pull` before `push`."""
    actions: dict[str, set[str]] = {}
    for scope in scopes:
        resource, colon, wanted = scope.rpartition(":")
        if colon:
            actions.setdefault(resource, set()).update(wanted.split(","))
    return [f"{resource}:{','.join(sorted(wanted))}" for resource, wanted in sorted(actions.items())]


def _parameters(text: str) -> "dict[str, str]":
    """key="value", key=value, … of a challenge (RFC 9110, 11.2)."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        equals = text.find("=", at)
        if equals < 0:
            break
        key = text[at:equals].strip(" ,").lower()
        if text[equals + 1 : equals + 2] == '"':
            end = text.find('"', equals + 2)
            end = len(text) if end < 0 else end
            found[key] = text[equals + 2 : end]
            at = end + 1
        else:
            end = text.find(",", equals)
            end = len(text) if end < 0 else end
            found[key] = text[equals + 1 : end].strip()
            at = end
    return found


def _said(error: Exception) -> str:
    """What went wrong with a connection, without anything of ours in it."""
    if isinstance(error, asyncio.TimeoutError):
        return "i/o timeout"
    return str(error) or type(error).__name__


def pull_refusal(error: RegistryError, reference: "Reference") -> MoorageError:
    """A refusal in the words of dockerd's pull (moby: distribution/errors.go)."""
    if error.code in ("MANIFEST_UNKNOWN", "NOT_FOUND"):
        return NotFound(f"manifest for {reference.familiar} not found: {error.message}")
    if error.code == "NAME_UNKNOWN":
        return NotFound(f"repository {reference.familiar_repository} not found: {error.message}")
    if error.code == "DENIED":
        return NotFound(
            f"pull access denied for {reference.familiar_repository}, repository does not exist or may require "
            f"'docker login': {error.message}"
        )
    return error
