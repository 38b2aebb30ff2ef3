"""A container's files as Docker shows them to `cp`: its root file system with its volumes and binds in their places.

For a program with a single thread (`service/container_files.py`): it makes the mounts in a namespace of its own and
then takes the result as its root directory. No name and no symbolic link can lead out of it, whatever the container
does meanwhile, and however the program ends nothing is left mounted. What a running container has in memory (tmpfs,
/proc, /dev) and what it mounted itself is not in it, as with dockerd.
"""

import os

from service.content import rootfs
from service.kernel import fstab, mount, mountns
from service.kernel.openat2 import open_beneath, open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypedDict

    from service.kernel.fstab import Device

    class Bind(TypedDict):
        """One directory or file of the machine, shown at `destination`."""

        source: str
        destination: str
        writable: bool
        recursive: bool
        part: str  # what of the source is shown; empty for all of it
        device: Device | None  # what is mounted on the source first, unless something is
        layers: list[str] | None  # an image's layers, the uppermost first, instead of a source

    class View(TypedDict):
        """What to show. All paths are the machine's; `layers` has the uppermost first."""

        merged: str  # where the root file system is mounted while the container runs
        layers: list[str]
        upper: str
        work: str
        binds: list[Bind]
        staging: str  # an empty directory of ours, to mount on
        writable: bool


_MOST_LINKS = 255
_EINVAL, _ELOOP = 22, 40


def enter(view: "View") -> bool:
    """Make the view, and make it this process's root. Whether it is the mount that the container itself uses.

    Raises OSError, also when a volume's file system cannot be mounted.
    """
    mountns.unshare()
    staging = view["staging"]
    root = staging + "/root"
    running = rootfs.is_mounted(view["merged"])
    mount.mount("view", staging, "tmpfs", mount.MS_NOSUID | mount.MS_NODEV, "mode=700")
    os.mkdir(root)
    if running:
        mount.mount(view["merged"], root, flags=mount.MS_BIND)
    elif view["writable"]:
        rootfs.overlay(root, view["layers"], view["upper"], view["work"])
    else:
        _throw_away(view, root)
    for number, bind in enumerate(view["binds"]):
        stage = f"{staging}/{number}"
        source = bind["source"]
        if bind["layers"] is not None:
            source = _image(bind["layers"], stage)
        elif bind["device"] and not mount.is_mounted(source):
            fstab.mount(bind["device"], source)
        _bind(bind, source, root, stage)
    mountns.restrict(root, mountns.NODEV | mountns.NOSUID)
    if not view["writable"]:
        mountns.restrict(root, mountns.RDONLY)
    mountns.enter(root)
    return running


def _throw_away(view: "View", root: str) -> None:
    """Mount a stopped container for reading: its writable layer lies below, and what is made here is in memory only.

    So the container may be started meanwhile: the kernel allows an upper directory in one mount, a lower one in many.
    """
    upper, work = view["staging"] + "/upper", view["staging"] + "/work"
    status = os.stat(view["upper"])
    for path in (upper, work):
        os.mkdir(path)
    os.chown(upper, status.st_uid, status.st_gid)
    os.chmod(upper, status.st_mode & 0o7777)
    os.utime(upper, ns=(status.st_atime_ns, status.st_mtime_ns))
    rootfs.overlay(root, [view["upper"], *view["layers"]], upper, work)


def _bind(bind: "Bind", source: str, root: str, stage: str) -> None:
    """Mount a source at its place in `root`: made ready aside, then moved onto a descriptor of the place, which is
    found with `root` as the root directory, so that no link in the container leads the mount elsewhere."""
    opened = -1
    if bind["part"]:
        opened = open_beneath(source, os.path.normpath(bind["part"]), os.O_PATH)
        source = f"/proc/self/fd/{opened}"
    directory = os.path.isdir(source)
    if directory:
        os.mkdir(stage)
    else:
        os.close(os.open(stage, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    mount.mount(source, stage, flags=mount.MS_BIND | (mount.MS_REC if bind["recursive"] else 0))
    if opened >= 0:
        os.close(opened)
    if not bind["writable"]:
        mountns.restrict(stage, mountns.RDONLY)
    place = _place(root, bind["destination"], directory)
    try:
        mount.mount(stage, f"/proc/self/fd/{place}", flags=mount.MS_MOVE)
    finally:
        os.close(place)


def _image(layers: "Sequence[str]", stage: str) -> str:
    """Mount an image's layers beside `stage`; where. An empty directory below lets one layer be an overlay, too."""
    empty, joined = stage + "-empty", stage + "-image"
    for path in (empty, joined):
        os.mkdir(path, 0o755)
    if layers:
        rootfs.overlay(joined, [*layers, empty])
    return joined


def _place(root: str, path: str, directory: bool) -> int:
    """A descriptor of a mount point, which is made (with its parents, mode 0755) where it is missing."""
    try:
        return open_in_root(root, path, os.O_PATH)
    except FileNotFoundError:
        return open_in_root(root, _make(root, path, directory), os.O_PATH)


def _make(root: str, path: str, directory: bool) -> str:
    """Make a mount point where the links of `path` lead, also those that lead to nothing yet; where that is."""
    left = path.split("/")[::-1]
    at, links = "/", 0
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            at = os.path.dirname(at)
            continue
        parent = open_in_root(root, at, os.O_PATH | os.O_DIRECTORY)
        try:
            target = _link_or_new(parent, part, directory=directory or any(left))
        finally:
            os.close(parent)
        if not target:
            at = f"{at.rstrip('/')}/{part}"
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(_ELOOP, os.strerror(_ELOOP), path)
        at = "/" if target.startswith("/") else at
        left += target.split("/")[::-1]
    return at


def _link_or_new(parent: int, name: str, *, directory: bool) -> str:
    """The target of the link `name`; else empty, and something is there now: what was there before, or a new one."""
    try:
        return os.readlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != _EINVAL:
            raise
        return ""  # it is no link
    if directory:
        os.mkdir(name, 0o755, dir_fd=parent)
    else:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o755, dir_fd=parent))
    return ""
