"""What the boot unit runs when the machine goes down: containers are stopped as `docker stop` would stop them.

Left to systemd-shutdown, a container that ignores SIGTERM would hold up the machine for 90 seconds. They are stopped
all at once, each with its own signal and time, and keep their claim to be started by the next boot. The steps of
builds are ended at once: nothing of an unfinished step is kept.
Like `boot.py` a short program of its own: `python -I -S service/shutdown.py`.
"""

import sys
import time

sys.path[:0] = [__file__.rpartition("/service/")[0]]  # -I leaves the script's folder out

from service.engine import flushing  # noqa: E402 - the path had to be set first
from service.engine.engine import Engine  # noqa: E402 - as above
from service.errors import MoorageError  # noqa: E402 - as above
from service.kernel import pidfd  # noqa: E402 - as above
from service.kernel.signals import signal_number  # noqa: E402 - as above
from service.runtime import runc  # noqa: E402 - as above
from service.settings import Settings  # noqa: E402 - as above
from service.store import containers  # noqa: E402 - as above

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.model.container import Container

_UP = ("running", "paused", "restarting")
_STOP_TIMEOUT, _LONGEST = 10, 60  # seconds: Docker's default, and how long a shutdown may be held up by one container
_KILL = 9
_HOOK_SECONDS = 10.0  # for the exit hooks to have written the ends down


def main() -> None:
    """Stop what runs. A container that resists is told of, and left to systemd."""
    engine = Engine(Settings())
    engine.open()
    flushing.now(engine)  # so that the next boot need not look whether all has reached the disk
    running = containers.newest_first(engine.store, _UP)
    _cancel_restarts(engine, running)
    began = time.monotonic()
    for container in containers.of_builds(engine.store, _UP):
        _signal(engine, container, _KILL)
    for container in running:
        config = container["record"]["Config"]
        _signal(engine, container, signal_number(config.get("StopSignal") or "SIGTERM"))
    for container in running:
        given = container["record"]["Config"].get("StopTimeout")
        seconds = _STOP_TIMEOUT if given is None else given
        left = began + (min(seconds, _LONGEST) if seconds >= 0 else _LONGEST) - time.monotonic()
        state = container["state"]
        if state["pid"] and not pidfd.wait_gone(state["pid"], max(0.0, left), state["pid_start"]):
            _signal(engine, container, _KILL)
    end = time.monotonic() + _HOOK_SECONDS
    while _still_up(engine) and time.monotonic() < end:
        time.sleep(0.05)


def _still_up(engine: Engine) -> bool:
    up = ("running", "paused")
    return bool(containers.newest_first(engine.store, up) or containers.of_builds(engine.store, up))


def _signal(engine: Engine, container: "Container", number: int) -> None:
    container_id = container["record"]["Id"]
    try:
        if container["state"]["status"] == "paused" and number != _KILL:
            runc.resume(engine.settings, container_id)
        if container["state"]["pid"]:
            runc.kill(engine.settings, container_id, number)
    except (MoorageError, OSError) as error:  # it may just be ending; one must not keep the others from stopping
        engine.log(f"shutdown: container {container_id}: {error}")


def _cancel_restarts(engine: Engine, running: "list[Container]") -> None:
    """No restart policy acts any more. That no user has stopped them stays true: the next boot goes by it."""
    with engine.store.write():
        for container in running:
            containers.set_state(engine.store, container["record"]["Id"], restart_canceled=1)


if __name__ == "__main__":
    main()
