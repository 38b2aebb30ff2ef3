"""Exec: further processes in a running container."""

from compat_api.declaration import ApiVersion, Text, get, post
from compat_api.operations.containers_attach import dimension
from compat_api.reply import Hijack, Reply
from compat_api.versions import MULTIPLEXED, RAW, has
from service.errors import MoorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from compat_api.reply import Connection
    from compat_api.schemas.execs import ExecCreateRequest, ExecStartRequest
    from service.engine.engine import Engine


@post("/containers/{id}/exec", body="compat_api.schemas.execs:ExecCreateRequest")
async def exec_create(
    engine: "Engine", id: str, version: tuple[int, int] = ApiVersion(), *, body: "ExecCreateRequest"
) -> "Reply":
    """Create an exec session (ContainerExec)."""
    from compat_api.streams import detach_keys
    from service.engine import execs

    detach_keys.parse(body.DetachKeys or "", "escape")
    exec_id = await execs.create(
        engine,
        id,
        command=body.Cmd or [],
        environment=body.Env or [],
        user=body.User or "",
        working_dir=body.WorkingDir or "",
        privileged=bool(body.Privileged),
        tty=bool(body.Tty),
        streams=(bool(body.AttachStdin), bool(body.AttachStdout), bool(body.AttachStderr)),
        detach_keys=body.DetachKeys or "",
        console_size=body.ConsoleSize if has("exec console size", version) else None,
    )
    return Reply.json({"Id": exec_id}, "IDResponse", status=201)


@post("/exec/{id}/start", body="compat_api.schemas.execs:ExecStartRequest")
async def exec_start(
    engine: "Engine", id: str, version: tuple[int, int] = ApiVersion(), *, body: "ExecStartRequest"
) -> "Reply | Hijack":
    """Start an exec session (ExecStart). The start's own `Tty` decides about frames; the process has create's."""
    from service.engine import execs

    session = execs.find_startable(engine, id)
    size = body.ConsoleSize if body.Tty and has("exec console size", version) else None
    if body.Detach:
        await execs.start_detached(engine, session, size)
        return Reply.empty(200)
    multiplexed = not body.Tty

    async def serve(connection: "Connection") -> None:
        from compat_api.streams import detach_keys
        from compat_api.streams.multiplex import STDOUT, frame
        from compat_api.streams.session import join

        try:
            process = await execs.start_attached(engine, session, size)
        except MoorageError as error:
            text = error.message.encode() + b"\r\n"
            await connection.write(frame(STDOUT, text) if multiplexed else text)
            return
        record = session["record"]
        keys = detach_keys.parse(record["DetachKeys"]) if record["Tty"] else None
        try:
            if await join(connection, process, multiplexed=multiplexed, keys=keys):
                await execs.announce_detach(engine, session)
        finally:
            await process.leave()

    return Hijack(serve, MULTIPLEXED if multiplexed else RAW)


@get("/exec/{id}/json")
def exec_inspect(engine: "Engine", id: str) -> "Reply":
    """Inspect an exec session (ExecInspect)."""
    from service.store import execs

    session = execs.get(engine.store, id)
    record = session["record"]
    keys = ""
    if record["DetachKeys"]:
        from base64 import b64encode

        from compat_api.streams import detach_keys

        keys = b64encode(detach_keys.parse(record["DetachKeys"])).decode()
    return Reply.json(
        {
            "ID": record["ID"],
            "Running": session["running"],
            "ExitCode": session["exit_code"],
            "ProcessConfig": {
                "tty": record["Tty"],
                "entrypoint": record["Cmd"][0],
                "arguments": record["Cmd"][1:],
                "privileged": record["Privileged"],
                **({"user": record["User"]} if record["User"] else {}),
            },
            "OpenStdin": record["AttachStdin"],
            "OpenStderr": record["AttachStderr"],
            "OpenStdout": record["AttachStdout"],
            "CanRemove": False,
            "ContainerID": record["ContainerID"],
            "DetachKeys": keys,
            "Pid": session["pid"],
        },
        "ExecInspect",
    )


@post("/exec/{id}/resize")
async def exec_resize(engine: "Engine", id: str, h: str = Text(), w: str = Text()) -> "Reply":
    """Resize the terminal of an exec session (ExecResize)."""
    from service.engine import resize

    await resize.exec_session(engine, id, dimension("h", h), dimension("w", w))
    return Reply.empty(200)
