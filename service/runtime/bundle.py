"""The OCI bundle: a directory in the run tree that holds a container's config.json."""

import os

from service import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.settings import Settings


def path(settings: "Settings", container_id: str) -> str:
    """Where the bundle is, or would be."""
    return settings.container_run(container_id) + "/bundle"


def write(settings: "Settings", container_id: str, spec: "dict[str, Any]") -> str:
    """Write config.json (whole or not at all) and return the bundle's directory, made when it is missing.

    Mode 0700 / 0600: the environment of a container may hold secrets.
    """
    directory = path(settings, container_id)
    os.makedirs(os.path.dirname(directory), 0o711, exist_ok=True)
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass  # of an earlier start, or of one that was killed half way
    write_json(directory + "/config.json", spec)
    return directory


def write_json(target: str, value: "Any") -> None:
    """A file of JSON that a reader sees whole or not at all. It lives in the run tree, so it is not synced to disk."""
    fd = os.open(target + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        left = memoryview(jsontext.dump_bytes(value))
        while left:
            left = left[os.write(fd, left) :]
    finally:
        os.close(fd)
    os.replace(target + ".new", target)


def read(settings: "Settings", container_id: str) -> "dict[str, Any]":
    """The config of the present or last start. Raises FileNotFoundError."""
    with open(path(settings, container_id) + "/config.json", "rb") as file:
        loaded: dict[str, Any] = jsontext.loads(file.read())
    return loaded
