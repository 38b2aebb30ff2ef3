"""COPY and ADD by BuildKit's rules: what is made of a source, with which modes and owners."""

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
