"""A tar that is looked at is what it becomes when it is unpacked."""

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.content import copying, extract, tar_tree
from service.content.tar import BadArchive, Source
from service.kernel.tree import remove_tree

NAMES = st.sampled_from(
    ["a", "b", "c", "a/b", "a/c", "./a", "a/b/c", "b/./d", "/c", "d/", "a//b", "ü", "é\udcff", "b/x*", "."]
)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
MEMBERS = st.lists(
    st.tuples(
        NAMES,
        KINDS,
        st.sampled_from([0o644, 0o755, 0o4755, 0o2755, 0o1777, 0o600]),
        st.integers(0, 70_000),
        st.binary(max_size=40),
        st.sampled_from(["a", "../b", "/c", "nowhere", "b/x*"]),
    ),
    max_size=12,
)
PATTERNS = ("a", ".", "*", "a/*", "b", "a/b/c", "?", "ü", "b/x\\*", "nothing", "../a", "c/..", "**")


class Bytes(Source):
    """A tar in memory."""

    def __init__(self, data: bytes) -> None:
        super().__init__(-1)
        self.stream = io.BytesIO(data)

    def more(self) -> bytes:
        """The next piece."""
        return self.stream.read(1000)


def packed(members: "list[tuple[str, bytes, int, int, bytes, str]]") -> bytes:
    """A tar of (name, kind, mode, owner, content, link)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        for name, kind, mode, owner, content, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid, info.gid, info.linkname = kind, mode, owner, owner // 2, link
            if kind != tarfile.SYMTYPE:
                info.linkname = ""
            info.size = len(content) if kind == tarfile.REGTYPE and not name.endswith("/") else 0
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def spool(data: bytes, place: Path) -> tar_tree.Spool:
    """A spool of the tar, which comes in small pieces."""
    stream = io.BytesIO(data)
    return tar_tree.Spool(lambda _: stream.read(777), lambda: str(place))


def everything(kept: tar_tree.Spool) -> bytes:
    """All that a spool has kept."""
    with open(kept.file(), "rb") as reading:
        return reading.read()


def told(tree: "copying.Searched", pattern: str) -> object:
    """What is found, or how the error reads."""
    try:
        return copying.found_in(tree, pattern)
    except (OSError, ValueError) as error:
        return type(error), str(error), getattr(error, "filename2", None)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=MEMBERS)
def test_the_tree_is_what_unpacking_makes(
    tmp_path: Path, members: "list[tuple[str, bytes, int, int, bytes, str]]"
) -> None:
    """Each source of COPY means the same in both, with the same hash; files hold the same."""
    data = packed(members)
    tree = tar_tree.listed(spool(data, tmp_path / "spool"))
    if tree is None:
        return  # it is unpacked then
    folder = tmp_path / "unpacked"
    folder.mkdir(mode=0o755)
    try:
        extract.Extractor(Bytes(data), str(folder)).run()
        for pattern in PATTERNS:
            assert told(tree, pattern) == told(copying.Folder(str(folder), copying.content_of), pattern), pattern
        for path, status in tree.below(""):
            real_one = os.lstat(f"{folder}/{path}")
            assert (status.st_mode, status.st_uid, status.st_gid) == (
                real_one.st_mode,
                real_one.st_uid,
                real_one.st_gid,
            )
            if stat.S_ISREG(status.st_mode):
                assert tree.read(path) == (folder / path).read_bytes()
    finally:
        remove_tree(str(folder))


def file(name: str, content: bytes = b"x", **fields: object) -> "tuple[tarfile.TarInfo, bytes]":
    """A member that is a regular file, but for `fields`."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar_of(*members: "tuple[tarfile.TarInfo, bytes]") -> bytes:
    """A tar, by pax's rules."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        [file("a"), file("b", b"", type=tarfile.LNKTYPE, linkname="a")],
        [file("fifo", b"", type=tarfile.FIFOTYPE)],
        [file("a", b"", type=tarfile.SYMTYPE, linkname="/etc"), file("a/passwd")],
        [file("a"), file("a/b")],
        [file("a"), file("a", b"", type=tarfile.DIRTYPE)],
        [file("a/b"), file("a")],
        [file("../a")],
        [file("n" * 256)],
        [file("a/" * 1200 + "b")],
        [file("a", uid=1 << 16)],
        [file("a", pax_headers={"SCHILY.xattr.user.x": "1"})],
        [file("a", b"", type=tarfile.DIRTYPE, mode=0o2755), file("a/b/c")],
        [file(".")],
    ],
    ids=lambda members: " ".join(info.name[:20] for info, _ in members),  # the same in each process
)
def test_what_takes_more_than_reading_is_unpacked(
    tmp_path: Path, members: "list[tuple[tarfile.TarInfo, bytes]]"
) -> None:
    """Links on the way, one kind over another, devices, attributes, long names: the tar is kept whole."""
    data = tar_of(file("first"), *members, file("last"))
    kept = spool(data, tmp_path / "spool")
    assert tar_tree.listed(kept) is None
    assert everything(kept) == data


def test_a_tree_with_more_paths_than_memory_should_hold_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is one on paths, directories that no member describes among them."""
    monkeypatch.setattr(tar_tree, "_MOST", 10)
    for count, fits in ((5, True), (6, False)):
        kept = spool(tar_of(*(file(f"d{number}/f") for number in range(count)), file("last")), tmp_path / "spool")
        assert (tar_tree.listed(kept) is not None) is fits


@pytest.mark.parametrize(("most", "is_a_file"), [(0, True), (2 << 20, True), (4 << 20, False)])
def test_a_long_tar_is_kept_in_a_file_that_nobody_else_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, is_a_file: bool
) -> None:
    """More than is kept in memory: the same tree, and the same bytes."""
    monkeypatch.setattr(tar_tree, "_IN_MEMORY", most)
    large = os.urandom(3 << 20)
    data = tar_of(file("first", b"1"), file("d/large", large), file("last", b"2"))
    place = tmp_path / "spool"
    kept = spool(data, place)
    tree = tar_tree.listed(kept)
    assert tree is not None
    assert [tree.read(name) for name in ("first", "d/large", "last")] == [b"1", large, b"2"]
    assert everything(kept) == data
    assert place.exists() is is_a_file
    if is_a_file:
        assert place.read_bytes() == data
        assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_a_later_member_replaces_an_earlier_one(tmp_path: Path) -> None:
    """Files, links and the attributes of directories."""
    folder, again = (file("d", b"", type=tarfile.DIRTYPE, mode=mode) for mode in (0o700, 0o750))
    link = file("f", b"", type=tarfile.SYMTYPE, linkname="d")
    tree = tar_tree.listed(spool(tar_of(folder, file("f", b"1"), again, link, file("f", b"2")), tmp_path / "spool"))
    assert tree is not None
    assert tree.read("f") == b"2"
    assert tree.status("d").st_mode == stat.S_IFDIR | 0o750


def test_a_tar_that_ends_early_is_bad(tmp_path: Path) -> None:
    """Within a member, or within its header."""
    whole = tar_of(file("a", b"y" * 2000))
    for length in (100, 1000, 2000):
        with pytest.raises(BadArchive):
            tar_tree.listed(spool(whole[:length], tmp_path / "spool"))


def test_nothing_is_kept_after_the_end_of_the_build(tmp_path: Path) -> None:
    """A reader that was left behind meets an error, and makes no file."""
    data = tar_of(file("a", bytes(3 << 20)))
    kept = spool(data, tmp_path / "spool")
    kept.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        tar_tree.listed(kept)
    assert not list(tmp_path.iterdir())
