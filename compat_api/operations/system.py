"""/info, /version, /system/df."""

from compat_api.declaration import ApiVersion, Texts, get
from compat_api.reply import Reply
from compat_api.versions import has

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.engine.engine import Engine


@get("/version")
def system_version(engine: "Engine") -> Reply:
    """Versions (API: SystemVersion)."""
    from service.engine import system

    return Reply.json(system.describe_version(engine), shape="Version")


@get("/info")
async def system_info(engine: "Engine", version: tuple[int, int] = ApiVersion()) -> Reply:
    """About this host and engine (API: SystemInfo)."""
    from service.engine import system

    found = await engine.thread(system.info, engine)
    if not has("info without the bridge's filter", version):
        found |= system.bridge_filter()
    return Reply.json(found, shape="Info")


@get("/system/df")
async def system_data_usage(
    engine: "Engine", type: "list[str]" = Texts(), version: tuple[int, int] = ApiVersion()
) -> Reply:
    """What takes space (API: SystemDataUsage). Below 1.42 everything, whatever `type` says."""
    from service.engine import system
    from service.errors import InvalidParameter

    if not has("data usage by type", version):
        type = []
    for kind in type:
        if kind not in ("container", "image", "volume", "build-cache"):
            raise InvalidParameter(f"unknown object type: {kind}")
    return Reply.json(await system.shared_data_usage(engine, frozenset(type)), shape="SystemDataUsage")
