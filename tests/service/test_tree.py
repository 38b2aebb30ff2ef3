"""Trees that a container may have written: weighed, however deep and odd they are."""

import gc
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.kernel import tree


def deep(top: Path, levels: int) -> None:
    """A chain of directories, a file of one byte in each; far beyond what one path can name."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=here))
        os.truncate(fd := os.open("f", os.O_WRONLY, dir_fd=here), 1)
        os.close(fd)
        os.mkdir("a-directory", dir_fd=here)
        below = os.open("a-directory", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def test_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one/file").write_bytes(b"x" * 1000)
    (tmp_path / "two").mkdir()
    os.link(tmp_path / "one/file", tmp_path / "two/again")
    (tmp_path / "two/link").symlink_to("/etc/passwd")  # weighs as many bytes as it has, not what it points to
    (tmp_path / "folder-link").symlink_to("/")
    with open(tmp_path / "two/hole", "wb") as file:
        file.truncate(10_000)
    assert tree.disk_usage(str(tmp_path)) == 1000 + len("/etc/passwd") + len("/") + 10_000
    assert tree.disk_usage(str(tmp_path / "nosuch")) == 0
    assert tree.disk_usage(str(tmp_path / "folder-link")) == 0
    assert tree.disk_usage(str(tmp_path / "one/file")) == 0


@pytest.fixture
def too_deep(tmp_path: Path) -> Iterator[Path]:
    """A directory that is gone afterwards, whatever failed: pytest itself cannot remove what is so deep."""
    yield tmp_path
    subprocess.run(["rm", "-rf", str(tmp_path)], check=True)


def test_deep_trees_cost_few_descriptors(too_deep: Path) -> None:
    tmp_path = too_deep
    deep(tmp_path, 1100)
    (tmp_path / "side").mkdir()
    (tmp_path / "side/file").write_bytes(b"y" * 500)
    gc.collect()  # what earlier tests have dropped closes its descriptors now, not meanwhile
    before = len(os.listdir("/proc/self/fd"))
    assert tree.disk_usage(str(tmp_path)) == 1100 + 500
    assert len(os.listdir("/proc/self/fd")) == before
    tree.remove_tree(str(tmp_path))
    assert not tmp_path.exists()


def test_wide_and_deep(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        deep(tmp_path / name, 100)
    assert tree.disk_usage(str(tmp_path)) == 300
