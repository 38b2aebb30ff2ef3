"""COPY and ADD by BuildKit's rules, where they differ from those of the classic builder (`content.copying`).

Source: behaviour of buildkit's solver/llbsolver/file and tonistiigi/fsutil's copy.
"""

import os
import stat

from service.content import copying
from service.content.copying import Copied, Copier, resolved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


_CAPABILITY = "security.capability"
_ENOTDIR, _EISDIR = 20, 21


class LaterCopier(Copier):
    """`made`: the permissions of directories that no source describes; `left_out`: whether a path (relative to what is
    copied, or a file's name) stays behind."""

    def __init__(
        self,
        root: str,
        destination: str,
        owner: "tuple[int, int] | None",
        mode: "Callable[[int], int] | None" = None,
        *,
        made: int = 0o755,
        left_out: "Callable[[str], bool] | None" = None,
    ) -> None:
        super().__init__(root, destination, owner, mode)
        self.made, self.left_out = made, left_out

    def copy(self, wanted: Copied) -> None:
        """Copy a file or a directory's content. Raises OSError naming a path as the Dockerfile knows it."""
        self._one(wanted, self.destination)

    def no_directory(self, place: str) -> NotADirectoryError:
        """The error of a directory for which there is no room."""
        return NotADirectoryError(_ENOTDIR, f"cannot copy to non-directory: {place[len(self.root) :]}")

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
            raise self.no_directory(target)
        self._parents(target, "", self.made)
        self._merge(source, target, ((path, _is_folder(full), True) for full, path in copying.below(source)))
        if fresh:
            _give_times(source, target)

    def _merge(self, source: str, target: str, entries: "Iterable[tuple[str, bool, bool]]") -> None:
        """Copy what goes along, with the directories on the way to it. `entries`: (path from `source`, whether it is a
        directory, whether it goes along), a directory before its content."""
        seen: dict[tuple[int, int], str] = {}
        on_the_way: list[str] = []  # directories of which nothing has gone along yet
        folders: list[str] = []
        for path, is_folder, goes in entries:
            while on_the_way and not path.startswith(f"{on_the_way[-1]}/"):
                on_the_way.pop()
            if not goes or (self.left_out is not None and self.left_out(path)):
                if is_folder:
                    on_the_way.append(path)
                continue
            folders += self._made(source, target, on_the_way)
            on_the_way.clear()
            self._entry(f"{source}/{path}", f"{target}/{path}", seen)
            if is_folder:
                folders.append(path)
        for path in reversed(folders):
            _give_times(f"{source}/{path}", f"{target}/{path}")

    def _made(self, source: str, target: str, folders: "list[str]") -> "Iterator[str]":
        """Make directories on the way, and say which were made; of one that is there only the permissions change."""
        for path in folders:
            place, status = f"{target}/{path}", os.lstat(f"{source}/{path}")
            try:
                os.mkdir(place)
            except FileExistsError:
                if not _is_folder(place):
                    raise self.no_directory(place) from None
                os.chmod(place, stat.S_IMODE(status.st_mode))
                continue
            self._attributes(f"{source}/{path}", place, status)
            yield path

    def _entry(self, source: str, target: str, seen: "dict[tuple[int, int], str]") -> os.stat_result:
        """As the classic copy, but no file takes a directory's place, and no directory another's."""
        if os.path.lexists(target) and _is_folder(target) != _is_folder(source):
            if _is_folder(source):
                raise self.no_directory(target)
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


def _is_folder(path: str) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)


def _give_times(source: str, target: str) -> None:
    status = os.stat(source)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
