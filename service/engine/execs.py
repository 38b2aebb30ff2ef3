"""exec: a further process in a running container (API: tag Exec).

Every session has a conmon of its own, which outlives the service: a detached process runs on, and its exit hook records
how it ended. The end of an attached one is recorded here as well, before the client's connection closes: what a client
asks next is the exit code. Whoever is first records (`exec_exit`).
"""

import time

from service import bell, ids
from service.engine import events, exec_exit
from service.errors import Conflict, InvalidParameter, MoorageError, NotFound, StartRefused, SystemFailure
from service.store import containers, execs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from service.engine.engine import Engine
    from service.model.container import Container
    from service.runtime.attach_socket import AttachSocket
    from service.runtime.conmon import ExecCreation
    from service.store.execs import Exec, ExecRecord

ENDED = "OCI runtime exec failed: exec failed: cannot exec in a stopped container: unknown"  # runc's words
NOT_EXECUTABLE, UNKNOWN = 126, 128  # exit codes of what could not be started


def guard(container: "Container", reference: str) -> None:
    """Raises Conflict unless the container can take a further process."""
    status, container_id = container["state"]["status"], container["record"]["Id"]
    if status == "paused":
        raise Conflict(f"Container {reference} is paused, unpause the container before exec")
    if status == "restarting":
        raise Conflict(f"Container {container_id} is restarting, wait until the container is running")
    if status != "running":
        raise Conflict(f"container {container_id} is not running")


async def create(
    engine: "Engine",
    reference: str,
    *,
    command: "Sequence[str]",
    environment: "Sequence[str]",
    user: str,
    working_dir: str,
    privileged: bool,
    tty: bool,
    streams: tuple[bool, bool, bool],
    detach_keys: str,
    console_size: "Sequence[int] | None",
) -> str:
    """Register a session; its id. Raises NotFound, Conflict, or InvalidParameter (no command, unknown user)."""
    if not command:
        raise InvalidParameter("No exec command specified")
    container = containers.find(engine.store, reference)
    guard(container, reference)
    record: ExecRecord = {
        "ID": ids.new_id(),
        "ContainerID": container["record"]["Id"],
        "Cmd": list(command),
        "Env": list(environment),
        "User": user or container["record"]["Config"].get("User") or "",
        "WorkingDir": working_dir,
        "Privileged": privileged,
        "Tty": tty,
        "AttachStdin": streams[0],
        "AttachStdout": streams[1],
        "AttachStderr": streams[2],
        "DetachKeys": detach_keys,
        "ConsoleSize": list(console_size) if console_size else None,
    }

    def register() -> None:
        if user:
            _resolve_user(engine, container, user)
        with engine.store.write():
            execs.insert(engine.store, record, time.time_ns())
            _event(engine, container, record, "exec_create")
        bell.ring(engine.settings.bell)

    await engine.thread(register)
    return record["ID"]


def _resolve_user(engine: "Engine", container: "Container", user: str) -> "Any":
    from service.runtime import bundle, users

    root = bundle.read(engine.settings, container["record"]["Id"])["root"]["path"]
    return users.resolve_user(root, user, container["record"]["HostConfig"].get("GroupAdd") or ())


def _event(engine: "Engine", container: "Container", record: "ExecRecord", action: str) -> None:
    """dockerd names the command in the action; there is always a blank after its first word."""
    action = f"{action}: {record['Cmd'][0]} {' '.join(record['Cmd'][1:])}"
    events.container(engine.store, container["record"], action, {"execID": record["ID"]})


def find_startable(engine: "Engine", exec_id: str) -> "Exec":
    """The session, if its container can run it. Raises NotFound or Conflict."""
    session = execs.get(engine.store, exec_id)
    container_id = session["record"]["ContainerID"]
    try:
        guard(containers.get(engine.store, container_id), container_id)
    except NotFound:
        raise NotFound(f"No such exec instance: {exec_id}") from None
    return session


class Process:
    """The near side of a started, attached process (what `compat_api.streams.session` joins to a client)."""

    def __init__(
        self, engine: "Engine", record: "ExecRecord", creation: "ExecCreation", socket: "AttachSocket"
    ) -> None:
        self.engine, self.record = engine, record
        self.takes_stdin = record["AttachStdin"]
        self.passes_eof = not record["Tty"]
        self._creation, self._socket = creation, socket
        self._wanted = {1} if record["AttachStdout"] else set()
        self._wanted |= {2} if record["AttachStderr"] else set()
        self._ended = False

    async def read(self) -> "list[tuple[int, bytes]]":
        """The next output; empty at the end, and then the exit code is recorded."""
        while not self._ended:
            piece = await self._socket.read()
            if piece is None:
                self._ended = True
                await self._record_exit()
            elif piece[0] in self._wanted:
                return [piece]
        return []

    async def _record_exit(self) -> None:
        code = await self.engine.thread(self._creation.wait_exit)
        if code is not None:
            await self.engine.thread(exec_exit.record, self.engine.settings, self.engine.store, self.record["ID"], code)

    async def write(self, data: bytes) -> None:
        """To the process's stdin; returns when there is room for more."""
        try:
            await self._socket.write_stdin(data)
        except (BrokenPipeError, ConnectionResetError):
            return  # the process has ended: nobody is left to read this

    async def close_stdin(self) -> None:
        """End of file for the process."""
        self._socket.close_stdin()

    async def leave(self) -> None:
        """The client is gone or has read the end. A process that still runs, runs on; its hook records its end."""
        self._socket.close()
        self._creation.abandon()


