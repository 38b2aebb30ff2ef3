"""What was written on top of an image becomes a layer of its own: the way back from overlayfs to an image.

It goes through the tar that every other engine would make of it, and is unpacked from that: so the layer is here what
it will be where it is pulled (whole seconds, no sockets, no marks of overlayfs), and its digest is known. Synchronous.
"""

import fcntl
import os

from service.content import layer_programs, layers, tarball
from service.content.layer_program import PACKED
from service.errors import SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.settings import Settings

_BLOCK = 512


def store(settings: "Settings", directory: str) -> "tarball.ArchiveLayer | None":
    """Make a layer of `directory` (an upper directory of overlayfs): unpacked, with its blob. None when it is empty.

    Raises SystemFailure; then nothing is left.
    """
    source, sink = os.pipe()
    answer, answering = os.pipe()
    try:
        fcntl.fcntl(sink, layers.F_SETPIPE_SZ, layers.PIECE)
        layer_programs.pack(settings, directory, sink, answering)
    except BaseException:
        os.close(source)
        os.close(answer)
        raise
    finally:
        os.close(sink)
        os.close(answering)
    layer = None
    try:
        try:
            first = _first(source)
            if first.strip(b"\0"):
                layer = tarball.store_layer(settings, _Rest(first, source).read)
            while os.read(source, layers.PIECE):
                pass
        finally:
            os.close(source)
            said = layer_programs.answer_of(answer)
        if said != PACKED:
            reason = said.decode("utf-8", "replace").strip() or "the program that does it was killed"
            raise SystemFailure(f"packing a layer: {reason}")
    except BaseException:
        if layer is not None and layer.unpacked is not None:
            layer.unpacked.discard()
        raise
    return layer


def _first(source: int) -> bytes:
    first = b""
    while len(first) < _BLOCK and (piece := os.read(source, _BLOCK - len(first))):
        first += piece
    return first


class _Rest:
    """A reader that gives what was read already first."""

    def __init__(self, first: bytes, source: int) -> None:
        self.first, self.source = first, source

    def read(self, count: int) -> bytes:
        first, self.first = self.first, b""
        return first or os.read(self.source, count)
