"""Copy a directory tree into another directory, where others may rename, remove and link whatever they like meanwhile.

Every name is looked up in one open directory, or below the top with openat2 and without symbolic links, so that nothing
is read or changed outside of the two trees. What somebody else has made in a place is left alone. Descriptors are held
for two directories and a file, however deep the tree is.
"""

import errno
import fcntl
import os
import stat

from service.kernel.openat2 import open_below

_FICLONE = 0x40049409  # linux/fs.h
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_PIECE = 1 << 30
_LONG = 3500  # bytes of a path that are looked up at once; PATH_MAX is 4096
_NOT_HERE = (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL, errno.ENODATA)  # attributes that the target does not take
# what replaced a directory of ours meanwhile cannot be gone on with
_TAKEN_AWAY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)


def copy_tree(source: int, target: int) -> None:
    """Copy what the open directory `source` holds, and its own attributes, to the open directory `target`.

    Owner, mode, times, extended attributes, hard links, holes and devices are kept. `target` may be opened by O_PATH.
    Raises OSError. `source` is nobody else's to change.
    """
    linked: dict[tuple[int, int], str] = {}  # files with several names: where their first one has been made
    folders = [""]
    for folder in folders:  # grows
        try:
            inside = _descend(target, folder)
        except OSError as error:
            if error.errno in _TAKEN_AWAY:
                continue
            raise
        try:
            _copy_folder(source, target, folder, inside, linked, folders)
        finally:
            os.close(inside)
    for folder in reversed(folders):  # when nothing is made in them any more, which would change their times
        _finish(source, target, folder)


def _copy_folder(
    source: int, target: int, folder: str, inside: int, linked: dict[tuple[int, int], str], folders: list[str]
) -> None:
    """Copy what a directory holds but for what its directories hold: those are added to `folders`."""
    outside = _descend(source, folder)
    try:
        for name in sorted(os.listdir(outside)):
            status = os.stat(name, dir_fd=outside, follow_symlinks=False)
            path = f"{folder}/{name}" if folder else name
            if stat.S_ISDIR(status.st_mode):
                try:
                    os.mkdir(name, 0o700, dir_fd=inside)
                except FileExistsError:
                    pass  # a directory is filled, too; anything else is found out when it is opened
                folders.append(path)
                continue
            if status.st_nlink > 1:
                first = linked.setdefault((status.st_dev, status.st_ino), path)
                if first != path and _link(target, first, status, inside, name):
                    continue
            _copy_file(outside, inside, name, status)
    finally:
        os.close(outside)


def _descend(top: int, path: str) -> int:
    """A descriptor of the directory `path` below `top`."""
    at = os.open(".", _DIRECTORY | os.O_CLOEXEC, dir_fd=top)
    while path:
        cut = path.find("/", _LONG)
        step, path = (path, "") if cut < 0 else (path[:cut], path[cut + 1 :])
        try:
            below = open_below(at, step, _DIRECTORY)
        finally:
            os.close(at)
        at = below
    return at


def _link(target: int, first: str, status: os.stat_result, inside: int, name: str) -> bool:
    """Give the copy that has been made at `first` another name. False when it is not what was made there any more."""
    folder, _, last = first.rpartition("/")
    try:
        parent = _descend(target, folder)
        try:
            made = os.open(last, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        finally:
            os.close(parent)
    except OSError as error:
        if error.errno in _TAKEN_AWAY:
            return False
        raise
    try:
        now = os.fstat(made)
        same = (now.st_mode, now.st_uid, now.st_gid, now.st_size) == (
            status.st_mode, status.st_uid, status.st_gid, status.st_size,
        )  # fmt: skip
        if not same:
            return False
        os.link(f"/proc/self/fd/{made}", name, dst_dir_fd=inside, follow_symlinks=True)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.ENOENT, errno.EXDEV):
            raise
        return False
    finally:
        os.close(made)
    return True


def _copy_file(outside: int, inside: int, name: str, status: os.stat_result) -> None:
    """Copy what is no directory; what has got that name meanwhile stays."""
    if stat.S_ISREG(status.st_mode):
        _copy_regular(outside, inside, name, status)
        return
    try:
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=outside), name, dir_fd=inside)
        else:
            os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=inside)
        made = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inside)
    except (FileExistsError, FileNotFoundError):
        return
    try:
        found = os.fstat(made)
        if (stat.S_IFMT(found.st_mode), found.st_rdev) != (stat.S_IFMT(status.st_mode), status.st_rdev):
            return
        original = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=outside)
        try:
            _attributes(original, made, status)
        finally:
            os.close(original)
    finally:
        os.close(made)


def _copy_regular(outside: int, inside: int, name: str, status: os.stat_result) -> None:
    original = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=outside)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            made = os.open(name, flags, 0o600, dir_fd=inside)
        except FileExistsError:
            return
        try:
            _copy_bytes(original, made, status.st_size)
            _attributes(original, made, status)
        finally:
            os.close(made)
    finally:
        os.close(original)


def _copy_bytes(original: int, made: int, size: int) -> None:
    """The same blocks where the file system can share them; else what is no hole."""
    try:
        fcntl.ioctl(made, _FICLONE, original)
        return
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.EBADF):
            raise
    at = 0
    while at < size:
        try:
            at = os.lseek(original, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # only a hole is left
        end = os.lseek(original, at, os.SEEK_HOLE)
        os.lseek(made, at, os.SEEK_SET)
        while at < end:
            sent = os.sendfile(made, original, at, min(end - at, _PIECE))
            if not sent:
                break
            at += sent
    os.ftruncate(made, size)


def _attributes(original: int, made: int, status: os.stat_result) -> None:
    """Give an open copy the original's owner, attributes, mode and times, in this order: one undoes the next."""
    source, place = f"/proc/self/fd/{original}", f"/proc/self/fd/{made}"  # works for O_PATH, and follows no link
    os.chown(place, status.st_uid, status.st_gid)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(place, stat.S_IMODE(status.st_mode))
    for attribute in _listed(source):
        try:
            os.setxattr(place, attribute, os.getxattr(source, attribute))
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
    os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))


def _listed(path: str) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        return []


def _finish(source: int, target: int, folder: str) -> None:
    """Give the copy of a directory its attributes, unless somebody has put something else in its place."""
    try:
        made = _descend(target, folder)
    except OSError as error:
        if error.errno in _TAKEN_AWAY:
            return
        raise
    try:
        original = _descend(source, folder)
        try:
            _attributes(original, made, os.fstat(original))
        finally:
            os.close(original)
    finally:
        os.close(made)
