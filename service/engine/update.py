"""`update`: limits and restart policy of a container, also while it runs (API: ContainerUpdate).

The order is what makes it survive `kill -9`: a mark is made, the control groups are changed, the record is stored with
the event, the mark is taken away. Whoever finds the mark makes the control groups say again what the record says.
"""

import os

from service import bell
from service.engine import events, host_config, release, resources
from service.errors import Conflict, InvalidParameter, MoorageError, NotFound
from service.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.engine.engine import Engine
    from service.model.container import Container
    from service.settings import Settings
    from service.store.database import Database

_WHEN_SET = (
    "BlkioWeight", "CpuShares", "NanoCpus", "CpuPeriod", "CpuQuota", "CpusetCpus", "CpusetMems", "Memory", "MemorySwap",
    "MemoryReservation", "CpuRealtimePeriod", "CpuRealtimeRuntime",
)  # fmt: skip
_WHEN_GIVEN = (
    "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps",
    "PidsLimit",
)  # fmt: skip
_NEVER = (
    "CgroupParent", "Devices", "DeviceCgroupRules", "DeviceRequests", "MemorySwappiness", "OomKillDisable", "Ulimits",
)  # fmt: skip


async def update(engine: "Engine", reference: str, request: "dict[str, Any]") -> list[str]:
    """Change what `request` names; the warnings. Raises InvalidParameter, NotFound, Conflict or SystemFailure.

    Nothing has changed when it raises.
    """
    asked, warnings = _understood(request)
    container_id = containers.resolve(engine.store, reference)
    # Under the lock of starts and releases alone: a stop that waits for minutes does not hold an update up.
    return warnings + await engine.thread(_update, engine.settings, engine.store, container_id, asked)


def _understood(request: "dict[str, Any]") -> "tuple[dict[str, Any], list[str]]":
    """The resources and the restart policy (None: as it is) that a request asks for, checked."""
    policy = request.get("RestartPolicy") or {}
    asked = resources.complete(request)
    asked["RestartPolicy"] = None
    if policy.get("Name"):
        asked["RestartPolicy"] = policy
        host_config.check_restart_policy({"AutoRemove": False, **asked})
        asked["RestartPolicy"] = {"Name": policy["Name"], "MaximumRetryCount": policy.get("MaximumRetryCount") or 0}
    warnings = resources.check(asked, update=True)
    if asked["PidsLimit"] is not None and asked["PidsLimit"] < 0:
        asked["PidsLimit"] = 0  # no limit
    return asked, warnings


def _update(settings: "Settings", database: "Database", container_id: str, asked: "dict[str, Any]") -> list[str]:
    from service.kernel import cgroup
    from service.runtime import resources as limits

    with release.exclusively(settings, container_id):
        container = containers.get(database, container_id)
        try:
            old = container["record"]["HostConfig"]
            if container["state"]["status"] in ("removing", "dead"):
                raise Conflict('container is marked for removal and cannot be "update"')
            new = _merged(old, asked)
            limits.resources(new, cgroup.detect())  # names a device that does not exist, also where nothing runs
            if container["state"]["status"] in ("running", "paused"):
                with _Mark(settings, container_id):
                    _apply(settings, container, old, new)
                    try:
                        _store(database, container_id, new)
                    except BaseException:
                        _tell(settings, container, old, reset=True)
                        raise
            else:
                _store(database, container_id, new)
        except MoorageError as error:
            raise type(error)(f"Cannot update container {container_id}: {error.message}") from None
    bell.ring(settings.bell)
    return [
        f"{key} cannot be updated: it stays as it is."
        for key in _NEVER
        if asked[key] not in (None, "", []) and asked[key] != old[key]
    ]


