"""A file tree described, so that two of them can be compared; and the tree that an image's layers make."""

import hashlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_OF_OVERLAYFS = "trusted.overlay."  # what the file system itself writes


def tree(root: str) -> dict[str, dict[str, Any]]:
    """What a user could see of each file below `root` (itself is "."): kind, owner, mode, time, xattrs, content, links.

    Files that are one by hard links have the same `same`: the first of their names in order.
    """
    described: dict[str, dict[str, Any]] = {}
    seen: dict[tuple[int, int], str] = {}
    for path in _paths(root):
        name = os.path.relpath(path, root)
        status = os.lstat(path)
        entry: dict[str, Any] = {
            "mode": f"{status.st_mode:o}", "owner": (status.st_uid, status.st_gid), "mtime": status.st_mtime_ns,
            "xattrs": {
                key: os.getxattr(path, key, follow_symlinks=False).hex()
                for key in os.listxattr(path, follow_symlinks=False)
                if not key.startswith(_OF_OVERLAYFS)
            },
        }  # fmt: skip
        if stat.S_ISLNK(status.st_mode):
            entry["target"] = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            entry["content"] = (status.st_size, _digest(path))
        elif not stat.S_ISDIR(status.st_mode):
            entry["device"] = (os.major(status.st_rdev), os.minor(status.st_rdev))
        if not stat.S_ISDIR(status.st_mode):
            entry["same"] = seen.setdefault((status.st_dev, status.st_ino), name)
            entry["links"] = status.st_nlink
        described[name] = entry
    return described


def _paths(root: str) -> Iterator[str]:
    yield root
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted((*folders, *files)):
            yield os.path.join(folder, name)


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def layers_mounted(graph_driver: Mapping[str, str]) -> Iterator[str]:
    """The tree of an image for reading, from what its inspection says under GraphDriver.Data (overlay2's keys)."""
    directories = [graph_driver["UpperDir"], *filter(None, graph_driver.get("LowerDir", "").split(":"))]
    if len(directories) == 1:
        yield directories[0]
        return
    with tempfile.TemporaryDirectory(prefix="tree-") as target:
        options = "ro,lowerdir=" + ":".join(directories)
        subprocess.run(["mount", "-t", "overlay", "-o", options, "compared", target], check=True)
        try:
            yield target
        finally:
            subprocess.run(["umount", target], check=True)


def unlike(one: Mapping[str, Mapping[str, Any]], other: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What differs between two trees, a line each."""
    found = []
    for name in sorted(one.keys() | other.keys()):
        if name not in one or name not in other:
            found.append(f"{name}: only in the {'first' if name in one else 'second'}")
            continue
        found += [
            f"{name}: {field}: {one[name].get(field)} / {other[name].get(field)}"
            for field in sorted(one[name].keys() | other[name].keys())
            if one[name].get(field) != other[name].get(field)
        ]
    return found
