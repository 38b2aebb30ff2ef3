"""`info`, `version`, `system df`: the host and the engine (API: SystemInfo, SystemVersion, SystemDataUsage)."""

import os

from service import daemon_json, journal, timestamps, version
from service.errors import SystemFailure
from service.kernel import cgroup
from service.store import containers, images, meta, volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.engine.engine import Engine
    from service.runtime.cdi import Registry
    from service.settings import Settings

_UNKNOWN = "N/A"  # dockerd's word for a program that is not there, or does not say
_FEATURES = "org.opencontainers.runtime-spec.features"  # of a runtime's status: what it can do
_ACTIVE = ("running", "paused", "restarting")  # states in which a container's writable layer is needed
_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def architecture() -> str:
    """The host's architecture by Go's (so OCI's and Docker's) name."""
    machine = os.uname().machine
    return _GO_ARCHITECTURES.get(machine, machine)


def describe_version(engine: "Engine", newest: "tuple[int, int]" = version.API) -> "dict[str, Any]":
    """API: SystemVersion. `newest`: the API version that is named as the newest."""
    kernel, experimental = os.uname().release, daemon_json.readable(engine.settings.daemon_json).experimental
    built = timestamps.rfc3339(int(os.stat(version.__file__).st_mtime) * 1_000_000_000).replace("Z", ".000000000+00:00")
    details = {
        "ApiVersion": version.api_text(newest),
        "Arch": architecture(),
        "BuildTime": built,
        "Experimental": str(experimental).lower(),
        "GitCommit": "",
        "GoVersion": "",
        "KernelVersion": kernel,
        "MinAPIVersion": version.api_text(version.API_MINIMUM),
        "Os": "linux",
    }
    return {
        "Platform": {"Name": f"moorage {version.MOORAGE}"},
        "Components": [
            {"Name": "Engine", "Version": version.DOCKER, "Details": details},
            {"Name": "moorage", "Version": version.MOORAGE, "Details": {"GitCommit": ""}},
            *_components(engine),
        ],
        "Version": version.DOCKER,
        "ApiVersion": version.api_text(newest),
        "MinAPIVersion": version.api_text(version.API_MINIMUM),
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": kernel,
        **({"Experimental": True} if experimental else {}),
        "BuildTime": built,
    }


def _components(engine: "Engine") -> "list[dict[str, Any]]":
    """The programs that run containers, with the versions they state; what is not installed is left out, as by dockerd.

    `docker version` shows each under its name: the runtime is called as containers ask for it.
    """
    from service.runtime import conmon, facts, runc, stated

    found = []
    for name, program in (("runc", runc.program), ("conmon", conmon.program), ("", lambda _: facts.init_path())):
        try:
            path = program(engine.settings)
        except SystemFailure as error:
            journal.write("warning", error.message)
            path = ""
        if path:
            said, commit = stated.version(engine.settings, path)
            found.append({"Name": name or os.path.basename(path), "Version": said, "Details": {"GitCommit": commit}})
    return found


def identity(engine: "Engine") -> str:
    """The engine's id: made once, kept for good. Blocking (the first time)."""
    known = meta.get(engine.store, "engine_id")
    if known:
        return known
    raw = os.urandom(16).hex()
    proposed = f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-8{raw[17:20]}-{raw[20:32]}"
    with engine.store.write():
        return meta.keep(engine.store, "engine_id", proposed)


