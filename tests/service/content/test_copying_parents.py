"""COPY --parents: what sources mean. The expected files are those of images that BuildKit of August 2026 has made."""

import os
import re
from pathlib import Path

import pytest

from service.content import copying
from service.content.copying_parents import ParentsCopier, found_in, written

LINKS = {"l": "f", "ld": "a", "a/l": "b/c.txt", "a/lb": "b"}
FILES = ("f", "g.txt", "w[1]", "a/f.txt", "a/b/c.txt", "a/b/d.md", "a/z/c.txt", "a/z/deep/q")


@pytest.fixture
def tree(tmp_path: Path) -> str:
    """A tree of files, links and an empty directory."""
    for name in FILES:
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    for name, target in LINKS.items():
        (tmp_path / "tree" / name).symlink_to(target)
    (tmp_path / "tree/empty").mkdir()
    return str(tmp_path / "tree")


def copied(tree: str, source: str, destination: str = "/out/", **options: object) -> set[str]:
    """What is in the destination after a copy: files, links with an @, empty directories with a slash."""
    top = os.path.join(os.path.dirname(tree), "made")
    os.makedirs(top, exist_ok=True)
    copier = ParentsCopier(top, destination, None, **options)  # type: ignore[arg-type]  # a test's own
    folder = copying.Folder(tree, copying.content_of)
    for path, hash in found_in(folder, written(source)):
        copier.copy(copying.Copied(tree, path, hash))
    found = set()
    for above, folders, files in os.walk(f"{top}/out"):
        shown = os.path.relpath(above, f"{top}/out")
        if not folders and not files:
            found.add(shown + "/")
        for name in (*folders, *files):
            path = os.path.normpath(f"{shown}/{name}")
            if os.path.islink(f"{above}/{name}"):
                found.add(path + "@")
            elif name in files:
                found.add(path)
    return found


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("f", "f"),
        ("a/b/c.txt", "a/b/c.txt"),
        ("/a/b/", "a/b/c.txt a/b/d.md"),
        ("a/./b", "b/c.txt b/d.md"),
        ("a/././b/c.txt", "b/c.txt"),
        ("a/b/.", "a/b/c.txt a/b/d.md"),
        ("../f", "f"),
        ("a/*", "a/f.txt a/b/c.txt a/b/d.md a/z/c.txt a/z/deep/q a/l@ a/lb@"),
        ("*/b", "a/b/c.txt a/b/d.md"),
        ("**/c.txt", "a/b/c.txt a/z/c.txt"),
        ("**.txt", "g.txt a/f.txt a/b/c.txt a/z/c.txt"),
        ("a/**/deep", "a/z/deep/q"),
        ("a/./**/c.txt", "b/c.txt z/c.txt"),
        ("a/*/./c.txt", "c.txt f.txt l"),
        ("a/[^b]", "a/l@ a/z/c.txt a/z/deep/q"),
        ("l", "l@"),
        ("a/lb", "a/lb@"),
        ("a/l?/./*.md", "d.md"),
        ("empty", "empty/"),
        ("e*", "empty/"),
        ("empty/*", "./"),
        ("nope*", "./"),
        ("nope*/./f", ""),
        ("w[1]", "./"),
        ("**/**/**/**/**/**/**/**/**/c*d", "./"),
    ],
)
def test_what_a_source_means(tree: str, source: str, wanted: str) -> None:
    assert copied(tree, source) == set(wanted.split())


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("nope", "nope"),
        ("a/./nope", "a/nope"),
        ("a/b/c.txt/x", "a/b/c.txt/x"),
        ("ld/f.txt", "ld/f.txt"),
        ("a/lb/./c.txt", "a/lb/c.txt"),
        (".", ""),
        ("a/./.", "a"),
        (r"w\[1]", r"w\[1]"),
    ],
)
def test_what_is_not_there(tree: str, source: str, missing: str) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        copied(tree, source)
    assert raised.value.filename == missing


def test_a_malformed_pattern_is_refused(tree: str) -> None:
    with pytest.raises(ValueError, match=re.escape("invalid includepatterns: [a/[b]: syntax error in pattern")):
        copied(tree, "a/[b")


def test_directories_on_the_way_are_as_they_were(tree: str) -> None:
    os.chmod(f"{tree}/a", 0o711)
    os.chmod(f"{tree}/a/b", 0o2750)
    os.utime(f"{tree}/a", (1, 1))
    top = os.path.join(os.path.dirname(tree), "made/out")
    os.makedirs(f"{top}/a/old")
    os.chmod(f"{top}/a", 0o700)
    copied(tree, "a/b/c.txt")
    assert [f"{os.stat(f'{top}/{name}').st_mode & 0o7777:o}" for name in ("a", "a/b", "a/old")] == [
        "711",
        "2750",
        "755",
    ]
    assert os.stat(f"{top}/a").st_mtime > 1  # it was there: its time is its own
    copied(tree, "a/./b", "/out/a", mode=lambda _: 0o640)
    assert f"{os.stat(f'{top}/a/b').st_mode & 0o7777:o}" == "640"


def test_a_file_in_the_place_of_a_directory_is_an_error(tree: str) -> None:
    made = os.path.join(os.path.dirname(tree), "made")
    os.makedirs(f"{made}/out")
    Path(f"{made}/out/a").touch()
    for destination, place in (("/out", "/out/a"), ("/out/a", "/out/a")):
        with pytest.raises(NotADirectoryError, match=f"cannot copy to non-directory: {place}$"):
            copied(tree, "a/b/c.txt", destination)


def test_what_is_left_out_is_named_from_the_base(tree: str) -> None:
    assert copied(tree, "a/b", left_out=lambda path: path == "a/b/d.md") == {"a/b/c.txt"}
    assert copied(tree, "a/./b", left_out=lambda path: path == "b/c.txt", destination="/out/2") == {
        "a/b/c.txt",
        "2/b/d.md",
    }


def test_the_hash_is_of_what_goes_along(tree: str) -> None:
    def hashes(source: str) -> list[str]:
        return [hash for _, hash in found_in(copying.Folder(tree, copying.content_of), written(source))]

    before = hashes("a/**/c.txt"), hashes("a/z")
    Path(f"{tree}/a/b/c.txt").write_text("other")
    after = hashes("a/**/c.txt"), hashes("a/z")
    assert before[0] != after[0]
    assert before[1] == after[1]
