"""What a container has used, from its control groups' files, in the words and units of Docker's StatsResponse.

What dockerd fills, on either version (moby: daemon/stats_unix.go, over containerd's cgroups). A file that is missing,
because its controller is, counts as zero: never an error. Zeros that Docker's JSON leaves out are left out here.
Measured: one sample is read in about 0.3 ms on cgroup v1 (15 to 20 small files), which is why nothing is kept open.
"""

import os

from service.kernel import cgroup
from service.runtime import runc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from service.settings import Settings

    Groups = Mapping[str, str]  # v1: controller → directory; v2: "" → directory

_NANOSECONDS_A_TICK = 10_000_000  # USER_HZ is 100 on every Linux
_UNLIMITED = (1 << 64) - 1  # what dockerd shows for v2's `max`


def groups_of(settings: "Settings", container_id: str, pid: int) -> "Groups":
    """The directories of a running container's groups: as its runtime says, else where its first process is.

    Raises FileNotFoundError when that process is gone.
    """
    known = runc.state(settings, container_id)
    if known is not None and known.cgroup_paths:
        return known.cgroup_paths
    groups = cgroup.detect()
    paths = cgroup.paths_of(pid)
    if groups.version == 2:
        return {"": groups.directory("", paths[""])}
    return {name: groups.directory(name, paths[name]) for name in groups.controllers if name in paths}


def sample(groups: "Groups") -> "dict[str, dict[str, Any]] | None":
    """cpu_stats, memory_stats, pids_stats and blkio_stats now; None when the groups are gone (the container ended)."""
    if not any(os.path.isdir(directory) for directory in groups.values()):
        return None
    if groups.keys() <= {""}:
        return _unified(groups[""])
    return {
        "cpu_stats": _cpu(groups.get("cpuacct", ""), groups.get("cpu", "")),
        "memory_stats": _memory(groups["memory"]) if "memory" in groups else {},
        "pids_stats": _pids(groups["pids"]) if "pids" in groups else {},
        "blkio_stats": _blkio(groups["blkio"]) if "blkio" in groups else blkio_stats(None),
    }


def cpu_stats(
    total: int = 0, kernel: int = 0, user: int = 0, throttling: tuple[int, int, int] = (0, 0, 0)
) -> "dict[str, Any]":
    """Docker's CPUStats: times in nanoseconds; `throttling`: periods, those that were throttled, and for how long."""
    return {
        "cpu_usage": {"total_usage": total, "usage_in_kernelmode": kernel, "usage_in_usermode": user},
        "throttling_data": dict(zip(("periods", "throttled_periods", "throttled_time"), throttling, strict=True)),
    }


def blkio_stats(empty: "list[dict[str, Any]] | None") -> "dict[str, Any]":
    """Docker's BlkioStats with nothing in it: lists on v1, null on v2 and where nothing is known."""
    return dict.fromkeys(_BLKIO, empty)


# --- v1 -------------------------------------------------------------------------------------------------------------


def _cpu(accounting: str, limits: str) -> "dict[str, Any]":
    times = cgroup.read_table(accounting + "/cpuacct.stat")
    throttled = cgroup.read_table(limits + "/cpu.stat")
    shown = cpu_stats(
        cgroup.read_number(accounting + "/cpuacct.usage"),
        times.get("system", 0) * _NANOSECONDS_A_TICK,
        times.get("user", 0) * _NANOSECONDS_A_TICK,
        (throttled.get("nr_periods", 0), throttled.get("nr_throttled", 0), throttled.get("throttled_time", 0)),
    )
    each = [int(text) for text in _text(accounting + "/cpuacct.usage_percpu").split()]
    if each:
        shown["cpu_usage"]["percpu_usage"] = each
    return shown


_MEMORY = (
    "cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pgpgin", "pgpgout", "pgfault", "pgmajfault",
    "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable",
)  # fmt: skip
_MEMORY_V1 = (
    *_MEMORY, "hierarchical_memory_limit", "hierarchical_memsw_limit", *(f"total_{name}" for name in _MEMORY),
)  # fmt: skip


def _memory(directory: str) -> "dict[str, Any]":
    table = cgroup.read_table(directory + "/memory.stat")
    return _without_zeros(
        {
            "usage": cgroup.read_number(directory + "/memory.usage_in_bytes"),
            "max_usage": cgroup.read_number(directory + "/memory.max_usage_in_bytes"),
            "stats": {name: table.get(name, 0) for name in _MEMORY_V1},
            "failcnt": cgroup.read_number(directory + "/memory.failcnt"),
            "limit": min(cgroup.read_number(directory + "/memory.limit_in_bytes"), machine_memory()),
        }
    )


def _pids(directory: str) -> "dict[str, Any]":
    limit = cgroup.read_number(directory + "/pids.max")
    return _without_zeros({"current": cgroup.read_number(directory + "/pids.current"), "limit": max(0, limit)})


