"""Waiting for the end of a process, whoever's child it is: its pidfd in the event loop, so that nobody looks again."""

import asyncio
import os

from service.kernel import pidfd


async def until_ended(pid: int, start_time: int = 0) -> None:
    """Return when the process has ended, also when that is long ago; it need not have been reaped.

    `start_time` (clock ticks since boot, 0: not known) tells it from a later one of the same number.
    """
    try:
        fd = pidfd.opened(pid)
    except ProcessLookupError:
        return
    try:
        if pidfd.is_alive(pid, start_time):
            await until_over(fd)
    finally:
        os.close(fd)


async def until_over(fd: int) -> None:
    """Return when the process of a descriptor (pidfd_open(2)) has ended."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _set, over)
    try:
        await over
    finally:
        loop.remove_reader(fd)


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
