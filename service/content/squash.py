"""Several layers folded into one: what they change in all, in overlayfs' form, as if one container had written it.

For a program whose root directory holds the trees, each in a directory of its own (`service/build_files.py`). Source:
Documentation/filesystems/overlayfs.rst ("whiteouts and opaque directories").
"""

import os
import stat

from service.content.copying import Copier, below
from service.content.unpack import OPAQUE_ATTRIBUTE
from service.kernel.tree import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_OF_OVERLAY = "trusted.overlay."
_WHITEOUT = stat.S_IFCHR  # with device 0/0


def fold(target: str, base: str, layers: "Sequence[str]") -> None:
    """Write into `target`, which is empty, what `layers` (lowest first) change in `base`, the image below them."""
    folding = _Folding(target, base)
    for layer in layers:
        folding.add(layer)
    folding.finish()


class _Folding(Copier):
    def __init__(self, target: str, base: str) -> None:
        super().__init__(target, "/", None)
        self.base = base
        self.folders: dict[str, os.stat_result] = {}  # directories that were made, with what their last layer says

    def add(self, layer: str) -> None:
        """Put one layer over those that are in already."""
        seen: dict[tuple[int, int], str] = {}
        for full, name in below(layer):
            status = os.lstat(full)
            place = f"{self.root}/{name}"
            if _is_whiteout(status):
                remove_tree(place)
                if self._is_seen(name):
                    os.mknod(place, _WHITEOUT)
            elif stat.S_ISDIR(status.st_mode):
                self._folder(full, name, status)
            else:
                self._entry(full, place, seen)
                _attributes(full, place)

    def _folder(self, full: str, name: str, status: os.stat_result) -> None:
        place = f"{self.root}/{name}"
        hides = _is_opaque(full)
        there = os.lstat(place) if os.path.lexists(place) else None
        if there is None or not stat.S_ISDIR(there.st_mode):
            hides = hides or there is not None  # what stood there has hidden the base's directory
            remove_tree(place)
            seen = self._is_seen(name)
            os.mkdir(place)
            hides = hides and seen
        elif hides:
            hides = _is_opaque(place) or self._is_seen(name)
            for entry in os.listdir(place):
                remove_tree(f"{place}/{entry}")
        self._attributes(full, place, status)
        _attributes(full, place)
        if hides:
            os.setxattr(place, OPAQUE_ATTRIBUTE, b"y")
        self.folders[name] = status

    def finish(self) -> None:
        """Give directories their times, now that nothing is put into them any more."""
        for name, status in sorted(self.folders.items(), key=lambda entry: -entry[0].count("/")):
            place = f"{self.root}/{name}"
            if os.path.isdir(place) and not os.path.islink(place):
                os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _is_seen(self, name: str) -> bool:
        """Whether the base shows something under a name, through the directories that were folded so far."""
        *above, last = name.split("/")
        path = ""
        for part in above:
            path = f"{path}/{part}"
            if _is_opaque(self.root + path) or not _is_directory(self.base + path):
                return False
        return os.path.lexists(f"{self.base}{path}/{last}")


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, OPAQUE_ATTRIBUTE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _attributes(source: str, target: str) -> None:
    """The extended attributes, but for overlayfs' own."""
    try:
        names = os.listxattr(source, follow_symlinks=False)
    except OSError:
        return  # a file system without them
    for name in names:
        if not name.startswith(_OF_OVERLAY):
            value = os.getxattr(source, name, follow_symlinks=False)
            os.setxattr(target, name, value, follow_symlinks=False)
