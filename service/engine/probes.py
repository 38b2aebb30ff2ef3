"""The duty `health`: a container's probes, run on time, their results recorded (the rules: `engine.health`).

A probe is an exec session without a monitor of its own: the keeper starts it by the runtime, and as the nearest
subreaper becomes its parent, so it learns how it ended, and no further process is needed. What it runs was written down
by the launch (`engine.specification`).
"""

import os
import time

from service import bell, ids, timestamps
from service.engine import events, exec_exit, health
from service.errors import MoorageError, NotFound
from service.kernel import pidfd
from service.runtime import runc
from service.store import containers, execs
from service.store import events as stored_events
from service.store import health as stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.keeper import Keeper
    from service.model.container import Container
    from service.store.execs import Exec
    from service.store.health import Result

START_SECONDS = 30.0  # that the runtime may take to start a probe; they are not part of the probe's own time
STARTING_AT_ONCE = 16  # probes on their way: each is a runtime, with some 10 MB
KILL = 9
NOT_RUN = -1  # the exit code, in a result, of a probe that was not run to its end
_NOT_STARTED = 126  # the exit code of its exec session
_PIECES, _PIECE = 16, 65536  # how often a probe's output is read before others have their turn, and bytes at once


class Probes:
    """The probes of one start of one container (engine.duty.Duty)."""

    def __init__(self, keeper: "Keeper", container: "Container") -> None:
        self.settings, self.store, self.loop = keeper.settings, keeper.store, keeper.loop
        self.container_id = container["record"]["Id"]
        self.generation, self.started_at = container["state"]["generation"], container["state"]["started_at"]
        self.init_pid = container["state"]["pid"]
        self.record = container["record"]
        self.timer: object = None
        self.probe: Probe | None = None
        known = stored.get(self.store, self.container_id)
        last = known["Log"][-1]["End"] if known and known["Log"] else timestamps.NEVER
        since = max(timestamps.nanoseconds(last), timestamps.nanoseconds(self.started_at))
        if container["state"]["status"] == "running":
            self._arm(since)

    def changed(self, status: str) -> None:
        """Paused: the probes rest, and one on its way is of no interest. Going on: the next comes an interval later."""
        if status == "paused":
            self.end()
        else:
            self._arm(time.time_ns())

    def end(self) -> None:
        """No more probes; one on its way is ended, and nobody asks how it went."""
        self.loop.cancel(self.timer)
        if self.probe is not None:
            self.probe.cancel()
            self.probe = None

    def _arm(self, since_ns: int) -> None:
        """Set the timer for the next probe, an interval after the moment given (ns since 1970)."""
        now = time.time_ns()
        known = stored.get(self.store, self.container_id)
        status = known["Status"] if known else health.STARTING
        wait = health.interval(self.record, status, now - timestamps.nanoseconds(self.started_at))
        left = min(wait, since_ns + wait - now)  # never longer, whatever became of the clock
        self.loop.cancel(self.timer)
        self.timer = self.loop.at(time.monotonic() + max(0, left) / 1e9, self._probe)

    def _probe(self) -> None:
        if not pidfd.is_alive(self.init_pid):
            return  # it has ended, and its hook is about to say so
        if len(Probe.starting) >= STARTING_AT_ONCE:
            self.timer = self.loop.at(time.monotonic() + 0.05, self._probe)
            return
        self.probe = Probe(self)
        try:
            self.probe.start()
        except BaseException:
            self.probe = None
            self._arm(time.time_ns())  # the next one may fare better
            raise

    def judge(self, session: "Exec | None", result: "Result", *, ran: bool) -> None:
        """A probe has ended. Nothing is recorded of a container that was paused, or that has ended, meanwhile."""
        self.probe = None
        code = result["ExitCode"] if ran else _NOT_STARTED
        try:
            self._record(session, code if code >= 0 else 128 + KILL, result, ran)
        except NotFound:
            return  # removed meanwhile
        finally:
            self._arm(time.time_ns())
        bell.ring(self.settings.bell)

    def _record(self, session: "Exec | None", exec_code: int, result: "Result", ran: bool) -> None:
        store = self.store
        alive = pidfd.is_alive(self.init_pid)
        with store.write():
            container = containers.get(store, self.container_id)
            state, known = container["state"], stored.get(store, self.container_id)
            if session is not None:
                exec_exit.end(store, session, exec_code, announced=ran)
            if known is None or (state["status"], state["generation"], alive) != ("running", self.generation, True):
                return
            after = health.judge(container["record"], known, result, self.started_at)
            stored.put(store, self.container_id, after)
            if after["Status"] != known["Status"]:
                events.container(store, container["record"], f"health_status: {after['Status']}")
            if stored_events.overdue(store):  # the service that trims otherwise may sleep for weeks
                stored_events.trim(store)


