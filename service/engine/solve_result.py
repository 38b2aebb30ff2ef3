"""What a build has built, as long as nobody has made an image of it: to be looked into, exported, or built upon."""

import asyncio
import os
import stat

from service.content import platforms
from service.engine.build_files import Copy, tree
from service.engine.solving import FileStat
from service.errors import InvalidParameter, NotFound
from service.kernel.openat2 import open_in_root
from service.store import build_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.build_files import Job
    from service.engine.solve import Solve
    from service.engine.solve_image import Built

_LARGEST = 16 << 20  # bytes of a file that are given at once


class Result:
    """`solving.Solved`, and what the export needs of it. `built` is None for the answer to a `requestid`."""

    def __init__(self, solve: "Solve", built: "Built | None", platform: str, answered: "dict[str, bytes]") -> None:
        self.solve, self.built, self.platform = solve, built, platform
        self.id = build_cache.new_id()
        self.used, self.attributes = solve.used, solve.attributes
        self.is_answer = built is None
        self.config = b"" if built is None else built.document(platforms.parse(platform))
        self.metadata: Mapping[str, bytes] = answered if built is None else {"containerimage.config": self.config}
        self._looking: Copy | None = None
        self._root = -1
        self._lock = asyncio.Lock()

    async def root(self) -> str:
        """The files, as a directory to read from: symbolic links in it lead where they say only within it."""
        if self.built is None:
            raise InvalidParameter("there is no file system: a question was asked")
        async with self._lock:
            if self._root < 0:
                await self._open()
        return f"/proc/self/fd/{self._root}"

    async def _open(self) -> None:
        assert self.built is not None
        solve = self.solve
        # a program mounts the layers in a namespace of its own; the descriptor keeps the mount as long as we need it
        job: Job = {
            "do": "copy",
            "staging": solve.files.staging,
            "target": tree(path=solve.files.folder()),
            "sources": [(solve.tree(self.built.layers), [])],
            "destination": "/",
        }
        looking = Copy(solve.files, job, "")
        async with looking:
            path = f"/proc/{looking.program.pid}/root/source0"
            self._root = await solve.thread(os.open, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    async def aclose(self) -> None:
        """Let go of the files."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    async def read_file(self, path: str, offset: int = 0, length: int = 0) -> bytes:
        """`Solved.read_file`."""
        root = await self.root()
        return await self.solve.thread(_read, root, path, offset, length)

    async def stat_file(self, path: str) -> FileStat:
        """`Solved.stat_file`."""
        root = await self.root()
        return await self.solve.thread(_stat, root, path)

    async def read_dir(self, path: str, pattern: str = "") -> "list[FileStat]":
        """`Solved.read_dir`."""
        root = await self.root()
        return await self.solve.thread(_list, root, path, pattern)


def _opened(root: str, path: str, flags: int) -> int:
    try:
        return open_in_root(root, path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"open {path}: no such file or directory") from None
    except OSError as error:
        raise InvalidParameter(f"open {path}: {os.strerror(error.errno or 0).lower()}") from None


def _read(root: str, path: str, offset: int, length: int) -> bytes:
    fd = _opened(root, path, os.O_RDONLY | os.O_NONBLOCK)
    with open(fd, "rb", 0) as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidParameter(f"read {path}: is a directory")
        file.seek(offset)
        return file.read(min(length or _LARGEST, _LARGEST)) or b""


def _stat(root: str, path: str) -> FileStat:
    folder, name = os.path.split(os.path.normpath("/" + path))
    fd = _opened(root, folder, os.O_PATH | os.O_DIRECTORY)
    try:
        return _of(f"/proc/self/fd/{fd}/{name}" if name else f"/proc/self/fd/{fd}/.", name or "/")
    except FileNotFoundError:
        raise NotFound(f"lstat {path}: no such file or directory") from None
    finally:
        os.close(fd)


def _list(root: str, path: str, pattern: str) -> "list[FileStat]":
    import fnmatch

    fd = _opened(root, path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        names = sorted(os.listdir(fd), key=os.fsencode)
        return [
            _of(f"/proc/self/fd/{fd}/{name}", name) for name in names if not pattern or fnmatch.fnmatch(name, pattern)
        ]
    finally:
        os.close(fd)


def _of(full: str, name: str) -> FileStat:
    status = os.lstat(full)
    link = os.readlink(full) if stat.S_ISLNK(status.st_mode) else ""
    return FileStat(
        name,
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_size if not stat.S_ISDIR(status.st_mode) else 0,
        status.st_mtime_ns,
        link,
        status.st_rdev,
    )
