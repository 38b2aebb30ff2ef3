"""The files of one build: a private directory with its context, and what is done to trees by `service/build_files.py`.

    <root>/tmp/build-<random>/context     what the client sent
                             /sent        the same as a tar, while nobody has needed the files themselves
                             /staging     where the program mounts, in a namespace of its own
                             /<number>    downloads, files of heredocs, the layer that a COPY writes

It is made when something goes into it: a build that finds all of its steps in the cache needs none. It is locked as
long as the build lives; `remove_leftovers` takes away what a killed one left.
"""

import _thread
import fcntl
import io
import os

from service import jsontext
from service.content import copying, tar_tree
from service.content.extract import told
from service.content.tar import BadArchive
from service.engine import archive, messages
from service.engine.files_process import FilesProcess
from service.errors import InvalidParameter, NotFound, SystemFailure
from service.forking import Forker
from service.kernel.openat2 import open_in_root
from service.kernel.tree import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from types import TracebackType

    from service.build_files import Job, Tree
    from service.engine.engine import Engine
    from service.settings import Settings

PROGRAM = Forker(
    os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "build_files.py"),
    does="works on the files of builds",
)
_PREFIX = "build-"
_PIECE = 1 << 20
_ENDED = "the build has ended"
_AT_ONCE = 1 << 16  # bytes of a context that are looked at sooner than a thread has begun to
_FEW = 100  # paths, likewise


def tree(layers: "Sequence[str]" = (), upper: str = "", work: str = "", path: str = "") -> "Tree":
    """A tree for the program: layers' directories, the uppermost first, and what is written over them; or a path."""
    return {"layers": list(layers), "upper": upper, "work": work, "path": path}


