"""The processes of a container."""

from compat_api.declaration import Text, get
from compat_api.reply import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.engine.engine import Engine


@get("/containers/{id}/top")
async def container_top(engine: "Engine", id: str, ps_args: str = Text()) -> "Reply":
    """List processes running inside a container (ContainerTop)."""
    from service.engine.top import top

    titles, rows = await engine.thread(top, engine, id, ps_args)
    return Reply.json({"Processes": rows or None, "Titles": titles}, "ContainerTop")
