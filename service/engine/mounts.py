"""What a container sees mounted: Binds, Mounts, Tmpfs, VolumesFrom and the image's volumes become `MountPoint`s.

The plan is made at create and stored with the container. The order of `MountPoint`s is the order of mounting: by
destination, so that a parent comes before what lies in it. Volumes that it needs are decided here and come to be in
the transaction that registers the container: until then nobody sees them, and a create that fails leaves none.
"""

import os

from service.engine import mount_requests, volumes
from service.engine.mount_requests import clean
from service.errors import InvalidParameter, NotFound
from service.runtime import mounts as bind_mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from service.engine.engine import Engine
    from service.engine.mount_requests import MountRequest
    from service.model.container import MountPoint
    from service.model.volume import Volume

    Settings = Mapping[str, Any]


class Plan:
    """The mounts of one container, and every volume among them, known already or new."""

    __slots__ = ("container_id", "made", "mounts", "volumes")

    def __init__(self, container_id: str) -> None:
        self.container_id = container_id
        self.mounts: list[MountPoint] = []
        self.volumes: dict[str, Volume] = {}
        self.made: set[str] = set()  # volumes that a plugin has made for it


def check(host: "Settings") -> None:
    """Raise InvalidParameter for what no image and no volume could make right."""
    for mount in host.get("Mounts") or ():
        mount_requests.check(mount)
        bind = mount.get("BindOptions") or {}
        if mount["Type"] == "bind" and not bind.get("CreateMountpoint") and not os.path.lexists(mount["Source"]):
            raise InvalidParameter(
                f'invalid mount config for type "bind": bind source path does not exist: {mount["Source"]}'
            )
    for target in host.get("Tmpfs") or {}:
        mount_requests.check_target(target)


def plan(
    engine: "Engine", container_id: str, config: "Settings", host: "Settings", *, recursive_read_only: bool = True
) -> Plan:
    """Decide the mounts of a container; nothing is made. Blocking.

    `recursive_read_only`: what is mounted below a read-only bind is read-only too, unless the request says otherwise
    (the default of API 1.44 and later). Raises InvalidParameter; NotFound for a volume's driver or an image.
    """
    planned = Plan(container_id)
    by_destination: dict[str, MountPoint] = {}
    for donor in host["VolumesFrom"] or ():
        for mount in _from_container(engine, planned, donor):
            by_destination[mount["Destination"]] = mount
    asked: set[str] = set()
    requests = [mount_requests.from_bind(bind, host["VolumeDriver"]) for bind in host["Binds"] or ()]
    for request, mode in [*requests, *((mount, None) for mount in host.get("Mounts") or ())]:
        destination = clean(request["Target"])
        if destination in asked or (mode is not None and destination in (host.get("Tmpfs") or {})):
            raise InvalidParameter(f"Duplicate mount point: {destination if mode is not None else request['Target']}")
        asked.add(destination)
        by_destination[destination] = _point(engine, planned, request, mode, recursive_read_only=recursive_read_only)
    for target in config.get("Volumes") or {}:
        destination = clean(target)
        if destination in by_destination or destination in (host.get("Tmpfs") or {}):
            continue
        mount_requests.check_target(destination)
        by_destination[destination] = _volume(engine, planned, {"Target": target}, "", driver=host["VolumeDriver"])
    planned.mounts = [by_destination[path] for path in sorted(by_destination, key=lambda path: (path.count("/"), path))]
    used = {mount["Name"] for mount in planned.mounts if mount["Type"] == "volume"}
    planned.volumes = {name: volume for name, volume in planned.volumes.items() if name in used}
    return planned


def make_volumes(engine: "Engine", planned: Plan) -> None:
    """Have plugins make what they are to keep. Under `volumes.exclusively`. Raises NotFound, SystemFailure."""
    from service.store import volumes as stored

    for name, volume in planned.volumes.items():
        if stored.get(engine.store, name) is None and volumes.make(engine.settings, volume):
            planned.made.add(name)


def register(engine: "Engine", planned: Plan) -> None:
    """Write down the volumes of a plan that are new. In the transaction of the container."""
    for volume in planned.volumes.values():
        volumes.register(engine.store, volume)


def forget(engine: "Engine", planned: Plan) -> None:
    """Remove what a failed create had made for volumes that never came to be. Under `volumes.exclusively`."""
    from service.store import volumes as stored

    for name, volume in planned.volumes.items():
        if stored.get(engine.store, name) is None:
            volumes.discard(engine.settings, name, volume["Driver"] if name in planned.made else "local")


