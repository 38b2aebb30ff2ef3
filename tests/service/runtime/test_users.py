"""passwd and group as an image may have them, hostile ones included."""

import os
import stat
from pathlib import Path

import pytest

from service.errors import InvalidParameter
from service.runtime import users


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "fs"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nu:x:1000:100::/home/u:\nbroken\n1001:x:5:6::/five:\n"
    )
    (folder / "etc/group").write_text("root:x:0:\nwheel:x:10:root,u\nstaff:x:50:\n")
    return folder


@pytest.mark.parametrize(
    ("user", "groups", "expected"),
    [
        ("", [], (0, 0, [10], "/root")),
        ("u", [], (1000, 100, [10], "/home/u")),
        ("1000", [], (1000, 100, [10], "/home/u")),
        ("u:staff", [], (1000, 50, [], "/home/u")),
        ("u:7", ["staff", "8"], (1000, 7, [50, 8], "/home/u")),
        ("77", [], (77, 0, [], "/")),
        ("1001", [], (5, 6, [], "/five")),  # a name of digits wins over the number
        (":staff", [], (0, 50, [], "/root")),
    ],
)
def test_users(root: Path, user: str, groups: list[str], expected: "tuple[int, int, list[int], str]") -> None:
    found = users.resolve_user(str(root), user, groups)
    assert (found.uid, found.gid, found.groups, found.home) == expected


@pytest.mark.parametrize(
    ("user", "groups", "sentence"),
    [
        ("x", [], "unable to find user x: no matching entries in passwd file"),
        ("u:x", [], "unable to find group x: no matching entries in group file"),
        ("u", ["x"], "Unable to find group x: no matching entries in group file"),
        ("4294967296", [], "uids and gids must be in range 0-2147483647"),
        ("-1", [], "unable to find user -1: no matching entries in passwd file"),
    ],
)
def test_refusals(root: Path, user: str, groups: list[str], sentence: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        users.resolve_user(str(root), user, groups)
    assert caught.value.message == sentence


def test_an_image_without_passwd(tmp_path: Path) -> None:
    assert users.resolve_user(str(tmp_path), "").uid == 0
    assert users.resolve_user(str(tmp_path), "5:6").gid == 6


def test_links_lead_nowhere_outside(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("evil:x:666:666::/:\n")
    (root / "etc/passwd").unlink()
    for target in (str(tmp_path / "secret"), "../../secret", "/proc/self/root" + str(tmp_path / "secret")):
        (root / "etc/passwd").symlink_to(target)
        with pytest.raises(InvalidParameter):
            users.resolve_user(str(root), "evil")
        (root / "etc/passwd").unlink()
    os.mkfifo(root / "etc/passwd")
    assert users.resolve_user(str(root), "0").uid == 0, "a fifo must not hang the launch"


def test_files_without_an_end(root: Path) -> None:
    """A container may put what it likes there; the service reads it."""
    (root / "etc/passwd").unlink()
    os.mknod(root / "etc/passwd", stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    (root / "etc/group").unlink()
    (root / "etc/group").mkdir()
    assert users.resolve_user(str(root), "5").uid == 5
    (root / "etc/passwd").unlink()
    with open(root / "etc/passwd", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InvalidParameter) as caught:
        users.resolve_user(str(root), "5")
    assert caught.value.message == "read /etc/passwd: file too large"
