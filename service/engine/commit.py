"""`commit`: a container's changes become an image (API: ImageCommit)."""

import copy

from service import bell
from service.engine import changes, child_image, container_config, events, pause
from service.engine.layers import Lease
from service.errors import Conflict, MoorageError
from service.store import containers
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from service.content.reference import Reference
    from service.engine.engine import Engine
    from service.model.container import ContainerRecord

PAUSED = "paused:"  # and a container's id: a lease that says who is to let it go on


async def commit(
    engine: "Engine",
    reference: str,
    target: "Reference | None",
    *,
    config: "dict[str, Any] | None" = None,
    instructions: "Sequence[str]" = (),
    pause: bool = True,
    author: str = "",
    comment: str = "",
) -> str:
    """Make an image of a container; its id. `config` (ContainerConfig) goes over the container's own, `instructions`
    of a Dockerfile over both; a running container stands still meanwhile if `pause` says so.

    Raises NotFound, Conflict for a container that is going, InvalidParameter for bad instructions.
    """
    container = containers.find(engine.store, reference)
    record, status = container["record"], container["state"]["status"]
    if status == "dead":
        raise Conflict(f"You cannot commit container {record['Id']} which is Dead")
    if status == "removing":
        raise Conflict(f"You cannot commit container {record['Id']} which is being removed")
    async with Lease(engine) as lease:
        paused = pause and status == "running" and await _pause(engine, lease, record["Id"])
        try:
            step = child_image.Step(
                merged(record, config, instructions),
                record["Config"],
                container_id=record["Id"],
                author=author,
                comment=comment,
            )
            return await engine.thread(_commit, engine, lease, record, step, target)
        finally:
            if paused:
                await _unpause(engine, record["Id"])


async def _pause(engine: "Engine", lease: Lease, container_id: str) -> bool:
    """Whether it stands still now because of us. As in dockerd, one that cannot be paused is committed as it is."""
    await engine.thread(lease.hold, PAUSED + container_id)
    try:
        await pause.pause(engine, container_id)
    except MoorageError:
        return False
    return True


async def _unpause(engine: "Engine", container_id: str) -> None:
    try:
        await pause.unpause(engine, container_id)
    except MoorageError:
        pass  # somebody else has let it go on, or ended it


def merged(
    record: "ContainerRecord", config: "dict[str, Any] | None", instructions: "Sequence[str]"
) -> "dict[str, Any]":
    """The new image's config. Raises InvalidParameter."""
    own = record["Config"]
    begun = copy.deepcopy(own if config is None else config)
    changes.apply(begun, instructions)
    return container_config.merge(begun, own)


def _commit(
    engine: "Engine", lease: Lease, record: "ContainerRecord", step: child_image.Step, target: "Reference | None"
) -> str:
    base = child_image.Base(engine, lease, record["Image"])
    layer = base.layer(engine.settings.container_root(record["Id"]) + "/diff")
    image = child_image.create(base, layer, step, target)
    with engine.store.write():
        events.container(
            engine.store,
            record,
            "commit",
            {"comment": step.comment, "imageID": image.id, "imageRef": target.familiar if target else ""},
        )
    bell.ring(engine.settings.bell)
    return image.id


def reconcile(engine: "Engine") -> None:
    """At start: let the containers go on that a commit held still when it was killed. Blocking."""
    for name in store.abandoned(engine.store):
        if name.startswith(PAUSED):
            try:
                pause.resume(engine.settings, engine.store, name.removeprefix(PAUSED))
            except MoorageError:
                continue  # it is gone, or goes on
