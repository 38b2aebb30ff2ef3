"""What the networks of running containers stand on, looked at when a service process begins.

Somebody may have deleted a bridge or flushed the packet filter (`systemctl restart nftables` does) while no process of
ours was there to see it. Cheap when all is well: a few questions to the kernel for each network that has containers.
"""

from service.engine import endpoints
from service.errors import MoorageError
from service.kernel import netlink
from service.store import networks as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from service.settings import Settings
    from service.store.database import Database


def at_start(settings: "Settings", database: "Database", log: "Callable[[str], None]") -> None:
    """Put right what is missing. What cannot be is told to `log`, and tried again by the next start of a container."""
    with netlink.Channel() as channel:
        for network_id in sorted(stored.occupied(database)):
            network = stored.find(database, network_id)
            try:
                endpoints.ensure(settings, database, channel, network)
            except (MoorageError, OSError) as error:
                log(f"network {network['Name']}: {error}")
