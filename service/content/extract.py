"""A tar into a directory that is in use: what `docker cp` brings, merged with what is there.

Unlike a layer (`unpack`), members go over files that a running container may change at the same time, and nothing in
their names has a meaning (no whiteouts). For a program whose root directory is the container's: then a symbolic link on
the way leads somewhere in the container, as it does for the container's own processes.
"""

import os
import stat

from service.content.tar import Entry, Reader, Source
from service.kernel.tree import remove_tree

_ATTEMPTS = 10  # times that a file which comes back at once is removed again
_LATEST = (1 << 63) - 1  # nanoseconds since 1970 that utimensat(2) is given at most
EPERM = 1
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_VERBS = {"0": "open", "1": "link", "2": "symlink", "5": "mkdir"}  # what dockerd names when it fails


class Refused(Exception):  # noqa: N818 - it says what happened
    """A member that may not be extracted; the message is dockerd's."""


class Extractor:
    """Extracts into `folder`, an absolute path without links. `owner` overrules the members' own; with
    `keep_kinds` no directory is replaced by something else, nor the other way round."""

    def __init__(
        self, source: Source, folder: str, *, owner: "tuple[int, int] | None" = None, keep_kinds: bool = False
    ) -> None:
        self.source, self.folder, self.owner, self.keep_kinds = source, folder, owner, keep_kinds
        self.directories: dict[str, int] = {}  # mtimes, set at the end: every new entry changes its directory's

    def run(self) -> None:
        """Extract everything. Raises Refused, BadArchive, or OSError naming the path."""
        reader = Reader(self.source)
        while (entry := reader.next()) is not None:
            self.source.skip(entry.size - self._member(entry))
            self.source.pad(entry.size)
        self.source.drain()
        for path, mtime in self.directories.items():
            try:
                file = os.open(path, _DIRECTORY)
            except OSError:
                continue  # a later member, or the container, has replaced it
            try:
                os.utime(file, ns=(mtime, mtime))
            finally:
                os.close(file)

    def _member(self, entry: Entry) -> int:
        """Extract one member; how many bytes of its data were read."""
        name = os.path.normpath(entry.name)
        path = self._path(name)
        if path == self.folder:
            return 0  # the directory itself stays as it is
        file = -1
        verb = "unlinkat"
        try:
            if self._make_room(entry, path):
                file = os.open(path, _DIRECTORY)
            else:
                verb = "mkdir"
                self._parents(os.path.dirname(path))
                verb = _VERBS.get(entry.kind, "mknod")
                file = self._make(entry, path)
            verb = "set attributes of"
            if entry.kind != "1":  # the file has them already
                self._attributes(entry, path, file)
        except OSError as error:
            error.strerror = f"{verb} {path}: {told(error)}"
            raise
        finally:
            if file >= 0:
                os.close(file)
        return entry.size if entry.kind == "0" else 0

    def _path(self, name: str) -> str:
        """Where a member goes. Raises Refused when that is not below `folder`."""
        path = os.path.normpath(f"{self.folder}/{name}".replace("//", "/"))
        if not self._is_inside(path):
            raise Refused(f'"{name}" is outside of "{self.folder}"')
        return path

    def _is_inside(self, path: str) -> bool:
        return path == self.folder or path.startswith(self.folder.rstrip("/") + "/")

    def _make_room(self, entry: Entry, path: str) -> bool:
        """Remove what is at `path`, unless both are directories: then that one stays, and true is returned."""
        try:
            there = os.lstat(path)
        except FileNotFoundError:
            return False
        is_directory = stat.S_ISDIR(there.st_mode)
        if self.keep_kinds and is_directory != (entry.kind == "5"):
            old, new = ("directory", "non-directory") if is_directory else ("non-directory", "directory")
            raise Refused(f'cannot overwrite {old} "{path}" with {new} "{self.folder}"')
        if is_directory and entry.kind == "5":
            return True
        remove_tree(path)
        return False

    def _parents(self, path: str) -> None:
        """Make the directories on the way that no member has described. What is there stays, whatever it is."""
        missing = []
        while True:
            try:
                os.lstat(path)
                break
            except FileNotFoundError:
                missing.append(path)
                path = os.path.dirname(path)
        for path in reversed(missing):
            try:
                os.mkdir(path, 0o755)
            except FileExistsError:
                continue  # the container was faster

    def _make(self, entry: Entry, path: str) -> int:
        """Make what a member describes, and write its data. A descriptor of it, or -1 where there can be none."""
        kind = entry.kind
        if kind == "0":
            file = self._new_file(path, entry.mode & 0o777)
            try:
                self.source.write(entry, file)
            except BaseException:
                os.close(file)
                raise
            return file
        if kind == "5":
            os.mkdir(path, entry.mode & 0o777)
            return os.open(path, _DIRECTORY)
        if kind == "1":
            target = os.path.normpath(f"{self.folder}/{entry.link}".replace("//", "/"))
            if not self._is_inside(target):
                raise Refused(f'invalid hardlink "{target}" -> "{entry.link}"')
            os.link(target, path, follow_symlinks=False)
            return -1
        if kind == "2":
            os.symlink(entry.link, path)
        elif kind in "346":
            form = {"3": stat.S_IFCHR, "4": stat.S_IFBLK, "6": stat.S_IFIFO}[kind]
            os.mknod(path, form | entry.mode, os.makedev(entry.major, entry.minor))
        else:
            raise Refused(f"unhandled tar header type {ord(kind)}")
        return -1

    @staticmethod
    def _new_file(path: str, mode: int) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        for _ in range(_ATTEMPTS):
            try:
                return os.open(path, flags, mode)
            except FileExistsError:
                remove_tree(path)  # the container has made it again
        return os.open(path, flags, mode)

    def _attributes(self, entry: Entry, path: str, file: int) -> None:
        """Owner, extended attributes, mode and time, in the order in which they do not undo one another.

        By descriptor where there is one: the container may have put a link at `path` by now.
        """
        owner = self.owner or (entry.uid, entry.gid)
        mtime = min(max(0, entry.mtime_ns), _LATEST)
        if file < 0:  # a link to nothing that we follow; a device or FIFO was made with its mode
            os.chown(path, *owner, follow_symlinks=False)
            self._xattrs(entry, path)
            os.utime(path, ns=(mtime, mtime), follow_symlinks=False)
            return
        os.fchown(file, *owner)
        self._xattrs(entry, file)
        os.fchmod(file, entry.mode)
        os.utime(file, ns=(mtime, mtime))
        if entry.kind == "5":
            self.directories[path] = mtime

    @staticmethod
    def _xattrs(entry: Entry, target: "str | int") -> None:
        for name, value in entry.xattrs.items():
            try:
                if isinstance(target, int):
                    os.setxattr(target, name, value)
                else:
                    os.setxattr(target, name, value, follow_symlinks=False)
            except OSError as error:
                if error.errno != EPERM:  # an attribute that this kind of file cannot have
                    raise


def told(error: OSError) -> str:
    """The error in Go's words: as C's, beginning with a small letter."""
    text = error.strerror or os.strerror(error.errno or 0)
    return text[:1].lower() + text[1:]
