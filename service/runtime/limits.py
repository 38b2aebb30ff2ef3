"""Which of Docker's limits this host can enforce; those it cannot are taken back at create, with Docker's warnings.

A limit that nobody enforces must neither fail the start (runc would refuse the container) nor be shown by inspect as if
it held (moby: daemon/daemon_unix.go verifyPlatformContainerResources, pkg/sysinfo).
"""

import os

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.kernel.cgroup import Cgroups

# limit → the v1 controller that has it, and the files one of which says so
_V1: dict[str, tuple[str, tuple[str, ...]]] = {
    "memory": ("memory", ("memory.limit_in_bytes",)),
    "swap": ("memory", ("memory.memsw.limit_in_bytes",)),
    "reservation": ("memory", ("memory.soft_limit_in_bytes",)),
    "swappiness": ("memory", ("memory.swappiness",)),
    "oom": ("memory", ("memory.oom_control",)),
    "pids": ("pids", ("cgroup.procs",)),
    "shares": ("cpu", ("cpu.shares",)),
    "cfs": ("cpu", ("cpu.cfs_quota_us",)),
    "real time": ("cpu", ("cpu.rt_period_us",)),
    "cpuset": ("cpuset", ("cpuset.cpus",)),
    "weight": ("blkio", ("blkio.weight", "blkio.bfq.weight")),
    "weight device": ("blkio", ("blkio.weight_device", "blkio.bfq.weight_device")),
    "read bps": ("blkio", ("blkio.throttle.read_bps_device",)),
    "write bps": ("blkio", ("blkio.throttle.write_bps_device",)),
    "read iops": ("blkio", ("blkio.throttle.read_iops_device",)),
    "write iops": ("blkio", ("blkio.throttle.write_iops_device",)),
}
_V2 = {
    "memory": ("memory", "reservation", "swap"),
    "pids": ("pids",),
    "cpu": ("shares", "cfs"),
    "cpuset": ("cpuset",),
    "io": ("weight", "weight device", "read bps", "write bps", "read iops", "write iops"),
}

# limit of v2 that the kernel may have been built without → a file that its controller always has, and those that say so
_V2_FILES = {
    "swap": ("memory.max", ("memory.swap.max",)),
    "weight": ("io.max", ("io.weight", "io.bfq.weight")),
    "weight device": ("io.max", ("io.bfq.weight",)),  # runc sets no other
}


def supported(groups: "Cgroups") -> frozenset[str]:
    """The limits (keys of the table above) that can be enforced here."""
    if groups.version == 2:
        found = {limit for controller, limits in _V2.items() if groups.has(controller) for limit in limits}
        return frozenset(found - _missing_on_v2())
    return frozenset(
        limit
        for limit, (controller, files) in _V1.items()
        if groups.has(controller) and any(os.path.exists(f"{groups.mounts[controller]}/{file}") for file in files)
    )


def cpusets(groups: "Cgroups") -> tuple[str, str]:
    """The CPUs and the memory nodes that a container may be bound to, in the kernel's list format."""
    from service.kernel import cgroup

    suffix = ".effective" if groups.version == 2 else ""
    folder = groups.directory("cpuset", "/")
    return cgroup.read(f"{folder}/cpuset.cpus{suffix}"), cgroup.read(f"{folder}/cpuset.mems{suffix}")


def _missing_on_v2() -> set[str]:
    """v2's root group has no limits: the files are looked for in our own group, as dockerd does for swap."""
    from service.kernel import cgroup

    own = cgroup.paths_of().get("", "/")
    return set() if own == "/" else missing_in(cgroup.ROOT + own)


def missing_in(folder: str) -> set[str]:
    """The limits that a group of v2 lacks though it has their controller."""
    return {
        limit
        for limit, (sign, files) in _V2_FILES.items()
        if os.path.exists(f"{folder}/{sign}") and not any(os.path.exists(f"{folder}/{file}") for file in files)
    }


