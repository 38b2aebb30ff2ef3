"""registries.conf, the file of podman, skopeo and buildah: which registries are insecure, blocked, mirrored, moved.

Version 2 (tables `[[registry]]`) and version 1 (`[registries.insecure]`, `[registries.block]`) are read, and the files
beside it in registries.conf.d. What it says of short names is not: here `busybox` is docker.io/library/busybox, always.

Source: containers-registries.conf(5).
"""

import os

from service import file_cache
from service.errors import Forbidden, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from service.content.reference import Reference
    from service.settings import Settings

_PULLS = ("all", "digest-only", "tag-only")


class Location:
    """A registry, or a part of one: host[:port][/path]. `pulls`: what it is asked for, as a mirror."""

    __slots__ = ("insecure", "location", "pulls")

    def __init__(self, described: "dict[str, Any]", *, digests_only: bool = False) -> None:
        self.location = _text(described, "location").rstrip("/")
        self.insecure = _flag(described, "insecure")
        self.pulls = _text(described, "pull-from-mirror") or ("digest-only" if digests_only else "all")
        if self.pulls not in _PULLS:
            raise ValueError(f'unsupported pull-from-mirror value "{self.pulls}"')
        if "://" in self.location:
            raise ValueError(f"invalid location '{self.location}': URI schemes are not supported")

    def serves(self, reference: "Reference") -> bool:
        """Whether a mirror is to be asked for that kind of name."""
        return self.pulls == "all" or (self.pulls == "digest-only") is bool(reference.digest)


class Rule(Location):
    """What holds for the names that begin with `prefix`."""

    __slots__ = ("blocked", "mirrors", "path", "prefix")

    def __init__(self, described: "dict[str, Any]", path: str) -> None:
        super().__init__({key: value for key, value in described.items() if key != "pull-from-mirror"})
        self.path = path
        self.prefix = _text(described, "prefix").rstrip("/") or self.location
        if not self.prefix:
            raise ValueError("invalid condition: both location and prefix are unset")
        if self.prefix.startswith("*.") and "/" in self.prefix:
            raise ValueError(f"wildcarded prefix should be in the format: *.example.com. Current prefix {self.prefix}")
        self.blocked = _flag(described, "blocked")
        by_digest = _flag(described, "mirror-by-digest-only")
        self.mirrors = [Location(mirror, digests_only=by_digest) for mirror in _tables(described, "mirror")]
        if any(not mirror.location for mirror in self.mirrors):
            raise ValueError("invalid condition: mirror location is unset")

    def rest(self, name: str) -> "str | None":
        """What follows the prefix in a name (empty, or from its separator on); None when it begins otherwise."""
        if self.prefix.startswith("*."):
            host, slash, path = name.partition("/")
            return slash + path if host.partition(":")[0].endswith(self.prefix[1:]) else None
        rest = name.removeprefix(self.prefix)
        return rest if rest != name and (not rest or rest[0] in "/:@") else None

    def moved(self, name: str) -> str:
        """A name (without tag and digest) as it is asked for where the rule says that it really is."""
        rest = self.rest(name)
        return self.location + rest if self.location and rest is not None else name


def _text(described: "dict[str, Any]", key: str) -> str:
    found = described.get(key, "")
    if not isinstance(found, str):
        raise ValueError(f"{key} is not a string")
    return found


def _flag(described: "dict[str, Any]", key: str) -> bool:
    found = described.get(key, False)
    if not isinstance(found, bool):
        raise ValueError(f"{key} is neither true nor false")
    return found


def _tables(described: "dict[str, Any]", key: str) -> "list[dict[str, Any]]":
    found = described.get(key, [])
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise ValueError(f"{key} is not an array of tables")
    return found


def _rules(document: "dict[str, Any]", path: str) -> "list[Rule]":
    """The rules of one file. Raises ValueError."""
    found = [Rule(described, path) for described in _tables(document, "registry")]
    first = document.get("registries") or {}
    if not isinstance(first, dict):
        raise ValueError("registries is not a table")
    old: dict[str, dict[str, Any]] = {}
    for table, key in (("insecure", "insecure"), ("block", "blocked")):
        listed = (first.get(table) or {}).get("registries") or []
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise ValueError(f"registries.{table} is not a list of names")
        for name in listed:
            old.setdefault(name, {"location": name})[key] = True
    if found and old:
        raise ValueError("mixing sysregistry v1/v2 is not supported")
    return found + [Rule(described, path) for described in old.values()]


def _parse(paths: "Sequence[str]") -> "list[Rule]":
    """All rules, the one with the longest prefix first; a later file's take the place of an earlier one's."""
    import tomllib

    rules: dict[str, Rule] = {}
    for path in paths:
        try:
            with open(path, "rb") as file:
                rules.update((rule.prefix, rule) for rule in _rules(tomllib.load(file), path))
        except (OSError, ValueError) as error:  # TOML's own error is a ValueError as well
            raise SystemFailure(f"loading registries configuration {path}: {error}") from None
    return sorted(rules.values(), key=lambda rule: len(rule.prefix), reverse=True)


_read = file_cache.kept(_parse)


def rule(settings: "Settings", name: str) -> "Rule | None":
    """The rule for a canonical name; None when there is none. Blocking, but for a file that is read once per change.

    Raises Forbidden when the name is blocked, SystemFailure for a file that cannot be understood.
    """
    main = next((path for path in settings.registries_conf if os.path.exists(path)), settings.registries_conf[-1])
    try:
        beside = sorted(entry for entry in os.listdir(f"{main}.d") if entry.endswith(".conf"))
    except (FileNotFoundError, NotADirectoryError):
        beside = []
    for found in _read([main, *(f"{main}.d/{entry}" for entry in beside)]):
        if found.rest(name) is not None:
            if found.blocked:
                raise Forbidden(f"registry {found.prefix} is blocked in {found.path}")
            return found
    return None
