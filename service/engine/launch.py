"""The launch: from a created container to a running process, for the service, the exit hook and the boot unit.

Synchronous and light to import: the service calls it in a thread. The order is what makes it survive `kill -9`:
`holds` is committed before the first mount, so whoever finds a container that holds things but does not run releases
them; `running` is committed before `runc start`, so an exit hook can never be faster than the record of the start.
"""

import os

from service import bell, daemon_json, timestamps
from service.engine import duty, events, keeping, release, remove
from service.errors import Conflict, MoorageError, NotModified, StartFailed, StartRefused, SystemFailure
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
        if not restarted:
            _guard(container)
        elif not _still_wanted(settings, database, container):
            return
        release.leftovers(settings, database, container)
        try:
            _launch(settings, database, container, before_start, restarted)
        except BaseException as error:
            _failed(settings, database, container, error)
            raise
    bell.ring(settings.bell)
    keeping.ensure(settings, database)


def _still_wanted(settings: "Settings", database: "Database", container: "Container") -> bool:
    """Whether it still waits for its restart policy. If that was canceled meanwhile, it waits no longer."""
    if container["state"]["status"] == "running":
        complete(settings, container["record"]["Id"])
    if container["state"]["status"] != "restarting":
        return False
    if container["state"]["restart_canceled"]:
        with database.write():
            containers.set_state(database, container["record"]["Id"], status="exited")
        bell.ring(settings.bell)
    return not container["state"]["restart_canceled"]


def complete(settings: "Settings", container_id: str) -> None:
    """Do the last step of a start, where whoever was at it was killed before. Call under `release.exclusively`."""
    from service.runtime import runc

    if runc.awaits_start(settings, container_id):
        runc.start(settings, container_id)


def _guard(container: "Container") -> None:
    state = container["state"]
    if state["status"] in ("running", "restarting"):
        raise NotModified("container is already running")
    if state["status"] == "paused":
        raise Conflict("cannot start a paused container, try unpause instead")
    if state["status"] in ("removing", "dead"):
        raise Conflict("container is marked for removal and cannot be started")


def _launch(
    settings: "Settings",
    database: "Database",
    container: "Container",
    before_start: "Callable[[], None] | None",
    restarted: bool,
) -> None:
    from service.content import rootfs
    from service.engine import container_files, endpoints, mount_sources, runtimes, specification
    from service.runtime import conmon, runc

    record = container["record"]
    _check_log(record)
    container_id = record["Id"]
    generation = container["state"]["generation"] + 1
    with database.write():
        containers.set_state(database, container_id, holds=1, generation=generation, boot_id=pidfd.boot_id(), error="")
        plan = endpoints.prepare(settings, database, record)
        events.volumes(database, record, "mount")
    try:
        os.makedirs(settings.container_run(container_id), 0o711, exist_ok=True)
        runtimes.choose(
            settings, container_id, record["HostConfig"]["Runtime"], daemon_json.readable(settings.daemon_json)
        )
        merged = rootfs.mount(settings, container_id, record["Layers"], volatile=_is_volatile(record))
        mounts = mount_sources.prepare(settings, database, record)
        endpoints.open_namespace(plan)
        container_files.write(settings, plan)
        creation = conmon.create(
            settings,
            container_id,
            bundle=specification.write(settings, database, {**record, "Mounts": mounts}, plan, merged),
            generation=generation,
            log=_log(settings, record),
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
    duties = duty.wanted(record, plan.ports)
    with database.write():
        containers.set_state(
            database,
            container_id,
            status="running",
            **created.state(),
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


def _is_volatile(record: "ContainerRecord") -> bool:
    """Whether what it writes goes when the machine goes down: with `--rm` the next boot removes it."""
    return bool(record["HostConfig"]["AutoRemove"]) or record.get("Volatile", False)


def _log(settings: "Settings", record: "ContainerRecord") -> list[str]:
    """Where conmon writes the output to."""
    from service.engine import log_config
    from service.runtime import conmon

    driver = record["HostConfig"]["LogConfig"]["Type"]
    if driver == "none":
        return conmon.no_log()
    if driver == "journald":
        return conmon.journal(record["Name"], log_config.tag(record, "{{.ID}}"))
    return conmon.log_file(settings.container_log(record["Id"]))


def _check_log(record: "ContainerRecord") -> None:
    """Raises StartFailed when the log options mean nothing."""
    from service.engine import log_config

    try:
        log_config.parse(record)
    except MoorageError as error:
        raise StartFailed(
            f"failed to create task for container: failed to initialize logging driver: {error.message}"
        ) from error


def _failed(settings: "Settings", database: "Database", container: "Container", error: BaseException) -> None:
    """A start that did not come to be: keep the reason, let go of everything."""
    record, state = container["record"], container["state"]
    message = error.message if isinstance(error, MoorageError) else str(error)
    code = error.exit_code if isinstance(error, StartRefused) else 128
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
