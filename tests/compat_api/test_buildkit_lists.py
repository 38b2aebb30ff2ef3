"""A client's list of files that is the same as last time, and lists that differ from it by as little as can be."""

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from grpclib.config import Configuration

from compat_api.buildkit import channel, filesync
from compat_api.buildkit.session import Session
from compat_api.buildkit.wire.filesync_pb2 import Packet, Stat
from service.content import client_list, mirror
from service.errors import SystemFailure
from tests.compat_api.test_buildkit_channel import SECONDS, Served, connected

FOLDER, LINK = 1 << 31 | 0o755, 1 << 27 | 0o777  # Go's os.FileMode
SECOND = 1_700_000_000_000_000_123


class Files:
    """A client's directory: what it lists, and how often it was asked for content."""

    def __init__(self, *stats: Stat, cut_after: "int | None" = None) -> None:
        self.stats, self.cut_after = stats, cut_after
        self.asked: list[str] = []

    def content(self, told: Stat) -> bytes:
        """Of a file: what its name, size and time say."""
        return f"{told.path} {told.modTime} ".encode().ljust(told.size, b"x")[: told.size]

    async def serve(self, stream: Any) -> None:
        """FileSync.DiffCopy."""
        for number, told in enumerate(self.stats):
            if number == self.cut_after:
                await asyncio.sleep(0.05)  # the service is at work on what it has been told
                await stream.send_message(Packet(type=Packet.PACKET_ERR, data=b"the disk is gone"))
                break
            await stream.send_message(Packet(stat=told))
        else:
            await stream.send_message(Packet())
        async for packet in stream:
            if packet.type == Packet.PACKET_REQ:
                told = self.stats[packet.ID]
                self.asked.append(told.path)
                data = self.content(told)
                await stream.send_message(Packet(type=Packet.PACKET_DATA, ID=packet.ID, data=data))
                await stream.send_message(Packet(type=Packet.PACKET_DATA, ID=packet.ID))
            elif packet.type == Packet.PACKET_FIN:
                await stream.send_message(Packet(type=Packet.PACKET_FIN))
                return


def file(path: str, size: int = 40, mode: int = 0o644, moment: int = SECOND, **more: Any) -> Stat:
    return Stat(path=path, mode=mode, size=size, modTime=moment, **more)


def folder(path: str, mode: int = FOLDER, moment: int = SECOND) -> Stat:
    return Stat(path=path, mode=mode, modTime=moment)


def link(path: str, to: str, moment: int = SECOND) -> Stat:
    return Stat(path=path, mode=LINK, linkname=to, modTime=moment)


def seen(tree: str) -> "dict[str, tuple[object, ...]]":
    """All that a build can see of a tree."""
    found: dict[str, tuple[object, ...]] = {}
    for each in mirror.listing(tree):
        content = Path(tree, each.path).read_bytes() if stat.S_ISREG(each.mode) else b""
        found[each.path] = (each.mode, each.mtime_ns, each.link, content)
    return found


async def fetch(tmp_path: Path, files: Files, pieces: int = 0) -> "dict[str, tuple[object, ...]]":
    """A build that asks for the directory: what it sees."""
    served: dict[str, tuple[Served, type, type]] = {filesync.FETCH: (files.serve, Packet, Packet)}
    async with asyncio.timeout(SECONDS), connected(tmp_path, served, pieces) as session:
        return await fetched(session)


async def fetched(session: Session) -> "dict[str, tuple[object, ...]]":
    async with session.local("context") as tree:
        assert tree.endswith("/0/tree")
        return seen(tree)


def lists(tmp_path: Path) -> "list[Path]":
    """The lists that are kept."""
    return [*tmp_path.glob("lib/mirrors/*/0/list")]


def plain() -> "list[Stat]":
    return [
        folder("a"),
        link("a/link", "../b"),
        file("a/x"),
        file("b"),
        file("empty", 0),
        folder("many"),
        *(file(f"many/{number:03}-{'n' * 60}", 50) for number in range(300)),
        file("z"),
        file("z-again", 40, linkname="z"),
    ]


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> "list[str]":
    """The paths that were compared with what a client lists, one by one."""
    paths: list[str] = []
    real = mirror.Receiver.entry

    def noted(receiver: mirror.Receiver, number: int, entry: mirror.Entry) -> bool:
        paths.append(entry.path)
        return real(receiver, number, entry)

    monkeypatch.setattr(mirror.Receiver, "entry", noted)
    return paths


