"""The end of a container's process: recorded once, by whoever comes first (exit hook or reconcile), then let go of."""

import os
import time

from service import bell, timestamps
from service.engine import events, exec_exit, release, remove
from service.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.model.container import Container
    from service.settings import Settings
    from service.store.database import Database

BACKOFF_FIRST = 0.1  # seconds before the first restart; doubles, moby: restartmanager
BACKOFF_LONGEST = 60.0
STEADY = 10.0  # a container that ran that long starts with the first backoff again
UNKNOWN_EXIT = 255  # the exit code of a process that ended while nobody watched (a reboot)


def record(
    settings: "Settings", database: "Database", container_id: str, generation: int, *, unknown: bool = False
) -> bool:
    """Write down that the process of this start has ended, and how. False when that was done before.

    `unknown`: nobody saw how (the machine was rebooted), whatever an exit file says.
    """
    from service.runtime import exits

    container = containers.get(database, container_id)
    ended = None if unknown else exits.read(settings, container_id)
    code = ended.exit_code if ended else UNKNOWN_EXIT
    finished = timestamps.rfc3339(ended.finished_ns) if ended else timestamps.now()
    with database.write():
        if not containers.claim_exit(database, container_id, generation, code, finished):
            return False
        if ended and ended.oom_killed:
            containers.set_state(database, container_id, oom_killed=1)
            events.container(database, container["record"], "oom")
        exec_exit.end_all(database, container_id)
        if not unknown and restart_wanted(container, code):
            containers.set_state(database, container_id, status="restarting")
        events.container(
            database,
            container["record"],
            "die",
            {"exitCode": str(code), "execDuration": str(_seconds_run(container))},
        )
    bell.ring(settings.bell)
    return True


def _seconds_run(container: "Container") -> int:
    return max(0, (timestamps.now_ns() - timestamps.nanoseconds(container["state"]["started_at"])) // 1_000_000_000)


def finish(settings: "Settings", database: "Database", container_id: str) -> None:
    """After `record`: let go of what it held, remove it if it was to remove itself."""
    with release.exclusively(settings, container_id):
        container = containers.get(database, container_id)
        if container["state"]["status"] in ("running", "paused"):
            return  # started again since
        release.leftovers(settings, database, container)
        state = container["state"]
        if container["record"]["HostConfig"]["AutoRemove"] and not state["kept"] and state["status"] != "restarting":
            remove.files_and_record(settings, database, container, anonymous_volumes=True)
    bell.ring(settings.bell)


def restart_wanted(container: "Container", code: int) -> bool:
    """Whether the restart policy asks for another start after this exit (API: HostConfig.RestartPolicy)."""
    policy, state = container["record"]["HostConfig"]["RestartPolicy"], container["state"]
    if state["stopped_by_user"]:
        return False
    if policy["Name"] in ("always", "unless-stopped"):
        return True
    if policy["Name"] == "on-failure" and code:
        return not policy["MaximumRetryCount"] or state["restart_count"] < policy["MaximumRetryCount"]
    return False


def restart_when_due(settings: "Settings", database: "Database", container_id: str) -> None:
    """Sleep as long as the backoff says, then start again, unless somebody changed the container meanwhile.

    Runs in the exit hook's process: a sleeping restart costs one small process, and no service.
    """
    from service.engine import launch
    from service.errors import MoorageError, NotFound

    while True:
        try:
            container = containers.get(database, container_id)
        except NotFound:
            return
        state = container["state"]
        if state["status"] != "restarting":
            return
        generation = state["generation"]
        time.sleep(backoff(container))
        try:
            state = containers.get(database, container_id)["state"]
        except NotFound:
            return
        if state["status"] != "restarting" or state["generation"] != generation:
            return
        try:
            launch.start(settings, database, container_id, restarted=True)
        except MoorageError:
            return  # the reason stands in the container's state, as dockerd keeps it
        return


def backoff(container: "Container") -> float:
    """Seconds to wait before the next start."""
    state = container["state"]
    ran = (timestamps.nanoseconds(state["finished_at"]) - timestamps.nanoseconds(state["started_at"])) / 1e9
    if ran >= STEADY:
        return BACKOFF_FIRST
    return float(min(BACKOFF_FIRST * 2 ** min(state["restart_count"], 20), BACKOFF_LONGEST))


def leave_conmon() -> None:
    """End the conmon that runs us as its exit command: it only waits for us, and keeps the container's streams open.

    It has written the log and the exit file by now. Its attached clients see the end when it is gone, and its copies of
    the published ports' sockets are freed, so that the ports can be taken again.
    """
    from service.kernel import pidfd

    parent = os.getppid()
    if pidfd.is_running(parent, "conmon"):
        os.kill(parent, 9)
        pidfd.wait_gone(parent, 5.0)
