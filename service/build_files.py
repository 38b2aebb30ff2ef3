"""Work on the files of builds: a program of its own, run by `engine.build_files` as `python -I -S`.

It mounts the trees that it is told of in a mount namespace of its own and takes the directory above them as its root:
no path and no symbolic link of a context or an image means anything outside. It ends with its work, or when the service
does; nothing is left mounted.

Descriptors: 0 what comes in, 1 what goes out, 3 what to do (JSON), 4 what became of it (lines of JSON).

    {"do": "unpack"}   the tar on 0 into `folder`                 → {"done": true}
    {"do": "extract"}  the same into `destination` of `target`    → {"done": true}
    {"do": "make"}     the directory `destination` in `target`    → {"done": true}
    {"do": "pack"}     `target` as a tar to 1                     → {"done": true}
    {"do": "squash"}   all sources but the first, which they stand on, as one into `target` → {"done": true}
    {"do": "copy"}     → {"found": [[path, hash], …]}; then a line on 0 that says what of it: {"wanted": [number, …]}
                       → {"done": true}
    any of them        → {"error": "…", "kind": "missing" | "refused" | "failed"}

It forks for every piece of work (`service.forking`): a message brings the descriptors 3, 4, 1 and, where something
comes in, 0; the answer is a descriptor of the process that does it.
"""

import _signal  # type: ignore[import-not-found]  # typeshed knows `signal` alone, which imports `enum`
import fcntl
import os
import sys

if __name__ == "__main__":  # run by path, isolated: the project is not on sys.path
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from service import forking, jsontext
from service.builder import ignore, modes
from service.content import copying, copying_later, copying_parents, extract, rootfs, squash
from service.content.pack import Packer
from service.content.tar import BadArchive, Source
from service.kernel import mount, mountns, pidfd
from service.kernel.openat2 import read_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NotRequired, TypedDict

    class Tree(TypedDict):
        """Something with files: layers' directories, the uppermost first, with what is written over them; or a path."""

        layers: list[str]
        upper: str
        work: str
        path: str

    class Job(TypedDict):
        """What to do."""

        do: str
        staging: str  # an empty directory of ours, to mount on
        folder: NotRequired[str]
        target: NotRequired[Tree]
        sources: NotRequired[list[tuple[Tree, list[str]]]]  # and the patterns in them
        destination: NotRequired[str]  # in the target, absolute; with a slash at its end where a directory is meant
        owner: NotRequired[str]  # --chown
        keeps_owner: NotRequired[bool]
        mode: NotRequired[str]  # --chmod; empty: none
        unhashed: NotRequired[bool]  # what is there was hashed before
        later: NotRequired[bool]  # by BuildKit's rules
        exclude: NotRequired[list[str]]  # --exclude
        parents: NotRequired[bool]  # --parents: patterns are as `copying_parents.written`, or of one file's name
        moment: NotRequired[int]  # seconds since 1970: what all files of a tar are told to be of


JOB, ANSWERS = 3, 4
PLACES = (JOB, ANSWERS, 1, 0)  # of the descriptors that a message brings
_FREE = 100  # descriptors from here on are free
TARGET = "/target"
TOO_MANY_LINKS = "too many symlinks: "  # how BuildKit's complaint about a source begins
ENOTDIR = 20


def answer(what: object) -> None:
    """Tell the service. When it is gone, so is the reason for all of this."""
    try:
        os.write(ANSWERS, jsontext.dump_bytes(what) + b"\n")
    except BrokenPipeError:
        os._exit(1)


def mounted(tree: "Tree", place: str) -> None:
    """Mount a tree at `place`; what nothing is written over is read-only."""
    os.mkdir(place, 0o755)
    layers, upper = tree["layers"], tree["upper"]
    if len(layers) > 1 or (layers and upper):
        rootfs.overlay(place, layers, upper, tree["work"], volatile=bool(upper))  # a layer is flushed as such
    elif alone := upper or tree["path"] or "".join(layers):  # overlayfs joins no less than two
        mount.mount(alone, place, flags=mount.MS_BIND)
    if not upper and (layers or tree["path"]):
        mountns.restrict(place, mountns.RDONLY)


