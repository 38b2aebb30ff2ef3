"""One piece of work on a container's files: a program of its own, run by `engine.archive` as `python -I -S`.

It makes the view that Docker shows (`content.view`) in a mount namespace of its own, takes it as its root directory,
and then works there by plain paths: whatever the container does to its directories meanwhile, no path means anything
outside. It ends with its work, or when the service does; nothing is left of it.

Descriptors: 0 the tar that comes in, 1 the tar that goes out, 3 what to do (JSON), 4 what became of it (lines of JSON).

    {"do": "stat"}      → {"stat": {…}}
    {"do": "archive"}   → {"stat": {…}}, then the tar on 1
    {"do": "export"}    → {"ready": true, "shared": …}, then the tar on 1
    {"do": "extract"}   → {"ready": true, "shared": …} once the tar is wanted, {"done": true} when all of it was written
    any of them         → {"error": "…", "kind": "missing" | "refused" | "failed"}

`shared`: the container runs, and its own mount is worked on.
"""

import os
import stat
import sys

if __name__ == "__main__":  # run by path, isolated: the project is not on sys.path
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from service import jsontext, timestamps
from service.content import extract, pack, view
from service.content.tar import BadArchive, Source
from service.errors import InvalidParameter, SystemFailure
from service.runtime import users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NotRequired, TypedDict

    from service.content.view import View

    class PathStat(TypedDict):
        """API: ContainerPathStat, in Go's words."""

        name: str
        size: int
        mode: int
        mtime: str
        linkTarget: str

    class Job(TypedDict):
        """What to do."""

        do: str
        view: View
        path: str  # as the client wrote it
        read_only_root: NotRequired[bool]
        points: NotRequired[list[tuple[str, bool]]]  # where something is mounted, and whether it may be written to
        owner: NotRequired[str]  # Config.User, when extracted files are to be the user's
        keep_kinds: NotRequired[bool]


JOB, ANSWERS = 3, 4
_MOST_LINKS = 255  # moby/sys/symlink
_ENOTDIR, _ELOOP = 20, 40
# Go's os.FileMode: the bits that are not Unix's own
_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_FLAGS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


class Failed(Exception):  # noqa: N818 - it says what happened
    """Something in the container's files is not as it must be; the message is for the client."""


def answer(what: object) -> None:
    """Tell the service. When it is gone, so is the reason for all of this."""
    try:
        os.write(ANSWERS, jsontext.dump_bytes(what) + b"\n")
    except BrokenPipeError:
        os._exit(1)


def base(path: str) -> str:
    """Go's filepath.Base: the last part, "." and "/" included."""
    return path.rstrip("/").rpartition("/")[2] or ("/" if path else ".")


def absolute(path: str) -> str:
    """A client's path from the root, cleaned, but for what says that it is a directory: a last `/` or `/.`."""
    clean = os.path.normpath("/" + path.lstrip("/"))
    if base(path) == "." and clean != "/":
        return clean + "/."
    if base(path) == ".":
        return "/."
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def go_mode(mode: int) -> int:
    """A Unix mode as Go's os.FileMode."""
    return (mode & 0o777) | _TYPES.get(stat.S_IFMT(mode), 0) | sum(go for bit, go in _FLAGS.items() if mode & bit)


def look(path: str) -> os.stat_result:
    """lstat. Raises FileNotFoundError, and Failed with Go's sentence."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Failed(f"lstat {path}: {extract.told(error)}") from None


def path_stat(path: str) -> "PathStat":
    """What is at `path`; a link's target is where its links lead, as far as they do."""
    status = look(path)
    return {
        "name": _text(base(path)),
        "size": status.st_size,
        "mode": go_mode(status.st_mode),
        "mtime": timestamps.rfc3339(status.st_mtime_ns),
        "linkTarget": _text(followed(path)) if stat.S_ISLNK(status.st_mode) else "",
    }


