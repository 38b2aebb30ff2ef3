"""mount(2), umount2(2) and the mount table. Convenience is beyond the scope of this module."""

import os

from service.kernel.libc import check, libc

# include/uapi/linux/mount.h
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
# include/linux/fs.h
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). `kind` is the file system's type, `data` its options. Raises OSError naming source and target."""
    result = libc().mount(
        os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, os.fsencode(data) or None
    )
    check(result, source, target)


def umount(target: str, flags: int = UMOUNT_NOFOLLOW) -> None:
    """umount2(2). Raises OSError naming the target."""
    check(libc().umount2(os.fsencode(target), flags), target)


def detach(target: str) -> bool:
    """Take away what is mounted last at `target`, even while it is used. False when nothing is mounted there."""
    import errno

    try:
        umount(target, MNT_DETACH | UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return False
        raise
    return True


class MountEntry:
    """One line of /proc/self/mountinfo (proc_pid_mountinfo(5)), its octal escapes undone."""

    __slots__ = ("fields", "kind", "mount_id", "options", "point", "root", "source", "super_options")

    def __init__(self, line: str) -> None:
        words = line.split(" ")
        dash = words.index("-", 6)
        self.mount_id = int(words[0])
        self.root = unescape(words[3])
        self.point = unescape(words[4])
        self.options = words[5].split(",")
        self.fields = words[6:dash]  # shared:N, master:N, propagate_from:N, unbindable
        self.kind = words[dash + 1]
        self.source = unescape(words[dash + 2])
        self.super_options = words[dash + 3].split(",")

    @property
    def shared(self) -> bool:
        """Mounts made below it appear in its peers, and theirs here."""
        return any(field.startswith("shared:") for field in self.fields)

    @property
    def slave(self) -> bool:
        """Mounts made below its master appear here, not the other way."""
        return any(field.startswith("master:") for field in self.fields)


def unescape(text: str) -> str:
    """A path of the mount table with blank, tab, newline and backslash as themselves."""
    if "\\" not in text:
        return text
    for code, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, plain)
    return text


def table(pid: "int | str" = "self") -> list[MountEntry]:
    """The mounts that a process sees, in the order they were made."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [MountEntry(line.rstrip("\n")) for line in file]


def is_mounted(path: str) -> bool:
    """Whether something is mounted exactly at `path` (an absolute path without symbolic links)."""
    return any(entry.point == path for entry in table())


def mount_of(path: str) -> MountEntry:
    """The mount on which `path` (which exists) lies: the last one made at its longest parent that is a mount point."""
    real = os.path.realpath(path)
    best: MountEntry | None = None
    for entry in table():
        inside = real == entry.point or real.startswith(entry.point.rstrip("/") + "/")
        if inside and (best is None or len(entry.point) >= len(best.point)):
            best = entry
    if best is None:
        raise FileNotFoundError(f"no mount holds {path}")
    return best
