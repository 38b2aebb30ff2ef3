"""HostConfig: what a request says about the host's side, checked, and completed with Docker's defaults."""

from service.engine import namespaces, resources, runtimes
from service.errors import InvalidParameter
from service.runtime import security

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.daemon_json import DaemonJson

SHM_SIZE = 64 * 1024 * 1024

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
    **resources.DEFAULTS,
    "MaskedPaths": None,
    "ReadonlyPaths": None,
}
_SHOWN_WHEN_SET = ("Annotations", "Mounts", "StorageOpt", "Sysctls", "Tmpfs")
# … and before which of the others it is shown
_SHOWN_BEFORE = {
    "CapAdd": ("Annotations",),
    "UTSMode": ("StorageOpt", "Tmpfs"),
    "Runtime": ("Sysctls",),
    "MaskedPaths": ("Mounts",),
}
_EMPTY_IS_DEFAULT = ("NetworkMode", "IpcMode", "Runtime", "ShmSize")


def complete(
    asked: "dict[str, Any]",
    warnings: list[str],
    *,
    systemd_cgroups: bool = False,
    config: "dict[str, Any] | None" = None,
    defaults: "DaemonJson | None" = None,
) -> "dict[str, Any]":
    """HostConfig with every key of inspect. Raises InvalidParameter in dockerd's words; appends to `warnings`.

    `systemd_cgroups`: systemd makes the control groups; `config` is the request's ContainerConfig, where it matters;
    `defaults`: what the administrator has laid down for containers that say nothing.
    """
    asked = {**asked, **resources.complete(asked)}
    if defaults is not None:
        _laid_down(asked, defaults)
    host = {key: asked[key] for key in resources.GONE if key in asked}
    for key, default in _DEFAULTS.items():
        value = asked.get(key)
        host[key] = default if value is None or (key in _EMPTY_IS_DEFAULT and not value) else value
    for key in _SHOWN_WHEN_SET:
        if asked.get(key):
            host[key] = asked[key]
    host["ConsoleSize"] = [*host["ConsoleSize"], 0, 0][:2]
    if asked.get("Init") is not None:
        host["Init"] = asked["Init"]
    if host["NetworkMode"] == "default":
        host["NetworkMode"] = "bridge"
    namespaces.check_network(config or {}, host)
    _no_windows(host)
    check_restart_policy(host)
    _log_config(host)
    _security(host)
    _limits(host, warnings, systemd_cgroups, defaults.cgroup_parent if defaults is not None else "")
    runtimes.check(host["Runtime"], defaults)
    if asked.get("MaskedPaths") is None:
        host["MaskedPaths"] = None if host["Privileged"] else security.masked_paths()
    if asked.get("ReadonlyPaths") is None:
        host["ReadonlyPaths"] = None if host["Privileged"] else list(security.READONLY_PATHS)
    _ports(host)
    if "" in (host.get("Annotations") or {}):
        raise InvalidParameter("invalid Annotations: the empty string is not permitted as an annotation key")
    for option in host["SecurityOpt"] or ():
        if option == "systempaths=unconfined":
            host["MaskedPaths"], host["ReadonlyPaths"] = [], []
    for address in host["Dns"] or ():
        if not _is_address(address):
            raise InvalidParameter(f'bad nameserver address {address}: ParseAddr("{address}"): unable to parse IP')
    for entry in host["ExtraHosts"] or ():
        name, colon, address = entry.partition(":")
        if not colon or not name:
            raise InvalidParameter(f"bad format for add-host: {entry!r}".replace("'", '"'))
        if address != "host-gateway" and (not _is_address(address) or "[" in address):
            raise InvalidParameter(f"invalid IP address in add-host: {address!r}".replace("'", '"'))
    return _in_order(host)


def _in_order(host: "dict[str, Any]") -> "dict[str, Any]":
    """The keys in the order of dockerd's inspect: what is only shown when set stands among the others."""
    for key in ("PortBindings", "Annotations", "StorageOpt", "Tmpfs", "Sysctls"):  # Go sorts the keys of maps
        if host.get(key):
            host[key] = dict(sorted(host[key].items()))
    ordered: dict[str, Any] = {}
    for key, value in host.items():
        if key in _SHOWN_BEFORE:
            ordered |= {shown: host[shown] for shown in _SHOWN_BEFORE[key] if shown in host}
        if key not in ordered and key not in _SHOWN_WHEN_SET:
            ordered[key] = value
    return ordered


