"""Setting right what a crash, a kill or a reboot left: run when a service process begins, before its first answer.

Cheap when all is well: one query, and a look at /proc for every container that is said to run. What repairs is imported
where something is to be repaired: the first answer of every process waits for this module.
"""

import os

from service import bell
from service.engine import exec_exit
from service.errors import MoorageError, NotFound
from service.kernel import pidfd
from service.store import containers, events, images, meta, networks
from service.store import volumes as stored_volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.engine.engine import Engine
    from service.model.container import Container
    from service.settings import Settings


def at_start(engine: "Engine") -> None:
    """Bring the store and the machine together. Blocking."""
    settings, store = engine.settings, engine.store
    this_boot = pidfd.boot_id()
    rebooted = meta.get(store, "boot_id") != this_boot
    for container_id in containers.ids_needing_care(store):
        try:
            _container(engine, containers.get(store, container_id), this_boot)
        except NotFound:
            continue  # an exit hook removed it meanwhile
        except BlockingIOError:
            continue  # an exit hook or the boot unit is at it right now
        except (MoorageError, OSError) as error:
            engine.log(f"reconcile: container {container_id}: {error}")
    exec_exit.reconcile(settings, store)
    if networks.occupied(store):
        from service.engine import network_repair

        network_repair.at_start(settings, store, engine.log)
    _unregistered(engine)
    if os.path.exists(settings.run + "/volume-mounts"):
        from service.engine import volume_drivers

        volume_drivers.settle(settings, store)
    left = rebooted or images.unfinished(store) or _of_builds(settings)
    if left:  # first: whoever looks for layers and blobs that nobody needs forgets the leases of the dead
        from service.engine import build, commit, solve

        commit.reconcile(engine)
        build.reconcile(engine)
        solve.reconcile(engine)
    if images.unflushed(store) or rebooted:
        from service.engine import flushing

        flushing.at_start(engine, rebooted=rebooted)
    if left:
        from service.engine import layers

        layers.reconcile(engine)
    if events.overdue(store):
        with store.write():
            events.trim(store)
    if rebooted:
        with store.write():
            meta.put(store, "boot_id", this_boot)
        bell.ring(settings.bell)
    if containers.kept(store):  # the keeper may have been killed
        from service.engine import keeping

        keeping.ensure(settings, store)


def _container(engine: "Engine", container: "Container", this_boot: str) -> None:
    from service.runtime import runc

    settings, store = engine.settings, engine.store
    record, state = container["record"], container["state"]
    container_id, status = record["Id"], state["status"]
    if status in ("running", "paused"):
        if state["boot_id"] != this_boot:
            from service.engine import exit as ended

            ended.record(settings, store, container_id, state["generation"], unknown=True)
            _finish(engine, container_id)
        elif not pidfd.is_running(state["conmon_pid"], "conmon", state["conmon_start"]):
            _unwatched(engine, container)
        elif runc.awaits_start(settings, container_id):
            _begin(engine, container)
        elif os.path.exists(settings.container_run(container_id) + "/updating"):
            from service.engine import update

            update.finish(settings, container)
        if os.path.exists(settings.container_run(container_id) + "/pausing"):
            from service.engine import pause

            pause.settle(settings, store, container_id)
        if os.path.exists(settings.container_run(container_id) + "/joining"):
            from service.engine import membership

            membership.finish(settings, store, containers.get(store, container_id))
        return
    if status == "restarting" and state["boot_id"] != this_boot:
        with store.write():
            containers.set_state(store, container_id, status="exited")
    if status == "removing":
        from service.engine import release, remove

        with release.exclusively(settings, container_id, wait=False):
            release.leftovers(settings, store, container)
            remove.files_and_record(
                settings,
                store,
                containers.get(store, container_id),
                anonymous_volumes=record["HostConfig"]["AutoRemove"],
            )
    elif state["holds"] or state["kept"]:
        with store.write():
            containers.set_state(store, container_id, kept=False)
        _finish(engine, container_id)


def _of_builds(settings: "Settings") -> bool:
    """Whether directories of builds are there: at the start of a process, of one that was killed."""
    return any(name.startswith("build-") for name in os.listdir(settings.root + "/tmp"))


def _finish(engine: "Engine", container_id: str) -> None:
    from service.engine import exit as ended
    from service.engine import release

    with release.exclusively(engine.settings, container_id, wait=False):
        pass
    ended.finish(engine.settings, engine.store, container_id)


def _unwatched(engine: "Engine", container: "Container") -> None:
    """conmon is gone: whatever still runs is ended, and recorded."""
    from service.engine import exit as ended
    from service.engine import release
    from service.runtime import runc

    settings, store = engine.settings, engine.store
    container_id = container["record"]["Id"]
    with release.exclusively(settings, container_id, wait=False):
        runc.delete(settings, container_id, force=True)
    ended.record(settings, store, container_id, container["state"]["generation"])
    ended.finish(settings, store, container_id)


def _begin(engine: "Engine", container: "Container") -> None:
    """A launch was killed before its last step, `runc start`; that it runs was recorded and told."""
    from service.engine import launch, release

    with release.exclusively(engine.settings, container["record"]["Id"], wait=False):
        try:
            launch.complete(engine.settings, container["record"]["Id"])
            return
        except MoorageError as error:
            engine.log(f"reconcile: start of {container['record']['Id']}: {error}")
    _unwatched(engine, container)


def _unregistered(engine: "Engine") -> None:
    """Directories of containers and volumes that were never registered: a create was killed in the middle."""
    settings = engine.settings
    if set(os.listdir(settings.root + "/volumes")) - stored_volumes.names(engine.store):
        from service.engine import volumes

        volumes.discard_unregistered(settings, engine.store)
    known = set(containers.all_ids(engine.store))
    for folder in (settings.root + "/containers", settings.run + "/containers"):
        for name in os.listdir(folder):
            if name.removesuffix(".lock") not in known:
                from service.content import rootfs
                from service.kernel.tree import remove_tree

                _unmount_below(f"{folder}/{name}")  # what a new container's volumes were being filled from
                rootfs.remove(settings, name.removesuffix(".lock"))
                remove_tree(f"{folder}/{name}")


def _unmount_below(folder: str) -> None:
    from service.kernel import mount

    for entry in reversed([*mount.table()]):
        if entry.point.startswith(folder + "/"):
            mount.detach(entry.point)
