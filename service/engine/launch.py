"""The launch: from a created container to a running process, for the service, the exit hook and the boot unit.

Synchronous and light to import: the service calls it in a thread. The order is what makes it survive `kill -9`:
`holds` is committed before the first mount, so whoever finds a container that holds things but does not run releases
them; `running` is committed before `runc start`, so an exit hook can never be faster than the record of the start.
"""

import os

from service import bell, timestamps
from service.engine import duty, events, keeping, release, remove
from service.errors import Conflict, InvalidParameter, MoorageError, NotModified, SystemFailure
from service.kernel import pidfd
from service.store import containers, health

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from service.model.container import Container, ContainerRecord
    from service.settings import Settings
    from service.store.database import Database

# what a start by hand (or by the boot) forgets: earlier stops, and how often a policy has restarted it
FRESH = {"stopped_by_user": 0, "restart_canceled": 0, "restart_count": 0, "backoff_ms": 0}
HOOK = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "exit_hook.py")


def start(
    settings: "Settings",
    database: "Database",
    container_id: str,
    *,
    before_start: "Callable[[], None] | None" = None,
    restarted: bool = False,
) -> None:
    """Start a container. `before_start` runs when its streams can be attached to and nothing was written yet.

    `restarted`: by its restart policy, which has waited long enough; nothing is done if that is not (any more) so.
    Raises NotFound, NotModified (it runs already, or its restart policy is about to start it), Conflict (it is paused
    or being removed), or whatever reason there is for the start to fail; then all is released again and the reason
    stands in the container's state.
    """
    with release.exclusively(settings, container_id):
        container = containers.get(database, container_id)
        if restarted and (container["state"]["status"] != "restarting" or container["state"]["restart_canceled"]):
            return
        if not restarted:
            _guard(container)
        release.leftovers(settings, database, container)
        try:
            _launch(settings, database, container, before_start, restarted)
        except BaseException as error:
            _failed(settings, database, container, error)
            raise
    bell.ring(settings.bell)
    keeping.ensure(settings, database)


def _guard(container: "Container") -> None:
    state, record = container["state"], container["record"]
    if state["status"] in ("running", "restarting"):
        raise NotModified("container already started")
    if state["status"] == "paused":
        raise Conflict("cannot start a paused container, try unpause instead")
    if state["status"] in ("removing", "dead"):
        raise Conflict(f"container {record['Id']} is marked for removal and cannot be started")


def _launch(
    settings: "Settings",
    database: "Database",
    container: "Container",
    before_start: "Callable[[], None] | None",
    restarted: bool,
) -> None:
    from service.content import rootfs
    from service.engine import endpoints, specification
    from service.runtime import conmon, runc

    record = container["record"]
    container_id = record["Id"]
    generation = container["state"]["generation"] + 1
    with database.write():
        containers.set_state(database, container_id, holds=1, generation=generation, boot_id=pidfd.boot_id(), error="")
        plan = endpoints.prepare(settings, database, record)
    try:
        os.makedirs(settings.container_run(container_id), 0o711, exist_ok=True)
        merged = rootfs.mount(settings, container_id, record["Layers"])
        _mount_sources(settings, database, record)
        endpoints.open_namespace(plan)
        endpoints.write_files(settings, plan)
        creation = conmon.create(
            settings,
            container_id,
            bundle=specification.write(settings, database, record, plan, merged),
            generation=generation,
            log_path=log_path(settings, record),
            terminal=record["Config"]["Tty"],
            open_stdin=record["Config"]["OpenStdin"],
            stdin_once=record["Config"]["StdinOnce"],
            exit_command=[settings.python, "-I", "-S", HOOK, "container", container_id, str(generation)],
            reserved_fds=plan.reserved_fds,
        )
        endpoints.wire(settings, plan)  # while runc creates: conmon was only started so far
        created = creation.wait()
    finally:
        plan.close()
    if before_start is not None:
        before_start()
    duties = duty.wanted(record)
    with database.write():
        containers.set_state(
            database,
            container_id,
            status="running",
            pid=created.pid,
            conmon_pid=created.conmon_pid,
            started_at=timestamps.now(),
            exit_code=0,
            oom_killed=0,
            duties=duties,
            **({} if restarted else FRESH),
        )
        if "health" in duties.split():
            health.begin(database, container_id)
        events.container(database, record, "start")
    runc.start(settings, container_id)


def log_path(settings: "Settings", record: "ContainerRecord") -> str:
    """The file that conmon writes the container's output to; empty for the log driver `none`."""
    if record["HostConfig"]["LogConfig"]["Type"] == "none":
        return ""
    return settings.container_root(record["Id"]) + "/ctr.log"


def _mount_sources(settings: "Settings", database: "Database", record: "ContainerRecord") -> None:
    """Make what is mounted exist: volumes with options are mounted, missing bind sources of `-v` made again."""
    from service.engine import volumes
    from service.store import volumes as stored

    for mount in record["Mounts"]:
        if mount["Type"] == "volume":
            volume = stored.get(database, mount["Name"])
            if volume is not None:
                volumes.mount_if_needed(settings, volume)
            os.makedirs(mount["Source"], 0o755, exist_ok=True)
        elif mount["Type"] == "bind" and not os.path.lexists(mount["Source"]):
            if not any(bind.startswith(mount["Source"] + ":") for bind in record["HostConfig"]["Binds"] or ()):
                raise InvalidParameter(
                    f'invalid mount config for type "bind": bind source path does not exist: {mount["Source"]}'
                )
            os.makedirs(mount["Source"], 0o755, exist_ok=True)


def _failed(settings: "Settings", database: "Database", container: "Container", error: BaseException) -> None:
    """A start that did not come to be: keep the reason, let go of everything."""
    record, state = container["record"], container["state"]
    message = error.message if isinstance(error, MoorageError) else str(error)
    code = 128
    if isinstance(error, InvalidParameter):
        code = 126 if "permission denied" in message else 127
    status = "created" if state["status"] == "created" else "exited"
    if state["status"] == "restarting":
        code = state["exit_code"]  # as dockerd: how it last ended, beside why it did not start again
    with database.write():
        containers.set_state(
            database, record["Id"], status=status, pid=0, conmon_pid=0, duties="", exit_code=code, error=message[:4096]
        )
    current = containers.get(database, record["Id"])
    try:
        release.everything(settings, database, current)
        if record["HostConfig"]["AutoRemove"]:
            remove.files_and_record(settings, database, current, anonymous_volumes=True)
            bell.ring(settings.bell)  # somebody may wait for the removal
    except (OSError, SystemFailure):
        return  # `holds` stays set, so the next start, removal or reconcile tries again; the first error is told
