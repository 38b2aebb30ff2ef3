"""Layers unpacked into directories that overlayfs can join.

    <root>/layers/<name>/diff      `name` is short and drawn at random: 127 layers must fit one page of mount options

A directory is nobody's until the store knows its name. Who is filling one holds a lock on it (flock, gone with the
process), so `leftovers` can tell what a crash has left behind from what another thread is working on.
Synchronous: call in a thread.
"""

import fcntl
import hashlib
import os
import stat

from service import jsontext
from service.content import layer_programs
from service.errors import SystemFailure
from service.kernel.tree import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from service.settings import Settings

PIECE = 1 << 20
F_SETPIPE_SZ = 1031
_NAME_LENGTH = 8
_NAME_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


class Unpacked:
    """A filled layer directory that the store does not know yet. `keep` or `discard` it."""

    __slots__ = ("_lock", "diff_id", "implied", "name", "path", "size")

    def __init__(self, path: str, lock: int) -> None:
        self.path, self._lock = path, lock
        self.name = os.path.basename(path)
        self.diff_id = ""  # sha256:… of the tar
        self.size = 0  # bytes of its files
        self.implied: list[str] = []  # directories that the tar did not describe

    def keep(self) -> None:
        """The store knows the name now."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def discard(self) -> None:
        """Remove the directory; it is not needed after all."""
        remove_tree(self.path)
        self.keep()


def new(settings: "Settings") -> Unpacked:
    """An empty layer directory, locked."""
    for folder in (settings.root, settings.root + "/layers"):
        if not os.path.isdir(folder):
            os.makedirs(folder, 0o711, exist_ok=True)
    while True:
        name = "".join(_NAME_LETTERS[byte & 31] for byte in os.urandom(_NAME_LENGTH))
        path = f"{settings.root}/layers/{name}"
        try:
            os.mkdir(path, 0o711)
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileExistsError, FileNotFoundError):  # taken; or collected in the instant before it was locked
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(path):
            os.close(lock)
            continue
        os.mkdir(path + "/diff", 0o755)
        os.chmod(path + "/diff", 0o755)  # noqa: S103 - the mode of "/" unless the layer says otherwise
        return Unpacked(path, lock)


def unpack(settings: "Settings", tar: "Iterator[bytes]") -> Unpacked:
    """Unpack a layer from its uncompressed tar, hashing it on the way.

    Raises SystemFailure with the reason when the tar is damaged or cannot be written; then nothing is left. What the
    iterator itself raises goes through, likewise.
    """
    try:
        layer = new(settings)
    except OSError as error:
        raise SystemFailure(f"mkdir layer: {os.strerror(error.errno or 0).lower()}") from error
    try:
        _fill(settings, layer, tar)
    except BaseException:
        layer.discard()
        raise
    return layer


def _fill(settings: "Settings", layer: Unpacked, tar: "Iterator[bytes]") -> None:
    source, sink = os.pipe()
    answer, answering = os.pipe()
    try:
        fcntl.fcntl(sink, F_SETPIPE_SZ, PIECE)
        layer_programs.unpack(settings, layer.path + "/diff", source, answering)
    except BaseException:
        for fd in (source, sink, answer, answering):
            os.close(fd)
        raise
    os.close(source)
    os.close(answering)
    digest = hashlib.sha256()
    complete = False
    try:
        for piece in tar:
            digest.update(piece)
            view = memoryview(piece)
            while view:
                view = view[os.write(sink, view) :]
        complete = True
    except BrokenPipeError:
        pass  # it has given up, and says why
    finally:
        os.close(sink)
        said = layer_programs.answer_of(answer)
    try:
        done = jsontext.loads(said)
    except ValueError:
        reason = said.decode("utf-8", "replace").strip() or "the program that does it was killed"
        raise SystemFailure(f"unpacking a layer: {reason}") from None
    if "error" in done or not complete:
        raise SystemFailure(str(done.get("error") or "unpacking a layer: it ended too early"))
    layer.diff_id = "sha256:" + digest.hexdigest()
    layer.size, layer.implied = done["size"], done["implied"]


def taken(settings: "Settings", directory: str, diff_id: str, size: int) -> Unpacked:
    """A layer of what stands in `directory`, which is moved: what `layer_programs.settle` has made ready.

    Raises OSError (EXDEV) when it is on another file system; then nothing has happened.
    """
    layer = new(settings)
    try:
        os.rename(directory, layer.path + "/diff")
    except BaseException:
        layer.discard()
        raise
    layer.diff_id, layer.size = diff_id, size
    return layer


def settle(settings: "Settings", layer: Unpacked, parents: "Sequence[str]") -> None:
    """Give the directories that the tar did not describe the owner, mode and time they have in the layers below.

    overlayfs shows the uppermost directory's own attributes; a layer that holds only `a/b/c` must not change `a`.
    `parents`: names of the layer directories below, lowest first.
    """
    from service.kernel.openat2 import open_in_root

    for path in layer.implied:
        for parent in reversed(parents):
            try:
                fd = open_in_root(f"{settings.root}/layers/{parent}/diff", path, os.O_RDONLY | os.O_NOFOLLOW)
            except OSError:
                continue
            try:
                status = os.fstat(fd)
                if not stat.S_ISDIR(status.st_mode):
                    break
                ours = open_in_root(layer.path + "/diff", path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    os.fchown(ours, status.st_uid, status.st_gid)
                    os.fchmod(ours, stat.S_IMODE(status.st_mode))
                    os.utime(ours, ns=(status.st_mtime_ns, status.st_mtime_ns))
                finally:
                    os.close(ours)
            finally:
                os.close(fd)
            break


def leftovers(settings: "Settings", known: "set[str]") -> "list[str]":
    """Layer directories that the store does not know and that nobody is filling: a crash's remains, to be removed."""
    try:
        names = os.listdir(settings.root + "/layers")
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        if name in known or name == "base":
            continue
        path = f"{settings.root}/layers/{name}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            found.append(name)
        finally:
            os.close(fd)
    return found