def info(engine: "Engine") -> "dict[str, Any]":
    """API: SystemInfo. Blocking."""
    from service.runtime import cdi, facts, limits

    offered = cdi.Registry(engine.settings.cdi_directories)
    settings, host, groups = engine.settings, os.uname(), cgroup.detect()
    found = containers.newest_first(engine.store)
    statuses = [container["state"]["status"] for container in found]
    said = daemon_json.readable(settings.daemon_json)
    system = _os_release()
    memory = _memory_total()
    forwards = _sysctl("net/ipv4/ip_forward") == "1"  # a network that is made switches it on
    running, paused = statuses.count("running"), statuses.count("paused")
    can = limits.supported(groups)
    enforced = {
        "MemoryLimit": "memory" in can,
        "SwapLimit": "swap" in can,
        "CpuCfsPeriod": "cfs" in can,
        "CpuCfsQuota": "cfs" in can,
        "CPUShares": "shares" in can,
        "CPUSet": "cpuset" in can,
        "PidsLimit": "pids" in can,
        "OomKillDisable": "oom" in can,
    }
    return {
        "ID": identity(engine),
        "Containers": len(found),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(found) - running - paused,
        "Images": images.count(engine.store),
        "Driver": "overlay2",
        "DriverStatus": [
            ["Backing Filesystem", _file_system(settings.root)],
            ["Supports d_type", "true"],
            ["Using metacopy", "false"],
            ["Native Overlay Diff", "true"],
            ["userxattr", "false"],
        ],
        "Plugins": {
            "Volume": ["local", *sorted(volumes.drivers(engine.store) - {"local"})],
            "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
            "Authorization": None,
            "Log": ["journald", "json-file", "local"],
        },
        **enforced,
        "IPv4Forwarding": forwards,
        "Debug": (settings.log_level or said.log_level) == "debug",
        "NFd": len(os.listdir("/proc/self/fd")),
        "NGoroutines": 0,
        "SystemTime": timestamps.now(),
        "LoggingDriver": said.log_driver or "json-file",
        "CgroupDriver": _cgroup_driver(engine),
        "CgroupVersion": str(groups.version),
        "NEventsListener": engine.followers,
        "KernelVersion": host.release,
        "OperatingSystem": system.get("PRETTY_NAME", "linux"),
        "OSVersion": system.get("VERSION_ID", ""),
        "OSType": "linux",
        "Architecture": host.machine,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": _registry_config(settings),
        "NCPU": os.cpu_count() or 1,
        "MemTotal": memory,
        "GenericResources": None,
        "DockerRootDir": settings.root,
        "HttpProxy": _without_password(settings.http_proxy),
        "HttpsProxy": _without_password(settings.https_proxy),
        "NoProxy": settings.no_proxy,
        "Name": host.nodename,
        "Labels": said.labels,
        "ExperimentalBuild": said.experimental,
        "ServerVersion": version.DOCKER,
        "Runtimes": _runtimes(settings, said),
        "DefaultRuntime": said.default_runtime,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": True,  # containers outlive the service: that is what clients ask by this
        "Isolation": "",
        "InitBinary": os.path.basename(facts.init_path()) or "docker-init",
        "ContainerdCommit": {"ID": _UNKNOWN},
        "RuncCommit": {"ID": _runc_commit(settings)},
        "InitCommit": {"ID": _init_commit(settings)},
        "SecurityOptions": _security_options(groups.version, said),
        "FirewallBackend": {"Driver": "nftables"},
        "CDISpecDirs": engine.settings.cdi_directories,
        **_address_pools(settings),
        **_devices(offered),
        "Warnings": _warnings(groups, can, offered, said, forwards=forwards or not running),
    }


def bridge_filter() -> "dict[str, bool]":
    """Whether the kernel shows packet filters what bridges carry: older clients warn where it does not."""
    return {
        "BridgeNfIptables": _sysctl("net/bridge/bridge-nf-call-iptables") == "1",
        "BridgeNfIp6tables": _sysctl("net/bridge/bridge-nf-call-ip6tables") == "1",
    }


def _address_pools(settings: "Settings") -> "dict[str, Any]":
    """DefaultAddressPools: those that an administrator has named; left out where there are none."""
    from service.engine import subnets

    try:
        named = [pool.strip().rpartition("/") for pool in subnets.pools(settings).split(",") if pool.strip()]
        listed = [{"Base": base, "Size": int(size)} for base, _, size in named]
    except (SystemFailure, ValueError) as error:  # a network that is made says so
        journal.write("error", f"address pools: {error}")
        listed = []
    return {"DefaultAddressPools": listed} if listed else {}


def _devices(offered: "Registry") -> "dict[str, Any]":
    """DiscoveredDevices: what vendors' files offer to `--device` and `--gpus`; left out where there is none."""
    listed = [{"Source": "cdi", "ID": name} for name in sorted(offered.devices)]
    return {"DiscoveredDevices": listed} if listed else {}


def _cgroup_driver(engine: "Engine") -> str:
    from service.runtime import facts

    return "systemd" if facts.uses_systemd(engine.settings, cgroup.detect()) else "cgroupfs"


def _os_release() -> dict[str, str]:
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            pairs = (line.strip().partition("=") for line in file)
            return {key: value.strip('"') for key, _, value in pairs}
    except FileNotFoundError:
        return {}


def _memory_total() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        return int(file.readline().split()[1]) * 1024


def _sysctl(name: str) -> str:
    try:
        return cgroup.read(f"/proc/sys/{name}")
    except FileNotFoundError:
        return ""


def _file_system(path: str) -> str:
    from service.kernel.mount import mount_of

    kind = mount_of(path).kind
    return "extfs" if kind in ("ext2", "ext3", "ext4") else kind