def _laid_down(asked: "dict[str, Any]", defaults: "DaemonJson") -> None:
    """What daemon.json says for containers that do not say it themselves. Raises InvalidParameter."""
    from service.engine import log_config
    from service.kernel import cgroup

    privileged_on_v1 = bool(asked.get("Privileged")) and cgroup.detect().version == 1
    if not asked.get("Runtime"):
        asked["Runtime"] = defaults.default_runtime
    given = asked.get("LogConfig") or {}
    driver = given.get("Type") or defaults.log_driver or "json-file"
    if driver == (defaults.log_driver or "json-file"):
        given = {**given, "Config": {**defaults.log_options, **(given.get("Config") or {})}}
    asked["LogConfig"] = {**given, "Type": driver}
    if defaults.shm_size and not asked.get("ShmSize"):
        size = defaults.shm_size
        asked["ShmSize"] = size if isinstance(size, int) else log_config.size(size, 1024)
    for key, laid_down in (("IpcMode", defaults.ipc_mode), ("CgroupnsMode", defaults.cgroupns_mode)):
        # on cgroup v1, who is privileged sees the host's groups whatever is laid down
        if laid_down and not asked.get(key) and not (key == "CgroupnsMode" and privileged_on_v1):
            asked[key] = laid_down
    if defaults.ulimits:
        own = asked.get("Ulimits") or []
        named = {limit["Name"] for limit in own}
        asked["Ulimits"] = [*own, *({**limit} for limit in defaults.ulimits if limit["Name"] not in named)]


def _no_windows(host: "dict[str, Any]") -> None:
    """What only Docker on Windows offers. Raises InvalidParameter."""
    if host["Isolation"].lower() not in ("", "default"):
        raise InvalidParameter(f"invalid isolation ({host['Isolation']}): linux only supports 'default'")
    for key, words in (("IOMaximumBandwidth", "bandwidth"), ("IOMaximumIOps", "IOPs")):
        if host[key]:
            raise InvalidParameter(f"invalid option: QoS maximum {words} configuration is not supported on linux")


def _limits(host: "dict[str, Any]", warnings: list[str], systemd_cgroups: bool, parent_laid_down: str) -> None:
    """Everything that is asked of control groups and of the kernel. Raises InvalidParameter."""
    from service.kernel import cgroup

    warnings += resources.check(host)
    version = cgroup.detect().version
    namespaces.check_modes(host, version)
    if host["ShmSize"] < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    if not -1000 <= host["OomScoreAdj"] <= 1000:
        raise InvalidParameter(f"Invalid value {host['OomScoreAdj']}, range for oom score adj is [-1000, 1000]")
    if host["NetworkMode"] == "host" and host["PortBindings"]:
        warnings.append("Published ports are discarded when using host network mode")
    parent = host["CgroupParent"] or parent_laid_down
    if parent and systemd_cgroups and not (len(parent) > len(".slice") and parent.endswith(".slice")):
        raise InvalidParameter('cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"')
    for option in host.get("StorageOpt") or ():
        if option != "size":
            raise InvalidParameter(f"Unknown option {option}")
        raise InvalidParameter("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
    if host["PidsLimit"] is not None and host["PidsLimit"] <= 0:
        host["PidsLimit"] = None
    if host["Memory"] > 0 and host["MemorySwap"] == 0:
        host["MemorySwap"] = host["Memory"] * 2
    if host["OomKillDisable"] is None and version == 1:
        host["OomKillDisable"] = False


def _security(host: "dict[str, Any]") -> None:
    """Refuse at once what could only fail at the start: a misspelt CapDrop must not pass for one that is kept."""
    from service.runtime import capabilities

    security.parse(host["SecurityOpt"])
    for field in ("CapAdd", "CapDrop"):
        try:
            capabilities.normalize(host[field] or ())
        except InvalidParameter as error:
            raise InvalidParameter(f"invalid {field}: {error.message}") from None
    labelled = any(option.partition("=")[0] == "label" for option in host["SecurityOpt"] or ())
    if not labelled and (host["Privileged"] or "host" in (host["IpcMode"], host["PidMode"])):
        host["SecurityOpt"] = [*(host["SecurityOpt"] or ()), "label=disable"]  # as dockerd notes it, SELinux or not


def _ports(host: "dict[str, Any]") -> None:
    from service.network import ports

    for wish in ports.wishes(host, {}):
        if wish.host_ip and not _is_address(wish.host_ip):
            raise InvalidParameter(f"invalid host IP address: {wish.host_ip}")
    for port, bindings in (host["PortBindings"] or {}).items():
        host["PortBindings"][port] = bindings and [
            {"HostIp": (binding.get("HostIp") or "").strip("[]"), "HostPort": binding.get("HostPort") or ""}
            for binding in bindings
        ]


def _is_address(text: str) -> bool:
    import _socket

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, text.strip("[]"))
        except OSError:
            continue
        return True
    return False


def check_restart_policy(host: "dict[str, Any]") -> None:
    """Raise InvalidParameter, in dockerd's words; complete `host["RestartPolicy"]`."""
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
    from service.engine import log_config

    given = host["LogConfig"] or {}
    driver, options = given.get("Type") or "json-file", given.get("Config") or {}
    log_config.check(driver, options)
    host["LogConfig"] = {"Type": driver, "Config": dict(sorted(options.items()))}
