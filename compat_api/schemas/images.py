"""Bodies of /auth."""

from compat_api.schemas.folding import FoldedBody


class AuthConfig(FoldedBody):
    """API: AuthConfig."""

    username: str | None = None
    password: str | None = None
    auth: str | None = None
    email: str | None = None
    serveraddress: str | None = None
    identitytoken: str | None = None
    registrytoken: str | None = None
