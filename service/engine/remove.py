"""`rm`: a container that does not run goes, with its files (API: ContainerDelete). Light: the exit hook does `--rm`."""

from service import bell
from service.engine import events, release, volumes
from service.errors import Conflict, SystemFailure
from service.kernel.tree import remove_tree
from service.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.model.container import Container
    from service.settings import Settings
    from service.store.database import Database


def remove(
    settings: "Settings", database: "Database", container_id: str, reference: str, *, anonymous_volumes: bool
) -> None:
    """Remove a container that does not run. Blocking. Raises NotFound, Conflict when it runs, and SystemFailure when
    something cannot be removed: it is `dead` then, and can be removed again. `reference`: as the client names it."""
    with release.exclusively(settings, container_id):
        container = containers.get(database, container_id)
        if container["state"]["status"] in ("running", "paused", "restarting"):
            raise Conflict(running_text(container, reference))
        try:
            release.leftovers(settings, database, container)
            files_and_record(settings, database, container, anonymous_volumes=anonymous_volumes)
        except (OSError, SystemFailure) as error:
            message = f'cannot remove container "{reference}": {error}'
            with database.write():
                containers.set_state(database, container_id, status="dead", error=str(error)[:4096])
            bell.ring(settings.bell)
            raise SystemFailure(message) from error
    bell.ring(settings.bell)


def running_text(container: "Container", reference: str) -> str:
    """dockerd's sentence for a container that must be stopped before it can go."""
    status = container["state"]["status"]
    shown = f'cannot remove container "{reference}": container is {status}'
    if status == "paused":
        return f"{shown} and must be unpaused first"
    return f"{shown}: stop the container before removing or force remove"


def in_progress_text(reference: str) -> str:
    """dockerd's sentence for the second of two removals."""
    return f"removal of container {reference} is already in progress"


def files_and_record(
    settings: "Settings", database: "Database", container: "Container", *, anonymous_volumes: bool
) -> None:
    """The removal proper, under `release.exclusively`, of a container that holds nothing.

    The row goes last: a crash in between leaves a container marked `removing`, which reconcile removes.
    """
    from service.content import rootfs
    from service.runtime import exits

    record = container["record"]
    container_id = record["Id"]
    anonymous = {mount["Name"] for mount in record["Mounts"] if mount.get("Anonymous")}
    if not (anonymous_volumes or record.get("VolumesGo")):
        anonymous.clear()
    with database.write():
        containers.set_state(database, container_id, status="removing")
        if anonymous and not record.get("VolumesGo"):  # whoever ends a removal that was killed has to know
            containers.replace_record(database, {**record, "VolumesGo": True})
    rootfs.remove(settings, container_id)
    exits.forget(settings, container_id)
    remove_tree(settings.container_root(container_id))
    with volumes.exclusively(settings, anonymous):
        with database.write():
            containers.delete(database, container_id)
            gone = [name for name in sorted(anonymous) if volumes.unregister(database, name)]
            events.container(database, record, "destroy")
        drivers = {mount["Name"]: mount["Driver"] for mount in record["Mounts"] if mount["Type"] == "volume"}
        for name in gone:
            volumes.discard(settings, name, drivers[name])
    remove_tree(settings.container_run(container_id))
    remove_tree(settings.container_run(container_id) + ".lock")
