"""Copies of clients' directories, kept between builds: only what has changed since is fetched again.

    <folder>/<key>/<slot>/tree    the copy; <key> names a client's directory, slots are copies for builds side by side
    <folder>/<key>/<slot>/about   who it is, and a lock that its user holds
    <folder>/<key>/<slot>/new     files that are still arriving
    <folder>/<key>/<slot>/sums    what COPY has found in the tree since something in it was changed last
    <folder>/<key>/<slot>/list    what the client has listed, where the tree is just that (`client_list`)

What a copy holds is known from its files (mode, size, time of change, link), so a transfer may be cut off at any
moment. A client that lists the same as the last time is believed to have the same: no file is looked at then. A file is
never changed, only replaced; so copies of one directory share their files by hard links. The client is not trusted:
nothing is written outside the tree, whatever it says.

Files are hashed as they arrive, and carry their sum as an attribute: they are not read again to find out whether a step
is in the cache. Sums count in the boot in which they were made; nobody knows what a power cut has left of a file.
"""

import _thread
import fcntl
import hashlib
import os
import stat
import time

from service import jsontext
from service.content import client_list, copying
from service.errors import InvalidParameter, SystemFailure
from service.kernel import pidfd
from service.kernel.tree import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# What BuildKit keeps of clients' directories unless told otherwise (buildkit: cmd/buildkitd/config/gcpolicy.go) is
# smaller; a copy costs a transfer to make anew
KEPT_SECONDS, KEPT_BYTES = 48 * 3600, 4 << 30
_SLOTS = 8  # copies of one directory that are kept when nobody uses them: builds want different parts of it
_MOST_SLOTS = 10_000
_SUM = "trusted.moorage.sha256"  # of a file: its sum, and the boot in which it was found
_SUM_BYTES = 32
_SUMS = "/sums"
_MOST_SUMS = 1000  # sources of COPY that are remembered for a copy


class Entry:
    """One path as the client lists it: relative, `mode` as st_mode, times in nanoseconds since 1970.

    `link`: where a symbolic link leads, or the earlier path of which this is a hard link.
    """

    __slots__ = ("link", "mode", "mtime_ns", "path", "size")

    def __init__(self, path: str, mode: int, size: int, mtime_ns: int, link: str = "") -> None:
        self.path, self.mode, self.size, self.mtime_ns, self.link = path, mode, size, mtime_ns, link


class Mirror:
    """A copy that is ours until `release`. `tree`: its directory."""

    def __init__(self, place: str, lock: int) -> None:
        self.place, self._lock = place, lock
        self.tree, self.arriving = place + "/tree", place + "/new"
        self.directory = os.path.dirname(place)  # of all copies of this client directory

    def siblings(self) -> "list[str]":
        """The trees of the other copies of the same client directory."""
        above, own = os.path.split(self.place)
        return [f"{above}/{slot}/tree" for slot in sorted(os.listdir(above)) if slot != own]

    def note(self, size: int) -> None:
        """Write down how large it is (bytes), and that it is used now."""
        about = _about(self._lock)
        uses = about.get("uses", 0)
        _note(self._lock, {**about, "size": size, "uses": uses + 1 if isinstance(uses, int) else 1})

    def release(self, *, keep: bool = True) -> None:
        """Let others use it; without `keep` it is removed."""
        if not keep:
            remove_tree(self.place)
        os.close(self._lock)


def acquire(folder: str, key: str, name: str, part: str = "") -> Mirror:
    """A copy of the client directory `key` (hexadecimal) that nobody uses; a new, empty one when all are in use.

    `part` says which part of the directory is wanted: of several copies one that held that part is taken, so that what
    it has stays. `name` says what it is, for `usage`. Raises SystemFailure.
    """
    free: list[tuple[float, int, str]] = []  # last used, lock, place
    numbers = [int(slot) for slot in _listed(f"{folder}/{key}") if slot.isdigit()]
    try:
        for number in sorted(numbers):
            place = f"{folder}/{key}/{number}"
            lock = _locked(place)
            if lock is None:
                continue
            if _about(lock).get("part", "") == part:
                return _ready(place, lock)
            free.append((os.fstat(lock).st_mtime, lock, place))
        if free and len(numbers) >= _SLOTS:
            oldest = min(free)
            free.remove(oldest)
            _, lock, place = oldest
            _note(lock, {**_about(lock), "part": part})
            return _ready(place, lock)
        for number in range(max(numbers, default=-1) + 1, _MOST_SLOTS):
            place = f"{folder}/{key}/{number}"
            for made in (folder, f"{folder}/{key}", place):
                os.makedirs(made, 0o700, exist_ok=True)
            lock = _locked(place, create=True)
            if lock is not None:
                _note(lock, {"name": name, "created": time.time(), "size": 0, "part": part})
                return _ready(place, lock)
    finally:
        for _, lock, _ in free:
            os.close(lock)
    raise SystemFailure("too many builds use the same directory of a client")


