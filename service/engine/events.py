"""Events: recorded by the verbs in their own transaction, followed by clients (API: SystemEvents)."""

from service import timestamps
from service.store import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.model.container import ContainerRecord
    from service.store.database import Database


def record(database: "Database", kind: str, action: str, actor_id: str, attributes: "Mapping[str, str]") -> None:
    """Record that something happened now. Call inside the transaction that makes it true; ring the bell after it."""
    events.append(database, timestamps.now_ns(), kind, action, actor_id, attributes)


def container(
    database: "Database", about: "ContainerRecord", action: str, more: "Mapping[str, str] | None" = None
) -> None:
    """Record an event of a container: its labels, image and name are the attributes, and what `more` adds.

    Of a build's own containers nothing is told.
    """
    if about.get("Hidden"):
        return
    attributes = {
        **(about["Config"].get("Labels") or {}),
        "image": about["Config"].get("Image") or "",
        "name": about["Name"],
        **(more or {}),
    }
    record(database, "container", action, about["Id"], attributes)


def volumes(database: "Database", about: "ContainerRecord", action: str) -> None:
    """Record that the volumes of a container are mounted, or not any more."""
    for mount in about["Mounts"]:
        if mount["Type"] != "volume":
            continue
        attributes = {"driver": mount["Driver"], "container": about["Id"]}
        if action == "mount":
            attributes["destination"] = mount["Destination"]
            attributes["read/write"] = "true" if mount["RW"] else "false"
            attributes["propagation"] = mount["Propagation"]
        record(database, "volume", action, mount["Name"], attributes)
