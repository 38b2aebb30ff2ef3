"""COPY and ADD by BuildKit's rules: what is made of a source, with which modes and owners."""

import json
import stat

import pytest

from service.engine.solving import Exporter, SolveFailed
from tests.service.engine.test_solve import Built, built, engine, instance, runner

__all__ = ("built", "engine", "instance", "runner")  # fixtures


def modes_of(built: Built, dockerfile: str, files: "dict[str, str | bytes]") -> dict[str, str]:
    """Path → permissions of what is in the result, made from nothing."""
    outcome = built(dockerfile, files, exporters=[Exporter("local")])
    return {path: f"{mode & 0o7777:o}" for path, (mode, _) in outcome.session.sent[0].items()}


def test_modes_in_letters_change_what_is_copied(built: Built) -> None:
    found = modes_of(
        built,
        "FROM scratch\nCOPY --chmod=u=rwX,go=rX dir /d\nCOPY --chmod=u+xs,o= dir/a /e/\n"
        "COPY --chmod=go-r,a+x <<E /h\nE\n",
        {"dir/a": "1", "dir/sub/b": "2"},
    )
    assert found == {
        "d": "755", "d/a": "644", "d/sub": "755", "d/sub/b": "644", "e": "755", "e/a": "4740", "h": "711",
    }  # fmt: skip


def test_directories_that_are_made_get_a_mode_of_digits(built: Built) -> None:
    found = modes_of(
        built,
        "FROM scratch\nCOPY --chmod=711 dir /d\nCOPY --chmod=600 dir/a /p/q/r\nCOPY --chmod=go= dir /s\n",
        {"dir/a": "1", "dir/sub/b": "2"},
    )
    assert found == {
        "d": "711", "d/a": "711", "d/sub": "711", "d/sub/b": "711", "p": "600", "p/q": "600", "p/q/r": "600",
        "s": "755", "s/a": "600", "s/sub": "700", "s/sub/b": "600",
    }  # fmt: skip


def test_a_mode_that_is_none_is_refused_in_its_line(built: Built) -> None:
    with pytest.raises(SolveFailed, match=r"^invalid syntax$") as failed:
        built("FROM scratch\nCOPY --chmod=u=q a /\n", {"a": ""})
    assert failed.value.ranges[0].start == 2
    with pytest.raises(SolveFailed, match=r"^invalid chmod parameter: '0o755'. it should be octal string and between"):
        built("FROM scratch\nCOPY --chmod=0o755 a /\n", {"a": ""})


def tree_of(built: Built, dockerfile: str, files: "dict[str, str | bytes]") -> dict[str, bytes]:
    """Path → content of the files that are in the result, made from nothing."""
    outcome = built(dockerfile, files, exporters=[Exporter("local")])
    return {path: content for path, (mode, content) in outcome.session.sent[0].items() if not stat.S_ISDIR(mode)}


def test_parents_keep_the_directories_above(built: Built) -> None:
    files: dict[str, str | bytes] = {"a/b/c.txt": "c", "a/b/d.md": "d", "a/z/c.txt": "z", "f": "f"}
    assert tree_of(built, "FROM scratch\nCOPY --parents a/b f /o/\nCOPY --parents a/./**/c.txt /p/\n", files) == {
        "o/a/b/c.txt": b"c", "o/a/b/d.md": b"d", "o/f": b"f", "p/b/c.txt": b"c", "p/z/c.txt": b"z",
    }  # fmt: skip
    outcome = built(
        "FROM scratch\nCOPY --chown=1:2 --parents --chmod=700 <<E a/*/./c.txt /o/\nE\n", exporters=[Exporter("local")]
    )
    assert sorted(outcome.session.sent[0]) == ["o", "o/E", "o/c.txt"]
    history = json.loads(outcome.config)["history"]
    assert history[-1]["created_by"] == "COPY --parents --chown=1:2 --chmod=700 a/*/./c.txt <<E /o/ # buildkit"


def test_parents_of_what_is_not_there(built: Built) -> None:
    with pytest.raises(SolveFailed, match=r'^failed to compute cache key: .*: "/a/nope": not found$'):
        built("FROM scratch\nCOPY --parents a/./nope /o/\n", {"a/b": ""})
    assert modes_of(built, "FROM scratch\nCOPY --parents a/nope* /o/\n", {"a/b": ""}) == {"o": "755"}


def test_parents_are_cached_by_what_goes_along(built: Built) -> None:
    dockerfile = "FROM scratch\nCOPY --parents **/*.txt /o/\n"
    built(dockerfile, {"cached/a.txt": "1", "cached/b.md": "1"})
    assert list(built(dockerfile, {"cached/b.md": "2"}).told.cached().values()) == [True]
    assert list(built(dockerfile, {"cached/a.txt": "2"}).told.cached().values()) == [False]


def test_what_is_excluded_is_named_from_the_source(built: Built) -> None:
    files: dict[str, str | bytes] = {"a/f.txt": "f", "a/b/c.txt": "c", "a/b/d.md": "d"}
    for exclude, wanted in (
        ("*.txt", {"o/b/c.txt", "o/b/d.md"}),
        ("**/*.txt", {"o/b/d.md"}),
        ("b/", {"o/f.txt"}),
        ("/b", {"o/f.txt", "o/b/c.txt", "o/b/d.md"}),
        ("b --exclude=!b/c.txt", {"o/f.txt", "o/b/c.txt"}),
    ):
        assert set(tree_of(built, f"FROM scratch\nCOPY --exclude={exclude} a /o/\n", files)) == wanted, exclude
    with pytest.raises(SolveFailed, match=r"invalid excludepatterns: \[\[a]: syntax error in pattern$"):
        built("FROM scratch\nCOPY --exclude=[a a /o/\n", files)


def test_nothing_takes_the_place_of_something_else(built: Built) -> None:
    files: dict[str, str | bytes] = {"a/b/c": "c", "f/b": "f"}
    with pytest.raises(SolveFailed, match=r"^cannot copy to non-directory: /o/b$"):
        built("FROM scratch\nCOPY f /o/\nCOPY a /o/\n", files)
    with pytest.raises(SolveFailed, match=r"^cannot replace to directory /o/b with file$"):
        built("FROM scratch\nCOPY a /o/\nCOPY f /o/\n", files)


def test_only_stages_before_can_be_copied_from(built: Built) -> None:
    with pytest.raises(
        SolveFailed, match=r'^cannot copy from stage "t", it needs to be defined before current stage "s"'
    ):
        built("FROM scratch AS s\nCOPY --from=t /a /\nFROM scratch AS t\n", attributes={"target": "s"})
    with pytest.raises(
        SolveFailed, match=r'^cannot mount from stage "1" to "/m", stage needs to be defined before curr'
    ):
        built("FROM busybox AS s\nRUN --mount=from=1,target=/m true\nFROM scratch AS t\n", attributes={"target": "s"})
    with pytest.raises(SolveFailed, match=r"^variable expansion is not supported for --from, define a new stage"):
        built("FROM scratch\nCOPY --from=$X /a /\n")
    with pytest.raises(SolveFailed, match=r"^invalid stage index -1$"):
        built("FROM scratch\nCOPY --from=-1 /a /\n")


def test_scratch_is_an_empty_source(built: Built) -> None:
    assert modes_of(built, "FROM scratch\nCOPY --from=scratch / /o/\n", {}) == {"o": "755"}
