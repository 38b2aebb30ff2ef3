"""Duties: what must be done for a container at certain times while it runs, whether or not a service is alive.

The keeper (`service/keeper.py`) does them. To add one: name it in `wanted` (decided at each start of a container), and
give its class in `begin`. A duty is one object for one start of one container:

    Duty(keeper, container)     the container runs and needs it; also after the keeper itself was killed and came back,
                                so what must survive stands in the store or in the container's directories
    .changed(status)            the container was paused ("paused") or goes on ("running")
    .end()                      it runs no more: cancel timers, watches, children. Nothing is called after that

When and why it is called is its own affair: `keeper.loop` (kernel.loop) has timers, inotify watches, readable
descriptors and children; all callbacks run in one thread, so none may block for long. `keeper.settings` and
`keeper.store` are there too; a commit of this store does not wait for the disk. What raises is logged, and the
keeper goes on.
"""

from service.engine import health, log_config, network_mode
from service.network import ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from service.keeper import Keeper
    from service.model.container import Container, ContainerRecord
    from service.model.network import Port

    class Duty(Protocol):
        """One duty for one start of one container."""

        def changed(self, status: str) -> None:
            """It was paused, or goes on."""

        def end(self) -> None:
            """It runs no more."""


def wanted(record: "ContainerRecord", published: "Iterable[Port]") -> str:
    """The names of the duties that this container needs while it runs, with blanks between; "" needs no keeper.

    `published`: its ports, as of this start.
    """
    names = []
    if health.command(record["Config"]) is not None:
        names.append("health")
    if log_config.limits(record) is not None:
        names.append("log")
    if network_mode.has_names(record):
        names.append("names")
    if any(ports.is_listened(port["HostIP"]) for port in published):
        names.append("relay")
    return " ".join(names)


def begin(name: str, keeper: "Keeper", container: "Container") -> "Duty":
    """Take up a duty, in the keeper."""
    if name == "health":
        from service.engine.probes import Probes

        return Probes(keeper, container)
    if name == "log":
        from service.engine.log_keeping import LogKeeping

        return LogKeeping(keeper, container)
    if name == "names":
        from service.engine.name_service import Names

        return Names(keeper, container)
    if name == "relay":
        from service.engine.relay import Relay

        return Relay(keeper, container)
    raise ValueError(f"no duty is called {name!r}")
