"""A container's record as the OCI config that runc runs: what Docker makes of the same request.

Pure: everything that must be looked up on the host (or in the container's root) is in `SpecFacts`, filled by
`runtime.facts`. The form is that of the OCI runtime specification 1.0 (config.md, config-linux.md).
"""

from service.errors import InvalidParameter
from service.runtime import capabilities, devices, environment, mounts, resources, seccomp, security

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from service.kernel.cgroup import Cgroups
    from service.model.container import ContainerRecord
    from service.runtime.users import User

    Spec = dict[str, Any]

VERSION = "1.0.2"  # every runc of Debian 12 and later reads it
INIT = "/sbin/docker-init"  # where Docker puts the little init in a container


# Docker's default: a user of the container may ping and may listen on port 80.
NETWORK_SYSCTLS = {"net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_unprivileged_port_start": "0"}


class SpecFacts:
    """What the host says. `runtime.facts.gather` fills it; a test may write one by hand."""

    __slots__ = (
        "apparmor",
        "available_capabilities",
        "cdi_edits",
        "cgroup_path",
        "cgroups",
        "device_rules",
        "devices",
        "domainname",
        "files",
        "hostname",
        "init_by_default",
        "init_path",
        "joined",
        "kernel",
        "linked_environment",
        "machine",
        "masked_paths",
        "network_path",
        "propagations",
        "recursive_read_only",
        "rootfs",
        "seccomp",
        "seccomp_profile",
        "shm_path",
        "sysctls",
        "user",
    )

    def __init__(self, rootfs: str, cgroups: "Cgroups", user: "User") -> None:
        self.rootfs = rootfs
        self.cgroups = cgroups
        self.user = user
        self.cgroup_path = ""  # as runc wants it: "/parent/id", or "slice:prefix:id" for the systemd driver
        self.network_path = ""  # of the container's own network namespace; "" makes a new one
        self.joined: dict[str, str] = {}  # network | ipc | pid → namespace file of the container that is joined
        self.files: dict[str, str] = {}  # /etc/hosts and the like → host path
        self.shm_path = ""  # host path of a /dev/shm to share; "" makes a private one
        self.kernel = (5, 10)
        self.machine = "x86_64"
        self.seccomp = True
        self.seccomp_profile = ""  # of a container that names none: "" (built in), "unconfined", or JSON text
        self.apparmor = ""  # the default profile's name; "" when AppArmor is off
        self.available_capabilities: Sequence[str] = capabilities.NAMES
        self.devices: list[dict[str, Any]] = []  # of HostConfig.Devices, or the host's when privileged
        self.device_rules: list[dict[str, Any]] = []  # of HostConfig.Devices
        self.hostname = ""  # where the container has none of its own: it joined another's network, or the host's names
        self.domainname = ""  # likewise
        self.cdi_edits: dict[str, Any] | None = None  # of HostConfig.DeviceRequests
        self.init_by_default = False  # of a container that does not say whether it wants one
        self.init_path = ""  # a static init on the host
        self.propagations: dict[str, tuple[str, str]] = {}  # bind source → shared | slave | private, its mount point
        self.recursive_read_only = True
        self.sysctls: frozenset[str] = frozenset(NETWORK_SYSCTLS)  # those of NETWORK_SYSCTLS that the kernel has
        self.masked_paths: Sequence[str] = security.MASKED_PATHS  # Docker's default
        self.linked_environment: Sequence[str] = ()


