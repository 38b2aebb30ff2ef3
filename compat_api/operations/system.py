"""/info, /version, /system/df."""

from compat_api.declaration import ApiVersion, Flag, Header, Texts, get
from compat_api.reply import Reply
from compat_api.versions import has

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.engine.engine import Engine


@get("/version")
def system_version(engine: "Engine", user_agent: str = Header(name="user-agent")) -> Reply:
    """Versions (API: SystemVersion)."""
    from compat_api.negotiation import named_to
    from service.engine import system

    return Reply.json(system.describe_version(engine, named_to(user_agent)), shape="Version")


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
    engine: "Engine",
    type: "list[str]" = Texts(),
    verbose: bool = Flag(),
    version: tuple[int, int] = ApiVersion(),
) -> Reply:
    """What takes space (API: SystemDataUsage). Below 1.42 everything, whatever `type` says.

    From 1.52 on in sums, with every single thing where `verbose` asks for it; without, the older fields are there too.
    """
    from service.engine import system
    from service.errors import InvalidParameter

    if not has("data usage by type", version):
        type = []
    for kind in type:
        if kind not in ("container", "image", "volume", "build-cache"):
            raise InvalidParameter(f"unknown object type: {kind}")
    found = await system.shared_data_usage(engine, frozenset(type))
    if has("data usage in short", version):
        found = {**system.sums(found, items=verbose), **({} if verbose else _asked_for(found))}
    return Reply.json(found, shape="SystemDataUsage")


def _asked_for(usage: "dict[str, Any]") -> "dict[str, Any]":
    """The fields of before 1.52 as from then on: without those of things that were not asked for."""
    return {field: value for field, value in usage.items() if value is not None and (field, value) != ("LayersSize", 0)}
