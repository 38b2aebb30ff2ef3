"""/build: what there is without a builder: its cache, which is empty."""

from compat_api.declaration import ApiVersion, Filters, Flag, Int, Text, post
from compat_api.reply import Reply
from compat_api.versions import has
from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.engine.engine import Engine


@post("/build/prune")
async def build_prune(
    engine: "Engine",
    all: bool = Flag(),
    keep_storage: str = Text(name="keep-storage"),
    reserved_space: str = Text(name="reserved-space"),
    max_used_space: str = Text(name="max-used-space"),
    min_free_space: str = Text(name="min-free-space"),
    filters: "dict[str, list[str]]" = Filters(),
    version: tuple[int, int] = ApiVersion(),
) -> Reply:
    """Remove what builds left behind (API: BuildPrune): `docker system prune` asks for it too."""
    from service.engine import build_cache

    del all
    if has("build prune space", version):
        _bytes("reserved-space", reserved_space)
        _bytes("max-used-space", max_used_space)
        _bytes("min-free-space", min_free_space)
    _bytes("keep-storage", keep_storage)
    gone, freed = await engine.thread(build_cache.prune, engine, filters)
    return Reply.json({"CachesDeleted": gone or None, "SpaceReclaimed": freed})


def _bytes(name: str, text: str) -> int:
    try:
        return int(Int(name=name).read([text])) if text else 0
    except InvalidParameter as error:
        raise InvalidParameter(f"{name} is in bytes and expects an integer, got {text}: {error.message}") from None
