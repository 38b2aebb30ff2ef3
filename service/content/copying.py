"""COPY and ADD: what a pattern means in a source tree, its hash for the build cache, and the copy itself.

For a program whose root directory holds the trees, each in a directory of its own (`service/build_files.py`): symbolic
links are resolved as if that directory were the root, so none leads into another tree. The rules are those of dockerd's
classic builder (moby: builder/dockerfile/copy.go). Nobody else writes to the trees meanwhile.
"""

import hashlib
import os
import re
import stat

from service import jsontext
from service.kernel.tree import remove_tree
from service.patterns import glob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Protocol

    from service.content.tar_tree import Node

    Described = os.stat_result | Node

    class Searched(Protocol):
        """A tree that is searched for what to copy: a `Folder`, or a tar that nobody has unpacked (`tar_tree`).

        Paths are relative to its top, and no link is followed at their end. All raise OSError. Without `hashes` nobody
        asks for what files hold.
        """

        hashes: bool

        def names(self, path: str) -> list[str]:
            """What is in a directory, in no order."""

        def status(self, path: str) -> Described:
            """What is there."""

        def link(self, path: str) -> str:
            """Where a symbolic link leads; an error for what is none."""

        def below(self, path: str) -> Iterator[tuple[str, Described]]:
            """(path from there, what it is) of everything below a directory, in no order."""

        def capability(self, path: str) -> bytes:
            """A file's capabilities, as the kernel keeps them; empty for none."""

        def content(self, path: str) -> str:
            """The SHA-256 of a regular file's content, in hexadecimal digits."""


_CAPABILITY = "security.capability"
_MOST_LINKS = 255  # moby/sys/symlink
_ELOOP, _ENOTDIR = 40, 20
_PIECE = 1 << 20
_STEP = 1 << 30  # bytes that one copy_file_range(2) is asked for


class TooManyLinks(OSError):  # noqa: N818 - it says what there is
    """Symbolic links that lead nowhere but to one another, on the way to `filename`."""

    def __init__(self, path: str) -> None:
        super().__init__(_ELOOP, f"evalSymlinksInScope: too many links in {path}", path)


class Copied:
    """One thing to copy: `path` inside the tree `root`, as the pattern found it; `hash` says what is there."""

    def __init__(self, root: str, path: str, hash: str) -> None:
        self.root, self.path, self.hash = root, path, hash


class Folder:
    """A directory as `Searched`. `content` says what is in a file; without it nothing is hashed."""

    def __init__(self, root: str, content: "Callable[[str], str] | None") -> None:
        self.root, self._content = root, content
        self.hashes = content is not None

    def names(self, path: str) -> "list[str]":
        """As `Searched`."""
        return os.listdir(f"{self.root}/{path}")

    def status(self, path: str) -> os.stat_result:
        """As `Searched`."""
        return os.lstat(f"{self.root}/{path}" if path else self.root)

    def link(self, path: str) -> str:
        """As `Searched`."""
        return os.readlink(f"{self.root}/{path}")

    def below(self, path: str) -> "Iterator[tuple[str, os.stat_result]]":
        """As `Searched`."""
        top = f"{self.root}/{path}" if path else self.root
        levels = [""]
        while levels:
            above = levels.pop()
            with os.scandir(f"{top}/{above}" if above else top) as entries:
                for entry in entries:
                    inside = f"{above}/{entry.name}" if above else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        levels.append(inside)
                    yield inside, entry.stat(follow_symlinks=False)

    def capability(self, path: str) -> bytes:
        """As `Searched`."""
        return capability(f"{self.root}/{path}")

    def content(self, path: str) -> str:
        """What `content` says."""
        assert self._content is not None
        return self._content(f"{self.root}/{path}")


def resolved(root: str, path: str) -> str:
    """`path` inside `root` with all links followed, the last one too; what does not exist is kept as written."""
    return "/".join((root, *followed(Folder(root, None), path)))


def followed(tree: "Searched", path: str) -> "list[str]":
    """The parts of `path` in a tree with all links followed, the last one too; what does not exist is kept as written.

    Raises TooManyLinks.
    """
    left = [part for part in reversed(path.split("/")) if part]
    at: list[str] = []
    links = 0
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            at = at[:-1]
            continue
        try:
            target = tree.link("/".join((*at, part)))
        except OSError:
            at.append(part)  # no link
            continue
        links += 1
        if links > _MOST_LINKS:
            raise TooManyLinks(path)
        if target.startswith("/"):
            at = []
        left += reversed(target.split("/"))
    return at


def content_of(full: str) -> str:
    """The SHA-256 of a regular file's content, in hexadecimal digits: all of it is read."""
    digest = hashlib.sha256()
    with open(full, "rb", 0) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def found(
    root: str,
    pattern: str,
    content: "Callable[[str], str] | None" = content_of,
) -> "list[Copied]":
    """What a source means in the directory `root`. `content` says what is in a file; without it nothing is hashed.

    Raises FileNotFoundError naming it, and where it leads to as a link (`filename2`), when it is no pattern and nothing
    is there; ValueError when it leads out of the tree; TooManyLinks.
    """
    return [Copied(root, path, hash) for path, hash in found_in(Folder(root, content), pattern)]