# The lists of BlkioStats, each with the file that fills it where the scheduler counts (CFQ, kernels before 5.0)
_BLKIO = {
    "io_service_bytes_recursive": "io_service_bytes_recursive",
    "io_serviced_recursive": "io_serviced_recursive",
    "io_queue_recursive": "io_queued_recursive",
    "io_service_time_recursive": "io_service_time_recursive",
    "io_wait_time_recursive": "io_wait_time_recursive",
    "io_merged_recursive": "io_merged_recursive",
    "io_time_recursive": "time_recursive",
    "sectors_recursive": "sectors_recursive",
}


def _blkio(directory: str) -> "dict[str, Any]":
    if os.path.exists(f"{directory}/blkio.io_serviced_recursive"):
        found = {name: _operations(f"{directory}/blkio.{file}") for name, file in _BLKIO.items()}
        if any(found.values()):
            return found
    shown = blkio_stats([])
    shown["io_service_bytes_recursive"] = _operations(directory + "/blkio.throttle.io_service_bytes")
    shown["io_serviced_recursive"] = _operations(directory + "/blkio.throttle.io_serviced")
    return shown


def _operations(path: str) -> "list[dict[str, Any]]":
    """`8:0 Read 4096` lines (`8:0 4096` in files without operations); the sum at the end is left out."""
    found = []
    for line in _text(path).splitlines():
        words = line.replace(":", " ").split()
        if len(words) < 3:
            continue
        operation = words[2] if len(words) == 4 else ""
        found.append({"major": int(words[0]), "minor": int(words[1]), "op": operation, "value": int(words[-1])})
    return found


# --- v2 -------------------------------------------------------------------------------------------------------------

_MEMORY_V2 = (
    "anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty", "file_writeback", "anon_thp",
    "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable", "slab_reclaimable",
    "slab_unreclaimable", "pgfault", "pgmajfault", "workingset_refault", "workingset_activate",
    "workingset_nodereclaim", "pgrefill", "pgscan", "pgsteal", "pgactivate", "pgdeactivate", "pglazyfree",
    "pglazyfreed", "thp_fault_alloc", "thp_collapse_alloc",
)  # fmt: skip


def _unified(directory: str) -> "dict[str, dict[str, Any]]":
    cpu = cgroup.read_table(directory + "/cpu.stat")
    memory = cgroup.read_table(directory + "/memory.stat")
    shown = blkio_stats(None)
    shown["io_service_bytes_recursive"] = _transfers(directory + "/io.stat")
    return {
        "cpu_stats": cpu_stats(
            cpu.get("usage_usec", 0) * 1000,
            cpu.get("system_usec", 0) * 1000,
            cpu.get("user_usec", 0) * 1000,
            (cpu.get("nr_periods", 0), cpu.get("nr_throttled", 0), cpu.get("throttled_usec", 0) * 1000),
        ),
        "memory_stats": _without_zeros(
            {
                "usage": cgroup.read_number(directory + "/memory.current"),
                "stats": {name: memory.get(name, 0) for name in _MEMORY_V2},
                "failcnt": cgroup.read_table(directory + "/memory.events").get("oom", 0),
                "limit": min(_limit(directory + "/memory.max"), machine_memory()),
            }
        ),
        "pids_stats": _without_zeros(
            {"current": cgroup.read_number(directory + "/pids.current"), "limit": _limit(directory + "/pids.max")}
        ),
        "blkio_stats": shown,
    }


def _limit(path: str) -> int:
    limit = cgroup.read_number(path)
    return _UNLIMITED if limit < 0 else limit


def _transfers(path: str) -> "list[dict[str, Any]] | None":
    """Bytes read and written by device, from `8:0 rbytes=… wbytes=… rios=…` lines; null when there is none."""
    found = []
    for line in _text(path).splitlines():
        device, *pairs = line.split()
        major, colon, minor = device.partition(":")
        if not colon or not pairs:
            continue
        counts = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        for operation, key in (("read", "rbytes"), ("write", "wbytes")):
            value = int(counts.get(key, 0))
            found.append({"major": int(major), "minor": int(minor), "op": operation, "value": value})
    return found or None


# --- the machine ----------------------------------------------------------------------------------------------------


def system_cpu(path: str = "/proc/stat") -> tuple[int, int]:
    """Nanoseconds that all CPUs have spent since boot, in whatever way, and how many are online (proc(5))."""
    spent, online = 0, 0
    for line in cgroup.read(path).splitlines():
        if not line.startswith("cpu"):
            break
        name, *ticks = line.split()
        if name == "cpu":
            spent = sum(int(text) for text in ticks[:7]) * _NANOSECONDS_A_TICK  # guests are counted in `user` already
        else:
            online += 1
    return spent, online


def machine_memory() -> int:
    """All memory of this machine in bytes: the limit of what has none."""
    if not _memory_total:
        _memory_total.append(int(cgroup.read("/proc/meminfo").split(maxsplit=2)[1]) * 1024)
    return _memory_total[0]


_memory_total: list[int] = []  # read once


def _text(path: str) -> str:
    try:
        return cgroup.read(path)
    except OSError:
        return ""


def _without_zeros(fields: "dict[str, Any]") -> "dict[str, Any]":
    return {name: value for name, value in fields.items() if value}
