"""A `busybox:latest` image made from Debian's busybox-static, with no registry and no network.

`make run`, the tests and the benchmarks load this one. The same busybox gives the same bytes, so the image id is
stable: times, owners and the order of entries are fixed. Standard library only; run as a program it takes one
argument, the archive to write.
"""

import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

BUSYBOX = "/bin/busybox"  # where Debian's busybox-static puts it
CREATED = "2024-01-01T00:00:00Z"
_TIME = 1704067200  # CREATED in seconds since 1970

_FOLDERS = (
    *(("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("home", 0o755), ("proc", 0o755), ("root", 0o700)),
    *(("sys", 0o755), ("tmp", 0o1777), ("usr", 0o755), ("usr/bin", 0o755), ("usr/sbin", 0o755), ("var", 0o755)),
    *(("var/spool", 0o755), ("var/tmp", 0o1777), ("var/www", 0o755)),
)
_USERS = (
    *(
        ("root", 0, 0, "/root", "/bin/sh"),
        ("daemon", 1, 1, "/usr/sbin", "/bin/false"),
        ("bin", 2, 2, "/bin", "/bin/false"),
    ),
    *(("sys", 3, 3, "/dev", "/bin/false"), ("mail", 8, 8, "/var/spool/mail", "/bin/false")),
    *(("www-data", 33, 33, "/var/www", "/bin/false"), ("operator", 37, 37, "/var", "/bin/false")),
    ("nobody", 65534, 65534, "/home", "/bin/false"),
)
_GROUPS = (
    *(
        ("root", 0, ""),
        ("daemon", 1, ""),
        ("bin", 2, ""),
        ("sys", 3, ""),
        ("adm", 4, ""),
        ("tty", 5, ""),
        ("disk", 6, ""),
    ),
    *(("mail", 8, ""), ("wheel", 10, "root"), ("audio", 29, ""), ("www-data", 33, ""), ("operator", 37, "")),
    *(("users", 100, ""), ("nobody", 65534, "")),
)
_FILES = {
    "etc/passwd": "".join(f"{name}:x:{uid}:{gid}:{name}:{home}:{shell}\n" for name, uid, gid, home, shell in _USERS),
    "etc/group": "".join(f"{name}:x:{gid}:{members}\n" for name, gid, members in _GROUPS),
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


def layer() -> bytes:
    """The one layer of the image, as an uncompressed tar.

    Raises FileNotFoundError when busybox-static is not installed.
    """
    with open(BUSYBOX, "rb") as program:
        busybox = program.read()
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, mode in _FOLDERS:
            tar.addfile(_entry(name, mode, tarfile.DIRTYPE))
        tar.addfile(_entry("bin/busybox", 0o755, size=len(busybox)), io.BytesIO(busybox))
        for applet in sorted(set(applets) - {"busybox"}):
            tar.addfile(_entry(f"bin/{applet}", 0o755, tarfile.LNKTYPE, link="bin/busybox"))
        tar.addfile(_entry("usr/bin/env", 0o777, tarfile.SYMTYPE, link="../../bin/env"))
        for name, text in _FILES.items():
            tar.addfile(_entry(name, 0o644, size=len(text)), io.BytesIO(text.encode()))
    return written.getvalue()


def _entry(name: str, mode: int, kind: bytes = tarfile.REGTYPE, *, size: int = 0, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.size, entry.linkname, entry.mtime = mode, kind, size, link, _TIME
    entry.uname = entry.gname = "root"
    return entry


def architecture() -> str:
    """This machine's processor in Go's words, which image configurations use."""
    return {"x86_64": "amd64", "aarch64": "arm64", "i686": "386"}.get(platform.machine(), platform.machine())


def write_archive(
    destination: str, layers: Sequence[bytes], *, tags: Sequence[str], config: Mapping[str, Any] | None = None
) -> str:
    """Write a docker-archive (what `docker save` makes and `docker load` takes) and return the image id, `sha256:…`.

    `layers`: uncompressed tars, lowest first. `config`: the `config` object of the image (Cmd, Env, …).
    The file appears at `destination` complete or not at all.
    """
    digests = [hashlib.sha256(data).hexdigest() for data in layers]
    document = {
        "architecture": architecture(),
        "config": dict(config or {}),
        "created": CREATED,
        "history": [{"created": CREATED, "created_by": f"layer {digest[:12]}"} for digest in digests],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    config_text = json.dumps(document, sort_keys=True).encode()
    image_id = hashlib.sha256(config_text).hexdigest()
    manifest = [
        {
            "Config": f"{image_id}.json",
            "RepoTags": list(tags) or None,
            "Layers": [f"{digest}/layer.tar" for digest in digests],
        }
    ]
    unfinished = f"{destination}.{os.getpid()}"
    with tarfile.open(unfinished, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in (
            *((f"{digest}/layer.tar", data) for digest, data in zip(digests, layers, strict=True)),
            (f"{image_id}.json", config_text),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            tar.addfile(_entry(name, 0o644, size=len(data)), io.BytesIO(data))
    os.replace(unfinished, destination)
    return f"sha256:{image_id}"


def write_busybox(destination: str, tag: str = "busybox:latest") -> str:
    """Write the busybox image as a docker-archive and return its id. Raises as `layer` does."""
    config = {"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}
    return write_archive(destination, [layer()], tags=[tag], config=config)


if __name__ == "__main__":
    sys.stdout.write(write_busybox(sys.argv[1]) + "\n")
