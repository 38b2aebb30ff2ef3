"""mount_namespaces(7): one of a process's own. For programs with a single thread; the service never does this."""

import os

from service.kernel import mount
from service.kernel.libc import check, libc, syscall

_CLONE_NEWNS = 0x00020000
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
# include/uapi/linux/mount.h: MOUNT_ATTR_…
RDONLY, NOSUID, NODEV = 1, 2, 4
_ENOSYS, _EINVAL = 38, 22
_ST_RDONLY, _ST_NOEXEC = 1, 8  # of statvfs(3), with the numbers of MS_RDONLY and MS_NOEXEC


def unshare() -> None:
    """A copy of the machine's mounts for this process alone: what it mounts goes when it ends, however it ends."""
    check(libc().unshare(_CLONE_NEWNS))
    mount.mount("", "/", flags=mount.MS_PRIVATE | mount.MS_REC)


def restrict(path: str, attributes: int) -> None:
    """Set `attributes` on the mount at `path` and on all below it (mount_setattr(2)); none is taken away.

    A kernel before 5.12 can change the uppermost only.
    """
    import ctypes

    asked = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    name = ctypes.c_char_p(os.fsencode(path))
    try:
        check(
            syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, name, _AT_RECURSIVE, ctypes.byref(asked), ctypes.sizeof(asked)),
            path,
        )
    except OSError as error:
        if error.errno != _ENOSYS:
            raise
        kept = os.statvfs(path).f_flag & (_ST_RDONLY | _ST_NOEXEC)
        mount.mount("", path, flags=mount.MS_REMOUNT | mount.MS_BIND | kept | attributes)


def enter(root: str) -> None:
    """Make the mount at `root` the root directory, and let go of all other mounts."""
    os.chdir(root)
    try:
        check(libc().pivot_root(b".", b"."), root)  # the old root now lies upon the new one (pivot_root(2), NOTES)
        mount.umount(".", mount.MNT_DETACH)
    except OSError as error:
        if error.errno != _EINVAL:
            raise
        os.chroot(".")  # the machine runs from its initial ramfs, which nothing can pivot away from
    os.chdir("/")
