"""Where the mounts of a start come from: made to exist before the runtime binds them, let go of with the container.

Most are bound where they are. A part of a volume (Subpath) and an image have a place of their own,

    <run>/containers/<id>/sources/<hash of the destination>

and are mounted there first: a part of a volume by descriptor, so that another container, which may write to the same
volume, cannot turn a directory into a symbolic link between our look and the runtime's mount.
"""

import os

from service.errors import InvalidParameter, NotFound, SystemFailure
from service.kernel import mount as kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.model.container import ContainerRecord, MountPoint
    from service.settings import Settings
    from service.store.database import Database

ENOTDIR, EXDEV = 20, 18


def _folder(settings: "Settings", container_id: str) -> str:
    return settings.container_run(container_id) + "/sources"


def place(settings: "Settings", container_id: str, destination: str) -> str:
    """Where the source of the mount at `destination` is mounted first, if it has to be."""
    import zlib

    return f"{_folder(settings, container_id)}/{zlib.crc32(os.fsencode(destination)):08x}-{len(destination)}"


def prepare(settings: "Settings", database: "Database", record: "ContainerRecord") -> "list[MountPoint]":
    """Make what a start mounts exist, and say where it is: the mounts, their `Source` as the runtime is to bind it.

    Raises InvalidParameter, NotFound (a subpath) or SystemFailure in dockerd's words.
    """
    ready: list[MountPoint] = []
    for point in record["Mounts"]:
        found = point.copy()
        if point["Type"] == "volume":
            found["Source"] = _volume(settings, database, record["Id"], point)
        elif point["Type"] == "bind":
            make_bind_source(point)
        elif point["Type"] == "image":
            _image(settings, record["Id"], point)
        if point.get("Subpath"):
            found["Source"] = _part(settings, record["Id"], found)
        ready.append(found)
    return ready


def _volume(settings: "Settings", database: "Database", container_id: str, point: "MountPoint") -> str:
    """Have a volume mounted where it is; that place."""
    if point["Driver"] != "local":
        from service.engine import volume_drivers, volumes

        with volumes.exclusively(settings, [point["Name"]]):
            return volume_drivers.mount(settings, point["Driver"], point["Name"], container_id)
    if not point.get("Device"):
        os.makedirs(point["Source"], 0o755, exist_ok=True)
        return point["Source"]
    from service.engine import volumes
    from service.store import volumes as stored

    volume = stored.get(database, point["Name"])
    if volume is not None:
        with volumes.exclusively(settings, [point["Name"]]):
            volumes.mount(settings, volume)
    return point["Source"]


def make_bind_source(point: "MountPoint") -> None:
    """`-v` makes a missing source, as a directory; what is there (a file, a socket, a directory) is left alone."""
    source = point["Source"]
    if os.path.exists(source):
        return
    if not point.get("MakeSource"):
        raise InvalidParameter(f'invalid mount config for type "bind": bind source path does not exist: {source}')
    try:
        os.makedirs(source, 0o755)
    except NotADirectoryError:
        return  # below a file: the runtime says that best
    except OSError as error:
        if not os.path.exists(source):  # else another container's start was faster
            raise SystemFailure(
                f"error while creating mount source path '{source}': mkdir {error.filename}: "
                f"{os.strerror(error.errno or 0).lower()}"
            ) from error


def open_source(point: "MountPoint") -> int:
    """A descriptor (O_PATH) of a volume, or of its part that is asked for, wherever symbolic links inside it lead.

    Raises NotFound when there is no such part, InvalidParameter when the way to it leaves the volume.
    """
    from service.kernel.openat2 import open_beneath

    base, part = point["Source"], point.get("Subpath") or "."
    full = os.path.normpath(f"{base}/{part}")
    try:
        return open_beneath(base, os.path.normpath(part), os.O_PATH)
    except FileNotFoundError:
        raise NotFound(f"cannot access path {full}: lstat {full}: no such file or directory") from None
    except OSError as error:
        if error.errno == EXDEV:
            raise InvalidParameter(
                f"path concatenation escapes the base directory, base: {base}, subpath: {part}"
            ) from None
        reason = os.strerror(error.errno or ENOTDIR).lower()
        raise InvalidParameter(f'error while resolving symlinks in combined path "{base}/{part}": {reason}') from None


def _part(settings: "Settings", container_id: str, point: "MountPoint") -> str:
    """Mount a part of a volume or image at a place of its own; that place."""
    fd = open_source(point)
    try:
        at = place(settings, container_id, point["Destination"]) + "-part"
        os.makedirs(os.path.dirname(at), 0o700, exist_ok=True)
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            os.mkdir(at, 0o700)
        else:
            os.close(os.open(at, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        kernel.mount(f"/proc/self/fd/{fd}", at, flags=kernel.MS_BIND)
    finally:
        os.close(fd)
    return at


def _image(settings: "Settings", container_id: str, point: "MountPoint") -> None:
    """Mount an image's layers, read-only but in a build. An empty directory below them lets even one layer be an
    overlay."""
    from service.content import rootfs

    at, empty = point["Source"], _folder(settings, container_id) + "/empty"
    for path in (empty, at):
        os.makedirs(path, 0o755, exist_ok=True)
    below = [rootfs.layer_path(settings, layer) for layer in reversed(point["Layers"])]
    try:
        if below or point.get("Upper"):
            rootfs.overlay(at, [*below, empty], point.get("Upper") or "", point.get("Work") or "")
    except OSError as error:
        raise SystemFailure(f"error creating overlay mount to {at}: {os.strerror(error.errno or 0).lower()}") from error


def release(settings: "Settings", container_id: str) -> None:
    """Take away what `prepare` mounted at places of its own. Idempotent."""
    folder = _folder(settings, container_id)
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in sorted(names, reverse=True):  # a part of an image before the image
        while kernel.detach(f"{folder}/{name}"):
            pass


def release_volumes(settings: "Settings", database: "Database", record: "ContainerRecord") -> None:
    """Take away the file systems of volumes that nobody uses any more. After the container's `holds` is gone."""
    foreign = {p["Name"] for p in record["Mounts"] if p["Type"] == "volume" and p["Driver"] != "local"}
    if foreign:
        from service.engine import volume_drivers, volumes

        with volumes.exclusively(settings, foreign):
            for name in sorted(foreign):
                volume_drivers.unmount(settings, name, record["Id"])
    named = {point["Name"] for point in record["Mounts"] if point.get("Device")}
    if named:
        from service.engine import volumes

        with volumes.exclusively(settings, named):
            for name in named:
                volumes.unmount_unless_held(settings, database, name)
