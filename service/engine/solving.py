"""What a build is asked for, what it asks of its client, and what it tells: words between `engine.solve` and a wire.

Nothing here knows protobuf or HTTP, and nothing does any work. A wire (BuildKit's gRPC, say) fills a `SolveRequest`,
implements `Session` and `Progress`, calls `solve.solve`, and for each output `solve.export`:

    async with solve.solve(engine, request, session, progress) as solved:
        solved.metadata, solved.config              what the frontend returns to its client
        await solved.read_file("/etc/passwd")       and the like, for clients that look into the result
        response = await solve.export(engine, solved, Exporter("moby", {"name": "x"}), session, progress)

The layers of a result are kept as long as the `async with` lasts. To end a build, cancel the task that runs it: its
process is killed and its mounts go before the cancellation comes through. Source of the names: BuildKit's
control.proto, gateway.proto, and frontend/dockerui (frontend options).
"""

import dataclasses

from service.errors import SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import Protocol

    from service.content.registry_credentials import Credentials
    from service.engine.provenance import Used
else:
    Protocol = object

CANCELED = "context canceled"  # the error of what was given up
NETWORK_HOST, SECURITY_INSECURE = "network.host", "security.insecure"  # entitlements
LINT, OUTLINE, TARGETS, DESCRIBE = (
    "frontend.lint",
    "frontend.outline",
    "frontend.targets",
    "frontend.subrequests.describe",
)  # what `requestid` may ask for instead of a build


# ── asked by the client ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass
class CacheOption:
    """One `--cache-from` or `--cache-to`: its type (registry, inline, local, …) and its attributes (ref, mode, …)."""

    type: str
    attributes: "Mapping[str, str]" = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class SolveRequest:
    """One call of the frontend `dockerfile.v0`."""

    ref: str  # the client's name of the whole build; several requests (of bake's linked targets) may share it
    # The frontend's options, verbatim. Understood: filename, target, platform, context, context:NAME, contextkey,
    # dockerfilekey, build-arg:NAME, label:NAME, no-cache, image-resolve-mode, add-hosts, shm-size, ulimit,
    # cgroup-parent, force-network-mode, hostname, cache-from, cache-imports, requestid, build-arg:SOURCE_DATE_EPOCH, …
    attributes: "Mapping[str, str]" = dataclasses.field(default_factory=dict)
    entitlements: "Sequence[str]" = ()  # what the user allowed: NETWORK_HOST, SECURITY_INSECURE
    cache_imports: "Sequence[CacheOption]" = ()
    # results of other requests that `context:NAME` = `input:KEY` means, by KEY
    inputs: "Mapping[str, Solved]" = dataclasses.field(default_factory=dict)
    sessions: "Mapping[str, Session]" = dataclasses.field(default_factory=dict)  # `local-sessionid:NAME` → that session


@dataclasses.dataclass
class Exporter:
    """One `--output`. Types: moby and image (into the store here), local, tar, oci, docker (sent to the client).

    Attributes, verbatim: name (names, divided by commas), dest (the client's business), rewrite-timestamp,
    annotation.…, tar, unpack, compression, …
    """

    type: str
    attributes: "Mapping[str, str]" = dataclasses.field(default_factory=dict)
    number: int = 0  # of all outputs of the build, as asked for: `Session.send_…` says which one it means
    inline_cache: bool = False  # `--cache-to type=inline`
    # what the client returned beside the ref; a changed `containerimage.config` replaces the one of the result
    metadata: "Mapping[str, bytes]" = dataclasses.field(default_factory=dict)


# ── asked of the client, while the build goes on ─────────────────────────────────────────────────────────────────────


class Gone(SystemFailure):
    """The client's session has ended."""


class Session(Protocol):
    """What the client serves to its build. Any call may raise Gone, or SystemFailure with the client's words."""

    def local(
        self,
        name: str,
        *,
        include: "Sequence[str]" = (),
        exclude: "Sequence[str]" = (),
        follow: "Sequence[str]" = (),
        transferred: "Transferred | None" = None,
    ) -> "AbstractAsyncContextManager[str]":
        """One of the client's directories, by name (`context`, `dockerfile`, a named context), as a directory here.

        `include`: patterns of what is wanted (empty: all); `exclude`: those of .dockerignore, in order; `follow`:
        paths that are wanted wherever links lead to from them. The directory's files are as the client's (mode, mtime,
        links), with owner 0:0; nobody changes them before the `async with` ends. It may hold more than was asked for
        in `include` and `follow` when an earlier build fetched it, but nothing that `exclude` leaves out.
        """
        ...

    async def secret(self, id: str) -> "bytes | None":
        """A secret's content; None: the client has none of this id. It must not come into any log."""
        ...

    def ssh(self, id: str, path: str) -> "AbstractAsyncContextManager[None]":
        """The client's agent of this id (empty: `default`), listening on a new Unix socket at `path` (mode 600).

        Raises NotFound when the client forwards no agent of this id.
        """
        ...

    async def credentials(self, host: str) -> "Credentials":
        """What the client has for a registry, or whom to ask for it; empty credentials when it has none."""
        ...

    def blob(self, store: str, digest: str, offset: int) -> "AsyncIterator[bytes]":
        """What a store of the client's holds (`oci:NAME`: a layout), from `offset` on. Nobody has verified it."""
        ...

    def upload(self, url: str) -> "AsyncIterator[bytes]":
        """What the client uploads: the context is `http://buildkit-session/…` then (`docker build -`)."""
        ...

    async def send_tar(self, number: int, pieces: "AsyncIterator[bytes]") -> None:
        """Give the client the archive of output `number`, as fast as it takes it."""
        ...

    async def send_tree(
        self, number: int, folder: str, transferred: "Transferred | None" = None, *, moment_ns: "int | None" = None
    ) -> None:
        """Give the client the files below `folder` as output `number` (type=local). Links are not followed: absolute
        ones do not mean what they say here. `moment_ns`: the time of all of them, instead of their own."""
        ...


