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
_Q_XSETQLIM, _Q_XGETQSTAT = (ord("X") << 8) + 4, (ord("X") << 8) + 5
_XFS_PROJ_QUOTA = 2
_FS_DQ_BSOFT, _FS_DQ_BHARD = 1 << 2, 1 << 3
_FSGETXATTR, _FSSETXATTR = 0x801C581F, 0x401C5820
_PROJECT_INHERITED = 0x200
_ATTRIBUTES = struct.Struct("=5I8x")  # xflags, extsize, nextents, projid, cowextsize
_DISK_QUOTA = struct.Struct("=bbHIQQ")  # version, flags, fieldmask, id, hard and soft limit in blocks of 512 bytes
_DISK_QUOTA_SIZE = 112
_STATE = struct.Struct("=bxH")  # how struct fs_quota_stat begins: version, flags
_STATE_SIZE = 80
_COUNTED, _HELD = 1 << 4, 1 << 5  # FS_QUOTA_PDQ_ACCT, FS_QUOTA_PDQ_ENFD: ext4 may do the one without the other
# Numbers of our own: administrators (/etc/projid) and dockerd count from 1. No directory gets the first one.
_FIRST = 0x6D6F0000


def project(fd: int) -> int:
    """The project number of an open directory or file; 0 where it has none. Raises OSError (ENOTTY, EOPNOTSUPP)."""
    return _attributes(fd)[3]


def _attributes(fd: int) -> list[int]:
    space = bytearray(_ATTRIBUTES.size)
    fcntl.ioctl(fd, _FSGETXATTR, space)
    return list(_ATTRIBUTES.unpack(space))


def is_supported(fd: int) -> bool:
    """Whether the file system of an open directory accounts for projects and enforces their limits."""
    space = bytearray(_STATE_SIZE)
    try:
        _quotactl(fd, _Q_XGETQSTAT, 0, space)
    except OSError:
        return False
    _, flags = _STATE.unpack_from(space)
    return bool(flags & _COUNTED and flags & _HELD)


def limit(fd: int, number: int, size: int) -> None:
    """Let the open directory be of project `number`, and that project hold `size` bytes. Raises OSError."""
    attributes = _attributes(fd)
    attributes[3] = number
    attributes[0] |= _PROJECT_INHERITED
    fcntl.ioctl(fd, _FSSETXATTR, _ATTRIBUTES.pack(*attributes))
    _set_limit(fd, number, size)


def _set_limit(fd: int, number: int, size: int) -> None:
    space = bytearray(_DISK_QUOTA_SIZE)
    blocks = size // 512
    _DISK_QUOTA.pack_into(space, 0, 1, _XFS_PROJ_QUOTA, _FS_DQ_BHARD | _FS_DQ_BSOFT, number, blocks, blocks)
    _quotactl(fd, _Q_XSETQLIM, number, space)


def _quotactl(fd: int, command: int, number: int, space: bytearray) -> None:
    import ctypes

    held = (ctypes.c_char * len(space)).from_buffer(space)
    check(syscall(_SYS_QUOTACTL_FD, fd, command << 8 | _PRJQUOTA, number, held))


def free_number(fd: int, others: "list[str]") -> int:
    """The lowest project number of ours that none of the directories `others` has, nor the open one around them."""
    taken = {_FIRST, project(fd)}
    for path in others:
        try:
            one = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed just now
        try:
            taken.add(project(one))
        finally:
            os.close(one)
    number = _FIRST
    while number in taken:
        number += 1
    return number
