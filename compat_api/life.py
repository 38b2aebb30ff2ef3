"""The life of the service process: take the socket, answer what is short, serve the rest, leave when idle."""

import _signal  # type: ignore[import-not-found]  # typeshed knows `signal` alone, which imports `enum`
import os
import posix
import sys

from compat_api import negotiation
from compat_api.stage0 import Stage0
from service import activation, journal
from service.errors import MoorageError
from service.idle import Idle, grace_left
from service.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

_HELD_LOOK = 0.1  # seconds after which to look again whether work that is no request has ended
USAGE = "usage: python -I -S service/__main__.py [--socket PATH]"


def main(arguments: list[str]) -> None:
    """Run the service process; never returns."""
    settings = Settings()
    journal.set_level(settings.log_level)
    negotiation.follow(settings.daemon_json)
    path = ""
    if len(arguments) == 2 and arguments[0] == "--socket":
        path = arguments[1]
    elif arguments:
        sys.exit(USAGE)
    try:
        listener = activation.bind(path) if path else activation.adopt()
    except MoorageError as error:
        sys.exit(f"moorage: {error.message}")
    if listener is None:
        sys.exit(f"moorage: the service manager passed no socket\n{USAGE}")
    code = Life(settings, listener, path).run()
    sys.stderr.flush()
    posix._exit(code)  # nothing is left to lose: taking the interpreter down would cost 10 to 30 ms


class Life:
    """One life of the process. `path` is set when the socket is our own: then nobody would wake a successor."""

    def __init__(self, settings: Settings, listener: "_socket.socket", path: str) -> None:
        self.settings, self.listener, self.path = settings, listener, path
        self.idle = Idle(settings.idle_window)
        self.engine_or_none: Any = None
        self.looks: Any = None  # engine.monitors: as long as there is no loop, …
        self.watching: Any = None  # … and then
        self.stopping = self.in_loop = False
        self.told_ready = False
        self.wake_read, self.wake_write = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)

    def run(self) -> int:
        """Until idle or told to stop; the exit code."""
        _signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        for number in (_signal.SIGTERM, _signal.SIGINT):
            _signal.signal(number, self._told_to_stop)
        stage = Stage0(self.listener, self.engine, self.idle)
        stage.watch(self.wake_read)
        if not self.stage0(stage):
            self.serve(stage)
        self._say_goodbye()
        return 0

    def stage0(self, stage: Stage0) -> bool:
        """Answer the short operations. True when the life ends here, False when the loop is needed."""
        while not self.stopping:
            stage.turn(self._patience(stage))
            if not self.told_ready:
                activation.notify("READY=1")  # after the first answer: it costs a library and a message
                self.told_ready = True
            if stage.left:
                return False
            if not self.path and not self._patience(stage):
                break
        if self.looks is not None:
            self.looks.look()
        self.stop_notice()
        return stage.leave()

    def serve(self, stage: Stage0) -> None:
        """The event loop, with the connections that stage 0 has."""
        import gc

        from compat_api import server
        from service import process

        process.allow_descriptors()  # each attached client has several, and each container one
        gc.freeze()
        gc.enable()
        server.run(self, stage.hand_over())

    def engine(self) -> "Any":
        """The engine, made at its first use: the state of the machine and the store are brought together then."""
        if self.engine_or_none is None:
            from service.engine import monitors, reconcile
            from service.engine.engine import Engine

            engine = Engine(self.settings)
            engine.open()
            reconcile.at_start(engine)
            self.engine_or_none = engine
            self.looks = monitors.Looks(engine)
            if self.in_loop:
                self.watch()
        elif self.looks is not None:
            self.looks.look()
        return self.engine_or_none

    def watch(self) -> None:
        """In the loop, once it runs: wait for monitors that end, instead of looking."""
        self.in_loop = True
        if self.engine_or_none is not None:
            from service.engine import monitors

            self.looks = None
            self.watching = monitors.Watch(self.engine_or_none)
            self.watching.begin()

    def held(self) -> bool:
        """Whether work is in flight that is no request."""
        engine = self.engine_or_none
        return engine is not None and (engine.held > 0 or (engine.flusher is not None and engine.flusher.running))

    def _patience(self, stage: Stage0) -> float:
        """Seconds to wait for something before leaving is considered."""
        if self.path:
            return 3600.0
        left = self.idle.remaining() or (_HELD_LOOK if self.held() else 0.0)
        youngest = stage.youngest_silent()
        return left if youngest is None else max(left, grace_left(youngest))

    def _told_to_stop(self, _number: int, _frame: object) -> None:
        self.stopping = True

    def stop_notice(self) -> None:
        """Tell the service manager that we are leaving."""
        activation.notify("STOPPING=1")

    def _say_goodbye(self) -> None:
        if self.path:
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                pass  # somebody tidied up before us
