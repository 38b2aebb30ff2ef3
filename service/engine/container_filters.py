"""Which containers a list is about: Docker's container filters. Imported by a list that has any."""

from service import timestamps
from service.errors import InvalidParameter, NotFound
from service.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from service.engine.engine import Engine
    from service.engine.network_settings import Summaries
    from service.model.container import ContainerRecord, ContainerState

    Test = Callable[[ContainerRecord, ContainerState], bool]

_KNOWN = (
    "ancestor", "before", "expose", "exited", "health", "id", "isolation", "is-task", "label", "name", "network",
    "publish", "since", "status", "volume",
)  # fmt: skip
_STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
_UP = ("running", "paused", "restarting")
_HEALTH = ("none", "starting", "healthy", "unhealthy")


def tests_of(
    engine: "Engine",
    bulk: "Summaries",
    healths: "Mapping[str, tuple[str, int]]",
    filters: "Mapping[str, list[str]]",
) -> "list[Test]":
    """What the filters ask of a container, one test each; of one filter's values any may match (labels: all).

    Values are checked in the order in which dockerd does (moby: daemon/list.go). Raises InvalidParameter, NotFound.
    """
    for key in filters:
        if key not in _KNOWN:
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
        tests.append(lambda record, _: healths.get(record["Id"], ("none", 0))[0] in wanted_health)
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
