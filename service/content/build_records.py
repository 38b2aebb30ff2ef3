"""What finished builds have said, as blobs by digest: their output, their errors, what they were made of.

    <root>/build-history/<hex>    one blob
    <root>/build-history/.<hex>   being written

Nothing is flushed: a power cut may take the newest away, and what it leaves in pieces is told by its digest. Blocking.
"""

import contextlib
import hashlib
import os
import re
import time

from service.errors import NotFound, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_YOUNG = 60.0  # seconds that a blob may be there before anything refers to it


def put(folder: str, content: bytes) -> str:
    """Keep a blob; its digest. Raises SystemFailure when the disk has no room."""
    name = hashlib.sha256(content).hexdigest()
    os.makedirs(folder, 0o700, exist_ok=True)
    unfinished = f"{folder}/.{os.urandom(8).hex()}"
    try:
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
        os.rename(unfinished, f"{folder}/{name}")
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise SystemFailure(f"write build record: {os.strerror(error.errno or 0).lower()}") from error
    return "sha256:" + name


def read(folder: str, digest: str) -> bytes:
    """A blob, whole. Raises NotFound, also for one that is not what its digest says."""
    found = _DIGEST.fullmatch(digest)
    try:
        if found is not None:
            with open(f"{folder}/{found[1]}", "rb") as file:
                content = file.read()
            if hashlib.sha256(content).hexdigest() == found[1]:
                return content
    except FileNotFoundError:
        pass
    raise NotFound(f"content {digest}: not found")


def sweep(folder: str, needed: "Container[str]") -> None:
    """Remove the blobs whose digest is not in `needed`, but for those that were written just now."""
    now = time.time()
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = f"{folder}/{name}"
        with contextlib.suppress(FileNotFoundError):
            if "sha256:" + name not in needed and not 0 <= now - os.stat(path).st_mtime < _YOUNG:
                os.unlink(path)
