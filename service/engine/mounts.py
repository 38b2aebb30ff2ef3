"""What a container sees mounted: Binds, Mounts, Tmpfs, VolumesFrom and the image's volumes become `MountPoint`s.

The plan is made at create and stored; volumes that it needs are made then too (and unmade when create fails). The
order of `MountPoint`s is the order of mounting: by destination, so that a parent comes before what lies in it.
"""

import os

from service.engine import volumes
from service.errors import InvalidParameter, SystemFailure
from service.runtime import mounts as bind_mounts
from service.store import volumes as stored_volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.engine.engine import Engine
    from service.model.container import ContainerRecord, MountPoint
    from service.settings import Settings

_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


class Plan:
    """The mounts, and the names of the volumes that were made for them just now."""

    __slots__ = ("made", "mounts")

    def __init__(self) -> None:
        self.mounts: list[MountPoint] = []
        self.made: list[str] = []


def plan(engine: "Engine", config: "dict[str, Any]", host: "dict[str, Any]", warnings: list[str]) -> Plan:
    """Decide the mounts of a container. Blocking (makes volumes). Raises InvalidParameter, NotFound."""
    planned = Plan()
    by_destination: dict[str, MountPoint] = {}
    try:
        for donor in host["VolumesFrom"] or ():
            for mount in _from_container(engine, donor):
                by_destination[mount["Destination"]] = mount
        for bind in host["Binds"] or ():
            _add(by_destination, _from_bind(engine, planned, bind, host), bind)
        for wanted in host.get("Mounts") or ():
            _add(by_destination, _from_mount(engine, planned, wanted), wanted.get("Target") or "")
        for target in host.get("Tmpfs") or {}:
            _check_target(target)
        for target in config.get("Volumes") or {}:
            path = _clean(target)
            if path not in by_destination and target not in (host.get("Tmpfs") or {}):
                _check_target(path)
                by_destination[path] = _volume(engine, planned, "", path, mode="", rw=True)
    except BaseException:
        forget(engine, planned)
        raise
    if host["VolumeDriver"] and host.get("Mounts"):
        warnings.append("WARNING: VolumeDriver is ignored for volumes specified via 'Mounts'")
    planned.mounts = [by_destination[path] for path in sorted(by_destination, key=lambda path: (path.count("/"), path))]
    return planned


def forget(engine: "Engine", planned: Plan) -> None:
    """Remove the volumes that a failed create had made."""
    for name in planned.made:
        try:
            volumes.remove(engine.settings, engine.store, name, force=True)
        except SystemFailure:
            continue  # it stays as an unused volume, which prune takes
    planned.made.clear()


def _add(by_destination: "dict[str, MountPoint]", mount: "MountPoint", text: str) -> None:
    there = by_destination.get(mount["Destination"])
    if there is not None and text:
        raise InvalidParameter(f"Duplicate mount point: {mount['Destination']}")
    by_destination[mount["Destination"]] = mount


def _bad_bind(text: str, reason: str) -> InvalidParameter:
    return InvalidParameter(f"invalid volume specification: '{text}': {reason}")


def _not_absolute(kind: str, path: str) -> str:
    return f"invalid mount config for type \"{kind}\": invalid mount path: '{path}' mount path must be absolute"


def _clean(path: str) -> str:
    return os.path.normpath("/" + path.strip("/")) if path.strip("/") else "/"


def _check_target(path: str) -> None:
    if not path.startswith("/"):
        raise InvalidParameter(_not_absolute("bind", path))
    if _clean(path) == "/":
        raise InvalidParameter("invalid specification: destination can't be '/'")


