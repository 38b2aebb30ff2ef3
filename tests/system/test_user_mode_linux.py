"""Limits, pauses, devices and figures on a pure cgroup v2 tree with controllers, whatever this host has: the tests of
tests/clients/test_cgroup2.py under a kernel of their own."""

import os
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from service.kernel import cgroup
from tests.support import user_mode_linux

_SECONDS = 400.0  # it takes 40 on an idle machine


@pytest.mark.timeout(_SECONDS + 120)
def test_control_groups_v2_with_controllers(tmp_path: Path) -> None:
    groups = cgroup.detect()
    if groups.version == 2 and groups.has("memory"):
        pytest.skip("this host has them itself: tests/clients/test_cgroup2.py has run here")
    try:
        ran = user_mode_linux.run(
            [
                *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--durations=5"),
                *("--junitxml=/dev/shm/out/junit.xml", "tests/clients/test_cgroup2.py"),
            ],
            out=str(tmp_path),
            seconds=_SECONDS,
            environment={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"},
        )
    except user_mode_linux.NotHere as reason:
        pytest.skip(str(reason))
    assert ran.returncode == 0, f"{ran.stdout}\n--- console\n{ran.stderr}"
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert int(suite.get("tests", 0)) > 0, ran.stdout
    assert suite.get("skipped") == "0", f"made for this kernel, and skipped in it:\n{ran.stdout}"
