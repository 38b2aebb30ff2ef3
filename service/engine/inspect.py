"""`inspect` and `ps`: a stored container in Docker's shape (API: ContainerInspect, ContainerList). Only reads."""

import time

from service import timestamps
from service.engine import network_settings
from service.errors import InvalidParameter, NotFound
from service.store import containers, execs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from service.engine.engine import Engine
    from service.model.container import Container, ContainerRecord, ContainerState


def inspect(engine: "Engine", reference: str, *, size: bool = False) -> "dict[str, Any]":
    """Everything about one container. Raises NotFound."""
    from service.content import rootfs

    settings = engine.settings
    container = containers.find(engine.store, reference)
    record, state = container["record"], container["state"]
    folder = settings.container_root(record["Id"])
    started = state["generation"] > 0
    document: dict[str, Any] = {
        "Id": record["Id"],
        "Created": record["Created"],
        "Path": record["Path"],
        "Args": record["Args"],
        "State": _state(state),
        "Image": record["Image"],
        "ResolvConfPath": f"{folder}/resolv.conf" if started else "",
        "HostnamePath": f"{folder}/hostname" if started else "",
        "HostsPath": f"{folder}/hosts" if started else "",
        # conmon's format is not json-file's: a name here would promise a format that the file does not have
        "LogPath": "",
        "Name": f"/{record['Name']}",
        "RestartCount": state["restart_count"],
        "Driver": "overlay2",
        "Platform": record["Platform"],
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": execs.live_ids(engine.store, record["Id"]) or None,
        "HostConfig": record["HostConfig"],
        "GraphDriver": {
            "Data": rootfs.graph_data(settings, record["Id"], record["Layers"]),
            "Name": "overlay2",
        },
        "Mounts": [_mount(mount) for mount in record["Mounts"]],
        "Config": record["Config"],
        "NetworkSettings": network_settings.settings_for_inspect(settings, engine.store, record, state),
    }
    if size:
        document["SizeRw"], document["SizeRootFs"] = _sizes(engine, record)
    return document


def _state(state: "ContainerState") -> "dict[str, Any]":
    status = state["status"]
    return {
        "Status": status,
        "Running": status in ("running", "paused", "restarting"),
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": state["oom_killed"],
        "Dead": status == "dead",
        "Pid": state["pid"],
        "ExitCode": state["exit_code"],
        "Error": state["error"],
        "StartedAt": state["started_at"],
        "FinishedAt": state["finished_at"],
    }


def _mount(mount: "Mapping[str, Any]") -> "dict[str, Any]":
    shown = {"Type": mount["Type"]}
    if mount.get("Name"):
        shown["Name"] = mount["Name"]
    shown["Source"], shown["Destination"] = mount["Source"], mount["Destination"]
    if mount.get("Driver"):
        shown["Driver"] = mount["Driver"]
    return {**shown, "Mode": mount["Mode"], "RW": mount["RW"], "Propagation": mount["Propagation"]}


def _sizes(engine: "Engine", record: "ContainerRecord") -> tuple[int, int]:
    """Bytes in the writable layer, and in all layers together."""
    from service.engine import images
    from service.kernel.tree import disk_usage

    written = disk_usage(engine.settings.container_root(record["Id"]) + "/diff")
    try:
        below = images.find(engine, record["Image"]).size
    except NotFound:
        below = 0
    return written, written + below


# --- the list -------------------------------------------------------------------------------------------------------

_UP = ("running", "paused", "restarting")
_FILTERS = (
    "ancestor", "before", "expose", "exited", "health", "id", "isolation", "is-task", "label", "name", "network",
    "publish", "since", "status", "volume",
)  # fmt: skip
_STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")


def summaries(
    engine: "Engine", *, all: bool, limit: int, size: bool, filters: "Mapping[str, list[str]]"
) -> "list[dict[str, Any]]":
    """The containers of `docker ps`, the youngest first. Raises InvalidParameter for a bad filter."""
    _check(filters)
    everything = all or limit > 0 or bool(filters.get("status")) or bool(filters.get("exited"))
    everything = everything or bool(filters.get("before")) or bool(filters.get("since"))
    found = containers.newest_first(engine.store, () if everything else _UP)
    if filters:
        found = _filtered(engine, found, filters)
    if limit > 0:
        found = found[:limit]
    bulk = network_settings.Summaries(engine.store)
    tags = _Tags(engine)
    now = time.time()
    return [_summary(engine, container, bulk, tags, now, size) for container in found]


