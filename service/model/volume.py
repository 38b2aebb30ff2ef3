"""A volume as stored."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Volume(TypedDict):
        """Docker's Volume, less what is computed when it is asked for (Mountpoint, Scope, UsageData)."""

        Name: str
        Driver: str
        CreatedAt: str  # RFC 3339
        Labels: dict[str, str]
        Options: dict[str, str]
        anonymous: bool  # made for a container that named none: the one kind that `prune` takes from API 1.42
