"""`diff`: what a container has changed in its image's files (API: ContainerChanges)."""

import os

from service.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.engine.engine import Engine


def changes(engine: "Engine", reference: str) -> "list[dict[str, Any]] | None":
    """The changes, sorted by path; None when there are none. Blocking. Raises NotFound."""
    from service.content import diff, rootfs

    record = containers.find(engine.store, reference)["record"]
    upper = engine.settings.container_root(record["Id"]) + "/diff"
    found = diff.changes(upper, rootfs.lower_paths(engine.settings, record["Layers"]))
    return [{"Path": _text(path), "Kind": kind} for path, kind in found] or None


def _text(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")