_NOT_MOUNTED = "or the cgroup is not mounted."
# limit, HostConfig keys that ask for it, what takes their place, Docker's warning. The limits of kernel memory are in
# no list of what a host can do: kernel and runc have dropped them.
_DISCARDS: "tuple[tuple[str, tuple[str, ...], Any, str], ...]" = (
    (
        "swappiness", ("MemorySwappiness",), None,
        f"memory swappiness capabilities {_NOT_MOUNTED} Memory swappiness discarded.",
    ),
    (
        "kernel memory", ("KernelMemory",), 0,
        f"kernel memory limit capabilities {_NOT_MOUNTED} Limitation discarded.",
    ),
    (
        "kernel tcp", ("KernelMemoryTCP",), 0,
        f"kernel memory TCP limit capabilities {_NOT_MOUNTED} Limitation discarded.",
    ),
    ("reservation", ("MemoryReservation",), 0, f"memory soft limit capabilities {_NOT_MOUNTED} Limitation discarded."),
    ("shares", ("CpuShares",), 0, "CPU shares or the cgroup is not mounted. Shares discarded."),
    ("cfs", ("CpuPeriod", "CpuQuota"), 0, "CPU CFS scheduler. CPU period/quota discarded."),
    ("cpuset", ("CpusetCpus", "CpusetMems"), "", "cpuset or the cgroup is not mounted. Cpuset discarded."),
    ("weight", ("BlkioWeight",), 0, f"Block I/O weight {_NOT_MOUNTED} Weight discarded."),
    ("weight device", ("BlkioWeightDevice",), [], f"Block I/O weight_device {_NOT_MOUNTED} Weight-device discarded."),
    (
        "read bps", ("BlkioDeviceReadBps",), [],
        f"BPS Block I/O read limit {_NOT_MOUNTED} Block I/O BPS read limit discarded.",
    ),
    (
        "write bps", ("BlkioDeviceWriteBps",), [],
        f"BPS Block I/O write limit {_NOT_MOUNTED} Block I/O BPS write limit discarded.",
    ),
    (
        "read iops", ("BlkioDeviceReadIOps",), [],
        f"IOPS Block read limit {_NOT_MOUNTED} Block I/O IOPS read limit discarded.",
    ),
    (
        "write iops", ("BlkioDeviceWriteIOps",), [],
        f"IOPS Block write limit {_NOT_MOUNTED} Block I/O IOPS write limit discarded.",
    ),
)  # fmt: skip


def discard_unsupported(host: "dict[str, Any]", can: "frozenset[str]") -> list[str]:
    """Take back, in a HostConfig, the limits outside of `can` (see `supported`); Docker's warnings about them.

    Raises InvalidParameter for NanoCpus without a scheduler for it: the one that dockerd refuses.
    """
    warnings = _discard_memory(host, can)
    if host.get("CpuPercent", 0) > 0:
        warnings.append("linux does not support CPU percent. Percent discarded.")
        host["CpuPercent"] = 0
    if host.get("NanoCpus") and "cfs" not in can:
        raise InvalidParameter(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted"
        )
    for limit, keys, instead, words in _DISCARDS:
        if limit not in can and any(host.get(key) not in (None, -1, 0, "", []) for key in keys):
            warnings.append("Your kernel does not support " + words)
            host.update(dict.fromkeys(keys, instead))
    return warnings


def _discard_memory(host: "dict[str, Any]", can: "frozenset[str]") -> list[str]:
    warnings = []
    if host.get("Memory", 0) > 0 and "memory" not in can:
        warnings.append(f"Your kernel does not support memory limit capabilities {_NOT_MOUNTED} Limitation discarded.")
        host["Memory"], host["MemorySwap"] = 0, -1
    if host.get("Memory", 0) > 0 and host.get("MemorySwap") != -1 and "swap" not in can:
        warnings.append(
            f"Your kernel does not support swap limit capabilities {_NOT_MOUNTED} Memory limited without swap."
        )
        host["MemorySwap"] = -1
    if host.get("OomKillDisable") is not None and "oom" not in can:
        if host["OomKillDisable"]:
            warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
        host["OomKillDisable"] = None
    if host.get("OomKillDisable") and not host.get("Memory"):
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    if host.get("PidsLimit") is not None and "pids" not in can:
        if host["PidsLimit"] > 0:
            warnings.append(
                f"Your kernel does not support PIDs limit capabilities {_NOT_MOUNTED} PIDs limit discarded."
            )
        host["PidsLimit"] = None
    return warnings
