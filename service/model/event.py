"""An event as stored; the wire's older keys (status, id, from) are added by `compat_api`."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Actor(TypedDict):
        """The object it happened to."""

        ID: str
        Attributes: dict[str, str]

    class Event(TypedDict):
        """One thing that happened."""

        seq: int  # its place in the order of all events
        time_ns: int
        Type: str  # container, image, network, volume, …
        Action: str  # start, die, "exec_create: /bin/sh", …
        Actor: Actor
