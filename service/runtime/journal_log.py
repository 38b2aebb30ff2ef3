"""A container's output in the systemd journal: conmon writes it there (log driver journald), this reads it back.

The same face as `log_file.LogFile`: batches of messages from any start, more when more was written. What conmon sends
is one entry per line, MESSAGE with its newline, PRIORITY 6 for stdout and 3 for stderr; an entry without the end of its
line has CONTAINER_PARTIAL_MESSAGE. Moments are the journal's (microseconds). Blocking.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.runtime.log_file import Message

_SOCKET = "/run/systemd/journal/socket"
_CONTROL = "/run/systemd/journal/io.systemd.journal"
_SYNC_SECONDS = 5.0  # longest wait for journald to write what it was sent (dockerd waits as long)
_BATCH = 2000  # entries read at once
_STREAMS = {b"6": 1, b"3": 2}
_LONGEST = 1 << 20  # bytes of a field that are read; conmon sends lines of more than 8 KiB in parts


def is_running() -> bool:
    """Whether somebody takes entries for the journal."""
    import _socket

    asking = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        asking.connect(_SOCKET)
    except OSError:
        return False
    finally:
        asking.close()
    return True


class JournalLog:
    """One reader of one container's entries. Used by one thread at a time."""

    def __init__(self, container_id: str) -> None:
        import systemd._reader as libsystemd  # the C module: its Python wrapper imports 10 ms more

        self._journal: Any = libsystemd._Reader()
        self._journal.data_threshold = _LONGEST
        self._journal.add_match(f"CONTAINER_ID_FULL={container_id}")
        self._journal.seek_head()
        self._here = False  # whether the reader stands on an entry that was not given yet
        self._last_us: int | None = None

    @property
    def fd(self) -> int:
        """Readable from when the journal has changed until the next `read`."""
        return int(self._journal.fileno())

    def skip_to_last(self, count: int, *, with_rest: bool) -> None:  # noqa: ARG002 - LogFile's face; here a rest is an entry
        """Begin `count` entries before the present end."""
        self._journal.seek_tail()
        if not count:
            # stand on the last one, so that what comes next is new; with none at all, the head is the place
            if not self._journal._previous():
                self._journal.seek_head()
            return
        self._here = bool(self._journal._previous(count))
        if not self._here:  # so many there are not
            self._journal.seek_head()

    def skip_to(self, moment_ns: int) -> None:
        """Begin at a moment (nanoseconds since 1970)."""
        self._journal.seek_realtime(moment_ns // 1000)

    def end_at_present(self) -> None:
        """What is written from now on is not read."""
        import time

        self._last_us = time.time_ns() // 1000

    def read(self) -> "list[Message]":
        """The next messages; empty when there are none now."""
        messages: list[Message] = []
        self._journal.process()  # takes note of files begun and removed, too
        while len(messages) < _BATCH:
            if not self._here and not self._journal._next():
                break
            moment = int(self._journal._get_realtime())
            if self._last_us is not None and moment > self._last_us:
                self._here = True
                break
            self._here = False
            message = self._message(moment)
            if message is not None:
                messages.append(message)
        return messages

    def settle(self) -> None:
        """Returns when journald has written all that it was sent before (varlink: io.systemd.Journal.Synchronize)."""
        import _socket

        asking = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            asking.settimeout(_SYNC_SECONDS)
            asking.connect(_CONTROL)
            asking.send(b'{"method":"io.systemd.Journal.Synchronize","parameters":{}}\0')
            asking.recv(4096)
        except OSError:
            pass  # an older journald, or one that is too busy: what is written so far is read
        finally:
            asking.close()
        self._journal.process()

    def rest(self) -> "list[Message]":
        """Nothing: a line without an end is an entry like any other."""
        return []

    def close(self) -> None:
        """Give the journal's files back."""
        self._journal.close()

    def _message(self, moment_us: int) -> "Message | None":
        from service import timestamps

        stream = _STREAMS.get(self._field("PRIORITY"))
        if stream is None:
            return None  # not conmon's
        text = self._field("MESSAGE")
        if self._field("CONTAINER_PARTIAL_MESSAGE") != b"true":
            text = text.removesuffix(b"\n") + b"\n"
        seconds, micros = divmod(moment_us, 1_000_000)
        stamp = f"{timestamps.rfc3339(seconds * 1_000_000_000)[:19]}.{micros:06d}000+00:00"
        return stream, stamp.encode("ascii"), text

    def _field(self, name: str) -> bytes:
        try:
            value = self._journal._get(name)
        except KeyError:
            return b""
        return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
