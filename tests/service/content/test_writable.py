"""An upper directory as a layer: what is moved is what its tar would have been unpacked to."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.content import layer_programs, writable
from service.errors import SystemFailure
from service.settings import Settings
from tests.support.trees import tree

CAPABILITY_3 = bytes.fromhex("0100000300040000000000000000000000000000e8030000")  # cap_net_bind_service, root 1000
CAPABILITY_2 = bytes.fromhex("0100000200040000000000000000000000000000")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    if os.geteuid():
        pytest.skip("needs root: it makes devices and attributes")
    (tmp_path / "lib").mkdir()
    yield Settings({"MOORAGE_ROOT": str(tmp_path / "lib"), "MOORAGE_RUN": str(tmp_path / "run")})
    layer_programs.end()


def written(folder: Path) -> str:
    """A directory as a step of a build leaves it below overlayfs."""
    upper = folder
    (upper / "etc/deep").mkdir(parents=True)
    (upper / "etc/words").write_text("moles\n" * 1000)
    os.utime(upper / "etc/words", ns=(1_500_000_000_123_456_789, 1_500_000_000_987_654_321))
    os.link(upper / "etc/words", upper / "etc/again")
    os.symlink("words", upper / "etc/link")
    os.utime(upper / "etc/link", ns=(5_700_000_000, 5_700_000_000), follow_symlinks=False)
    (upper / "tool").write_bytes(b"\x7fELF")
    os.chmod(upper / "tool", 0o4755)
    os.setxattr(upper / "tool", "security.capability", CAPABILITY_3)
    os.setxattr(upper / "tool", "user.mole", b"digs")
    os.setxattr(upper / "tool", "trusted.overlay.origin", b"somewhere")
    os.setxattr(upper / "etc", "trusted.overlay.impure", b"y")
    os.setxattr(upper / "etc/deep", "trusted.overlay.opaque", b"y")
    os.mknod(upper / "etc/gone", 0o020000, 0)
    os.mkfifo(upper / "pipe", 0o640)
    os.chown(upper / "pipe", 3, 4)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"{upper}/etc/deep/sock")
    os.utime(upper / "etc/deep", ns=(9_900_000_000, 9_900_000_000))
    os.setxattr(upper, "trusted.overlay.origin", b"somewhere")
    os.chmod(upper, 0o700)
    os.chown(upper, 5, 6)
    return str(upper)


def test_moved_and_unpacked_are_the_same(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "lib/one").mkdir()
    (tmp_path / "lib/two").mkdir()
    copied = writable.copied(settings, written(tmp_path / "lib/one"))
    taken = writable.taken(settings, written(tmp_path / "lib/two"))
    assert copied is not None
    assert taken is not None
    assert copied.unpacked is not None
    assert not os.path.exists(tmp_path / "lib/two")
    assert (taken.diff_id, taken.size) == (copied.diff_id, copied.unpacked.size)
    ours, theirs = tree(f"{taken.path}/diff"), tree(f"{copied.unpacked.path}/diff")
    for described in (ours, theirs):
        del described["."]["mtime"]  # of the root, which no layer describes
        del described["etc/gone"]["mtime"]  # nobody sees it
    assert ours == theirs
    assert os.getxattr(f"{taken.path}/diff/tool", "security.capability") == CAPABILITY_2
    assert "etc/deep/sock" not in ours
    assert os.stat(f"{taken.path}/diff/etc/deep").st_mtime_ns == 9_000_000_000, "its time, though an entry has gone"
    for layer in (copied.unpacked, taken):
        marks = {name: os.listxattr(f"{layer.path}/diff/{name}") for name in ("etc", "etc/deep", "tool")}
        assert {name: [mark for mark in found if "overlay" in mark] for name, found in marks.items()} == {
            "etc": [],
            "etc/deep": ["trusted.overlay.opaque"],
            "tool": [],
        }
        status = os.stat(f"{layer.path}/diff")
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o755, 0, 0)
        assert os.listxattr(f"{layer.path}/diff") == []
        layer.keep()


def test_its_tar_is_made_again_the_same(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "lib/one").mkdir()
    taken = writable.taken(settings, written(tmp_path / "lib/one"))
    assert taken is not None
    taken.keep()
    diff = f"{taken.path}/diff"
    assert writable.is_whole(settings, diff, taken.diff_id)
    assert writable.packed(settings, diff, taken.diff_id)[0] == taken.diff_id
    os.chmod(f"{diff}/tool", 0o755)
    assert not writable.is_whole(settings, diff, taken.diff_id)
    with pytest.raises(SystemFailure, match="is damaged"):
        writable.packed(settings, diff, taken.diff_id)


def test_nothing_is_no_layer(settings: Settings, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "lib" / name).mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "lib/two/sock"))
    assert writable.taken(settings, str(tmp_path / "lib/one")) is None
    assert writable.taken(settings, str(tmp_path / "lib/two")) is None
    assert not os.path.exists(tmp_path / "lib/layers") or os.listdir(tmp_path / "lib/layers") == []
