"""Bodies of /auth."""

from pydantic import BaseModel


class AuthConfig(BaseModel):
    """API: AuthConfig."""

    username: str | None = None
    password: str | None = None
    auth: str | None = None
    email: str | None = None
    serveraddress: str | None = None
    identitytoken: str | None = None
    registrytoken: str | None = None