def _point(
    engine: "Engine", planned: Plan, request: "MountRequest", mode: "str | None", *, recursive_read_only: bool
) -> "MountPoint":
    """The mount that a request means. `mode`: that of an entry of Binds, None for one of Mounts."""
    kind = request["Type"]
    if kind == "bind":
        return _bind(engine, request, mode, recursive_read_only=recursive_read_only)
    if kind == "volume":
        return _volume(engine, planned, request, mode or "z")
    if kind == "image":
        return _image(engine, planned, request)
    return {
        "Type": "tmpfs",
        "Source": "",
        "Destination": clean(request["Target"]),
        "Mode": "",
        "RW": not request.get("ReadOnly"),
        "Propagation": "",
        "Options": mount_requests.tmpfs_options(request.get("TmpfsOptions") or {}, read_only=False),
    }


def _bind(engine: "Engine", request: "MountRequest", mode: "str | None", *, recursive_read_only: bool) -> "MountPoint":
    options = request.get("BindOptions") or {}
    source = os.path.normpath("/" + request["Source"].lstrip("/"))
    point: MountPoint = {
        "Type": "bind",
        "Source": source,
        "Destination": clean(request["Target"]),
        "Mode": mode or "",
        "RW": not request.get("ReadOnly"),
        "Propagation": _propagation(engine, source, options.get("Propagation") or ""),
    }
    if mode is not None or options.get("CreateMountpoint"):
        point["MakeSource"] = True
    if options.get("NonRecursive"):
        point["NonRecursive"] = True
    if options.get("ReadOnlyForceRecursive"):
        point["ReadOnlyBelow"] = True
    elif not point["RW"] and (options.get("ReadOnlyNonRecursive") or not recursive_read_only):
        point["ReadOnlyBelow"] = False
    return point


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


def _volume(engine: "Engine", planned: Plan, request: "MountRequest", mode: str, *, driver: str = "") -> "MountPoint":
    options = request.get("VolumeOptions") or {}
    wanted = options.get("DriverConfig") or {}
    name = request.get("Source") or ""
    volume = planned.volumes.get(name) or volumes.decide(
        engine.settings,
        engine.store,
        name,
        wanted.get("Name") or driver,
        wanted.get("Options"),
        options.get("Labels"),
    )
    planned.volumes[volume["Name"]] = volume
    point: MountPoint = {
        "Type": "volume",
        "Name": volume["Name"],
        "Source": volumes.data_path(engine.settings, volume["Name"]) if volumes.is_local(volume["Driver"]) else "",
        "Destination": clean(request["Target"]),
        "Driver": volume["Driver"],
        "Mode": mode if mode != "z" or volumes.is_local(volume["Driver"]) else "",
        "RW": not request.get("ReadOnly"),
        "Propagation": "",
    }
    if not name:
        point["Anonymous"] = True
    if options.get("NoCopy"):
        point["NoCopy"] = True
    if options.get("Subpath"):
        point["Subpath"] = options["Subpath"]
    made_of = next((volume["Options"][key] for key in ("device", "type", "size") if volume["Options"].get(key)), "")
    if made_of and volumes.is_local(volume["Driver"]):
        point["Device"] = made_of
    return point


def _image(engine: "Engine", planned: Plan, request: "MountRequest") -> "MountPoint":
    """The file system of an image, read-only. `Source` is where a start mounts it."""
    from service.engine import images, mount_sources

    image = images.find(engine, request["Source"])
    destination = clean(request["Target"])
    point: MountPoint = {
        "Type": "image",
        "Name": request["Source"],
        "Source": mount_sources.place(engine.settings, planned.container_id, destination),
        "Destination": destination,
        "Mode": "",
        "RW": False,
        "Propagation": "rprivate",
        "Image": image.id,
        "Layers": image.layers,
    }
    subpath = (request.get("ImageOptions") or {}).get("Subpath")
    if subpath:
        point["Subpath"] = subpath
    return point


def _from_container(engine: "Engine", planned: Plan, text: str) -> "list[MountPoint]":
    """`--volumes-from name[:ro|rw|z|Z]`: the mounts of another container, once more."""
    from service.engine import mount_sources
    from service.store import containers
    from service.store import volumes as stored

    name, writable = mount_requests.from_donor(text)
    try:
        donor = containers.find(engine.store, name)
    except NotFound as error:
        raise InvalidParameter(error.message) from None
    copies: list[MountPoint] = []
    for mount in donor["record"]["Mounts"]:
        copy = mount.copy()
        copy["Mode"] = ""
        copy["RW"] = mount["RW"] and writable
        if mount["Type"] == "image":
            copy["Source"] = mount_sources.place(engine.settings, planned.container_id, mount["Destination"])
        if mount["Type"] == "volume":
            copy["NoCopy"] = True
            volume = stored.get(engine.store, mount["Name"])
            if volume is None:  # its donor was removed just now
                raise NotFound(f"get {mount['Name']}: no such volume")
            planned.volumes[mount["Name"]] = volume
        copies.append(copy)
    return copies
