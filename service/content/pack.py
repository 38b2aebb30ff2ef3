"""Files into a tar, as dockerd packs them: sorted by name, each directory before its content, later names of the same
file as hard links. Nothing is kept in memory but the names of the directories on the way.

What cannot be read because it is gone, or that tar has no form for (sockets), is left out, as dockerd does.
"""

import os
import stat

from service.content import tar_writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_COLLECTED = 1 << 18  # bytes of headers and small files that go out in one write
_SMALL = 1 << 16  # bytes: a file up to this size is read into memory
_LARGEST_STEP = 1 << 30  # bytes that one sendfile(2) is asked for
CAPABILITY = "security.capability"
_REVISION_2, _REVISION_3, _SIZE_2 = 2, 3, 20  # include/uapi/linux/capability.h: VFS_CAP_REVISION_…, XATTR_CAPS_SZ_2
_KINDS = {
    stat.S_IFREG: tar_writer.FILE,
    stat.S_IFDIR: tar_writer.DIRECTORY,
    stat.S_IFLNK: tar_writer.SYMLINK,
    stat.S_IFCHR: tar_writer.CHARACTER,
    stat.S_IFBLK: tar_writer.BLOCK_DEVICE,
    stat.S_IFIFO: tar_writer.FIFO,
}


class Packer:
    """Writes a tar to the descriptor `out` (a pipe). `every_attribute`: the extended attributes that an image keeps
    go in as well, not only the file capabilities. `latest`, `moment` (seconds since 1970): no file is told to be
    younger than that, or every file to be of that time."""

    def __init__(
        self, out: int, *, every_attribute: bool = False, latest: "int | None" = None, moment: "int | None" = None
    ) -> None:
        self.out, self.every_attribute = out, every_attribute
        self.latest, self.moment = latest, moment
        self.collected = bytearray()
        self.seen: dict[tuple[int, int], tuple[bytes, int]] = {}  # files with several names: the first, links to come
        self.size = 0  # bytes of files and links so far

    def tree(self, top: bytes, name: bytes, *, with_top: bool = True) -> None:
        """Pack what is at `top` (a link is not followed) under `name`, and all below it under `name`/…."""
        if with_top and not self._add(top, name):
            return
        path, spelled = top.rstrip(b"/"), name + b"/" if with_top else name
        levels: list[tuple[bytes, bytes, Iterator[bytes]]] = [(path, spelled, iter(_names(top)))]
        while levels:
            path, spelled, names = levels[-1]
            entry = next(names, None)
            if entry is None:
                levels.pop()
                continue
            below = path + b"/" + entry
            if self._add(below, spelled + entry):
                levels.append((below, spelled + entry + b"/", iter(_names(below))))

    def finish(self) -> None:
        """Write the end of the archive."""
        self.collected += tar_writer.END
        self._flush()

    def _add(self, path: bytes, name: bytes) -> bool:
        """Pack one member; whether it is a directory."""
        try:
            status = os.lstat(path)
        except OSError:
            return False  # gone since its directory was read; or its path is too long for the kernel
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return False
        if kind == tar_writer.FILE:
            self._file(path, name)
            return False
        link, device = b"", (0, 0)
        if kind == tar_writer.SYMLINK:
            try:
                link = os.readlink(path)
            except OSError:
                return False  # something else stands there by now
            self.size += len(link)
        elif kind in (tar_writer.CHARACTER, tar_writer.BLOCK_DEVICE):
            device = os.major(status.st_rdev), os.minor(status.st_rdev)
        if kind == tar_writer.DIRECTORY:
            name += b"/"
        elif status.st_nlink > 1 and self._known(path, name, status):
            return False
        self._header(path, name, kind, status, link=link, device=device)
        return kind == tar_writer.DIRECTORY

    def _file(self, path: bytes, name: bytes) -> None:
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return  # gone, or something else stands there by now
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode) or (status.st_nlink > 1 and self._known(path, name, status)):
                return
            self._header(path, name, tar_writer.FILE, status, size=status.st_size)
            self.size += status.st_size
            self._content(file, status.st_size)
            self.collected += tar_writer.padding(status.st_size)
        finally:
            os.close(file)

    def _known(self, path: bytes, name: bytes, status: os.stat_result) -> bool:
        """Whether a file with several names is in the archive already: then this one is a link to it."""
        key = (status.st_dev, status.st_ino)
        first, left = self.seen.get(key, (b"", status.st_nlink))
        if left > 1:
            self.seen[key] = (first or name, left - 1)
        else:
            self.seen.pop(key, None)
        if not first:
            return False
        self._header(path, name, tar_writer.LINK, status, link=first)
        return True

    def _header(
        self,
        path: bytes,
        name: bytes,
        kind: bytes,
        status: os.stat_result,
        *,
        size: int = 0,
        link: bytes = b"",
        device: tuple[int, int] = (0, 0),
    ) -> None:
        self.put(
            tar_writer.member(
                name,
                kind,
                stat.S_IMODE(status.st_mode),
                status.st_uid,
                status.st_gid,
                self.told_time(status),
                size=size,
                link=link,
                device=device,
                attributes=self._attributes(path, kind),
            )
        )

    def told_time(self, status: os.stat_result) -> int:
        """When a file was modified last, as the archive says it: seconds since 1970."""
        if self.moment is not None:
            return self.moment
        mtime = status.st_mtime_ns // 1_000_000_000
        return mtime if self.latest is None else min(mtime, self.latest)

    def put(self, header: bytes) -> None:
        """Have a header go out, with others."""
        self.collected += header
        if len(self.collected) > _COLLECTED:
            self._flush()

    def _attributes(self, path: bytes, kind: bytes) -> "dict[str, bytes]":
        found: dict[str, bytes] = {}
        if self.every_attribute and kind != tar_writer.SYMLINK:
            try:
                names = [name for name in os.listxattr(path, follow_symlinks=False) if is_kept(name)]
            except OSError:
                names = []  # gone, or a file system without them
        else:
            names = [CAPABILITY] if kind in (tar_writer.FILE, tar_writer.LINK) else []
        for name in names:
            try:
                value = os.getxattr(path, name, follow_symlinks=False)
            except OSError:
                continue
            found[name] = kept_capability(value) if name == CAPABILITY else value
        return found

    def _content(self, file: int, size: int) -> None:
        """The file's bytes, exactly `size`: what has grown since is cut, what has shrunk is filled with zeros."""
        if size <= _SMALL:
            while size and (piece := os.read(file, size)):
                self.collected += piece
                size -= len(piece)
            self.collected += bytes(size)
            return
        self._flush()
        while size:
            sent = os.sendfile(self.out, file, None, min(size, _LARGEST_STEP))
            if not sent:
                break
            size -= sent
        while size:
            self.collected += bytes(min(size, _SMALL))
            size -= min(size, _SMALL)
            self._flush()

    def _flush(self) -> None:
        view = memoryview(bytes(self.collected))
        self.collected.clear()
        while view:
            view = view[os.write(self.out, view) :]


def _names(path: bytes) -> "list[bytes]":
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []  # gone since it was packed


def kept_capability(value: bytes) -> bytes:
    """A file's capabilities as an image has them: the root user that revision 3 adds is one of this machine's
    namespaces."""
    if len(value) > _SIZE_2 and value[3] == _REVISION_3:
        return value[:3] + bytes((_REVISION_2,)) + value[4:_SIZE_2]
    return value


def is_kept(name: str) -> bool:
    """Whether an extended attribute belongs to the file, not to overlayfs or to this machine's security labels."""
    if name.startswith("user."):
        return not name.startswith("user.overlay.")
    return name == CAPABILITY or name.startswith("system.posix_acl_")