class _Tags:
    """The name that `ps` shows for an image: what the user typed while that still means the same image, else its id."""

    def __init__(self, engine: "Engine") -> None:
        from service.store import images

        self.owners = images.tag_owners(engine.store)  # full reference → image id

    def shown(self, record: "ContainerRecord") -> str:
        from service.content.reference import normalized

        typed = record["Config"].get("Image") or ""
        if record["Image"].removeprefix("sha256:").startswith(typed.removeprefix("sha256:") or "?"):
            return typed
        owner = self.owners.get(normalized(typed))
        if owner is None or owner == record["Image"]:
            return typed if owner else record["Image"]
        return record["Image"]


def _summary(
    engine: "Engine", container: "Container", bulk: network_settings.Summaries, tags: _Tags, now: float, size: bool
) -> "dict[str, Any]":
    record, state = container["record"], container["state"]
    document: dict[str, Any] = {
        "Id": record["Id"],
        "Names": [f"/{record['Name']}"],
        "Image": tags.shown(record),
        "ImageID": record["Image"],
        "Command": _command(record),
        "Created": timestamps.nanoseconds(record["Created"]) // 1_000_000_000,
        "Ports": bulk.port_list(record),
        "Labels": record["Config"]["Labels"] or {},
        "State": state["status"],
        "Status": status_text(state, now),
        "HostConfig": {"NetworkMode": record["HostConfig"]["NetworkMode"]},
        "NetworkSettings": {"Networks": bulk.networks(record, state)},
        "Mounts": [_mount(mount) for mount in record["Mounts"]],
    }
    if record["HostConfig"].get("Annotations"):
        document["HostConfig"]["Annotations"] = record["HostConfig"]["Annotations"]
    if size:
        document["SizeRw"], document["SizeRootFs"] = _sizes(engine, record)
    return document


def _command(record: "ContainerRecord") -> str:
    """Path and arguments; one with a blank or a quote in it is put in single quotes (moby: daemon/list.go)."""
    words = []
    for argument in record["Args"]:
        if any(c in argument for c in " \t\n'\"\\$`&|;<>()*?[]#~=%") or not argument:
            words.append("'" + argument.replace("'", "'\\''") + "'")
        else:
            words.append(argument)
    return " ".join([record["Path"], *words])


def status_text(state: "ContainerState", now: float) -> str:
    """The Status column of `docker ps` (moby: container/state.go String)."""
    status = state["status"]
    if status in ("running", "paused"):
        up = f"Up {_ago(now, state['started_at'])}"
        return f"{up} (Paused)" if status == "paused" else up
    if status == "restarting":
        return f"Restarting ({state['exit_code']}) {_ago(now, state['finished_at'])} ago"
    if status == "removing":
        return "Removal In Progress"
    if status == "dead":
        return "Dead"
    if status == "created" or state["finished_at"] == timestamps.NEVER:
        return "Created"
    return f"Exited ({state['exit_code']}) {_ago(now, state['finished_at'])} ago"


def _ago(now: float, moment: str) -> str:
    return human_duration(max(0.0, now - timestamps.nanoseconds(moment) / 1e9))


def human_duration(seconds: float) -> str:
    """About how long, in words (docker/go-units HumanDuration)."""
    whole = int(seconds)
    minutes, hours = whole // 60, round(seconds / 3600)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{whole // 3600 // 24 // 365} years"


def _check(filters: "Mapping[str, Sequence[str]]") -> None:
    for key in filters:
        if key not in _FILTERS:
            raise InvalidParameter(f"invalid filter '{key}'")
    for status in filters.get("status", ()):
        if status not in _STATUSES:
            raise InvalidParameter(f"invalid filter 'status={status}'")
    for code in filters.get("exited", ()):
        if not code.lstrip("-").isdigit():
            raise InvalidParameter(f"invalid filter 'exited={code}'")


