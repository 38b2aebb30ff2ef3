"""What a create request says of mounts, checked and read in dockerd's words. Pure: nothing is looked up or made.

Binds, the older form, is turned into what Mounts would say, so that everything after this knows one form.
Source: moby volume/mounts/linux_parser.go.
"""

import os

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    MountRequest = Mapping[str, Any]  # Docker's Mount: Type, Source, Target, ReadOnly, BindOptions, …

PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
# The words of a mode; of each kind there may be one.
_MODE_KINDS = (("ro", "rw"), ("z", "Z"), PROPAGATIONS, ("nocopy",), ("consistent", "cached", "delegated"))
_OPTIONS_OF = (
    ("BindOptions", "bind"),
    ("VolumeOptions", "volume"),
    ("ImageOptions", "image"),
    ("TmpfsOptions", "tmpfs"),
)


def clean(path: str) -> str:
    """The shortest way to say an absolute path, lexically."""
    return os.path.normpath("/" + path.strip("/"))


def check(mount: "MountRequest") -> None:
    """Raise InvalidParameter unless the entry of HostConfig.Mounts can mean something."""
    try:
        _check(mount)
    except InvalidParameter as error:
        raise InvalidParameter(f'invalid mount config for type "{mount.get("Type") or ""}": {error.message}') from None
    _check_read_only(mount)


def _check(mount: "MountRequest") -> None:
    kind, target, source = mount.get("Type") or "", mount.get("Target") or "", mount.get("Source") or ""
    for options, owner in _OPTIONS_OF:
        if kind != owner and mount.get(options) is not None and kind in ("bind", "volume", "image", "tmpfs"):
            raise InvalidParameter(f"field {options} must not be specified")
    if not target:
        raise InvalidParameter("field Target must not be empty")
    if "\0" in source:
        raise InvalidParameter("invalid mount path: a path cannot hold a NUL")
    check_target(target)
    if kind == "bind":
        _check_bind(source, mount.get("BindOptions") or {})
    elif kind == "volume":
        subpath = (mount.get("VolumeOptions") or {}).get("Subpath") or ""
        if subpath and not source:
            raise InvalidParameter("must not set Subpath when using anonymous volumes")
        _check_subpath(subpath)
    elif kind == "tmpfs":
        if source:
            raise InvalidParameter("field Source must not be specified")
        tmpfs_options(mount.get("TmpfsOptions") or {}, read_only=False)
    elif kind == "image":
        if not source:
            raise InvalidParameter("field Source must not be empty")
        _check_subpath((mount.get("ImageOptions") or {}).get("Subpath") or "")
    else:
        raise InvalidParameter("mount type unknown")


def check_target(target: str) -> None:
    """Raise InvalidParameter unless `target` may be the place of a mount."""
    if "\0" in target:
        raise InvalidParameter("invalid mount path: a path cannot hold a NUL")
    if not target.strip("/") and target:
        raise InvalidParameter("invalid specification: destination can't be '/'")
    if not target.startswith("/"):
        raise InvalidParameter(f"invalid mount path: '{target}' mount path must be absolute")
    if clean(target) == "/":
        raise InvalidParameter("invalid specification: destination can't be '/'")


def _check_bind(source: str, options: "Mapping[str, Any]") -> None:
    if not source:
        raise InvalidParameter("field Source must not be empty")
    propagation = options.get("Propagation") or ""
    if propagation and propagation not in PROPAGATIONS:
        raise InvalidParameter(f"invalid propagation mode: {propagation}")
    if not source.startswith("/"):
        raise InvalidParameter(f"invalid mount path: '{source}' mount path must be absolute")


def _check_read_only(mount: "MountRequest") -> None:
    options = mount.get("BindOptions") or {}
    not_below, all_below = options.get("ReadOnlyNonRecursive"), options.get("ReadOnlyForceRecursive")
    for option, given in (("ReadOnlyNonRecursive", not_below), ("ReadOnlyForceRecursive", all_below)):
        if given and not mount.get("ReadOnly"):
            raise InvalidParameter(f"mount options conflict: !ReadOnly && BindOptions.{option}")
    if not_below and all_below:
        raise InvalidParameter("mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive")


