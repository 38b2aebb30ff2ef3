"""Limits of single devices as cgroup v1 and v2 write them; on plain files, so that what is written can be read."""

from pathlib import Path
from typing import Any

import pytest

from service.errors import SystemFailure
from service.kernel.cgroup import Cgroups
from service.runtime import block_io, limits, resources

DISK = {"major": 8, "minor": 0}


def wanted(**rates: int) -> dict[str, Any]:
    names = {"rbps": "throttleReadBpsDevice", "wiops": "throttleWriteIOPSDevice"}
    return {names[key]: [{**DISK, "rate": rate}] for key, rate in rates.items()}


@pytest.mark.parametrize(
    ("version", "file", "before", "asked", "after"),
    [
        (1, "blkio.throttle.read_bps_device", "", wanted(rbps=1000), "8:0 1000"),
        (1, "blkio.throttle.read_bps_device", "8:0 5000", {}, "8:0 0"),
        (1, "blkio.throttle.write_iops_device", "8:0 5\n", wanted(wiops=7), "8:0 7"),
        (2, "io.max", "", wanted(rbps=1000), "8:0 rbps=1000"),
        (2, "io.max", "8:0 rbps=1 wbps=max riops=max wiops=max\n", {}, "8:0 rbps=max"),
        (2, "io.max", "8:0 rbps=max wbps=max riops=max wiops=9\n", wanted(wiops=8), "8:0 wiops=8"),
        (2, "io.bfq.weight", "default 100\n", {"weightDevice": [{**DISK, "weight": 300}]}, "8:0 300"),
        (2, "io.bfq.weight", "default 100\n8:0 300\n", {}, "8:0 default"),
    ],
)
def test_one_change(tmp_path: Path, version: int, file: str, before: str, asked: Any, after: str) -> None:
    (tmp_path / file).write_text(before, encoding="ascii")
    block_io.change(str(tmp_path), version, asked)
    assert (tmp_path / file).read_text(encoding="ascii").startswith(after)  # a kernel's file would be replaced whole


def test_what_is_so_already_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "io.max").write_text("8:0 rbps=1000 wbps=max riops=max wiops=max\n", encoding="ascii")
    block_io.change(str(tmp_path), 2, wanted(rbps=1000))
    assert "wbps=max" in (tmp_path / "io.max").read_text(encoding="ascii")


def test_a_refused_limit_names_its_file_and_device(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure) as error:
        block_io.change(str(tmp_path), 1, wanted(rbps=1))
    assert error.value.message == (
        "failed to write to blkio.throttle.read_bps_device for device 8:0: no such file or directory"
    )


def test_no_limits_where_nothing_limits() -> None:
    """cgroup v2 without controllers: nothing is sent to runc, neither limits nor their absence."""
    bare = Cgroups(2, frozenset(), {}, "/sys/fs/cgroup")
    host = {"Memory": 64 << 20, "MemorySwap": 128 << 20, "CpuShares": 300, "PidsLimit": 5, "CpusetCpus": "0"}
    assert resources.resources(host, bare) == {}
    assert resources.without_limits(bare) == {}


def test_limits_of_the_second_kind_of_control_groups() -> None:
    groups = Cgroups(2, frozenset({"memory", "cpu", "pids"}), {}, "/sys/fs/cgroup")
    host = {"Memory": 64 << 20, "MemorySwappiness": 5, "OomKillDisable": True, "NanoCpus": 10**9 // 4, "PidsLimit": 0}
    made = resources.resources(host, groups)
    assert made["memory"] == {"limit": 64 << 20}  # swappiness and the killer's leave are v1's
    assert made["cpu"] == {"period": 100_000, "quota": 25_000}
    assert made["pids"] == {"limit": -1}


def test_what_a_kernel_was_built_without(tmp_path: Path) -> None:
    """A group with a controller and without one of its files says so; one without the controller says nothing."""
    assert limits.missing_in(str(tmp_path)) == set()
    for name in ("memory.max", "io.max"):
        (tmp_path / name).write_text("max\n", encoding="ascii")
    assert limits.missing_in(str(tmp_path)) == {"swap", "weight", "weight device"}
    (tmp_path / "io.weight").write_text("default 100\n", encoding="ascii")
    assert limits.missing_in(str(tmp_path)) == {"swap", "weight device"}
    for name in ("memory.swap.max", "io.bfq.weight"):
        (tmp_path / name).write_text("max\n", encoding="ascii")
    assert limits.missing_in(str(tmp_path)) == set()
