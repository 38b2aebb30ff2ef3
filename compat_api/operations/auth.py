"""/auth."""

from compat_api.declaration import post
from compat_api.reply import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from compat_api.schemas.images import AuthConfig
    from service.engine.engine import Engine


@post("/auth", body="compat_api.schemas.images:AuthConfig")
async def system_auth(engine: "Engine", *, body: "AuthConfig") -> Reply:
    """Check credentials against a registry (API: SystemAuth)."""
    from service.engine import registry_login

    return Reply.json(await registry_login.login(engine, body.serveraddress or "", body.model_dump(exclude_none=True)))
