"""What a registry, or the token service that it names, is told about who asks."""

import base64

from service import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol
else:
    Protocol = object


class Source(Protocol):
    """Who is asked for a login only when a registry wants one: a build's client. Calls raise SystemFailure."""

    async def token(self, realm: str, service: str, scopes: "Sequence[str]") -> "str | None":
        """A token for these scopes, which they fetch from the token service at `realm`; None: they do not."""
        ...

    async def login(self) -> "Credentials":
        """What they have for the registry."""
        ...


class Credentials:
    """What a client gave for one registry (API: AuthConfig), or whom to ask for it (`source`)."""

    __slots__ = ("identity_token", "password", "registry_token", "source", "username")

    def __init__(
        self,
        username: str = "",
        password: str = "",
        identity_token: str = "",
        registry_token: str = "",
        *,
        source: "Source | None" = None,
    ) -> None:
        self.username, self.password = username, password
        self.identity_token, self.registry_token = identity_token, registry_token
        self.source = source

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

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to answer a registry with."""
        return not (self.username or self.identity_token or self.registry_token)

    def basic(self) -> str:
        """The Authorization header of basic authentication."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