def enter(job: "Job") -> None:
    """Mount everything, and make the directory above it this process's root."""
    mountns.unshare()
    staging = job["staging"]
    if "folder" in job:
        mount.mount(job["folder"], job["folder"], flags=mount.MS_BIND)
        mountns.restrict(job["folder"], mountns.NODEV | mountns.NOSUID)
        mountns.enter(job["folder"])
        return
    mount.mount("build", staging, "tmpfs", mount.MS_NOSUID | mount.MS_NODEV, "mode=700")
    mounted(job["target"], staging + TARGET)
    for number, (tree, _) in enumerate(job.get("sources", ())):
        mounted(tree, f"{staging}/source{number}")
    mountns.restrict(staging, mountns.NODEV | mountns.NOSUID)
    mountns.enter(staging)


def unpack(_: "Job") -> None:
    """A build's context."""
    extract.Extractor(Source(0), "/").run()


def expand(job: "Job") -> None:
    """An archive that ADD unpacks. As with dockerd, the place that it goes to is what its links take for the root."""
    owner = _owner(job)
    os.chroot(TARGET)
    os.chdir("/")
    folder = copying.resolved("", job["destination"]) or "/"
    missing = []
    while not os.path.lexists(folder):
        missing.append(os.path.basename(folder))
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        raise NotADirectoryError(ENOTDIR, f"mkdir {job['destination'].rstrip('/')}: not a directory")
    for name in reversed(missing):
        folder = os.path.join(folder, name)
        os.mkdir(folder, 0o755)
        os.chown(folder, *(owner or (0, 0)))
    os.chroot(folder)
    os.chdir("/")
    extract.Extractor(Source(0), "/", owner=owner).run()


def make(job: "Job") -> None:
    """A working directory."""
    path = copying.resolved(TARGET, job["destination"])
    if os.path.lexists(path) and not os.path.isdir(path):
        if job.get("later"):
            raise ValueError(f"mkdir {job['destination']}: not a directory")
        raise ValueError(f"Cannot mkdir: {job['destination']} is not a directory")
    owner = _owner(job)
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        raise NotADirectoryError(ENOTDIR, f"lstat {job['destination']}: not a directory")
    for folder in reversed(missing):
        os.mkdir(folder, 0o755)
        os.chmod(folder, 0o755)  # noqa: S103 - what a working directory has
        if owner is not None:
            os.chown(folder, *owner)


def copy(job: "Job") -> None:
    """COPY and ADD."""
    found = []
    for number, (_, patterns) in enumerate(job["sources"]):
        for pattern in patterns:
            try:
                found += _found(job, f"/source{number}", pattern)
            except copying.TooManyLinks as error:
                if job.get("later"):
                    raise ValueError(f"{TOO_MANY_LINKS}/{error.filename}") from None
                raise ValueError(f"forbidden path outside the build context: {error.filename} ()") from None
    answer({"found": [[each.path, each.hash] for each in found]})
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 65536)
        if not piece:
            return  # it is in the cache
        line += piece
    wanted = jsontext.loads(line)["wanted"]
    owner = _owner(job)
    if owner is None and not job.get("keeps_owner"):
        owner = 0, 0
    asked = modes.parse(job["mode"]) if job.get("mode") else None
    mode = asked.applied if asked is not None else None
    copier = copying.Copier(TARGET, job["destination"], owner, mode)
    if job.get("later"):
        excluded = job.get("exclude")
        kind = copying_parents.ParentsCopier if job.get("parents") else copying_later.LaterCopier
        copier = kind(
            TARGET,
            job["destination"],
            owner,
            mode,
            made=asked.octal & 0o777 if asked is not None and asked.octal >= 0 else 0o755,
            left_out=(lambda path: ignore.leaves_out(excluded, path)) if excluded else None,
        )
    copying.copy_all(copier, [found[number] for number in wanted])