class Transferred(Protocol):
    """How far a transfer is."""

    def __call__(self, current: int, total: int, *, done: bool = False) -> None:
        """`current` and `total` in bytes; 0: not known. Cheap; may be called for every piece."""
        ...


# ── told to the client ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True)
class SourceRange:
    """Lines of the Dockerfile, counted from 1; `end` is the last one."""

    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Vertex:
    """A step as it is shown. Told again, whole, whenever something of it changes."""

    digest: str  # `sha256:…`, names it within the build
    name: str  # `[stage 2/3] RUN make`
    inputs: tuple[str, ...] = ()  # digests of vertices that it needs
    started_ns: int = 0  # since 1970; 0: not yet
    completed_ns: int = 0  # 0: not yet
    cached: bool = False
    error: str = ""  # why it failed; `context canceled` where it was not its own fault
    group: str = ""  # name of a group of vertices that are shown as one


@dataclasses.dataclass(frozen=True)
class Status:
    """A line below a vertex: `transferring context:`, `sha256:… 1.2MB / 3MB`."""

    vertex: str  # its digest
    id: str  # the line; told again under the same id, it replaces what it said
    name: str = ""
    current: int = 0
    total: int = 0
    started_ns: int = 0
    completed_ns: int = 0


@dataclasses.dataclass(frozen=True)
class Log:
    """What a step writes."""

    vertex: str
    stream: int  # 1 standard output, 2 standard error
    data: bytes
    time_ns: int = 0


@dataclasses.dataclass(frozen=True)
class Warning:
    """What a check of the Dockerfile (or the build) found."""

    vertex: str
    short: str  # one line
    level: int = 1
    detail: tuple[str, ...] = ()
    url: str = ""
    filename: str = ""  # the Dockerfile, as the client calls it
    text: bytes = b""  # its whole text
    ranges: tuple[SourceRange, ...] = ()


class Progress(Protocol):
    """Where events go."""

    async def tell(self, event: "Vertex | Status | Log | Warning") -> None:
        """Take an event. It waits where the client is too far behind with a step's output; never raises."""
        ...


# ── what comes of it ─────────────────────────────────────────────────────────────────────────────────────────────────


class SolveFailed(SystemFailure):
    """The build failed; the message is BuildKit's, without `failed to solve: `.

    `filename`, `text` and `ranges` say where in the Dockerfile, for clients that show an excerpt; `vertex` is the
    digest of the step, if one failed. `code`: the gRPC status that BuildKit gives it (2 UNKNOWN, 5 NOT_FOUND, …).
    """

    def __init__(
        self,
        message: str,
        *,
        filename: str = "",
        text: bytes = b"",
        ranges: "Sequence[SourceRange]" = (),
        vertex: str = "",
        code: int = 2,
    ) -> None:
        super().__init__(message)
        self.filename, self.text, self.ranges, self.vertex, self.code = filename, text, tuple(ranges), vertex, code


@dataclasses.dataclass(frozen=True)
class FileStat:
    """A file of a result."""

    path: str  # its name alone in `read_dir`, as asked for in `stat_file`
    mode: int  # st_mode, POSIX
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    link: str = ""  # where a symbolic link leads
    rdev: int = 0
    xattrs: "Mapping[str, bytes]" = dataclasses.field(default_factory=dict)


class Solved(Protocol):
    """A built image that no name has yet, or the answer to a `requestid`."""

    id: str  # 25 letters and digits: the ref that a wire may hand out
    platform: str  # linux/amd64
    config: bytes  # the image's configuration (OCI), as BuildKit's frontend gives it; empty for a `requestid`
    # what the frontend returns beside: `containerimage.config`; for a `requestid`: `result.json`, `result.txt`, …
    metadata: "Mapping[str, bytes]"
    attributes: "Mapping[str, str]"  # the frontend's options that it was made by
    used: "Used"  # what it was made of
    is_answer: bool  # of a `requestid`: there are no files, and nothing can be exported

    async def read_file(self, path: str, offset: int = 0, length: int = 0) -> bytes:
        """A file's content from `offset`, `length` bytes (0: to its end). Links are followed within the result.

        Raises NotFound, InvalidParameter (a directory).
        """
        ...

    async def stat_file(self, path: str) -> FileStat:
        """A file, links followed within the result except the last. Raises NotFound."""
        ...

    async def read_dir(self, path: str, pattern: str = "") -> "list[FileStat]":
        """A directory's entries whose name matches (empty: all), by name. Raises NotFound, InvalidParameter."""
        ...