def found_in(tree: "Searched", pattern: str) -> "list[tuple[str, str]]":
    """(path, hash) of what a source means in a tree. As `found`."""
    pattern = pattern.removeprefix("/").removeprefix("./")
    if not has_wildcards(pattern):
        if os.path.normpath(pattern).split("/")[0] == "..":
            raise ValueError(f"forbidden path outside the build context: {pattern} ()")
        paths: Iterable[str] = (pattern,)
    else:
        paths = matching(tree, os.path.normpath(pattern))
    return [(path, hash_of(tree, path)) for path in paths]


def has_wildcards(name: str) -> bool:
    """Whether a name is a pattern."""
    return re.search(r"^(?:[^\\*?\[]|\\.)*[*?\[]", name, re.DOTALL) is not None


def matching(tree: "Searched", pattern: str) -> "Iterator[str]":
    """The paths that match, in the order of their names; directories that are links are not entered."""
    try:
        parts = [glob(part) for part in pattern.split("/")]
    except ValueError:
        return  # dockerd takes a malformed pattern for one that matches nothing

    def below(folder: str, depth: int) -> "Iterator[str]":
        for name in sorted(tree.names(folder), key=os.fsencode):
            if not parts[depth].matches(name):
                continue
            path = f"{folder}/{name}" if folder else name
            if depth + 1 == len(parts):
                yield path
            elif stat.S_ISDIR(tree.status(path).st_mode):
                yield from below(path, depth + 1)

    yield from below("", 0)


def hash_of(tree: "Searched", path: str) -> str:
    """What a file or a directory is, links followed. Raises as `found`."""
    top = "/".join(followed(tree, path))
    try:
        status = tree.status(top)
    except (FileNotFoundError, NotADirectoryError):
        above, _, last = path.rstrip("/").rpartition("/")
        try:
            tree.link("/".join((*followed(tree, above), last)))
        except OSError:
            leads = None
        else:
            leads = f"/{top}"
        raise FileNotFoundError(2, os.strerror(2), path, None, leads) from None
    if not tree.hashes:
        return ""
    if not stat.S_ISDIR(status.st_mode):
        return f"file:{hash_of_one(tree, top, path, status)}"
    prefix = f"{top}/" if top else ""
    hashes = [hash_of_one(tree, f"{prefix}{name}", f"{prefix}{name}", each) for name, each in tree.below(top)]
    hashes.sort()
    return f"dir:{hashlib.sha256(','.join(hashes).encode()).hexdigest()}"


def below(folder: str) -> "Iterator[tuple[str, str]]":
    """(full path, path from `folder`) of everything below, a directory before its content."""
    levels: list[tuple[str, Iterator[str]]] = [("", iter(_names(folder)))]
    while levels:
        above, names = levels[-1]
        name = next(names, None)
        if name is None:
            levels.pop()
            continue
        path = f"{above}/{name}" if above else name
        full = f"{folder}/{path}"
        yield full, path
        if stat.S_ISDIR(os.lstat(full).st_mode):
            levels.append((path, iter(_names(full))))


def _names(folder: str) -> "list[str]":
    return sorted(os.listdir(folder), key=os.fsencode)


def hash_of_one(tree: "Searched", path: str, name: str, status: "Described") -> str:
    """Name, kind, mode, owner, content: all but times. `name`: of `path`, as it was asked for."""
    kind = stat.S_IFMT(status.st_mode)
    size = status.st_size if kind == stat.S_IFREG else 0
    link = tree.link(path) if kind == stat.S_IFLNK else ""
    head = (os.fsencode(name).hex(), status.st_mode, status.st_uid, status.st_gid, size, os.fsencode(link).hex())
    inside = tree.content(path) if kind == stat.S_IFREG else ""
    told = jsontext.dump_bytes([*head, status.st_rdev, tree.capability(path).hex(), inside])
    return hashlib.sha256(told).hexdigest()


def capability(full: str) -> bytes:
    """A file's capabilities, as the kernel keeps them; empty for none."""
    try:
        return os.getxattr(full, _CAPABILITY, follow_symlinks=False)
    except OSError:
        return b""


