"""What the kernels of many hosts have not, in a kernel of its own, booted once: limits, pauses, devices and figures on
a pure cgroup v2 tree with controllers, project quotas, an NFS server, ipvlan and dummy interfaces."""

import os
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from service.kernel import cgroup
from tests.support import user_mode_linux

_SECONDS = 900.0  # it takes 120 on an idle machine
_TWICE = "not (ext4 and (removed or brings or other_projects))"  # what XFS has shown is not shown again
_MODULES = ("loop", "quota_v2", "nfsd", "nfsv4", "veth", "macvlan", "ipvlan", "dummy")
_CGROUPS = "tests/clients/test_cgroup2.py"
_TESTS = (
    "tests/clients/test_volume_size.py",
    "tests/clients/test_nfs_volumes.py",
    "tests/clients/test_macvlan.py::test_ipvlan_where_the_kernel_has_it[l3]",
    "tests/clients/test_macvlan.py::test_without_a_parent_it_has_one_of_its_own[macvlan]",
)


@pytest.mark.timeout(_SECONDS + 120)
def test_what_this_kernel_lacks(tmp_path: Path) -> None:
    wanted = _TWICE if shutil.which("crun") else f"{_TWICE} and not crun"
    groups = cgroup.detect()
    has_controllers = groups.version == 2 and groups.has("memory")  # then they have run here
    try:
        ran = user_mode_linux.run(
            [
                *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--durations=5", "-k", wanted),
                *("--junitxml=/dev/shm/out/junit.xml", *_TESTS, *(() if has_controllers else (_CGROUPS,))),
            ],
            out=str(tmp_path),
            seconds=_SECONDS,
            environment={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"},
            modules=_MODULES,
        )
    except user_mode_linux.NotHere as reason:
        pytest.skip(str(reason))
    assert ran.returncode == 0, f"{ran.stdout}\n--- console\n{ran.stderr}"
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert int(suite.get("tests", 0)) > 0, ran.stdout
    assert suite.get("skipped") == "0", f"made for this kernel, and skipped in it:\n{ran.stdout}"
