"""A container's mounts as the OCI config lists them: Docker's default ones, the files it provides, the user's.

Pure: what had to be looked up on the host is in the arguments.
"""

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from service.model.container import MountPoint

    OciMount = dict[str, Any]

_DEFAULT: "tuple[tuple[str, str, str, tuple[str, ...]], ...]" = (
    ("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    ("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    (
        "/dev/pts", "devpts", "devpts",
        ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    ),
    ("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
    ("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", "nosuid", "noexec", "nodev")),
    ("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    ("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777")),
)  # fmt: skip

# What a read-only root leaves writable: the runtime's own file systems, which hold nothing of the image.
_STAYS_WRITABLE = frozenset(("/proc", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"))
OURS = "ours"
PROPAGATIONS = frozenset(("private", "rprivate", "shared", "rshared", "slave", "rslave"))


def default_mounts(shm_size: int, ipc_mode: str, taken: "frozenset[str]") -> "list[OciMount]":
    """Docker's own mounts but for the `taken` destinations; all under /dev go when the user brings his own /dev."""
    kept = []
    for destination, kind, source, options in _DEFAULT:
        if destination in taken or ("/dev" in taken and destination.startswith("/dev/")):
            continue
        if destination == "/dev/shm" and ipc_mode == "none":
            continue
        size = [f"size={shm_size}"] if destination == "/dev/shm" else []
        kept.append({"destination": destination, "type": kind, "source": source, "options": [*options, *size]})
    return kept


def touches(path: str, roots: "Sequence[str]") -> bool:
    """Whether a path holds one of `roots` or lies in one."""
    inside = path.rstrip("/") + "/"
    return any(inside.startswith(root.rstrip("/") + "/") or (root + "/").startswith(inside) for root in roots)


def by_depth(destination: str) -> int:
    """The key by which mounts are ordered: a parent before what lies in it."""
    return len([part for part in destination.split("/") if part])


def bind(
    source: str,
    destination: str,
    *,
    writable: bool = True,
    propagation: str = "",
    recursive: bool = True,
    recursive_read_only: bool = False,
) -> "OciMount":
    """A bind mount; `recursive_read_only` makes the mounts below a read-only one read-only as well."""
    options = ["rbind" if recursive else "bind"]
    if not writable:
        options.append("rro" if recursive_read_only else "ro")
    if propagation:
        options.append(propagation)
    return {"destination": destination, "type": "bind", "source": source, "options": options}


def tmpfs(destination: str, options: "Sequence[str]" = ()) -> "OciMount":
    """A tmpfs with Docker's careful defaults, each of which an option given later takes back (`exec` over `noexec`).

    Raises InvalidParameter for an option that tmpfs does not have (dockerd: `invalid tmpfs option`).
    """
    merged: list[str] = []
    for option in ["noexec", "nosuid", "nodev", "rprivate", *options]:
        if not option:
            continue
        name = option.partition("=")[0]
        if name not in _TMPFS_FLAGS and not (name in _TMPFS_VALUES and "=" in option):
            raise InvalidParameter(f'invalid tmpfs option "{name}"')
        replaces = _TMPFS_FLAGS.get(name, name)
        merged = [old for old in merged if _TMPFS_FLAGS.get(old.partition("=")[0], old.partition("=")[0]) != replaces]
        merged.append(option)
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": merged}


# flag → the question that it answers; of two answers to one question the later counts
_TMPFS_FLAGS = {
    "defaults": "defaults",
    **dict.fromkeys(("ro", "rw"), "ro"),
    **dict.fromkeys(("suid", "nosuid"), "suid"),
    **dict.fromkeys(("dev", "nodev"), "dev"),
    **dict.fromkeys(("exec", "noexec"), "exec"),
    **dict.fromkeys(("sync", "async"), "sync"),
    **dict.fromkeys(("dirsync",), "dirsync"),
    **dict.fromkeys(("mand", "nomand"), "mand"),
    **dict.fromkeys(("atime", "noatime", "relatime", "norelatime", "strictatime", "nostrictatime"), "atime"),
    **dict.fromkeys(("diratime", "nodiratime"), "diratime"),
    **dict.fromkeys(("bind", "rbind"), "bind"),
    **dict.fromkeys(
        ("private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"), "propagation"
    ),
}
_TMPFS_VALUES = frozenset(("mode", "uid", "gid", "size", "nr_inodes", "nr_blocks", "mpol"))


def of_point(point: "MountPoint", *, recursive_read_only: bool) -> "OciMount":
    """A resolved mount of the record. `recursive_read_only`: whether kernel and runtime can do it.

    Raises InvalidParameter when it was asked for and cannot be done: nobody may believe that it was.
    """
    if point["Type"] == "tmpfs":
        return tmpfs(point["Destination"], [*(point.get("Options") or ()), *([] if point["RW"] else ["ro"])])
    below = point.get("ReadOnlyBelow", recursive_read_only)
    if below and not recursive_read_only:
        raise InvalidParameter("rro is not supported by this kernel and runtime (kernel 5.12 and runc 1.1 have it)")
    return bind(
        point["Source"],
        point["Destination"],
        writable=point["RW"],
        propagation=point["Propagation"],
        recursive=not point.get("NonRecursive"),
        recursive_read_only=below,
    )


def root_propagation(points: "Sequence[MountPoint]", sources: "Mapping[str, tuple[str, str]]") -> str:
    """The propagation that the root must have so that the binds' works; "" when it does not matter.

    `sources` says of a host path whether its mount is `shared`, `slave` or `private`, and where that is mounted; OURS
    is a private one that got its propagation without asking. Raises InvalidParameter when a bind asks for more than its
    source's mount gives.
    """
    wanted = ""
    for point in points:
        propagation = point["Propagation"].removeprefix("r")
        if point["Type"] != "bind" or propagation not in ("shared", "slave"):
            continue
        kind, mounted = sources.get(point["Source"], ("private", "/"))
        if kind == OURS:
            continue
        enough = ("shared",) if propagation == "shared" else ("shared", "slave")
        if kind not in enough:
            asked = " or ".join(enough)
            raise InvalidParameter(f"path {point['Source']} is mounted on {mounted} but it is not a {asked} mount")
        wanted = "shared" if propagation == "shared" else wanted or "rslave"
    return wanted


def make_read_only(listed: "list[OciMount]", user: "frozenset[str]") -> None:
    """With a read-only root, the files that Docker provides are read-only as well."""
    for mount in listed:
        if mount["destination"] in _STAYS_WRITABLE or mount["destination"] in user:
            continue
        if "ro" not in mount["options"]:
            mount["options"].append("ro")


def make_writable(listed: "list[OciMount]", *, sysfs: bool, cgroup: bool) -> None:
    """Undo the read-only default of /sys (privileged) and of the control groups (privileged, writable-cgroups)."""
    for mount in listed:
        if (sysfs and mount["destination"] == "/sys") or (cgroup and mount["type"] == "cgroup"):
            mount["options"] = [option for option in mount["options"] if option != "ro"]
