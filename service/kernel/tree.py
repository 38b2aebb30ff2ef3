"""Directory trees that a hostile container may have written, as deep and as odd as it likes: removing, weighing."""

import os
import stat

ENOTEMPTY, EEXIST, ELOOP = 39, 17, 40


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
        moved = fruitless = 0
        while True:
            names = os.listdir(top)
            fruitless = 0 if names else fruitless + 1
            for name in names:
                moved = _empty(top, name, moved)
            try:
                os.rmdir(path)
                return
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno != ENOTEMPTY or fruitless > 9:
                    raise
                # not empty yet; or somebody (a log being compressed) made another file meanwhile
    finally:
        os.close(top)


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


_HELD = 32  # descriptors held while weighing, however deep the tree is


def disk_usage(path: str) -> int:
    """The bytes of all files in a tree that are not directories, each inode once (as dockerd counts a volume or layer).

    Never follows a symbolic link. A directory that is moved away or removed meanwhile is counted as far as it was seen.
    """
    total = 0
    linked: set[tuple[int, int]] = set()  # files with several names that were counted
    levels: list[_Level] = []
    name, above = path, -1
    try:
        while True:
            level = _Level.enter(name, above)
            if level is not None:
                levels.append(level)
                total += level.weigh(linked)
                if len(levels) > _HELD:
                    levels[-1 - _HELD].release()
            while levels and not (levels[-1].folders and levels[-1].held):
                done = levels.pop()
                if levels:
                    levels[-1].below(done)
                done.release()
            if not levels:
                return total
            name, above = levels[-1].folders.pop(), levels[-1].fd
    finally:
        for left in levels:
            left.release()


class _Level:
    """One directory on the way down: its descriptor (-1 when given up for a while) and the directories yet to enter."""

    __slots__ = ("fd", "folders", "identity")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.identity = _identity(os.fstat(fd))
        self.folders: list[str] = []

    @classmethod
    def enter(cls, name: str, above: int) -> "_Level | None":
        """The directory `name` in the directory `above` (-1: a path); None when there is none (any more)."""
        try:
            return cls(os.open(name, _DIRECTORY, dir_fd=None if above < 0 else above))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno != ELOOP:
                raise
            return None  # it has become a link

    def weigh(self, linked: set[tuple[int, int]]) -> int:
        """The bytes of the files directly inside; the directories are noted."""
        total = 0
        with os.scandir(self.fd) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    self.folders.append(entry.name)
                    continue
                if status.st_nlink > 1:
                    if _identity(status) in linked:
                        continue
                    linked.add(_identity(status))
                total += status.st_size
        return total

    def below(self, done: "_Level") -> None:
        """Go back up from `done`, when this one's descriptor was given up: its parent, if that is still this one."""
        if self.fd < 0 and done.fd >= 0:
            fd = os.open("..", _DIRECTORY, dir_fd=done.fd)
            if _identity(os.fstat(fd)) == self.identity:
                self.fd = fd
            else:
                os.close(fd)  # moved meanwhile: the rest of this one is not looked for

    @property
    def held(self) -> bool:
        """Whether there is a descriptor to go on with."""
        return self.fd >= 0

    def release(self) -> None:
        """Give the descriptor up."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
