"""Files over a session, by fsutil's protocol (tonistiigi/fsutil: types/wire.proto): both directions.

The sender lists paths (STAT, in order; an empty one ends the list) and answers what it is asked for (REQ by the number
of the path) with DATA, an empty one at a file's end; the receiver says FIN when it has everything, and the sender
repeats it. The files themselves are the business of `service.content.mirror`; here they are packets.
"""

import asyncio
import os
import stat
import weakref
from urllib.parse import quote_plus

from google.protobuf.message import DecodeError

from compat_api.buildkit import channel
from compat_api.buildkit.wire.filesync_pb2 import Packet, Stat
from service.content import mirror
from service.engine import build_run
from service.errors import SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from service.engine.engine import Engine
    from service.engine.solving import FileStat, Transferred

FETCH, GIVE = "/moby.filesync.v1.FileSync/DiffCopy", "/moby.filesync.v1.FileSend/DiffCopy"
_STAT, _REQ, _DATA, _FIN, _ERR = (
    Packet.PACKET_STAT,
    Packet.PACKET_REQ,
    Packet.PACKET_DATA,
    Packet.PACKET_FIN,
    Packet.PACKET_ERR,
)
_PIECE = 1 << 20  # bytes of content in a packet
_FEW, _MORE_SECONDS = 64, 0.002  # packets that are not worth a thread's while, and how long more are waited for
_NEARLY = 8 << 10  # bytes: for so little of a list nobody waits
_PATIENCE_SECONDS = 2.0  # in which nothing comes for another build: what it waits for is then asked for here, too
_STATS = 256  # paths that are sent in one go
# Go's os.FileMode (package io/fs): its type bits, and where POSIX has them
_DIR, _LINK, _DEVICE, _PIPE, _SOCKET, _CHARACTER = 1 << 31, 1 << 27, 1 << 26, 1 << 25, 1 << 24, 1 << 21
_IRREGULAR = 1 << 19
_TYPES = {
    0: stat.S_IFREG,
    _DIR: stat.S_IFDIR,
    _LINK: stat.S_IFLNK,
    _PIPE: stat.S_IFIFO,
    _SOCKET: stat.S_IFSOCK,
    _DEVICE: stat.S_IFBLK,
    _DEVICE | _CHARACTER: stat.S_IFCHR,
}
_GO_TYPES = {posix: go for go, posix in _TYPES.items()}
_ANY_TYPE = _DIR | _LINK | _DEVICE | _PIPE | _SOCKET | _CHARACTER | _IRREGULAR
_BITS = ((1 << 23, stat.S_ISUID), (1 << 22, stat.S_ISGID), (1 << 20, stat.S_ISVTX))


def posix_mode(mode: int) -> int:
    """st_mode of a Go file mode; its type is 0 for what POSIX does not have."""
    return _TYPES.get(mode & _ANY_TYPE, 0) | mode & 0o777 | sum(posix for go, posix in _BITS if mode & go)


def go_mode(mode: int) -> int:
    """The Go file mode of an st_mode."""
    return _GO_TYPES.get(stat.S_IFMT(mode), _IRREGULAR) | mode & 0o777 | sum(go for go, posix in _BITS if mode & posix)


def wanted(
    name: str, include: "Sequence[str]", exclude: "Sequence[str]", follow: "Sequence[str]"
) -> list[tuple[str, str]]:
    """The metadata of a FileSync.DiffCopy. A list with something that is not ASCII is escaped as a whole."""
    metadata = [("dir-name", name)]
    for key, values in (("include-patterns", include), ("exclude-patterns", exclude), ("followpaths", follow)):
        escaped = any(not value.isascii() or not value.isprintable() for value in values)
        metadata += [(key, quote_plus(value) if escaped else value) for value in values]
        if escaped:
            metadata.append((key + "-encoded", "1"))
    return metadata


class _Batch:
    """What came of a few packets. `finished`: the sender has said FIN."""

    def __init__(self) -> None:
        self.wanted: list[int] = []
        self.finished = False
        self.error: str | None = None


class _Turn:
    """Who receives files of one directory of a client, for builds side by side: the others have them afterwards."""

    def __init__(self) -> None:
        self.holder: Fetch | None = None
        self.free = asyncio.Event()

    def leave(self, who: "Fetch") -> None:
        """Let the next one."""
        if self.holder is who:
            self.holder = None
            self.free.set()


_turns: "weakref.WeakValueDictionary[str, _Turn]" = weakref.WeakValueDictionary()  # by the folder of the copies