def _merged(old: "dict[str, Any]", asked: "dict[str, Any]") -> "dict[str, Any]":
    """A HostConfig with what was asked for over it (moby: container/container_unix.go UpdateContainer)."""
    for one, other, words in (
        ("NanoCpus", "CpuPeriod", "Nano CPUs cannot be updated as CPU Period"),
        ("NanoCpus", "CpuQuota", "Nano CPUs cannot be updated as CPU Quota"),
        ("CpuPeriod", "NanoCpus", "CPU Period cannot be updated as NanoCPUs"),
        ("CpuQuota", "NanoCpus", "CPU Quota cannot be updated as NanoCPUs"),
    ):
        if asked[one] > 0 and old[other] > 0:
            raise Conflict(f"Conflicting options: {words} has already been set")
    if asked["Memory"] and not asked["MemorySwap"] and asked["Memory"] > old["MemorySwap"] != -1:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    if asked["RestartPolicy"] and asked["RestartPolicy"]["Name"] != "no" and old["AutoRemove"]:
        raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
    new = dict(old)
    new.update({key: asked[key] for key in _WHEN_SET if asked[key]})
    new.update({key: asked[key] for key in _WHEN_GIVEN if asked[key] is not None})
    if asked["RestartPolicy"]:
        new["RestartPolicy"] = asked["RestartPolicy"]
    if 0 < new["MemorySwap"] < new["Memory"]:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    return new


def _store(database: "Database", container_id: str, host: "dict[str, Any]") -> None:
    with database.write():
        record = containers.get(database, container_id)["record"]
        record["HostConfig"] = host
        containers.replace_record(database, record)
        events.container(database, record, "update")


def _apply(settings: "Settings", container: "Container", old: "dict[str, Any]", new: "dict[str, Any]") -> None:
    """Change the control groups of a running container. Raises as the kernel refuses; then they are as before."""
    try:
        _tell(settings, container, new)
    except MoorageError:
        _tell(settings, container, old, reset=True)  # runc puts back what it knew, but not the absence of a limit
        raise


def _tell(settings: "Settings", container: "Container", host: "dict[str, Any]", *, reset: bool = False) -> None:
    """Set the limits of a HostConfig; with `reset` those that it does not name are taken off."""
    from service.kernel import cgroup
    from service.runtime import block_io, runc
    from service.runtime import resources as limits

    container_id, groups = container["record"]["Id"], cgroup.detect()
    known = runc.state(settings, container_id)
    if known is None or not known.alive:
        return  # it has ended: the next start reads the record
    wanted = limits.resources(host, groups)
    devices = wanted.get("blockIO") or {}
    told = {**wanted, "blockIO": {key: value for key, value in devices.items() if key not in block_io.DEVICES}}
    if reset:
        bare = limits.without_limits(groups)
        told = {**told, **{key: {**values, **(told.get(key) or {})} for key, values in bare.items()}}
    directory = known.cgroup_paths.get("blkio" if groups.version == 1 else "", "")
    if directory:
        block_io.change(directory, groups.version, devices)
    try:
        runc.update(settings, container_id, told)
    except (Conflict, NotFound):
        if known.alive:
            raise
    else:
        if directory:
            block_io.change(directory, groups.version, devices)  # runc has set those of the start once more


def finish(settings: "Settings", container: "Container") -> None:
    """Bring the control groups in line with the record when an update was killed before its end."""
    container_id, host = container["record"]["Id"], container["record"]["HostConfig"]
    if os.path.exists(_Mark.path(settings, container_id)):
        with release.exclusively(settings, container_id, wait=False), _Mark(settings, container_id):
            _tell(settings, container, host, reset=True)


class _Mark:
    """`with _Mark(settings, id):` a file in the container's run directory says that its limits are being changed."""

    def __init__(self, settings: "Settings", container_id: str) -> None:
        self.file = self.path(settings, container_id)

    @staticmethod
    def path(settings: "Settings", container_id: str) -> str:
        return settings.container_run(container_id) + "/updating"

    def __enter__(self) -> None:
        os.close(os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def __exit__(self, kind: "type[BaseException] | None", error: object, trace: object) -> None:
        if kind is None or issubclass(kind, MoorageError):  # else nobody knows what the control groups say now
            os.unlink(self.file)
