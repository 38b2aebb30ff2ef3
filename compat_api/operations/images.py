"""/images."""

from compat_api.declaration import STREAM, ApiVersion, Filters, Flag, Header, Int, Text, Texts, delete, get, post
from compat_api.reply import Reply, Stream
from compat_api.versions import has

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from typing import Any

    from compat_api.dispatch import Body
    from service.engine.engine import Engine


@get("/images/json")
def image_list(
    engine: "Engine",
    all: bool = Flag(),
    filter: str = Text(),
    filters: "dict[str, list[str]]" = Filters(),
    shared_size: bool = Flag(name="shared-size"),
    manifests: bool = Flag(),
    identity: bool = Flag(),
    version: tuple[int, int] = ApiVersion(),
) -> Reply:
    """List images (API: ImageList). As with dockerd's classic store there are no manifests and no origin to tell of."""
    from service.engine import images

    if identity and not manifests and has("image list identity", version):
        from service.errors import InvalidParameter

        raise InvalidParameter("conflicting options: identity requires manifests=1")
    if filter and not has("images filter by reference only", version) and "reference" not in filters:
        filters = {**filters, "reference": [filter]}
    found = images.listing(engine, filters, all=all, shared_size=shared_size and has("images shared-size", version))
    return Reply.json(found, "ImageSummary")


@post("/images/load", body=STREAM)
async def image_load(
    engine: "Engine",
    quiet: bool = Flag(default=True),
    platform: "list[str]" = Texts(),
    version: tuple[int, int] = ApiVersion(),
    *,
    body: "AsyncIterator[bytes]",
) -> Stream:
    """Load images from an archive (API: ImageLoad). Every error is told in the stream, as dockerd does."""
    from service.content import platforms
    from service.engine import load, messages

    source = messages.Body(body)
    wanted = [platforms.from_json(text) for text in _only(platform, version)]
    found = messages.from_thread(
        engine, lambda report: load.load(engine, source.read, report, quiet=quiet, wanted=wanted)
    )
    return Stream(messages.lines(found))


@post("/images/create", body=STREAM)
async def image_create(
    engine: "Engine",
    fromImage: str = Text(),  # noqa: N803 - the API's name
    fromSrc: str = Text(),  # noqa: N803 - the API's name
    repo: str = Text(),
    tag: str = Text(),
    message: str = Text(),
    changes: "list[str]" = Texts(),
    platform: str = Text(),
    auth: str = Header(name="x-registry-auth"),
    *,
    body: "Body",
) -> Stream:
    """Pull or import an image (API: ImageCreate). Errors before the first message are statuses."""
    from service.engine import messages

    if platform:
        from service.content import platforms

        platforms.parse(platform)
    if fromImage:
        return Stream(await body.unless_left(messages.begun(_pulled(engine, fromImage, tag, platform, auth))))
    from service.engine import images, import_

    target = images.parse_repo_tag(repo, tag)
    source = messages.Body(aiter(body) if fromSrc == "-" else import_.fetched(engine, fromSrc))
    comment = message or f"Imported from {fromSrc}"

    def work(report: "Callable[[dict[str, Any]], None]") -> None:
        image_id = import_.import_(engine, source.read, target, message=comment, changes=changes, platform=platform)
        report({"status": image_id})

    begun = messages.begun(messages.from_thread(engine, work))
    return Stream(await (begun if fromSrc == "-" else body.unless_left(begun)))


def _pulled(engine: "Engine", name: str, tag: str, platform: str, auth: str) -> "AsyncIterator[dict[str, Any]]":
    from service.content import reference
    from service.content.registry_credentials import Credentials
    from service.engine import pull
    from service.errors import Forbidden, InvalidParameter

    named = reference.parse(name.removesuffix(":"))
    if tag:
        if reference.is_digest(tag):
            named = reference.Reference(named.domain, named.path, "", tag)
        elif reference.is_tag(tag):
            named = reference.Reference(named.domain, named.path, tag)
        else:
            raise InvalidParameter("invalid tag format")
    if named.familiar_repository == "scratch":
        raise Forbidden("'scratch' is a reserved name")
    credentials = Credentials.decode(auth)
    if named.is_name_only:
        return pull.pull_all(engine, named, credentials, platform)
    return pull.pull(engine, named, credentials, platform)


@get("/images/get")
async def image_get_all(
    engine: "Engine",
    names: "list[str]" = Texts(),
    platform: "list[str]" = Texts(),
    version: tuple[int, int] = ApiVersion(),
) -> Stream:
    """Save images into one archive (API: ImageGetAll)."""
    return await _saved(engine, names, _only(platform, version))


@get("/images/{name*}/get")
async def image_get(
    engine: "Engine", name: str, platform: "list[str]" = Texts(), version: tuple[int, int] = ApiVersion()
) -> Stream:
    """Save one image (API: ImageGet)."""
    return await _saved(engine, [name], _only(platform, version))


def _only(given: "Sequence[str]", version: tuple[int, int]) -> "list[str]":
    """The platforms of a load or save, in JSON; none where none is given, or the version knows none.

    Raises InvalidParameter.
    """
    from service.errors import InvalidParameter

    if not has("image load and save platform", version):
        return []
    if len(given) > 1 and not has("several platforms in a load and a save", version):
        raise InvalidParameter(
            "multiple platform parameters are not supported in this API version; use API version 1.52 or later"
        )
    return [text for text in given if text]


