"""The tar that we write, read by others."""

import io
import os
import socket
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from service.content import pack, tar_writer
from service.content.tar import Reader, Source


def read(data: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(data + tar_writer.END), encoding="utf-8", errors="surrogateescape") as opened:
        [member] = opened.getmembers()
        return member


@pytest.mark.parametrize(
    "name",
    [
        *(b"n" * length for length in (1, 99, 100, 101, 255)),
        b"p" * 155 + b"/" + b"n" * 100,
        b"p" * 156 + b"/" + b"n" * 100,
        b"p" * 100 + b"/" + b"n" * 101,
        b"/".join([b"d" * 50] * 12),
        "ümlaut/ß".encode(),
        b"latin-\xe9",
        b"new\nline",
        b"eq=ual 12 path=x",
    ],
)
@pytest.mark.parametrize("kind", [tar_writer.FILE, tar_writer.DIRECTORY, tar_writer.SYMLINK])
def test_names_of_any_length(name: bytes, kind: bytes) -> None:
    slash = b"/" if kind == tar_writer.DIRECTORY else b""
    link = name[::-1] if kind == tar_writer.SYMLINK else b""
    written = tar_writer.member(name + slash, kind, 0o644, 0, 0, 0, link=link)
    found = read(written)
    assert (os.fsencode(found.name), os.fsencode(found.linkname)) == (name, link)
    assert len(written) % 512 == 0
    source, sink = os.pipe()
    os.write(sink, written + tar_writer.END)
    os.close(sink)
    entry = Reader(Source(source)).next()
    os.close(source)
    assert entry is not None
    assert (os.fsencode(entry.name), os.fsencode(entry.link), entry.kind) == (name + slash, link, kind.decode())


@pytest.mark.parametrize(
    ("uid", "mtime", "size"),
    [(0, 0, 0), (8**7 - 1, 8**11 - 1, 8**11 - 1), (8**7, 8**11, 8**11), (4_294_967_294, -5, 1 << 50)],
)
def test_numbers_of_any_size(uid: int, mtime: int, size: int) -> None:
    header = tar_writer.member(b"n", tar_writer.FILE, 0o7777, uid, uid, mtime, size=size)
    found = tarfile.open(fileobj=io.BytesIO(header), mode="r|", ignore_zeros=True).next()  # noqa: SIM115 - no file
    assert found is not None
    assert (found.uid, found.gid, found.mtime, found.size, found.mode) == (uid, uid, mtime, size, 0o7777)


def test_plain_members_need_no_records() -> None:
    """As dockerd's: what ustar can hold is in ustar, so that equal trees give equal bytes with either."""
    assert len(tar_writer.member(b"p" * 155 + b"/" + b"n" * 100, tar_writer.FILE, 0o644, 1, 2, 3)) == 512


def packed(folder: Path, **options: bool) -> bytes:
    """What the packer makes of a folder."""
    source, sink = os.pipe()
    with tempfile.TemporaryFile() as collected, subprocess.Popen(["cat"], stdin=source, stdout=collected) as collector:
        os.close(source)
        packer = pack.Packer(sink, **options)
        packer.tree(os.fsencode(folder), b"top")
        packer.finish()
        os.close(sink)
        collector.wait(30)
        collected.seek(0)
        return collected.read()


def test_sockets_are_left_out_and_links_counted(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        (tmp_path / "a").write_bytes(b"x" * 70_000)
        os.link(tmp_path / "a", tmp_path / "b")
        os.symlink("nowhere", tmp_path / "c")
        os.link(tmp_path / "c", tmp_path / "d", follow_symlinks=False)
        with tarfile.open(fileobj=io.BytesIO(packed(tmp_path))) as opened:
            found = {member.name: member for member in opened.getmembers()}
    assert list(found) == ["top", "top/a", "top/b", "top/c", "top/d"]
    assert (found["top/b"].type, found["top/b"].linkname) == (tarfile.LNKTYPE, "top/a")
    assert (found["top/d"].type, found["top/d"].linkname) == (tarfile.LNKTYPE, "top/c")


def test_attributes_of_an_image_and_of_cp(tmp_path: Path) -> None:
    """`cp` takes file capabilities along, as dockerd does; an export everything that an image would keep."""
    (tmp_path / "f").write_bytes(b"")
    os.setxattr(tmp_path / "f", "user.note", b"kept\n=")
    os.setxattr(tmp_path / "f", "security.capability", b"\x01\0\0\x02" + bytes(16))
    os.setxattr(tmp_path / "f", "trusted.secret", b"x")
    for every in (False, True):
        with tarfile.open(fileobj=io.BytesIO(packed(tmp_path, every_attribute=every))) as opened:
            records = opened.getmember("top/f").pax_headers
        assert records.get("SCHILY.xattr.user.note") == ("kept\n=" if every else None)
        assert records["SCHILY.xattr.security.capability"].encode() == b"\x01\0\0\x02" + bytes(16)
        assert not [name for name in records if "trusted" in name]


def test_what_shrinks_or_grows_keeps_the_tar_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shrinks").write_bytes(b"x" * 300_000)
    (tmp_path / "z").write_bytes(b"after")
    opened_before = os.fstat

    def shrinking(fd: int) -> os.stat_result:
        status = opened_before(fd)
        if status.st_size == 300_000:
            os.truncate(tmp_path / "shrinks", 100_000)
        return status

    monkeypatch.setattr(os, "fstat", shrinking)
    data = packed(tmp_path)
    monkeypatch.undo()
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        file = opened.extractfile("top/shrinks")
        assert file is not None
        assert file.read() == b"x" * 100_000 + bytes(200_000)
        after = opened.extractfile("top/z")
        assert after is not None
        assert after.read() == b"after"