def _registry_config(settings: "Settings") -> "dict[str, Any]":
    from service.content import registry_hosts

    try:
        hosts, urls = registry_hosts.insecure_registries(settings), registry_hosts.mirrors(settings)
    except SystemFailure as error:  # a pull will fail for it; here it is told and not shown
        journal.write("error", error.message)
        hosts, urls = [], []
    networks = [host for host in hosts if registry_hosts.is_network(host)]
    mirrors = [url.rstrip("/") + "/" for url in urls]
    named = {
        host: {"Name": host, "Mirrors": [], "Secure": False, "Official": False}
        for host in hosts
        if host not in networks
    }
    docker = {"Name": "docker.io", "Mirrors": mirrors, "Secure": True, "Official": True}
    return {
        "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8", *networks],
        "IndexConfigs": {**named, "docker.io": docker},
        "Mirrors": mirrors or None,
    }


def _without_password(url: str) -> str:
    """A proxy's URL as it may be shown: its user and password are left out, as dockerd does."""
    scheme, mark, rest = url.partition("://")
    if "@" not in rest:
        return url
    return f"{scheme}{mark}xxxxx:xxxxx@{rest.rpartition('@')[2]}"


def _runtimes(settings: "Settings", said: daemon_json.DaemonJson) -> "dict[str, Any]":
    """The names that a container may ask for, each with its program and what that can do."""
    found = {name: {"path": settings.runtime or "runc"} for name in daemon_json.STOCK_RUNTIMES}
    shown: dict[str, dict[str, Any]] = {
        name: {**known, **_status(settings, known["path"])} for name, known in found.items()
    }
    for name, runtime in said.runtimes.items():
        arguments = {"runtimeArgs": runtime.arguments} if runtime.arguments else {}
        path = {"path": runtime.path} if runtime.path else {}
        shown[name] = {**path, **arguments, **(_status(settings, runtime.path) if path else {})}
    return shown


def _status(settings: "Settings", program: str) -> "dict[str, Any]":
    from service import jsontext
    from service.runtime import runc
    from service.settings import find_program

    try:
        features = runc.features(settings, find_program(program))
    except OSError as error:  # not installed: a start will say so
        journal.write("warning", str(error))
        features = {}
    return {"status": {_FEATURES: jsontext.dumps(features)}} if features else {}


def _runc_commit(settings: "Settings") -> str:
    from service.runtime import runc, stated

    try:
        return stated.version(settings, runc.program(settings))[1]
    except SystemFailure:
        return _UNKNOWN


def _init_commit(settings: "Settings") -> str:
    from service.runtime import facts, stated

    path = facts.init_path()
    return stated.version(settings, path)[1] if path else _UNKNOWN


def _security_options(cgroup_version: int, said: daemon_json.DaemonJson) -> list[str]:
    from service.runtime import apparmor, facts

    options = ["name=apparmor"] if apparmor.supported() else []
    if facts.seccomp_supported():
        options.append(f"name=seccomp,profile={said.seccomp_profile or 'builtin'}")
    if (said.cgroupns_mode or ("private" if cgroup_version == 2 else "host")) == "private":
        options.append("name=cgroupns")
    return [*options, "name=no-new-privileges"] if said.no_new_privileges else options


# limit (`service.runtime.limits`) → what dockerd calls it on v1 and on v2 ("": the lack is not told there, as nobody
# could do anything about it). The order is dockerd's (moby: daemon/info_unix.go).
_LIMITS = {
    "memory": ("memory limit", "memory limit"),
    "swap": ("swap limit", "swap limit"),
    "oom": ("oom kill disable", ""),
    "cfs": ("cpu cfs quota, cpu cfs period", "cpu cfs quota, cpu cfs period"),
    "shares": ("cpu shares", "cpu shares"),
    "cpuset": ("cpuset", "cpuset"),
    "weight": ("", "io.weight"),
    "weight device": ("", "io.weight (per device)"),
    "read bps": ("blkio throttle.read_bps_device", "io.max (rbps)"),
    "write bps": ("blkio throttle.write_bps_device", "io.max (wbps)"),
    "read iops": ("blkio throttle.read_iops_device", "io.max (riops)"),
    "write iops": ("blkio throttle.write_iops_device", "io.max (wiops)"),
}


def _warnings(
    groups: cgroup.Cgroups,
    can: frozenset[str],
    offered: "Registry",
    said: daemon_json.DaemonJson,
    *,
    forwards: bool,
) -> "list[str] | None":
    """dockerd's sentences about what this host cannot do. `forwards`: packets are forwarded, or nobody needs it yet."""
    found = []
    for limit, names in _LIMITS.items():
        name = names[groups.version - 1]
        if name and limit not in can:
            found += [f"WARNING: No {part} support" for part in name.split(", ")]
    for path, complaints in offered.errors.items():
        found += [f"CDI: Error associated with spec file {path}: {words}" for words in complaints]
    if said.seccomp_profile:
        found.append("WARNING: daemon is not using the default seccomp profile")
    if not forwards:
        found.append("WARNING: IPv4 forwarding is disabled")
    return found or None


