"""The one door to other programs. Every program that moorage runs is started here, and its command line logged.

posix_spawn with vfork semantics: a fork of a process with a large heap was measured at 36 ms, this at under 1 ms.
What a child gets is said in full: its environment, and the descriptors named; everything else is close-on-exec.
Standard library only, synchronous: the service calls it in a thread, the exit hook directly.

A program that holds many descriptors may raise its own limit (`allow_descriptors`); what it starts gets the limit that
it was started with, as with dockerd: it would be passed on to every container.
"""

import _thread
import os

from service.errors import SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Finished:
    """How a program ended: `code` is its exit code, or minus the signal that ended it."""

    __slots__ = ("argv", "code", "stderr", "stdout")

    def __init__(self, argv: "Sequence[str]", code: int, stdout: bytes, stderr: bytes) -> None:
        self.argv, self.code, self.stdout, self.stderr = argv, code, stdout, stderr

    def check(self) -> "Finished":
        """Itself when the program succeeded; else raises SystemFailure with what it wrote to stderr."""
        if self.code:
            said = self.stderr.decode("utf-8", "replace").strip() or f"exit code {self.code}"
            raise SystemFailure(f"{os.path.basename(self.argv[0])}: {said}")
        return self


def spawn(
    argv: "Sequence[str]",
    *,
    environment: "Mapping[str, str]",
    stdin: int = -1,
    stdout: int = -1,
    stderr: int = -1,
    descriptors: "Sequence[tuple[int, int]]" = (),
) -> int:
    """Start `argv` (argv[0] a full path) and return its pid; the caller waits for it.

    A standard stream of -1 is /dev/null. `descriptors`: (ours, theirs) pairs, theirs from 3 upwards.
    Python ignores SIGPIPE, and an ignored signal is inherited: it is set back to its default for the child.
    """
    wanted = [(stdin, 0), (stdout, 1), (stderr, 2), *descriptors]
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
    # A source in the range of the targets is moved out of it first, to a number that is no other's source: else it
    # would be overwritten before its turn, and a program would get the pipe of another one.
    highest = max(theirs for _, theirs in wanted)
    taken = {ours for ours, _ in wanted}
    spare, sources = highest + 1, []
    for ours, _ in wanted:
        source = ours
        if 0 <= ours <= highest:
            while spare in taken:
                spare += 1
            actions.append((os.POSIX_SPAWN_DUP2, ours, spare))
            source, spare = spare, spare + 1
        sources.append(source)
    for source, (ours, theirs) in zip(sources, wanted, strict=True):
        if source < 0:
            actions.append((os.POSIX_SPAWN_OPEN, theirs, "/dev/null", os.O_RDWR, 0))
            continue
        actions.append((os.POSIX_SPAWN_DUP2, source, theirs))
        if source != ours:
            actions.append((os.POSIX_SPAWN_CLOSE, source))
    with _raised:
        _limit(0)
        try:
            return os.posix_spawn(
                argv[0], list(argv), dict(environment), file_actions=actions, setsigdef=_DEFAULT_SIGNALS, setsigmask=()
            )
        finally:
            _limit(1)


_DEFAULT_SIGNALS = (13, 25)  # SIGPIPE, SIGXFSZ: the two that Python ignores
_raised = _thread.allocate_lock()  # a limit is the whole process's: one at a time may lower it for a child
_limits: list[int] = []  # open descriptors: what we were started with, and what we have instead


def allow_descriptors() -> None:
    """Let this process open as many descriptors as its hard limit says: systemd's soft one is 1024 (setrlimit(2))."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _limits[:] = [soft, hard]


def _limit(which: int) -> None:
    if _limits:
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (_limits[which], _limits[1]))


def run(
    argv: "Sequence[str]",
    *,
    environment: "Mapping[str, str]",
    input_bytes: bytes = b"",
    descriptors: "Sequence[tuple[int, int]]" = (),
    seconds: float = 0.0,
) -> Finished:
    """Run `argv` to its end and collect what it wrote (meant for short outputs: both are kept in memory).

    Where `seconds` are given and it takes longer, it is killed. Raises SystemFailure then.
    """
    import select
    import time

    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    in_read, in_write = os.pipe() if input_bytes else (-1, -1)
    try:
        pid = spawn(
            argv, environment=environment, stdin=in_read, stdout=out_write, stderr=err_write, descriptors=descriptors
        )
    except BaseException:
        for fd in (out_read, out_write, err_read, err_write, in_read, in_write):
            if fd >= 0:
                os.close(fd)
        raise
    os.close(out_write)
    os.close(err_write)
    if in_read >= 0:
        os.close(in_read)
        os.set_blocking(in_write, False)
    collected: dict[int, list[bytes]] = {out_read: [], err_read: []}
    poll = select.poll()
    poll.register(out_read, select.POLLIN)
    poll.register(err_read, select.POLLIN)
    if in_write >= 0:
        poll.register(in_write, select.POLLOUT)
    open_ends, left = {out_read, err_read}, memoryview(input_bytes)
    end = time.monotonic() + seconds
    while open_ends:
        ready = poll.poll(max(0, end - time.monotonic()) * 1000 if seconds else None)
        if not ready and seconds and time.monotonic() >= end:
            os.kill(pid, 9)
            for fd in (*open_ends, *([in_write] if in_write >= 0 else ())):
                os.close(fd)
            wait(pid)
            raise SystemFailure(f"{os.path.basename(argv[0])} did not end within {seconds:g} seconds")
        for fd, _ in ready:
            if fd == in_write:
                try:
                    left = left[os.write(fd, left[:65536]) :]
                except BrokenPipeError:
                    left = left[:0]
                if not left:
                    poll.unregister(fd)
                    os.close(fd)
                    in_write = -1
                continue
            piece = os.read(fd, 65536)
            if piece:
                collected[fd].append(piece)
            else:
                poll.unregister(fd)
                os.close(fd)
                open_ends.discard(fd)
    if in_write >= 0:
        os.close(in_write)
    return Finished(argv, wait(pid), b"".join(collected[out_read]), b"".join(collected[err_read]))


def wait(pid: int) -> int:
    """Wait for a child of ours; its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