def _filtered(engine: "Engine", found: "list[Container]", filters: "Mapping[str, list[str]]") -> "list[Container]":
    """Those that every filter keeps; of one filter's values any may match (labels: all of them)."""
    from service.engine.volumes import has_label

    store = engine.store

    def keep(test: "Any") -> None:
        found[:] = [container for container in found if test(container["record"], container["state"])]

    for label in filters.get("label", ()):
        keep(lambda record, _, label=label: has_label(record["Config"]["Labels"] or {}, label))
    if names := filters.get("name"):
        keep(lambda record, _: any(_matches(name, record["Name"]) for name in names))
    if ids := filters.get("id"):
        keep(lambda record, _: any(record["Id"].startswith(start) for start in ids))
    if statuses := filters.get("status"):
        keep(lambda _, state: state["status"] in statuses)
    if codes := filters.get("exited"):
        keep(lambda _, state: state["status"] == "exited" and str(state["exit_code"]) in codes)
    if ancestors := filters.get("ancestor"):
        wanted = _ancestors(engine, ancestors)
        keep(lambda record, _: record["Image"] in wanted)
    if volumes := filters.get("volume"):
        keep(
            lambda record, _: any(
                name in (mount.get("Name"), mount["Destination"]) for mount in record["Mounts"] for name in volumes
            )
        )
    if networks := filters.get("network"):
        joined = _on_networks(engine, networks)
        keep(lambda record, _: record["Id"] in joined)
    if ports := filters.get("publish"):
        keep(lambda record, _: _has_port(record["HostConfig"]["PortBindings"] or {}, ports))
    if ports := filters.get("expose"):
        keep(lambda record, _: _has_port(record["Config"].get("ExposedPorts") or {}, ports))
    for health in filters.get("health", ()):
        if health not in ("starting", "healthy", "unhealthy", "none"):
            raise InvalidParameter(f"unrecognized filter value for health: {health}")
    if filters.get("health"):
        keep(lambda record, _: "none" in filters["health"] and not record["Config"].get("Healthcheck"))
    if "true" in filters.get("is-task", ()):
        found.clear()  # there is no swarm here
    for key, after in (("before", False), ("since", True)):
        if filters.get(key):
            pivot = timestamps.nanoseconds(containers.find(store, filters[key][0])["record"]["Created"])
            keep(lambda record, _, pivot=pivot, after=after: _beside(record, pivot, after))
    return found


def _beside(record: "ContainerRecord", pivot: int, after: bool) -> bool:
    created = timestamps.nanoseconds(record["Created"])
    return created > pivot if after else created < pivot


def _matches(pattern: str, name: str) -> bool:
    """Docker's name filter: a regular expression found anywhere in the name, with or without its slash."""
    import re

    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise InvalidParameter(f"invalid filter 'name={pattern}': {error}") from None
    return bool(wanted.search(name) or wanted.search("/" + name))


def _ancestors(engine: "Engine", names: "Sequence[str]") -> set[str]:
    """The images named, and every image made on top of one of them."""
    from service.engine import images

    wanted: set[str] = set()
    for name in names:
        try:
            wanted |= images.with_descendants(engine, images.find(engine, name))
        except (NotFound, InvalidParameter):
            continue  # dockerd: an unknown ancestor keeps nothing, and is no error
    return wanted


def _on_networks(engine: "Engine", references: "Sequence[str]") -> set[str]:
    """The containers with an endpoint on one of the networks named."""
    from service.store import networks

    found: set[str] = set()
    for reference in references:
        try:
            network = networks.find(engine.store, reference)
        except NotFound:
            continue  # keeps nothing, and is no error
        found |= {endpoint["ContainerId"] for endpoint in networks.endpoints_on(engine.store, network["Id"])}
    return found


def _has_port(have: "Mapping[str, Any]", wanted: "Sequence[str]") -> bool:
    """Whether one of `wanted` ("80", "80/tcp", "8000-8010") is among the ports of a container."""
    for text in wanted:
        number, _, protocol = text.partition("/")
        low, _, high = number.partition("-")
        if not low.isdigit() or (high and not high.isdigit()):
            raise InvalidParameter(f"invalid port: {text}")
        for port in range(int(low), int(high or low) + 1):
            if f"{port}/{protocol or 'tcp'}" in have:
                return True
    return False
