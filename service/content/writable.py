"""What was written on top of an image becomes a layer of its own: the way back from overlayfs to an image.

A layer is here what it will be where it is pulled (whole seconds, no sockets, no marks of overlayfs), and its digest is
that of the tar which every other engine would make of it. What a container goes on using is unpacked from that tar
(`copied`); what nobody will write to any more becomes the layer itself (`taken`), and its tar is only hashed: it is
made again, the same, when somebody wants to have it (`packed`). Synchronous.
"""

import errno
import fcntl
import hashlib
import os

from service import jsontext
from service.content import blobs, layer_programs, layers, tarball
from service.errors import SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from service.settings import Settings

    Result = TypeVar("Result")

_BLOCK = 512


def copied(settings: "Settings", directory: str, latest: "int | None" = None) -> "tarball.ArchiveLayer | None":
    """Make a layer of `directory` (an upper directory of overlayfs): unpacked, with its blob. None when it is empty.

    `latest`, seconds since 1970: no file of the layer is younger than that.

    Raises SystemFailure; then nothing is left.
    """
    made: list[tarball.ArchiveLayer] = []

    def pack(settings: "Settings", directory: str, sink: int, answer: int) -> None:
        layer_programs.pack(settings, directory, sink, answer, latest)

    def unpack(read: "Callable[[int], bytes]") -> None:
        first = _first(read)
        if first.strip(b"\0"):
            made.append(tarball.store_layer(settings, _Rest(first, read).read))

    try:
        _packed(settings, pack, directory, unpack)
    except BaseException:
        for layer in made:
            assert layer.unpacked is not None
            layer.unpacked.discard()
        raise
    return made[0] if made else None


def taken(settings: "Settings", directory: str) -> "layers.Unpacked | None":
    """Make `directory` (an upper directory that nobody uses any more) a layer: it is moved. None when it is empty.

    Raises SystemFailure; `directory` may be there then, or be gone.
    """
    if not os.listdir(directory):
        return None
    diff_id, size = _hashed(settings, layer_programs.settle, directory)
    if not os.listdir(directory):
        return None  # there were sockets only
    try:
        return layers.taken(settings, directory, diff_id, size)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise SystemFailure(f"rename layer: {os.strerror(error.errno or 0).lower()}") from error
    layer = copied(settings, directory)
    return None if layer is None else layer.unpacked


def packed(settings: "Settings", directory: str, diff_id: str) -> "tuple[str, int]":
    """(digest, size) of the tar of a layer's directory, which is stored as a blob.

    Raises SystemFailure when that is not what it was: its files were damaged.
    """
    writer = blobs.Writer(settings)
    try:
        _packed(settings, layer_programs.pack, directory, lambda read: _all(read, writer.write))
        if writer.digest != diff_id:
            raise SystemFailure(f"layer {diff_id} is damaged: it packs to {writer.digest}")
        return writer.commit(), writer.size
    except BaseException:
        writer.discard()
        raise


def is_whole(settings: "Settings", directory: str, diff_id: str) -> bool:
    """Whether a layer's directory holds what it is known to have held. Raises SystemFailure."""
    return os.path.isdir(directory) and _hashed(settings, layer_programs.pack, directory)[0] == diff_id


def _hashed(settings: "Settings", work: "Callable[[Settings, str, int, int], None]", directory: str) -> tuple[str, int]:
    """(digest of its tar, bytes of its files) of what stands in a directory."""
    digest = hashlib.sha256()
    size: int = _packed(settings, work, directory, lambda read: _all(read, digest.update))
    return "sha256:" + digest.hexdigest(), size


def _packed(
    settings: "Settings",
    work: "Callable[[Settings, str, int, int], None]",
    directory: str,
    take: "Callable[[Callable[[int], bytes]], object]",
) -> int:
    """Have the program pack a directory; `take` gets what reads the tar, and may leave a rest. What its files weigh.

    Raises SystemFailure when it did not come whole, after `take`.
    """
    source, sink = os.pipe()
    answer, answering = os.pipe()
    try:
        fcntl.fcntl(sink, layers.F_SETPIPE_SZ, layers.PIECE)
        work(settings, directory, sink, answering)
    except BaseException:
        os.close(source)
        os.close(answer)
        raise
    finally:
        os.close(sink)
        os.close(answering)
    try:
        take(lambda count: os.read(source, count))
        while os.read(source, layers.PIECE):
            pass
    finally:
        os.close(source)
        said = layer_programs.answer_of(answer)
    try:
        return int(jsontext.loads(said)["size"])
    except (ValueError, KeyError, TypeError):
        reason = said.decode("utf-8", "replace").strip() or "the program that does it was killed"
        raise SystemFailure(f"packing a layer: {reason}") from None


def _all(read: "Callable[[int], bytes]", take: "Callable[[bytes], object]") -> None:
    while piece := read(layers.PIECE):
        take(piece)


def _first(read: "Callable[[int], bytes]") -> bytes:
    first = b""
    while len(first) < _BLOCK and (piece := read(_BLOCK - len(first))):
        first += piece
    return first


class _Rest:
    """A reader that gives what was read already first."""

    def __init__(self, first: bytes, read: "Callable[[int], bytes]") -> None:
        self.first, self.more = first, read

    def read(self, count: int) -> bytes:
        first, self.first = self.first, b""
        return first or self.more(count)