class Copier:
    """Copies into the tree `root` to `destination` (absolute in it). `owner`: of all that is made; None: as it was.
    `mode`: the permissions of what is made, by the source's st_mode."""

    def __init__(
        self,
        root: str,
        destination: str,
        owner: "tuple[int, int] | None",
        mode: "Callable[[int], int] | None" = None,
    ) -> None:
        self.root, self.destination, self.owner, self.mode = root, destination, owner, mode or stat.S_IMODE

    def copy(self, wanted: "Copied") -> None:
        """Copy a file or a directory's content. Raises OSError naming a path as the Dockerfile knows it."""
        source = resolved(wanted.root, wanted.path)
        target = resolved(self.root, self.destination)
        if stat.S_ISDIR(os.lstat(source).st_mode):
            self._directory(source, target)
            return
        if self.destination.endswith("/") or os.path.isdir(target):
            target = f"{target}/{os.path.basename(wanted.path)}"
        self._parents(os.path.dirname(target), "failed to create new directory: ")
        self._entry(source, target, {})

    def _parents(self, path: str, failing: str, mode: int = 0o755) -> None:
        """Make a directory and those above it where they are missing, with `mode`. `failing`: how an error begins."""
        missing = []
        while not os.path.lexists(path):
            missing.append(path)
            path = os.path.dirname(path)
        if not os.path.isdir(path):
            raise NotADirectoryError(_ENOTDIR, f"{failing}mkdir {path[len(self.root) :]}: not a directory")
        for folder in reversed(missing):
            os.mkdir(folder)
            os.chmod(folder, mode)
            os.chown(folder, *(self.owner or (0, 0)))

    def _directory(self, source: str, target: str) -> None:
        fresh = not os.path.lexists(target)
        self._parents(target, "failed to copy directory: ")
        if fresh and self.mode is not stat.S_IMODE:
            os.chmod(target, self.mode(stat.S_IFDIR | 0o755))
        seen: dict[tuple[int, int], str] = {}
        folders: list[tuple[str, os.stat_result]] = []
        for full, name in below(source):
            status = self._entry(full, f"{target}/{name}", seen)
            if stat.S_ISDIR(status.st_mode):
                folders.append((f"{target}/{name}", status))
        for path, status in reversed(folders):
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _entry(self, source: str, target: str, seen: "dict[tuple[int, int], str]") -> os.stat_result:
        """Make one thing, over whatever is there; a directory upon a directory changes its attributes only."""
        status = os.lstat(source)
        kind = stat.S_IFMT(status.st_mode)
        try:
            there = os.lstat(target)
        except FileNotFoundError:
            pass
        else:
            if stat.S_ISDIR(there.st_mode) and kind == stat.S_IFDIR:
                self._attributes(source, target, status)
                return status
            remove_tree(target)
        identity = status.st_dev, status.st_ino
        if kind != stat.S_IFDIR and status.st_nlink > 1 and identity in seen:
            os.link(seen[identity], target, follow_symlinks=False)
            return status
        if kind == stat.S_IFREG:
            _copy_file(source, target)
        elif kind == stat.S_IFDIR:
            os.mkdir(target)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(source), target)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO):
            os.mknod(target, status.st_mode, status.st_rdev)
        else:
            return status  # a socket has no form in a layer
        seen.setdefault(identity, target)
        self._attributes(source, target, status)
        return status

    def _attributes(self, source: str, target: str, status: os.stat_result) -> None:
        """As dockerd does it: a new owner comes last, and takes set-user-id and file capabilities away."""
        is_link = stat.S_ISLNK(status.st_mode)
        kept = b"" if is_link else capability(source)
        if self.owner is None:
            os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
        if not is_link:
            os.chmod(target, stat.S_IMODE(status.st_mode))
        if kept:
            os.setxattr(target, _CAPABILITY, kept, follow_symlinks=False)
        if self.owner is not None:
            os.chown(target, *self.owner, follow_symlinks=False)
        if self.mode is not stat.S_IMODE and not is_link:
            os.chmod(target, self.mode(status.st_mode))
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _copy_file(source: str, target: str) -> None:
    """The bytes alone, within the kernel, shared where the file system can."""
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                while os.copy_file_range(reading, writing, _STEP):
                    pass
            except OSError:  # not between these two file systems
                while os.sendfile(writing, reading, None, _STEP):
                    pass
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def owner_of(passwd: bytes, group: bytes, text: str) -> "tuple[int, int]":
    """`user[:group]` of --chown, by the files of the image. Raises ValueError with Docker's sentence."""
    parts = text.split(":")
    if len(parts) > 2:
        raise ValueError(f"invalid chown string format: {text}")
    user, of_group = parts[0], parts[-1]
    uid, gid = _number(user), _number(of_group)
    if uid < 0:
        uid = _looked_up(passwd, user)
        if uid < 0:
            raise ValueError(f"can't find uid for user {user}: no such user: {user}")
    if gid < 0:
        gid = _looked_up(group, of_group)
        if gid < 0:
            raise ValueError(f"can't find gid for group {of_group}: no such group: {of_group}")
    return uid, gid


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 else -1


def _looked_up(file: bytes, name: str) -> int:
    for line in file.decode("utf-8", "surrogateescape").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[0] == name:
            return _number(fields[2])
    return -1


def copy_all(copier: Copier, wanted: "Sequence[Copied]") -> None:
    """Copy one after the other."""
    for each in wanted:
        copier.copy(each)
