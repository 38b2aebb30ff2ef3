"""Which networks a container asked to be on. A room of its own: a list on a cold process needs no more than this."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.model.container import ContainerRecord

PREDEFINED = {"bridge": "bridge", "host": "host", "none": "null"}  # name: driver


def mode_of(record: "ContainerRecord") -> str:
    """The container's network mode, `default` read as what it means: bridge."""
    mode = record["HostConfig"].get("NetworkMode") or "default"
    return "bridge" if mode == "default" else mode


def asked_networks(record: "ContainerRecord") -> "dict[str, dict[str, Any]]":
    """The networks that a container asked to be on, with what it asked of each."""
    mode = mode_of(record)
    if mode.startswith("container:"):
        return {}
    asked = {
        ("bridge" if name == "default" else name): value or {} for name, value in record["EndpointsConfig"].items()
    }
    asked.setdefault(mode, {})
    return asked


def has_names(record: "ContainerRecord") -> bool:
    """Whether it is on a network whose containers find each other by name: one that a user made."""
    return any(name not in PREDEFINED for name in asked_networks(record))