def _check_subpath(subpath: str) -> None:
    """Lexically only. Where its symbolic links lead is seen when it is opened (`engine.mount_sources`)."""
    if "\0" in subpath or (subpath and (subpath.startswith("/") or os.path.normpath(subpath).split("/")[0] == "..")):
        raise InvalidParameter("subpath must be a relative path within the volume")


def tmpfs_options(options: "Mapping[str, Any]", *, read_only: bool) -> "list[str]":
    """TmpfsOptions as mount options. Raises InvalidParameter for one that may not be given."""
    words = ["ro"] if read_only else []
    if options.get("Mode"):
        words.append(f"mode={options['Mode']:o}")
    if options.get("SizeBytes"):
        words.append(f"size={options['SizeBytes']}")
    for option in options.get("Options") or ():
        if not 1 <= len(option) <= 2:
            raise InvalidParameter("invalid option array length")
        if option[0] not in ("exec", "noexec"):
            raise InvalidParameter(f"invalid option: {option[0]}")
        words.append("=".join(option))
    return words


def _mode_is_valid(mode: str) -> bool:
    if not mode:
        return True
    words = mode.split(",")
    return all(any(word in kind for kind in _MODE_KINDS) for word in words) and all(
        sum(word in kind for word in words) <= 1 for kind in _MODE_KINDS
    )


def from_bind(text: str, driver: str = "") -> "tuple[dict[str, Any], str]":
    """An entry of Binds, `[source:]destination[:mode]`, as (what Mounts would say, mode).

    Raises InvalidParameter.
    """
    parts = text.split(":")
    invalid = f"invalid volume specification: '{text}'"
    if not parts[0] or len(parts) > 3 or (len(parts) == 2 and _mode_is_valid(parts[1])):
        raise InvalidParameter(invalid)
    mode = parts[2] if len(parts) == 3 else ""
    if not _mode_is_valid(mode):
        raise InvalidParameter(f"invalid mode: {mode}")
    source, target = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    words = mode.split(",")
    mount: dict[str, Any] = {"Type": "bind" if source.startswith("/") else "volume", "Source": source, "Target": target}
    if "ro" in words:
        mount["ReadOnly"] = True
    if driver and mount["Type"] == "volume":
        mount["VolumeOptions"] = {"DriverConfig": {"Name": driver}}
    if "nocopy" in words:
        mount.setdefault("VolumeOptions", {})["NoCopy"] = True
    propagation = next((word for word in words if word in PROPAGATIONS), "")
    if propagation:
        mount["BindOptions"] = {"Propagation": propagation}
    try:
        check(mount)
    except InvalidParameter as error:
        raise InvalidParameter(f"{invalid}: {error.message}") from None
    return mount, mode


def from_donor(text: str) -> "tuple[str, bool]":
    """An entry of VolumesFrom, `container[:mode]`: (container, may it be written). Raises InvalidParameter."""
    if not text:
        raise InvalidParameter("volumes-from specification cannot be an empty string")
    donor, _, mode = text.partition(":")
    words = mode.split(",")
    if not _mode_is_valid(mode) or any(word in PROPAGATIONS or word == "nocopy" for word in words):
        raise InvalidParameter(f"invalid mode: {mode}")
    if not donor:
        raise InvalidParameter('invalid name or ID supplied: ""')
    return donor, "ro" not in words


_SHOWN = (
    "Type", "Source", "Target", "ReadOnly", "Consistency",
    "BindOptions", "VolumeOptions", "ImageOptions", "TmpfsOptions",
)  # fmt: skip


def shown(mount: "MountRequest") -> "dict[str, Any]":
    """An entry of HostConfig.Mounts as inspect shows it: without what says nothing; an object that was given stays."""
    kept: dict[str, Any] = {}
    for key in _SHOWN:
        value = mount.get(key)
        if isinstance(value, dict):
            kept[key] = _filled(value)
        elif value:
            kept[key] = value
    return kept


def _filled(options: "Mapping[str, Any]") -> "dict[str, Any]":
    return {
        key: _filled(value) if key == "DriverConfig" else value
        for key, value in options.items()
        if value or (key == "DriverConfig" and value is not None)
    }