class BuildFiles:
    """One build's directory. Make it, and end it, in a thread: `with`."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.home = f"{engine.settings.root}/tmp/{_PREFIX}{os.urandom(8).hex()}"
        self.context, self.staging = f"{self.home}/context", f"{self.home}/staging"
        self.sent: tar_tree.TarTree | None = None  # the context, while it is not unpacked
        self._spool: tar_tree.Spool | None = None
        self._left_out: list[str] = []
        self._making = _thread.allocate_lock()
        self._lock = -1
        self._ended = False
        self._made = 0

    def __enter__(self) -> "BuildFiles":
        return self

    def begin(self) -> str:
        """Make the directory, unless it is there; its path. Blocking.

        Raises SystemFailure after the build's end: a thread that was on its way when the build was given up would make
        what nobody takes away.
        """
        with self._making:
            if self._ended:
                raise SystemFailure(_ENDED)
            if self._lock < 0:
                os.mkdir(self.home, 0o700)
                self._lock = os.open(self.home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                for folder in (self.context, self.staging):
                    os.mkdir(folder, 0o755)
                    os.chmod(folder, 0o755)  # noqa: S103 - the mode of "/" in the context; nobody enters the one above
        return self.home

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        with self._making:
            self._ended = True  # first: a thread that has not begun to read the context does not begin any more
        if self._spool is not None:  # without that lock: whoever reads takes it while it holds the spool's
            self._spool.close()
        with self._making:
            remove_tree(self.home)
            if self._lock >= 0:
                os.close(self._lock)

    def folder(self) -> str:
        """A new empty directory."""
        self.begin()
        self._made += 1
        path = f"{self.home}/{self._made}"
        os.mkdir(path, 0o755)
        os.chmod(path, 0o755)  # noqa: S103 - may become the "/" of a layer; nobody enters the one above it
        return path

    def open(self, path: str, folder: str = "") -> int:
        """A file of the context (or of `folder`), for reading; no link leads out. Raises OSError."""
        return open_in_root(folder or self.context, path, os.O_RDONLY | os.O_NONBLOCK)

    async def receive(self, tar: "AsyncIterator[bytes]") -> None:
        """Take the context, compressed or not. Its files are made when somebody needs them: that a step is in the cache
        can be told from the tar.

        Raises SystemFailure for a bad tar.
        """
        from service.content import layers

        first, pieces = b"", aiter(tar)
        while len(first) <= _AT_ONCE:
            try:
                first += await anext(pieces)
            except StopAsyncIteration:
                if layers.compression(first):
                    break  # nobody knows how much it is
                self._list(io.BytesIO(first).read)
                return await self._known()
        await messages.apart(_joined(first, pieces), self._list)
        return await self._known()

    def _list(self, read: "Callable[[int], bytes]") -> None:
        from service.content import layers

        pieces = layers.decompressed(read)
        spool = tar_tree.Spool(lambda _: next(pieces, b""), lambda: f"{self.begin()}/sent")
        with self._making:
            if self._ended:
                raise SystemFailure(_ENDED)
            self._spool = spool
        try:
            self.sent = tar_tree.listed(spool)
        except BadArchive as error:
            raise SystemFailure(str(error)) from None
        except OSError as error:
            raise SystemFailure(f"receiving the build context: {told(error)}") from error

    @property
    def is_little(self) -> bool:
        """Whether the context is not unpacked, and looked at sooner than a thread has begun to."""
        sent = self.sent
        return sent is not None and sent.count <= _FEW and sent.spool.size <= _AT_ONCE

    async def _known(self) -> None:
        if self.sent is None:
            await self._unpack()

    async def unpacked(self) -> None:
        """Make the files of the context, if they are not there. Raises SystemFailure."""
        if self.sent is not None:
            await self._unpack()
            self.sent = None
            for path in self._left_out:
                await self.engine.thread(self._remove, path)

    async def _unpack(self) -> None:
        assert self._spool is not None
        file = await self.engine.thread(self._spool.file)
        try:
            await self.done({"do": "unpack", "staging": self.staging, "folder": self.context}, file)
        finally:
            os.close(file)
        self._spool.close()

    def read(self, path: str) -> bytes:
        """What a file of the context holds. Raises NotFound, SystemFailure. Blocking."""
        try:
            if self.sent is not None:
                return self.sent.read("/".join(copying.followed(self.sent, path)))
            with open(self.open(path), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(path) from None
        except OSError as error:
            raise SystemFailure(f"{path}: {os.strerror(error.errno or 0)}") from error

    def leave_out(self, path: str) -> None:
        """Take something out of the context, if it is there. Blocking."""
        if self.sent is None:
            self._remove(path)
            return
        above, _, name = path.rpartition("/")
        try:
            self.sent.remove("/".join((*copying.followed(self.sent, above), name)))
        except OSError:
            return  # it is not there
        self._left_out.append(path)

    def _remove(self, path: str) -> None:
        folder = os.path.realpath(f"{self.context}/{os.path.dirname(path)}")
        if f"{folder}/".startswith(f"{os.path.realpath(self.context)}/"):
            remove_tree(f"{folder}/{os.path.basename(path)}")

    async def extract(self, target: "Tree", destination: str, path: str, folder: str = "", *, owner: str = "") -> None:
        """Extract an archive of the context (or of `folder`) into a directory of the target. `owner` (user[:group]): of
        what is made; empty: as the archive says."""
        file = self.open(path, folder)
        try:
            job: Job = {"do": "extract", "staging": self.staging, "target": target, "destination": destination}
            job["owner"], job["later"] = owner, bool(owner)
            await self._fed(job, _pieces(self.engine, file))
        finally:
            os.close(file)

    async def _fed(self, job: "Job", tar: "AsyncIterator[bytes]") -> None:
        await self.engine.thread(self.begin)
        async with FilesProcess(self.engine, job, program=PROGRAM, fed=True) as program:
            await archive.feed(program, tar)
            await program.answer()

    async def make(self, target: "Tree", destination: str) -> None:
        """Make a directory in the target, with those above it."""
        await self.done({"do": "make", "staging": self.staging, "target": target, "destination": destination})

    async def done(self, job: "Job", file: int = -1) -> None:
        """Do a job that takes no input, or a file's."""
        await self.engine.thread(self.begin)
        async with FilesProcess(self.engine, job, program=PROGRAM, file=file) as program:
            await program.answer()