def _ready(place: str, lock: int) -> Mirror:
    remove_tree(f"{place}/new")  # of a transfer that was cut off
    for made in ("new", "tree"):
        os.makedirs(f"{place}/{made}", 0o700, exist_ok=True)
    return Mirror(place, lock)


def _listed(folder: str) -> "list[str]":
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def _note(lock: int, about: "dict[str, object]") -> None:
    data = jsontext.dumps(about).encode()
    os.pwrite(lock, data, 0)
    os.ftruncate(lock, len(data))


def _locked(place: str, *, create: bool = False) -> "int | None":
    """The lock of a copy, or None when it is in use (or has gone meanwhile)."""
    path = place + "/about"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(lock).st_ino:
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass  # somebody uses it, or removed it before we had the lock
    os.close(lock)
    return None


def _about(lock: int) -> "dict[str, object]":
    try:
        read = jsontext.loads(os.pread(lock, 65536, 0))
    except ValueError:
        return {}  # cut off while it was written
    return read if isinstance(read, dict) else {}


class Usage:
    """A copy as `buildx du` shows it. Times in seconds since 1970."""

    def __init__(self, id: str, name: str, size: int, created: float, used: float, uses: int, in_use: bool) -> None:
        self.id, self.name, self.size, self.created, self.used = id, name, size, created, used
        self.uses, self.in_use = uses, in_use


