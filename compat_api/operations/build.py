"""/build: by the classic builder, or (`version=2`) by BuildKit's; and what builds keep."""

from compat_api.declaration import STREAM, ApiVersion, Filters, Flag, Header, Int, Text, Texts, post
from compat_api.reply import Reply, Stream
from compat_api.versions import has
from service import daemon_json
from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import Any

    from service.content.reference import Reference
    from service.engine.engine import Engine


@post("/build", body=STREAM)
async def image_build(
    engine: "Engine",
    dockerfile: str = Text(),
    t: "list[str]" = Texts(),
    extrahosts: "list[str]" = Texts(),
    remote: str = Text(),
    q: bool = Flag(),
    nocache: bool = Flag(),
    cachefrom: str = Text(),
    pull: bool = Flag(),
    rm: str = Text(),
    forcerm: bool = Flag(),
    memory: str = Text(),
    memswap: str = Text(),
    cpushares: str = Text(),
    cpusetcpus: str = Text(),
    cpusetmems: str = Text(),
    cpuperiod: str = Text(),
    cpuquota: str = Text(),
    cgroupparent: str = Text(),
    buildargs: str = Text(),
    shmsize: str = Text(),
    squash: bool = Flag(),
    labels: str = Text(),
    networkmode: str = Text(),
    platform: str = Text(),
    target: str = Text(),
    outputs: str = Text(),
    ulimits: str = Text(),
    isolation: str = Text(),
    securityopt: "list[str]" = Texts(),
    version: str = Text(),
    buildid: str = Text(),
    session: str = Text(),
    registries: str = Header(name="x-registry-config"),
    *,
    body: "AsyncIterator[bytes]",
) -> Stream:
    """Build an image from a Dockerfile, as the classic builder does, or BuildKit with `version=2` (API: ImageBuild)."""
    from service.engine import build, messages
    from service.engine.build_options import Options

    if securityopt:
        raise InvalidParameter("security options are not supported on linux")
    if isolation not in ("", "default"):
        raise InvalidParameter(f'unsupported isolation: "{isolation}"')
    if version not in ("", "1", "2"):
        raise InvalidParameter(f'invalid version "{version}"')
    if squash and not daemon_json.read(engine.settings.daemon_json).experimental:
        raise InvalidParameter("squash is only supported with experimental mode")
    if squash and version == "2":
        raise InvalidParameter(
            "squash is not supported with BuildKit: copy the files into a stage FROM scratch instead"
        )
    if outputs and version != "2":
        raise InvalidParameter("custom outputs are only supported with BuildKit")
    if version == "2":
        from compat_api.buildkit import rest, server

        builds = server.services(engine).builds
        if buildid.startswith(rest.UPLOAD):
            await builds.uploads.give(buildid.removeprefix(rest.UPLOAD), body)
            return Stream(_nothing())
        names = [str(tag) for tag in _tags(t)]
        settings = {
            "filename": dockerfile,
            "target": target,
            "platform": platform,
            "add-hosts": ",".join(host.replace(":", "=", 1) for host in extrahosts),
            "force-network-mode": "" if networkmode == "default" else networkmode,
            "image-resolve-mode": "pull" if pull else "local",
            "cgroup-parent": cgroupparent,
            "shm-size": shmsize if _number(shmsize) else "",
            "ulimit": ",".join(f"{one['Name']}={one['Soft']}:{one['Hard']}" for one in _ulimits(ulimits) or ()),
            "cache-from": ",".join(str(name) for name in _read(cachefrom, list, "cache-from")),
            **{f"label:{name}": text for name, text in _texts(labels, "labels").items()},
        }
        attributes = {name: text for name, text in settings.items() if text or name.startswith("label:")}
        given = _texts(buildargs, "build args", empty=True)
        attributes |= {f"build-arg:{name}": text for name, text in given.items() if text is not None}
        if nocache:
            attributes["no-cache"] = ""
        request = rest.Request(buildid, session, remote, attributes, _outputs(outputs, names))
        return Stream(rest.build(builds, request, body))
    options = Options()
    options.dockerfile, options.remote, options.target = dockerfile or "Dockerfile", remote, target
    options.tags, options.platform = _tags(t), platform
    options.quiet, options.no_cache, options.pull = q, nocache, pull
    options.force_remove, options.squash = forcerm, squash
    options.remove = forcerm or Flag(default=True).read([rm or "1"])
    options.arguments = _texts(buildargs, "build args", empty=True)
    options.labels = _texts(labels, "labels")
    options.cache_from = _read(cachefrom, list, "cache-from")
    options.logins = _logins(registries)
    if platform:
        from service.content import platforms

        platforms.parse(platform)
    numbers = {
        "Memory": memory,
        "MemorySwap": memswap,
        "CpuShares": cpushares,
        "CpuPeriod": cpuperiod,
        "CpuQuota": cpuquota,
        "ShmSize": shmsize,
    }
    texts = {"CpusetCpus": cpusetcpus, "CpusetMems": cpusetmems, "CgroupParent": cgroupparent}
    options.host = {
        **{key: number for key, text in numbers.items() if (number := _number(text))},
        **{key: text for key, text in texts.items() if text},
        "NetworkMode": networkmode or "default",
        "LogConfig": {"Type": "none", "Config": {}},
        "ExtraHosts": list(extrahosts) or None,
        "Ulimits": _ulimits(ulimits),
    }
    return Stream(await messages.begun(build.build(engine, options, body)))


