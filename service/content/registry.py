"""A registry's side of the wire: the OCI distribution protocol (Docker registry v2), by aiohttp.

One `Registry` speaks to one repository with one set of credentials. They go to the registry itself (basic), or to the
token service that the registry names (bearer); never into a message or a log line, never to another host, and never to
a mirror. Where a registry answers, and what is believed of it, says `registry_hosts`.

Sources: opencontainers/distribution-spec spec.md; distribution/distribution docs spec/auth/token.md.
"""

import asyncio
import hashlib
import os
import socket
import ssl
from functools import partial

import aiohttp

from service import jsontext
from service.content import registry_auth, registry_hosts
from service.content.registry_credentials import Credentials
from service.content.registry_types import INDEXES, MANIFESTS
from service.errors import InvalidParameter, MoorageError, NotFound, SystemFailure, Unauthorized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType
    from typing import Any

    from service.content.reference import Reference
    from service.settings import Settings

    Pieces = Callable[[int, int], AsyncIterator[bytes]]  # of a blob, from an offset on, so many bytes

PIECE = 1 << 20
CHUNK = 8 << 20  # bytes of one part of an upload that cannot go in one
_TOO_LARGE = (405, 411, 413, 415, 501)  # how an upload in one request is refused
_OCTETS = {"Content-Type": "application/octet-stream"}
LARGEST_DOCUMENT = 16 << 20  # bytes of a manifest, a configuration, a token answer
_ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
LONGEST_WAIT = 60.0  # seconds: a registry that asks for more patience is not waited for longer
_CLIENT = "docker"  # what token services know Docker's clients by
_PATIENCE = 3  # times that a small document is asked for
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)


class RegistryError(SystemFailure):
    """The registry refused: `code` is its own (MANIFEST_UNKNOWN, DENIED, …), `status` that of HTTP."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code.lower().replace('_', ' ')}: {message}" if code else message)
        self.status, self.code = status, code


class Unreachable(SystemFailure):
    """Nobody answers where the registry should be, or not as a registry that we may believe."""


class Interrupted(SystemFailure):
    """The connection broke, or the registry asks to come again later: worth another attempt, in `after` seconds."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after
        self.location = ""  # of an upload that may go on


