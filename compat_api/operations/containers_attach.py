"""Joining a container's terminal or streams: attach, resize."""

from compat_api.declaration import Flag, Text, post
from compat_api.reply import Hijack, Reply
from compat_api.versions import MULTIPLEXED, RAW
from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    from compat_api.streams import detach_keys as keys
    from service.engine import attach

    sequence = keys.parse(detach_keys)
    if not stream:
        return await _logs_only(engine, id, logs, stdout, stderr)
    attachment: attach.Attachment | attach.Replay
    if logs:
        attachment, container = await attach.attach_with_log(engine, id, stdin=stdin, stdout=stdout, stderr=stderr)
    else:
        attachment, container = await attach.attach(engine, id, stdin=stdin, stdout=stdout, stderr=stderr)

    async def serve(connection: "Connection") -> None:
        from compat_api.streams.session import join

        try:
            await attach.announce(engine, container, "attach")
            tty = attachment.tty
            if await join(connection, attachment, multiplexed=not tty, keys=sequence if tty else None):
                await attach.announce(engine, container, "detach")
        finally:
            attachment.leave()

    return Hijack(serve, RAW if attachment.tty else MULTIPLEXED)


async def _logs_only(engine: "Engine", id: str, history: bool, stdout: bool, stderr: bool) -> "Hijack":
    """`stream=0`: what was written so far, then the end."""
    from service.engine import attach, logs
    from service.store import containers

    container = containers.find(engine.store, id)
    attach.check_attachable(container, id)
    if history:
        logs.check_readable(container)
    wanted = {stream for stream, asked in ((1, stdout), (2, stderr)) if asked}
    tty = container["record"]["Config"]["Tty"]

    async def serve(connection: "Connection") -> None:
        from compat_api.streams.multiplex import frames, raw

        spell = raw if tty else frames
        if history:
            async for batch in logs.messages(engine, container):
                await connection.write(spell([(stream, text) for stream, _, text in batch if stream in wanted]))
        await attach.announce(engine, container, "attach")

    return Hijack(serve, RAW if tty else MULTIPLEXED)


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