class Copy:
    """One COPY or ADD in two parts: what there is to copy (`found`), and the copy (`copy`). `async with`.

    What lies in directories of the service's own (a context, not an image) is looked at here: a step that is in the
    cache needs no program then, and of a mirrored context nothing is read.
    """

    def __init__(
        self, files: BuildFiles, job: "Job", failing: str, target: "Callable[[], Awaitable[Tree]] | None" = None
    ) -> None:
        """`failing`: how errors begin that come before the copy; `target` makes the job's, where it has none yet."""
        self.files, self.engine, self.job, self.failing, self.target = files, files.engine, job, failing, target
        self.begun = False
        self.program = FilesProcess(files.engine, job, program=PROGRAM, fed=True)
        self.found: list[tuple[str, str]] = []  # (path, hash)

    async def __aenter__(self) -> "Copy":
        if _is_little(self.files, self.job):
            found = _found(self.files, self.job)
        else:
            found = await self.engine.thread(_found, self.files, self.job)
        if found is None:
            await self._begin()
        else:
            self.found = found
            self.job["unhashed"] = True
        return self

    async def _begin(self) -> None:
        if any(origin["path"] == self.files.context for origin, _ in self.job["sources"]):
            await self.files.unpacked()
        if self.target is not None:
            self.job["target"] = await self.target()
        await self.engine.thread(self.files.begin)
        await self.program.begin()
        self.begun = True
        try:
            told = (await self.program.answer())["found"]
        except (InvalidParameter, SystemFailure) as error:
            await self.program.aclose()
            raise SystemFailure(self.failing + error.message) from None
        except BaseException:
            await self.program.aclose()
            raise
        if not self.job.get("unhashed"):
            self.found = [(path, hash) for path, hash in told]

    async def __aexit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        if self.begun:
            await self.program.aclose()

    async def copy(self, wanted: "Sequence[int]") -> None:
        """Copy those of `found`. Raises InvalidParameter for an unknown owner, SystemFailure, NotFound."""
        if not self.begun:
            await self._begin()
        await self.program.feed(jsontext.dump_bytes({"wanted": list(wanted)}) + b"\n")
        await self.program.answer()


def _is_little(files: BuildFiles, job: "Job") -> bool:
    """Whether what is there is found sooner than a thread has begun to look for it."""
    return files.is_little and all(origin["path"] == files.context for origin, _ in job["sources"])


def _found(files: BuildFiles, job: "Job") -> "list[tuple[str, str]] | None":
    """(path, hash) of what is to be copied, when that lies in directories of ours that nobody writes to meanwhile.

    None: it does not, or something is wrong with it, which the program then says. Blocking.
    """
    from service.content import mirror

    if job.get("parents"):
        return None  # its patterns mean more than `mirror` knows
    found: list[tuple[str, str]] = []
    for origin, patterns in job["sources"]:
        folder = origin["path"]
        if not folder or origin["layers"] or origin["upper"]:
            return None
        for pattern in patterns:
            try:
                if folder == files.context and files.sent is not None:
                    found += copying.found_in(files.sent, pattern)
                elif folder.startswith(files.engine.settings.mirrors + "/"):
                    found += mirror.found(folder, pattern)
                else:
                    found += [(each.path, each.hash) for each in copying.found(folder, pattern)]
            except (OSError, ValueError):
                return None
    return found


async def _joined(first: bytes, rest: "AsyncIterator[bytes]") -> "AsyncIterator[bytes]":
    yield first
    async for piece in rest:
        yield piece


async def _pieces(engine: "Engine", file: int) -> "AsyncIterator[bytes]":
    while piece := await engine.thread(os.read, file, _PIECE):
        yield piece


def is_archive(folder: str, path: str) -> bool:
    """Whether a file in a directory is a tar, compressed or not. Blocking."""
    from service.content import layers
    from service.content.tar import Reader, Source

    class Pieces(Source):
        def more(self) -> bytes:
            return next(pieces, b"")

    try:
        with open(open_in_root(folder, path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0) as file:
            pieces = layers.decompressed(file.read)
            return Reader(Pieces(-1)).next() is not None
    except (BadArchive, SystemFailure, InvalidParameter, OSError):
        return False


def remove_leftovers(settings: "Settings") -> None:
    """Remove the directories of builds that were killed. Blocking."""
    for name in os.listdir(settings.root + "/tmp"):
        if not name.startswith(_PREFIX):
            continue
        path = f"{settings.root}/tmp/{name}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(path)
        except BlockingIOError:
            continue
        finally:
            os.close(fd)
