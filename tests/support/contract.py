"""Docker's own descriptions of the Engine API, and whether an exchange keeps to the one of its version.

The newest version is checked, and the one that docker-py is told. The descriptions lie beside the clone
(`../shared/engine-api`, or where MOORAGE_ENGINE_API says) and are no part of the project: where one is not there,
nothing of it is checked. What we do otherwise on purpose stands in openapi/DIFFERENCES.md.
"""

import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from service.version import API_BEFORE_FIELDS_WENT, api_text
from tests.support.differences import ROOT, Rows

VERSION = api_text()
VERSIONS = (VERSION, api_text(API_BEFORE_FIELDS_WENT))
FOLDER = os.environ.get("MOORAGE_ENGINE_API") or os.path.dirname(ROOT) + "/shared/engine-api"
_JSON = ("application/json", "application/jsonl", "application/x-ndjson")
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


_MAC = re.compile(r"[0-9a-f]{2}([:-])([0-9a-f]{2}\1){4}[0-9a-f]{2}|([0-9a-f]{4}\.){2}[0-9a-f]{4}", re.IGNORECASE)
_CLOCK = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


def _is_hardware_address(text: str) -> None:
    if not _MAC.fullmatch(text):
        raise ValueError


def _is_moment(text: str) -> None:
    if not _CLOCK.fullmatch(text):
        raise ValueError


def _is_prefix(text: str) -> None:
    if "/" not in text:
        raise ValueError
    ipaddress.ip_interface(text)


# What Go's client of 29 decodes into types of its own, by the name of the type or of the field: a text that is no such
# thing fails the whole answer there. Empty is nothing.
_DECODED: dict[str, Callable[[str], object]] = {
    "Addr": ipaddress.ip_address,
    "Prefix": _is_prefix,
    "HardwareAddr": _is_hardware_address,
    "date-time": _is_moment,
    "dateTime": _is_moment,
    **dict.fromkeys(("Gateway", "IPAddress", "IPv6Gateway", "GlobalIPv6Address"), ipaddress.ip_address),
    **dict.fromkeys(("Subnet", "IPRange", "InsecureRegistryCIDRs[]"), _is_prefix),
}


