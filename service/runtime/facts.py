"""Looking up on the host what `runtime.spec` must know about it."""

import os

from service import daemon_json
from service import settings as settings_module
from service.errors import SystemFailure
from service.kernel import cgroup
from service.runtime import apparmor, capabilities, devices, mounts, runc, security, spec, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from service.kernel.cgroup import Cgroups
    from service.model.container import ContainerRecord
    from service.settings import Settings


def gather(
    settings: "Settings",
    record: "ContainerRecord",
    *,
    rootfs: str,
    netns_path: str = "",
    joined: "dict[str, int] | None" = None,
    shm_path: str = "",
    linked_environment: "Sequence[str]" = (),
) -> spec.SpecFacts:
    """All facts for one container.

    `rootfs` is mounted; `netns_path` is its own namespace ("" with the host's); `joined` names the first process of the
    container whose network, ipc or pid namespace is shared (`network` | `ipc` | `pid` → pid); `shm_path` the /dev/shm
    that is shared. Raises InvalidParameter for an unknown user or device, SystemFailure when the host lacks a thing.
    """
    host, config = record["HostConfig"], record["Config"]
    groups = cgroup.detect()
    facts = spec.SpecFacts(
        rootfs, groups, users.resolve_user(rootfs, config.get("User") or "", host.get("GroupAdd") or ())
    )
    facts.network_path = netns_path
    facts.joined = {
        kind: f"/proc/{pid}/ns/{'net' if kind == 'network' else kind}" for kind, pid in (joined or {}).items()
    }
    facts.shm_path = shm_path or ("/dev/shm" if host.get("IpcMode") == "host" else "")
    facts.linked_environment = linked_environment
    facts.files = own_files(settings, record)
    laid_down = daemon_json.readable(settings.daemon_json)
    facts.cgroup_path = cgroup_path(settings, groups, record["Id"], host.get("CgroupParent") or laid_down.cgroup_parent)
    system = os.uname()
    facts.machine, facts.kernel = system.machine, kernel_version(system.release)
    facts.seccomp = seccomp_supported()
    facts.seccomp_profile = _seccomp_profile(laid_down.seccomp_profile)
    facts.apparmor = apparmor.ensure_default(settings)
    facts.available_capabilities = capabilities.bounding_set()
    if any(not point["RW"] and point["Type"] != "tmpfs" for point in record["Mounts"]):
        # mount_setattr(2), and a runtime that uses it
        facts.recursive_read_only = facts.kernel >= (5, 12) and "rro" in runc.mount_options(settings, record["Id"])
    facts.sysctls = frozenset(
        name for name in spec.NETWORK_SYSCTLS if os.path.exists("/proc/sys/" + name.replace(".", "/"))
    )
    facts.masked_paths = security.masked_paths()
    facts.init_by_default = host.get("Init") is None and laid_down.init
    if spec.wants_init(host, facts.init_by_default):
        facts.init_path = init_path()
    _devices(facts, host)
    if host.get("DeviceRequests"):
        from service.runtime import cdi

        registry = cdi.Registry(settings.cdi_directories)
        try:
            hook = settings_module.find_program(cdi.NVIDIA_HOOK)
        except FileNotFoundError:
            hook = ""
        facts.cdi_edits = cdi.requested(host["DeviceRequests"], registry, hook)
    facts.propagations = _propagations(settings, record)
    return facts


def own_files(settings: "Settings", record: "ContainerRecord") -> dict[str, str]:
    """The files that Docker provides for a container, or that its user has put over them: destination → host path.

    A container that shares another's network has that one's: `record` is the other's then.
    """
    root = settings.container_root(record["Id"])
    found = {point["Destination"]: point["Source"] for point in record["Mounts"]}
    provided = {f"/etc/{name}": f"{root}/{name}" for name in ("resolv.conf", "hostname", "hosts")}
    files = {place: found.get(place, path) for place, path in provided.items()}
    return {place: path for place, path in files.items() if os.path.exists(path)}


def seccomp_supported() -> bool:
    """Whether the kernel has seccomp's filters."""
    return os.path.exists("/proc/sys/kernel/seccomp/actions_avail")


def _seccomp_profile(said: str) -> str:
    """The text of the profile that daemon.json names, or what it says instead of one. Raises SystemFailure."""
    if said in ("", "unconfined"):
        return said
    try:
        with open(said, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise SystemFailure(f"opening seccomp profile ({said}) failed: {error}") from None


def uses_systemd(settings: "Settings", groups: "Cgroups") -> bool:
    """Whether systemd makes the control groups: on v2 when it is PID 1, unless the setting says otherwise."""
    asked = settings.cgroup_driver or daemon_json.readable(settings.daemon_json).cgroup_driver
    if asked:
        return asked == "systemd"
    return groups.version == 2 and os.path.isdir("/run/systemd/system")


def cgroup_path(settings: "Settings", groups: "Cgroups", container_id: str, parent: str = "") -> str:
    """`linux.cgroupsPath`, in the form that the driver reads."""
    if uses_systemd(settings, groups):
        slice_name = parent or (settings.cgroup_parent if settings.cgroup_parent.endswith(".slice") else "system.slice")
        return f"{slice_name}:moorage:{container_id}"
    # Made absolute and free of `..` here: runc would take a relative one as below its own group.
    return os.path.normpath(f"/{parent or settings.cgroup_parent}/{container_id}").replace("//", "/")


def kernel_version(release: str) -> tuple[int, int]:
    """`6.1.0-23-amd64` → (6, 1)."""
    major, _, rest = release.partition(".")
    digits = ""
    for character in rest:
        if not character.isdigit():
            break
        digits += character
    return int(major), int(digits or 0)


# Statically linked ones: the container's own libraries need not fit the host's.
_INITS = ("docker-init", "tini-static", "catatonit")


def init_path() -> str:
    """A static init for `--init` on this host, "" when none is installed."""
    for name in _INITS:
        try:
            return settings_module.find_program(name)
        except FileNotFoundError:
            continue
    podmans = "/usr/libexec/podman/catatonit"
    return podmans if os.access(podmans, os.X_OK) else ""


def _devices(facts: spec.SpecFacts, host: "dict[str, Any]") -> None:
    privileged = bool(host.get("Privileged"))
    if privileged:
        facts.devices = devices.host_devices()
    for mapping in host.get("Devices") or ():
        source = mapping.get("PathOnHost") or ""
        target = mapping.get("PathInContainer") or source
        if privileged and source == target:
            continue
        found, rules = devices.mapped(source, target, devices.parse_access(mapping.get("CgroupPermissions") or ""))
        facts.devices += found
        facts.device_rules += rules


def _propagations(settings: "Settings", record: "ContainerRecord") -> dict[str, tuple[str, str]]:
    """How the mounts of those bind sources propagate that ask for more than privacy."""
    from service.kernel import mount

    found = {}
    for point in record["Mounts"]:
        if point["Type"] == "bind" and point["Propagation"].removeprefix("r") in ("shared", "slave"):
            entry = mount.mount_of(point["Source"])
            kind = "shared" if entry.shared else "slave" if entry.slave else "private"
            if kind == "private" and mounts.touches(point["Source"], (settings.root, settings.run)):
                kind = mounts.OURS
            found[point["Source"]] = (kind, entry.point)
    return found
