"""`rm`: a container that does not run goes, with its files (API: ContainerDelete). Light: the exit hook does `--rm`."""

from service import bell
from service.engine import events, release, volumes
from service.errors import Conflict, MoorageError, NotFound, SystemFailure
from service.kernel.tree import remove_tree
from service.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.model.container import Container
    from service.settings import Settings
    from service.store.database import Database


def remove(settings: "Settings", database: "Database", container_id: str, *, anonymous_volumes: bool) -> None:
    """Remove a container that does not run. Blocking. Raises NotFound, Conflict when it runs."""
    with release.exclusively(settings, container_id):
        container = containers.get(database, container_id)
        if container["state"]["status"] in ("running", "paused", "restarting"):
            raise Conflict(running_text(container))
        release.leftovers(settings, database, container)
        files_and_record(settings, database, container, anonymous_volumes=anonymous_volumes)
    bell.ring(settings.bell)


def running_text(container: "Container") -> str:
    """dockerd's sentence for a container that must be stopped before it can go."""
    status = container["state"]["status"]
    shown = f'cannot remove container "/{container["record"]["Name"]}": container is {status}: '
    if status == "paused":
        return shown.removesuffix(": ") + " and must be unpaused first"
    return f"{shown}stop the container before removing or force remove"


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
    with database.write():
        containers.set_state(database, container_id, status="removing")
        used = containers.volumes_of(database, container_id)
    rootfs.remove(settings, container_id)
    exits.forget(settings, container_id)
    remove_tree(settings.container_root(container_id))
    with database.write():
        containers.delete(database, container_id)
        events.container(database, record, "destroy")
    if anonymous_volumes:
        _anonymous(settings, database, used)
    remove_tree(settings.container_run(container_id))
    remove_tree(settings.container_run(container_id) + ".lock")


def _anonymous(settings: "Settings", database: "Database", names: list[str]) -> None:
    from service.store import volumes as stored

    for name in names:
        volume = stored.get(database, name)
        if volume is None or not volume["anonymous"]:
            continue
        try:
            volumes.remove(settings, database, name)
        except (Conflict, NotFound):
            continue  # another container uses it, or it went already
        except (MoorageError, OSError) as error:
            raise SystemFailure(f"remove volume {name}: {error}") from error
