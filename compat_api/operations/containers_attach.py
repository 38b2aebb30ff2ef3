"""Joining a container's terminal or streams: attach, resize."""

from compat_api.declaration import ApiVersion, Flag, Header, Text, get, post
from compat_api.reply import Hijack, Reply
from compat_api.versions import MULTIPLEXED, RAW, has
from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from compat_api.reply import Connection
    from service.engine.engine import Engine


@post("/containers/{id}/attach")
async def container_attach(
    engine: "Engine",
    id: str,
    detach_keys: str = Text(name="detachKeys"),
    logs: bool = Flag(),
    stream: bool = Flag(),
    stdin: bool = Flag(),
    stdout: bool = Flag(),
    stderr: bool = Flag(),
) -> "Hijack":
    """Attach to a container (ContainerAttach)."""
    asked = _Asked(detach_keys, logs, stream, stdin, stdout, stderr)
    serve, tty = await _joined(engine, id, asked, multiplexes=True)
    return Hijack(serve, RAW if tty else MULTIPLEXED)


@get("/containers/{id}/attach/ws")
async def container_attach_websocket(
    engine: "Engine",
    id: str,
    detach_keys: str = Text(name="detachKeys"),
    logs: bool = Flag(),
    stream: bool = Flag(),
    stdin: bool = Flag(),
    stdout: bool = Flag(),
    stderr: bool = Flag(),
    upgrade: str = Header(name="upgrade"),
    connection: str = Header(name="connection"),
    key: str = Header(name="sec-websocket-key"),
    websocket_version: str = Header(name="sec-websocket-version"),
    protocol: str = Header(name="sec-websocket-protocol"),
    version: tuple[int, int] = ApiVersion(),
) -> "Hijack":
    """Attach to a container through a websocket, whose messages are the raw bytes (ContainerAttachWebsocket)."""
    from compat_api.streams import websocket
    from service.engine import attach
    from service.store import containers

    if not has("streams chosen on a websocket", version):
        stdin = stdout = stderr = True
    asked = _Asked(detach_keys, logs, stream, stdin, stdout, stderr)
    attach.check_attachable(containers.find(engine.store, id), id)  # told before what is wrong with the handshake
    fields = websocket.handshake(upgrade, connection, key, websocket_version, protocol)
    serve, _ = await _joined(engine, id, asked, multiplexes=False)
    opcode = websocket.BINARY if has("binary frames on a websocket", version) else websocket.TEXT

    async def speak(raw: "Connection") -> None:
        spoken = websocket.WebSocket(raw, opcode)
        try:
            await serve(spoken)
        finally:
            await spoken.close()

    return Hijack(speak, switching=fields)


class _Asked:
    """What a client that attaches asks for. Raises InvalidParameter for keys that are none."""

    def __init__(self, detach_keys: str, logs: bool, stream: bool, stdin: bool, stdout: bool, stderr: bool) -> None:
        from compat_api.streams import detach_keys as keys

        self.keys = keys.parse(detach_keys)
        self.logs, self.stream, self.stdin, self.stdout, self.stderr = logs, stream, stdin, stdout, stderr


async def _joined(
    engine: "Engine", id: str, asked: _Asked, *, multiplexes: bool
) -> "tuple[Callable[[Connection], Awaitable[None]], bool]":
    """What serves the connection, and whether the container has a terminal. Raises as `engine.attach` does.

    `multiplexes`: several streams are told apart by frames (without a terminal).
    """
    from service.engine import attach

    if not asked.stream:
        return await _logs_only(engine, id, asked, multiplexes)
    attachment: attach.Attachment | attach.Replay
    join_in = attach.attach_with_log if asked.logs else attach.attach
    attachment, container = await join_in(engine, id, stdin=asked.stdin, stdout=asked.stdout, stderr=asked.stderr)
    tty = attachment.tty

    async def serve(connection: "Connection") -> None:
        from compat_api.streams.session import join

        try:
            await attach.announce(engine, container, "attach")
            keys = asked.keys if tty else None
            if await join(connection, attachment, multiplexed=multiplexes and not tty, keys=keys):
                await attach.announce(engine, container, "detach")
        finally:
            attachment.leave()

    return serve, tty


async def _logs_only(
    engine: "Engine", id: str, asked: _Asked, multiplexes: bool
) -> "tuple[Callable[[Connection], Awaitable[None]], bool]":
    """`stream=0`: what was written so far, then the end."""
    from service.engine import attach, logs
    from service.store import containers

    container = containers.find(engine.store, id)
    attach.check_attachable(container, id)
    if asked.logs:
        logs.check_readable(container)
    wanted = {stream for stream, chosen in ((1, asked.stdout), (2, asked.stderr)) if chosen}
    tty = container["record"]["Config"]["Tty"]

    async def serve(connection: "Connection") -> None:
        from compat_api.streams.multiplex import frames, raw

        spell = frames if multiplexes and not tty else raw
        if asked.logs:
            async for batch in logs.messages(engine, container):
                await connection.write(spell([(stream, text) for stream, _, text in batch if stream in wanted]))
        await attach.announce(engine, container, "attach")

    return serve, tty


def dimension(name: str, text: str) -> int:
    """A terminal's height or width. Raises InvalidParameter as dockerd does."""
    word = {"h": "height", "w": "width"}[name]
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isascii() or not digits.isdigit() or text[:1] == "+":
        raise InvalidParameter(f'invalid resize {word} "{text}": invalid syntax')
    number = int(text)
    if not 0 <= number < 1 << 32:
        raise InvalidParameter(f'invalid resize {word} "{text}": value out of range')
    return number


@post("/containers/{id}/resize")
async def container_resize(engine: "Engine", id: str, h: str = Text(), w: str = Text()) -> "Reply":
    """Resize a container's terminal (ContainerResize)."""
    from service.engine import resize

    await resize.container(engine, id, dimension("h", h), dimension("w", w))
    return Reply.empty(200)
