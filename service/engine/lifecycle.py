"""start, stop, restart, kill, wait, rename, rm: what is done to a container that exists.

Each verb: look up, guard, act, record, announce. Blocking work goes to a thread; waiting for an exit is waiting for the
bell, so that it does not matter which process records it.
"""

from service import bell
from service.engine import events, launch, release, remove
from service.engine import exit as ended
from service.engine.bell_watch import changes
from service.engine.monitors import MISGIVING
from service.engine.pause import resume
from service.errors import Conflict, InvalidParameter, MoorageError, NotFound, NotModified, SystemFailure
from service.kernel import pidfd
from service.kernel.signals import KILL, signal_number
from service.store import containers
from service.store import events as stored_events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.engine.engine import Engine
    from service.model.container import Container

STOP_TIMEOUT = 10  # seconds, where neither request nor container says otherwise
KILL_GRACE = 10.0  # seconds that a killed process has to be gone
_UP = ("running", "paused", "restarting")


async def start(engine: "Engine", reference: str) -> None:
    """API: ContainerStart. Raises NotFound, NotModified, Conflict, or why it does not start."""
    from service.engine import attach

    container_id = containers.resolve(engine.store, reference)
    async with engine.lock(container_id):
        with attach.waiters(engine, container_id) as before_start:
            await engine.thread(
                lambda: launch.start(engine.settings, engine.store, container_id, before_start=before_start)
            )


async def kill(engine: "Engine", reference: str, signal: str = "") -> None:
    """API: ContainerKill. Raises InvalidParameter for a bad signal, Conflict when nothing runs."""
    try:
        number = signal_number(signal) if signal else KILL
        container = containers.find(engine.store, reference)
    except (InvalidParameter, NotFound) as error:
        reason = error.message
        if signal.removeprefix("-").isdigit() and int(signal):
            reason = f"the linux daemon does not support signal {int(signal)}"
        raise type(error)(f"cannot kill container: {reference}: {reason}") from None
    if container["state"]["status"] not in _UP:
        raise Conflict(f"cannot kill container: {reference}: container {container['record']['Id']} is not running")
    last = _is_last(container, number)
    if container["state"]["status"] == "restarting" and last and await engine.thread(_rest, engine, container):
        return
    container = containers.get(engine.store, container["record"]["Id"])
    if number == KILL:
        await _end(engine, container, f"cannot kill container: {reference}")
    else:
        await engine.thread(_signal, engine, container, number)


def _is_last(container: "Container", number: int) -> bool:
    """Whether a signal is meant to end the container: no restart policy acts then, and one that is paused goes on to
    receive it (moby: daemon/kill.go, killWithSignal)."""
    own_stop = container["record"]["Config"].get("StopSignal")
    return number == KILL or not own_stop or number == signal_number(own_stop)


async def _end(engine: "Engine", container: "Container", failing: str) -> None:
    """SIGKILL, and wait until it is over. Raises SystemFailure, beginning with `failing`."""
    await engine.thread(_signal, engine, container, KILL)
    if not await _until_down(engine, container, KILL_GRACE):
        raise SystemFailure(f"{failing}: tried to kill container, but did not receive an exit event")


def _bury(engine: "Engine", container: "Container") -> bool:
    """Do the exit hook's work where neither process nor monitor lives: the monitor was killed, or the hook itself.

    False when one lives. A hook that is just at it is waited for.
    """
    state, container_id = container["state"], container["record"]["Id"]
    if pidfd.is_alive(state["pid"], state["pid_start"]) or pidfd.is_running(
        state["conmon_pid"], "conmon", state["conmon_start"]
    ):
        return False
    try:
        ended.conclude(engine.settings, engine.store, container_id, state["generation"])
    except NotFound:
        return True
    return True


def _signal(engine: "Engine", container: "Container", number: int) -> None:
    """Send a signal to the container's first process."""
    from service.runtime import runc

    record, store = container["record"], engine.store
    last = _is_last(container, number)
    with store.write():
        containers.set_state(store, record["Id"], stopped_by_user=1, **({"restart_canceled": 1} if last else {}))
        if container["state"]["status"] == "restarting":
            return  # no process to send it to; dockerd tells no event either
        events.container(store, record, "kill", {"signal": str(number)})
    bell.ring(engine.settings.bell)
    try:
        runc.kill(engine.settings, record["Id"], number)
        if last and container["state"]["status"] == "paused":
            resume(engine.settings, store, record["Id"], quietly=number == KILL)
    except Conflict:
        return  # somebody else let it go on
    except (SystemFailure, NotFound):  # it ended by itself meanwhile: its hook is about to say so
        if pidfd.is_alive(container["state"]["pid"], container["state"]["pid_start"]):
            raise