def _text(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


def followed(path: str) -> str:
    """`path` with all links resolved; what does not exist is kept as written."""
    left = [part for part in reversed(path.split("/")) if part]
    at = "/"
    links = 0
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            at = os.path.dirname(at)
            continue
        at = f"{at.rstrip('/')}/{part}"
        try:
            target = os.readlink(at)
        except OSError:
            continue  # no link
        links += 1
        if links > _MOST_LINKS:
            raise Failed(f"evalSymlinksInScope: too many links in {path}")
        at = "/" if target.startswith("/") else os.path.dirname(at)
        left += reversed(target.split("/"))
    return at


def tell(job: "Job", _: bool) -> None:
    """Say what is at the path."""
    answer({"stat": path_stat(job["path"])})


def archive(job: "Job", _: bool) -> None:
    """Pack what is at the path under its own last name."""
    path = absolute(job["path"])
    answer({"stat": path_stat(path)})
    name = base(path)
    packer = pack.Packer(1)
    packer.tree(os.fsencode(path), b"" if name == "/" else os.fsencode(name))
    packer.finish()


def export(_: "Job", shared: bool) -> None:
    """Pack everything."""
    answer({"ready": True, "shared": shared})
    packer = pack.Packer(1, every_attribute=True)
    packer.tree(b"/", b"", with_top=False)
    packer.finish()


def unpack(job: "Job", shared: bool) -> None:
    """Extract into the directory that the path leads to."""
    folder = _destination(job["path"])
    _check_writable(job, folder)
    owner = None
    if job.get("owner"):
        user = users.resolve_user("/", job["owner"])
        owner = user.uid, user.gid
    answer({"ready": True, "shared": shared})
    extract.Extractor(Source(0), folder, owner=owner, keep_kinds=bool(job.get("keep_kinds"))).run()
    answer({"done": True})


def _destination(path: str) -> str:
    clean = absolute(path)
    try:
        folder = os.path.realpath(clean, strict=True)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Failed("EvalSymlinks: too many links" if error.errno == _ELOOP else extract.told(error)) from None
    if clean.endswith("/.") or clean.endswith("/"):
        look(folder.rstrip("/") + ("/." if clean.endswith("/.") else "/"))
    if not stat.S_ISDIR(look(folder).st_mode):
        raise InvalidParameter("extraction point is not a directory")
    return folder


def _check_writable(job: "Job", folder: str) -> None:
    points = [(place, writable) for place, writable in job.get("points", ()) if f"{folder}/".startswith(f"{place}/")]
    if points:
        if not max(points, key=lambda point: len(point[0]))[1]:
            raise InvalidParameter("mounted volume is marked read-only")
    elif job.get("read_only_root"):
        raise InvalidParameter("container rootfs is marked read-only")


WORK = {"stat": tell, "archive": archive, "export": export, "extract": unpack}


def main() -> int:
    """Do what descriptor 3 says; the exit code is 0 when all of it was done."""
    os.umask(0)
    with open(JOB, "rb") as file:
        job: Job = jsontext.loads(file.read())
    try:
        shared = view.enter(job["view"])
    except OSError as error:
        answer({"error": f"{error.filename or 'mount'}: {extract.told(error)}", "kind": "failed"})
        return 1
    except SystemFailure as error:
        answer({"error": error.message, "kind": "failed"})
        return 1
    # From here on the container's files are what paths mean: nothing of them may be taken for a module of ours.
    sys.meta_path.clear()
    sys.path.clear()
    sys.tracebacklimit = 0  # a traceback would quote its lines from files of these names
    try:
        WORK[job["do"]](job, shared)
    except BrokenPipeError:
        return 1  # nobody wants it any more
    except FileNotFoundError as error:
        answer({"error": extract.told(error), "kind": "missing"})
    except InvalidParameter as error:
        answer({"error": error.message, "kind": "refused"})
    except (Failed, BadArchive, extract.Refused) as error:
        answer({"error": str(error), "kind": "failed"})
    except OSError as error:
        answer({"error": extract.told(error), "kind": "failed"})
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
