"""The end of a container's process: recorded once, by whoever comes first (exit hook or reconcile), then let go of."""

import os
import time

from service import bell, timestamps
from service.engine import events, exec_exit, keeping, release, remove
from service.store import containers, health

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.model.container import Container
    from service.settings import Settings
    from service.store.database import Database

BACKOFF_FIRST = 100  # milliseconds before the first restart; doubles (moby: restartmanager)
BACKOFF_LONGEST = 60_000
STEADY = 10.0  # seconds; a container that ran that long starts with the first backoff again
UNKNOWN_EXIT = 255  # the exit code of a process that ended while nobody watched (a reboot)


def conclude(settings: "Settings", database: "Database", container_id: str, generation: int) -> None:
    """What the exit hook does: let go of what this start held, tell of its end, remove what was to remove itself.

    In this order, as dockerd's: who is told that a container has ended (by the event `die` or by `wait`) may count on
    its ports and addresses being free. Until then it is said to run.
    """
    with release.exclusively(settings, container_id):
        try:
            leave_conmon()
            container = containers.get(database, container_id)
            state = container["state"]
            if state["generation"] == generation and state["status"] in ("running", "paused"):
                _tell_oom(settings, database, container)  # the flag is among the files that go now
                release.leftovers(settings, database, container)
        finally:
            record(settings, database, container_id, generation)
    finish(settings, database, container_id)


def _tell_oom(settings: "Settings", database: "Database", container: "Container") -> None:
    """Record that memory ran out, unless that was done before."""
    from service.runtime import exits

    ended = exits.read(settings, container["record"]["Id"])
    if ended and ended.oom_killed and not container["state"]["oom_killed"]:
        with database.write():
            containers.set_state(database, container["record"]["Id"], oom_killed=1)
            events.container(database, container["record"], "oom")


def record(
    settings: "Settings", database: "Database", container_id: str, generation: int, *, unknown: bool = False
) -> bool:
    """Write down that the process of this start has ended, and how. False when that was done before.

    `unknown`: nobody saw how (the machine was rebooted), whatever an exit file says.
    """
    from service.runtime import exits

    ended = None if unknown else exits.read(settings, container_id)
    if ended:
        container = containers.get(database, container_id)
        if container["state"]["generation"] == generation:
            _tell_oom(settings, database, container)
    code = ended.exit_code if ended else UNKNOWN_EXIT
    finished = timestamps.rfc3339(ended.finished_ns) if ended else timestamps.now()
    with database.write():
        if not containers.claim_exit(database, container_id, generation, code, finished):
            return False
        container = containers.get(database, container_id)  # a stop may have come until now
        exec_exit.end_all(database, container_id)
        health.rest(database, container_id)
        if not unknown and restart_wanted(container, code):
            backoff = next_backoff_ms(container, _seconds_run(container))
            containers.set_state(
                database,
                container_id,
                status="restarting",
                restart_count=container["state"]["restart_count"] + 1,
                backoff_ms=backoff,
                restart_due=time.monotonic_ns() + backoff * 1_000_000,
            )
        elif container["record"]["HostConfig"]["AutoRemove"] and not container["state"]["kept"]:
            containers.set_state(database, container_id, status="removing")  # by whoever finds it, if we are killed
        events.container(
            database,
            container["record"],
            "die",
            {"exitCode": str(code), "execDuration": str(int(_seconds_run(container)))},
        )
    bell.ring(settings.bell)
    keeping.ensure(settings, database)  # it waits until the restart is due
    return True


def _seconds_run(container: "Container") -> float:
    return max(0.0, (timestamps.now_ns() - timestamps.nanoseconds(container["state"]["started_at"])) / 1e9)


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
    if state["restart_canceled"]:
        return False
    if policy["Name"] == "unless-stopped":
        return not state["stopped_by_user"]
    if policy["Name"] == "on-failure" and code:
        return not policy["MaximumRetryCount"] or state["restart_count"] < policy["MaximumRetryCount"]
    return bool(policy["Name"] == "always")


def next_backoff_ms(container: "Container", seconds_run: float) -> int:
    """Milliseconds to wait before the next start: twice as long each time, until it has run for a while."""
    last = 0 if seconds_run >= STEADY else container["state"]["backoff_ms"]
    return min(2 * last, BACKOFF_LONGEST) if last else BACKOFF_FIRST


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
