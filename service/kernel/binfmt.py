"""binfmt_misc: which machines' programs run here by emulation (`man 5 binfmt.d`; kernel: admin-guide/binfmt-misc.rst).

Handlers are told apart by the names that qemu's packages give them in Debian and elsewhere: qemu-aarch64 and the like.
"""

import os

FOLDER = "/proc/sys/fs/binfmt_misc"
_ARCHITECTURES = {  # by qemu's name: Go's, with a variant
    "aarch64": ("arm64", ""),
    "arm": ("arm", "v7"),
    "i386": ("386", ""),
    "loongarch64": ("loong64", ""),
    "mips64el": ("mips64le", ""),
    "mips64": ("mips64", ""),
    "ppc64le": ("ppc64le", ""),
    "riscv64": ("riscv64", ""),
    "s390x": ("s390x", ""),
    "x86_64": ("amd64", ""),
}


def emulated(folder: str = FOLDER) -> "list[tuple[str, str]]":
    """(architecture, variant) in Go's names of those that have a handler; none where binfmt_misc is not mounted."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    found = []
    for name in names:
        known = _ARCHITECTURES.get(name.removeprefix("qemu-")) if name.startswith("qemu-") else None
        if known is None:
            continue
        try:
            with open(f"{folder}/{name}", "rb") as file:
                enabled = file.read().startswith(b"enabled")
        except OSError:
            continue  # just taken away
        if enabled:
            found.append(known)
    return found
