"""Layers unpacked: nothing gets out, everything arrives as it was packed. Real tars, the real program, a real root."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from service.content import layers, rootfs
from service.errors import SystemFailure
from service.kernel import mount
from service.settings import Settings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners, devices and overlayfs")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    made = Settings({"MOORAGE_ROOT": str(tmp_path / "lib"), "MOORAGE_RUN": str(tmp_path / "run")})
    yield made
    for entry in mount.table():
        if entry.point.startswith(f"{tmp_path}/"):
            mount.detach(entry.point)


class Tar:
    """A tar written member by member, in any order and with any name."""

    def __init__(self, form: int = tarfile.PAX_FORMAT) -> None:
        self.bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.bytes, mode="w", format=form)  # noqa: SIM115 - closed by `whole`

    def add(
        self, name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", link: str = "", **more: object
    ) -> "Tar":
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.size, entry.mtime = kind, link, len(content), 1_500_000_000
        entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
        for key, value in more.items():
            setattr(entry, key, value)
        self.tar.addfile(entry, io.BytesIO(content))
        return self

    def whole(self) -> bytes:
        self.tar.close()
        return self.bytes.getvalue()


def unpack(settings: Settings, tar: bytes) -> str:
    """The directory that `tar` was unpacked into."""
    layer = layers.unpack(settings, layers.decompressed(io.BytesIO(tar).read))
    layer.keep()
    return layer.path + "/diff"


@pytest.mark.parametrize("name", ["../../escaped", "/../escaped", "a/../../../escaped", "./../escaped"])
def test_dots_in_a_name_stop_at_the_root(settings: Settings, tmp_path: Path, name: str) -> None:
    folder = unpack(settings, Tar().add(name, content=b"x").whole())
    assert os.listdir(folder) == ["escaped"]
    assert not list(tmp_path.rglob("escaped"))[1:]


@pytest.mark.parametrize("target", ["/", "../../../..", "/etc"])
def test_a_link_leads_nowhere_outside(settings: Settings, tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    tar = Tar().add("etc", tarfile.DIRTYPE).add("way", tarfile.SYMTYPE, link=target)
    tar.add(f"way{outside}/owned" if target != "/etc" else "way/owned", content=b"x")
    folder = unpack(settings, tar.whole())
    assert not list(outside.iterdir())
    assert not os.path.exists("/etc/owned")
    assert os.readlink(f"{folder}/way") == target


def test_a_hard_link_cannot_take_a_file_from_outside(settings: Settings, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    with pytest.raises(SystemFailure, match="no such file or directory"):
        unpack(settings, Tar().add("taken", tarfile.LNKTYPE, link=f"../../../../..{secret}").whole())
    assert layers.leftovers(settings, set()) == []
    assert secret.stat().st_nlink == 1


def test_a_file_written_through_a_link_replaces_the_link(settings: Settings, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    folder = unpack(settings, Tar().add("f", tarfile.SYMTYPE, link=str(victim)).add("f", content=b"new").whole())
    assert victim.read_text() == "untouched"
    assert Path(folder, "f").read_text() == "new"


def test_what_was_reached_through_a_link_that_is_replaced_is_made_again(settings: Settings) -> None:
    tar = Tar().add("real", tarfile.DIRTYPE).add("link", tarfile.SYMTYPE, link="real").add("link/below/one")
    tar.add("link", tarfile.DIRTYPE).add("link/below/two")
    folder = unpack(settings, tar.whole())
    assert sorted(os.listdir(f"{folder}/link/below")) == ["two"]
    assert sorted(os.listdir(f"{folder}/real/below")) == ["one"]


def test_owner_mode_time_links_devices_and_attributes_arrive(settings: Settings) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    tar = Tar().add("d", tarfile.DIRTYPE, uid=7, gid=8, mode=0o2750)
    tar.add("d/f", content=b"hello", uid=1000, gid=1001, mode=0o4755, pax_headers={"mtime": "1500000000.123456789"})
    tar.add("d/same", tarfile.LNKTYPE, link="d/f", uid=1000, gid=1001, mode=0o4755)
    tar.add("s", tarfile.SYMTYPE, link="d/f", uid=5)
    tar.add("dev", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    tar.add("pipe", tarfile.FIFOTYPE, mode=0o600)
    tar.add("cap", content=b"x", pax_headers={"SCHILY.xattr.security.capability": capability.decode("latin-1")})
    folder = unpack(settings, tar.whole())
    file = os.stat(f"{folder}/d/f")
    assert (file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode), file.st_nlink) == (1000, 1001, 0o4755, 2)
    assert os.stat(f"{folder}/d/same").st_ino == file.st_ino
    directory = os.stat(f"{folder}/d")
    assert (directory.st_uid, directory.st_gid, stat.S_IMODE(directory.st_mode)) == (7, 8, 0o2750)
    assert directory.st_mtime == 1_500_000_000
    assert (os.readlink(f"{folder}/s"), os.lstat(f"{folder}/s").st_uid) == ("d/f", 5)
    device = os.stat(f"{folder}/dev")
    assert stat.S_ISCHR(device.st_mode)
    assert (device.st_rdev, stat.S_IMODE(device.st_mode)) == (os.makedev(1, 3), 0o666)
    assert stat.S_ISFIFO(os.stat(f"{folder}/pipe").st_mode)
    assert os.getxattr(f"{folder}/cap", "security.capability") == capability


def test_nanoseconds_survive(settings: Settings) -> None:
    folder = unpack(settings, Tar().add("f", pax_headers={"mtime": "1500000000.123456789"}).whole())
    assert os.stat(f"{folder}/f").st_mtime_ns == 1_500_000_000_123_456_789


def test_whiteouts_hide_what_is_below_and_nothing_of_their_own_layer(settings: Settings) -> None:
    below = Tar().add("gone", content=b"1").add("own", content=b"1").add("dir", tarfile.DIRTYPE)
    below.add("dir/old", content=b"1").add("full", tarfile.DIRTYPE).add("full/old", content=b"1")
    below.add("again", tarfile.DIRTYPE).add("again/old", content=b"1")
    above = Tar().add(".wh.gone").add("own", content=b"2").add(".wh.own").add("dir", tarfile.DIRTYPE)
    above.add("dir/.wh..wh..opq").add("dir/new", content=b"2").add("full/.wh.old").add(".wh.again")
    above.add("again", tarfile.DIRTYPE).add("again/new", content=b"2").add(".wh..wh.plnk", tarfile.DIRTYPE)
    names = [os.path.basename(os.path.dirname(unpack(settings, tar.whole()))) for tar in (below, above)]
    rootfs.prepare(settings, "c" * 64)
    merged = rootfs.mount(settings, "c" * 64, names)
    try:
        assert not os.path.lexists(f"{merged}/gone")
        assert Path(merged, "own").read_bytes() == b"2"
        assert os.listdir(f"{merged}/dir") == ["new"]
        assert os.listdir(f"{merged}/full") == []
        assert os.listdir(f"{merged}/again") == ["new"]
        assert rootfs.mount(settings, "c" * 64, names) == merged
    finally:
        rootfs.unmount(settings, "c" * 64)
    rootfs.unmount(settings, "c" * 64)
    rootfs.remove(settings, "c" * 64)
    assert not os.path.exists(settings.container_root("c" * 64))


def test_an_image_cannot_speak_to_overlayfs(settings: Settings) -> None:
    headers = {"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.user.overlay.opaque": "y"}
    folder = unpack(settings, Tar().add("d", tarfile.DIRTYPE, pax_headers=headers).whole())
    assert os.listxattr(f"{folder}/d") == []


def test_attributes_of_the_system_are_kept_unless_they_are_overlayfs_own(settings: Settings) -> None:
    folder = unpack(settings, Tar().add("f", pax_headers={"SCHILY.xattr.trusted.deep": "kept"}).whole())
    assert os.getxattr(f"{folder}/f", "trusted.deep") == b"kept"


@pytest.mark.parametrize("mtime", ["-86400", "9223372037", "99999999999999999999"])
def test_a_time_out_of_reach_is_1970(settings: Settings, mtime: str) -> None:
    folder = unpack(settings, Tar().add("f", pax_headers={"mtime": mtime}).whole())
    assert os.stat(f"{folder}/f").st_mtime == 0


def test_a_hard_link_to_a_symbolic_one_changes_its_owner_only(settings: Settings) -> None:
    tar = Tar().add("soft", tarfile.SYMTYPE, link="nowhere", uid=7, gid=8)
    tar.add("again", tarfile.LNKTYPE, link="soft", uid=9, gid=9, mtime=1_600_000_000)
    status = os.lstat(unpack(settings, tar.whole()) + "/soft")
    assert (status.st_uid, status.st_gid, status.st_mtime, status.st_nlink) == (9, 9, 1_500_000_000, 2)


def test_a_later_member_replaces_an_earlier_one(settings: Settings) -> None:
    tar = Tar().add("a", tarfile.DIRTYPE).add("a/x", content=b"12345").add("a", content=b"abc")
    tar.add("b", content=b"1").add("b", tarfile.DIRTYPE).add("b/y", content=b"22").add("b", tarfile.DIRTYPE, mode=0o700)
    layer = layers.unpack(settings, iter([tar.whole()]))
    assert Path(layer.path, "diff/a").read_bytes() == b"abc"
    assert Path(layer.path, "diff/b/y").read_bytes() == b"22"
    assert stat.S_IMODE(os.stat(f"{layer.path}/diff/b").st_mode) == 0o700
    assert layer.size == 5
    layer.discard()


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_sparse_files(settings: Settings, tmp_path: Path, form: int) -> None:
    name = "/".join(["d" * 100] * 5) + "/" + "ü" * 60
    folder = unpack(settings, Tar(form).add(name, content=b"x").whole())
    assert Path(folder, name).read_bytes() == b"x"


@pytest.mark.parametrize(
    "options", ["--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"]
)
def test_sparse_files_of_gnu_tar(settings: Settings, tmp_path: Path, options: str) -> None:
    import subprocess

    source = tmp_path / "sparse"
    with source.open("wb") as file:
        for offset in range(0, 60 << 20, 10 << 20):
            file.seek(offset)
            file.write(b"data at %d" % offset)
        file.truncate(64 << 20)
    extra = [] if "gnu" in options else ["--format=posix"]
    made = subprocess.run(
        ["tar", "-cS", *extra, options, "-C", str(tmp_path), "sparse"], capture_output=True, check=True
    ).stdout
    folder = unpack(settings, made)
    assert hashlib.sha256(Path(folder, "sparse").read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()
    assert os.stat(f"{folder}/sparse").st_blocks * 512 < 4 << 20


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_every_compression_gives_the_same_layer(settings: Settings, pack: "type[bytes]") -> None:
    tar = Tar().add("f", content=os.urandom(300_000)).whole()
    layer = layers.unpack(settings, layers.decompressed(io.BytesIO(pack(tar)).read))
    assert layer.diff_id == "sha256:" + hashlib.sha256(tar).hexdigest()
    layer.discard()


def test_several_gzip_members_are_one_layer(settings: Settings) -> None:
    tar = Tar().add("f", content=b"x" * 100_000).whole()
    packed = gzip.compress(tar[:5000]) + gzip.compress(tar[5000:]) + bytes(512)
    layer = layers.unpack(settings, layers.decompressed(io.BytesIO(packed).read))
    assert layer.diff_id == "sha256:" + hashlib.sha256(tar).hexdigest()
    layer.discard()


@pytest.mark.parametrize("damage", ["cut", "header", "gzip"])
def test_a_damaged_layer_is_refused_and_leaves_nothing(settings: Settings, damage: str) -> None:
    tar = Tar().add("a", content=b"a" * 5000).add("b", content=b"b" * 5000).whole()
    if damage == "cut":
        tar = tar[:7000]
    elif damage == "header":
        tar = tar[:5632] + b"garbage" + tar[5639:]
    else:
        tar = gzip.compress(tar)[:-20]
    with pytest.raises(SystemFailure):
        unpack(settings, tar)
    assert os.listdir(f"{settings.root}/layers") == []


def test_an_archive_may_end_with_the_last_byte_of_its_last_member(settings: Settings) -> None:
    """As Go reads it, and Go programs write it."""
    tar = Tar().add("a", content=b"a" * 5000).add("b", content=b"b" * 700).whole()
    end = tar.rindex(b"b") + 1
    for cut in (end, end + 1, end + (-end % 512)):
        folder = unpack(settings, tar[:cut])
        with open(f"{folder}/b", "rb") as file:
            assert file.read() == b"b" * 700


def test_a_directory_that_the_tar_does_not_describe_keeps_what_it_was_below(settings: Settings) -> None:
    below = layers.unpack(settings, iter([Tar().add("a", tarfile.DIRTYPE, uid=9, mode=0o700).whole()]))
    above = layers.unpack(settings, iter([Tar().add("a/f", content=b"x").whole()]))
    assert above.implied == ["a"]
    layers.settle(settings, above, [below.name])
    status = os.stat(f"{above.path}/diff/a")
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (9, 0o700)
    below.discard()
    above.discard()


def test_127_layers_fit_one_page_of_mount_options(settings: Settings) -> None:
    names = []
    for number in range(127):
        layer = layers.new(settings)
        Path(layer.path, "diff", f"f{number}").touch()
        layer.keep()
        names.append(layer.name)
    rootfs.prepare(settings, "d" * 64)
    merged = rootfs.mount(settings, "d" * 64, names)
    try:
        assert sum(1 for name in os.listdir(merged) if name[0] == "f" and name[1:].isdigit()) == 127
        Path(merged, "written").touch()
        assert os.path.exists(settings.container_root("d" * 64) + "/diff/written")
    finally:
        rootfs.unmount(settings, "d" * 64)


def test_only_what_nobody_fills_is_a_leftover(settings: Settings) -> None:
    layer = layers.new(settings)
    assert layers.leftovers(settings, set()) == []
    layer.keep()
    assert layers.leftovers(settings, set()) == [layer.name]
    assert layers.leftovers(settings, {layer.name}) == []
