"""Project quotas: how much a directory and all that is made in it may hold (XFS and ext4 with `prjquota`).

Each limited directory has a project number of its own, which what is made below it inherits. quotactl_fd(2) is told the
file system by a descriptor, so that no device node has to be made; Linux has it since 5.14, and earlier ones count as
having no quotas. Source: quotactl(2), linux/fs.h, linux/dqblk_xfs.h.
"""

import fcntl
import os
import struct

from service.kernel.libc import check, syscall

_SYS_QUOTACTL_FD = 443
_PRJQUOTA = 2
_Q_XSETQLIM = (ord("X") << 8) + 4
_XFS_PROJ_QUOTA = 2
_FS_DQ_BSOFT, _FS_DQ_BHARD = 1 << 2, 1 << 3
_FSGETXATTR, _FSSETXATTR = 0x801C581F, 0x401C5820
_PROJECT_INHERITED = 0x200
_ATTRIBUTES = struct.Struct("=5I8x")  # xflags, extsize, nextents, projid, cowextsize
_DISK_QUOTA = struct.Struct("=bbHIQQ")  # version, flags, fieldmask, id, hard and soft limit in blocks of 512 bytes
_DISK_QUOTA_SIZE = 112
_FIRST = 0x6D6F0000  # numbers of our own: administrators (/etc/projid) and dockerd count from 1


def project(fd: int) -> int:
    """The project number of an open directory or file; 0 where it has none. Raises OSError (ENOTTY, EOPNOTSUPP)."""
    return _attributes(fd)[3]


def _attributes(fd: int) -> list[int]:
    space = bytearray(_ATTRIBUTES.size)
    fcntl.ioctl(fd, _FSGETXATTR, space)
    return list(_ATTRIBUTES.unpack(space))


def is_supported(fd: int) -> bool:
    """Whether the file system of an open directory accounts for projects and enforces their limits."""
    try:
        _set_limit(fd, project(fd) + 1, 0)
    except OSError:
        return False
    return True


def limit(fd: int, number: int, size: int) -> None:
    """Let the open directory be of project `number`, and that project hold `size` bytes. Raises OSError."""
    attributes = _attributes(fd)
    attributes[3] = number
    attributes[0] |= _PROJECT_INHERITED
    fcntl.ioctl(fd, _FSSETXATTR, _ATTRIBUTES.pack(*attributes))
    _set_limit(fd, number, size)


def _set_limit(fd: int, number: int, size: int) -> None:
    import ctypes

    space = bytearray(_DISK_QUOTA_SIZE)
    blocks = size // 512
    _DISK_QUOTA.pack_into(space, 0, 1, _XFS_PROJ_QUOTA, _FS_DQ_BHARD | _FS_DQ_BSOFT, number, blocks, blocks)
    held = (ctypes.c_char * len(space)).from_buffer(space)
    check(syscall(_SYS_QUOTACTL_FD, fd, _Q_XSETQLIM << 8 | _PRJQUOTA, number, held))


def free_number(fd: int, others: "list[str]") -> int:
    """A project number that none of the directories `others` has, nor the open directory around them."""
    taken = [_FIRST, project(fd)]
    for path in others:
        try:
            one = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed just now
        try:
            taken.append(project(one))
        finally:
            os.close(one)
    return max(taken) + 1