async def _saved(engine: "Engine", names: "Sequence[str]", given: "list[str]") -> Stream:
    from service.content import platforms
    from service.engine import messages, save

    wanted = [platforms.text(platforms.from_json(text)) for text in given]
    pieces = await messages.first_awaited(save.stream(engine, names, wanted))
    return Stream(pieces, content_type=b"application/x-tar")


@get("/images/search")
async def image_search(
    engine: "Engine",
    term: str = Text(),
    limit: str = Text(),
    filters: "dict[str, list[str]]" = Filters(),
    auth: str = Header(name="x-registry-auth"),
) -> Reply:
    """Search Docker Hub, or the registry that the term names (API: ImageSearch)."""
    from service.content.registry_credentials import Credentials
    from service.engine import search
    from service.errors import InvalidParameter

    try:
        most = Int(name="limit").read([limit])
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid limit specified: {error.message}") from None
    return Reply.json(await search.search(engine, term, most, filters, Credentials.decode(auth)))


@get("/images/{name*}/json")
def image_inspect(
    engine: "Engine",
    name: str,
    manifests: bool = Flag(),
    platform: str = Text(),
    version: tuple[int, int] = ApiVersion(),
) -> Reply:
    """Inspect an image (API: ImageInspect). As with dockerd's classic store there are no other manifests to tell of."""
    from service.content import platforms
    from service.engine import images
    from service.errors import InvalidParameter

    if manifests and platform and has("image inspect platform", version):
        raise InvalidParameter("conflicting options: manifests and platform options cannot both be set")
    wanted = (
        platforms.text(platforms.from_json(platform)) if platform and has("image inspect platform", version) else ""
    )
    return Reply.json(images.inspect(engine, name, wanted), "ImageInspect")


@get("/images/{name*}/history")
def image_history(
    engine: "Engine", name: str, platform: str = Text(), version: tuple[int, int] = ApiVersion()
) -> Reply:
    """The steps that made an image (API: ImageHistory)."""
    from service.content import platforms
    from service.engine import images

    wanted = (
        platforms.text(platforms.from_json(platform)) if platform and has("image history platform", version) else ""
    )
    return Reply.json(images.history(engine, name, wanted))


@get("/images/{name*}/attestations")
def image_attestations(
    engine: "Engine",
    name: str,
    platform: "list[str]" = Texts(),
    type: "list[str]" = Texts(),
    statement: bool = Flag(),
    version: tuple[int, int] = ApiVersion(),
) -> Reply:
    """What was attested of an image (API: ImageAttestations). As dockerd's classic store, ours keeps none of it."""
    from service.content import platforms
    from service.engine import images
    from service.errors import InvalidParameter, NotFound, NotImplemented_

    del type, statement  # they choose among what is not there
    if not has("image attestations", version):
        raise NotFound("page not found")
    if len(platform) > 1:
        raise InvalidParameter("only one platform value is currently supported")
    images.find(engine, name, "".join(platforms.text(platforms.from_json(text)) for text in platform if text))
    raise NotImplemented_("the legacy image store does not support attestations")


@post("/images/{name*}/push")
async def image_push(
    engine: "Engine",
    name: str,
    tag: str = Text(),
    platform: str = Text(),
    auth: str = Header(name="x-registry-auth"),
    version: tuple[int, int] = ApiVersion(),
) -> Stream:
    """Push an image (API: ImagePush). Without a tag, all tags of the repository."""
    from service.content import reference
    from service.content.registry_credentials import Credentials
    from service.engine import images, messages, push
    from service.errors import InvalidParameter

    named = images.parse_repo_tag(name, tag) if tag else reference.parse(name)
    if named is None:
        raise InvalidParameter("invalid reference format")
    if platform and has("image push platform", version):
        from service.content import platforms

        images.find(engine, named.familiar, platforms.text(platforms.from_json(platform)))
    return Stream(await messages.begun(push.push(engine, named, Credentials.decode(auth))))


@post("/images/{name*}/tag")
async def image_tag(engine: "Engine", name: str, repo: str = Text(), tag: str = Text()) -> Reply:
    """Give an image another name (API: ImageTag)."""
    from service.engine import images
    from service.errors import InvalidParameter

    target = images.parse_repo_tag(repo, tag)
    if target is None:
        raise InvalidParameter("invalid reference format")
    await engine.thread(images.tag, engine, name, target)
    return Reply.empty(201)


@delete("/images/{name*}")
async def image_delete(
    engine: "Engine",
    name: str,
    force: bool = Flag(),
    noprune: bool = Flag(),
    platforms: "list[str]" = Texts(),
    version: tuple[int, int] = ApiVersion(),
) -> Reply:
    """Untag or remove an image (API: ImageDelete). One platform of it is here: that must be the one asked for."""
    from service.engine import image_remove

    if platforms and has("image delete platforms", version):
        from service.content import platforms as known
        from service.engine import images
        from service.errors import InvalidParameter

        wanted = [known.text(known.from_json(text)) for text in platforms]
        if len(wanted) > 1:
            raise InvalidParameter("multiple platforms are not supported")
        images.find(engine, name, wanted[0])
    return Reply.json(await engine.thread(lambda: image_remove.remove(engine, name, force=force, prune=not noprune)))


@post("/images/prune")
async def image_prune(engine: "Engine", filters: "dict[str, list[str]]" = Filters()) -> Reply:
    """Remove images that nothing needs (API: ImagePrune)."""
    from service.engine import image_remove, prune

    removed, freed = await engine.thread(prune.alone, engine, "image", image_remove.prune, engine, filters)
    return Reply.json({"ImagesDeleted": removed or None, "SpaceReclaimed": freed})
