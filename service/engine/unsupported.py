"""What a request asks for and does not get yet: named in `Warnings` of the create, never passed over in silence."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def warnings(host: "dict[str, Any]") -> list[str]:
    """One sentence per thing that is kept and shown by inspect, but has no effect."""
    found = []
    for key, what in (
        ("Cgroup", "Control groups of other containers are"),
        ("CpuCount", "CPU counts (of Windows) are"),
    ):
        if host.get(key):
            found.append(f"{what} not supported yet and have no effect.")
    return found
