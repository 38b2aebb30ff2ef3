"""/volumes."""

from compat_api.declaration import ApiVersion, Filters, Flag, check_boolean, delete, get, post, put
from compat_api.reply import Later, Reply
from compat_api.versions import has

TYPE_CHECKING = False
if TYPE_CHECKING:
    from compat_api.schemas.volumes import VolumeCreateRequest
    from service.engine.engine import Engine


@get("/volumes")
def volume_list(engine: "Engine", filters: "dict[str, list[str]]" = Filters()) -> "Reply | Later":
    """List volumes (API: VolumeList)."""
    from service.engine import volumes

    found = volumes.matching(engine.store, filters)

    def answer() -> Reply:
        shown, warnings = volumes.described(engine.settings, found)
        return Reply.json({"Volumes": shown, "Warnings": warnings or None})

    return answer() if all(volumes.is_local(volume["Driver"]) for volume in found) else Later(answer)


@post("/volumes/create", body="compat_api.schemas.volumes:VolumeCreateRequest")
async def volume_create(engine: "Engine", *, body: "VolumeCreateRequest") -> Reply:
    """Create a volume (API: VolumeCreate)."""
    from service.engine import volumes

    made = await engine.thread(
        volumes.create, engine.settings, engine.store, body.Name or "", body.Driver or "", body.DriverOpts, body.Labels
    )
    return Reply.json(await engine.thread(volumes.describe, engine.settings, made), status=201)


@get("/volumes/{name}")
def volume_inspect(engine: "Engine", name: str) -> "Reply | Later":
    """Inspect a volume (API: VolumeInspect)."""
    from service.engine import volumes

    volume = volumes.find(engine.store, name)

    def answer() -> Reply:
        return Reply.json(volumes.describe(engine.settings, volume))

    return answer() if volumes.is_local(volume["Driver"]) else Later(answer)


@put("/volumes/{name}")
async def volume_update(engine: "Engine", name: str) -> Reply:
    """Update a cluster volume (API: VolumeUpdate): there is no swarm here."""
    from service.errors import Unavailable

    del engine, name
    raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")


@delete("/volumes/{name}")
async def volume_delete(engine: "Engine", name: str, force: bool = Flag()) -> Reply:
    """Remove a volume (API: VolumeDelete)."""
    from service.engine import volumes

    await engine.thread(lambda: volumes.remove(engine.settings, engine.store, name, force=force))
    return Reply.empty()


@post("/volumes/prune")
async def volume_prune(
    engine: "Engine", filters: "dict[str, list[str]]" = Filters(), version: tuple[int, int] = ApiVersion()
) -> Reply:
    """Remove unused volumes (API: VolumePrune): from 1.42 only anonymous ones, unless `all` says so."""
    from service.engine import prune, volumes

    for text in filters.get("all", ()):
        check_boolean(text, f"invalid filter 'all': strconv.ParseBool: parsing \"{text}\": invalid syntax")
    named_too = not has("volume prune keeps named ones", version) or any(
        text in ("true", "1") for text in filters.get("all", ())
    )
    gone, freed = await engine.thread(
        prune.alone,
        engine,
        "volume",
        lambda: volumes.prune(engine.settings, engine.store, filters, named_too=named_too),
    )
    return Reply.json({"VolumesDeleted": gone, "SpaceReclaimed": freed})