def _from_bind(engine: "Engine", planned: Plan, text: str, host: "dict[str, Any]") -> "MountPoint":
    """`source:destination[:options]` (moby: volume/mounts/linux_parser.go ParseMountRaw)."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[0] or (len(parts) > 1 and not parts[1]):
        raise InvalidParameter(f"invalid volume specification: '{text}'")
    if len(parts) == 1:
        source, destination, mode = "", parts[0], ""
    else:
        source, destination, mode = parts[0], parts[1], parts[2] if len(parts) == 3 else ""
    if not destination.startswith("/"):
        raise _bad_bind(text, _not_absolute("bind" if source.startswith("/") else "volume", destination))
    if _clean(destination) == "/":
        raise _bad_bind(text, "invalid specification: destination can't be '/'")
    options = _bind_options(mode, text)
    if not source.startswith("/"):
        mount = _volume(
            engine, planned, source, _clean(destination), mode=mode or "z", rw="ro" not in options,
            driver=host["VolumeDriver"],
        )  # fmt: skip
        if "nocopy" in options:
            mount["NoCopy"] = True
        return mount
    asked = next((option for option in options if option in _PROPAGATIONS), "")
    propagation = _propagation(engine, os.path.normpath(source), asked)
    _make_source(os.path.normpath(source))
    return {
        "Type": "bind",
        "Source": os.path.normpath(source),
        "Destination": _clean(destination),
        "Mode": mode,
        "RW": "ro" not in options,
        "Propagation": propagation,
    }


def _propagation(engine: "Engine", source: str, asked: str) -> str:
    """`asked`, or Docker's default: rprivate, but rslave for a path that holds or lies in our own directories.

    A private copy of other containers' mounts would keep them alive after their end. Raises InvalidParameter when just
    that is asked for (moby: daemon/volumes_linux.go validateBindDaemonRoot).
    """
    if not bind_mounts.touches(source, (engine.settings.root, engine.settings.run)):
        return asked or "rprivate"
    if asked in ("", "rslave", "rshared"):
        return asked or "rslave"
    raise InvalidParameter(
        'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the '
        f'daemon root, daemon root: "{engine.settings.root}", bind mount source: "{source}", propagation: "{asked}"'
    )


def _make_source(path: str) -> None:
    """`-v` makes a missing source directory (`--mount` does not)."""
    try:
        os.makedirs(path, 0o755, exist_ok=True)
    except FileExistsError:
        return  # a file: bound as it is
    except OSError as error:
        raise SystemFailure(
            f"error while creating mount source path '{path}': mkdir {path}: {os.strerror(error.errno or 0).lower()}"
        ) from error


def _bind_options(mode: str, text: str) -> list[str]:
    options = mode.split(",") if mode else []
    known = ("ro", "rw", "z", "Z", "nocopy", "consistent", "cached", "delegated", *_PROPAGATIONS)
    if any(option not in known for option in options) or ("ro" in options and "rw" in options):
        raise InvalidParameter(f"invalid volume specification: '{text}': invalid mode: {mode}")
    return options


def _from_mount(engine: "Engine", planned: Plan, wanted: "dict[str, Any]") -> "MountPoint":
    """One entry of HostConfig.Mounts (moby: volume/mounts/linux_parser.go validateMountConfigImpl)."""
    kind = wanted.get("Type") or ""
    target, source = wanted.get("Target") or "", wanted.get("Source") or ""

    def bad(reason: str) -> InvalidParameter:
        return InvalidParameter(f'invalid mount config for type "{kind}": {reason}')

    if not target:
        raise bad("field Target must not be empty")
    if not target.startswith("/"):
        raise bad(f"invalid mount path: '{target}' mount path must be absolute")
    if _clean(target) == "/":
        raise bad("invalid specification: destination can't be '/'")
    if kind == "bind":
        if not source:
            raise bad("field Source must not be empty")
        if not source.startswith("/"):
            raise bad(f"invalid mount path: '{source}' mount path must be absolute")
        options = wanted.get("BindOptions") or {}
        if not os.path.lexists(source):
            if not options.get("CreateMountpoint"):
                raise bad(f"bind source path does not exist: {source}")
            _make_source(os.path.normpath(source))
        propagation = options.get("Propagation") or ""
        if propagation and propagation not in _PROPAGATIONS:
            raise bad(f"invalid propagation mode: {propagation}")
        propagation = _propagation(engine, os.path.normpath(source), propagation)
        return {
            "Type": "bind",
            "Source": os.path.normpath(source),
            "Destination": _clean(target),
            "Mode": "",
            "RW": not wanted.get("ReadOnly"),
            "Propagation": propagation,
        }
    if kind == "volume":
        options = wanted.get("VolumeOptions") or {}
        driver = options.get("DriverConfig") or {}
        mount = _volume(
            engine, planned, source, _clean(target), mode="z", rw=not wanted.get("ReadOnly"),
            driver=driver.get("Name") or "", options=driver.get("Options") or {}, labels=options.get("Labels") or {},
        )  # fmt: skip
        if options.get("NoCopy"):
            mount["NoCopy"] = True
        if options.get("Subpath"):
            mount["Subpath"] = options["Subpath"]
        return mount
    if kind == "tmpfs":
        if source:
            raise bad("field Source must not be specified")
        options = wanted.get("TmpfsOptions") or {}
        words = []
        if options.get("SizeBytes"):
            words.append(f"size={options['SizeBytes']}")
        if options.get("Mode"):
            words.append(f"mode={options['Mode']:o}")
        return {
            "Type": "tmpfs",
            "Source": "",
            "Destination": _clean(target),
            "Mode": "",
            "RW": not wanted.get("ReadOnly"),
            "Propagation": "",
            "Options": words,
        }
    raise InvalidParameter(f'invalid mount config for type "{kind}": mount type unknown')


def _volume(
    engine: "Engine",
    planned: Plan,
    name: str,
    destination: str,
    *,
    mode: str,
    rw: bool,
    driver: str = "",
    options: "dict[str, str] | None" = None,
    labels: "dict[str, str] | None" = None,
) -> "MountPoint":
    """A volume's mount; the volume is made if there is none of that name (an anonymous one always)."""
    new = not name or stored_volumes.get(engine.store, name) is None
    volume = volumes.create(engine.settings, engine.store, name, driver, options, labels)
    if new:
        planned.made.append(volume["Name"])
    return {
        "Type": "volume",
        "Name": volume["Name"],
        "Source": volumes.data_path(engine.settings, volume["Name"]),
        "Destination": destination,
        "Driver": volume["Driver"],
        "Mode": mode,
        "RW": rw,
        "Propagation": "",
    }