@pytest.mark.parametrize("pieces", [0, 7, 3000], ids=["as they come", "seven bytes", "more"])
async def test_of_the_same_list_nothing_is_looked_at(tmp_path: Path, pieces: int, looked_at: "list[str]") -> None:
    files = Files(*plain())
    first = await fetch(tmp_path, files, pieces)
    assert looked_at == [told.path for told in files.stats]
    files.asked.clear()
    looked_at.clear()
    for _ in range(2):
        assert await fetch(tmp_path, files, pieces) == first
    assert looked_at == files.asked == []
    (copy,) = mirror.usage(str(tmp_path / "lib" / "mirrors"))
    assert (copy.size, copy.uses) == (sum(told.size for told in files.stats if not told.linkname), 3)


@pytest.mark.parametrize("pieces", [0, 7], ids=["as they come", "seven bytes"])
@pytest.mark.parametrize(
    ("at", "instead"),
    [
        (0, [folder("a", moment=SECOND + 1)]),
        (0, [folder("a", FOLDER & ~0o055)]),
        (0, []),
        (0, [file("0"), folder("a")]),
        (1, [link("a/link", "../c")]),
        (1, [link("a/link", "../b", SECOND + 1)]),
        (2, [file("a/x", mode=0o600)]),
        (2, [file("a/x", mode=0o644 | 1 << 23)]),
        (2, [file("a/x", moment=SECOND + 1)]),
        (2, [file("a/x", 41)]),
        (2, [link("a/x", "../b")]),
        (2, [file("a/x", uid=1000)]),
        (2, [file("a/x", xattrs={"user.mole": b"digs"})]),
        (100, []),
        (100, [file(f"many/{94:03}-{'n' * 59}m", 50)]),
        (-1, [file("z-again")]),
        (-1, []),
        (-1, [file("z-again", 40, linkname="z"), file("zz")]),
    ],
)
async def test_whatever_differs_is_seen(tmp_path: Path, at: int, instead: "list[Stat]", pieces: int) -> None:
    stats = plain()
    before = await fetch(tmp_path, Files(*stats), pieces)
    at %= len(stats)
    changed = [*stats[:at], *instead, *stats[at + 1 :]]
    if not instead and at == 0:
        changed = [told for told in stats if not told.path.startswith("a")]
    expected = await fetch(tmp_path / "another", Files(*changed))
    assert await fetch(tmp_path, Files(*changed), pieces) == expected
    assert await fetch(tmp_path, Files(*changed), pieces) == expected
    assert await fetch(tmp_path, Files(*stats), pieces) == before


@pytest.mark.parametrize("cut_after", [1, 150, 307])
async def test_a_list_that_is_broken_off_leaves_nothing_to_believe(tmp_path: Path, cut_after: int) -> None:
    """The directory has a new time, and may have got it before the client was gone; then it is as it was at first."""
    stats = plain()
    before = await fetch(tmp_path, Files(*stats))
    changed = [folder("a", FOLDER & ~0o055, SECOND + 1), *stats[1:]]
    with pytest.raises(SystemFailure, match="the disk is gone"):
        await fetch(tmp_path, Files(*changed, cut_after=cut_after))
    assert await fetch(tmp_path, Files(*stats)) == before
    with pytest.raises(SystemFailure, match="the disk is gone"):
        await fetch(tmp_path, Files(*stats, cut_after=cut_after))  # the same, as far as it goes
    assert await fetch(tmp_path, Files(*stats)) == before


async def test_a_client_that_is_done_too_early_has_sent_nothing(tmp_path: Path) -> None:
    """It says so itself, without waiting for us."""

    class Hasty(Files):
        async def serve(self, stream: Any) -> None:
            for told in self.stats:
                await stream.send_message(Packet(stat=told))
            await stream.send_message(Packet())
            await stream.send_message(Packet(type=Packet.PACKET_FIN))

    stats = plain()
    with pytest.raises(SystemFailure, match="the client ended the transfer of its files early"):
        await fetch(tmp_path, Hasty(*stats))
    assert not lists(tmp_path)
    files = Files(*stats)
    assert (await fetch(tmp_path, files)).keys() == {told.path for told in stats}
    assert "z" in files.asked


async def test_a_file_that_did_not_come_as_it_was_listed_is_asked_for_again(tmp_path: Path) -> None:
    """The client's user wrote to it while it was sent."""

    class Growing(Files):
        def content(self, told: Stat) -> bytes:
            return super().content(told) + b" and more"

    stats = [file("f"), file("g")]
    await fetch(tmp_path, Growing(*stats))
    files = Files(*stats)
    assert (await fetch(tmp_path, files))["f"][-1] == files.content(stats[0])
    assert files.asked == ["f", "g"]


