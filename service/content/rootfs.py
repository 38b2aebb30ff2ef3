"""A container's root file system: the image's layers below, one writable layer on top, joined by overlayfs.

Synchronous and lean: the service calls it in a thread, the exit hook and the boot unit call it directly. Each function
may be called again after a crash at any line of itself.

    <root>/layers/<name>/diff            an unpacked layer, whiteouts in overlayfs' own form (content.layers)
    <root>/layers/base/diff              what every container finds even when its image lacks it; below all layers
    <root>/containers/<id>/{diff,work}   upper and work directory
    <run>/containers/<id>/rootfs         where they are mounted together

A layer is called by its short directory name everywhere outside this module; the record of a container and the store
stay true when the root moves.
"""

import os

from service.errors import SystemFailure
from service.kernel import mount as kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.settings import Settings

BASE = "base"
PAGE = 4095  # bytes that mount(2) takes as data, without the closing NUL (`man 2 mount`)
# Our layers never carry redirects or metacopies; refusing to follow them makes one smuggled in harmless.
FIXED_OPTIONS = "index=off,redirect_dir=nofollow,metacopy=off"
EINVAL, EBUSY, ENOENT = 22, 16, 2


def layer_path(settings: "Settings", layer: str) -> str:
    """The directory of an unpacked layer (or, given an absolute path, that path)."""
    return layer if layer[:1] == "/" else f"{settings.root}/layers/{layer}/diff"


def lower_paths(settings: "Settings", layers: "Sequence[str]") -> list[str]:
    """The directories below a container's writable layer, the uppermost first. `layers`: names, lowest first."""
    return [layer_path(settings, layer) for layer in (*reversed(layers), BASE)]


def merged_path(settings: "Settings", container_id: str) -> str:
    """Where a container's root file system is mounted while it is."""
    return settings.container_run(container_id) + "/rootfs"


def prepare(settings: "Settings", container_id: str) -> None:
    """Make the writable layer of a new container, empty."""
    _make_base(settings)
    home = settings.container_root(container_id)
    for path, mode in (
        (settings.root + "/containers", 0o711),
        (home, 0o711),
        (home + "/diff", 0o755),
        (home + "/work", 0o700),
    ):
        _make(path, mode)
    # mkdir obeys the umask, and the mode of diff is the mode of the container's "/"
    os.chmod(home + "/diff", 0o755)  # noqa: S103 - the mode of "/" in every container


def mount(settings: "Settings", container_id: str, layers: "Sequence[str]", *, volatile: bool = False) -> str:
    """Join `layers` (lowest first) and the writable layer; the path of the result. Mounted already: only says where.

    `volatile`: as `overlay` says. Raises SystemFailure when the kernel refuses.
    """
    merged = merged_path(settings, container_id)
    if is_mounted(merged):
        return merged
    _make_base(settings)
    for path in (settings.run, settings.run + "/containers", settings.container_run(container_id), merged):
        _make(path, 0o711)
    home = settings.container_root(container_id)
    try:
        overlay(merged, lower_paths(settings, layers), home + "/diff", home + "/work", volatile=volatile)
    except OSError as error:
        raise SystemFailure(
            f"error creating overlay mount to {merged}: {os.strerror(error.errno or EINVAL)}"
        ) from error
    return merged


def overlay(target: str, below: "Sequence[str]", upper: str = "", work: str = "", *, volatile: bool = False) -> None:
    """Mount overlayfs on `target`: absolute paths, the uppermost of `below` first; read-only without `upper`.

    `volatile`: what is written need not outlive the machine (kernel: filesystems/overlayfs.rst, "Volatile mount").
    fsync(2) does nothing then; without it, even the end of the mount waits until all that is dirty on the whole file
    system is on the disk.

    The options must fit one page. Paths that are too long together, or that hold a character with a meaning of its
    own there, are given by descriptor: /proc/self/fd/N, and what is below N by its last two components.
    Raises OSError.
    """
    if upper:
        _forget_volatile(work)
    fixed = f"{FIXED_OPTIONS},volatile" if volatile else FIXED_OPTIONS
    options = _options(below, upper, work, fixed)
    if len(os.fsencode(options)) <= PAGE and not any(c in path for path in (*below, upper, work) for c in ":,\\"):
        kernel.mount("overlay", target, "overlay", 0, options)
        return
    opened: dict[str, int] = {}
    try:
        by_descriptor = [_short(path, opened) for path in (*below, *filter(None, (upper, work)))]
        count = len(below)
        above = (*by_descriptor[count:], "", "")
        options = _options(by_descriptor[:count], above[0], above[1], fixed)
        if len(options) > PAGE:
            raise OSError(7, os.strerror(7), target)  # E2BIG
        kernel.mount("overlay", target, "overlay", 0, options)
    finally:
        for fd in opened.values():
            os.close(fd)


