"""Directory trees that a hostile container may have written, as deep and as odd as it likes: removing, weighing."""

import os
import stat

ENOTEMPTY, EEXIST = 39, 17


def remove_tree(path: str) -> None:
    """Remove a directory tree, or a file; what is missing already is no error.

    Never follows a symbolic link, and holds one descriptor however deep the tree is: a directory that is not empty
    is first moved to the top of the tree, so that every name is only ever looked up in one directory.
    Raises OSError (EBUSY) for a mount point inside.
    """
    try:
        os.unlink(path)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass  # Linux says EISDIR of a directory; EPERM comes from a flag such as immutable, and rmdir will say so
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        moved = 0
        while True:
            names = os.listdir(top)
            if not names:
                break
            for name in names:
                moved = _empty(top, name, moved)
    finally:
        os.close(top)
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return


def _empty(top: int, name: str, moved: int) -> int:
    """Remove `name` from `top`; if it is a directory, its own directories that hold something move up to `top`."""
    if _removed(name, top):
        return moved
    inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        for entry in os.listdir(inside):
            if _removed(entry, inside):
                continue
            while True:
                moved += 1
                try:
                    os.rename(entry, f".moved-{moved}", src_dir_fd=inside, dst_dir_fd=top)
                except (FileExistsError, IsADirectoryError, NotADirectoryError):
                    continue
                except OSError as error:
                    if error.errno != ENOTEMPTY:
                        raise
                    continue
                break
    finally:
        os.close(inside)
    os.rmdir(name, dir_fd=top)
    return moved


def _removed(name: str, folder: int) -> bool:
    """Whether `name` is gone now: a file, or an empty directory, is removed. False for a directory with entries."""
    try:
        os.unlink(name, dir_fd=folder)
        return True
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError):
        pass
    try:
        os.rmdir(name, dir_fd=folder)
        return True
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (ENOTEMPTY, EEXIST):
            raise
        return False


def disk_usage(path: str) -> int:
    """The bytes of all regular files in a tree, each inode once (as dockerd counts a volume or a layer)."""
    seen: set[tuple[int, int]] = set()
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return _weigh(folder, seen)
    finally:
        os.close(folder)


def _weigh(folder: int, seen: set[tuple[int, int]]) -> int:
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(status.st_mode):
                try:
                    inside = os.open(
                        entry.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder
                    )
                except OSError:
                    continue  # removed meanwhile
                try:
                    total += _weigh(inside, seen)
                finally:
                    os.close(inside)
            elif (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total
