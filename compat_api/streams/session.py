"""A client joined to a process: bytes one way, frames the other, until the process ends or the client leaves.

Rules, as dockerd has them (API: ContainerAttach, ExecStart): the end of the process ends the connection. The end of the
client's sending side is end of file for the process where it is passed on, and output goes on; where it is not (a
terminal, or a container whose stdin stays open), it ends the connection. The detach keys end the connection and leave
the process alone; only a terminal has them.
"""

import asyncio

from compat_api.streams.detach_keys import DetachKeys
from compat_api.streams.multiplex import frames, raw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from compat_api.reply import Connection

    class Session(Protocol):
        """What `engine.attach` and `engine.execs` give: the near side of a process's streams."""

        takes_stdin: bool  # what the client sends goes to the process
        passes_eof: bool  # the end of the client's sending side closes the process's stdin

        async def read(self) -> list[tuple[int, bytes]]:
            """The next output; empty at the end."""

        async def write(self, data: bytes) -> None:
            """To the process's stdin, with back-pressure."""

        async def close_stdin(self) -> None:
            """End of file for the process."""


_LAST_WORDS = 0.1  # seconds in which a process may still answer what was typed last: `echo command | docker attach …`


async def join(connection: "Connection", session: "Session", *, multiplexed: bool, keys: "bytes | None") -> bool:
    """Carry bytes both ways until one side is done. True when the client left by its detach keys.

    `keys` is None where there are none to look for.
    """
    output = asyncio.create_task(_output(connection, session, multiplexed), name="output")
    gone = asyncio.create_task(connection.gone(), name="gone")
    typed = asyncio.create_task(_input(connection, session, keys), name="input")
    tasks: set[asyncio.Task[bool] | asyncio.Task[None]] = {output, gone, typed}
    try:
        while True:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if output in done or gone in done:
                break
            if typed.result():
                break
            if session.takes_stdin and not session.passes_eof:
                await asyncio.wait((output, gone), timeout=_LAST_WORDS, return_when=asyncio.FIRST_COMPLETED)
                break
            tasks.discard(typed)  # the client has said all; the process may still speak
        if output.done():
            _raise_unless_gone(output)
        return typed.done() and not typed.cancelled() and typed.exception() is None and typed.result()
    finally:
        for task in (output, gone, typed):
            task.cancel()
        await asyncio.gather(output, gone, typed, return_exceptions=True)


def _raise_unless_gone(task: "asyncio.Task[None]") -> None:
    error = task.exception()
    if error is not None and not isinstance(error, (ConnectionError, TimeoutError)):
        raise error


async def _output(connection: "Connection", session: "Session", multiplexed: bool) -> None:
    spell = frames if multiplexed else raw
    while pieces := await session.read():
        await connection.write(spell(pieces))


async def _input(connection: "Connection", session: "Session", keys: "bytes | None") -> bool:
    """Until the client's sending side ends (False) or its detach keys were typed (True)."""
    scanner = DetachKeys(keys) if keys else None
    try:
        while data := await connection.read():
            if not session.takes_stdin:
                continue
            if scanner is not None:
                data, left = scanner.feed(data)
                if left:
                    if data:
                        await session.write(data)
                    return True
            if data:
                await session.write(data)
    except ConnectionError:
        pass  # the client broke off: for the process the same as its end of file
    if session.takes_stdin:
        if scanner is not None and (held := scanner.rest()):
            await session.write(held)
        if session.passes_eof:
            await session.close_stdin()
    return False