class Contract:
    """The description of one version, read. `violations` gathers what was seen; a test empties it."""

    def __init__(self, version: str, allowed: Rows) -> None:
        import yaml

        with open(path_of(version), "rb") as text:
            self.description = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self.version, self.allowed = version, allowed
        self.violations: list[str] = []
        self._operations = [
            (method.upper(), path, re.compile(re.sub(r"\{\w+\}", "(?:.+)", path) + "$"), described)
            for path, methods in self.description["paths"].items()
            for method, described in methods.items()
        ]
        self._operations.sort(key=lambda entry: entry[1].count("{"))  # fixed paths win over values

    def operations(self) -> dict[tuple[str, str], Any]:
        """(method, path) → what is said of it."""
        return {(method, path): described for method, path, _, described in self._operations}

    def exchange(self, method: str, target: str, status: int, content_type: str, body: bytes | None) -> None:
        """Note where a request and its answer leave the description. None: a body that was not read whole."""
        parts = urlsplit(target)
        path = _version_and_path(parts.path)[1]
        found = next((entry for entry in self._operations if entry[0] == method and entry[2].match(path)), None)
        if found is None:
            if status < 400 and not path.startswith(("/test/", "/openapi")):
                self._note(f"{method} {path}", "", "is answered, and is no operation of the API")
            return
        name, described = f"{method} {found[1]}", found[3]
        answer = described["responses"].get(str(status)) or described["responses"].get(status)
        if answer is None:
            self._note(name, str(status), "is no status of this operation")
            return
        if status < 400:
            known = {parameter["name"] for parameter in described.get("parameters", ()) if parameter["in"] == "query"}
            for key, _ in parse_qsl(parts.query, keep_blank_values=True):
                if key not in known:
                    self._note(name, f"?{key}", "is no parameter of this operation")
        if body and content_type.partition(";")[0] in _JSON and answer.get("schema") and method != "HEAD":
            try:
                documents = [json.loads(body)]
            except ValueError:
                documents = [json.loads(line) for line in body.splitlines() if line]
            for document in documents:
                for where, what in self.problems(document, answer["schema"]):
                    self._note(name, f"{status} {where}".strip(), what)

    def _note(self, operation: str, where: str, what: str) -> None:
        line = f"{self.version} | {operation} | {where} | {what}"
        if not self.allowed.reason(operation, where) and line not in self.violations:
            self.violations.append(line)

    def problems(self, value: Any, schema: Any, path: str = "", *, part: bool = False) -> Iterator[tuple[str, str]]:
        """(place, what is wrong) for each place in which `value` is not what `schema` says.

        `part`: the schema is one of several that describe the value together.
        """
        schema = self._resolved(schema)
        if value is None:
            if not schema.get("x-nullable"):
                yield path, f"is null, not {schema.get('type', 'an object')}"
            return
        for one in schema.get("allOf", ()):
            yield from self.problems(value, one, path, part=True)
        wanted = schema.get("type")
        if wanted and (
            not isinstance(value, _TYPES[wanted]) or (isinstance(value, bool) and wanted in ("integer", "number"))
        ):
            yield path, f"is {json.dumps(value)[:60]}, not {wanted}"
            return
        if "enum" in schema and value not in schema["enum"]:
            yield path, f"is {value!r}, not one of {schema['enum']}"
        if isinstance(value, str) and value and not _is_decoded(value, schema, path):
            yield path, f"is {value!r}, which Go cannot read"
        if isinstance(value, list):
            for item in value:
                yield from self.problems(item, schema.get("items", {}), path + "[]")
        if isinstance(value, dict):
            yield from self._members(value, schema, path)
            known = set() if part else self._known(schema)
            for name in {*value} - known if known else ():
                yield f"{path}.{name}" if path else name, "is not described"

    def _resolved(self, schema: Any) -> Any:
        while "$ref" in schema:
            schema = self.description["definitions"][schema["$ref"].rpartition("/")[2]]
        return schema

    def _known(self, schema: Any) -> set[str]:
        """The names that an object may have; empty where it may have any."""
        schema = self._resolved(schema)
        parts = [self._known(part) for part in schema.get("allOf", ())]
        if "additionalProperties" in schema or not all(parts):
            return set()
        return set().union(schema.get("properties", {}), *parts)

    def _members(self, value: dict[str, Any], schema: Any, path: str) -> Iterator[tuple[str, str]]:
        dot = f"{path}." if path else ""
        for name in schema.get("required", ()):
            if name not in value:
                yield dot + name, "is required, and absent"
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        optional = {*properties} - {*schema.get("required", ())}
        for name, inner in value.items():
            if name in properties:
                if inner is None and name in optional:
                    continue  # Go's nil: a list, a map or a pointer that is not there
                yield from self.problems(inner, properties[name], dot + name)
            elif isinstance(others, dict):
                yield from self.problems(inner, others, dot + "*")


def _version_and_path(path: str) -> tuple[str, str]:
    found = re.match(r"/v(\d+\.\d+)(/.*)", path)
    return (found[1], found[2]) if found else (VERSION, path)


def path_of(version: str) -> str:
    """Where the description of a version lies."""
    return f"{FOLDER}/v{version}.yaml"


def _is_decoded(text: str, schema: Any, path: str) -> bool:
    for name in (schema.get("x-go-type", {}).get("type"), schema.get("format"), path.rpartition(".")[2]):
        if name in _DECODED:
            try:
                _DECODED[name](text)
            except ValueError:
                return False
    return True


@cache
def known() -> dict[str, Contract]:
    """The descriptions that are at hand, by version."""
    allowed = Rows("Contract")
    return {version: Contract(version, allowed) for version in VERSIONS if os.path.exists(path_of(version))}


def described() -> Contract | None:
    """The description of the newest version; None where it is not at hand."""
    return known().get(VERSION)


def exchange(method: str, target: str, status: int, content_type: str, body: bytes | None) -> None:
    """Note where a request and its answer leave the description of their version, if it is one that is checked."""
    contract = known().get(_version_and_path(urlsplit(target).path)[0])
    if contract is not None:
        contract.exchange(method, target, status, content_type, body)


def violations() -> list[str]:
    """What was noted since this was last asked."""
    found = [line for contract in known().values() for line in contract.violations]
    for contract in known().values():
        contract.violations.clear()
    return found


def watch() -> None:
    """Have every exchange of docker-py looked at from now on (raw requests look for themselves)."""
    import requests
    from docker import APIClient

    if not known():
        return
    send = requests.Session.send

    def sent(self: APIClient, prepared: requests.PreparedRequest, **options: Any) -> requests.Response:
        response = send(self, prepared, **options)
        body = None if options.get("stream") or response.status_code == 101 else response.content
        target = str(prepared.url).partition("//")[2]
        target = target[target.index("/") :]
        kind = response.headers.get("Content-Type", "")
        exchange(str(prepared.method), target, response.status_code, kind, body)
        return response

    APIClient.send = sent
