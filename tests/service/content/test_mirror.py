"""Copies of clients' directories: what is fetched, what is shared, and what a hostile client cannot do."""

import os
import stat
from pathlib import Path

import pytest

from service.content import copying, mirror
from service.errors import InvalidParameter
from service.kernel import pidfd

FILE, FOLDER, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777
SECOND = 1_700_000_000_000_000_123


def transfer(copy: mirror.Mirror, listed: "list[mirror.Entry]", contents: dict[str, bytes]) -> list[str]:
    """A whole transfer by a client that has `contents`; the paths whose content was asked for."""
    receiver = mirror.Receiver(copy)
    asked = [(number, entry.path) for number, entry in enumerate(listed) if receiver.entry(number, entry)]
    receiver.listed()
    for number, path in asked:
        assert not receiver.complete
        receiver.piece(number, contents[path])
        receiver.piece(number, b"")
    assert receiver.complete
    receiver.finish()
    receiver.close()
    return [path for _, path in asked]


def entry(path: str, mode: int = FILE, size: int = 0, link: str = "", mtime_ns: int = SECOND) -> mirror.Entry:
    return mirror.Entry(path, mode, size, mtime_ns, link)


def test_only_what_changed_is_fetched_again(tmp_path: Path) -> None:
    folder = str(tmp_path)
    listed = [
        entry("a", FOLDER),
        entry("a/link", LINK, link="../b"),
        entry("a/x", size=3),
        entry("b", stat.S_IFREG | 0o4755, size=5),
        entry("empty"),
        entry("hard", size=5, link="b"),
    ]
    contents = {"a/x": b"abc", "b": b"hello"}
    copy = mirror.acquire(folder, "ab12", "context")
    assert transfer(copy, listed, contents) == ["a/x", "b"]
    assert Path(copy.tree, "a/x").read_bytes() == b"abc"
    seen = os.stat(f"{copy.tree}/b")
    assert (stat.S_IMODE(seen.st_mode), seen.st_mtime_ns) == (0o4755, SECOND)
    assert os.stat(f"{copy.tree}/a").st_mtime_ns == SECOND
    assert os.readlink(f"{copy.tree}/a/link") == "../b"
    assert os.path.samefile(f"{copy.tree}/hard", f"{copy.tree}/b")
    copy.release()

    copy = mirror.acquire(folder, "ab12", "context")  # the next build
    assert transfer(copy, listed, contents) == []
    changed = [entry("a", FOLDER), entry("a/x", size=3, mtime_ns=SECOND + 1), entry("b", FOLDER), entry("b/c", size=1)]
    assert transfer(copy, changed, {"a/x": b"xyz", "b/c": b"!"}) == ["a/x", "b/c"]
    assert sorted(os.listdir(copy.tree)) == ["a", "b"]
    assert os.listdir(f"{copy.tree}/a") == ["x"]
    copy.release()


def test_builds_side_by_side_have_copies_of_their_own_that_share_files(tmp_path: Path) -> None:
    listed, contents = [entry("f", size=4)], {"f": b"data"}
    first = mirror.acquire(str(tmp_path), "ab12", "context")
    assert transfer(first, listed, contents) == ["f"]
    second = mirror.acquire(str(tmp_path), "ab12", "context")
    assert second.tree != first.tree
    assert transfer(second, listed, contents) == []  # nothing came over the wire
    assert os.path.samefile(f"{first.tree}/f", f"{second.tree}/f")
    assert transfer(second, [entry("f", size=3)], {"f": b"new"}) == ["f"]  # what one replaces, the other keeps
    assert Path(first.tree, "f").read_bytes() == b"data"
    assert {copy.in_use for copy in mirror.usage(str(tmp_path))} == {True}
    first.release()
    second.release()
    assert {copy.in_use for copy in mirror.usage(str(tmp_path))} == {False}


