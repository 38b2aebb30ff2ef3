"""Go's file patterns: what they mean, and that no pattern takes long."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as some

from service.patterns import glob, ignored


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*.md", ["a.md", ".md"], ["a.mdx", "md"]),
        ("a?c", ["abc", "a\nc"], ["ac", "abbc"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "x"]),
        ("[^a-c]x", ["dx"], ["ax"]),
        (r"\*x", ["*x"], ["ax"]),
        ("*/b", ["a/b", "/b"], ["b", "a/c/b"]),
        ("*a*b*c*", ["abc", "xaxbxcx"], ["acb", "ab"]),
    ],
)
def test_a_name(pattern: str, matching: list[str], others: list[str]) -> None:
    compiled = glob(pattern)
    assert [name for name in matching + others if compiled.matches(name)] == matching


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*", ["a"], ["a/b"]),
        ("**", ["a", "a/b/c"], []),
        ("**/x", ["x", "a/x", "a/b/x"], ["ax", "x/a"]),
        ("**x", ["x", "ax", "a/bx"], ["x/a"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "b/a/c"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb"]),
        ("*/*/*.txt", ["a/b/c.txt"], ["a/c.txt", "a/b/c/d.txt"]),
        ("**/a/**/b/**/c", ["a/b/c", "x/a/y/z/b/c"], ["a/c/b", "xa/b/c"]),
        ("**/*/x*/**", ["a/xb/c", "q/a/x/c/d"], ["xb/c", "a/b/c"]),
        ("docs/[ab]?", ["docs/ab"], ["docs/a", "docs/cb"]),
    ],
)
def test_a_path(pattern: str, matching: list[str], others: list[str]) -> None:
    compiled = ignored(pattern)
    assert [path for path in matching + others if compiled.matches(path)] == matching


@pytest.mark.parametrize("pattern", ["[", "a[b", "a\\", "[z-a]"])
def test_a_malformed_one(pattern: str) -> None:
    with pytest.raises(ValueError, match="syntax error in pattern"):
        glob(pattern)


def test_no_pattern_takes_long() -> None:
    """With backtracking each of these takes longer than a test may (the suite's own time limit)."""
    assert not glob("*a" * 40 + "b").matches("a" * 250)
    assert not ignored("*a" * 40 + "b").matches("a" * 4000)
    assert not ignored("**/a" * 40 + "/b").matches("a/" * 2000 + "a")
    assert ignored("**/a*" * 40).matches("/".join(["ab"] * 1000))


@given(some.text("ab*?", max_size=12), some.text("ab", max_size=12))
def test_stars_mean_what_they_mean_elsewhere(pattern: str, name: str) -> None:
    assert glob(pattern).matches(name) == fnmatch.fnmatchcase(name, pattern)
    if "**" not in pattern:
        assert ignored(pattern).matches(name) == fnmatch.fnmatchcase(name, pattern)
