"""start, stop, restart, kill, pause, unpause, wait, rename, rm: what is done to a container that exists.

Each verb: look up, guard, act, record, announce. Blocking work goes to a thread; waiting for an exit is waiting for the
bell, so that it does not matter which process records it.
"""

from service import bell
from service.engine import events, launch, release, remove
from service.engine import exit as ended
from service.engine.bell_watch import changes
from service.errors import Conflict, InvalidParameter, NotFound, NotModified, SystemFailure
from service.kernel.signals import KILL, signal_number
from service.store import containers, health
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
    own_stop = container["record"]["Config"].get("StopSignal")
    last = number == KILL or not own_stop or number == signal_number(own_stop)  # moby: daemon/kill.go, killWithSignal
    if container["state"]["status"] == "restarting" and last and await engine.thread(_rest, engine, container):
        return
    container = containers.get(engine.store, container["record"]["Id"])
    await engine.thread(_signal, engine, container, number, last)
    if number == KILL:
        await _until_down(engine, container, KILL_GRACE)


def _signal(engine: "Engine", container: "Container", number: int, last: bool) -> None:
    """Send a signal to the container's first process. `last`: it is meant to end it, so no restart policy acts."""
    from service.runtime import runc

    record, store = container["record"], engine.store
    with store.write():
        containers.set_state(store, record["Id"], stopped_by_user=1, **({"restart_canceled": 1} if last else {}))
        if container["state"]["status"] == "restarting":
            return  # no process to send it to; dockerd tells no event either
        events.container(store, record, "kill", {"signal": str(number)})
    bell.ring(engine.settings.bell)
    try:
        if container["state"]["status"] == "paused" and number == KILL:
            _thaw(engine, container)
        runc.kill(engine.settings, record["Id"], number)
    except (SystemFailure, NotFound):  # it ended by itself meanwhile: its hook is about to say so
        if containers.get(store, record["Id"])["state"]["status"] in ("running", "paused") and _alive(container):
            raise


def _alive(container: "Container") -> bool:
    from service.kernel import pidfd

    return pidfd.is_alive(container["state"]["pid"])


def _thaw(engine: "Engine", container: "Container") -> None:
    from service.runtime import runc

    runc.resume(engine.settings, container["record"]["Id"])
    with engine.store.write():
        containers.set_state(engine.store, container["record"]["Id"], status="running")


