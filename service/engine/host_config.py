"""HostConfig: what a request says about the host's side, checked, and completed with Docker's defaults."""

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MASKED_PATHS = [
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
]  # fmt: skip
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
SHM_SIZE = 64 * 1024 * 1024
MINIMUM_MEMORY = 6 * 1024 * 1024  # moby: daemon/daemon_unix.go linuxMinMemory

# HostConfig as inspect shows it, in its order, with what an absent key means.
_DEFAULTS: "dict[str, Any]" = {
    "Binds": None,
    "ContainerIDFile": "",
    "LogConfig": None,
    "NetworkMode": "bridge",
    "PortBindings": None,
    "RestartPolicy": None,
    "AutoRemove": False,
    "VolumeDriver": "",
    "VolumesFrom": None,
    "ConsoleSize": [0, 0],
    "CapAdd": None,
    "CapDrop": None,
    "CgroupnsMode": "",
    "Dns": None,
    "DnsOptions": None,
    "DnsSearch": None,
    "ExtraHosts": None,
    "GroupAdd": None,
    "IpcMode": "private",
    "Cgroup": "",
    "Links": None,
    "OomScoreAdj": 0,
    "PidMode": "",
    "Privileged": False,
    "PublishAllPorts": False,
    "ReadonlyRootfs": False,
    "SecurityOpt": None,
    "UTSMode": "",
    "UsernsMode": "",
    "ShmSize": SHM_SIZE,
    "Runtime": "runc",
    "Isolation": "",
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
    "MaskedPaths": None,
    "ReadonlyPaths": None,
}
_SHOWN_WHEN_SET = ("Annotations", "Init", "Mounts", "StorageOpt", "Sysctls", "Tmpfs")
_EMPTY_IS_DEFAULT = ("NetworkMode", "IpcMode", "Runtime", "ShmSize")
LOG_DRIVERS = ("json-file", "none", "local")


def complete(asked: "dict[str, Any]", warnings: list[str]) -> "dict[str, Any]":
    """HostConfig with every key of inspect. Raises InvalidParameter in dockerd's words; appends to `warnings`."""
    host = {}
    for key, default in _DEFAULTS.items():
        value = asked.get(key)
        host[key] = default if value is None or (key in _EMPTY_IS_DEFAULT and not value) else value
    for key in _SHOWN_WHEN_SET:
        if asked.get(key) is not None:
            host[key] = asked[key]
    if host["NetworkMode"] == "default":
        host["NetworkMode"] = "bridge"
    _modes(host)
    _restart_policy(host)
    _log_config(host)
    _resources(host, warnings)
    if asked.get("MaskedPaths") is None:
        host["MaskedPaths"] = None if host["Privileged"] else list(MASKED_PATHS)
    if asked.get("ReadonlyPaths") is None:
        host["ReadonlyPaths"] = None if host["Privileged"] else list(READONLY_PATHS)
    _security(host)
    _ports(host)
    if "" in (host.get("Annotations") or {}):
        raise InvalidParameter("invalid Annotations: the empty string is not permitted as an annotation key")
    for option in host["SecurityOpt"] or ():
        if option == "systempaths=unconfined":
            host["MaskedPaths"], host["ReadonlyPaths"] = [], []
    for address in host["Dns"] or ():
        if not _is_address(address):
            raise InvalidParameter(f"{address} is not an ip address")
    for entry in host["ExtraHosts"] or ():
        name, colon, address = entry.partition(":")
        if not colon or not name:
            raise InvalidParameter(f"bad format for add-host: {entry!r}".replace("'", '"'))
        if address != "host-gateway" and not _is_address(address):
            raise InvalidParameter(f"invalid IP address in add-host: {address!r}".replace("'", '"'))
    return host


def _security(host: "dict[str, Any]") -> None:
    """Refuse at once what could only fail at the start: a misspelt CapDrop must not pass for one that is kept."""
    from service.runtime import capabilities, security

    security.parse(host["SecurityOpt"])
    for field in ("CapAdd", "CapDrop"):
        try:
            capabilities.normalize(host[field] or ())
        except InvalidParameter as error:
            raise InvalidParameter(f"invalid {field}: {error.message}") from None


def _ports(host: "dict[str, Any]") -> None:
    from service.network import ports

    for wish in ports.wishes(host, {}):
        if wish.host_ip and not _is_address(wish.host_ip):
            raise InvalidParameter(f"invalid host IP address: {wish.host_ip}")


def _is_address(text: str) -> bool:
    import _socket

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, text.strip("[]"))
        except OSError:
            continue
        return True
    return False


