"""A container's writable layer as a layer's tar: what a process of its own does (`layer_program`).

The tar goes to standard output, written after chroot(DIR): whatever the container does to its directories meanwhile, no
name leads outside of them. What overlayfs notes in its own form becomes a layer's (OCI image-spec layer.md): a
character device 0/0 the whiteout of a name, an opaque directory the whiteout of all that lies below it.
"""

import os
import stat

from service.content import tar_writer
from service.content.pack import Packer
from service.content.unpack import OPAQUE, OPAQUE_ATTRIBUTE, WHITEOUT

_WHITEOUT_MODE = 0o600


class LayerPacker(Packer):
    """Packs a directory in overlayfs' form."""

    def _add(self, path: bytes, name: bytes) -> bool:
        try:
            status = os.lstat(path)
        except OSError:
            return False  # gone since its directory was read
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            folder, _, last = name.rpartition(b"/")
            self._whiteout((folder + b"/" if folder else b"") + WHITEOUT.encode() + last, status)
            return False
        if not super()._add(path, name):
            return False
        if _is_opaque(path):
            self._whiteout(name + b"/" + OPAQUE.encode(), status)
        return True

    def _whiteout(self, name: bytes, status: os.stat_result) -> None:
        mtime = status.st_mtime_ns // 1_000_000_000
        self.put(tar_writer.member(name, tar_writer.FILE, _WHITEOUT_MODE, status.st_uid, status.st_gid, mtime))


def _is_opaque(path: bytes) -> bool:
    try:
        return os.getxattr(path, OPAQUE_ATTRIBUTE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def pack(directory: str) -> None:
    """Pack `directory`, its own attributes left out as dockerd does. Raises BrokenPipeError when nobody reads it."""
    os.chroot(directory)
    os.chdir("/")
    packer = LayerPacker(1, every_attribute=True)
    packer.tree(b"/", b"", with_top=False)
    packer.finish()