class Registry:
    """A session with one repository. Use as an async context manager."""

    def __init__(
        self,
        settings: "Settings",
        reference: "Reference",
        credentials: Credentials,
        host: "registry_hosts.Host | None" = None,
    ) -> None:
        """`host`: one of `registry_hosts.hosts`; the registry itself unless given.

        What the client gave is for the registry that it named, and for no mirror. Where it gave nothing, the server's
        own credentials for the host that is really asked are used, unless `is_trial` is set.
        """
        self.settings = settings
        self.named = reference.repository
        self.domain = reference.domain
        self.place = host or registry_hosts.host(settings, reference.domain, reference.path)
        self.repository = self.place.path or reference.path
        self.host = self.place.name
        self.credentials = credentials if self.place.domain == reference.domain else Credentials()
        self.own = Credentials()  # the server's, for whoever gives none
        self.is_trial = False
        self.base = ""  # scheme and host, once it is known which scheme it speaks
        self.authorization = ""
        self.wants_identity = False  # whether to ask the token service for what replaces the password from now on
        self.identity_token = ""  # its answer to that
        self.scopes: set[str] = {f"repository:{self.repository}:pull"}
        self.greeting = "/v2/"  # what is asked for to find out the scheme
        self.session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Registry":
        await self.open()
        return self

    async def __aexit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Begin, and `close` at the end. Raises SystemFailure for certificates that cannot be read."""
        context = await asyncio.get_running_loop().run_in_executor(None, self._prepare)
        self.session = aiohttp.ClientSession(
            timeout=_TIMEOUT,
            connector=aiohttp.TCPConnector(ssl=context, limit=16),
            headers={"User-Agent": "moorage"},
            auto_decompress=False,
            read_bufsize=PIECE,
        )

    def _prepare(self) -> ssl.SSLContext:
        """What is read from files: certificates, and credentials where the client gave none."""
        if self.credentials.is_empty and not self.is_trial:
            self.own = registry_auth.find(self.settings, self.place.domain, self.repository)
            if self.credentials.source is None:
                self.credentials = self.own
        return registry_hosts.ssl_context(self.settings, self.place)

    async def close(self) -> None:
        """End the connections."""
        if self.session is not None:
            await self.session.close()
            self.session = None

    async def connect(self) -> None:
        """Find out which scheme the registry speaks, and whether it wants authentication. Raises Unreachable."""
        if self.base:
            return
        for scheme in self.place.schemes:
            url = f"{scheme}://{self.host}{self.greeting}"
            try:
                response = await self._send("GET", url)
            except (aiohttp.ClientError, TimeoutError, ssl.SSLError) as error:
                failure = Unreachable(f'Get "{url}": {_said(error)}')
                failure.__cause__ = error
                continue
            except ValueError as error:
                raise InvalidParameter(f"unable to parse server address: {self.host}") from error
            response.release()
            self.base = f"{scheme}://{self.host}"
            return
        raise failure

    async def _send(
        self, method: str, url: str, *, headers: "dict[str, str] | None" = None, data: "Any" = None
    ) -> aiohttp.ClientResponse:
        """One request, through the proxy that the settings name for it. Authorization goes to the registry only."""
        assert self.session is not None
        sent = dict(headers or {})
        if self.authorization and url.partition("://")[2].startswith(f"{self.host}/"):
            sent["Authorization"] = self.authorization
        return await self.session.request(
            method,
            url,
            headers=sent,
            data=data,
            allow_redirects=method in ("GET", "HEAD"),
            proxy=registry_hosts.proxy(self.settings, url) or None,
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

        Authenticates when asked to. Raises RegistryError, Unauthorized, Unreachable, or Interrupted.
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
        except (aiohttp.TooManyRedirects, aiohttp.InvalidURL) as error:
            raise SystemFailure(f'{method.title()} "{url}": {_said(error)}') from error
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise Interrupted(f'{method.title()} "{url}": {_said(error)}') from error

    async def _patiently(self, path: str, headers: "dict[str, str] | None" = None) -> "tuple[Any, bytes]":
        """(headers, content) of a small document, asked for again when the registry was busy. Raises as `request`."""
        for attempt in range(1, _PATIENCE):
            try:
                return await self._document(path, headers)
            except Interrupted as error:
                await asyncio.sleep(max(attempt, error.after))
        return await self._document(path, headers)

    async def _document(self, path: str, headers: "dict[str, str] | None") -> "tuple[Any, bytes]":
        response = await self.request("GET", path, headers=headers)
        try:
            content = await _bounded(response)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise Interrupted(_said(error)) from error
        finally:
            response.release()
        return response.headers, content

    async def _refusal(self, response: aiohttp.ClientResponse, method: str, url: str) -> MoorageError:
        body = await _bounded(response)
        response.release()
        if response.status == 429 or response.status >= 500:
            return Interrupted(
                _first_error(body) or f"received unexpected HTTP status: {response.status} {response.reason}",
                _retry_after(response.headers.get("Retry-After", "")),
            )
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
                await self._ask_for_login()
                if not self.credentials.username:
                    raise SystemFailure(f"{request}: no basic auth credentials")
                self.authorization = self.credentials.basic()
                return
            if scheme.lower() == "bearer":
                self.authorization = "Bearer " + await self._token(_parameters(rest), request)
                return
        raise RegistryError(401, "UNAUTHORIZED", "authentication required")

    async def _ask_for_login(self) -> None:
        """Have who is behind the credentials give them; the server's own where they have none."""
        if self.credentials.source is not None:
            given = await self.credentials.source.login()
            self.credentials = self.own if given.is_empty else given

    async def _token(self, challenge: "dict[str, str]", request: str) -> str:
        if self.credentials.registry_token:
            return self.credentials.registry_token
        realm = challenge.get("realm", "")
        if not realm.startswith("https://") and not (self.place.insecure and realm.startswith("http://")):
            raise SystemFailure(f"the registry {self.host} names no safe token service")
        assert self.session is not None
        proxy = registry_hosts.proxy(self.settings, realm) or None
        scopes = _merged([*self.scopes, *challenge.get("scope", "").split(" ")])
        if self.credentials.source is not None:
            # where the server has a login of its own, the client's has to be seen: it is for those who have none
            if self.own.is_empty:
                token = await self.credentials.source.token(realm, challenge.get("service", ""), scopes)
                if token is not None:
                    return token
            await self._ask_for_login()
        query = [("service", challenge.get("service", "")), *(("scope", scope) for scope in scopes)]
        try:
            if self.credentials.identity_token:
                fields = [("grant_type", "refresh_token"), ("refresh_token", self.credentials.identity_token)]
                fields += [
                    ("service", challenge.get("service", "")),
                    ("client_id", _CLIENT),
                    ("scope", " ".join(scopes)),
                ]
                response = await self.session.post(realm, data=fields, allow_redirects=False, proxy=proxy)
            else:
                headers = {}
                if self.credentials.username:
                    query.append(("account", self.credentials.username))
                    headers["Authorization"] = self.credentials.basic()
                    if self.wants_identity:
                        query += [("offline_token", "true"), ("client_id", _CLIENT)]
                response = await self.session.get(realm, params=query, headers=headers, proxy=proxy)
            body = await _bounded(response)
            response.release()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Interrupted(f'Get "{realm}": {_said(error)}') from error
        if response.status in (401, 403):
            raise Unauthorized(f"{request}: {_first_error(body) or 'unauthorized: incorrect username or password'}")
        try:
            answer = jsontext.loads(body)
            token = answer.get("token") or answer.get("access_token")
            self.identity_token = str(answer.get("refresh_token") or "")
        except (ValueError, AttributeError):
            token = None
        if response.status != 200:
            raise SystemFailure(f"{request}: received unexpected HTTP status: {response.status} {response.reason}")
        if not token:
            raise SystemFailure(f"{request}: authorization server did not include a token in the response")
        return str(token)

    # ── pull ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def manifest(self, name: str) -> "tuple[str, str, bytes]":
        """(digest, media type, content) of a manifest by tag or digest. Raises as `request`, or SystemFailure."""
        headers, content = await self._patiently(f"/v2/{self.repository}/manifests/{name}", {"Accept": _ACCEPT})
        media_type = headers.get("Content-Type", "").partition(";")[0].strip()
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        if ":" in name and name != digest:
            raise SystemFailure(f"manifest verification failed for digest {name}")
        return digest, media_type, content

    async def digest_of(self, name: str) -> str:
        """The digest that a name means just now, by a request that registries do not count; empty when not told."""
        try:
            response = await self.request(
                "HEAD", f"/v2/{self.repository}/manifests/{name}", headers={"Accept": _ACCEPT}
            )
        except (RegistryError, Interrupted):
            return ""  # the manifest is asked for next, and that answer says why
        response.release()
        return response.headers.get("Docker-Content-Digest", "")

    async def tags(self) -> "list[str]":
        """All tags of the repository, page by page."""
        found: list[str] = []
        path: str = f"/v2/{self.repository}/tags/list"
        while path:
            headers, content = await self._patiently(path)
            try:
                found += [str(tag) for tag in jsontext.loads(content).get("tags") or ()]
            except (ValueError, AttributeError, TypeError):
                raise SystemFailure(f"the tags of {self.repository} cannot be read") from None
            link = headers.get("Link", "")
            path = link[link.find("<") + 1 : link.find(">")] if 'rel="next"' in link else ""
        return found

    async def document(self, digest: str) -> bytes:
        """A small blob, verified. Raises as `request`, or SystemFailure."""
        _, content = await self._patiently(f"/v2/{self.repository}/blobs/{digest}")
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

    # ── search ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def search(self, term: str, limit: int) -> "list[Any]":
        """What the index of this registry knows by a word, as it says it (Docker registry v1: GET /v1/search).

        A name goes along from the start: indexes answer everybody, and do not ask who it is. Raises as `request`, or
        SystemFailure.
        """
        from urllib.parse import urlencode

        self.greeting, self.scopes = "/v1/_ping", {"registry:catalog:search"}
        if self.credentials.username and not self.credentials.identity_token:
            self.authorization = self.credentials.basic()
        _, content = await self._patiently("/v1/search?" + urlencode({"q": term, "n": limit}))
        try:
            found = jsontext.loads(content).get("results") or []
        except (ValueError, AttributeError):
            found = None
        if not isinstance(found, list):
            raise SystemFailure("error decoding registry search results")
        return found

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
        return None if response.status == 201 else response.headers.get("Location", "")

    async def upload(self, digest: str, pieces: "Pieces", size: int, location: str = "") -> None:
        """Upload a blob: in one request, or in several when the registry (or a proxy before it) takes none so large.

        `pieces(offset, length)` gives a part of its content, anew each time. Raises as `request`; an Interrupted one
        says in `location` where `resume` may go on.
        """
        location = location or await self._begin()
        try:
            await self._finish(digest, pieces, 0, size, self._absolute(location))
        except RegistryError as error:
            if error.status not in _TOO_LARGE:
                raise
            await self.resume(digest, pieces, size, location)
        except Interrupted as error:
            error.location = location
            raise

    async def resume(self, digest: str, pieces: "Pieces", size: int, location: str) -> None:
        """Go on with an upload where the registry says that it stands, part by part.

        Source: distribution-spec spec.md, "Pushing a blob in chunks". An upload that it knows no more begins anew.
        Raises as `upload`.
        """
        part = CHUNK
        try:
            response = await self.request("GET", location, accepted=(204, 202))
            response.release()
            location, offset = (
                response.headers.get("Location") or location,
                _received(response.headers.get("Range", "")),
            )
            least = response.headers.get("OCI-Chunk-Min-Length", "")
            part = max(part, int(least) if least.isdigit() else 0)
        except RegistryError:
            location, offset = await self._begin(), 0
        if offset > size:
            location, offset = await self._begin(), 0
        try:
            while offset < size:
                length = min(part, size - offset)
                headers = {**_OCTETS, "Content-Length": str(length), "Content-Range": f"{offset}-{offset + length - 1}"}
                response = await self.request(
                    "PATCH", location, headers=headers, data=partial(pieces, offset, length), accepted=(201, 202, 204)
                )
                response.release()
                location, offset = response.headers.get("Location") or location, offset + length
            await self._finish(digest, pieces, size, 0, self._absolute(location))
        except Interrupted as error:
            error.location = location
            raise

    async def _begin(self) -> str:
        """Where a new upload goes."""
        response = await self.request("POST", f"/v2/{self.repository}/blobs/uploads/", accepted=(202,))
        response.release()
        place: str = response.headers.get("Location", "")
        if not place:
            raise SystemFailure(f"the registry {self.host} does not say where to upload to")
        return place

    async def _finish(self, digest: str, pieces: "Pieces", offset: int, length: int, url: str) -> None:
        """The request that ends an upload, with the last (or only) part of the blob."""
        url += ("&" if "?" in url else "?") + f"digest={digest}"
        headers = {**_OCTETS, "Content-Length": str(length)}
        data = partial(pieces, offset, length) if length else None
        response = await self.request("PUT", url, headers=headers, data=data, accepted=(201, 204))
        response.release()

    def _absolute(self, location: str) -> str:
        return location if "://" in location else self.base + location

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