def usage(folder: str) -> "list[Usage]":
    """Every copy below `folder`."""
    found = []
    for place in _places(folder):
        try:
            fd = os.open(place + "/about", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # being made, or being removed
        try:
            about, seen = _about(fd), os.fstat(fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                in_use = False
            except BlockingIOError:
                in_use = True
        finally:
            os.close(fd)
        number = {name: value for name, value in about.items() if isinstance(value, (int, float))}
        found.append(
            Usage(
                "-".join(place.split("/")[-2:]),
                str(about.get("name", "")),
                int(number.get("size", 0)),
                float(number.get("created", seen.st_ctime)),
                seen.st_mtime,
                int(number.get("uses", 0)),
                in_use,
            )
        )
    return found


def _places(folder: str) -> "Iterator[str]":
    for key in _listed(folder):
        yield from (f"{folder}/{key}/{slot}" for slot in _listed(f"{folder}/{key}"))


def remove(folder: str, id: str) -> bool:
    """Remove a copy by the id of its usage; False when it is in use or gone."""
    place = f"{folder}/{'/'.join(id.split('-'))}"
    lock = _locked(place)
    if lock is None:
        return False
    remove_tree(place)
    os.close(lock)
    try:
        os.rmdir(os.path.dirname(place))
    except OSError:
        pass  # other copies are left
    return True


def collect(folder: str) -> None:
    """Remove copies that nobody has used for long, and the oldest ones beyond the bytes that are kept."""
    left, now = KEPT_BYTES, time.time()
    for copy in sorted(usage(folder), key=lambda copy: -copy.used):
        left -= copy.size
        if not copy.in_use and (now - copy.used > KEPT_SECONDS or left < 0):
            remove(folder, copy.id)


class Receiver:
    """Brings a copy up to date: `entry` for every path the client lists, `listed` after the last, `piece` for content;
    or `unchanged` alone, when the client's list is the one that is `known`. `finish` when all is there.

    Everything blocks. `busy` is held by whoever calls: a call may go on after the build that asked for it has ended.
    Raises InvalidParameter for what no honest client sends.
    """

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self.busy = _thread.allocate_lock()
        self.bytes = 0  # of content that has arrived
        self.size = 0  # of everything
        self._others = mirror.siblings()
        self._seen: dict[str, set[str]] = {"": set()}  # directories listed so far, and what each holds
        self._files: set[str] = set()  # regular files listed so far
        self._shared: set[int] = set()  # inodes with several names, of the files that stay
        self._directories: list[Entry] = []
        self._links: list[Entry] = []
        # content that was asked for: descriptor (or -1), what it is, and its sum so far
        self._open: dict[int, tuple[int, Entry, hashlib._Hash]] = {}
        self._boot = pidfd.boot_id()
        self._changed = False
        self._last = b""
        self._listed = False
        known = client_list.read(mirror.place)
        # The list that the tree was made by, as `heard` was told it; empty when there is none
        self.known = known[1] if known is not None else b""
        self._known_size = known[0] if known is not None else 0
        self._unchanged = False
        self._heard = bytearray()
        self._exact = True  # whether the files are as the client listed them

    @property
    def complete(self) -> bool:
        """Whether nothing is missing any more."""
        return self._listed and not self._open

    def unchanged(self) -> None:
        """The client's list is what is `known`, to its end: there is nothing to do."""
        self._unchanged = self._listed = True
        self.size = self._known_size

    def heard(self, told: bytes) -> None:
        """A part of the client's list as it came: what is to be `known` next time."""
        if len(self._heard) <= client_list.MOST:
            self._heard += told

    def _forget(self) -> None:
        """To be called before anything is done that a list asks for: the tree may not be what the known one says."""
        if self.known:
            self.known = b""
            client_list.forget(self.mirror.place)

    def entry(self, number: int, entry: Entry) -> bool:
        """The next path in the client's list, its `number` counted from 0. True when its content is wanted."""
        self._forget()
        parent, _, name = entry.path.rpartition("/")
        order = entry.path.encode("utf-8", "surrogateescape").replace(b"/", b"\0")
        known = self._seen.get(parent)
        if known is None or name in ("", ".", "..") or b"\0\0" in order or order <= self._last or "\0" in entry.path:
            raise InvalidParameter(f"the client's list of files is out of order: {entry.path!r}")
        self._last = order
        known.add(name)
        path = f"{self.mirror.tree}/{entry.path}"
        if stat.S_ISDIR(entry.mode):
            self._seen[entry.path] = set()
            self._directories.append(entry)
            if not _is(path, stat.S_IFDIR):
                self._change(path)
                os.mkdir(path, 0o700)
        elif stat.S_ISREG(entry.mode):
            return self._file(number, entry, path)
        elif stat.S_ISLNK(entry.mode):
            if not _is(path, stat.S_IFLNK) or os.readlink(path) != entry.link:
                self._change(path)
                os.symlink(entry.link, path)
            os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)
        elif stat.S_ISFIFO(entry.mode):
            if not _is(path, stat.S_IFIFO):
                self._change(path)
                os.mkfifo(path, stat.S_IMODE(entry.mode))
        elif os.path.lexists(path):
            self._change(path)  # sockets and devices: nothing of a client's machine means something here
        return False

    def _change(self, cleared: str = "") -> None:
        """To be called before anything in the tree changes; `cleared` is removed, whatever is there."""
        if not self._changed:
            self._changed = True
            remove_tree(self.mirror.place + _SUMS)
        if cleared:
            _clear(cleared)

    def _file(self, number: int, entry: Entry, path: str) -> bool:
        if entry.link:
            if entry.link not in self._files:
                raise InvalidParameter(f"a hard link to what the client has not listed: {entry.path!r}")
            self._links.append(entry)
            return False
        self._files.add(entry.path)
        self.size += entry.size
        if (there := _same(path, entry)) is not None and self._is_own(there):
            return False
        self._change()
        if _is(path, stat.S_IFDIR):
            _clear(path)
        if self._is_shared(entry, path):
            return False
        self._open[number] = (-1, entry, hashlib.sha256())
        if not entry.size:
            self._finish(number)
            return False
        return True

    def _is_shared(self, entry: Entry, path: str) -> bool:
        """Have a file that another copy has, if there is one."""
        for other in self._others:
            if _same(f"{other}/{entry.path}", entry) is not None and self._share(f"{other}/{entry.path}", path, entry):
                return True
        return False

    def still_wanted(self, numbers: "list[int]") -> "list[int]":
        """Those of the files that were wanted which no other copy has got meanwhile. Nothing of them may have come."""
        with self.busy:
            self._others = self.mirror.siblings()
            left = []
            for number in numbers:
                found = self._open.get(number)
                if found is None:
                    continue  # given up
                _, entry, _ = found
                if self._is_shared(entry, f"{self.mirror.tree}/{entry.path}"):
                    del self._open[number]
                else:
                    left.append(number)
            return left

    def _is_own(self, there: os.stat_result) -> bool:
        """Whether no other path of the tree is this file: a hard link may have become a file of its own."""
        if there.st_nlink == 1:
            return True
        is_first = there.st_ino not in self._shared
        self._shared.add(there.st_ino)
        return is_first

    def _share(self, theirs: str, path: str, entry: Entry) -> bool:
        """Have a file that another copy has; it may be replaced there at any moment, so what came is looked at."""
        made = f"{self.mirror.arriving}/link"
        try:
            os.link(theirs, made, follow_symlinks=False)
        except OSError:
            return False  # it has just been replaced, or has too many links
        if (there := _same(made, entry)) is not None and self._is_own(there):
            os.rename(made, path)
            return True
        os.unlink(made)
        return False

    def listed(self) -> None:
        """The list is complete: what it does not name is removed."""
        self._forget()
        self._listed = True
        for folder, names in self._seen.items():
            at = f"{self.mirror.tree}/{folder}" if folder else self.mirror.tree
            for name in os.listdir(at):
                if name not in names:
                    self._change(f"{at}/{name}")

    def piece(self, number: int, data: bytes) -> None:
        """More content of the path with that number; empty at its end."""
        if number not in self._open:
            raise InvalidParameter(f"the client sends a file that nobody has asked for: {number}")
        if not data:
            self._finish(number)
            return
        fd, entry, found = self._open[number]
        if fd < 0:
            fd = self._create(number, entry, found)
        self.bytes += len(data)
        found.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def _create(self, number: int, entry: Entry, found: "hashlib._Hash") -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(f"{self.mirror.arriving}/{number}", flags, 0o600)
        self._open[number] = (fd, entry, found)
        return fd

    def _finish(self, number: int) -> None:
        """A file has come whole. One that changed while the client read it is taken as it came, as BuildKit does."""
        fd, entry, found = self._open[number]
        if fd < 0:
            fd = self._create(number, entry, found)
        if os.fstat(fd).st_size != entry.size:
            self._exact = False
        _note_sum(fd, found.digest(), self._boot)
        os.fchmod(fd, stat.S_IMODE(entry.mode))
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        os.close(fd)
        del self._open[number]
        os.rename(f"{self.mirror.arriving}/{number}", f"{self.mirror.tree}/{entry.path}")

    def finish(self) -> None:
        """Everything has come: hard links, and the modes and times of directories."""
        if self._unchanged:
            self.mirror.note(self.size)
            return
        for entry in self._links:
            target, path = f"{self.mirror.tree}/{entry.link}", f"{self.mirror.tree}/{entry.path}"
            if not (os.path.lexists(path) and os.path.samestat(os.lstat(path), os.lstat(target))):
                self._change(path)
                os.link(target, path, follow_symlinks=False)
        for entry in reversed(self._directories):
            path = f"{self.mirror.tree}/{entry.path}"
            if os.lstat(path).st_mode != entry.mode:
                self._change()
                os.chmod(path, stat.S_IMODE(entry.mode))
            os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
        self.mirror.note(self.size)
        if self._heard and self._exact and len(self._heard) <= client_list.MOST:
            client_list.keep(self.mirror.place, self.size, bytes(self._heard))

    def close(self) -> None:
        """Give up what has not come whole, once nobody calls any more."""
        with self.busy:
            for fd, *_ in self._open.values():
                if fd >= 0:
                    os.close(fd)
            self._open.clear()


def found(tree: str, pattern: str) -> "list[tuple[str, str]]":
    """(path, hash) of what a source of COPY means in the tree of a copy that is ours. Raises as `copying.found`."""
    path = os.path.dirname(tree) + _SUMS
    boot = pidfd.boot_id()
    known = _read_sums(path, boot)
    key = os.fsencode(pattern).hex()  # JSON has no room for bytes that are no text
    told = known.get(key)
    if told is None:
        told = [[os.fsencode(each.path).hex(), each.hash] for each in copying.found(tree, pattern, _Contents(boot))]
        # another step of this build may do the same now: who is later knows no more than itself, and no less
        known = {**(known if len(known) < _MOST_SUMS else {}), key: told}
        writing = f"{path}.{os.urandom(4).hex()}"
        with open(writing, "wb") as file:
            file.write(jsontext.dump_bytes({"boot": boot, "found": known}))
        os.rename(writing, path)
    return [(os.fsdecode(bytes.fromhex(name)), hash) for name, hash in told]


def _read_sums(path: str, boot: str) -> "dict[str, list[list[str]]]":
    try:
        with open(path, "rb") as file:
            read = jsontext.loads(file.read())
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(read, dict) or read.get("boot") != boot:
        return {}
    found: dict[str, list[list[str]]] = read["found"]
    return found


class _Contents:
    """What is in files of a copy, by the sums that they carry where they do (`copying.content_of`)."""

    def __init__(self, boot: str) -> None:
        self.boot, self.of_boot = boot, boot.encode()

    def __call__(self, full: str) -> str:
        try:
            told = os.getxattr(full, _SUM, follow_symlinks=False)
        except OSError:
            told = b""  # none yet, or the file system keeps no attributes
        if told[_SUM_BYTES:] == self.of_boot:
            return told[:_SUM_BYTES].hex()
        sum = copying.content_of(full)
        _note_sum(full, bytes.fromhex(sum), self.boot)
        return sum


def _note_sum(file: "int | str", sum: bytes, boot: str) -> None:
    try:
        os.setxattr(file, _SUM, sum + boot.encode())
    except OSError:
        pass  # the file system keeps no attributes, or has no room: it is read again then


def _is(path: str, kind: int) -> bool:
    try:
        return stat.S_IFMT(os.lstat(path).st_mode) == kind
    except FileNotFoundError:
        return False


def _same(path: str, entry: Entry) -> "os.stat_result | None":
    """The file there, if it is the one that the client has."""
    try:
        there = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    same = (there.st_mode, there.st_size, there.st_mtime_ns) == (entry.mode, entry.size, entry.mtime_ns)
    return there if same else None


def _clear(path: str) -> None:
    """Remove whatever is there."""
    if _is(path, stat.S_IFDIR):
        remove_tree(path)
    else:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass  # nothing there


# ── the other direction ──────────────────────────────────────────────────────────────────────────────────────────────


class Found(Entry):
    """A path below a directory of ours, with its owner and, of a device, its number."""

    __slots__ = ("device", "gid", "uid")

    def __init__(self, path: str, seen: os.stat_result, link: str) -> None:
        size = seen.st_size if stat.S_ISREG(seen.st_mode) else 0
        super().__init__(path, seen.st_mode, size, seen.st_mtime_ns, link)
        self.uid, self.gid, self.device = seen.st_uid, seen.st_gid, seen.st_rdev


def listing(folder: str) -> "list[Found]":
    """Everything below `folder`, in the order in which BuildKit lists: as if `/` came before every other sign.

    The second and later names of a file are hard links of its first one.
    """
    found: list[Found] = []
    first: dict[tuple[int, int], str] = {}
    todo = [("", folder)]
    while todo:
        prefix, at = todo.pop()
        below = []
        for name in sorted(os.listdir(at), key=os.fsencode):
            seen = os.lstat(f"{at}/{name}")
            path = f"{prefix}{name}"
            link = os.readlink(f"{at}/{name}") if stat.S_ISLNK(seen.st_mode) else ""
            found.append(Found(path, seen, link))
            if stat.S_ISDIR(seen.st_mode):
                below.append((f"{path}/", f"{at}/{name}"))
        todo += below
    found.sort(key=lambda entry: os.fsencode(entry.path).replace(b"/", b"\0"))
    for entry in found:
        if stat.S_ISREG(entry.mode):
            seen = os.lstat(f"{folder}/{entry.path}")
            if seen.st_nlink > 1:
                entry.link = first.setdefault((seen.st_dev, seen.st_ino), entry.path)
                if entry.link == entry.path:
                    entry.link = ""
    return found


def open_file(folder: str, path: str) -> int:
    """A regular file below `folder` for reading: no link is followed at its end."""
    return os.open(f"{folder}/{path}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
