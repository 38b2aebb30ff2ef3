"""The AppArmor profile that containers run under where the kernel enforces AppArmor.

It has Docker's name and forbids what Docker's forbids (docs.docker.com/engine/security/apparmor): mounting, and writing
to what the kernel shows of itself, but for a process's own directory in /proc, `kernel/shm*` and the control groups.
"""

import os

from service import process
from service.errors import SystemFailure
from service.kernel import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.settings import Settings

DEFAULT = "docker-default"
_PARSER = "/sbin/apparmor_parser"
_KERNEL = "/sys/kernel/security/apparmor"

_PROFILE = """\
%(abi)s
%(tunables)s
profile %(name)s flags=(attach_disconnected,mediate_deleted) {
  %(base)s
  file,
  capability,
  umount,
  deny mount,

  network,
  deny network alg,

  # the host may signal the container, and so may the runtimes where they have a profile; its processes each other
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (receive) peer="%(own)s",
  signal (send,receive) peer=%(name)s,
  ptrace (trace,tracedby,read,readby) peer=%(name)s,

  # of /proc only the processes' directories and sys/kernel/shm* can be written
  deny /proc/* w,
  deny /proc/[^0-9s]** w,
  deny /proc/s[^y]** w,
  deny /proc/sy[^s]** w,
  deny /proc/sys[^/]** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/k[^e]** w,
  deny /proc/sys/kernel/{?,??,[^s]**,s[^h]**,sh[^m]**} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,

  # of /sys only the control groups
  deny /sys/[^f]** wklx,
  deny /sys/f[^s]** wklx,
  deny /sys/fs/[^c]** wklx,
  deny /sys/fs/c[^g]** wklx,
  deny /sys/fs/cg[^r]** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
"""


def supported() -> bool:
    """Whether the kernel enforces AppArmor and its parser is installed: the conditions under which Docker uses it."""
    if not os.path.isdir(_KERNEL) or not os.access(_PARSER, os.X_OK):
        return False
    try:
        return cgroup.read("/sys/module/apparmor/parameters/enabled") == "Y"
    except OSError:
        return False


def default() -> str:
    """The profile of containers that choose none; "" where the kernel has no AppArmor."""
    return DEFAULT if supported() else ""


def is_loaded(name: str, listing: str = _KERNEL + "/profiles") -> bool:
    """Whether the kernel has a profile of that name. `listing` has lines `NAME (MODE)`."""
    with open(listing, encoding="utf-8", errors="replace") as file:
        return any(line.rpartition(" (")[0] == name for line in file)


def ensure_default(settings: "Settings") -> str:
    """The default profile's name, loaded when it is missing (somebody may have unloaded it); "" without AppArmor.

    Raises SystemFailure when it cannot be loaded: a container without the profile would be weaker than it looks.
    """
    if not supported():
        return ""
    if not is_loaded(DEFAULT):
        load(settings, profile(DEFAULT))
    return DEFAULT


def load(settings: "Settings", text: str) -> None:
    """Hand a profile to the kernel. Raises SystemFailure with the parser's complaint."""
    finished = process.run([_PARSER, "-Kr"], environment=settings.environment(), input_bytes=text.encode())
    if finished.code:
        said = finished.stderr.decode("utf-8", "replace").strip()
        raise SystemFailure(f"AppArmor enabled on system but the {DEFAULT} profile could not be loaded: {said}")


def profile(name: str, macros: str = "/etc/apparmor.d") -> str:
    """The profile's text, with what the installed AppArmor provides (its ABI 3.0, its base abstraction)."""
    try:
        own = cgroup.read("/proc/self/attr/current").partition(" (")[0].strip("\0\n")
    except OSError:
        own = ""  # the module is not there to ask
    return _PROFILE % {
        "name": name,
        "own": own or "unconfined",
        "abi": "abi <abi/3.0>," if os.path.exists(macros + "/abi/3.0") else "",
        "tunables": "#include <tunables/global>" if os.path.exists(macros + "/tunables/global") else "",
        "base": "#include <abstractions/base>" if os.path.exists(macros + "/abstractions/base") else "",
    }