async def _until_down(engine: "Engine", container: "Container", seconds: float) -> bool:
    """Wait until this start of the container is over and let go of. False when the time was not enough."""
    container_id, generation = container["record"]["Id"], container["state"]["generation"]

    def over() -> bool:
        try:
            state = containers.get(engine.store, container_id)["state"]
        except NotFound:
            return True
        return state["generation"] != generation or state["status"] not in ("running", "paused")

    left = seconds
    while not await changes(engine).until(over, min(left, MISGIVING)):
        if await engine.thread(_bury, engine, container):
            break
        left -= MISGIVING
        if left <= 0:
            return False
    await engine.thread(_let_go, engine, container)
    return True


def _let_go(engine: "Engine", container: "Container") -> None:
    """Do what the exit hook does next, unless it was faster: the caller may count on free ports and mounts.

    It may have ended by itself the moment before it was told to, and wait for its restart by now.
    """
    try:
        ended.finish(engine.settings, engine.store, container["record"]["Id"])
        if containers.get(engine.store, container["record"]["Id"])["state"]["restart_canceled"]:
            _rest(engine, container)
    except NotFound:
        return  # `--rm`: it is gone already


async def stop(engine: "Engine", reference: str, seconds: "int | None" = None, signal: str = "") -> None:
    """API: ContainerStop: the stop signal, then SIGKILL after `seconds` (-1: never; None: the container's own).

    Raises NotModified when it does not run, InvalidParameter for a bad signal. Others may stop, kill or remove it while
    this waits.
    """
    container = containers.find(engine.store, reference)
    if container["state"]["status"] not in _UP:
        raise NotModified("container is already stopped")
    failing = f"cannot stop container: {reference}"
    if not container["record"]["HostConfig"]["AutoRemove"]:
        await _stop(engine, container, seconds, signal, failing)
        return
    container_id = container["record"]["Id"]
    await engine.thread(_keep, engine, container_id, True)  # until it is told that it was stopped
    try:
        await _stop(engine, container, seconds, signal, failing)
    finally:
        await engine.thread(_keep, engine, container_id, False)
        await engine.thread(_let_go, engine, container)


async def _stop(engine: "Engine", container: "Container", seconds: "int | None", signal: str, failing: str) -> None:
    record = container["record"]
    container_id, config = record["Id"], record["Config"]
    try:
        number = signal_number(signal or config.get("StopSignal") or "SIGTERM")
    except InvalidParameter as error:
        raise InvalidParameter(f"{failing}: {error.message}") from None
    if container["state"]["status"] == "restarting":
        if await engine.thread(_rest, engine, container):
            await engine.thread(_announce, engine, container, "stop")
            return
        container = containers.get(engine.store, container_id)  # it has just been started again
        if container["state"]["status"] not in _UP:
            return
    if seconds is None:
        configured = config.get("StopTimeout")
        seconds = STOP_TIMEOUT if configured is None else configured
    await engine.thread(_signal, engine, container, number)
    if not await _until_down(engine, container, float("inf") if seconds < 0 else seconds):
        await _end(engine, containers.get(engine.store, container_id), failing)
    await engine.thread(_announce, engine, container, "stop")


def _rest(engine: "Engine", container: "Container") -> bool:
    """A container between two restarts is not started again. False when it has been started, or is gone, meanwhile."""
    container_id = container["record"]["Id"]
    with release.exclusively(engine.settings, container_id):
        if containers.get(engine.store, container_id)["state"]["status"] != "restarting":
            return False
        with engine.store.write():
            containers.set_state(engine.store, container_id, status="exited", stopped_by_user=1, restart_canceled=1)
    bell.ring(engine.settings.bell)
    return True


def _announce(engine: "Engine", container: "Container", action: str) -> None:
    try:
        container = containers.get(engine.store, container["record"]["Id"])
    except NotFound:
        pass  # `--rm`: gone already; the event is told of what it was
    with engine.store.write():
        events.container(engine.store, container["record"], action)
    bell.ring(engine.settings.bell)


async def restart(engine: "Engine", reference: str, seconds: "int | None" = None, signal: str = "") -> None:
    """API: ContainerRestart: stop if it runs, then start. `--rm` does not remove it in between."""
    container = containers.find(engine.store, reference)
    container_id = container["record"]["Id"]
    failing = f"Cannot restart container {reference}"
    async with engine.lock(container_id):
        if container["state"]["status"] in _UP:
            await engine.thread(_keep, engine, container_id, True)
            try:
                await _stop(engine, container, seconds, signal, failing)
                await _start_again(engine, container_id, failing)
            finally:
                await engine.thread(_keep, engine, container_id, False)
        else:
            await _start_again(engine, container_id, failing)
    await engine.thread(_announce, engine, container, "restart")


async def _start_again(engine: "Engine", container_id: str, failing: str) -> None:
    from service.engine import attach

    try:
        with attach.waiters(engine, container_id) as before_start:
            await engine.thread(
                lambda: launch.start(engine.settings, engine.store, container_id, before_start=before_start)
            )
    except NotModified:
        return  # somebody else was faster
    except MoorageError as error:
        error.message = f"{failing}: {error.message}"
        raise


