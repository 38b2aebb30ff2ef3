"""Limits: Docker's HostConfig fields as the OCI config's `linux.resources`, for the controllers that the host has."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.kernel.cgroup import Cgroups

NANO = 1_000_000_000
_CPU_SHARES = 1024  # the kernel's own default
_CFS_PERIOD = 100_000  # µs: the kernel's own default, in which NanoCpus is counted


def resources(config: "dict[str, Any]", groups: "Cgroups") -> "dict[str, Any]":
    """The limits of a HostConfig. A limit without its controller is left out (create warned of it), never an error:
    runc would refuse the whole container.
    """
    made: dict[str, Any] = {}
    sections = (
        ("memory", "memory", memory(config, groups)),
        ("cpu", "cpu", cpu(config, groups)),
        ("blkio" if groups.version == 1 else "io", "blockIO", block_io(config)),
        ("pids", "pids", pids(config)),
    )
    for controller, name, section in sections:
        if section and (groups.has(controller) or name == "cpu"):
            made[name] = section
    return made


def without_limits(groups: "Cgroups") -> "dict[str, Any]":
    """What takes every limit off that an update may have set, for the controllers that the host has."""
    from service.runtime import limits

    can = limits.supported(groups)
    made: dict[str, Any] = {}
    if "memory" in can:
        made["memory"] = {"limit": -1, "reservation": -1, **({"swap": -1} if "swap" in can else {})}
    if "shares" in can:
        made["cpu"] = {"shares": _CPU_SHARES, **({"quota": -1, "period": _CFS_PERIOD} if "cfs" in can else {})}
    if "cpuset" in can:
        cpus, mems = limits.cpusets(groups)
        made.setdefault("cpu", {}).update({"cpus": cpus, "mems": mems})
    if "pids" in can:
        made["pids"] = {"limit": -1}
    return made


def memory(config: "dict[str, Any]", groups: "Cgroups") -> "dict[str, Any]":
    """Bytes; `swap` counts memory and swap together, as in Docker."""
    made: dict[str, Any] = {}
    if config.get("Memory", 0) > 0:
        made["limit"] = config["Memory"]
    if config.get("MemoryReservation", 0) > 0:
        made["reservation"] = config["MemoryReservation"]
    if (config.get("MemorySwap", 0) > 0 or (config.get("MemorySwap") == -1 and made)) and swap_limit(groups):
        made["swap"] = config["MemorySwap"]
    if config.get("MemorySwappiness") not in (None, -1) and groups.version == 1:
        made["swappiness"] = config["MemorySwappiness"]
    if config.get("OomKillDisable") and groups.version == 1:
        made["disableOOMKiller"] = True
    return made


def swap_limit(groups: "Cgroups") -> bool:
    """Whether memory and swap can be limited together (swap accounting may be off on v1, absent on v2's root)."""
    from service.runtime import limits

    return "swap" in limits.supported(groups)


def cpu(config: "dict[str, Any]", groups: "Cgroups") -> "dict[str, Any]":
    """Shares, CFS quota and period (NanoCpus is a quota per 100 ms), real-time slices, and the CPUs themselves."""
    made: dict[str, Any] = {}
    if groups.has("cpu"):
        if config.get("CpuShares"):
            made["shares"] = config["CpuShares"]
        if config.get("NanoCpus", 0) > 0:
            made["period"], made["quota"] = _CFS_PERIOD, config["NanoCpus"] * _CFS_PERIOD // NANO
        for field, name in (
            ("CpuPeriod", "period"),
            ("CpuQuota", "quota"),
            ("CpuRealtimePeriod", "realtimePeriod"),
            ("CpuRealtimeRuntime", "realtimeRuntime"),
        ):
            if config.get(field):
                made[name] = config[field]
    if groups.has("cpuset"):
        for field, name in (("CpusetCpus", "cpus"), ("CpusetMems", "mems")):
            if config.get(field):
                made[name] = config[field]
    return made


def pids(config: "dict[str, Any]") -> "dict[str, Any]":
    """The number of tasks; 0 and negative mean no limit, which runc spells -1."""
    limit = config.get("PidsLimit")
    if limit is None:
        return {}
    return {"limit": limit if limit > 0 else -1}


_THROTTLES = (
    ("BlkioDeviceReadBps", "throttleReadBpsDevice"),
    ("BlkioDeviceWriteBps", "throttleWriteBpsDevice"),
    ("BlkioDeviceReadIOps", "throttleReadIOPSDevice"),
    ("BlkioDeviceWriteIOps", "throttleWriteIOPSDevice"),
)


def block_io(config: "dict[str, Any]") -> "dict[str, Any]":
    """Weights and rates by device; the device numbers are looked up. Raises InvalidParameter for a missing device."""
    made: dict[str, Any] = {}
    if config.get("BlkioWeight"):
        made["weight"] = config["BlkioWeight"]
    weights = [{**_numbers(d["Path"]), "weight": d["Weight"]} for d in config.get("BlkioWeightDevice") or ()]
    if weights:
        made["weightDevice"] = weights
    for field, name in _THROTTLES:
        rates = [{**_numbers(d["Path"]), "rate": d["Rate"]} for d in config.get(field) or ()]
        if rates:
            made[name] = rates
    return made


def _numbers(path: str) -> dict[str, int]:
    import os

    from service.errors import InvalidParameter

    try:
        device = os.stat(path).st_rdev
    except OSError as error:
        raise InvalidParameter(f"stat {path}: {(error.strerror or '').lower()}") from error
    return {"major": os.major(device), "minor": os.minor(device)}
