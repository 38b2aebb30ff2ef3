"""One layer's tar into one directory: what a process of its own does (`layer_program`).

The tar is read from standard input after chroot(2) into the directory: no name in it, no symbolic link and no hard link
can then mean anything outside, whatever the order of its entries. What it did is one line of JSON on standard output.

Whiteouts (OCI image-spec layer.md) take overlayfs' own form: a character device 0/0 for a removed name, the attribute
trusted.overlay.opaque for a directory whose lower content is hidden.

What is refused or left out: attributes that mean something to overlayfs itself (an image could otherwise redirect a
directory), and everything but files, links, directories, devices and FIFOs.
"""

import os
import stat

from service import jsontext
from service.content.tar import BadArchive, Entry, Reader, Source, clean
from service.kernel.tree import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
OPAQUE_ATTRIBUTE = "trusted.overlay.opaque"
ENOTSUP, EPERM, EINVAL = 95, 1, 22


class Unpacker:
    """Writes members below the current root."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.size = 0
        self.implied: list[str] = []
        self.directories: dict[str, int] = {}  # mtimes, set at the end: every new entry changes its directory's
        self.known = {""}  # directories that exist
        self.whiteouts: set[str] = set()
        # While no set-group-id directory and no default ACL exist, a new file has just the owner and mode asked for.
        self.plain = True
        self.replaced = False

    def run(self) -> "dict[str, Any]":
        """Unpack everything; what the layer weighs, and the directories that no member described."""
        reader = Reader(self.source)
        while (entry := reader.next()) is not None:
            left = entry.size
            try:
                taken = self._write(entry)
            except OSError as error:
                raise BadArchive(f"{_verb(entry)} /{clean(entry.name)}: {_reason(error)}") from error
            self.source.skip(left - taken)
            self.source.pad(left)
        self.source.drain()
        for path, mtime in self.directories.items():
            try:
                os.utime("/" + path, ns=(mtime, mtime), follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                continue  # replaced later in the same layer
        return {"size": weigh() if self.replaced else self.size, "implied": self.implied}

    def _write(self, entry: Entry) -> int:
        """Make one member; how many bytes of its data were read."""
        path = clean(entry.name)
        parent, _, name = path.rpartition("/")
        if name.startswith(WHITEOUT):
            self._parents(parent)
            self._whiteout(entry, parent, name)
            return 0
        if path:
            self._parents(parent)
            if not self._make_room(entry, path):
                self._attributes(entry, "/" + path, fresh=False)
                return 0
        full = "/" + path
        kind = entry.kind
        if kind == "0":
            return self._file(entry, full)
        if kind == "5":
            if path:
                os.mkdir(full, entry.mode & 0o1777)
                self.known.add(path)
                if path in self.whiteouts:
                    self._hide_lower(full)
            self._attributes(entry, full, fresh=bool(path))
            self.directories[path] = entry.mtime_ns
            return 0
        if kind == "1":
            target = "/" + clean(entry.link)
            os.link(target, full, follow_symlinks=False)
            if stat.S_ISLNK(os.lstat(full).st_mode):  # of which dockerd changes the owner only
                os.chown(full, entry.uid, entry.gid, follow_symlinks=False)
                return 0
        elif kind == "2":
            os.symlink(entry.link, full)
            self.size += len(os.fsencode(entry.link))
        elif kind in "34":
            form = stat.S_IFCHR if kind == "3" else stat.S_IFBLK
            os.mknod(full, form | entry.mode, os.makedev(entry.major, entry.minor))
        elif kind == "6":
            os.mknod(full, stat.S_IFIFO | entry.mode)
        else:
            raise BadArchive(f"unhandled tar header type {ord(kind)}")
        self._attributes(entry, full, fresh=kind != "1")
        return 0

    def _file(self, entry: Entry, full: str) -> int:
        fd = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, entry.mode & 0o1777)
        try:
            self.source.write(entry, fd)
            if entry.uid or entry.gid or not self.plain:
                os.fchown(fd, entry.uid, entry.gid)
                os.fchmod(fd, entry.mode)
            elif entry.mode & 0o6000:
                os.fchmod(fd, entry.mode)
            if entry.xattrs:
                self._xattrs(entry, full)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)
        self.size += entry.real_size
        return entry.size

    def _attributes(self, entry: Entry, full: str, *, fresh: bool) -> None:
        """Owner, mode, extended attributes and time, in the order in which they do not undo one another."""
        if entry.uid or entry.gid or not self.plain or not fresh or entry.kind == "2":
            os.chown(full, entry.uid, entry.gid, follow_symlinks=False)
        if entry.kind != "2":
            os.chmod(full, entry.mode)
            if entry.kind == "5" and entry.mode & 0o2000:
                self.plain = False
        self._xattrs(entry, full)
        os.utime(full, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)

    def _xattrs(self, entry: Entry, full: str) -> None:
        for name, value in entry.xattrs.items():
            if name.startswith(("trusted.overlay.", "user.overlay.")):
                continue
            if name.startswith("system.posix_acl"):
                self.plain = False
            try:
                os.setxattr(full, name, value, follow_symlinks=False)
            except OSError as error:
                # a file system without them, or an attribute that this kind of file cannot have
                if error.errno not in (ENOTSUP, EPERM):
                    raise

    def _parents(self, path: str) -> None:
        """Make the directories of `path` that no member has described (yet)."""
        missing = []
        while path not in self.known:
            missing.append(path)
            path = path.rpartition("/")[0]
        for path in reversed(missing):
            full = "/" + path
            try:
                os.mkdir(full, 0o755)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(full).st_mode):  # a link to a directory of this layer is followed
                    raise NotADirectoryError(20, os.strerror(20), full) from None
            else:
                if not self.plain:
                    os.chown(full, 0, 0)
                    os.chmod(full, 0o755)  # noqa: S103 - what dockerd gives a directory that no member describes
                self.implied.append(path)
                if path in self.whiteouts:
                    self._hide_lower(full)
            self.known.add(path)

    def _make_room(self, entry: Entry, path: str) -> bool:
        """Remove what an earlier member left at `path`. False when both are directories: that one is kept."""
        full = "/" + path
        try:
            there = os.lstat(full)
        except FileNotFoundError:
            return True
        if stat.S_ISDIR(there.st_mode):
            if entry.kind == "5":
                self.directories[path] = entry.mtime_ns
                self.known.add(path)
                if path in self.implied:
                    self.implied.remove(path)
                return False
            below = path + "/"
            self.directories.pop(path, None)
            self.implied = [known for known in self.implied if known != path and not known.startswith(below)]
        if path in self.known:  # a directory, or a link to one
            below = path + "/"
            self.known = {known for known in self.known if known != path and not known.startswith(below)}
        self.replaced = True
        remove_tree(full)
        return True

    def _whiteout(self, entry: Entry, parent: str, name: str) -> None:
        """A whiteout speaks of the lower layers only: what this layer itself brings stays, in either order."""
        if name == OPAQUE:
            self._hide_lower("/" + parent)
            return
        if name.startswith(WHITEOUT + WHITEOUT):
            return  # bookkeeping of aufs, no whiteout
        hidden = name[len(WHITEOUT) :]
        if hidden in ("", ".", ".."):
            raise BadArchive(f"invalid whiteout {entry.name!r}")
        path = f"{parent}/{hidden}" if parent else hidden
        self.whiteouts.add(path)
        full = "/" + path
        try:
            os.mknod(full, stat.S_IFCHR, 0)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(full).st_mode):
                self._hide_lower(full)

    @staticmethod
    def _hide_lower(full: str) -> None:
        os.setxattr(full, OPAQUE_ATTRIBUTE, b"y")


def weigh() -> int:
    """The bytes of everything but directories below the root, each inode once."""
    total = 0
    seen: set[int] = set()
    folders = ["/"]
    while folders:
        folder = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    folders.append(f"{folder}{entry.name}/")
                elif status.st_ino not in seen:
                    seen.add(status.st_ino)
                    total += status.st_size
    return total


def _verb(entry: Entry) -> str:
    return {"0": "write", "1": "link", "2": "symlink", "5": "mkdir"}.get(entry.kind, "mknod")


def _reason(error: OSError) -> str:
    reason = os.strerror(error.errno or EINVAL)
    return reason[:1].lower() + reason[1:]


def unpack(directory: str) -> None:
    """Unpack standard input into `directory`, and say on standard output what that was."""
    os.umask(0)
    os.chroot(directory)
    os.chdir("/")
    try:
        done = Unpacker(Source(0)).run()
    except BadArchive as error:
        done = {"error": str(error)}
    os.write(1, jsontext.dump_bytes(done))
