"""The units in systemd/: systemd accepts them, and what they name exists."""

import os
import re
import shutil
import subprocess

import pytest

from install import service
from tests.house.source import ROOT, text

UNITS = ("moorage.socket", "moorage.service", "moorage-boot.service")


def test_systemd_accepts_the_units(tmp_path: "os.PathLike[str]") -> None:
    analyze = shutil.which("systemd-analyze")
    assert analyze, "systemd is not installed (make test installs it)"
    for unit in UNITS:
        with open(f"{os.fspath(tmp_path)}/{unit}", "w", encoding="utf-8") as file:
            file.write(text(f"systemd/{unit}").replace(service.LINK, ROOT))
    done = subprocess.run(
        [analyze, "verify", "--man=no", *(f"{os.fspath(tmp_path)}/{unit}" for unit in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "moorage" in line]
    assert not complaints, "\n".join(complaints)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_programs_and_documents_of_a_unit_exist(unit: str) -> None:
    named = re.findall(rf"{service.LINK}(/\S+)", text(f"systemd/{unit}"))
    assert named
    for path in named:
        assert os.path.exists(ROOT + path), path


def test_every_unit_is_installed() -> None:
    assert set(service.UNITS) == {name for name in os.listdir(f"{ROOT}/systemd") if not name.endswith(".conf")}


def test_stopping_the_service_reaches_no_container() -> None:
    """Without these two lines, `systemctl stop` ends the monitors, and with them the containers."""
    for unit in ("moorage.service", "moorage-boot.service"):
        assert re.search(r"^KillMode=process$", text(f"systemd/{unit}"), re.MULTILINE)
        assert re.search(r"^Delegate=yes$", text(f"systemd/{unit}"), re.MULTILINE)