def build_spec(record: "ContainerRecord", facts: SpecFacts) -> "Spec":
    """The whole config.json. Raises InvalidParameter, with dockerd's sentence, for what cannot be run as asked."""
    host, config = record["HostConfig"], record["Config"]
    options = security.parse(host.get("SecurityOpt"), no_new_privileges=bool(record.get("NoNewPrivileges")))
    granted = capabilities.tweak(
        host.get("CapAdd") or (),
        host.get("CapDrop") or (),
        privileged=bool(host.get("Privileged")),
        available=facts.available_capabilities,
    )
    spec: Spec = {
        "ociVersion": VERSION,
        "process": _process(record, facts, options, granted),
        "root": {"path": facts.rootfs, "readonly": bool(host.get("ReadonlyRootfs"))},
        "mounts": _mounts(record, facts, options),
        "linux": {
            "sysctl": _sysctls(config, host, facts),
            "resources": {**resources.resources(host, facts.cgroups), "devices": _device_rules(host, facts)},
            "cgroupsPath": facts.cgroup_path,
            "namespaces": _namespaces(config, host, facts),
            "devices": facts.devices,
            "maskedPaths": _paths(host, "MaskedPaths", options, facts.masked_paths),
            "readonlyPaths": _paths(host, "ReadonlyPaths", options, security.READONLY_PATHS),
        },
    }
    if host.get("UTSMode") != "host":
        spec["hostname"] = config.get("Hostname") or facts.hostname
    propagation = mounts.root_propagation(record["Mounts"], facts.propagations)
    if propagation:
        spec["linux"]["rootfsPropagation"] = propagation
    if host.get("Annotations"):
        spec["annotations"] = dict(host["Annotations"])
    profile = _seccomp(host, options, granted, facts)
    if profile:
        spec["linux"]["seccomp"] = profile
    if facts.cdi_edits:
        from service.runtime import cdi

        brought = (*(point["Destination"] for point in record["Mounts"]), *(host.get("Tmpfs") or ()))
        cdi.apply(spec, facts.cdi_edits, frozenset(brought))
    return spec


def _process(
    record: "ContainerRecord", facts: SpecFacts, options: security.SecurityOptions, granted: list[str]
) -> "dict[str, Any]":
    host, config = record["HostConfig"], record["Config"]
    terminal = bool(config.get("Tty"))
    process: dict[str, Any] = {
        "terminal": terminal,
        "user": user_of(facts.user),
        "args": _arguments(record, facts),
        "env": environment.environment(
            config.get("Env"),
            hostname=config.get("Hostname") or facts.hostname,
            terminal=terminal,
            linked=facts.linked_environment,
        ),
        "cwd": config.get("WorkingDir") or "/",
        "capabilities": capability_sets(granted, facts.user.uid),
        "rlimits": rlimits(host.get("Ulimits")),
        "oomScoreAdj": host.get("OomScoreAdj") or 0,
        "noNewPrivileges": options.no_new_privileges,
    }
    size = host.get("ConsoleSize") or (0, 0)
    if terminal and any(size):
        process["consoleSize"] = {"height": size[0], "width": size[1]}
    profile = security.apparmor_profile(host, facts.apparmor)
    if profile:
        process["apparmorProfile"] = profile
    return process


def user_of(user: "User") -> "dict[str, Any]":
    """`process.user`; the own group is among the additional ones too (CVE-2022-36109)."""
    return {"uid": user.uid, "gid": user.gid, "additionalGids": [user.gid, *user.groups]}


def capability_sets(granted: "Sequence[str]", uid: int) -> "dict[str, list[str]]":
    """`process.capabilities`: none is inheritable, and another user than root only has them as the outer bound."""
    if uid:
        return {"bounding": list(granted)}
    return {"bounding": list(granted), "effective": list(granted), "permitted": list(granted)}


def wants_init(host: "dict[str, Any]", by_default: bool) -> bool:
    """Whether the container gets a little init: only when it is the first process of its own pid namespace."""
    said = host.get("Init")
    return (by_default if said is None else bool(said)) and not host.get("PidMode")


def _arguments(record: "ContainerRecord", facts: SpecFacts) -> list[str]:
    command = [record["Path"], *record["Args"]]
    return [INIT, "--", *command] if wants_init(record["HostConfig"], facts.init_by_default) else command


def rlimits(ulimits: "Sequence[dict[str, Any]] | None") -> "list[dict[str, Any]]":
    """`--ulimit` as the user said it; -1 is unlimited.

    Nothing is added: what was not asked for is inherited, which always works, also where CAP_SYS_RESOURCE is missing.
    """
    unlimited = (1 << 64) - 1
    made = []
    for limit in ulimits or ():
        soft, hard = limit.get("Soft", 0), limit.get("Hard", 0)
        made.append(
            {
                "type": "RLIMIT_" + str(limit["Name"]).upper(),
                "soft": unlimited if soft == -1 else soft,
                "hard": unlimited if hard == -1 else hard,
            }
        )
    return made


