"""Copying a tree: everything of it arrives, and nobody can lead the copy elsewhere meanwhile."""

import itertools
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.kernel.copy_tree import copy_tree


def copy(source: Path, target: Path, flags: int = os.O_PATH) -> None:
    one, other = os.open(source, os.O_RDONLY | os.O_DIRECTORY), os.open(target, flags | os.O_DIRECTORY)
    try:
        copy_tree(one, other)
    finally:
        os.close(one)
        os.close(other)


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    return tmp_path / "from", tmp_path / "to"


def picture(top: Path) -> dict[str, tuple[object, ...]]:
    """What there is to see of a tree."""
    seen: dict[str, tuple[object, ...]] = {}
    for path in [top, *sorted(top.rglob("*"))]:
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        attributes = {
            name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
        }
        seen[str(path.relative_to(top))] = (
            *(status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_rdev),
            *(0 if stat.S_ISDIR(status.st_mode) else status.st_nlink, content, attributes),
        )
    return seen


def test_everything_arrives(trees: tuple[Path, Path]) -> None:
    source, target = trees
    (source / "folder/below").mkdir(parents=True)
    (source / "folder/file").write_bytes(b"content")
    (source / "folder/below/twin").hardlink_to(source / "folder/file")
    os.link(source / "folder/file", source / "z-triplet")
    (source / "program").write_bytes(b"#!")
    os.chown(source / "program", 12, 34)
    (source / "program").chmod(0o6751)
    (source / "link").symlink_to("/etc/passwd")
    os.chown(source / "link", 7, 8, follow_symlinks=False)
    os.utime(source / "link", ns=(1, 2_000_000_003), follow_symlinks=False)
    os.mkfifo(source / "fifo", 0o640)
    os.mknod(source / "null", stat.S_IFCHR | 0o620, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(source / "socket"))
    with open(source / "sparse", "wb") as file:
        file.seek(64 << 20)
        file.write(b"end")
        file.truncate(80 << 20)
    os.setxattr(source / "program", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    (source / "folder").chmod(0o1777)
    os.utime(source / "folder/file", ns=(5, 1_000_000_000_000_000_007))
    for folder in ("folder/below", "folder", "."):
        os.utime(source / folder, ns=(5, 1_100_000_000_000_000_009))
    os.chown(source, 33, 44)
    copy(source, target)
    assert picture(target) == picture(source)
    assert (target / "sparse").stat().st_blocks * 512 < 16 << 20
    first, second = (target / "folder/file").stat(), (target / "z-triplet").stat()
    assert first.st_ino == second.st_ino


def test_a_tree_deeper_than_a_path_may_be_long(trees: tuple[Path, Path]) -> None:
    source, target = trees
    at = os.open(source, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d" * 200, dir_fd=at)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("last", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)
    before = len(os.listdir("/proc/self/fd"))
    copy(source, target)
    assert len(os.listdir("/proc/self/fd")) == before
    at = os.open(target, os.O_RDONLY)
    for _ in range(60):
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    assert os.listdir(at) == ["last"]
    os.close(at)


def test_what_is_there_already_stays(trees: tuple[Path, Path]) -> None:
    source, target = trees
    for name in ("file", "link", "folder"):
        (target / name).write_text("mine")
    (source / "file").write_text("theirs")
    (source / "link").symlink_to("file")
    (source / "folder").mkdir()
    (source / "folder/x").touch()
    (source / "other").write_text("theirs")
    copy(source, target)
    assert [(target / name).read_text() for name in ("file", "link", "folder", "other")] == [*["mine"] * 3, "theirs"]


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A place that must not be touched."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("untouched")
    before = picture(tmp_path / "outside")
    yield tmp_path / "outside"
    assert picture(tmp_path / "outside") == before


def test_links_put_in_the_way_lead_nowhere(trees: tuple[Path, Path], outside: Path) -> None:
    """Somebody who may write to the target replaces whatever appears there, directories above all, by links out."""
    source, target = trees
    for number in range(40):
        (source / f"{number}/a/b").mkdir(parents=True)
        (source / f"{number}/secret").write_text("written by the copy")
        (source / f"{number}/a/secret").write_text("written by the copy")
        (source / f"{number}/a/b/secret").symlink_to("x")
        os.chown(source / f"{number}/a", 99, 99)
    done = threading.Event()
    swaps: list[Path] = []
    taken = itertools.count()  # a name of its own for each: one that is there could not be taken again

    def hostile() -> None:
        while not done.is_set():
            for folder in os.listdir(target):
                for path in (target / folder / "a", target / folder):
                    try:
                        os.rename(path, target.parent / f"taken{next(taken)}")
                        os.symlink(outside, path)
                        os.sched_yield()
                        os.unlink(path)
                    except OSError:
                        continue
                    swaps.append(path)

    thread = threading.Thread(target=hostile)
    thread.start()
    try:
        while len(swaps) < 100:
            copy(source, target)
    finally:
        done.set()
        thread.join()
    assert swaps


def test_a_directory_that_was_replaced_before(trees: tuple[Path, Path], outside: Path) -> None:
    source, target = trees
    (source / "folder").mkdir()
    (source / "folder/secret").write_text("written by the copy")
    (target / "folder").symlink_to(outside)
    copy(source, target)
    assert (target / "folder").is_symlink()
