"""COPY and ADD by BuildKit's rules, where they differ from those of the classic builder (`content.copying`).

Source: behaviour of buildkit's solver/llbsolver/file and tonistiigi/fsutil's copy.
"""

import os
import stat

from service.content import copying
from service.content.copying import Copied, Copier, resolved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


_CAPABILITY = "security.capability"
_ENOTDIR, _EISDIR = 20, 21


class LaterCopier(Copier):
    """`made`: the permissions of directories that no source describes; `left_out`: whether a path (relative to what is
    copied, or a file's name) stays behind; `parents`: the directories above a source are made below the destination,
    with its attributes."""

    def __init__(
        self,
        root: str,
        destination: str,
        owner: "tuple[int, int] | None",
        mode: "Callable[[int], int] | None" = None,
        *,
        made: int = 0o755,
        left_out: "Callable[[str], bool] | None" = None,
        parents: bool = False,
    ) -> None:
        super().__init__(root, destination, owner, mode)
        self.made, self.left_out, self.parents = made, left_out, parents

    def copy(self, wanted: Copied) -> None:
        """Copy a file or a directory's content. Raises OSError naming a path as the Dockerfile knows it."""
        if not self.parents:
            self._one(wanted, self.destination)
            return
        path = os.path.normpath("/" + wanted.path)
        pivot = wanted.path.find("/./")
        if pivot >= 0:
            path = os.path.normpath("/" + wanted.path[pivot + 3 :])
        is_folder = stat.S_ISDIR(os.lstat(resolved(wanted.root, wanted.path)).st_mode)
        above = path if is_folder else os.path.dirname(path)
        place = self.destination.rstrip("/")
        top = wanted.path[: pivot + 1] if pivot >= 0 else ""
        for part in (part for part in above.split("/") if part):
            place, top = f"{place}/{part}", f"{top}/{part}"
            target = resolved(self.root, place)
            if not os.path.lexists(target):
                self._parents(os.path.dirname(target), "", self.made)
                os.mkdir(target)
                self._attributes(resolved(wanted.root, top), target, os.stat(resolved(wanted.root, top)))
        self._one(wanted, place + "/")

    def _one(self, wanted: Copied, destination: str) -> None:
        source = resolved(wanted.root, wanted.path)
        target = resolved(self.root, destination)
        if stat.S_ISDIR(os.lstat(source).st_mode):
            if destination.endswith("/"):
                self._parents(target, "", self.made)
            self._directory(source, target)
            return
        name = os.path.basename(wanted.path)
        if self.left_out is not None and self.left_out(name):
            return
        if destination.endswith("/") or os.path.isdir(target):
            target = f"{target}/{name}"
        self._parents(os.path.dirname(target), "", self.made)
        self._entry(source, target, {})

    def _directory(self, source: str, target: str) -> None:
        fresh = not os.path.lexists(target)
        if not fresh and not os.path.isdir(target):
            raise NotADirectoryError(_ENOTDIR, f"cannot copy to non-directory: {target[len(self.root) :]}")
        self._parents(target, "", self.made)
        seen: dict[tuple[int, int], str] = {}
        folders: list[tuple[str, os.stat_result]] = [(target, os.stat(source))] if fresh else []
        for full, name in copying.below(source):
            if self.left_out is not None and self.left_out(name):
                continue
            if self.left_out is not None and not os.path.isdir(os.path.dirname(f"{target}/{name}")):
                self._parents(os.path.dirname(f"{target}/{name}"), "", self.made)
            status = self._entry(full, f"{target}/{name}", seen)
            if stat.S_ISDIR(status.st_mode):
                folders.append((f"{target}/{name}", status))
        for path, status in reversed(folders):
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _entry(self, source: str, target: str, seen: "dict[tuple[int, int], str]") -> os.stat_result:
        """As the classic copy, but no file takes a directory's place."""
        if os.path.isdir(target) and not os.path.islink(target) and not stat.S_ISDIR(os.lstat(source).st_mode):
            place = target[len(self.root) :]
            raise IsADirectoryError(_EISDIR, f"cannot replace to directory {place} with file")
        return super()._entry(source, target, seen)

    def _attributes(self, source: str, target: str, status: os.stat_result) -> None:
        """A new owner comes first: it takes neither set-user-id nor capabilities away."""
        is_link = stat.S_ISLNK(status.st_mode)
        os.chown(target, *(self.owner or (status.st_uid, status.st_gid)), follow_symlinks=False)
        if not is_link:
            os.chmod(target, self.mode(status.st_mode))
            capability = copying.capability(source)
            if capability:
                os.setxattr(target, _CAPABILITY, capability, follow_symlinks=False)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
