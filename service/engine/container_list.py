"""`ps`: which containers are shown, and what of each (API: ContainerList). Only reads, and no file but the store's.

A list of a thousand asks the store a handful of times; nothing is asked per container, but sizes where they are wanted.
"""

import time

from service import jsontext, timestamps
from service.engine import network_settings
from service.engine.inspect import mount_point, sizes
from service.errors import InvalidParameter, NotFound
from service.store import containers, health, links

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from service.engine.engine import Engine
    from service.model.container import ContainerRecord, ContainerState

    Test = Callable[[ContainerRecord, ContainerState], bool]

_UP = ("running", "paused", "restarting")
_FILTERS = (
    "ancestor", "before", "expose", "exited", "health", "id", "isolation", "is-task", "label", "name", "network",
    "publish", "since", "status", "volume",
)  # fmt: skip
_STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
NO_HEALTH = ("none", 0)
_HEALTH = ("none", "starting", "healthy", "unhealthy")


def summaries(
    engine: "Engine", *, all: bool, limit: int, size: bool, filters: "Mapping[str, list[str]]"
) -> "list[dict[str, Any]]":
    """The containers of `docker ps`, the youngest first. Raises InvalidParameter for a bad filter, NotFound for the
    container of `before` or `since`."""
    bulk = network_settings.Summaries(engine.store)
    healths = health.summaries(engine.store)
    tests = _tests(engine, bulk, healths, filters)
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


# --- what is shown --------------------------------------------------------------------------------------------------


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


# --- which are shown ------------------------------------------------------------------------------------------------


def _tests(
    engine: "Engine",
    bulk: network_settings.Summaries,
    healths: "Mapping[str, tuple[str, int]]",
    filters: "Mapping[str, list[str]]",
) -> "list[Test]":
    """What the filters ask of a container, one test each; of one filter's values any may match (labels: all).

    Values are checked in the order in which dockerd does (moby: daemon/list.go). Raises InvalidParameter, NotFound.
    """
    for key in filters:
        if key not in _FILTERS:
            raise InvalidParameter(f"invalid filter '{key}'")
    tests: list[Test] = []
    if codes := [_exit_code(text) for text in filters.get("exited", ())]:
        tests.append(
            lambda _, state: (
                state["exit_code"] in codes and state["status"] not in _UP and state["started_at"] != timestamps.NEVER
            )
        )
    if statuses := filters.get("status"):
        for status in statuses:
            if status not in _STATUSES:
                raise InvalidParameter(f"invalid filter 'status={status}'")
        tests.append(lambda _, state: state["status"] in statuses)
    if "is-task" in filters and _boolean("is-task", filters["is-task"]):
        tests.append(lambda *_: False)  # there is no swarm here
    if wanted_health := filters.get("health"):
        for wanted in wanted_health:
            if wanted not in _HEALTH:
                raise InvalidParameter(f"unrecognized filter value for health: {wanted}")
        tests.append(lambda record, _: healths.get(record["Id"], NO_HEALTH)[0] in wanted_health)
    for name in filters.get("before", ()):
        tests.append(_on_one_side(engine, name, -1))
    for name in filters.get("since", ()):
        tests.append(_on_one_side(engine, name, 1))
    if "ancestor" in filters:
        images = _ancestors(engine, filters["ancestor"])
        tests.append(lambda record, _: record["Image"] in images)
    published = ports_of("publish", filters.get("publish", ()))
    exposed = ports_of("expose", filters.get("expose", ()))
    if published or exposed:
        tests.append(lambda record, _: _has_port(bulk.port_list(record), published, exposed))
    if names := filters.get("name"):
        matches = name_test(names)
        tests.append(lambda record, _: matches(record["Name"]))
    if beginnings := filters.get("id"):
        ids = _ids_beginning(engine, beginnings)
        tests.append(lambda record, _: record["Id"] in ids)
    if labels := filters.get("label"):
        from service.engine.volumes import has_label

        tests.append(lambda record, _: all(has_label(record["Config"]["Labels"] or {}, label) for label in labels))
    if "volume" in filters:
        volumes = frozenset(filters["volume"])
        tests.append(lambda record, _: any(volumes & _names_of(mount) for mount in record["Mounts"]))
    if "network" in filters:
        networks = filters["network"]
        tests.append(lambda record, state: _is_on(bulk.networks(record, state), networks))
    return tests  # `isolation` is a matter of Windows, and keeps everything