def _options(below: "Sequence[str]", upper: str, work: str, fixed: str) -> str:
    writable = f",upperdir={upper},workdir={work}" if upper else ""
    return f"lowerdir={':'.join(below)}{writable},{fixed}"


def _forget_volatile(work: str) -> None:
    """Take away the mark of an earlier volatile mount, which the kernel refuses to mount over: it cannot know whether
    the machine went down since. Those who ask for such mounts throw away what is written when it did."""
    mark = os.path.join(work, "work", "incompat")
    if os.path.lexists(mark):
        from service.kernel.tree import remove_tree

        remove_tree(mark)


def _short(path: str, opened: "dict[str, int]") -> str:
    """`path` spelled from the descriptor of its grandparent, when its last components can be written plainly."""
    top, middle = os.path.split(os.path.dirname(path))
    last = os.path.basename(path)
    tail = f"/{middle}/{last}"
    if len(tail) > 20 or any(c in tail for c in ":,\\"):
        top, tail = path, ""
    if top not in opened:
        opened[top] = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{opened[top]}{tail}"


def is_mounted(path: str) -> bool:
    """Whether something is mounted on the directory `path`; overlayfs has a device number of its own."""
    try:
        return os.stat(path).st_dev != os.stat(os.path.dirname(path)).st_dev
    except FileNotFoundError:
        return False


def unmount(settings: "Settings", container_id: str) -> None:
    """Take the mount away (lazily: what still uses it keeps it), and its directory. Not mounted: nothing to do."""
    merged = merged_path(settings, container_id)
    try:
        while kernel.detach(merged):
            pass  # a crash between two starts may have left one upon the other
    except OSError as error:
        raise SystemFailure(f"unmount {merged}: {os.strerror(error.errno or EINVAL)}") from error
    try:
        os.rmdir(merged)
    except OSError as error:
        if error.errno != ENOENT:
            raise SystemFailure(f"remove {merged}: {os.strerror(error.errno or EBUSY)}") from error


def remove(settings: "Settings", container_id: str) -> None:
    """Delete <root>/containers/<id> with all that is in it: the writable layer, the log, hosts and the like."""
    from service.kernel.tree import remove_tree

    remove_tree(settings.container_root(container_id))


def graph_data(settings: "Settings", container_id: str, layers: "Sequence[str]") -> "dict[str, str]":
    """Inspect's GraphDriver.Data of a container, in the keys of Docker's overlay2 driver."""
    home = settings.container_root(container_id)
    return {
        "LowerDir": ":".join(lower_paths(settings, layers)),
        "MergedDir": merged_path(settings, container_id),
        "UpperDir": home + "/diff",
        "WorkDir": home + "/work",
    }


# What a runtime needs to find: places for its own mounts, so that it need not make them in the writable layer (where
# `docker diff` and `commit` would show them). Below the image's layers, so that the image's own always win.
_BASE_DIRECTORIES = ("dev", "dev/pts", "dev/shm", "etc", "proc", "sys")
_BASE_FILES = (".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf")


def _make_base(settings: "Settings") -> None:
    home = f"{settings.root}/layers/{BASE}"
    if os.path.isdir(home):
        return
    making = f"{home}.{os.getpid()}.{os.urandom(4).hex()}"
    for path in (settings.root, settings.root + "/layers"):
        _make(path, 0o711)
    os.mkdir(making, 0o711)
    os.mkdir(making + "/diff", 0o755)
    os.chmod(making + "/diff", 0o755)  # noqa: S103 - the mode of "/" in every container
    for name in _BASE_DIRECTORIES:
        os.mkdir(f"{making}/diff/{name}", 0o755)
        os.chmod(f"{making}/diff/{name}", 0o755)  # noqa: S103 - as dockerd makes them
    for name in _BASE_FILES:
        os.close(os.open(f"{making}/diff/{name}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o755))
        os.chmod(f"{making}/diff/{name}", 0o755)  # noqa: S103 - as dockerd makes them
    os.symlink("/proc/mounts", making + "/diff/etc/mtab")
    try:
        os.rename(making, home)
    except OSError:  # another process was faster; a rename onto a directory that is not empty fails
        from service.kernel.tree import remove_tree

        remove_tree(making)


def _make(path: str, mode: int) -> None:
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
