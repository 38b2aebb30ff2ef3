"""A container's writable layer as a layer's tar: what a process of its own does (`layer_program`).

The tar goes to standard output, written after chroot(DIR): whatever the container does to its directories meanwhile, no
name leads outside of them. What overlayfs notes in its own form becomes a layer's (OCI image-spec layer.md): a
character device 0/0 the whiteout of a name, an opaque directory the whiteout of all that lies below it.

A directory that nobody writes to any more can be settled on the way: made to be what its tar would unpack to, so that
it is the layer itself.
"""

import os
import stat

from service.content import tar_writer
from service.content.pack import CAPABILITY, Packer, is_kept, kept_capability
from service.content.unpack import OPAQUE, OPAQUE_ATTRIBUTE, WHITEOUT

_WHITEOUT_MODE = 0o600
_SECOND = 1_000_000_000


class LayerPacker(Packer):
    """Packs a directory in overlayfs' form. `settles`: what the tar does not say is taken away from it, too."""

    def __init__(self, out: int, *, settles: bool = False, latest: "int | None" = None) -> None:
        super().__init__(out, every_attribute=True, latest=latest)
        self.settles = settles

    def _add(self, path: bytes, name: bytes) -> bool:
        try:
            status = os.lstat(path)
        except OSError:
            return False  # gone since its directory was read
        if self.settles and not self._settle(path, status):
            return False
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            folder, _, last = name.rpartition(b"/")
            self._whiteout((folder + b"/" if folder else b"") + WHITEOUT.encode() + last, status)
            return False
        if not super()._add(path, name):
            return False
        if _is_opaque(path):
            self._whiteout(name + b"/" + OPAQUE.encode(), status)
        return True

    def _settle(self, path: bytes, status: os.stat_result) -> bool:
        """Give what stands there whole seconds and the attributes that an image keeps. False when it is gone then."""
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFSOCK:
            above = os.path.dirname(path) or b"/"
            before = os.lstat(above).st_mtime_ns
            os.unlink(path)
            os.utime(above, ns=(before, before))
            return False
        if kind != stat.S_IFLNK:
            for attribute in os.listxattr(path, follow_symlinks=False):
                self._settle_attribute(path, attribute)
        if status.st_mtime_ns % _SECOND:
            whole = status.st_mtime_ns // _SECOND * _SECOND
            os.utime(path, ns=(whole, whole), follow_symlinks=False)
        return True

    def _settle_attribute(self, path: bytes, attribute: str) -> None:
        if attribute == OPAQUE_ATTRIBUTE:
            return
        if attribute == CAPABILITY:
            value = os.getxattr(path, attribute, follow_symlinks=False)
            if value != kept_capability(value):
                os.setxattr(path, attribute, kept_capability(value), follow_symlinks=False)
        elif attribute.startswith(("trusted.", "user.")) and not is_kept(attribute):
            os.removexattr(path, attribute, follow_symlinks=False)

    def _whiteout(self, name: bytes, status: os.stat_result) -> None:
        mtime = self.told_time(status)
        self.put(tar_writer.member(name, tar_writer.FILE, _WHITEOUT_MODE, status.st_uid, status.st_gid, mtime))


def _is_opaque(path: bytes) -> bool:
    try:
        return os.getxattr(path, OPAQUE_ATTRIBUTE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def pack(directory: str, *, settles: bool = False, latest: "int | None" = None) -> int:
    """Pack `directory`, its own attributes left out as dockerd does: a layer does not say what "/" is. The bytes of
    what is in it, each file once. Files younger than `latest` (seconds since 1970) are told to be of that time.
    Raises BrokenPipeError when nobody reads it."""
    os.chroot(directory)
    os.chdir("/")
    if settles:
        os.chown("/", 0, 0)
        os.chmod("/", 0o755)  # noqa: S103 - the mode of "/" in every container
        for attribute in os.listxattr("/"):
            if attribute.startswith(("trusted.", "user.", "system.posix_acl_")):
                os.removexattr("/", attribute)
    packer = LayerPacker(1, settles=settles, latest=latest)
    packer.tree(b"/", b"", with_top=False)
    packer.finish()
    return packer.size
