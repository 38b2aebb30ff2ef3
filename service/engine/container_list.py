"""`ps`: which containers are shown, and what of each (API: ContainerList). Only reads, and no file but the store's.

A list of a thousand asks the store a handful of times; nothing is asked per container, but sizes where they are wanted.
"""

import time

from service import jsontext, timestamps
from service.engine import network_settings
from service.engine.inspect import mount_point, sizes
from service.store import containers, health, links

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from service.engine.container_filters import Test
    from service.engine.engine import Engine
    from service.model.container import ContainerRecord, ContainerState

_UP = ("running", "paused", "restarting")
NO_HEALTH = ("none", 0)


def summaries(
    engine: "Engine", *, all: bool, limit: int, size: bool, filters: "Mapping[str, list[str]]"
) -> "list[dict[str, Any]]":
    """The containers of `docker ps`, the youngest first. Raises InvalidParameter for a bad filter, NotFound for the
    container of `before` or `since`."""
    bulk = network_settings.Summaries(engine.store)
    healths = health.summaries(engine.store)
    tests: list[Test] = []
    if filters:
        from service.engine.container_filters import tests_of

        tests = tests_of(engine, bulk, healths, filters)
    everything = all or limit > 0 or bool(filters.get("status"))
    found = _read(engine, containers.texts_newest_first(engine.store, () if everything else _UP))
    for test in tests:
        found = [(entry, state) for entry, state in found if test(entry.record, state)]
    tags = _Tags(engine)
    linked = links.names(engine.store)
    now = time.time()
    shown = []
    for entry, state in found[:limit] if limit > 0 else found:
        record = entry.record
        document = _summary(entry, state, healths.get(record["Id"], NO_HEALTH), bulk, tags, now)
        if record["Id"] in linked:
            document["Names"] = sorted([*document["Names"], *linked[record["Id"]]])
        if size:  # zeros are left out, as dockerd does
            for name, weight in zip(("SizeRw", "SizeRootFs"), sizes(engine, record), strict=True):
                if weight:
                    document[name] = weight
        shown.append(document)
    return shown


class _Entry:
    """A record, and what the list shows of it as long as it does not change."""

    __slots__ = ("record", "shown")

    def __init__(self, text: str) -> None:
        record: ContainerRecord = jsontext.loads(text)
        self.record = record
        self.shown = {
            "Id": record["Id"],
            "ImageID": record["Image"],
            "Command": command_text(record["Path"], record["Args"]),
            "Created": timestamps.nanoseconds(record["Created"]) // 1_000_000_000,
            "Labels": record["Config"]["Labels"] or {},
            "Mounts": [mount_point(mount) for mount in record["Mounts"]],
        }


_KNOWN = 2048  # entries kept by a process: some 15 KB each


def _read(engine: "Engine", stored: "list[tuple[str, ContainerState]]") -> "list[tuple[_Entry, ContainerState]]":
    """The stored records, those that this process has read before without reading them again (half of a list's time).

    Known by their whole text: there is nothing that could be out of date.
    """
    known: dict[str, _Entry] = engine.listed
    if len(known) > max(_KNOWN, 2 * len(stored)):
        known.clear()
    found = []
    for text, state in stored:
        entry = known.get(text)
        if entry is None:
            entry = known[text] = _Entry(text)
        found.append((entry, state))
    return found


class _Tags:
    """The name that `ps` shows for an image: what the user typed while that still means the same image, else its id."""

    def __init__(self, engine: "Engine") -> None:
        from service.store import images

        self.owners = images.tag_owners(engine.store)  # full reference → image id
        self.full: dict[str, str] = {}  # as typed → full reference

    def shown(self, record: "ContainerRecord") -> str:
        typed = record["Config"].get("Image") or ""
        if record["Image"].removeprefix("sha256:").startswith(typed.removeprefix("sha256:") or "?"):
            return typed
        if typed not in self.full:
            from service.content.reference import normalized

            self.full[typed] = normalized(typed)
        return typed if self.owners.get(self.full[typed]) == record["Image"] else record["Image"]


def _summary(
    entry: _Entry,
    state: "ContainerState",
    of_it: tuple[str, int],
    bulk: network_settings.Summaries,
    tags: _Tags,
    now: float,
) -> "dict[str, Any]":
    """One document of the list. Its own at every level that a version may edit (`HostConfig`, networks)."""
    record = entry.record
    host_config = {"NetworkMode": record["HostConfig"]["NetworkMode"]}
    if record["HostConfig"].get("Annotations"):
        host_config["Annotations"] = record["HostConfig"]["Annotations"]
    return {
        **entry.shown,
        "Names": [f"/{record['Name']}"],
        "Image": tags.shown(record),
        "Ports": bulk.port_list(record),
        "State": state["status"],
        "Status": status_text(state, now, of_it[0]),
        "Health": {"Status": of_it[0], "FailingStreak": of_it[1]},
        "HostConfig": host_config,
        "NetworkSettings": {"Networks": {n: _endpoint(e) for n, e in bulk.networks(record, state).items()}},
    }


def _endpoint(settings: "dict[str, Any]") -> "dict[str, Any]":
    """The list shows where a container is on a network, not all that was asked of it (moby: container/view.go)."""
    settings["Links"] = settings["Aliases"] = settings["DriverOpts"] = settings["DNSNames"] = None
    if settings["IPAMConfig"] is not None:
        asked = settings["IPAMConfig"]
        settings["IPAMConfig"] = {name: asked[name] for name in ("IPv4Address", "IPv6Address") if asked.get(name)}
    return settings


def command_text(path: str, arguments: "Sequence[str]") -> str:
    """Path and arguments as one line; what holds a blank is put in single quotes (moby: container/view.go)."""
    return " ".join((path, *(f"'{argument}'" if " " in argument else argument for argument in arguments)))


def status_text(state: "ContainerState", now: float, health_status: str) -> str:
    """The Status column of `docker ps` (moby: container/state.go String)."""
    status = state["status"]
    if status in ("running", "paused"):
        up = f"Up {_ago(now, state['started_at'])}"
        if status == "paused":
            return f"{up} (Paused)"
        if health_status == "none":
            return up
        return f"{up} (health: starting)" if health_status == "starting" else f"{up} ({health_status})"
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
