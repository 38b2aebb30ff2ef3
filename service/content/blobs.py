"""Blobs by digest: compressed layers and manifests, as a registry holds them.

    <root>/blobs/sha256/<hex>     complete and verified
    <root>/tmp/blob-…             being written; its writer holds a lock (flock) on it

A blob appears under its digest by a rename of a file whose bytes were hashed, so what is there is whole. Synchronous.
"""

import fcntl
import hashlib
import os

from service.errors import SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import BufferedReader

    from service.settings import Settings


def path(settings: "Settings", digest: str) -> str:
    """Where the blob with this digest is, or will be."""
    algorithm, _, encoded = digest.partition(":")
    return f"{settings.root}/blobs/{algorithm}/{encoded}"


def size(settings: "Settings", digest: str) -> int:
    """The blob's bytes; -1 when it is not here."""
    try:
        return os.stat(path(settings, digest)).st_size
    except FileNotFoundError:
        return -1


def read(settings: "Settings", digest: str) -> bytes:
    """A small blob, whole. Raises FileNotFoundError."""
    with open(path(settings, digest), "rb") as file:
        return file.read()


def opened(settings: "Settings", digest: str) -> "BufferedReader":
    """A blob, to be read. Raises FileNotFoundError."""
    return open(path(settings, digest), "rb")


def put(settings: "Settings", content: bytes) -> str:
    """Store a small blob; its digest."""
    writer = Writer(settings)
    try:
        writer.write(content)
        return writer.commit()
    except BaseException:
        writer.discard()
        raise


def _append(fd: int, data: "bytes | memoryview") -> None:
    """Write all of it. Raises SystemFailure when the disk has no room."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except OSError as error:
            raise SystemFailure(f"write blob: {os.strerror(error.errno or 0).lower()}") from error


class Writer:
    """A blob being written. Ends with `commit` or `discard`; or with `commit_as`, where not `hashed` here."""

    def __init__(self, settings: "Settings", *, hashed: bool = True) -> None:
        self.settings = settings
        for folder in ("/tmp", "/blobs", "/blobs/sha256"):
            if not os.path.isdir(settings.root + folder):
                os.makedirs(settings.root + folder, 0o700, exist_ok=True)
        self.path = f"{settings.root}/tmp/blob-{os.urandom(8).hex()}"
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        self.hash = hashlib.sha256() if hashed else None
        self.size = 0

    def write(self, data: "bytes | memoryview") -> None:
        """Append."""
        if self.hash is not None:
            self.hash.update(data)
        self.size += len(data)
        _append(self.fd, data)

    @property
    def digest(self) -> str:
        """The digest of what was written so far."""
        assert self.hash is not None
        return "sha256:" + self.hash.hexdigest()

    def commit(self, expected: str = "") -> str:
        """Make it the blob of its digest, and return that. Raises SystemFailure when it is not the expected one.

        Not flushed to the disk: that happens behind the answer, for all blobs and layers together (engine.flushing).
        """
        digest = self.digest
        if expected and digest != expected:
            self.discard()
            raise SystemFailure(f"filesystem layer verification failed for digest {expected}")
        self.commit_as(digest)
        return digest

    def commit_as(self, digest: str) -> None:
        """Make it the blob of a digest that somebody else has found of these very bytes."""
        os.rename(self.path, path(self.settings, digest))
        os.close(self.fd)
        self.fd = -1

    def discard(self) -> None:
        """Remove what was written; harmless after `commit`."""
        if self.fd < 0:
            return
        os.unlink(self.path)
        os.close(self.fd)
        self.fd = -1


def is_whole(settings: "Settings", digest: str) -> bool:
    """Whether a blob is what its digest says: all of it is read. Raises FileNotFoundError."""
    with opened(settings, digest) as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() == digest


def was_before(settings: "Settings", digest: str, moment: float) -> bool:
    """Whether a blob is here that was last written before a moment (seconds since 1970)."""
    try:
        return os.stat(path(settings, digest)).st_mtime < moment
    except FileNotFoundError:
        return False


def remove(settings: "Settings", digest: str) -> None:
    """Delete a blob; missing already is no error."""
    try:
        os.unlink(path(settings, digest))
    except FileNotFoundError:
        return


def every(settings: "Settings") -> "list[str]":
    """The digests of all complete blobs."""
    try:
        return ["sha256:" + name for name in os.listdir(settings.root + "/blobs/sha256")]
    except FileNotFoundError:
        return []


def remove_leftovers(settings: "Settings") -> None:
    """Delete what writers that are gone have left in <root>/tmp."""
    try:
        names = os.listdir(settings.root + "/tmp")
    except FileNotFoundError:
        return
    for name in names:
        if not name.startswith("blob-"):
            continue
        file = f"{settings.root}/tmp/{name}"
        try:
            fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(file)
        except (BlockingIOError, FileNotFoundError):
            continue
        finally:
            os.close(fd)


def flush(settings: "Settings") -> None:
    """Bring all that was written below the root to the disk (syncfs(2))."""
    from service.kernel.libc import check, libc

    fd = os.open(settings.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        check(libc().syncfs(fd), settings.root)
    finally:
        os.close(fd)


def is_fresh(settings: "Settings", digest: str) -> bool:
    """Whether a blob was written in the last minute: a pull that has not registered it yet may just have done so."""
    import time

    try:
        return os.stat(path(settings, digest)).st_mtime > time.time() - 60
    except FileNotFoundError:
        return False


class Partial:
    """A blob on its way from a registry, kept under its digest so that a later attempt goes on from there.

    <root>/blobs/partial/<hex>; `size` bytes are here already. One writer at a time (flock).
    """

    def __init__(self, settings: "Settings", digest: str) -> None:
        if not digest.startswith("sha256:") or len(digest) != 71 or digest[7:].strip("0123456789abcdef"):
            raise SystemFailure(f"unsupported digest {digest}")
        self.settings, self.digest = settings, digest
        folder = settings.root + "/blobs/partial"
        for path_ in (folder, settings.root + "/blobs/sha256"):
            if not os.path.isdir(path_):
                os.makedirs(path_, 0o700, exist_ok=True)
        self.path = f"{folder}/{digest[7:]}"
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        self.hash = hashlib.sha256()
        self.size = 0
        while piece := os.read(self.fd, 1 << 20):
            self.hash.update(piece)
            self.size += len(piece)

    def write(self, data: bytes) -> None:
        """Append."""
        self.hash.update(data)
        self.size += len(data)
        try:
            _append(self.fd, data)
        except SystemFailure:
            self.restart()  # what is here is given back, so that the store can still write
            raise

    def restart(self) -> None:
        """Forget what is here."""
        os.ftruncate(self.fd, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)
        self.hash = hashlib.sha256()
        self.size = 0

    def commit(self) -> None:
        """Make it the blob. Raises SystemFailure, and forgets it, when it is not what its digest says."""
        if "sha256:" + self.hash.hexdigest() != self.digest:
            self.restart()
            raise SystemFailure(f"filesystem layer verification failed for digest {self.digest}")
        os.rename(self.path, path(self.settings, self.digest))

    def close(self) -> None:
        """Let go; what is here stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def remove_old_partials(settings: "Settings", oldest: float) -> None:
    """Delete partial blobs last written before `oldest` (seconds since 1970)."""
    folder = settings.root + "/blobs/partial"
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        try:
            if os.stat(f"{folder}/{name}").st_mtime < oldest:
                os.unlink(f"{folder}/{name}")
        except FileNotFoundError:
            continue
