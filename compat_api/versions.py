"""The one table of differences between API versions: handlers answer all that some version shows, the others have less.

How to add a row: find the shape's name (the one a handler passes to `Reply.json(document, shape=…)`), and add to `ROWS`

    since((1, 48), "ImageManifestDescriptor")          a field that versions below 1.48 do not have
    gone((1, 52), "Config.MacAddress")                 a field that versions from 1.52 on do not have
    unset((1, 52), "Author")                           one that they leave out where it is empty
    until((1, 44), _virtual_size)                      a function that versions below 1.44 need: it edits one object

A request's body has rows as well, under a shape that ends in `Request`: what its version does not know is not read.

What an operation does differently, and which parameters it has, stands in `SINCE`: handlers ask `has(…, version)`.

A path may go down (`HostConfig.Annotations`) and `*` stands for every value of an object or every item of a list. A
list answered under a shape gets the rows for each of its items. Documents are edited in place: a handler gives them
away.
Source: the version history of the Engine API (docs.docker.com/reference/api/engine/version-history).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Version = tuple[int, int]
    Edit = Callable[[dict[str, Any]], None]
    Row = tuple[Version, Version, Edit]  # the edit is for versions from the first one on, and below the second

MULTIPLEXED = b"application/vnd.docker.multiplexed-stream"
RAW = b"application/vnd.docker.raw-stream"
_FIRST, _NEVER = (0, 0), (1 << 16, 0)


SINCE: "dict[str, Version]" = {
    "networks listed without their containers": (1, 28),
    "binary frames on a websocket": (1, 28),
    "streams chosen on a websocket": (1, 42),  # before, all were attached whatever was asked
    "wait answers before the exit": (1, 30),  # its header, that is; conditions are known from then on as well
    "automatic removal by the engine": (1, 25),  # before, the client did it
    "private ipc by default": (1, 40),
    "non-recursive binds": (1, 40),
    "private cgroup namespace by default": (1, 41),
    "create platform": (1, 41),
    "bind sources made": (1, 42),  # BindOptions.CreateMountpoint
    "console size at create": (1, 42),
    "mount options fit their type": (1, 42),
    "annotations": (1, 43),
    "health start interval": (1, 44),
    "mac address per endpoint": (1, 44),
    "recursive read-only": (1, 44),
    "several endpoints at create": (1, 44),
    "volume subpaths": (1, 45),
    "gateway priority": (1, 48),
    "image mounts": (1, 48),
    "sysctls of interfaces per endpoint only": (1, 48),
    "warning of an unused volume driver": (1, 48),
    "stats one-shot": (1, 41),
    "stop signal": (1, 42),  # as a parameter of stop and restart
    "exec console size": (1, 42),
    "images filter by reference only": (1, 41),  # before, `filter` was a parameter of its own
    "data usage by type": (1, 42),
    "images shared-size": (1, 42),
    "volume prune keeps named ones": (1, 42),  # unless `all` says otherwise
    "build prune space": (1, 48),
    "image history platform": (1, 48),
    "image load and save platform": (1, 48),
    "image push platform": (1, 46),
    "image delete platforms": (1, 50),
    "image inspect platform": (1, 49),
    "info without the bridge's filter": (1, 50),
    "several platforms in a load and a save": (1, 52),
    "events as lines": (1, 52),  # where `Accept` asks for nothing; before, they called themselves JSON
    "mac address per endpoint only": (1, 52),
    "warning of empty port bindings": (1, 52),
    "data usage in short": (1, 52),  # `verbose` asks for the rest
    "addresses of a network counted": (1, 52),
    "image list identity": (1, 54),
    "image attestations": (1, 55),
}


def has(what: str, version: "Version") -> bool:
    """Whether `version` has that behaviour or parameter; `what` is a key of `SINCE`."""
    return version >= SINCE[what]


def apply(shape: str, document: "Any", version: "Version") -> "Any":
    """`document`, with all that some version shows, made into what `version` has. Edits it in place and returns it."""
    rows = ROWS.get(shape, ())
    wanted = [edit for first, below, edit in rows if first <= version < below]
    for item in (document if isinstance(document, list) else (document,)) if wanted else ():
        for edit in wanted:
            edit(item)
    return document


def stream_content_type(content_type: bytes, version: "Version") -> bytes:
    """Streams are told apart by their type from 1.42 on; before that all are raw."""
    return RAW if content_type == MULTIPLEXED and version < (1, 42) else content_type


def event_is_known(kind: str, action: str, version: "Version") -> bool:
    """Whether `version` has events of that type and action."""
    return not (kind == "image" and action == "create" and version < (1, 46))


def since(version: "Version", *paths: str) -> "Row":
    """A row: the fields at `paths` are new in `version`."""
    return _FIRST, version, _without(paths)


def gone(version: "Version", *paths: str) -> "Row":
    """A row: the fields at `paths` are no more from `version` on."""
    return version, _NEVER, _without(paths)


def unset(version: "Version", *paths: str) -> "Row":
    """A row: from `version` on the fields at `paths` are left out where they are empty (Go's `omitempty`)."""
    return version, _NEVER, _without(paths, only_empty=True)


def _without(paths: "tuple[str, ...]", *, only_empty: bool = False) -> "Edit":
    def drop(document: "dict[str, Any]") -> None:
        for path in paths:
            *above, name = path.split(".")
            for holder in _holders(document, above) if above else (document,):
                if not (only_empty and holder.get(name)):
                    holder.pop(name, None)

    return drop


def until(version: "Version", edit: "Edit") -> "Row":
    """A row: versions below `version` need `edit`."""
    return _FIRST, version, edit


def inside(path: str, edit: "Edit") -> "Edit":
    """`edit` applied to every object at `path`."""
    keys = path.split(".")

    def edit_each(document: "dict[str, Any]") -> None:
        for holder in _holders(document, keys):
            edit(holder)

    return edit_each


def missing(**fields: "Any") -> "Edit":
    """An edit: fields that older versions always show, added where the newest leaves them out."""

    def add(document: "dict[str, Any]") -> None:
        for name, value in fields.items():
            document.setdefault(name, value)

    return add


def _holders(document: "Any", keys: list[str]) -> "list[dict[str, Any]]":
    found = [document]
    for key in keys:
        if key == "*":
            found = [item for holder in found for item in (holder.values() if isinstance(holder, dict) else holder)]
        else:
            found = [holder[key] for holder in found if isinstance(holder, dict) and holder.get(key) is not None]
    return [holder for holder in found if isinstance(holder, dict)]


def _virtual_size(image: "dict[str, Any]") -> None:
    image["VirtualSize"] = image.get("Size", 0)


def _none_names(image: "dict[str, Any]") -> None:
    """Below 1.43 an image without names has such ones, and what is empty is null."""
    if not image.get("RepoTags") and not image.get("RepoDigests"):
        image["RepoTags"], image["RepoDigests"] = ["<none>:<none>"], ["<none>@<none>"]
    image["RepoTags"], image["RepoDigests"] = image.get("RepoTags") or None, image.get("RepoDigests") or None


def _uncounted(image: "dict[str, Any]") -> None:
    image["Containers"] = -1


def _id_and_host_name_as_aliases(container: "dict[str, Any]") -> None:
    """Below 1.45 the short id and the host name stand among a user-defined network's aliases."""
    names = [container.get("Id", "")[:12], container.get("Config", {}).get("Hostname", "")]
    for network, endpoint in container.get("NetworkSettings", {}).get("Networks", {}).items():
        if network not in ("bridge", "host", "none", "default"):
            aliases = list(endpoint.get("Aliases") or [])
            endpoint["Aliases"] = list(dict.fromkeys(aliases + [name for name in names if name]))


def _expected_commit(info: "dict[str, Any]") -> None:
    for name in ("ContainerdCommit", "RuncCommit", "InitCommit"):
        if isinstance(info.get(name), dict):
            info[name]["Expected"] = info[name].get("ID", "")


def _parents_as_one(cached: "dict[str, Any]") -> None:
    parents = cached.pop("Parents", None) or []
    cached["Parent"] = parents[0] if parents else ""


def _container_config(image: "dict[str, Any]") -> None:
    """The configuration of the container that an image was committed from: nothing knows it any more.

    Its volumes are the image's own: docker-compose 1.29 reads there which ones to keep for a container made anew.
    """
    image["ContainerConfig"] = {
        **dict.fromkeys(("Hostname", "Domainname", "User", "Image", "WorkingDir"), ""),
        **dict.fromkeys(("AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"), False),
        **dict.fromkeys(("Env", "Cmd", "Entrypoint", "OnBuild", "Labels")),
        "Volumes": (image.get("Config") or {}).get("Volumes"),
    }


def _names_of_security_options(info: "dict[str, Any]") -> None:
    info["SecurityOptions"] = [
        option.partition(",")[0].removeprefix("name=") for option in info.get("SecurityOptions") or ()
    ]


_IMAGE_SIZES = until((1, 44), _virtual_size)
_CONTAINER_FIELDS = missing(
    Hostname="", Domainname="", AttachStdin=False, AttachStdout=False, AttachStderr=False, Tty=False, OpenStdin=False,
    StdinOnce=False, Image="",
)  # fmt: skip

ROWS: "dict[str, tuple[Row, ...]]" = {
    "ContainerSummary": (
        since((1, 46), "HostConfig.Annotations"),
        since((1, 48), "ImageManifestDescriptor"),
        since((1, 52), "Health"),
    ),
    "ContainerInspect": (
        since((1, 44), "Config.Healthcheck.StartInterval"),
        until((1, 45), _id_and_host_name_as_aliases),
        since((1, 48), "ImageManifestDescriptor"),
        gone((1, 52), "Config.MacAddress"),
        unset((1, 52), "Config.OnBuild"),
        gone(  # what Networks says of the default one, and what never was
            (1, 52),
            *("NetworkSettings.EndpointID", "NetworkSettings.Gateway", "NetworkSettings.GlobalIPv6Address"),
            *("NetworkSettings.GlobalIPv6PrefixLen", "NetworkSettings.IPAddress", "NetworkSettings.IPPrefixLen"),
            *("NetworkSettings.IPv6Gateway", "NetworkSettings.MacAddress", "NetworkSettings.Bridge"),
            *("NetworkSettings.HairpinMode", "NetworkSettings.LinkLocalIPv6Address"),
            *("NetworkSettings.LinkLocalIPv6PrefixLen", "NetworkSettings.SecondaryIPAddresses"),
            "NetworkSettings.SecondaryIPv6Addresses",
        ),
    ),
    "ContainerCreateRequest": (gone((1, 52), "HostConfig.KernelMemoryTCP"),),
    "ContainerUpdateRequest": (since((1, 40), "PidsLimit"), gone((1, 52), "KernelMemoryTCP")),
    "ImageSummary": (
        until((1, 43), _none_names),
        _IMAGE_SIZES,
        since((1, 47), "Manifests"),
        since((1, 48), "Descriptor"),
        until((1, 51), _uncounted),
    ),
    "ImageInspect": (
        _IMAGE_SIZES,
        until((1, 44), missing(Created="0001-01-01T00:00:00Z")),
        until((1, 45), _container_config),
        since((1, 48), "Descriptor"),
        since((1, 48), "Manifests"),
        until((1, 50), inside("Config", _CONTAINER_FIELDS)),
        gone(
            (1, 50),
            *("Config.Hostname", "Config.Domainname", "Config.AttachStdin", "Config.AttachStdout"),
            *("Config.AttachStderr", "Config.Tty", "Config.OpenStdin", "Config.StdinOnce", "Config.Image"),
            *("Config.NetworkDisabled", "Config.MacAddress", "Config.StopTimeout"),
        ),
        unset(
            (1, 52),
            *("Parent", "Comment", "DockerVersion", "Author", "Config.ArgsEscaped", "Config.Cmd", "Config.Entrypoint"),
            *("Config.Env", "Config.ExposedPorts", "Config.Healthcheck", "Config.Labels", "Config.OnBuild"),
            *("Config.Shell", "Config.StopSignal", "Config.User", "Config.Volumes", "Config.WorkingDir"),
        ),
    ),
    "Info": (
        until((1, 25), _names_of_security_options),
        since((1, 44), "Runtimes.*.status"),
        since((1, 46), "Containerd"),
        until(
            (1, 47),
            inside(
                "RegistryConfig",
                missing(AllowNondistributableArtifactsCIDRs=None, AllowNondistributableArtifactsHostnames=None),
            ),
        ),
        until((1, 49), _expected_commit),
        since((1, 49), "FirewallBackend"),
        since((1, 50), "DiscoveredDevices"),
    ),
    "Stats": (since((1, 52), "os_type"),),
    "Version": (),
    "Event": (gone((1, 52), "status", "id", "from"),),
    "SystemDataUsage": (
        since((1, 46), "Containers.*.HostConfig.Annotations"),
        since((1, 52), "Containers.*.Health"),
        until((1, 42), inside("BuildCache.*", _parents_as_one)),
        until((1, 44), inside("Images.*", _virtual_size)),
    ),
    "Network": (since((1, 48), "EnableIPv4"),),
    "NetworkSummary": (since((1, 48), "EnableIPv4"), gone((1, 52), "Containers")),
}
