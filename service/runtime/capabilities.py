"""Linux capabilities as Docker deals them out: its default set, CapAdd and CapDrop, `ALL`, privileged."""

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ALL = "ALL"

# include/uapi/linux/capability.h, in the order of their bits
NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip

# Docker's documented default (docs.docker.com: "Runtime privilege and Linux capabilities")
DEFAULT = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
)  # fmt: skip


def normalize(names: "Sequence[str]", available: "Sequence[str]" = NAMES) -> list[str]:
    """Names as the kernel's header spells them: `net_admin` → `CAP_NET_ADMIN`; `ALL` (or `CAP_ALL`) is kept as `ALL`.

    Raises InvalidParameter for a name that does not exist, or that the kernel or our own bounding set lacks.
    """
    result = []
    for name in names:
        upper = name.upper()
        if upper in ("ALL", "CAP_ALL"):
            result.append(ALL)
            continue
        if not upper.startswith("CAP_"):
            upper = "CAP_" + upper
        if upper not in NAMES:
            raise InvalidParameter(f'unknown capability: "{upper}"')
        if upper not in available:
            raise InvalidParameter(f'capability not supported by your kernel or not available in the current environment: "{name}"')  # fmt: skip  # noqa: E501 - dockerd's sentence, one piece
        result.append(upper)
    return result


def tweak(
    add: "Sequence[str]", drop: "Sequence[str]", *, privileged: bool = False, available: "Sequence[str]" = NAMES
) -> list[str]:
    """The capabilities of a container. Raises InvalidParameter as `normalize` does.

    `drop ALL` starts from nothing, `add ALL` from everything; a name that is both added and dropped is added when
    everything was dropped, else gone (moby: the CapAdd/CapDrop rules of `docker run`).
    """
    if privileged:
        return [name for name in NAMES if name in available]
    dropped = normalize(drop, available)
    added = normalize(add, available)
    if ALL in dropped:
        base: Sequence[str] = ()
        dropped = []
    elif ALL in added:
        base = NAMES
    else:
        base = DEFAULT
    if ALL in added:
        base = NAMES
    chosen = [name for name in base if name not in dropped and name in available]
    return chosen + [
        name for name in dict.fromkeys(added) if name != ALL and name not in chosen and name not in dropped
    ]


def bounding_set() -> list[str]:
    """The capabilities that this process may hand on, read from /proc/self/status (CapBnd)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapBnd:"):
                mask = int(line.split()[1], 16)
                return [name for bit, name in enumerate(NAMES) if mask >> bit & 1]
    return list(NAMES)