async def start_attached(engine: "Engine", session: "Exec", console_size: "Sequence[int] | None") -> Process:
    """Start a session with its streams joined before its first byte.

    Raises Conflict when it was started before, InvalidParameter or SystemFailure when it cannot be started (126, 127
    or 128 is then its exit code).
    """
    from service.runtime import attach_socket, conmon

    record = session["record"]
    await engine.thread(_claim, engine, record)
    socket = None
    creation = None
    try:
        creation = await engine.thread(_spawn, engine, record, console_size, True)
        await engine.thread(creation.ready)
        socket = await attach_socket.connect(conmon.attach_path(engine.settings, record["ContainerID"], record["ID"]))
        await engine.thread(_run, engine, record, creation)
    except BaseException as error:
        if socket is not None:
            socket.close()
        if creation is not None:
            creation.abandon()
        if isinstance(error, Exception):
            raise await engine.thread(_failed, engine, record, error) from error
        raise
    return Process(engine, record, creation, socket)


async def start_detached(engine: "Engine", session: "Exec", console_size: "Sequence[int] | None") -> None:
    """Start a session that nobody is joined to. Raises as `start_attached` does."""
    record = session["record"]

    def start() -> None:
        _claim(engine, record)
        try:
            creation = _spawn(engine, record, console_size, False)
            try:
                _run(engine, record, creation)
            finally:
                creation.abandon()
        except Exception as error:
            raise _failed(engine, record, error) from error

    await engine.thread(start)


def _claim(engine: "Engine", record: "ExecRecord") -> None:
    with engine.store.write():
        if not execs.claim_start(engine.store, record["ID"]):
            ended = execs.get(engine.store, record["ID"])["exit_code"] is not None
            how = "has already run" if ended else "is already running"
            raise Conflict(f"exec command {record['ID']} {how}")
        container = containers.get(engine.store, record["ContainerID"])
        _event(engine, container, record, "exec_start")
    bell.ring(engine.settings.bell)


def _spawn(
    engine: "Engine", record: "ExecRecord", console_size: "Sequence[int] | None", attach: bool
) -> "ExecCreation":
    from service.runtime import bundle, capabilities, conmon, exec_spec

    settings = engine.settings
    container = containers.get(engine.store, record["ContainerID"])
    process = exec_spec.process(
        bundle.read(settings, record["ContainerID"])["process"],
        command=record["Cmd"],
        env=record["Env"],
        working_dir=record["WorkingDir"],
        user=_resolve_user(engine, container, record["User"]) if record["User"] else None,
        privileged=record["Privileged"],
        terminal=record["Tty"],
        console_size=console_size or record["ConsoleSize"],
        available=capabilities.bounding_set() if record["Privileged"] else capabilities.NAMES,
    )
    return conmon.exec_(
        settings,
        record["ContainerID"],
        record["ID"],
        process_spec=process,
        terminal=record["Tty"],
        open_stdin=record["AttachStdin"],
        exit_command=[settings.python, "-I", "-S", exec_exit.HOOK, "exec", record["ContainerID"], record["ID"]],
        attach=attach,
    )


def _run(engine: "Engine", record: "ExecRecord", creation: "ExecCreation") -> None:
    created = creation.wait()
    with engine.store.write():
        execs.set_process(engine.store, record["ID"], **created.state())
    bell.ring(engine.settings.bell)  # a resize waits for this


def _failed(engine: "Engine", record: "ExecRecord", error: Exception) -> Exception:
    """Record that a session could not be started; the error to tell, worded and coded as dockerd does."""
    if not isinstance(error, MoorageError) or "conmon failed" in error.message:
        error = SystemFailure(
            ENDED if _has_ended(engine, record["ContainerID"]) else getattr(error, "message", str(error))
        )
    told, code = error, getattr(error, "exit_code", UNKNOWN)
    if "is a directory" in error.message.lower():  # the CLI looks for these words to exit with 126
        told, code = InvalidParameter(error.message + ": permission denied"), NOT_EXECUTABLE
    elif isinstance(error, InvalidParameter) and not isinstance(error, StartRefused):
        code = NOT_EXECUTABLE
    exec_exit.record(engine.settings, engine.store, record["ID"], code, announced=False)
    return told


def _has_ended(engine: "Engine", container_id: str) -> bool:
    """Whether the container runs no more, as the files of a session go with it."""
    try:
        return containers.get(engine.store, container_id)["state"]["status"] not in ("running", "paused")
    except NotFound:
        return True


async def announce_detach(engine: "Engine", session: "Exec") -> None:
    """Record the event `exec_detach`."""

    def record() -> None:
        container = containers.get(engine.store, session["record"]["ContainerID"])
        with engine.store.write():
            events.container(engine.store, container["record"], "exec_detach", {"execID": session["record"]["ID"]})
        bell.ring(engine.settings.bell)

    await engine.thread(record)