def _keep(engine: "Engine", container_id: str, keep: bool) -> None:
    """Hold off the removal of a `--rm` container while it is restarted, or stopped."""
    with engine.store.write():
        containers.set_state(engine.store, container_id, kept=keep)


class Waiter:
    """API: ContainerWait, begun when it is made: an exit after that moment is not missed."""

    CONDITIONS = ("not-running", "next-exit", "removed")

    def __init__(self, engine: "Engine", reference: str, condition: str) -> None:
        if condition not in self.CONDITIONS:
            raise InvalidParameter(f'invalid condition: "{condition}"')
        self.engine, self.condition = engine, condition
        self.seen = stored_events.last(engine.store)
        container = containers.find(engine.store, reference)
        self.container_id, self.state = container["record"]["Id"], container["state"]
        self.code, self.error = self.state["exit_code"], self.state["error"]

    async def result(self) -> "tuple[int, str]":
        """The exit code, and the error of a start that failed. Returns when the condition holds."""
        if self.condition != "not-running" or self.state["status"] in _UP:
            await changes(self.engine).until(self._met, float("inf"))
        return self.code, self.error

    def _met(self) -> bool:
        for event in stored_events.of_actor(self.engine.store, self.container_id, self.seen):
            self.seen = event["seq"]
            if event["Action"] == "die":
                self.code, self.error = int(event["Actor"]["Attributes"]["exitCode"]), ""
                if self.condition != "removed":
                    return True
            if event["Action"] == "destroy":
                return True
        return self.condition != "removed" and self.state["status"] == "restarting" and self._rests()

    def _rests(self) -> bool:
        """Whether it waited for its restart when we came, and will not be started now."""
        try:
            state = containers.get(self.engine.store, self.container_id)["state"]
        except NotFound:
            return True
        return state["status"] not in _UP


_RENAME = "Error when allocating new name: "


async def rename(engine: "Engine", reference: str, new_name: str) -> None:
    """API: ContainerRename. Raises InvalidParameter for a bad or unchanged name, Conflict for one in use."""
    from service.engine.create import check_name

    if not new_name:
        raise InvalidParameter("Neither old nor new names may be empty")
    container = containers.find(engine.store, reference)
    record = container["record"]
    try:
        bare = check_name("/" + new_name.removeprefix("/"))
    except InvalidParameter as error:
        raise InvalidParameter(_RENAME + error.message) from None
    if bare == record["Name"]:
        raise InvalidParameter("Renaming a container with the same name as its current name")

    def change() -> None:
        with engine.store.write():
            fresh = containers.get(engine.store, record["Id"])["record"]
            old, fresh["Name"] = fresh["Name"], bare
            containers.replace_record(engine.store, fresh)
            events.container(engine.store, fresh, "rename", {"oldName": f"/{old}"})
        bell.ring(engine.settings.bell)

    try:
        await engine.thread(change)
    except Conflict as error:
        raise Conflict(_RENAME + error.message) from None


async def delete(engine: "Engine", reference: str, *, force: bool, volumes: bool, link: bool) -> None:
    """API: ContainerDelete. Raises Conflict when it runs and `force` is not given, or is being removed already.

    `link`: only the name is meant that another container has for it (`web/db`).
    """
    container_id = containers.resolve(engine.store, reference)
    if link:
        await _unlink(engine, reference)
        return
    if container_id in engine.removals:
        raise Conflict(remove.in_progress_text(reference))
    engine.removals.add(container_id)
    try:
        await _delete(engine, reference, container_id, force=force, volumes=volumes)
    finally:
        engine.removals.discard(container_id)
    engine.forget_lock(container_id)


async def _delete(engine: "Engine", reference: str, container_id: str, *, force: bool, volumes: bool) -> None:
    container = containers.get(engine.store, container_id)
    if container["state"]["status"] in _UP:
        if not force:
            raise Conflict(remove.running_text(container, reference))
        if container["state"]["status"] != "restarting" or not await engine.thread(_rest, engine, container):
            failing = f'cannot remove container "{reference}": could not kill container'
            await _end(engine, containers.get(engine.store, container_id), failing)
    elif container["state"]["status"] == "removing" and await engine.thread(
        release.held, engine.settings, container_id
    ):
        raise Conflict(remove.in_progress_text(reference))
    try:
        await engine.thread(
            lambda: remove.remove(engine.settings, engine.store, container_id, reference, anonymous_volumes=volumes)
        )
    except NotFound:
        return  # `--rm` was faster


async def _unlink(engine: "Engine", reference: str) -> None:
    """One container does not know another by this name (`web/db`) any more.

    Raises NotFound, Conflict when it is the name of the container itself.
    """
    from service.engine import container_files, links

    def forget() -> None:
        with engine.store.write():
            parent_id, alias = links.remove(engine.store, reference)
        container_files.unlinked(engine.settings, parent_id, alias.rpartition("/")[2])
        bell.ring(engine.settings.bell)

    await engine.thread(forget)
