"""What the documents say of commands, settings, files and operations is so."""

import os
import re

import pytest

from service.settings import Settings
from tests.house import operations_table
from tests.house.source import ROOT, text, tracked

DOCUMENTS = [path for path in tracked() if path.endswith(".md")]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("path", DOCUMENTS)
def test_make_targets_exist(path: str) -> None:
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", text(path), re.MULTILINE))
    assert named <= targets()


def test_every_target_is_in_the_help_or_a_step() -> None:
    for line in text("Makefile").splitlines():
        if re.match(r"^[a-z-]+:", line) and not line.startswith(("mounts:", "packages-")):
            assert "## " in line, line


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_between_documents_hold(path: str) -> None:
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text(path)):
        assert os.path.exists(os.path.join(ROOT, os.path.dirname(path), target)), target


@pytest.mark.parametrize("path", DOCUMENTS)
def test_named_files_of_ours_exist(path: str) -> None:
    for name in re.findall(r"`((?:service|compat_api|systemd|tests|install|openapi|docs)/[\w./-]+)`", text(path)):
        assert os.path.exists(f"{ROOT}/{name}"), name


def test_every_setting_is_documented_and_every_documented_one_is_read() -> None:
    read = set(re.findall(r'"(MOORAGE_[A-Z_]+)"', text("service/settings.py")))
    documented = set(re.findall(r"^\| `(MOORAGE_[A-Z_]+)`", text("docs/install.md"), re.MULTILINE))
    assert documented == read
    assert Settings({"HOME": "/"}).idle_window == 30


def test_units_named_in_documents_exist() -> None:
    for path in DOCUMENTS:
        for unit in re.findall(r"\bmoorage[a-z-]*\.(?:service|socket|timer)\b", text(path)):
            assert os.path.exists(f"{ROOT}/systemd/{unit}"), f"{path}: {unit}"


def test_table_of_operations_is_what_is_declared() -> None:
    assert operations_table.replaced(text("README.md")) == text("README.md"), "run `make table`"
