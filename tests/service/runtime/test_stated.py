"""What programs say of their versions, and that each is asked once."""

import os
from pathlib import Path

import pytest

from service.runtime import stated
from service.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings({"MOORAGE_RUN": str(tmp_path)})


def program(folder: Path, says: str) -> str:
    """A program that says that, and notes each time it is asked."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\necho $1 >>{folder}/asked\ncat <<'EOF'\n{says}\nEOF\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("says", "version", "commit"),
    [
        ("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev", "1.1.5+ds1", "1.1.5+ds1-1+deb12u1"),
        (
            "crun version 1.8.1\ncommit: f8a096be060b22ccd3d5f3ebe44108517fbf6c30\nrundir: /run/user/0/crun",
            "1.8.1",
            "f8a096be060b22ccd3d5f3ebe44108517fbf6c30",
        ),
        ("conmon version 2.1.6\ncommit: unknown", "2.1.6", ""),
        ("tini version 0.19.0", "0.19.0", ""),
        ("tini version 0.19.0 - git.de40ad0", "0.19.0", "de40ad0"),
        ("", "", ""),
    ],
)
def test_versions_as_programs_print_them(
    settings: Settings, tmp_path: Path, says: str, version: str, commit: str
) -> None:
    assert stated.version(settings, program(tmp_path, says)) == (version, commit)


def test_a_program_is_asked_once_and_again_when_it_is_another(settings: Settings, tmp_path: Path) -> None:
    path = program(tmp_path, "x version 1")
    assert stated.version(settings, path) == stated.version(settings, path) == ("1", "")
    assert (tmp_path / "asked").read_text() == "--version\n"
    path = program(tmp_path, "x version 22")
    assert stated.version(settings, path) == ("22", "")
    with pytest.raises(FileNotFoundError):
        stated.version(settings, path + "-that-is-not-there")
    assert sorted(os.listdir(tmp_path)) == ["asked", "program", "stated-program-version"]


def test_a_question_that_a_program_does_not_know_has_no_answer(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_text("#!/bin/sh\necho usage\nexit 1\n")
    path.chmod(0o755)
    assert stated.words(settings, str(path), "features") == ""
