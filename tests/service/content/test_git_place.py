"""What is wanted of a git repository. Expected is what BuildKit of August 2026 makes of it."""

import re

import pytest

from service.content.git_place import GitPlace
from service.errors import InvalidParameter

URL = "https://h.test/r.git"
COMMIT = "e342c119fddbe7348ded1a84cb6b94d4a4c7b021"


@pytest.mark.parametrize(
    ("text", "url", "reference", "folder"),
    [
        (URL, URL, "", ""),
        (f"{URL}#v1:sub/dir", URL, "v1", "sub/dir"),
        (f"{URL}#:sub", URL, "", "sub"),
        (f"{URL}?tag=v1&subdir=sub", URL, "refs/tags/v1", "sub"),
        (f"{URL}?tag=refs/tags/v1", URL, "refs/tags/v1", ""),
        (f"{URL}?branch=b", URL, "refs/heads/b", ""),
        (f"{URL}?ref=refs/pull/1/head", URL, "refs/pull/1/head", ""),
        (f"{URL}?ref=v1#v1:sub", URL, "v1", "sub"),
        ("git@h.test:o/r.git?branch=b", "git@h.test:o/r.git", "refs/heads/b", ""),
        ("github.com/o/r#v1", "https://github.com/o/r", "v1", ""),
    ],
)
def test_a_place(text: str, url: str, reference: str, folder: str) -> None:
    place = GitPlace(text)
    assert (place.url, place.reference, place.folder) == (url, reference, folder)
    assert (place.commit, place.keeps_git, place.has_submodules) == ("", None, True)


def test_switches() -> None:
    place = GitPlace(f"{URL}?keep-git-dir&submodules=false&fetch-by-commit=1&commit={COMMIT}&mtime=commit")
    assert (place.keeps_git, place.has_submodules, place.by_commit, place.commit) == (True, False, True, COMMIT)
    assert place.has_commit_time
    place = GitPlace(f"{URL}?keep-git-dir=0&submodules&checksum={COMMIT}&mtime=checkout")
    assert (place.keeps_git, place.has_submodules, place.by_commit, place.commit) == (False, True, False, COMMIT)
    assert not place.has_commit_time


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("?foo=1", 'unexpected query "foo"'),
        ("?tag=", 'query "tag" has no value'),
        ("?tag=a&tag=b", 'query "tag" has multiple values'),
        ("?tag=v1&branch=main", "branch conflicts with tag"),
        ("?tag=v1#main", 'ref conflicts: "main" vs "refs/tags/v1"'),
        ("?subdir=a#:b", 'subdir conflicts: "b" vs "a"'),
        ("?submodules=x", 'invalid submodules value: "x"'),
        ("?keep-git-dir=x", 'invalid keep-git-dir value: "x"'),
        ("?mtime=x", 'invalid mtime value: "x" (must be "checkout" or "commit")'),
    ],
)
def test_what_means_nothing(text: str, error: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^{re.escape(error)}$"):
        GitPlace(URL + text)


def test_what_is_said_beside_it() -> None:
    place = GitPlace(f"{URL}?keep-git-dir=0")
    with pytest.raises(InvalidParameter, match=r"^inconsistent keep-git-dir configuration$"):
        place.agrees(keeps_git=True, commit="")
    place.agrees(keeps_git=None, commit=COMMIT.upper())
    assert (place.keeps_git, place.commit) == (False, COMMIT)
    with pytest.raises(InvalidParameter, match=f'^checksum mismatch "abc" != "{COMMIT}"$'):
        place.agrees(keeps_git=None, commit="abc")