async def _until_down(engine: "Engine", container: "Container", seconds: float) -> bool:
    """Wait until this start of the container is over and let go of. False when the time was not enough."""
    container_id, generation = container["record"]["Id"], container["state"]["generation"]

    def over() -> bool:
        try:
            state = containers.get(engine.store, container_id)["state"]
        except NotFound:
            return True
        return state["generation"] != generation or state["status"] not in ("running", "paused")

    if not await changes(engine).until(over, seconds):
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

    Raises NotModified when it does not run.
    """
    container = containers.find(engine.store, reference)
    if container["state"]["status"] not in _UP:
        raise NotModified("container already stopped")
    try:
        number = signal_number(signal) if signal else 0
    except InvalidParameter as error:
        raise InvalidParameter(f"cannot stop container: {reference}: {error.message}") from None
    async with engine.lock(container["record"]["Id"]):
        await _stop(engine, container, seconds, number)


async def _stop(engine: "Engine", container: "Container", seconds: "int | None", number: int) -> None:
    record = container["record"]
    container_id, config = record["Id"], record["Config"]
    if container["state"]["status"] == "restarting":
        if await engine.thread(_rest, engine, container):
            await engine.thread(_announce, engine, container, "stop")
            return
        container = containers.get(engine.store, container_id)  # it has just been started again
        if container["state"]["status"] not in _UP:
            return
    number = number or signal_number(config.get("StopSignal") or "SIGTERM")
    if seconds is None:
        configured = config.get("StopTimeout")
        seconds = STOP_TIMEOUT if configured is None else configured
    if container["state"]["status"] == "paused":
        await engine.thread(_thaw, engine, container)
        container = containers.get(engine.store, container_id)
    await engine.thread(_signal, engine, container, number, True)
    if not await _until_down(engine, container, float("inf") if seconds < 0 else seconds):
        await engine.thread(_signal, engine, container, KILL, True)
        if not await _until_down(engine, container, KILL_GRACE):
            raise SystemFailure(
                f"cannot stop container: {container_id}: tried to kill container, but did not receive an exit event"
            )
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
    from service.engine import attach

    number = signal_number(signal) if signal else 0
    container = containers.find(engine.store, reference)
    container_id = container["record"]["Id"]
    async with engine.lock(container_id):
        if container["state"]["status"] in _UP:
            await engine.thread(_keep, engine, container_id, True)
            try:
                await _stop(engine, container, seconds, number)
                with attach.waiters(engine, container_id) as before_start:
                    await engine.thread(
                        lambda: launch.start(engine.settings, engine.store, container_id, before_start=before_start)
                    )
            finally:
                await engine.thread(_keep, engine, container_id, False)
        else:
            with attach.waiters(engine, container_id) as before_start:
                await engine.thread(
                    lambda: launch.start(engine.settings, engine.store, container_id, before_start=before_start)
                )
    await engine.thread(_announce, engine, container, "restart")


def _keep(engine: "Engine", container_id: str, keep: bool) -> None:
    """Hold off the removal of a `--rm` container while it is restarted."""
    with engine.store.write():
        containers.set_state(engine.store, container_id, kept=keep)


async def pause(engine: "Engine", reference: str) -> None:
    """API: ContainerPause. Raises Conflict when it does not run or is paused already."""
    container = containers.find(engine.store, reference)
    status, container_id = container["state"]["status"], container["record"]["Id"]
    if status == "paused":
        raise Conflict(f"Container {container_id} is already paused")
    if status == "restarting":
        raise Conflict(f"Container {container_id} is restarting, wait until the container is running")
    if status != "running":
        raise Conflict(f"container {container_id} is not running")
    await engine.thread(_pause, engine, container)


def _pause(engine: "Engine", container: "Container") -> None:
    from service.runtime import runc

    container_id = container["record"]["Id"]
    runc.pause(engine.settings, container_id)
    with engine.store.write():
        containers.set_state(engine.store, container_id, status="paused")
        health.rest(engine.store, container_id)
        events.container(engine.store, container["record"], "pause")
    bell.ring(engine.settings.bell)


async def unpause(engine: "Engine", reference: str) -> None:
    """API: ContainerUnpause. Raises Conflict when it is not paused."""
    container = containers.find(engine.store, reference)
    if container["state"]["status"] != "paused":
        raise Conflict(f"Container {container['record']['Id']} is not paused")

    def resume() -> None:
        _thaw(engine, container)
        with engine.store.write():
            events.container(engine.store, container["record"], "unpause")
        bell.ring(engine.settings.bell)

    await engine.thread(resume)


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
        self.code = self.state["exit_code"]
        self.error = self.state["error"]

    async def result(self) -> "tuple[int, str]":
        """The exit code, and the error of a start that failed. Returns when the condition holds."""
        if self.condition == "not-running" and self.state["status"] not in _UP:
            return self.code, ""
        await changes(self.engine).until(self._met, float("inf"))
        return self.code, ""

    def _met(self) -> bool:
        for event in stored_events.of_actor(self.engine.store, self.container_id, self.seen):
            self.seen = event["seq"]
            if event["Action"] == "die":
                self.code = int(event["Actor"]["Attributes"]["exitCode"])
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


async def delete(engine: "Engine", reference: str, *, force: bool, volumes: bool) -> None:
    """API: ContainerDelete. Raises Conflict when it runs and `force` is not given."""
    container = containers.find(engine.store, reference)
    container_id = container["record"]["Id"]
    async with engine.lock(container_id):
        container = containers.get(engine.store, container_id)
        if container["state"]["status"] in _UP:
            if not force:
                raise Conflict(remove.running_text(container))
            if container["state"]["status"] != "restarting" or not await engine.thread(_rest, engine, container):
                container = containers.get(engine.store, container_id)
                await engine.thread(_signal, engine, container, KILL, True)
                if not await _until_down(engine, container, KILL_GRACE):
                    raise SystemFailure(f"Could not kill running container {container_id}, cannot remove")
        try:
            await engine.thread(
                lambda: remove.remove(engine.settings, engine.store, container_id, anonymous_volumes=volumes)
            )
        except NotFound:
            return  # `--rm` was faster
    engine.forget_lock(container_id)
