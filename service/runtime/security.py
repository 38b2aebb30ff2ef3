"""`--security-opt`: what each of its words asks for."""

import os

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# What is masked and what is read-only of /proc and /sys, in the order in which inspect shows it.
MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_CPUS = "/sys/devices/system/cpu"

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


class SecurityOptions:
    """`seccomp`: "" (the engine's default), "builtin", "unconfined", or a profile's JSON text.

    `apparmor`: a profile's name or "".
    `writable_cgroups` is None when nothing was said about it.
    """

    __slots__ = ("apparmor", "labels", "no_new_privileges", "seccomp", "unconfined_paths", "writable_cgroups")

    def __init__(self) -> None:
        self.seccomp = ""
        self.apparmor = ""
        self.labels: list[str] = []
        self.no_new_privileges = False
        self.unconfined_paths = False
        self.writable_cgroups: bool | None = None


def masked_paths(cpus: str = _CPUS) -> list[str]:
    """Docker's default: with the counters of each CPU that betray what other tenants do (GHSA-6fw5-f8r9-fgfm)."""
    numbers = sorted(int(name[3:]) for name in os.listdir(cpus) if name[:3] == "cpu" and name[3:].isdigit())
    counters = [f"{cpus}/cpu{number}/thermal_throttle" for number in numbers]
    return [*MASKED_PATHS, *(path for path in counters if os.path.exists(path))]


def parse(options: "Sequence[str] | None", *, no_new_privileges: bool = False) -> SecurityOptions:
    """HostConfig.SecurityOpt understood. Raises InvalidParameter with dockerd's sentences.

    `no_new_privileges`: what is so where they say nothing of it.
    """
    made = SecurityOptions()
    made.no_new_privileges = no_new_privileges
    for option in options or ():
        if option == "no-new-privileges":
            made.no_new_privileges = True
        elif option == "writable-cgroups":
            made.writable_cgroups = True
        elif option == "disable":
            made.labels.append("disable")
        else:
            _apply(made, option)
    return made


def apparmor_profile(host: "dict[str, Any]", default: str) -> str:
    """The AppArmor profile of a container with this HostConfig. `default` is empty where the kernel has no AppArmor."""
    if not default:
        return ""
    return parse(host.get("SecurityOpt")).apparmor or ("unconfined" if host.get("Privileged") else default)


def _apply(made: SecurityOptions, option: str) -> None:
    name, separator, value = option.partition("=")
    if not separator:
        name, separator, value = option.partition(":")
    if not separator:
        raise InvalidParameter(f'invalid --security-opt 1: "{option}"')
    if name == "seccomp":
        made.seccomp = value
    elif name == "apparmor":
        made.apparmor = value
    elif name == "label":
        made.labels.append(value)
    elif name == "systempaths" and value == "unconfined":
        made.unconfined_paths = True
    elif name in ("no-new-privileges", "writable-cgroups") and value in _TRUE | _FALSE:
        if name == "no-new-privileges":
            made.no_new_privileges = value in _TRUE
        else:
            made.writable_cgroups = value in _TRUE
    else:
        raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
