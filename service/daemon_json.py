"""daemon.json, dockerd's own file of settings: what of it has a meaning here is read where dockerd looks for it.

Source: docs.docker.com/reference/cli/dockerd (daemon configuration file). Keys that mean nothing here are named in the
journal, once per change of the file.
"""

from service import file_cache, journal, jsontext
from service.errors import SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class DaemonJson:
    """What the file says. Numbers are 0 where it says nothing."""

    def __init__(self, document: "dict[str, Any]") -> None:
        """Raises ValueError for a value of another type than dockerd takes."""
        self.registry_mirrors = _texts(document, "registry-mirrors")  # URLs; of Docker Hub
        self.insecure_registries = _texts(document, "insecure-registries")  # hosts, host:port, or networks
        self.downloads = _number(document, "max-concurrent-downloads")
        self.uploads = _number(document, "max-concurrent-uploads")
        self.attempts = _number(document, "max-download-attempts")


_KNOWN = frozenset(
    (
        *("registry-mirrors", "insecure-registries"),
        *("max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts"),
    )
)


def _texts(document: "dict[str, Any]", key: str) -> "list[str]":
    found = document.get(key) or []
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{key} is not a list of strings")
    return found


def _number(document: "dict[str, Any]", key: str) -> int:
    found = document.get(key) or 0
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise ValueError(f"invalid {key}: {found}")
    return found


def _parse(paths: "Sequence[str]") -> DaemonJson:
    for path in paths:
        try:
            with open(path, "rb") as file:
                content = file.read()
            document = jsontext.loads(content) if content.strip() else {}
            if not isinstance(document, dict):
                raise ValueError("not an object")
            meant = DaemonJson(document)
        except (OSError, ValueError) as error:
            raise SystemFailure(f"unable to configure the Docker daemon with file {path}: {error}") from None
        ignored = sorted(document.keys() - _KNOWN)
        if ignored:
            journal.write("info", f"{path}: without a meaning here: {', '.join(ignored)}")
        return meant
    return DaemonJson({})


_read = file_cache.kept(_parse)


def read(path: str) -> DaemonJson:
    """What the file at `path` says; nothing when there is none. Raises SystemFailure when it cannot be understood."""
    return _read([path])
