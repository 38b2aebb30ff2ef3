"""What control groups' files say, read from recorded trees: v1 with and without a counting scheduler, hybrid, v2."""

import os
from pathlib import Path
from typing import Any

import pytest

from service.kernel import netns
from service.runtime import usage
from service.settings import Settings

V1 = {
    "cpuacct/cpuacct.usage": "507407628\n",
    "cpuacct/cpuacct.stat": "user 50\nsystem 7\n",
    "cpuacct/cpuacct.usage_percpu": "388531550 118876078 \n",
    "cpu/cpu.stat": "nr_periods 16\nnr_throttled 15\nthrottled_time 942632850\n",
    "memory/memory.stat": (
        "cache 4096\nrss 57344\nrss_huge 0\nshmem 0\nmapped_file 0\ndirty 0\nwriteback 0\npgpgin 774\npgpgout 760\n"
        "pgfault 1054\npgmajfault 0\ninactive_anon 53248\nactive_anon 4096\ninactive_file 4096\nactive_file 0\n"
        "unevictable 0\nhierarchical_memory_limit 67108864\nhierarchical_memsw_limit 134217728\n"
        "total_cache 4096\ntotal_rss 57344\ntotal_inactive_file 4096\n"
    ),
    "memory/memory.usage_in_bytes": "450560\n",
    "memory/memory.max_usage_in_bytes": "3821568\n",
    "memory/memory.failcnt": "3\n",
    "memory/memory.limit_in_bytes": "67108864\n",
    "pids/pids.current": "2\n",
    "pids/pids.max": "100\n",
    "blkio/blkio.throttle.io_service_bytes": (
        "8:0 Read 4096\n8:0 Write 8192\n8:0 Discard 0\n8:0 Total 12288\nTotal 12288\n"
    ),
    "blkio/blkio.throttle.io_serviced": "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n",
}
CFQ = {
    "blkio/blkio.io_service_bytes_recursive": "253:16 Async 7\nTotal 7\n",
    "blkio/blkio.io_serviced_recursive": "253:16 Sync 1\nTotal 1\n",
    "blkio/blkio.io_queued_recursive": "253:16 Read 2\nTotal 2\n",
    "blkio/blkio.io_service_time_recursive": "253:16 Read 3\nTotal 3\n",
    "blkio/blkio.io_wait_time_recursive": "253:16 Read 4\nTotal 4\n",
    "blkio/blkio.io_merged_recursive": "253:16 Read 5\nTotal 5\n",
    "blkio/blkio.time_recursive": "253:16 77\n",
    "blkio/blkio.sectors_recursive": "253:16 88\n",
}
V2 = {
    "cpu.stat": (
        "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\ncore_sched.force_idle_usec 0\nnr_periods 4\n"
        "nr_throttled 3\nthrottled_usec 7\nnr_bursts 0\nburst_usec 0\n"
    ),
    "memory.stat": "anon 20480\nfile 8192\ninactive_file 8192\npgfault 5\nworkingset_refault_anon 1\nzswap 0\n",
    "memory.current": "30000\n",
    "memory.peak": "40000\n",
    "memory.max": "1048576\n",
    "memory.events": "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n259:1 \n7:0 rbytes=1 wbytes=0\n",
}