def _received(text: str) -> int:
    """How many bytes of an upload a registry has, by its Range (0-LAST; 0-0 is what it says of nothing)."""
    last = text.removeprefix("bytes=").partition("-")[2]
    return int(last) + 1 if last.isdigit() and int(last) else 0


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


def _first_error(body: bytes) -> str:
    """The first error of a registry's answer, as dockerd tells it; empty when there is none."""
    try:
        first = jsontext.loads(body)["errors"][0]
        return f"{str(first['code']).lower().replace('_', ' ')}: {first.get('message') or ''}"
    except (ValueError, LookupError, TypeError):
        return ""


def _retry_after(value: str) -> float:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3: seconds or a date), at most LONGEST_WAIT; 0 for none."""
    from email.utils import parsedate_to_datetime
    from time import time

    try:
        seconds = float(value) if value.isdigit() else parsedate_to_datetime(value).timestamp() - time()
    except (ValueError, TypeError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT)


_UNKNOWN_AUTHORITY = (18, 19, 20, 21)  # openssl/x509_vfy.h: self-signed, or its issuer is not known
_EXPIRED, _NOT_YET = 10, 9
_WRONG_NAME = (62, 64)


def _said(error: BaseException) -> str:
    """What went wrong with a connection, in the words of Go's net and crypto packages, which users look for."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _certificate_said(error.certificate_error, str(error.host))
    if isinstance(error, aiohttp.ClientConnectorError):
        inner = error.os_error
        if isinstance(inner, socket.gaierror):
            reason = "no such host" if inner.errno in (socket.EAI_NONAME, -5) else (inner.strerror or "").lower()
            return f"dial tcp: lookup {error.host}: {reason}"
        if isinstance(inner, ssl.SSLError):
            if inner.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
                return "http: server gave HTTP response to HTTPS client"
            return f"tls: {(inner.reason or 'handshake failure').lower().replace('_', ' ')}"
        reason = os.strerror(inner.errno).lower() if inner.errno else "connection failed"
        host = f"[{error.host}]" if ":" in error.host else error.host
        return f"dial tcp {host}:{error.port}: connect: {reason}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_said(error, "the registry")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"proxyconnect tcp: {error.status} {error.message}"
    if isinstance(error, aiohttp.TooManyRedirects):
        return "stopped after 10 redirects"
    if isinstance(error, aiohttp.InvalidURL):
        port = str(error.url).partition("://")[2].partition("/")[0].rpartition(":")[2]
        if port.isdigit():
            return f"dial tcp: address {port}: invalid port"
        return "the registry leads to an address that is none"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "unexpected EOF"
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    if isinstance(error, OSError) and error.errno:
        return f"read tcp: {os.strerror(error.errno).lower()}"
    return str(error) or type(error).__name__


