"""Control groups: which kind the host has, which controllers, where a process is, and what the files say.

Three kinds are met: v2 alone (`unified`), v1 alone, and hybrid (v1 controllers with an empty v2 tree beside them, which
to a runtime is v1). Paths given and returned are as /proc/PID/cgroup writes them: absolute inside the hierarchy.
"""

import os

ROOT = "/sys/fs/cgroup"
_CGROUP2_SUPER_MAGIC = 0x63677270


class Cgroups:
    """What the host offers. `version` 1 or 2; `controllers` by v1's or v2's own names; `mounts` v1 name → directory."""

    __slots__ = ("controllers", "mounts", "root", "unified", "version")

    def __init__(self, version: int, controllers: "frozenset[str]", mounts: dict[str, str], unified: str) -> None:
        self.version = version
        self.controllers = controllers
        self.mounts = mounts
        self.unified = unified  # the v2 tree: everything (version 2), bookkeeping only (hybrid), or ""

    def has(self, controller: str) -> bool:
        """Whether limits of this controller are enforced here."""
        return controller in self.controllers

    def directory(self, controller: str, path: str) -> str:
        """The directory of a cgroup `path`, seen by one controller. Raises KeyError when a v1 controller is absent."""
        base = self.unified if self.version == 2 else self.mounts[controller]
        return base + ("" if path == "/" else path)

    def trees(self) -> list[str]:
        """Every hierarchy's top directory: a process is somewhere in each of them."""
        return list(dict.fromkeys([*self.mounts.values(), *([self.unified] if self.unified else [])]))


_present: "list[Cgroups]" = []


def detect() -> Cgroups:
    """What is mounted under /sys/fs/cgroup; looked at once per process: with many containers the table is long."""
    if not _present:
        _present.append(_look())
    return _present[0]


def _look() -> Cgroups:
    from service.kernel.mount import table

    mounts: dict[str, str] = {}
    unified = ""
    for entry in table():
        if not (entry.point == ROOT or entry.point.startswith(ROOT + "/")):
            continue
        if entry.kind == "cgroup2":
            unified = unified or entry.point
        elif entry.kind == "cgroup":
            for option in entry.super_options:
                if option.startswith("name=") or option in _V1_CONTROLLERS:
                    mounts[option] = entry.point
    if unified == ROOT:
        with open(ROOT + "/cgroup.controllers", encoding="ascii") as file:
            return Cgroups(2, frozenset(file.read().split()), {}, ROOT)
    return Cgroups(1, frozenset(name for name in mounts if "=" not in name), mounts, unified)


_V1_CONTROLLERS = frozenset(
    {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "net_cls", "blkio", "perf_event", "net_prio"}
    | {"hugetlb", "pids", "rdma", "misc"}
)


def paths_of(pid: "int | str" = "self") -> dict[str, str]:
    """Where a process is: controller (or `name=…`; "" for v2) → path. Raises FileNotFoundError when it is gone."""
    found = {}
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, names, path = line.rstrip("\n").split(":", 2)
            for name in names.split(","):
                found[name] = path
    return found


def enter(groups: Cgroups, path: str, pid: int) -> bool:
    """Move a process (all its threads) out of whatever unit it is in, into the cgroup `path`, made where it is missing.

    A hierarchy in whose root it already is belongs to no unit and is left alone: the kernel needs about 10 ms for the
    first move. False when that is so of all that a service manager looks at (`name=systemd`, v2). On v1 a new cpuset
    has no CPUs and cannot be entered; it is passed over. Raises OSError when the manager's hierarchy refuses.
    """
    present = paths_of(pid)
    if all(present.get(name, "/") == "/" for name in ("", "name=systemd")):
        return False
    hierarchies = {**groups.mounts, **({"": groups.unified} if groups.unified else {})}
    for name, tree in hierarchies.items():
        if name == "cpuset" or present.get(name, "/") == "/":
            continue
        try:
            os.makedirs(tree + path, exist_ok=True)
            write(tree + path + "/cgroup.procs", str(pid))
        except OSError:
            if name in ("", "name=systemd"):
                raise  # there, staying would mean to die with the unit; elsewhere only the books are less tidy
    return True


def remove(groups: Cgroups, path: str) -> bool:
    """Remove the cgroup `path` and the empty groups below it from every hierarchy. False when processes hold one."""
    if path in ("", "/"):
        raise ValueError("the root of a hierarchy cannot be removed")
    clean = True
    for tree in groups.trees():
        clean &= _remove_tree(tree + path)
    return clean


def _remove_tree(directory: str) -> bool:
    try:
        os.rmdir(directory)
        return True
    except FileNotFoundError:
        return True
    except OSError:
        pass  # it has children, or processes: the children are tried, then it once more
    try:
        children = [entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return True
    for child in children:
        _remove_tree(child)
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def processes(directory: str) -> list[int]:
    """The pids in a cgroup directory and all below it; empty when it is gone."""
    found: list[int] = []
    for folder, _, files in os.walk(directory):
        if "cgroup.procs" in files:
            try:
                found += [int(line) for line in read(folder + "/cgroup.procs").split()]
            except (FileNotFoundError, OSError):
                continue  # removed meanwhile, or a threaded group: its processes stand in the parent
    return found


def read(path: str) -> str:
    """What a control file says, without the last newline. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(fd, 65536):
            pieces.append(piece)
        return b"".join(pieces).decode().rstrip("\n")
    finally:
        os.close(fd)


def write(path: str, value: str) -> None:
    """Write a control file in one write(2), as the kernel asks. Raises OSError naming the path."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def read_number(path: str, absent: int = 0) -> int:
    """A control file that holds one number; `absent` when there is none, -1 for `max`."""
    try:
        text = read(path)
    except OSError:
        return absent
    return -1 if text == "max" else int(text)


def read_table(path: str) -> dict[str, int]:
    """A control file of `name number` lines (memory.stat, cpu.stat, memory.events); empty when there is none."""
    try:
        text = read(path)
    except OSError:
        return {}
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.isdigit():
            found[name] = int(value)
    return found