async def test_a_list_of_another_boot_or_in_pieces_is_not_believed(
    tmp_path: Path, looked_at: "list[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(*plain())
    before = await fetch(tmp_path, files)
    (kept,) = lists(tmp_path)
    whole = kept.read_bytes()
    for content in (
        b"",
        b"\xff",
        b"x 1\n",
        whole[:100],
        whole[:-7],
        whole[:-1] + b"\1",
        whole.replace(b"many/007", b"many/070"),
    ):
        kept.write_bytes(content)
        looked_at.clear()
        assert await fetch(tmp_path, files) == before
        assert looked_at == [told.path for told in files.stats], content[:20]
    monkeypatch.setattr("service.kernel.pidfd.boot_id", lambda: "another")
    looked_at.clear()
    assert await fetch(tmp_path, files) == before
    assert looked_at == [told.path for told in files.stats]


async def test_what_is_too_long_is_not_kept(
    tmp_path: Path, looked_at: "list[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_list, "MOST", 20_000)
    files = Files(*plain())
    before = await fetch(tmp_path, files)
    assert not lists(tmp_path)
    looked_at.clear()
    assert await fetch(tmp_path, files) == before
    assert looked_at


async def test_windows_stay_open_for_lists_that_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the windows hold, once the same and once with a new name at its very end."""
    monkeypatch.setattr(channel, "WINDOW", 65535)
    monkeypatch.setattr(
        channel,
        "CONFIGURATION",
        Configuration(http2_connection_window_size=65535, http2_stream_window_size=65535),
    )
    monkeypatch.setattr(channel, "_GIVE_BACK", 10_000)
    stats = [file(f"{number:05}-{'n' * 200}", 20) for number in range(1500)]
    assert sum(told.ByteSize() for told in stats) > 4 * channel.WINDOW
    before = await fetch(tmp_path, Files(*stats))
    assert len(before) == len(stats)
    again = Files(*stats)
    assert await fetch(tmp_path, again) == before
    assert again.asked == []
    longer = Files(*stats, file("last"))
    assert (await fetch(tmp_path, longer)).keys() == {*before, "last"}
    assert longer.asked == ["last"]
    assert os.listdir(tmp_path / "lib" / "mirrors")


class Slow(Files):
    """Sends content when it may."""

    def __init__(self, *stats: Stat) -> None:
        super().__init__(*stats)
        self.may, self.was_asked = asyncio.Event(), asyncio.Event()
        self.broken = False

    async def serve(self, stream: Any) -> None:
        receive = stream.recv_message

        async def held_up() -> Any:
            packet = await receive()
            if packet is not None and packet.type == Packet.PACKET_REQ:
                self.was_asked.set()
                await self.may.wait()
                if self.broken:
                    await stream.send_message(Packet(type=Packet.PACKET_ERR, data=b"the disk is gone"))
            return packet

        stream.recv_message = held_up
        await super().serve(stream)


@pytest.mark.parametrize("end", ["sends", "breaks", "stops"])
async def test_builds_side_by_side_have_what_one_of_them_receives(
    tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesync, "_PATIENCE_SECONDS", 0.5 if end == "stops" else 60.0)
    stats = plain()
    slow, others = Slow(*stats), [Files(*stats), Files(*stats, file("zz"))]

    async def build(files: Files) -> "dict[str, tuple[object, ...]]":
        served: dict[str, tuple[Served, type, type]] = {filesync.FETCH: (files.serve, Packet, Packet)}
        async with connected(tmp_path, served) as session, session.local("context") as tree:
            return seen(tree)

    async with asyncio.timeout(SECONDS):
        first = asyncio.create_task(build(slow))
        await slow.was_asked.wait()
        waiting = [asyncio.create_task(build(files)) for files in others]
        if end != "stops":
            await asyncio.sleep(0.3)
            assert [files.asked for files in others] == [[], []]
            slow.broken = end == "breaks"
            slow.may.set()
        found = [await task for task in waiting]
        slow.may.set()
        if end == "breaks":
            with pytest.raises(SystemFailure, match="the disk is gone"):
                await first
        else:
            assert await first == found[0]
    content = {told.path for told in stats if told.size and not told.linkname}
    if end == "sends":
        assert (others[0].asked, others[1].asked) == ([], ["zz"])
    elif end == "breaks":
        asked = [*others[0].asked, *others[1].asked]
        assert {"z", "zz"} <= set(asked) <= {*content, "zz"}
        assert len(asked) == len(set(asked)), "what one has received, the other has from there"
    assert found[1].pop("zz")[-1] == others[1].content(file("zz"))
    assert found[0] == found[1] == await fetch(tmp_path / "another", Files(*stats))
