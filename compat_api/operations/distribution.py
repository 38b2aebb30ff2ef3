"""/distribution."""

from compat_api.declaration import Header, get
from compat_api.reply import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.engine.engine import Engine


@get("/distribution/{name*}/json")
async def distribution_inspect(engine: "Engine", name: str, auth: str = Header(name="x-registry-auth")) -> Reply:
    """What a registry says of an image (API: DistributionInspect)."""
    from service.content import reference
    from service.content.registry_credentials import Credentials
    from service.engine import registry_login

    return Reply.json(await registry_login.distribution(engine, reference.parse(name), Credentials.decode(auth)))
