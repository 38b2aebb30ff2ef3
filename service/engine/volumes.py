"""Volumes of the local driver: a directory each, mounted into containers by bind.

With driver options (`type`, `device`, `o`) the directory is a mount point for that file system; it is mounted when the
first container that uses the volume starts (`mount_options` of `mount(8)`, as Docker's local driver has them).
"""

import os

from service import bell, timestamps
from service.engine import events
from service.errors import Conflict, InvalidParameter, NotFound
from service.ids import new_id
from service.store import volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from service.model.volume import Volume
    from service.settings import Settings
    from service.store.database import Database

ANONYMOUS_LABEL = "com.docker.volume.anonymous"  # dockerd marks them so; clients read it
_NAME_START = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_NAME = _NAME_START + "_.-"


def check_name(name: str) -> None:
    """Raise InvalidParameter unless `name` may name a volume: it becomes a directory."""
    if len(name) < 2 or name[0] not in _NAME_START or any(c not in _NAME for c in name):
        if len(name) == 1:
            raise InvalidParameter(
                f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
            )
        raise InvalidParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def data_path(settings: "Settings", name: str) -> str:
    """Where a volume's files are, on the host."""
    return f"{settings.root}/volumes/{name}/_data"


def create(
    settings: "Settings",
    database: "Database",
    name: str,
    driver: str = "",
    options: "Mapping[str, str] | None" = None,
    labels: "Mapping[str, str] | None" = None,
) -> "Volume":
    """Make a volume, or find the one of that name (API: VolumeCreate is idempotent). Blocking.

    Raises InvalidParameter for a bad name or option, NotFound for an unknown driver, Conflict when the name belongs to
    a volume of another driver.
    """
    anonymous = not name
    name = name or new_id()
    check_name(name)
    if driver not in ("", "local"):
        raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')
    _check_options(name, options or {})
    there = volumes.get(database, name)
    if there is not None:
        if driver and there["Driver"] != driver:
            raise Conflict(f"create {name}: conflict: volume name must be unique")
        return there
    volume: Volume = {
        "Name": name,
        "Driver": "local",
        "CreatedAt": timestamps.rfc3339(timestamps.now_ns() // 1_000_000_000 * 1_000_000_000),
        "Labels": {**(labels or {}), **({ANONYMOUS_LABEL: ""} if anonymous else {})},
        "Options": dict(options or {}),
        "anonymous": anonymous,
    }
    folder = os.path.dirname(data_path(settings, name))
    os.makedirs(folder, 0o701, exist_ok=True)
    os.makedirs(data_path(settings, name), 0o755, exist_ok=True)
    with database.write():
        if volumes.insert(database, volume):
            events.record(database, "volume", "create", name, {"driver": "local"})
    bell.ring(settings.bell)
    return volumes.get(database, name) or volume


def _check_options(name: str, options: "Mapping[str, str]") -> None:
    """The local driver's options: type, o, device, size (moby: volume/local/local_unix.go)."""
    for key in options:
        if key not in ("type", "o", "device", "size"):
            raise InvalidParameter(f'create {name}: invalid option: "{key}"')
    for key in ("type", "device"):
        if options and not options.get(key) and set(options) != {"size"}:
            raise InvalidParameter(f'create {name}: missing required option: "{key}"')


def find(database: "Database", name: str) -> "Volume":
    """The volume of that name. Raises NotFound."""
    volume = volumes.get(database, name)
    if volume is None:
        raise NotFound(f"get {name}: no such volume")
    return volume


def remove(settings: "Settings", database: "Database", name: str, *, force: bool = False) -> None:
    """Delete a volume and its files. Blocking. Raises NotFound (not with `force`), Conflict when it is in use."""
    if volumes.get(database, name) is None:
        if force:
            return
        raise NotFound(f"get {name}: no such volume")
    with database.write():
        if not volumes.delete(database, name):
            users = ", ".join(volumes.users(database, name))
            raise Conflict(f"remove {name}: volume is in use - [{users}]")
        events.record(database, "volume", "destroy", name, {"driver": "local"})
    bell.ring(settings.bell)
    discard_files(settings, name)


def discard_files(settings: "Settings", name: str) -> None:
    """Remove the directory of a volume that is not registered (any more)."""
    from service.kernel.mount import is_mounted, umount

    path = data_path(settings, name)
    if is_mounted(path):
        umount(path)
    from service.kernel.tree import remove_tree

    remove_tree(os.path.dirname(path))


def mount_if_needed(settings: "Settings", volume: "Volume") -> None:
    """Mount the file system that a volume's options name, unless it is mounted. Blocking.

    Raises SystemFailure with mount's own words.
    """
    options = volume["Options"]
    if not options.get("device"):
        return
    from service.kernel.mount import is_mounted
    from service.process import run
    from service.settings import find_program

    path = data_path(settings, volume["Name"])
    if is_mounted(path):
        return
    argv = [find_program("mount")]
    if options.get("type"):
        argv += ["-t", options["type"]]
    if options.get("o"):
        argv += ["-o", options["o"]]
    run([*argv, "--", options["device"], path], environment=settings.environment()).check()


def describe(settings: "Settings", volume: "Volume") -> "dict[str, Any]":
    """Docker's Volume (API: VolumeInspect)."""
    return {
        "CreatedAt": volume["CreatedAt"],
        "Driver": volume["Driver"],
        "Labels": volume["Labels"] or None,
        "Mountpoint": data_path(settings, volume["Name"]),
        "Name": volume["Name"],
        "Options": volume["Options"] or None,
        "Scope": "local",
    }


def matching(database: "Database", filters: "Mapping[str, list[str]]") -> "list[Volume]":
    """The volumes that every filter keeps (API: VolumeList). Raises InvalidParameter for an unknown filter."""
    for key in filters:
        if key not in ("dangling", "driver", "label", "name"):
            raise InvalidParameter(f"invalid filter '{key}'")
    counts = volumes.use_counts(database)
    kept = volumes.by_name(database)
    if "dangling" in filters:
        wanted = filters["dangling"]
        if any(text not in ("true", "false", "1", "0") for text in wanted) or len(wanted) != 1:
            raise InvalidParameter(f"invalid filter 'dangling=[{' '.join(wanted)}]'")
        dangling = wanted[0] in ("true", "1")
        kept = [v for v in kept if (v["Name"] not in counts) == dangling]
    if filters.get("driver"):
        kept = [v for v in kept if v["Driver"] in filters["driver"]]
    if filters.get("name"):
        kept = [v for v in kept if any(part in v["Name"] for part in filters["name"])]
    for label in filters.get("label", ()):
        kept = [v for v in kept if has_label(v["Labels"], label)]
    return kept


def has_label(labels: "Mapping[str, str]", wanted: str) -> bool:
    """Whether `labels` have `wanted`: a key, or key=value."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def prune(
    settings: "Settings", database: "Database", filters: "Mapping[str, list[str]]", *, named_too: bool
) -> tuple[list[str], int]:
    """Remove the unused volumes; only anonymous ones unless `named_too`. (names, bytes set free). Blocking."""
    from service.kernel.tree import disk_usage

    for key in filters:
        if key not in ("all", "label", "label!"):
            raise InvalidParameter(f"invalid filter '{key}'")
    counts = volumes.use_counts(database)
    gone, freed = [], 0
    for volume in volumes.by_name(database):
        if volume["Name"] in counts or not (named_too or volume["anonymous"]):
            continue
        if not all(has_label(volume["Labels"], label) for label in filters.get("label", ())):
            continue
        if any(has_label(volume["Labels"], label) for label in filters.get("label!", ())):
            continue
        size = disk_usage(data_path(settings, volume["Name"]))
        try:
            remove(settings, database, volume["Name"])
        except (Conflict, NotFound):
            continue  # a container took it, or somebody removed it, since we looked
        gone.append(volume["Name"])
        freed += size
    with database.write():
        events.record(database, "volume", "prune", "", {"reclaimed": str(freed)})
    bell.ring(settings.bell)
    return gone, freed
