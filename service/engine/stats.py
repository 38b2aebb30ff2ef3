"""`stats`: what a container uses, once or once a second (API: ContainerStats)."""

from service import timestamps
from service.errors import NotFound
from service.store import containers, networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import Any

    from service.engine.engine import Engine
    from service.model.container import Container
    from service.runtime.usage import Groups

PERIOD = 1.0  # seconds between two samples
_NETWORK = (
    ("rx_bytes", 0), ("rx_packets", 1), ("rx_errors", 2), ("rx_dropped", 3),
    ("tx_bytes", 8), ("tx_packets", 9), ("tx_errors", 10), ("tx_dropped", 11),
)  # fmt: skip


class Samples:
    """The samples of one container for one client: each knows the one before it (`preread`, `precpu_stats`)."""

    def __init__(self, engine: "Engine", reference: str) -> None:
        """Raises NotFound."""
        self.engine = engine
        self.container_id = containers.resolve(engine.store, reference)
        self._groups: Groups = {}
        self._generation = 0  # of the start whose groups these are
        self._before: dict[str, Any] | None = None

    async def once(self, *, two: bool) -> "dict[str, Any]":
        """One sample; with `two`, the later of two a second apart, so that rates can be told from it.

        What does not run is answered at once, with nothing in it.
        """
        import asyncio

        first = await self.engine.thread(self.take)
        if not two or self._before is None:
            return first
        await asyncio.sleep(PERIOD)
        return await self.engine.thread(self.take)

    async def every_second(self) -> "AsyncGenerator[dict[str, Any], None]":
        """A sample now and every second from now on, until the container is removed; while it does not run, empty."""
        import asyncio

        now = asyncio.get_running_loop().time
        due = now()
        while True:
            try:
                document = await self.engine.thread(self.take)
            except NotFound:
                return
            yield document
            due = max(due + PERIOD, now())
            await asyncio.sleep(due - now())

    def take(self) -> "dict[str, Any]":
        """A sample now. Blocking, some tenths of a millisecond. Raises NotFound when the container is gone."""
        from service.runtime import usage

        container = containers.get(self.engine.store, self.container_id)
        counted = self._counted(container)
        document = {
            "id": self.container_id,
            "name": f"/{container['record']['Name']}",
            "os_type": "linux",
            "read": timestamps.now() if counted else timestamps.NEVER,
            "preread": self._before["read"] if self._before else timestamps.NEVER,
            "num_procs": 0,
            "storage_stats": {},
            "cpu_stats": usage.cpu_stats(),
            "precpu_stats": self._before["cpu_stats"] if self._before else usage.cpu_stats(),
            "memory_stats": {},
            "pids_stats": {},
            "blkio_stats": usage.blkio_stats(None),
            **(counted or {}),
        }
        self._before = document if counted else None
        return document

    def _counted(self, container: "Container") -> "dict[str, Any] | None":
        """What was counted of a container that runs; None when it does not, or has ended just now."""
        from service.runtime import usage

        state = container["state"]
        if state["status"] not in ("running", "paused"):
            return None
        try:
            if self._generation != state["generation"]:
                self._groups = usage.groups_of(self.engine.settings, self.container_id, state["pid"])
                self._generation = state["generation"]
            carried = self._networks(container)
        except (FileNotFoundError, ProcessLookupError):
            return None
        counted = usage.sample(self._groups)  # after the networks: while the groups are there, the pid is its
        if counted is None:
            return None
        spent, online = usage.system_cpu()
        counted["cpu_stats"] |= {"system_cpu_usage": spent, "online_cpus": online}
        return {**counted, "networks": carried} if carried else counted

    def _networks(self, container: "Container") -> "dict[str, dict[str, int]]":
        """By interface of the container's endpoints (those it made itself, and `lo`, are not shown)."""
        from service.kernel import netns

        owner = _owner_of_network(self.engine, container)
        shown = [e["Interface"] for e in networks.endpoints_of(self.engine.store, owner) if e["Interface"]]
        if not shown:
            return {}
        found = netns.counters(container["state"]["pid"])
        return {
            name: {field: found[name][column] for field, column in _NETWORK} for name in sorted(shown) if name in found
        }


def _owner_of_network(engine: "Engine", container: "Container") -> str:
    """The container whose network it uses: itself, or the last one along `container:…`."""
    from service.engine.network_mode import mode_of

    seen: set[str] = set()
    while (mode := mode_of(container["record"])).startswith("container:"):
        seen.add(container["record"]["Id"])
        container = containers.find(engine.store, mode.partition(":")[2])
        if container["record"]["Id"] in seen:
            break
    return container["record"]["Id"]
