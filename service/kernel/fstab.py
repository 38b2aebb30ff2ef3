"""mount(2) with options in the words of fstab(5), as Docker's local volume driver takes them.

No helper program (mount.nfs, mount.cifs) is run: what a file system needs stands in the options, `addr=` for NFS.
"""

from service.kernel import mount as kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Device(TypedDict):
        """A file system to mount: its source, its type (may be empty) and its options."""

        device: str
        type: str
        options: str


MS_SYNCHRONOUS, MS_MANDLOCK, MS_DIRSYNC = 16, 64, 128
MS_NOATIME, MS_NODIRATIME, MS_SILENT = 1024, 2048, 32768
MS_RELATIME, MS_STRICTATIME = 1 << 21, 1 << 24
_PROPAGATION = kernel.MS_SHARED | kernel.MS_PRIVATE | kernel.MS_SLAVE | kernel.MS_UNBINDABLE

# word: (flag, whether it is set; else it is cleared)
_WORDS = {
    "ro": (kernel.MS_RDONLY, True), "rw": (kernel.MS_RDONLY, False),
    "nosuid": (kernel.MS_NOSUID, True), "suid": (kernel.MS_NOSUID, False),
    "nodev": (kernel.MS_NODEV, True), "dev": (kernel.MS_NODEV, False),
    "noexec": (kernel.MS_NOEXEC, True), "exec": (kernel.MS_NOEXEC, False),
    "sync": (MS_SYNCHRONOUS, True), "async": (MS_SYNCHRONOUS, False), "dirsync": (MS_DIRSYNC, True),
    "mand": (MS_MANDLOCK, True), "nomand": (MS_MANDLOCK, False), "remount": (kernel.MS_REMOUNT, True),
    "noatime": (MS_NOATIME, True), "atime": (MS_NOATIME, False),
    "nodiratime": (MS_NODIRATIME, True), "diratime": (MS_NODIRATIME, False),
    "relatime": (MS_RELATIME, True), "norelatime": (MS_RELATIME, False),
    "strictatime": (MS_STRICTATIME, True), "nostrictatime": (MS_STRICTATIME, False),
    "bind": (kernel.MS_BIND, True), "rbind": (kernel.MS_BIND | kernel.MS_REC, True),
    **{
        prefix + word: (flag | recursive, True)
        for word, flag in (
            ("unbindable", kernel.MS_UNBINDABLE),
            ("private", kernel.MS_PRIVATE),
            ("shared", kernel.MS_SHARED),
            ("slave", kernel.MS_SLAVE),
        )
        for prefix, recursive in (("", 0), ("r", kernel.MS_REC))
    },
}  # fmt: skip


def parse(options: str) -> tuple[int, str]:
    """The flags of mount(2), and what is left for the file system itself. The last of two contrary words wins."""
    flags, data = 0, []
    for word in options.split(","):
        flag, is_set = _WORDS.get(word, (0, True))
        if not flag:
            data.append(word)
        elif is_set:
            flags |= flag
        else:
            flags &= ~flag
    return flags, ",".join(data)


def mount(wanted: "Device", target: str) -> None:
    """Mount a file system at `target`. Raises OSError.

    The kernel changes a mount's propagation, and makes a bind read-only, in calls of their own.
    """
    flags, data = parse(wanted["options"])
    plain = flags & ~_PROPAGATION
    kernel.mount(wanted["device"], target, wanted["type"], plain, data)
    try:
        if flags & _PROPAGATION:
            kernel.mount("", target, flags=flags & (_PROPAGATION | kernel.MS_REC | MS_SILENT))
        if plain & kernel.MS_BIND and plain & kernel.MS_RDONLY:
            kernel.mount("", target, flags=plain | kernel.MS_REMOUNT)
    except OSError:
        kernel.umount(target)
        raise