def test_a_hard_link_that_has_become_a_file_of_its_own_is_fetched(tmp_path: Path) -> None:
    """It has the same mode, size and time as what it was a link to: here, and in a copy to share with."""
    linked, apart = [entry("f", size=4), entry("g", size=4, link="f")], [entry("f", size=4), entry("g", size=4)]
    contents = {"f": b"data", "g": b"mole"}
    first = mirror.acquire(str(tmp_path), "ab12", "context")
    transfer(first, linked, contents)
    second = mirror.acquire(str(tmp_path), "ab12", "context")
    assert transfer(second, apart, contents) == ["g"]
    assert transfer(first, apart, contents) == []  # of the other one
    assert transfer(first, linked, contents) == []
    assert transfer(first, [entry("f", size=4, mtime_ns=SECOND + 1), entry("g", size=4)], contents) == ["f"]
    for copy, found in ((first, b"data"), (second, b"mole")):
        assert [Path(copy.tree, name).read_bytes() for name in ("f", "g")] == [b"data", found]
        copy.release()


def test_parts_of_a_directory_have_copies_of_their_own_that_share_files(tmp_path: Path) -> None:
    """A build that reads .dockerignore first, then what it copies, need not fetch anything twice."""
    listed, contents = [entry("f", size=4)], {"f": b"data"}
    for again in range(3):
        for part, files in (("ignore", []), ("all", listed), (f"other {again}", listed)):
            copy = mirror.acquire(str(tmp_path), "ab12", "context", part)
            assert transfer(copy, files, contents) == (["f"] if part == "all" and not again else [])
            copy.release()
    for number in range(20):
        mirror.acquire(str(tmp_path), "ab12", "context", f"yet another {number}").release()
    assert len(mirror.usage(str(tmp_path))) == 8


def test_a_transfer_that_was_cut_off_leaves_no_half_file(tmp_path: Path) -> None:
    copy = mirror.acquire(str(tmp_path), "ab12", "context")
    receiver = mirror.Receiver(copy)
    assert receiver.entry(0, entry("f", size=100))
    receiver.piece(0, b"half")
    receiver.close()  # the process is gone, or the client
    copy.release()
    copy = mirror.acquire(str(tmp_path), "ab12", "context")
    assert os.listdir(copy.tree) == os.listdir(copy.arriving) == []
    copy.release()


@pytest.mark.parametrize(
    "listed",
    [
        [entry("../x")],
        [entry("/etc/x")],
        [entry("a", FOLDER), entry("a/../../x")],
        [entry("a", FOLDER), entry("a//x")],
        [entry("a", LINK, link="/"), entry("a/x")],
        [entry("a/b")],
        [entry("b", FOLDER), entry("a")],
        [entry("a", LINK, link="/etc/x"), entry("a")],
        [entry("a", link="/etc/passwd")],
        [entry("a", link="b")],
        [entry("a\0b")],
        [entry("")],
    ],
    ids=lambda listed: " ".join(repr(found.path) for found in listed),
)
def test_a_list_that_leads_elsewhere_is_refused(tmp_path: Path, listed: "list[mirror.Entry]") -> None:
    copy = mirror.acquire(f"{tmp_path}/m", "ab12", "context")
    receiver = mirror.Receiver(copy)
    *good, bad = enumerate(listed)
    for number, found in good:
        receiver.entry(number, found)
    with pytest.raises(InvalidParameter):
        receiver.entry(*bad)
    receiver.close()
    copy.release()
    assert os.listdir(tmp_path) == ["m"]


def test_content_that_nobody_asked_for_is_refused(tmp_path: Path) -> None:
    copy = mirror.acquire(str(tmp_path), "ab12", "context")
    receiver = mirror.Receiver(copy)
    receiver.entry(0, entry("a", FOLDER))
    with pytest.raises(InvalidParameter):
        receiver.piece(0, b"x")
    copy.release()


def test_a_link_that_an_earlier_transfer_left_is_not_followed(tmp_path: Path) -> None:
    """First a link out of the tree, then a directory of that name with a file."""
    outside = tmp_path / "outside"
    outside.mkdir()
    copy = mirror.acquire(f"{tmp_path}/m", "ab12", "context")
    transfer(copy, [entry("a", LINK, link=str(outside))], {})
    transfer(copy, [entry("a", FOLDER), entry("a/x", size=1)], {"a/x": b"!"})
    assert os.listdir(outside) == []
    assert os.listdir(f"{copy.tree}/a") == ["x"]
    copy.release()