def remove(settings: "Settings", name: str) -> None:
    """Delete a layer directory that the store no longer knows."""
    remove_tree(f"{settings.root}/layers/{name}")


# How a stream of bytes is compressed is told by how it begins, never by its media type.
_GZIP, _ZSTD, _BZIP2, _XZ = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\x00"


def compression(beginning: bytes) -> str:
    """gzip, zstd, bzip2, xz, or empty for none that we know. At least 6 bytes are wanted."""
    if beginning[:3] == _GZIP:
        return "gzip"
    if beginning[:4] == _ZSTD or (beginning[1:4] == b"\x2a\x4d\x18" and beginning[0] >> 4 == 5):
        return "zstd"
    if beginning[:3] == _BZIP2:
        return "bzip2"
    if beginning[:6] == _XZ:
        return "xz"
    return ""


def decompressed(read: "Callable[[int], bytes]") -> "Iterator[bytes]":
    """The content of a stream, whatever its compression; `read(n)` gives 1 to n bytes, or b"" at its end.

    Pieces are bounded, however far a hostile stream expands. Raises SystemFailure for a damaged stream.
    """
    first = b""
    while len(first) < 6 and (more := read(PIECE)):
        first += more
    kind = compression(first)
    if kind == "zstd":
        yield from _zstd(first, read)
    elif kind:
        yield from _members(kind, first, read)
    else:
        while first:
            yield first
            first = read(PIECE)


def _members(kind: str, piece: bytes, read: "Callable[[int], bytes]") -> "Iterator[bytes]":
    """gzip, bzip2 and xz: one compressed member after the other; zero padding after the last is passed over."""
    make, broken = _decompressor(kind)
    try:
        while True:
            decoder = make()
            while not decoder.eof:
                out = decoder.decompress(piece, PIECE)
                piece = b""
                if out:
                    yield out
                if not decoder.eof and decoder.needs_input:
                    piece = read(PIECE)
                    if not piece:
                        raise SystemFailure("unexpected EOF")
            piece = (decoder.unused_data or read(PIECE)).lstrip(b"\0")
            while not piece:
                piece = read(PIECE)
                if not piece:
                    return
                piece = piece.lstrip(b"\0")
    except broken as error:
        raise SystemFailure(f"{kind}: {error}") from error


def _decompressor(kind: str) -> "tuple[Callable[[], Any], tuple[type[Exception], ...]]":
    """What makes a decoder with bz2.BZ2Decompressor's interface, and the errors that it raises for bad input."""
    if kind == "gzip":
        from isal import igzip_lib, isal_zlib

        errors: Any = (isal_zlib.error, EOFError)  # isal's stubs call its exception class an exception
        return lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), errors
    if kind == "bzip2":
        import bz2

        return bz2.BZ2Decompressor, (OSError, EOFError)
    import lzma

    return lzma.LZMADecompressor, (lzma.LZMAError, EOFError)


def _zstd(first: bytes, read: "Callable[[int], bytes]") -> "Iterator[bytes]":
    import zstandard

    source: Any = _Rest(first, read)
    # A frame may ask for a window of gigabytes; 128 MiB is what the zstd program itself allows without being told.
    decoder = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    try:
        with decoder.stream_reader(source, read_across_frames=True) as reader:
            while piece := reader.read(PIECE):
                yield piece
    except zstandard.ZstdError as error:
        raise SystemFailure(f"zstd: {error}") from error


class _Rest:
    """A readable object that gives what was read already first."""

    def __init__(self, first: bytes, read: "Callable[[int], bytes]") -> None:
        self.first, self.more = first, read

    def read(self, count: int = PIECE) -> bytes:
        if self.first:
            first, self.first = self.first[:count], self.first[count:]
            return first
        return self.more(count)
