"""resize: the size of a terminal, of a container or of an exec session (API: ContainerResize, ExecResize)."""

from service import bell
from service.engine import events
from service.errors import Conflict, InvalidParameter, NotFound
from service.store import containers, execs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.engine.engine import Engine

_START_TIMEOUT = 10.0  # seconds to wait for an exec session that is being started (moby: daemon/resize.go)


async def container(engine: "Engine", reference: str, height: int, width: int) -> None:
    """Raises NotFound, or Conflict when the container does not run. Without a terminal nothing happens."""
    found = containers.find(engine.store, reference)
    record = found["record"]
    if found["state"]["status"] not in ("running", "paused"):
        raise Conflict(f"container {record['Id']} is not running")

    def act() -> None:
        from service.runtime import conmon

        if record["Config"]["Tty"]:
            conmon.resize(engine.settings, record["Id"], None, height, width)
        with engine.store.write():
            events.container(engine.store, record, "resize", {"height": str(height), "width": str(width)})
        bell.ring(engine.settings.bell)

    await engine.thread(act)


async def exec_session(engine: "Engine", exec_id: str, height: int, width: int) -> None:
    """Raises NotFound when the session is unknown or over, InvalidParameter when it did not start in time.

    The CLI asks for a size as soon as it has asked for the start, so a start under way is waited for.
    """
    from service.engine.bell_watch import changes
    from service.engine.execs import find_startable
    from service.runtime import conmon

    record = find_startable(engine, exec_id)["record"]

    def decided() -> bool:
        session = execs.get(engine.store, exec_id)
        return bool(session["pid"]) or session["exit_code"] is not None

    await changes(engine).until(decided, _START_TIMEOUT)
    session = execs.get(engine.store, exec_id)
    if session["exit_code"] is not None:
        raise NotFound(f"process does not exist {exec_id}: not found")
    if not session["pid"]:
        raise InvalidParameter("timeout waiting for exec session ready")
    if record["Tty"]:
        await engine.thread(conmon.resize, engine.settings, record["ContainerID"], exec_id, height, width)