def test_old_and_superfluous_copies_are_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, key in enumerate(("aa", "bb", "cc")):
        copy = mirror.acquire(str(tmp_path), key, "context")
        transfer(copy, [entry("f", size=4)], {"f": b"data"})
        copy.release()
        os.utime(f"{copy.place}/about", (10**9, 10**9) if not number else None)
    held = mirror.acquire(str(tmp_path), "aa", "context")
    mirror.collect(str(tmp_path))
    assert len(mirror.usage(str(tmp_path))) == 3  # the old one is in use
    held.release()
    mirror.collect(str(tmp_path))
    assert sorted(copy.id for copy in mirror.usage(str(tmp_path))) == ["bb-0", "cc-0"]
    monkeypatch.setattr(mirror, "KEPT_BYTES", 5)
    mirror.collect(str(tmp_path))
    assert len(mirror.usage(str(tmp_path))) == 1


def test_listing_has_fsutils_order_and_hard_links(tmp_path: Path) -> None:
    for path in ("a/x", "a-b", "a/y/z", "a.c"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    os.link(tmp_path / "a-b", tmp_path / "z")
    found = mirror.listing(str(tmp_path))
    assert [entry.path for entry in found] == ["a", "a/x", "a/y", "a/y/z", "a-b", "a.c", "z"]
    assert found[-1].link == "a-b"


# ── what COPY finds in a copy, without reading it ────────────────────────────────────────────────────────────────────

LISTED = [entry("a", FOLDER), entry("a/link", LINK, link="x"), entry("a/x", size=3), entry("b", size=5)]
CONTENTS = {"a/x": b"abc", "b": b"hello"}


def plainly(tree: str, pattern: str) -> "list[tuple[str, str]]":
    """What is there, all of it read."""
    return [(each.path, each.hash) for each in copying.found(tree, pattern)]


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read to know what is in them."""
    read: list[str] = []
    real = copying.content_of

    def noted(full: str) -> str:
        read.append(full)
        return real(full)

    monkeypatch.setattr(copying, "content_of", noted)
    return read


def test_what_has_arrived_is_not_read_again(tmp_path: Path, read_files: list[str]) -> None:
    copy = mirror.acquire(str(tmp_path), "ab12", "context")
    transfer(copy, LISTED, CONTENTS)
    first = {pattern: mirror.found(copy.tree, pattern) for pattern in (".", "a", "a/*", "b", "[ab]")}
    copy.release()
    copy = mirror.acquire(str(tmp_path), "ab12", "context")
    assert transfer(copy, LISTED, CONTENTS) == []
    again = {pattern: mirror.found(copy.tree, pattern) for pattern in first}
    assert read_files == []
    assert first == again == {pattern: plainly(copy.tree, pattern) for pattern in first}
    copy.release()


@pytest.mark.parametrize(
    "changed",
    [
        [entry("a", FOLDER), entry("a/link", LINK, link="x"), entry("a/x", size=3, mtime_ns=SECOND + 1), LISTED[3]],
        [entry("a", stat.S_IFDIR | 0o700), *LISTED[1:]],
        [entry("a", FOLDER), entry("a/link", LINK, link="y"), *LISTED[2:]],
        [entry("a", FOLDER), *LISTED[2:]],
        [*LISTED[:2], entry("a/x", stat.S_IFREG | 0o755, size=3), LISTED[3]],
        [*LISTED[:3], entry("a/y", link="a/x"), LISTED[3]],
        [*LISTED[:3], entry("a/y", FOLDER), LISTED[3]],
        [*LISTED[:3], entry("a/y", stat.S_IFIFO | 0o644), LISTED[3]],
        [entry("a", size=3), LISTED[3]],
    ],
)
def test_every_change_is_seen(tmp_path: Path, changed: "list[mirror.Entry]") -> None:
    copy = mirror.acquire(str(tmp_path), "ab12", "context")
    transfer(copy, LISTED, CONTENTS)
    before = mirror.found(copy.tree, ".")
    transfer(copy, changed, {"a/x": b"xyz", "a": b"one"})
    assert mirror.found(copy.tree, ".") == plainly(copy.tree, ".") != before
    transfer(copy, LISTED, {**CONTENTS, "a/x": b"abc"})
    assert mirror.found(copy.tree, ".") == plainly(copy.tree, ".")
    copy.release()


def test_a_new_time_alone_changes_nothing(tmp_path: Path) -> None:
    copy = mirror.acquire(str(tmp_path), "ab12", "context")
    transfer(copy, LISTED, CONTENTS)
    before = mirror.found(copy.tree, ".")
    later = [entry(each.path, each.mode, each.size, each.link, SECOND + 5) for each in LISTED]
    assert transfer(copy, later, CONTENTS) == ["a/x", "b"]
    assert mirror.found(copy.tree, ".") == before
    copy.release()


def test_builds_side_by_side_find_what_is_their_own(tmp_path: Path) -> None:
    first = mirror.acquire(str(tmp_path), "ab12", "context")
    transfer(first, LISTED, CONTENTS)
    second = mirror.acquire(str(tmp_path), "ab12", "context")
    transfer(second, LISTED, CONTENTS)
    before = mirror.found(first.tree, ".")
    assert mirror.found(second.tree, ".") == before
    transfer(second, [*LISTED[:3], entry("b", size=5, mtime_ns=SECOND + 1)], {"b": b"HELLO"})
    assert mirror.found(second.tree, ".") == plainly(second.tree, ".") != before
    assert mirror.found(first.tree, ".") == plainly(first.tree, ".") == before
    first.release()
    second.release()


def test_after_a_transfer_that_was_cut_off_the_files_themselves_are_asked(tmp_path: Path) -> None:
    copy = mirror.acquire(str(tmp_path), "ab12", "context")
    transfer(copy, LISTED, CONTENTS)
    before = mirror.found(copy.tree, ".")
    receiver = mirror.Receiver(copy)
    changed = [*LISTED[:2], entry("a/x", size=3, mtime_ns=SECOND + 1), entry("b", size=5, mtime_ns=SECOND + 1)]
    wanted = [number for number, each in enumerate(changed) if receiver.entry(number, each)]
    assert wanted == [2, 3]
    receiver.piece(2, b"xyz")
    receiver.piece(2, b"")  # this one has come; of the other a part, and then nobody is there any more
    receiver.piece(3, b"HE")
    copy.release()
    copy = mirror.acquire(str(tmp_path), "ab12", "context")
    found = mirror.found(copy.tree, ".")
    assert found == plainly(copy.tree, ".") != before
    assert transfer(copy, changed, {"b": b"HELLO"}) == ["b"]
    assert mirror.found(copy.tree, ".") == plainly(copy.tree, ".") != found
    copy.release()


def test_sums_of_another_boot_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what a power cut has left of a file."""
    copy = mirror.acquire(str(tmp_path), "ab12", "context")
    transfer(copy, LISTED, CONTENTS)
    before = mirror.found(copy.tree, ".")
    with open(f"{copy.tree}/b", "r+b") as file:
        file.write(bytes(5))
    monkeypatch.setattr("service.kernel.pidfd.boot_id", lambda: "another")
    assert mirror.found(copy.tree, ".") == plainly(copy.tree, ".") != before
    assert mirror.found(copy.tree, ".") == plainly(copy.tree, "."), "now by the sums of this boot"
    copy.release()


def test_a_sum_that_an_image_brings_along_is_not_believed(tmp_path: Path) -> None:
    """The attribute means something on files of ours alone."""
    hashes = set()
    for number, text in enumerate(("good", "evil")):
        path = tmp_path / str(number) / "f"
        path.parent.mkdir()
        path.write_text(text)
        os.setxattr(path, "trusted.moorage.sha256", bytes(32) + pidfd.boot_id().encode())
        hashes.add(copying.found(str(path.parent), "f")[0].hash)
    assert len(hashes) == 2


def test_what_was_kept_and_is_no_json_is_nothing(tmp_path: Path) -> None:
    copy = mirror.acquire(str(tmp_path), "ab12", "context")
    transfer(copy, LISTED, CONTENTS)
    for content in (b"", b"{", b"[]", b'{"boot": "x"}', b'{"boot": 1, "found": 2}'):
        Path(copy.place, "sums").write_bytes(content)
        assert mirror.found(copy.tree, ".") == plainly(copy.tree, ".")
    copy.release()