async def _nothing() -> "AsyncIterator[bytes]":
    nothing: list[bytes] = []
    for piece in nothing:
        yield piece


def _outputs(text: str, names: "Sequence[str]") -> "list[tuple[str, dict[str, str]]]":
    """What is to become of the result (`outputs`: JSON); an image here, when nothing is said."""
    given = _read(text, list, "outputs")
    if len(given) > 1:
        raise InvalidParameter("multiple outputs not supported")
    found = []
    for output in given:
        attributes = output.get("Attrs") or {} if isinstance(output, dict) else None
        if not isinstance(attributes, dict) or not isinstance(output.get("Type"), str):
            raise InvalidParameter("error reading outputs: json: cannot unmarshal into Go value")
        kind = {"image": "moby", "docker": "moby", "cacheonly": ""}.get(output["Type"], output["Type"])
        if kind:
            found.append((kind, {name: str(value) for name, value in attributes.items()}))
    if not given:
        found.append(("moby", {}))
    for kind, attributes in found:
        if kind == "moby":
            attributes.setdefault("name", ",".join(names))
    return found


def _number(text: str) -> int:
    try:
        return int(Int(name="number").read([text]))
    except InvalidParameter:
        return 0  # as dockerd reads these


def _tags(names: "Sequence[str]") -> "list[Reference]":
    from service.content import reference

    found: dict[str, Reference] = {}
    for name in names:
        if name:
            parsed = reference.parse(name)
            if parsed.digest:
                raise InvalidParameter("build tag cannot contain a digest")
            tagged = parsed.with_default_tag()
            found.setdefault(tagged.familiar, tagged)
    return list(found.values())


def _read(text: str, kind: type, what: str) -> "Any":
    """What a parameter in JSON says; absent and null are empty. Raises InvalidParameter."""
    from service import jsontext

    if not text:
        return kind()
    try:
        given = jsontext.loads(text)
    except ValueError as error:
        raise InvalidParameter(f"error reading {what}: {error}") from None
    if given is None:
        return kind()
    if not isinstance(given, kind):
        raise InvalidParameter(f"error reading {what}: json: cannot unmarshal into Go value")
    return given


def _texts(text: str, what: str, *, empty: bool = False) -> "dict[str, Any]":
    """{name: text}; `empty`: null is a text, too."""
    given: dict[str, Any] = _read(text, dict, what)
    for value in given.values():
        if not isinstance(value, str) and not (empty and value is None):
            raise InvalidParameter(f"error reading {what}: json: cannot unmarshal into Go value of type string")
    return given


def _ulimits(text: str) -> "list[dict[str, Any]] | None":
    given = _read(text, list, "ulimit settings")
    for limit in given:
        if not isinstance(limit, dict) or not isinstance(limit.get("Name"), str):
            raise InvalidParameter("error reading ulimit settings: json: cannot unmarshal into Go value of type Ulimit")
        if not all(isinstance(limit.get(key, 0), int) for key in ("Soft", "Hard")):
            raise InvalidParameter("error reading ulimit settings: json: cannot unmarshal into Go value of type int64")
    return [
        {"Name": limit["Name"], "Soft": limit.get("Soft", 0), "Hard": limit.get("Hard", 0)} for limit in given
    ] or None


def _logins(header: str) -> "dict[str, dict[str, Any]]":
    """X-Registry-Config: JSON in base64url; what cannot be read counts as none, as in dockerd."""
    import base64

    from service import jsontext

    try:
        given = jsontext.loads(base64.urlsafe_b64decode(header.replace("+", "-").replace("/", "_") + "=="))
    except ValueError:
        return {}
    return {name: login for name, login in given.items() if isinstance(login, dict)} if isinstance(given, dict) else {}


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

    keep = _bytes("keep-storage", keep_storage)
    if has("build prune space", version):
        most = _bytes("max-used-space", max_used_space)
        _bytes("min-free-space", min_free_space)
        keep = _bytes("reserved-space", reserved_space) or most or keep
    gone, freed = await engine.thread(lambda: build_cache.prune(engine, filters, all=all, keep_bytes=keep))
    return Reply.json({"CachesDeleted": gone or None, "SpaceReclaimed": freed})


def _bytes(name: str, text: str) -> int:
    try:
        return int(Int(name=name).read([text])) if text else 0
    except InvalidParameter as error:
        raise InvalidParameter(f"{name} is in bytes and expects an integer, got {text}: {error.message}") from None


@post("/build/cancel")
async def build_cancel(engine: "Engine", id: str = Text()) -> Reply:
    """End a build of BuildKit's by its id (API: BuildCancel); the classic builder's end with their client."""
    if not id:
        raise InvalidParameter("build ID not provided")
    if engine.building is not None:
        engine.building.builds.cancel(id)
    return Reply(content_type=b"application/json")
