"""Copy-up: a volume that is empty begins with what the image has at its place (Docker does it once, at create)."""

import os

from service.engine import mount_sources, volumes
from service.errors import InvalidParameter, NotFound, SystemFailure
from service.kernel.tree import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.engine.engine import Engine
    from service.engine.mounts import Plan
    from service.model.container import ContainerRecord, MountPoint


def populate(engine: "Engine", record: "ContainerRecord", planned: "Plan") -> None:
    """Fill the empty volumes of a container that is being created. Blocking; under `volumes.exclusively`.

    Raises InvalidParameter when the image has a file where an anonymous volume is to be.
    """
    from service.content import rootfs

    wanted = [mount for mount in record["Mounts"] if mount["Type"] == "volume" and not mount.get("NoCopy")]
    mounted: list[str] = []
    foreign: list[str] = []
    merged = ""
    try:
        for mount in wanted:
            if mount["Driver"] != "local":
                from service.engine import volume_drivers

                foreign.append(mount["Name"])
                place = volume_drivers.mount(engine.settings, mount["Driver"], mount["Name"], record["Id"])
                mount = mount.copy()  # noqa: PLW2901 - the record keeps no place: it is the plugin's to change
                mount["Source"] = place
            elif mount.get("Device"):
                volumes.mount(engine.settings, planned.volumes[mount["Name"]])
                mounted.append(mount["Name"])
            if not mount.get("Anonymous") and not _is_empty(mount):
                continue
            merged = merged or rootfs.mount(engine.settings, record["Id"], record["Layers"])
            _copy_up(merged, mount)
    finally:
        if merged:
            rootfs.unmount(engine.settings, record["Id"])
            remove_tree(engine.settings.container_run(record["Id"]))  # made for the mount; a start makes it anew
        for name in foreign:
            from service.engine import volume_drivers

            volume_drivers.unmount(engine.settings, name, record["Id"])
        for name in mounted:
            volumes.unmount_unless_held(engine.settings, engine.store, name)


def _is_empty(mount: "MountPoint") -> bool:
    try:
        fd = mount_sources.open_source(mount)
    except (NotFound, InvalidParameter):
        return False  # a subpath that is not there (yet): the start says so
    try:
        return os.path.isdir(f"/proc/self/fd/{fd}") and not os.listdir(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _copy_up(merged: str, mount: "MountPoint") -> None:
    """All that the image has there, with owners, modes, times, links and attributes, and those of the directory."""
    from service.kernel.copy_tree import copy_tree
    from service.kernel.openat2 import open_in_root

    try:
        source = open_in_root(merged, mount["Destination"], os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        if mount.get("Anonymous"):
            raise InvalidParameter(
                f"cannot mount volume over existing file, file exists {merged}{mount['Destination']}"
            ) from None
        return
    try:
        target = mount_sources.open_source(mount)
        try:
            copy_tree(source, target)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise SystemFailure(f"failed to populate volume: {mount['Destination']}: {reason}") from error
        finally:
            os.close(target)
    finally:
        os.close(source)
