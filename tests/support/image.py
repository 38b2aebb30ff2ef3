"""Images for tests, made on this machine: the same busybox that `make run` loads, and archives of chosen files."""

import io
import os
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from install import busybox_image

_FOLDER = os.path.join(tempfile.gettempdir(), "moorage-test-images")


@cache
def busybox(tag: str = "busybox:latest") -> str:
    """The path of a docker-archive of busybox under `tag`, made once for all test runs of a user."""
    os.makedirs(_FOLDER, mode=0o700, exist_ok=True)
    built = os.stat(busybox_image.BUSYBOX)
    name = f"busybox-{built.st_size}-{int(built.st_mtime)}-{tag.replace('/', '_').replace(':', '_')}.tar"
    path = os.path.join(_FOLDER, name)
    if not os.path.exists(path):
        busybox_image.write_busybox(path, tag)
    return path


def layer(files: Mapping[str, bytes | str], *, mode: int = 0o644) -> bytes:
    """An uncompressed layer of regular files, name → content."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size, entry.mtime = mode, len(data), 1704067200
            tar.addfile(entry, io.BytesIO(data))
    return written.getvalue()


def archive(
    destination: str, layers: Sequence[bytes], *, tags: Sequence[str] = (), config: Mapping[str, Any] | None = None
) -> str:
    """Write a docker-archive of `layers` at `destination`; the image id."""
    return busybox_image.write_archive(destination, layers, tags=tags, config=config)