def _modes(host: "dict[str, Any]") -> None:
    from service.kernel import cgroup

    mode = host["IpcMode"]
    if mode not in ("none", "private", "shareable", "host") and not _joins(mode):
        raise InvalidParameter(f"invalid IPC mode: {mode}")
    mode = host["PidMode"]
    if mode not in ("", "host") and not _joins(mode):
        raise InvalidParameter(f"invalid PID mode: {mode}")
    if host["UTSMode"] not in ("", "host"):
        raise InvalidParameter(f"invalid UTS mode: {host['UTSMode']}")
    if host["UsernsMode"] not in ("", "host"):
        raise InvalidParameter(f"invalid user namespace mode: {host['UsernsMode']}")
    version = cgroup.detect().version
    if host["OomKillDisable"] is None and version == 1:
        host["OomKillDisable"] = False
    if not host["CgroupnsMode"]:
        host["CgroupnsMode"] = "private" if version == 2 and not host["Privileged"] else "host"
    elif host["CgroupnsMode"] not in ("private", "host"):
        raise InvalidParameter(f"invalid cgroup namespace mode: {host['CgroupnsMode']}")
    if host["NetworkMode"].startswith("container:") and not _joins(host["NetworkMode"]):
        raise InvalidParameter("invalid container format container:<name|id>")
    if host["Runtime"] not in ("runc", "io.containerd.runc.v2"):
        raise InvalidParameter(f"unknown or invalid runtime name: {host['Runtime']}")


def _joins(mode: str) -> bool:
    """Whether a mode is `container:` with a name after it."""
    return mode.startswith("container:") and len(mode) > len("container:")


def _restart_policy(host: "dict[str, Any]") -> None:
    policy = host["RestartPolicy"] or {}
    name, count = policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0
    if name not in ("no", "always", "unless-stopped", "on-failure"):
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if count and name != "on-failure":
        raise InvalidParameter(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
            + (" and cannot be negative" if count < 0 else "")
        )
    if count < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    if host["AutoRemove"] and name != "no":
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")
    host["RestartPolicy"] = {"Name": name, "MaximumRetryCount": count}


def _log_config(host: "dict[str, Any]") -> None:
    given = host["LogConfig"] or {}
    driver = given.get("Type") or "json-file"
    if driver not in LOG_DRIVERS:
        raise InvalidParameter(f"logger: no log driver named '{driver}' is registered")
    host["LogConfig"] = {"Type": driver, "Config": given.get("Config") or {}}


def _resources(host: "dict[str, Any]", warnings: list[str]) -> None:
    """moby: daemon/daemon_unix.go verifyPlatformContainerResources, in its order and words."""
    from service.kernel import cgroup
    from service.runtime import limits

    memory, swap = host["Memory"], host["MemorySwap"]
    if 0 < memory < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if memory > 0 and swap > 0 and swap < memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0:
        raise InvalidParameter("You should always set the Memory limit when using Memoryswap limit, see usage")
    swappiness = host["MemorySwappiness"]
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise InvalidParameter(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    reservation = host["MemoryReservation"]
    if 0 < reservation < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if memory > 0 and reservation > 0 and memory < reservation:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit, see usage")
    if host["NanoCpus"] and (host["CpuPeriod"] or host["CpuQuota"]):
        which = "CPU Period" if host["CpuPeriod"] else "CPU Quota"
        raise InvalidParameter(f"Conflicting options: Nano CPUs and {which} cannot both be set")
    if not 0 <= host["NanoCpus"] <= _cpu_count() * 1_000_000_000:
        raise InvalidParameter(
            f"range of CPUs is from 0.01 to {_cpus()}, as there are only {_cpu_count()} CPUs available"
        )
    if host["CpuShares"] < 0:
        raise InvalidParameter(f"invalid CPU shares ({host['CpuShares']}): value must be a positive integer")
    period = host["CpuPeriod"]
    if period and not 1000 <= period <= 1_000_000:
        raise InvalidParameter("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host["CpuQuota"] < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if host["OomScoreAdj"] and not -1000 <= host["OomScoreAdj"] <= 1000:
        raise InvalidParameter(f"Invalid value {host['OomScoreAdj']}, range for oom score adj is [-1000, 1000]")
    if host["ShmSize"] < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    if host["BlkioWeight"] and not 10 <= host["BlkioWeight"] <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    if host["PidsLimit"] is not None and host["PidsLimit"] <= 0:
        host["PidsLimit"] = None if host["PidsLimit"] == 0 else -1
    if memory and swap == 0:
        host["MemorySwap"] = memory * 2
    warnings += limits.discard_unsupported(host, limits.supported(cgroup.detect()))
    if host["NetworkMode"] == "host" and host["PortBindings"]:
        warnings.append("Published ports are discarded when using host network mode")


def _cpu_count() -> int:
    import os

    return os.cpu_count() or 1


def _cpus() -> str:
    return f"{_cpu_count()}.00"
