"""What a request asks for and does not get yet: named in `Warnings` of the create, never passed over in silence."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def warnings(host: "dict[str, Any]") -> list[str]:
    """One sentence per thing that is kept and shown by inspect, but has no effect."""
    found = []
    options = host["LogConfig"]["Config"]
    for key in sorted(options):
        found.append(f"Log option {key} has no effect yet: the log is kept whole.")
    for key, what in (
        ("Links", "Links are"),
        ("Cgroup", "Control groups of other containers are"),
    ):
        if host.get(key):
            found.append(f"{what} not supported yet and have no effect.")
    for mount in host.get("Mounts") or ():
        if (mount.get("VolumeOptions") or {}).get("Subpath"):
            found.append(f"Volume subpaths are not supported yet: {mount['Target']} shows the whole volume.")
    return found
