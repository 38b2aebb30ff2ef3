"""Two answers compared: statuses, sentences and documents, without what cannot be the same on two sides."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.support.wire import Answer

_AGE = r"(?:Less than a second|About an? \w+|\d+ \w+)"
_MASKS = (
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"[0-9a-f]{64}"), "ID"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"20\d\d-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)"), "TIME"),
    (re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b"), "MAC"),
    (re.compile(r"\b(?:10\.(?!99)\d+|172\.\d+|192\.168)\.\d+\.\d+\b"), "ADDRESS"),
    (re.compile(rf"(?:(?<=^Up )|(?<=\) )){_AGE}"), "AGE"),
    (re.compile(r" \(containerized\)$"), ""),  # of OperatingSystem: what dockerd takes a tree entered by chroot for
    (re.compile(r"^(?:docker-init|tini-static|catatonit)$"), "INIT"),  # the one that is installed on either side
    (re.compile(r"/tmp/m[dt][^/\s\"']*(?:/[^\s\"':]*)?"), "PATH"),  # below the folder of either side
)
_NUMBERS = {"Created", "Pid", "SpaceReclaimed", "Size", "SizeRootFs", "VirtualSize", "NFd"}  # by key; zero stays zero
_UNORDERED = {"ContainersDeleted", "Links", "NetworksDeleted", "VolumesDeleted"}
_BY_NAME = ("Name", "Path", "Destination", "Target", "Names", "Id")  # the order of a list says nothing; sorted by these


def masked(text: str) -> str:
    """`text` with what differs from run to run replaced."""
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    return text


def sentence(answer: Answer) -> str:
    """What an answer tells a user in words: the message of an error, or text that is no JSON."""
    body = answer.body.decode("utf-8", "replace")
    if answer.headers.get("content-type", "").startswith("application/json"):
        if answer.status < 400:
            return ""
        try:
            body = json.loads(body)["message"]
        except (ValueError, KeyError, TypeError):
            body = f"not an error document: {body}"
    return masked(body)


def headers(answer: Answer) -> dict[str, str]:
    """The headers that say something of the answer itself, as `header name: value`."""
    of_the_server = (
        "api-version",
        "content-length",
        "date",
        "docker-experimental",
        "ostype",
        "server",
        "transfer-encoding",
    )
    return {f"header {name}": text for name, text in answer.headers.items() if name not in of_the_server}


def document(answer: Answer) -> Any:
    """The masked document of a successful answer; None when there is none. Records of a stream make a list."""
    if answer.status >= 300 or not answer.headers.get("content-type", "").startswith("application/json"):
        return None
    text = answer.body.decode()
    try:
        return normal(json.loads(text))
    except ValueError:
        return [normal(json.loads(line)) for line in text.splitlines()]


def normal(value: Any, key: str = "") -> Any:
    """A document without what differs from run to run."""
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for name, inner in sorted(value.items(), key=lambda item: _name_of(item[1])):
            mask = masked(name)
            while mask in found:  # several that are named by their ids: in the order of their names
                mask += "+"
            found[mask] = normal(inner, name)
        return found
    if isinstance(value, list):
        items = [normal(item, key) for item in value]
        if key in _UNORDERED:
            items.sort()
        if items and all(isinstance(item, dict) for item in items):
            items.sort(key=lambda item: json.dumps([item.get(name) for name in _BY_NAME]))
        return items
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, int) and not isinstance(value, bool) and key in _NUMBERS and value > 0:
        return "NUMBER"
    return value


def _name_of(value: Any) -> str:
    return str(value.get("Name", "")) if isinstance(value, dict) else ""


def _by_name(value: Any) -> dict[str, Any]:
    """The items of a list that each have a name of their own; nothing for any other value."""
    if not isinstance(value, list) or not all(isinstance(item, dict) and item.get("Name") for item in value):
        return {}
    named = {item["Name"]: item for item in value}
    return named if len(named) == len(value) else {}


def differences(theirs: Any, ours: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path, their value, our value) of each leaf that differs; `...` stands for what is absent."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            inner = f"{path}.{key}" if path else key
            yield from differences(theirs.get(key, ...), ours.get(key, ...), inner)
    elif (one := _by_name(theirs)) and (other := _by_name(ours)) and one.keys() != other.keys():
        for name in sorted(one.keys() | other.keys()):
            yield from differences(one.get(name, ...), other.get(name, ...), f"{path}[{name}]")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for one, other in zip(theirs, ours, strict=True):
            yield from differences(one, other, path + "[]")
    elif type(theirs) is not type(ours) or theirs != ours:
        yield path, theirs, ours
