"""An NFS server: the kernel's own, version 4, told by hand what it exports. For a kernel that is one's own (user-mode
Linux): there is one such server per network namespace, and a host may have its own.

What rpc.mountd would answer when the kernel asks is said beforehand: who the client is, what a file handle's number
stands for, and what is exported there. Sources: Documentation/filesystems/nfs/rpc-cache.rst,
net/sunrpc/svcauth_unix.c, fs/nfsd/export.c of Linux.
"""

import subprocess
import time
from pathlib import Path

_CONTROL = Path("/proc/fs/nfsd")
_CACHES = Path("/proc/net/rpc")
_DAY = 86400
_INSECURE_PORT, _NO_SUBTREE_CHECK, _HAS_NUMBER = 0x2, 0x400, 0x2000  # NFSEXP_…; root is not squashed
_BY_NUMBER = 1  # FSID_NUM: the file handle names the export by a number; 0 is the root of version 4


def is_possible() -> bool:
    """Whether this kernel is user-mode Linux and has the server."""
    return "User Mode Linux" in Path("/proc/cpuinfo").read_text() and _CONTROL.exists()


def serve(folder: Path) -> None:
    """Export a folder (not of hostfs, nor an overlay) to this machine, as the root of everything. Raises OSError.

    Its clients are noted in a new folder beside it.
    """
    if not (_CONTROL / "threads").exists():
        subprocess.run(["mount", "-t", "nfsd", "nfsd", str(_CONTROL)], check=True)
    until = int(time.time()) + _DAY
    flags = _INSECURE_PORT | _NO_SUBTREE_CHECK | _HAS_NUMBER
    for name, line in (
        ("auth.unix.ip", f"nfsd 127.0.0.1 {until} here"),
        ("nfsd.export", f"here {folder} {until} {flags} 65534 65534 0"),
        ("nfsd.fh", f"here {_BY_NUMBER} \\x00000000 {until} {folder}"),
    ):
        _tell(_CACHES / name / "channel", line)
    clients = folder.with_name(folder.name + "-clients")
    clients.mkdir()
    for name, line in (
        *(("nfsv4recoverydir", str(clients)), ("versions", "-2 -3 +4"), ("portlist", "tcp 2049"), ("threads", "2")),
        ("v4_end_grace", "Y"),  # else it waits 90 s for those who may come back
    ):
        _tell(_CONTROL / name, line)


def stop() -> None:
    """End the server."""
    _tell(_CONTROL / "threads", "0")


def _tell(path: Path, line: str) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(line.encode() + b"\n")