class Fetch:
    """Receives one directory into a copy."""

    def __init__(self, engine: "Engine", receiver: mirror.Receiver, transferred: "Transferred | None") -> None:
        self.engine, self.receiver, self.transferred = engine, receiver, transferred
        self._number = 0
        self._listed = False  # the list has ended
        self._told = False  # the client knows that we have all
        self._turn = _turns.setdefault(receiver.mirror.directory, _Turn())
        self._asked: asyncio.Queue[list[int] | None] = asyncio.Queue()

    async def run(self, calls: channel.Channel, metadata: "Sequence[tuple[str, str]]") -> None:
        """Until the copy is as the client's directory. Raises GRPCError, SystemFailure, and what `LOST` names."""
        async with calls.stream(FETCH, Packet, Packet, metadata) as stream:
            await stream.send_request()
            incoming = channel.bulk(stream)
            asking = asyncio.create_task(self._ask(stream), name="file requests")
            try:
                await self._take(stream, incoming, asking)
            except BaseException:
                await build_run.finished(self.engine.thread(self.receiver.close))
                raise
            finally:
                asking.cancel()
                self._turn.leave(self)
        await build_run.finished(self.engine.thread(self.receiver.finish))  # or else others could have the copy
        self._tell(done=True)

    async def _take(self, stream: "Any", incoming: channel.Bulk, asking: "asyncio.Task[None]") -> None:
        finished = few = False
        if self.receiver.known and await self._lists_the_same(stream, incoming):
            self.receiver.unchanged()
        while True:
            if self.receiver.complete and not self._told:
                self._asked.put_nowait(None)
                await asking
            with stream._wrapper:  # ends with the stream or the connection
                if few and self._listed:
                    await asyncio.sleep(_MORE_SECONDS)
                elif few:  # the client sends its list path by path: going to a thread for each would cost more than it
                    await incoming.gather(_MORE_SECONDS)
                messages = await incoming.next()
            if not messages:
                if not (finished and self._told):
                    await channel.reason(stream)
                    raise SystemFailure("the client ended the transfer of its files early")
                return
            if self.receiver.complete:  # no file is left to write
                batch = self._work(messages)
            else:
                batch = await self.engine.thread(self._work, messages)
            incoming.used()
            few = len(messages) < _FEW and not batch.wanted and not self.receiver.complete
            if batch.error is not None:
                raise SystemFailure(batch.error)
            finished = finished or batch.finished
            if batch.wanted:
                self._asked.put_nowait(batch.wanted)
            self._tell()

    async def _lists_the_same(self, stream: "Any", incoming: channel.Bulk) -> bool:
        """Whether what comes is the list that is known, to its end. If not, all of it is still to come."""
        known, at = self.receiver.known, 0
        while at < len(known):
            with stream._wrapper:
                if len(known) - at > _NEARLY:
                    await incoming.gather(_MORE_SECONDS)
                piece = await incoming.raw(len(known) - at)
            if not piece or not known.startswith(piece, at):
                incoming.give_again(known[:at] + piece)
                return False
            at += len(piece)
            incoming.used()
        return True

    async def _ask(self, stream: "Any") -> None:
        """A task of its own: where the client takes no more requests, we must still read what it sends."""
        waited: bool | None = None
        while (numbers := await self._asked.get()) is not None:
            if waited is None:
                waited = await self._take_turn()
            if waited:
                numbers = await self.engine.thread(self.receiver.still_wanted, numbers)
            out = bytearray()
            for number in numbers:
                out += channel.framed(Packet(type=_REQ, ID=number).SerializeToString())
            if out:
                await channel.send_raw(stream, bytes(out))
            elif self.receiver.complete:
                break
        self._told = True
        await stream.send_message(Packet(type=_FIN), end=True)

    async def _take_turn(self) -> bool:
        """Wait while another build receives files of the same directory, as long as some come: what it gets need not be
        sent twice. Whether there was one."""
        turn, waited = self._turn, False
        while (other := turn.holder) is not None:
            waited, before = True, other.receiver.bytes
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await turn.free.wait()
            except TimeoutError:
                if turn.holder is other and other.receiver.bytes == before:
                    return True  # without a turn: its client has stopped
        turn.holder = self
        turn.free.clear()
        return waited

    def _tell(self, *, done: bool = False) -> None:
        if self.transferred is not None:
            self.transferred(self.receiver.bytes, 0, done=done)

    def _work(self, messages: list[bytes]) -> _Batch:
        """In a thread: packets into files."""
        with self.receiver.busy:
            return self._unpack(messages)

    def _unpack(self, messages: list[bytes]) -> _Batch:
        batch, receiver = _Batch(), self.receiver
        for message in messages:
            try:
                packet = Packet.FromString(message)
            except DecodeError:
                raise SystemFailure("the client sends files in a form that nobody knows") from None
            if packet.type == _DATA:
                receiver.piece(packet.ID, packet.data)
            elif packet.type == _STAT and packet.HasField("stat"):
                receiver.heard(channel.framed(message))
                if receiver.entry(self._number, _entry(packet.stat)):
                    batch.wanted.append(self._number)
                self._number += 1
            elif packet.type == _STAT:
                receiver.heard(channel.framed(message))
                receiver.listed()
                self._listed = True
            elif packet.type == _FIN:
                batch.finished = True
            elif packet.type == _ERR:
                batch.error = packet.data.decode("utf-8", "replace")
        return batch


