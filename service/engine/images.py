"""Images as they are: found by any name, listed, inspected (API: ImageList, ImageInspect, ImageHistory).

Lean: create and the cold `docker images` import this.
"""

from service import jsontext, timestamps
from service.content import reference
from service.content.reference import Reference, familiar
from service.errors import NotFound
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.engine.engine import Engine
    from service.store.images import ImageRow


class Image:
    """One image. `config` is its whole configuration (OCI image-spec config.md), parsed when first asked for."""

    __slots__ = ("_config", "_engine", "row")

    def __init__(self, engine: "Engine", row: "ImageRow") -> None:
        self._engine, self.row = engine, row
        self._config: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """sha256:…"""
        return self.row.id

    @property
    def size(self) -> int:
        """Bytes of all its layers, unpacked."""
        return self.row.size

    @property
    def config(self) -> "dict[str, Any]":
        """The whole configuration."""
        if self._config is None:
            self._config = jsontext.loads(self.row.config)
        assert self._config is not None
        return self._config

    @property
    def created(self) -> str:
        """RFC 3339, as its configuration has it; empty when it has none."""
        return self.config.get("created") or ""

    @property
    def layers(self) -> "list[str]":
        """Names of its layer directories, lowest first, as `content.rootfs` takes them."""
        return [layer.directory for layer in store.layers_of(self._engine.store, self.id)]

    @property
    def repo_tags(self) -> "list[str]":
        """Its names as people write them: busybox:latest."""
        return [familiar(name) for name in store.tags_of(self._engine.store, self.id)]

    @property
    def repo_digests(self) -> "list[str]":
        """Its names by digest: busybox@sha256:…"""
        return [familiar(name) for name in store.digests_of(self._engine.store, self.id)]