def _exit_code(text: str) -> int:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isascii() or not digits.isdigit():  # int() takes blanks and underscores as well
        raise InvalidParameter(f"invalid filter 'exited={text}': strconv.Atoi: parsing \"{text}\": invalid syntax")
    return int(text)


def _boolean(key: str, values: "Sequence[str]") -> bool:
    """A filter that is true or false, and not both. Raises InvalidParameter."""
    true, false = bool({"1", "true"} & {*values}), bool({"0", "false"} & {*values})
    if true == false:
        raise InvalidParameter(f"invalid filter '{key}" + (f"=[{' '.join(values)}]'" if values else "'"))
    return true


def _on_one_side(engine: "Engine", reference: str, side: int) -> "Test":
    """Created before (-1) or after (1) the container named. Raises NotFound."""
    pivot = side * timestamps.nanoseconds(containers.find(engine.store, reference)["record"]["Created"])
    return lambda record, _: side * timestamps.nanoseconds(record["Created"]) > pivot


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


def ports_of(key: str, values: "Sequence[str]") -> "set[tuple[int, str]]":
    """The ports that `publish` or `expose` name: "80", "80/udp", "8000-8010/tcp". Raises InvalidParameter.

    dockerd's sentences; it answers them with 500.
    """
    found: set[tuple[int, str]] = set()
    for value in values:
        if ":" in value:
            raise InvalidParameter(f"filter for '{key}' should not contain ':': {value}")
        numbers, _, protocol = value.partition("/")
        first, _, last = numbers.partition("-")
        try:
            low = _port(first, numbers)
            high = _port(last, numbers) if last else low
            if high < low:
                raise ValueError(f"Invalid range specified for the Port: {numbers}")
        except ValueError as error:
            raise InvalidParameter(f"error while looking up for {key} {value}: {error}") from None
        found.update((number, protocol.lower() or "tcp") for number in range(low, high + 1))
    return found


def _port(text: str, whole: str) -> int:
    if not whole:
        raise ValueError("Empty string specified for ports.")
    if not text.isascii() or not text.isdigit():
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if int(text) > 65535:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


def _has_port(
    ports: "Sequence[Mapping[str, Any]]", published: "set[tuple[int, str]]", exposed: "set[tuple[int, str]]"
) -> bool:
    """Whether a container that runs has one of these ports; one that is only exposed is published as 0, to dockerd."""
    return any(
        (port.get("PublicPort", 0), port["Type"]) in published or (port["PrivatePort"], port["Type"]) in exposed
        for port in ports
    )


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/")


def name_test(patterns: "Sequence[str]") -> "Callable[[str], bool]":
    """Docker's name filter: a regular expression found anywhere in the name, with or without its leading slash.

    A pattern that is no expression matches nothing. Plain text is looked for without `re`, whose import a cold
    process would feel.
    """
    searches: list[Callable[[str], Any]] = []
    for pattern in patterns:
        if _PLAIN.issuperset(pattern):
            searches.append(_contains(pattern))
            continue
        import re

        try:
            # Go's \z is the end of the text, as $ is; Python's $ would stop before a newline, which no name has
            searches.append(re.compile(pattern.replace(r"\z", r"\Z")).search)
        except (re.error, OverflowError, RecursionError):
            continue
    return lambda name: any(search("/" + name) or search(name) for search in searches)


def _contains(part: str) -> "Callable[[str], bool]":
    return lambda text: part in text


def _ids_beginning(engine: "Engine", beginnings: "Sequence[str]") -> set[str]:
    """The ids that the beginnings mean; one that several containers share means none of them, as for dockerd."""
    every = containers.all_ids(engine.store)
    found: set[str] = set()
    for beginning in beginnings:
        meant = [container_id for container_id in every if container_id.startswith(beginning)] if beginning else []
        if len(meant) == 1:
            found.update(meant)
    return found


def _names_of(mount: "Mapping[str, Any]") -> set[str]:
    """By what the `volume` filter finds a mount: its place in the container, and its name or else its source."""
    return {mount["Destination"], mount.get("Name") or mount["Source"]}


def _is_on(networks: "Mapping[str, Mapping[str, Any]]", wanted: "Sequence[str]") -> bool:
    """Whether a container is, or was when it last ran, on one of these networks (a name, or the beginning of an id)."""
    return any(
        name in networks or any(settings["NetworkID"].startswith(name) for settings in networks.values())
        for name in wanted
    )