def _found(job: "Job", root: str, pattern: str) -> "list[copying.Copied]":
    content = None if job.get("unhashed") else copying.content_of
    if not job.get("parents") or copying_parents.PIVOT not in pattern:
        return copying.found(root, pattern, content)
    tree = copying.Folder(root, content)
    return [copying.Copied(root, path, hash) for path, hash in copying_parents.found_in(tree, pattern)]


def _owner(job: "Job") -> "tuple[int, int] | None":
    """Whom --chown or a working directory's user means in the target; None: nobody was named."""
    text = job.get("owner")
    if not text:
        return None
    if job.get("later"):  # who is not named is root
        text = f"0{text}" if text.startswith(":") else f"{text}0" if text.endswith(":") else text
    return copying.owner_of(_read("etc/passwd"), _read("etc/group"), text)


def _read(path: str) -> bytes:
    try:
        return read_in_root(TARGET, path)
    except OSError:
        return b""


def fold(job: "Job") -> None:
    """Layers that become one."""
    squash.fold(TARGET, "/source0", [f"/source{number}" for number in range(1, len(job["sources"]))])


def pack(job: "Job") -> None:
    """A whole tree as a tar, to standard output."""
    os.chroot(TARGET)
    os.chdir("/")
    packer = Packer(1, every_attribute=True, moment=job.get("moment"))
    packer.tree(b"/", b"", with_top=False)
    packer.finish()


WORK = {"unpack": unpack, "extract": expand, "make": make, "copy": copy, "squash": fold, "pack": pack}


def main() -> int:
    """Do what descriptor 3 says; the exit code is 0 when all of it was done."""
    os.umask(0)
    with open(JOB, "rb") as file:
        job: Job = jsontext.loads(file.read())
    try:
        enter(job)
    except OSError as error:
        answer({"error": f"{error.filename or 'mount'}: {extract.told(error)}", "kind": "failed"})
        return 1
    # From here on the build's files are what paths mean: nothing of them may be taken for a module of ours.
    sys.meta_path.clear()
    sys.path.clear()
    sys.tracebacklimit = 0  # a traceback would quote its lines from files of these names
    try:
        WORK[job["do"]](job)
    except FileNotFoundError as error:
        missing = job["do"] == "copy"
        name = error.filename2 or error.filename if job.get("later") else error.filename
        told = os.fsdecode(name or "") if missing else extract.told(error)
        answer({"error": told, "kind": "missing" if missing else "failed"})
    except copying.TooManyLinks as error:
        answer({"error": "too many links" if job.get("later") else extract.told(error), "kind": "failed"})
    except ValueError as error:
        answer({"error": str(error), "kind": "refused"})
    except (BadArchive, extract.Refused) as error:
        answer({"error": str(error), "kind": "failed"})
    except OSError as error:
        answer({"error": extract.told(error), "kind": "failed"})
    else:
        answer({"done": True})
        return 0
    return 1


def serve() -> None:
    """Do what is asked for until nobody is there to ask any more."""
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # whoever asked watches them
    while True:
        message, passed = forking.received(1, len(PLACES))
        if not message:
            return
        held, going = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(going)
            os.read(held, 1)  # until whoever asked knows us: gone before, there would be nothing to know us by
            os.close(held)
            forking.finish(lambda: _work(passed))  # noqa: B023 - called at once
        for fd in (*passed, held):
            os.close(fd)
        known = pidfd.opened(pid)
        try:
            forking.answer(pid, known)
        except BrokenPipeError:
            os.kill(pid, 9)
        finally:
            os.close(known)
            os.close(going)


def _work(passed: "list[int]") -> int:
    """Do one piece of work, in a process of its own, with the descriptors in their places; the exit code."""
    above = [fcntl.fcntl(fd, fcntl.F_DUPFD, _FREE) for fd in passed]
    os.close(0)
    os.open("/dev/null", os.O_RDWR)
    for place, fd in zip(PLACES, above, strict=False):
        os.dup2(fd, place)
    os.closerange(max(PLACES) + 1, _FREE + len(above))
    return main()


if __name__ == "__main__":
    serve()