_ALWAYS_SHOWN: "dict[str, Any]" = {  # of an image's config, whether it says them or not
    **dict.fromkeys(("Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "Volumes")),
    **{"User": "", "WorkingDir": ""},
}


def find(engine: "Engine", name: str, platform: str = "") -> Image:
    """The image that a name, an id or the beginning of an id means.

    A name wins over an id that begins so. Raises InvalidParameter for what is no name, NotFound when there is none,
    or none for the platform (os[/architecture[/variant]]).
    """
    image = Image(engine, store.get(engine.store, resolve(engine, name)))
    if platform:
        from service.content import platforms

        wanted = platforms.parse(platform)
        if not platforms.matches(wanted, image.config):
            raise NotFound(
                f"image with reference {name} was found but its platform ({platforms.of(image.config)}) does not "
                f"match the specified platform ({platforms.text(wanted)})"
            )
    return image


def foreign(image: Image) -> "list[str]":
    """What a client is warned of that has asked for no platform, and gets another one than this machine's."""
    from service.content import platforms

    here = platforms.host()
    if not image.config.get("architecture") or platforms.matches(here, image.config):
        return []
    return [
        f"The requested image's platform ({platforms.of(image.config)}) does not match the detected host platform "
        f"({platforms.text(here)}) and no specific platform was requested"
    ]


def resolve(engine: "Engine", name: str) -> str:
    """The id of the image that `find` finds, whatever its platform. Raises as `find`."""
    parsed = reference.parse_any(name)
    if isinstance(parsed, str):
        if store.exists(engine.store, parsed):
            return parsed
        raise NotFound(f"No such image: {parsed}")
    found = store.by_reference(engine.store, parsed.stored) or store.by_prefix(engine.store, name)
    if found is None:
        raise NotFound(f"No such image: {parsed.with_default_tag().familiar}")
    return found


def inspect(engine: "Engine", name: str, platform: str = "") -> "dict[str, Any]":
    """Docker's ImageInspect of one image, as versions before 1.52 show it. Raises as `find`."""
    image = find(engine, name, platform)
    config = image.config
    history = config.get("history") or []
    layers = store.layers_of(engine.store, image.id)
    return {
        "Id": image.id,
        "RepoTags": image.repo_tags,
        "RepoDigests": image.repo_digests,
        "Parent": image.row.parent,
        "Comment": config.get("comment") or (history and history[-1].get("comment")) or "",
        "Created": image.created,
        "DockerVersion": config.get("docker_version") or "",
        "Author": config.get("author") or "",
        "Config": {**_ALWAYS_SHOWN, **(config.get("config") or {})},
        "Architecture": config.get("architecture") or "",
        **({"Variant": config["variant"]} if config.get("variant") else {}),
        "Os": config.get("os") or "linux",
        **({"OsVersion": config["os.version"]} if config.get("os.version") else {}),
        "Size": image.size,
        "GraphDriver": {"Data": _graph_data(engine, [layer.directory for layer in layers]), "Name": "overlay2"},
        "RootFS": {"Type": "layers", **({"Layers": [layer.diff_id for layer in layers]} if layers else {})},
        "Metadata": {
            "LastTagTime": timestamps.rfc3339(image.row.tagged_ns) if image.row.tagged_ns else timestamps.NEVER
        },
    }


def _graph_data(engine: "Engine", layers: "list[str]") -> "dict[str, str] | None":
    """Inspect's GraphDriver.Data of an image, in the keys of Docker's overlay2 driver."""
    from service.content.rootfs import layer_path

    if not layers:
        return None
    paths = [layer_path(engine.settings, layer) for layer in reversed(layers)]
    home = paths[0].removesuffix("/diff")
    return {
        **({"LowerDir": ":".join(paths[1:])} if paths[1:] else {}),
        "MergedDir": home + "/merged",
        "UpperDir": paths[0],
        "WorkDir": home + "/work",
    }


def listing(
    engine: "Engine", filters: "dict[str, list[str]] | None" = None, *, all: bool = False, shared_size: bool = False
) -> "list[dict[str, Any]]":
    """Docker's ImageSummary of every image that passes the filters, the youngest first, in the newest shape.

    Raises InvalidParameter for a filter that does not exist or a value that it does not take, NotFound for `before`
    and `since` an image that is not here.
    """
    from service.engine.image_filters import Selection

    selection = Selection(engine, filters or {}, all=all)
    names = store.all_names(engine.store)
    uses = store.container_counts(engine.store)
    summaries = []
    for row in store.newest_first(engine.store):
        tags, digests = names.get(row.id, ([], []))
        config = jsontext.loads(row.config)
        labels = (config.get("config") or {}).get("Labels")
        kept = selection.names(row, tags, digests, labels)
        if kept is None:
            continue
        summaries.append(
            {
                "Containers": uses.get(row.id, 0),
                "Created": row.created_ns // 1_000_000_000,
                "Id": row.id,
                "Labels": labels,
                "ParentId": row.parent,
                "RepoDigests": [familiar(name) for name in kept[1]],
                "RepoTags": [familiar(name) for name in kept[0]],
                "SharedSize": -1,
                "Size": row.size,
            }
        )
    if shared_size:
        _weigh_shared(engine, summaries)
    return summaries


def _weigh_shared(engine: "Engine", summaries: "list[dict[str, Any]]") -> None:
    """Fill in SharedSize: the bytes of the layers that another image has, too."""
    uses = store.layer_uses(engine.store)
    users: dict[str, int] = {}
    for _, chain_id, _ in uses:
        users[chain_id] = users.get(chain_id, 0) + 1
    shared: dict[str, int] = {}
    for image_id, chain_id, size in uses:
        if users[chain_id] > 1:
            shared[image_id] = shared.get(image_id, 0) + size
    for summary in summaries:
        summary["SharedSize"] = shared.get(summary["Id"], 0)


def history(engine: "Engine", name: str, platform: str = "") -> "list[dict[str, Any]]":
    """Docker's history of one image, the newest step first. Raises as `find`."""
    image = find(engine, name, platform)
    sizes = [layer.size for layer in store.layers_of(engine.store, image.id)]
    steps: list[dict[str, Any]] = []
    used = 0
    for step in image.config.get("history") or ():
        size = 0
        if not step.get("empty_layer"):
            size = sizes[used] if used < len(sizes) else 0
            used += 1
        created = step.get("created")
        steps.append(
            {
                "Comment": step.get("comment") or "",
                "Created": timestamps.nanoseconds(created) // 1_000_000_000 if created else 0,
                "CreatedBy": step.get("created_by") or "",
                "Id": "<missing>",
                "Size": size,
                "Tags": None,
            }
        )
    steps.reverse()
    current: Image | None = image
    for step in steps:
        if current is None:
            break
        step["Id"] = current.id
        step["Tags"] = current.repo_tags or None
        parent = current.row.parent
        current = Image(engine, store.get(engine.store, parent)) if store.exists(engine.store, parent) else None
    return steps


def with_descendants(engine: "Engine", image: Image) -> "set[str]":
    """The ids of an image and of every image that begins with its layers (so dockerd's `ancestor` filter means it)."""
    chain = [layer.chain_id for layer in store.layers_of(engine.store, image.id)]
    if not chain:
        return {image.id}
    users = {image_id for image_id, chain_id, _ in store.layer_uses(engine.store) if chain_id == chain[-1]}
    return users | {image.id}


def usage(engine: "Engine") -> "list[dict[str, Any]]":
    """Docker's ImageSummary of every image that is not intermediate, as `system df` shows it."""
    return listing(engine, shared_size=True)


def tag(engine: "Engine", name: str, target: Reference) -> None:
    """Let a name mean the image that another name means (API: ImageTag). Raises as `find`, and InvalidParameter.

    Only what is new must outlast a power cut: a build gives its image the name that it has, time and again.
    """
    from service import bell
    from service.engine import image_events
    from service.errors import InvalidParameter

    if target.familiar_repository == "sha256":
        raise InvalidParameter("refusing to create an ambiguous tag using digest algorithm as name")
    while True:
        is_known = store.by_reference(engine.store, target.stored) == resolve(engine, name)
        with engine.store.write(durable=not is_known):
            image = find(engine, name)
            if is_known and store.by_reference(engine.store, target.stored) != image.id:
                continue  # somebody has moved the name meanwhile
            store.tag(engine.store, target.stored, image.id, timestamps.now_ns())
            image_events.record(engine.store, "tag", image.row, target.familiar)
        break
    bell.ring(engine.settings.bell)


def parse_repo_tag(repo: str, tag: str) -> "Reference | None":
    """A repository and a tag (or digest) from two parameters; None when both are empty (moby: RepoTagReference).

    Raises InvalidParameter.
    """
    from service.errors import InvalidParameter

    if not repo:
        return None
    parsed = reference.parse(repo)
    if parsed.digest:
        raise InvalidParameter("cannot import digest reference")
    if tag:
        if not reference.is_tag(tag):
            raise InvalidParameter("invalid tag format")
        return Reference(parsed.domain, parsed.path, tag)
    return parsed.with_default_tag()
