"""What a container's writable layer changes in the image below it: that layer alone is walked, however large the image.

The rules are dockerd's (moby: go-archive, FileInfo.addChanges): a file is changed when its mode, owner, device, size or
time of modification is; a directory when its mode or owner is, or when something in it is; of what was removed with all
its content, only the top is told. The form of removals is overlayfs' (Documentation/filesystems/overlayfs.rst).
"""

import os
import stat

from service.kernel.openat2 import open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MODIFIED, ADDED, DELETED = 0, 1, 2
_OPAQUE = "trusted.overlay.opaque"
_CAPABILITY = "security.capability"
_SECOND = 1_000_000_000


def changes(upper: str, lower: "Sequence[str]") -> "list[tuple[str, int]]":
    """(path, kind) sorted by path. `lower`: the layers' directories, the uppermost first. Blocking."""
    found: dict[str, int] = {}
    walk = [_Directory("", tuple(lower), alone=False)]
    while walk:
        walk += walk.pop().compare(upper, found)
    for path in list(found):
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            found[parent] = MODIFIED
            parent = parent.rpartition("/")[0]
    return sorted(found.items())


class _Directory:
    """One directory of the writable layer. `below`: the layers that have it too, the uppermost first; `alone`: what
    they hold in it is not seen unless it is in the writable layer as well."""

    def __init__(self, path: str, below: "tuple[str, ...]", *, alone: bool) -> None:
        self.path, self.below, self.alone = path, below, alone

    def compare(self, upper: str, found: "dict[str, int]") -> "list[_Directory]":
        """Note what has changed in it, not deeper; the directories in it that are to be compared as well."""
        opened: list[int] = []
        further: list[_Directory] = []
        try:
            try:
                for layer in (upper, *self.below):
                    opened.append(open_in_root(layer, self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))
            except OSError:
                return []  # removed meanwhile, or the path is too long for the kernel
            names = os.listdir(opened[0])
            for name in names:
                self._entry(opened, name, found, further)
            if self.alone:
                for name in {name for fd in opened[1:] for name in os.listdir(fd)}.difference(names):
                    if self._lower(opened[1:], name)[0] is not None:
                        found[f"{self.path}/{name}"] = DELETED
        finally:
            for fd in opened:
                os.close(fd)
        return further

    def _entry(self, opened: "list[int]", name: str, found: "dict[str, int]", further: "list[_Directory]") -> None:
        try:
            new = os.stat(name, dir_fd=opened[0], follow_symlinks=False)
        except FileNotFoundError:
            return
        path = f"{self.path}/{name}"
        old, holders = self._lower(opened[1:], name)
        if _is_whiteout(new):
            if old is not None:
                found[path] = DELETED
            return
        if old is None:
            found[path] = ADDED
        elif _differ(old, new) or _capability(opened[0], name, new) != _capability(opened[1:], name, new):
            found[path] = MODIFIED
        if stat.S_ISDIR(new.st_mode):
            further.append(_Directory(path, holders, alone=self.alone or _is_opaque(opened[0], name)))

    def _lower(self, opened: "list[int]", name: str) -> "tuple[os.stat_result | None, tuple[str, ...]]":
        """What the image has under that name, and, for a directory, the layers that have a part in it."""
        first: os.stat_result | None = None
        holders: list[str] = []
        for fd, layer in zip(opened, self.below, strict=True):
            try:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if _is_whiteout(status) or (first is not None and not stat.S_ISDIR(status.st_mode)):
                break
            first = first or status
            if not stat.S_ISDIR(status.st_mode):
                break
            holders.append(layer)
            if _is_opaque(fd, name):
                break
        return first, tuple(holders)


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _attribute(fd: int, name: str, attribute: str) -> bytes:
    try:
        return os.getxattr(f"/proc/self/fd/{fd}/{name}", attribute, follow_symlinks=False)
    except OSError:
        return b""  # no such attribute, or no file any more


def _is_opaque(fd: int, name: str) -> bool:
    return _attribute(fd, name, _OPAQUE) == b"y"


def _capability(folders: "int | Sequence[int]", name: str, status: os.stat_result) -> bytes:
    """The file's capabilities in the (uppermost) folder that has it."""
    if not stat.S_ISREG(status.st_mode):
        return b""
    if isinstance(folders, int):
        return _attribute(folders, name, _CAPABILITY)
    for fd in folders:
        if os.path.lexists(f"/proc/self/fd/{fd}/{name}"):
            return _attribute(fd, name, _CAPABILITY)
    return b""


def _differ(old: os.stat_result, new: os.stat_result) -> bool:
    for key in ("st_mode", "st_uid", "st_gid", "st_rdev"):
        if getattr(old, key) != getattr(new, key):
            return True
    if stat.S_ISDIR(new.st_mode):
        return False
    return old.st_size != new.st_size or not _same_time(old.st_mtime_ns, new.st_mtime_ns)


def _same_time(one: int, other: int) -> bool:
    """Whether two times are equal as far as both are told: a tar may have rounded one to seconds."""
    if one == other:
        return True
    return one // _SECOND == other // _SECOND and not (one % _SECOND and other % _SECOND)