class Probe:
    """One probe: registered as an exec session, started, watched, ended."""

    starting: "set[Probe]" = set()

    def __init__(self, owner: Probes) -> None:
        self.owner, self.settings, self.store, self.loop = owner, owner.settings, owner.store, owner.loop
        self.began = timestamps.now()
        self.session: Exec | None = None
        self.place = health.folder(owner.settings, owner.container_id)
        self.files = f"{self.place}/{ids.short(ids.new_id())}"  # .pid and .log
        self.output, self.truncated = b"", False
        self.reader = -1
        self.launcher, self.pid = 0, 0
        self.timer: object = None
        self.timed_out = self.canceled = False

    def start(self) -> None:
        """Begin. Whatever goes wrong is a result."""
        words = health.command(self.owner.record["Config"])
        if not words:
            self._finish(NOT_RUN, f"healthcheck for container {self.owner.container_id} has no command", ran=False)
            return
        try:
            self._register(words)
            self._spawn()
        except (OSError, MoorageError) as error:
            self._close()
            self._finish(NOT_RUN, str(error), ran=False)

    def _register(self, words: list[str]) -> None:
        config, exec_id = self.owner.record["Config"], ids.new_id()
        with self.store.write():
            about = containers.get(self.store, self.owner.container_id)["record"]
            execs.insert(
                self.store,
                {
                    "ID": exec_id,
                    "ContainerID": self.owner.container_id,
                    "Cmd": words,
                    "Env": [],
                    "User": config.get("User") or "",
                    "WorkingDir": config.get("WorkingDir") or "",
                    "Privileged": False,
                    "Tty": False,
                    "AttachStdin": False,
                    "AttachStdout": True,
                    "AttachStderr": True,
                    "DetachKeys": "",
                    "ConsoleSize": None,
                    "Probe": True,
                },
                time.time_ns(),
            )
            execs.claim_start(self.store, exec_id)
            for action in ("exec_create", "exec_start"):
                shown = f"{action}: {words[0]} {' '.join(words[1:])}"
                events.container(self.store, about, shown, {"execID": exec_id})
            self.session = execs.get(self.store, exec_id)
        bell.ring(self.settings.bell)

    def _spawn(self) -> None:
        self.reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(writer, True)
            self.launcher = runc.exec_detached(
                self.settings,
                self.owner.container_id,
                process_spec=self.place + "/process.json",
                pid_file=self.files + ".pid",
                log=self.files + ".log",
                output=writer,
            )
        finally:
            os.close(writer)
        Probe.starting.add(self)
        self.loop.readable(self.reader, self._read)
        self.timer = self.loop.at(time.monotonic() + START_SECONDS, self._too_slow)
        self.loop.child(self.launcher, self._launched)

    def _too_slow(self) -> None:
        pidfd.send_signal(self.launcher, KILL)

    def _launched(self, code: int) -> None:
        """The runtime has done its part: from now on the probe's time counts."""
        Probe.starting.discard(self)
        self.loop.cancel(self.timer)
        self.launcher = 0
        if code:
            if code == -KILL:
                text = f"timed out starting health check for container {self.owner.container_id}"
            else:
                text = runc.refusal(self.files + ".log", "exec").message
            self._close()
            self._finish(NOT_RUN, text, ran=False)
            return
        try:
            with open(self.files + ".pid", "rb") as file:
                self.pid = int(file.read())
        except (OSError, ValueError) as error:  # the container is being removed under us
            self._close()
            self._finish(NOT_RUN, str(error), ran=False)
            return
        self.loop.child(self.pid, self._ended)
        seconds = health.duration(self.owner.record, "Timeout") / 1e9
        self.timer = self.loop.at(time.monotonic() + seconds, self._time_out)
        if self.canceled:
            self._kill()
        elif self.session is not None:
            with self.store.write():
                start = pidfd.process_start_time(self.pid)
                execs.set_process(
                    self.store,
                    self.session["record"]["ID"],
                    pid=self.pid,
                    pid_start=start,
                    conmon_pid=0,
                    conmon_start=0,
                )

    def _read(self) -> None:
        """Take output; what is too much is read and dropped, so that no probe waits for us, nor all others for one."""
        for _ in range(_PIECES):
            try:
                piece = os.read(self.reader, _PIECE)
            except BlockingIOError:
                return
            if not piece:
                self.loop.forget(self.reader)
                return
            self.truncated |= len(self.output) + len(piece) > health.OUTPUT_MAX
            self.output = (self.output + piece)[: health.OUTPUT_MAX]

    def _time_out(self) -> None:
        self.timed_out = True
        self._kill()

    def cancel(self) -> None:
        """The container ends or rests: the probe is ended, its result is not wanted."""
        self.canceled = True
        if self.pid:
            self._kill()

    def _kill(self) -> None:
        """End the probe and what it has started: what is of its session, or descends from it."""
        for pid in pidfd.kin(self.pid, self._in_container()):
            pidfd.send_signal(pid, KILL)

    def _in_container(self) -> list[int]:
        try:
            return runc.ps(self.settings, self.owner.container_id)
        except NotFound:
            return []

    def _ended(self, status: int) -> None:
        self.loop.cancel(self.timer)
        if self.reader >= 0:
            self._read()
        self._close()
        text = self.output.decode("utf-8", "replace") + ("..." if self.truncated else "")
        code = status if status >= 0 else 128 - status
        if self.timed_out:
            spent = health.go_duration(health.duration(self.owner.record, "Timeout"))
            code, text = NOT_RUN, f"Health check exceeded timeout ({spent})" + (f": {text}" if text else "")
        self._finish(code, text, ran=True)

    def _close(self) -> None:
        if self.reader >= 0:
            self.loop.forget(self.reader)
            os.close(self.reader)
            self.reader = -1
        for ending in (".pid", ".log"):
            try:
                os.unlink(self.files + ending)
            except FileNotFoundError:
                continue

    def _finish(self, code: int, text: str, *, ran: bool) -> None:
        if self.canceled:
            self._forget(code if code >= 0 else 128 + KILL, ran)
            return
        result: Result = {"Start": self.began, "End": timestamps.now(), "ExitCode": code, "Output": text}
        self.owner.judge(self.session, result, ran=ran)

    def _forget(self, code: int, ran: bool) -> None:
        if self.session is None:
            return
        try:
            with self.store.write():
                exec_exit.end(self.store, self.session, code, announced=ran)
        except NotFound:
            return  # its container is gone
        bell.ring(self.settings.bell)