def planted(folder: Path, files: dict[str, str]) -> Path:
    """A tree of files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def v1(folder: Path, files: dict[str, str]) -> dict[str, str]:
    """The groups of a v1 tree, by controller."""
    return {path.name: str(path) for path in planted(folder, files).iterdir()}


def taken(groups: dict[str, str]) -> Any:
    found = usage.sample(groups)
    assert found is not None
    return found


def test_v1(tmp_path: Path) -> None:
    found = taken({"name=systemd": str(tmp_path / "nowhere"), **v1(tmp_path, V1)})
    assert found["cpu_stats"] == {
        "cpu_usage": {
            "total_usage": 507407628,
            "usage_in_kernelmode": 70_000_000,
            "usage_in_usermode": 500_000_000,
            "percpu_usage": [388531550, 118876078],
        },
        "throttling_data": {"periods": 16, "throttled_periods": 15, "throttled_time": 942632850},
    }
    memory = found["memory_stats"]
    assert (memory["usage"], memory["max_usage"], memory["failcnt"]) == (450560, 3821568, 3)
    assert memory["limit"] == memory["stats"]["hierarchical_memory_limit"] == 67108864
    assert len(memory["stats"]) == 32
    assert memory["stats"]["total_inactive_file"] == 4096
    assert memory["stats"]["total_writeback"] == 0  # a kernel that does not say
    assert "shmem" not in memory["stats"]
    assert found["pids_stats"] == {"current": 2, "limit": 100}
    blkio = found["blkio_stats"]
    assert blkio["io_service_bytes_recursive"] == [
        {"major": 8, "minor": 0, "op": "Read", "value": 4096},
        {"major": 8, "minor": 0, "op": "Write", "value": 8192},
        {"major": 8, "minor": 0, "op": "Discard", "value": 0},
        {"major": 8, "minor": 0, "op": "Total", "value": 12288},
    ]
    assert [entry["value"] for entry in blkio["io_serviced_recursive"]] == [1, 2, 3]
    assert blkio["sectors_recursive"] == []


def test_v1_where_the_scheduler_counts(tmp_path: Path) -> None:
    blkio = taken(v1(tmp_path, {**V1, **CFQ}))["blkio_stats"]
    assert {name: entries[0]["value"] for name, entries in blkio.items()} == {
        "io_service_bytes_recursive": 7,
        "io_serviced_recursive": 1,
        "io_queue_recursive": 2,
        "io_service_time_recursive": 3,
        "io_wait_time_recursive": 4,
        "io_merged_recursive": 5,
        "io_time_recursive": 77,
        "sectors_recursive": 88,
    }
    assert blkio["sectors_recursive"] == [{"major": 253, "minor": 16, "op": "", "value": 88}]


def test_v1_whose_scheduler_counts_nothing_falls_back_to_throttling(tmp_path: Path) -> None:
    idle = dict.fromkeys(CFQ, "Total 0\n")
    blkio = taken(v1(tmp_path, {**V1, **idle}))["blkio_stats"]
    assert len(blkio["io_service_bytes_recursive"]) == 4
    assert blkio["io_queue_recursive"] == []


def test_v1_without_limits(tmp_path: Path) -> None:
    unlimited = {"memory/memory.limit_in_bytes": "9223372036854771712\n", "pids/pids.max": "max\n"}
    found = taken(v1(tmp_path, {**V1, **unlimited, "memory/memory.failcnt": "0\n"}))
    assert found["memory_stats"]["limit"] == usage.machine_memory()
    assert "failcnt" not in found["memory_stats"]
    assert found["pids_stats"] == {"current": 2}


def test_v1_without_controllers(tmp_path: Path) -> None:
    (tmp_path / "group").mkdir()
    found = taken({"name=systemd": str(tmp_path / "group"), "": str(tmp_path / "group")})
    assert found["cpu_stats"] == usage.cpu_stats()
    assert (found["memory_stats"], found["pids_stats"]) == ({}, {})
    assert set(found["blkio_stats"].values()) == {None}


def test_hybrid_is_read_as_v1(tmp_path: Path) -> None:
    unified = planted(tmp_path / "unified", {"cpu.stat": "usage_usec 1\n"})
    assert taken({"": str(unified), **v1(tmp_path / "v1", V1)}) == taken(v1(tmp_path / "v1", V1))


def test_v2(tmp_path: Path) -> None:
    found = taken({"": str(planted(tmp_path, V2))})
    assert found["cpu_stats"] == {
        "cpu_usage": {"total_usage": 5_000_000, "usage_in_kernelmode": 2_000_000, "usage_in_usermode": 3_000_000},
        "throttling_data": {"periods": 4, "throttled_periods": 3, "throttled_time": 7000},
    }
    memory = found["memory_stats"]
    assert (memory["usage"], memory["limit"], memory["failcnt"]) == (30000, 1048576, 2)
    assert "max_usage" not in memory  # dockerd does not fill it from memory.peak
    assert len(memory["stats"]) == 31
    assert (memory["stats"]["inactive_file"], memory["stats"]["slab"]) == (8192, 0)
    assert found["pids_stats"] == {"current": 3, "limit": (1 << 64) - 1}
    blkio = found["blkio_stats"]
    assert blkio.pop("io_service_bytes_recursive") == [
        {"major": 8, "minor": 0, "op": "read", "value": 4096},
        {"major": 8, "minor": 0, "op": "write", "value": 8192},
        {"major": 7, "minor": 0, "op": "read", "value": 1},
        {"major": 7, "minor": 0, "op": "write", "value": 0},
    ]
    assert set(blkio.values()) == {None}


def test_v2_without_controllers(tmp_path: Path) -> None:
    found = taken({"": str(planted(tmp_path, {"cpu.stat": "usage_usec 9\nuser_usec 4\nsystem_usec 5\n"}))})
    assert found["cpu_stats"]["cpu_usage"]["total_usage"] == 9000
    assert found["cpu_stats"]["throttling_data"]["periods"] == 0
    assert set(found["memory_stats"]) == {"stats"}
    assert found["pids_stats"] == {}
    assert set(found["blkio_stats"].values()) == {None}


@pytest.mark.parametrize("groups", [{"": "/nowhere"}, {"memory": "/nowhere", "cpu": "/nowhere/else"}])
def test_groups_that_are_gone(groups: dict[str, str]) -> None:
    assert usage.sample(groups) is None


def test_groups_that_no_runtime_names_are_those_of_the_process(tmp_path: Path) -> None:
    settings = Settings({"MOORAGE_ROOT": str(tmp_path), "MOORAGE_RUN": str(tmp_path)})
    groups = usage.groups_of(settings, "0" * 64, os.getpid())
    assert groups
    assert all(os.path.isdir(directory) for directory in groups.values())
    assert taken(dict(groups))["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    with pytest.raises(FileNotFoundError):
        usage.groups_of(settings, "0" * 64, 1 << 22)  # above every pid


def test_time_of_the_machine(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 0 0 0 0 0 0\ncpu1 0 2 3 4 5 6 7\nintr 5 cpu\nctxt 7\n")
    assert usage.system_cpu(str(stat)) == (280_000_000, 2)
    spent, online = usage.system_cpu()
    assert spent > 0
    assert online >= 1


def test_interfaces_of_this_process() -> None:
    assert len(netns.counters(1)["lo"]) == 16
