"""Resources: the limits of a HostConfig, checked for `create` and for `update` (API: Resources)."""

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MINIMUM_MEMORY = 6 * 1024 * 1024  # moby: daemon/daemon_unix.go linuxMinMemory
_MOST_CPUS = 8192  # a range above it is refused before it is written out (moby: CVE-2018-20699)

# Resources as inspect shows them, in its order, with what an absent key means.
DEFAULTS: "dict[str, Any]" = {
    "CpuShares": 0,
    "Memory": 0,
    "NanoCpus": 0,
    "CgroupParent": "",
    "BlkioWeight": 0,
    "BlkioWeightDevice": None,
    "BlkioDeviceReadBps": None,
    "BlkioDeviceWriteBps": None,
    "BlkioDeviceReadIOps": None,
    "BlkioDeviceWriteIOps": None,
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuRealtimePeriod": 0,
    "CpuRealtimeRuntime": 0,
    "CpusetCpus": "",
    "CpusetMems": "",
    "Devices": None,
    "DeviceCgroupRules": None,
    "DeviceRequests": None,
    "MemoryReservation": 0,
    "MemorySwap": 0,
    "MemorySwappiness": None,
    "OomKillDisable": None,
    "PidsLimit": None,
    "Ulimits": None,
    "CpuCount": 0,
    "CpuPercent": 0,
    "IOMaximumIOps": 0,
    "IOMaximumBandwidth": 0,
}
GONE = ("KernelMemory", "KernelMemoryTCP")  # gone from the kernel; kept until `check` has warned

# What Go's structures show of an item of these lists when a client left a part of it out.
_ITEMS: "dict[str, dict[str, Any]]" = {
    "Devices": {"PathOnHost": "", "PathInContainer": "", "CgroupPermissions": ""},
    "DeviceRequests": {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": None, "Options": None},
    "Ulimits": {"Name": "", "Hard": 0, "Soft": 0},
    "BlkioWeightDevice": {"Path": "", "Weight": 0},
    "BlkioDeviceReadBps": {"Path": "", "Rate": 0},
    "BlkioDeviceWriteBps": {"Path": "", "Rate": 0},
    "BlkioDeviceReadIOps": {"Path": "", "Rate": 0},
    "BlkioDeviceWriteIOps": {"Path": "", "Rate": 0},
}


def complete(asked: "dict[str, Any]") -> "dict[str, Any]":
    """Every key of Resources, from what a request says of them."""
    made = {key: default if asked.get(key) is None else asked[key] for key, default in DEFAULTS.items()}
    for key, parts in _ITEMS.items():
        if made[key] is not None:
            made[key] = [
                {part: default if item.get(part) is None else item[part] for part, default in parts.items()}
                for item in made[key]
            ]
    for key in GONE:
        if asked.get(key):
            made[key] = asked[key]
    if made["MemorySwappiness"] == -1:  # the CLI's way to say nothing
        made["MemorySwappiness"] = None
    return made


def check(host: "dict[str, Any]", *, update: bool = False) -> list[str]:
    """moby's verifyPlatformContainerResources, in its words. Takes back, in `host`, what the machine cannot do.

    Returns the warnings that say so. Raises InvalidParameter for what cannot be meant.
    """
    from service.kernel import cgroup
    from service.runtime import limits

    groups = cgroup.detect()
    supported = limits.supported(groups)
    if host["Memory"] and host["Memory"] < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    _check_real_time(host, "real time" in supported)
    warnings = limits.discard_unsupported(host, supported)
    for key in GONE:
        host.pop(key, None)
    _check_memory(host, update)
    _check_cpu(host)
    if "cpuset" in supported:
        available = limits.cpusets(groups)
        _check_list(host["CpusetCpus"], available[0], "cpuset cpus", "CPUs")
        _check_list(host["CpusetMems"], available[1], "cpuset mems", "memory nodes")
    if host["BlkioWeight"] and not 10 <= host["BlkioWeight"] <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    if host["IOMaximumBandwidth"] or host["IOMaximumIOps"]:
        raise InvalidParameter("Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps")
    return warnings


def _check_real_time(host: "dict[str, Any]", supported: bool) -> None:
    period, runtime = host["CpuRealtimePeriod"], host["CpuRealtimeRuntime"]
    if (period or runtime) and not supported:
        raise InvalidParameter("kernel does not support CPU real-time scheduler")
    if period and runtime > period:
        raise InvalidParameter("cpu real-time runtime cannot be higher than cpu real-time period")


def _check_memory(host: "dict[str, Any]", update: bool) -> None:
    memory, swap, reservation = host["Memory"], host["MemorySwap"], host["MemoryReservation"]
    if memory > 0 and 0 < swap < memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0 and not update:
        raise InvalidParameter("You should always set the Memory limit when using Memoryswap limit, see usage")
    swappiness = host["MemorySwappiness"]
    if swappiness is not None and not 0 <= swappiness <= 100:
        raise InvalidParameter(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    if 0 < reservation < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if 0 < memory < reservation:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit, see usage")


def _check_cpu(host: "dict[str, Any]") -> None:
    import os

    nano = host["NanoCpus"]
    for key, words in (("CpuPeriod", "CPU Period"), ("CpuQuota", "CPU Quota")):
        if nano > 0 and host[key] > 0:
            raise InvalidParameter(f"Conflicting options: Nano CPUs and {words} cannot both be set")
    count = os.cpu_count() or 1
    if not 0 <= nano <= count * 1_000_000_000:
        raise InvalidParameter(f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available")
    if host["CpuShares"] < 0:
        raise InvalidParameter(f"invalid CPU shares ({host['CpuShares']}): value must be a positive integer")
    if host["CpuPeriod"] and not 1000 <= host["CpuPeriod"] <= 1_000_000:
        raise InvalidParameter("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host["CpuQuota"] < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")


def _check_list(wanted: str, available: str, what: str, plural: str) -> None:
    """A list of CPUs or memory nodes ("0-2,4") against the one that the machine has. Raises InvalidParameter."""
    try:
        numbers = parse_list(wanted)
    except ValueError as error:
        raise InvalidParameter(f"Invalid value {wanted} for {what}: {error}") from None
    if not numbers <= parse_list(available):
        raise InvalidParameter(f"Requested {plural} are not available - requested {wanted}, available: {available}")


def parse_list(text: str) -> set[int]:
    """The kernel's list format (cpuset(7)) as numbers. Raises ValueError with dockerd's sentence."""
    found: set[int] = set()
    for piece in text.split(",") if text else ():
        low, dash, high = piece.partition("-")
        if not (low.isascii() and low.isdigit()) or (dash and not (high.isascii() and high.isdigit())):
            raise ValueError(f"invalid format: {text}")
        first, last = int(low), int(high or low)
        if last < first:
            raise ValueError(f"invalid format: {text}")
        if last > _MOST_CPUS:
            raise ValueError(f"value of out range, maximum is {_MOST_CPUS}")
        found.update(range(first, last + 1))
    return found