def _from_container(engine: "Engine", text: str) -> "list[MountPoint]":
    """`--volumes-from name[:ro|rw]`: copies of another container's mounts."""
    from service.store import containers

    name, _, mode = text.partition(":")
    if mode not in ("", "ro", "rw", "z", "Z"):
        raise InvalidParameter(f"invalid mode for volumes-from: {mode}")
    donor = containers.find(engine.store, name)
    copies: list[MountPoint] = []
    for mount in donor["record"]["Mounts"]:
        copy = mount.copy()
        if mode == "ro":
            copy["RW"] = False
        copies.append(copy)
    return copies


def populate(settings: "Settings", record: "ContainerRecord") -> None:
    """Copy what the image has at a volume's place into the volume, when that is empty (Docker's copy-up). Blocking."""
    from service.content import rootfs

    empty = [
        mount for mount in record["Mounts"]
        if mount["Type"] == "volume" and not mount.get("NoCopy") and not mount.get("Subpath")
        and os.path.isdir(mount["Source"]) and not os.listdir(mount["Source"])
    ]  # fmt: skip
    if not empty:
        return
    merged = rootfs.mount(settings, record["Id"], record["Layers"])
    try:
        for mount in empty:
            _copy_up(settings, merged, mount)
    finally:
        rootfs.unmount(settings, record["Id"])


def _copy_up(settings: "Settings", merged: str, mount: "MountPoint") -> None:
    from service.kernel.openat2 import open_in_root
    from service.process import run
    from service.settings import find_program

    try:
        source = open_in_root(merged, mount["Destination"], os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        status = os.fstat(source)
        if os.listdir(source):
            run(
                [find_program("cp"), "-a", "--reflink=auto", "--", "/proc/self/fd/3/.", mount["Source"]],
                environment=settings.environment(),
                descriptors=[(source, 3)],
            ).check()
        os.chown(mount["Source"], status.st_uid, status.st_gid)
        os.chmod(mount["Source"], status.st_mode & 0o7777)
    finally:
        os.close(source)