async def shared_data_usage(engine: "Engine", kinds: "frozenset[str]") -> "Any":
    """`data_usage`, weighed once for all who ask for the same at the same time: dashboards do, and it can take long."""
    import asyncio

    from service import jsontext

    weighing: asyncio.Future[str] | None = engine.weighing.get(kinds)
    if weighing is None:
        weighing = asyncio.ensure_future(engine.thread(lambda: jsontext.dumps(data_usage(engine, kinds))))
        engine.weighing[kinds] = weighing
        weighing.add_done_callback(lambda _: engine.weighing.pop(kinds))
    return jsontext.loads(await asyncio.shield(weighing))  # a document for each: versions edit it


def data_usage(engine: "Engine", kinds: "frozenset[str]" = frozenset()) -> "dict[str, Any]":
    """API: SystemDataUsage in its shape before 1.52; of `kinds` (empty: of everything), the others are null.

    Blocking: it weighs files.
    """
    from service.engine import container_list
    from service.engine import images as image_verbs
    from service.engine import volumes as volume_verbs
    from service.kernel.tree import disk_usage

    document: dict[str, Any] = {
        "LayersSize": 0,
        "Images": None,
        "Containers": None,
        "Volumes": None,
        "BuildCache": None,
    }
    if not kinds or "image" in kinds:
        document["LayersSize"] = images.layers_size(engine.store)
        document["Images"] = image_verbs.usage(engine)
    if not kinds or "container" in kinds:
        document["Containers"] = container_list.summaries(engine, all=True, limit=0, size=True, filters={})
    if not kinds or "volume" in kinds:
        counts = volumes.use_counts(engine.store)
        document["Volumes"] = [
            {
                **volume_verbs.describe(engine.settings, volume),
                "UsageData": {
                    "RefCount": counts.get(volume["Name"], 0),
                    "Size": disk_usage(volume_verbs.data_path(engine.settings, volume["Name"])),
                },
            }
            for volume in volumes.by_name(engine.store)
            if not volume["Options"]
            and volume_verbs.is_local(volume["Driver"])  # what is kept elsewhere takes no place here
        ]
    if not kinds or "build-cache" in kinds:
        from service.engine import build_cache

        document["BuildCache"] = build_cache.describe(engine)
    return document


def sums(usage: "dict[str, Any]", *, items: bool) -> "dict[str, Any]":
    """API: SystemDataUsage from 1.52 on, of what `data_usage` has looked at. `items`: with every single thing."""
    found: dict[str, Any] = {}
    if usage["Images"] is not None:
        idle = [image for image in usage["Images"] if not image["Containers"]]
        free = sum(image["Size"] - image["SharedSize"] for image in idle)
        found["ImageUsage"] = _sum(usage["Images"], idle, usage["LayersSize"], free)
    if usage["Containers"] is not None:
        idle = [container for container in usage["Containers"] if container["State"] not in _ACTIVE]
        total, free = (sum(container.get("SizeRw", 0) for container in some) for some in (usage["Containers"], idle))
        found["ContainerUsage"] = _sum(usage["Containers"], idle, total, free)
    if usage["Volumes"] is not None:
        idle = [volume for volume in usage["Volumes"] if not volume["UsageData"]["RefCount"]]
        total, free = (sum(volume["UsageData"]["Size"] for volume in some) for some in (usage["Volumes"], idle))
        found["VolumeUsage"] = _sum(usage["Volumes"], idle, total, free)
    if usage["BuildCache"] is not None:
        idle = [record for record in usage["BuildCache"] if not record["InUse"]]
        total = sum(record["Size"] for record in usage["BuildCache"])
        free = sum(record["Size"] for record in idle if not record["Shared"])
        found["BuildCacheUsage"] = _sum(usage["BuildCache"], idle, total, free)
    if not items:
        for summed in found.values():
            summed.pop("Items", None)
    return found


def _sum(items: "list[Any]", idle: "list[Any]", total: int, free: int) -> "dict[str, Any]":
    """One of the …Usage documents; what is zero or empty is left out, as dockerd does. Sizes in bytes."""
    summed = {
        "ActiveCount": len(items) - len(idle),
        "TotalCount": len(items),
        "TotalSize": total,
        "Reclaimable": free,
        "Items": items,
    }
    return {name: value for name, value in summed.items() if value}