def _certificate_said(error: BaseException, host: str) -> str:
    code = getattr(error, "verify_code", 0)
    if code in _UNKNOWN_AUTHORITY:
        reason = "certificate signed by unknown authority"
    elif code in (_EXPIRED, _NOT_YET):
        reason = "certificate has expired or is not yet valid"
    elif code in _WRONG_NAME:
        reason = f"certificate is not valid for {host}"
    else:
        reason = getattr(error, "verify_message", "") or "certificate cannot be verified"
    return f"tls: failed to verify certificate: x509: {reason}"


def pull_refusal(error: RegistryError, reference: "Reference") -> MoorageError:
    """A refusal in the words of dockerd's pull (moby: distribution/errors.go)."""
    if error.code in ("MANIFEST_UNKNOWN", "NOT_FOUND"):
        return NotFound(f"manifest for {reference.familiar} not found: {error.message}")
    if error.code == "NAME_UNKNOWN":
        return NotFound(f"repository {reference.familiar_repository} not found: {error.message}")
    if error.code == "UNAUTHORIZED":
        return Unauthorized(error.message)
    if error.code == "DENIED":
        return NotFound(
            f"pull access denied for {reference.familiar_repository}, repository does not exist or may require "
            f"'docker login': {error.message}"
        )
    return error
