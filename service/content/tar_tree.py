"""A tar as a tree that can be looked at without unpacking it: what COPY means in a build's context, and its hash.

The tree is what `extract.Extractor` would make of the tar in an empty directory. Where that takes more than reading
names (links on the way to a member, one kind of thing over another, devices, attributes, sparse files, what the kernel
may refuse), `listed` says so, and the tar is to be unpacked. Touches no files but its own.
"""

import _thread
import hashlib
import os
import stat

from service.content.tar import Entry, Reader, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE = 1 << 20
_LITTLE = 1 << 20  # bytes that need no file at all
# Bytes that are kept in memory, and at most this part of what is free: a disk that is still busy with the files of the
# last build makes everybody wait who writes to it
_IN_MEMORY, _PART = 256 << 20, 4
_LONGEST = 255  # bytes of one part of a path that file systems take
_DEEPEST = 2048  # bytes of a path: far enough from what the kernel takes (4096)
_MOST = 100_000  # paths that are kept in memory
_ANYBODYS = 1 << 16  # users and groups below that are known in each user namespace
_ENOENT, _EBADF, _ENOTDIR, _EISDIR, _EINVAL = 2, 9, 20, 21, 22


class Spool(Source):
    """A tar that is kept while it is read: in memory, a very long one in the file that `place` names.

    `read` gives the next bytes (at most as many as asked for), none at the end.
    """

    def __init__(self, read: "Callable[[int], bytes]", place: "Callable[[], str]") -> None:
        super().__init__(-1)
        self._read, self._place = read, place
        self._memory = bytearray()
        self._file = -1
        self._most = -1  # bytes that the file may have, as long as it is one of memory
        self._closing = _thread.allocate_lock()  # whoever reads may be left behind by whoever wanted it
        self._closed = False
        self.size = 0

    def more(self) -> bytes:
        """The next piece; it is kept."""
        piece = self._read(PIECE)
        with self._closing:
            if self._closed:
                raise OSError(_EBADF, os.strerror(_EBADF))
            self._keep(piece)
        return piece

    def _keep(self, piece: bytes) -> None:
        if self._file < 0 and self.size + len(piece) > _LITTLE:
            self._most = min(_IN_MEMORY, _available() // _PART)
            self._move(os.memfd_create("tar", os.MFD_CLOEXEC))
        if 0 <= self._most < self.size + len(piece):
            self._most = -1
            self._move(os.open(self._place(), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        if self._file < 0:
            self._memory += piece
        else:
            _write(self._file, piece)
        self.size += len(piece)

    def _move(self, file: int) -> None:
        """Keep it in another file from now on."""
        at, old = 0, self._file
        try:
            while piece := self.kept(at, PIECE):
                _write(file, piece)
                at += len(piece)
        except BaseException:
            os.close(file)
            raise
        self._file, self._memory = file, bytearray()
        if old >= 0:
            os.close(old)

    @property
    def position(self) -> int:
        """How many bytes were read from it."""
        return self.size - len(self.piece) + self.at

    def digest(self, count: int) -> str:
        """The SHA-256 of the next `count` bytes, in hexadecimal digits. Raises BadArchive at an early end."""
        found = hashlib.sha256()
        while count:
            step = min(count, PIECE)
            found.update(self.exactly(step))
            count -= step
        return found.hexdigest()

    def kept(self, at: int, count: int) -> bytes:
        """`count` bytes from `at`; fewer where it ends."""
        if self._file < 0:
            return bytes(self._memory[at : at + count])
        return os.pread(self._file, count, at)

    def file(self) -> int:
        """A descriptor to read all that was kept, from its beginning: the caller's. Raises OSError."""
        if self._file < 0:
            file = os.memfd_create("tar")
            with open(os.dup(file), "wb") as writing:
                writing.write(self._memory)
        else:
            file = os.dup(self._file)
        os.lseek(file, 0, os.SEEK_SET)
        return file

    def close(self) -> None:
        """Nothing is kept any more, nor read; the file is its directory's business."""
        with self._closing:
            self._closed = True
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
            self._memory = bytearray()


_NOTHING: "dict[str, Node]" = {}


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _available() -> int:
    """Bytes of memory that nobody needs (proc(5), meminfo)."""
    with open("/proc/meminfo", "rb") as file:
        for line in file:
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


class Node:
    """One thing of the tree, described as by stat(2)."""

    __slots__ = ("at", "digest", "link", "names", "st_gid", "st_mode", "st_rdev", "st_size", "st_uid")

    def __init__(self, mode: int, uid: int = 0, gid: int = 0, size: int = 0) -> None:
        self.st_mode, self.st_uid, self.st_gid, self.st_size, self.st_rdev = mode, uid, gid, size, 0
        self.at = 0  # where a file's bytes are
        self.digest = ""  # of a file's bytes: SHA-256
        self.link = ""  # where a symbolic link leads
        self.names: dict[str, Node] = {} if stat.S_ISDIR(mode) else _NOTHING  # what is in a directory

    @property
    def is_folder(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.st_mode)


class TarTree:
    """The tree, as `copying.Searched`. Paths are relative to its top."""

    hashes = True

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.top = Node(stat.S_IFDIR | 0o755)
        self.count = 0

    # as a source of COPY

    def names(self, path: str) -> "list[str]":
        """What is in a directory, in no order. Raises OSError."""
        found = self.status(path)
        if not found.is_folder:
            raise NotADirectoryError(_ENOTDIR, os.strerror(_ENOTDIR), path)
        return list(found.names)

    def status(self, path: str) -> Node:
        """What is there, no link followed at its end. Raises OSError."""
        found = self.top
        for part in path.split("/"):
            if part in ("", "."):
                continue
            if not found.is_folder:
                raise NotADirectoryError(_ENOTDIR, os.strerror(_ENOTDIR), path)
            if part not in found.names:
                raise FileNotFoundError(_ENOENT, os.strerror(_ENOENT), path)
            found = found.names[part]
        return found

    def link(self, path: str) -> str:
        """Where a symbolic link leads. Raises OSError for what is none."""
        found = self.status(path)
        if not stat.S_ISLNK(found.st_mode):
            raise OSError(_EINVAL, os.strerror(_EINVAL), path)
        return found.link

    def below(self, path: str) -> "Iterator[tuple[str, Node]]":
        """(path from there, what it is) of everything below a directory, in no order."""
        levels = [("", self.status(path))]
        while levels:
            above, folder = levels.pop()
            for name, node in folder.names.items():
                inside = f"{above}/{name}" if above else name
                if node.is_folder:
                    levels.append((inside, node))
                yield inside, node

    def capability(self, path: str) -> bytes:  # noqa: ARG002 - it is the same everywhere
        """None: a tar with attributes is unpacked."""
        return b""

    def content(self, path: str) -> str:
        """The SHA-256 of what a regular file holds."""
        return self.status(path).digest

    # as a context

    def read(self, path: str) -> bytes:
        """What a file holds, no link followed. Raises OSError."""
        found = self.status(path)
        if found.is_folder:
            raise IsADirectoryError(_EISDIR, os.strerror(_EISDIR), path)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(_EINVAL, os.strerror(_EINVAL), path)
        return self.spool.kept(found.at, found.st_size)

    def remove(self, path: str) -> None:
        """Take out a file, or a directory with all that is in it. Raises OSError."""
        above, _, name = path.rpartition("/")
        self.status(path)
        del self.status(above).names[name]

    # from the tar

    def add(self, entry: Entry) -> bool:
        """Take the next member, and read its bytes from the spool. False when it takes more than this tree knows.

        Raises BadArchive.
        """
        name = os.path.normpath(entry.name).lstrip("/")
        if name in (".", ""):
            return entry.kind == "5"  # the top stays as it is
        parts = name.split("/")
        if (
            parts[0] == ".."
            or entry.xattrs
            or entry.sparse is not None
            or max(entry.uid, entry.gid) >= _ANYBODYS
            or len(os.fsencode(name)) > _DEEPEST
            or any(len(os.fsencode(part)) > _LONGEST for part in parts)
        ):
            return False
        folder = self._folder(parts[:-1])
        if folder is None:
            return False
        node, there = self._node(entry), folder.names.get(parts[-1])
        if node is None or (there is not None and there.is_folder != node.is_folder):
            return False
        if there is not None and there.is_folder:
            there.st_mode, there.st_uid, there.st_gid = node.st_mode, node.st_uid, node.st_gid
            return True
        folder.names.pop(parts[-1], None)
        folder.names[parts[-1]] = node
        self.count += 1
        return True

    def _folder(self, parts: "list[str]") -> "Node | None":
        """The directory above a member, made where no member has described it. None where it is something else."""
        folder = self.top
        for part in parts:
            inside = folder.names.get(part)
            if inside is None:
                if folder.st_mode & stat.S_ISGID:
                    return None  # its group goes down, and what the kernel makes of that is the kernel's
                inside = folder.names[part] = Node(stat.S_IFDIR | 0o755)
                self.count += 1
            if not inside.is_folder:
                return None
            folder = inside
        return folder

    def _node(self, entry: Entry) -> "Node | None":
        if entry.kind == "0":
            node = Node(stat.S_IFREG | entry.mode, entry.uid, entry.gid, entry.size)
            node.at = self.spool.position
            node.digest = self.spool.digest(entry.size)
            return node
        if entry.kind == "5":
            return Node(stat.S_IFDIR | entry.mode, entry.uid, entry.gid)
        if entry.kind == "2":
            node = Node(stat.S_IFLNK | 0o777, entry.uid, entry.gid)
            node.link = entry.link
            return node if 0 < len(os.fsencode(entry.link)) <= _DEEPEST else None
        return None


def listed(spool: Spool) -> "TarTree | None":
    """The tree of a tar, read to its end. None when it takes more than reading to know what it becomes.

    Raises BadArchive.
    """
    tree, reader = TarTree(spool), Reader(spool)
    while (entry := reader.next()) is not None:
        if tree.count > _MOST or not tree.add(entry):
            spool.drain()
            return None
        spool.pad(entry.size)
    spool.drain()
    return tree