def _entry(told: Stat) -> mirror.Entry:
    return mirror.Entry(told.path, posix_mode(told.mode), told.size, told.modTime, told.linkname)


async def give(
    engine: "Engine",
    calls: channel.Channel,
    folder: str,
    metadata: "Sequence[tuple[str, str]]",
    transferred: "Transferred | None",
    moment_ns: "int | None" = None,
) -> None:
    """Send the tree below `folder` to the client (`-o type=local`). `moment_ns`: the time of all that is in it."""
    entries = await engine.thread(mirror.listing, folder)
    if moment_ns is not None:
        for entry in entries:
            entry.mtime_ns = moment_ns
    sending = asyncio.Lock()  # messages must not be mixed
    sent = 0
    async with calls.stream(GIVE, Packet, Packet, metadata) as stream:
        await stream.send_request()
        listing = asyncio.create_task(_list(stream, sending, entries), name="list of files")
        try:
            async for packet in stream:
                if packet.type == _REQ:
                    fd = await engine.thread(mirror.open_file, folder, _asked_for(entries, packet.ID))
                    try:
                        while piece := await engine.thread(os.read, fd, _PIECE):
                            async with sending:
                                await stream.send_message(Packet(type=_DATA, ID=packet.ID, data=piece))
                            sent += len(piece)
                            if transferred is not None:
                                transferred(sent, 0)
                    finally:
                        os.close(fd)
                    async with sending:
                        await stream.send_message(Packet(type=_DATA, ID=packet.ID))
                elif packet.type == _FIN:
                    await listing
                    await stream.send_message(Packet(type=_FIN), end=True)
                    break
                elif packet.type == _ERR:
                    raise SystemFailure(packet.data.decode("utf-8", "replace"))
            if await stream.recv_message() is not None:
                raise SystemFailure("the client says more than its part of a transfer of files")
        finally:
            listing.cancel()
    if transferred is not None:
        transferred(sent, 0, done=True)


def _asked_for(entries: "list[mirror.Found]", number: int) -> str:
    if number >= len(entries) or not stat.S_ISREG(entries[number].mode):
        raise SystemFailure(f"the client asks for a file that was not listed: {number}")
    return entries[number].path


async def _list(stream: "Any", sending: asyncio.Lock, entries: "list[mirror.Found]") -> None:
    for start in range(0, len(entries), _STATS):
        out = b"".join(_framed(_told(entries[start : start + _STATS])))
        async with sending:
            await channel.send_raw(stream, out)
    async with sending:
        await stream.send_message(Packet(type=_STAT))


def _framed(packets: "Iterator[Packet]") -> "Iterator[bytes]":
    for packet in packets:
        data = packet.SerializeToString()
        yield len(data).to_bytes(5, "big") + data


def _told(entries: "list[mirror.Found]") -> "Iterator[Packet]":
    for entry in entries:
        yield Packet(
            type=_STAT,
            stat=Stat(
                path=entry.path,
                mode=go_mode(entry.mode),
                uid=entry.uid,
                gid=entry.gid,
                size=entry.size,
                modTime=entry.mtime_ns,
                linkname=entry.link,
                devmajor=os.major(entry.device),
                devminor=os.minor(entry.device),
            ),
        )


def stat_of(found: "FileStat") -> Stat:
    """A file of a result, as LLBBridge tells it."""
    return Stat(
        path=found.path,
        mode=go_mode(found.mode),
        uid=found.uid,
        gid=found.gid,
        size=found.size,
        modTime=found.mtime_ns,
        linkname=found.link,
        devmajor=os.major(found.rdev),
        devminor=os.minor(found.rdev),
        xattrs=dict(found.xattrs),
    )