def _mounts(record: "ContainerRecord", facts: SpecFacts, options: security.SecurityOptions) -> "list[dict[str, Any]]":
    host = record["HostConfig"]
    privileged, read_only = bool(host.get("Privileged")), bool(host.get("ReadonlyRootfs"))
    tmpfs: dict[str, str] = host.get("Tmpfs") or {}
    brought = [mounts.tmpfs(destination, words.split(",")) for destination, words in tmpfs.items()]
    for point in record["Mounts"]:
        if point["Destination"] not in tmpfs:
            brought.append(mounts.of_point(point, recursive_read_only=facts.recursive_read_only))
    user = frozenset(mount["destination"] for mount in brought)
    for destination, source in facts.files.items():
        if destination not in user:
            brought.append(mounts.bind(source, destination, writable=not read_only, propagation="rprivate"))
    if facts.shm_path and "/dev/shm" not in user:
        brought.append(mounts.bind(facts.shm_path, "/dev/shm", propagation="rprivate"))
    brought.sort(key=lambda mount: mounts.by_depth(mount["destination"]))
    taken = frozenset(mount["destination"] for mount in brought)
    listed = mounts.default_mounts(host.get("ShmSize") or 64 << 20, host.get("IpcMode") or "private", taken)
    if wants_init(host, facts.init_by_default):
        if not facts.init_path:
            raise InvalidParameter('exec: "docker-init": executable file not found in $PATH')
        listed.append(mounts.bind(facts.init_path, INIT, writable=False, recursive=False))
    listed += brought
    if read_only:
        mounts.make_read_only(listed, user)
    writable_cgroups = privileged if options.writable_cgroups is None else options.writable_cgroups
    mounts.make_writable(listed, sysfs=privileged, cgroup=writable_cgroups)
    return listed


def _namespaces(config: "dict[str, Any]", host: "dict[str, Any]", facts: SpecFacts) -> "list[dict[str, str]]":
    made = [{"type": "mount"}]
    network = host.get("NetworkMode") or ""
    if network != "host" or config.get("NetworkDisabled"):
        path = facts.joined.get("network") or facts.network_path
        made.append({"type": "network", "path": path} if path else {"type": "network"})
    for kind, field in (("uts", "UTSMode"), ("pid", "PidMode"), ("ipc", "IpcMode")):
        mode = host.get(field) or ""
        if mode == "host":
            continue
        joined = facts.joined.get(kind, "")
        if mode.startswith("container:") and not joined:
            raise InvalidParameter(f"invalid {kind.upper()} mode: {mode}")
        made.append({"type": kind, "path": joined} if joined else {"type": kind})
    private = host.get("CgroupnsMode") or ("private" if facts.cgroups.version == 2 else "host")
    if private == "private":
        made.append({"type": "cgroup"})
    return made


def _sysctls(config: "dict[str, Any]", host: "dict[str, Any]", facts: SpecFacts) -> dict[str, str]:
    made = {}
    domain = config.get("Domainname") or facts.domainname
    if domain and host.get("UTSMode") != "host":
        made["kernel.domainname"] = domain
    network = host.get("NetworkMode") or ""
    if network != "host" and not network.startswith("container:"):
        made.update((name, value) for name, value in NETWORK_SYSCTLS.items() if name in facts.sysctls)
    made.update(host.get("Sysctls") or {})
    return made


def _device_rules(host: "dict[str, Any]", facts: SpecFacts) -> "list[dict[str, Any]]":
    if host.get("Privileged"):
        return devices.every_rule()
    return [*devices.default_rules(), *facts.device_rules, *devices.rules_of(host.get("DeviceCgroupRules") or ())]


def _paths(
    host: "dict[str, Any]", field: str, options: security.SecurityOptions, default: "Sequence[str]"
) -> list[str]:
    """Masked or read-only paths: null means Docker's default (nothing when privileged), a list means just that."""
    if options.unconfined_paths:
        return []
    chosen = host.get(field)
    if chosen is not None:
        return list(chosen)
    return [] if host.get("Privileged") else list(default)


def _seccomp(
    host: "dict[str, Any]", options: security.SecurityOptions, granted: list[str], facts: SpecFacts
) -> "dict[str, Any] | None":
    own = options.seccomp
    if own == "unconfined" or (host.get("Privileged") and own in ("", "builtin")):
        return None
    if not facts.seccomp:
        if own not in ("", "builtin"):
            raise InvalidParameter("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")
        return None
    text = own or facts.seccomp_profile
    if text == "unconfined":
        return None
    if text in ("", "builtin"):
        return seccomp.default_profile(facts.machine, facts.kernel, granted)
    from service import jsontext

    try:
        profile = jsontext.loads(text)
    except ValueError as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: {error}") from error
    return seccomp.user_profile(profile, facts.machine, facts.kernel, granted)
