"""A session inside a gRPC stream (`Control.Session`): the bytes of its HTTP/2 connection travel as messages."""

import asyncio

from compat_api.buildkit.wire.control_pb2 import BytesMessage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from compat_api.buildkit.builds import Builds
    from compat_api.buildkit.session import Session

_QUEUED = 1 << 20  # bytes that wait for the client before whoever writes has to


class Tunnel(asyncio.Transport):
    """As much of a transport as grpclib's protocol needs."""

    def __init__(self, stream: "Any", protocol: "Any") -> None:
        super().__init__()
        self._stream, self._protocol = stream, protocol
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._queued = 0
        self._closing = False
        self._reading = asyncio.Event()
        self._reading.set()

    def pause_reading(self) -> None:
        """Leave what comes with the stream."""
        self._reading.clear()

    def resume_reading(self) -> None:
        """Take it again."""
        self._reading.set()

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        """Queue bytes for the client."""
        if self._closing:
            return
        self._queued += len(data)
        self._queue.put_nowait(bytes(data))
        if self._queued > _QUEUED:
            self._protocol.pause_writing()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing

    def close(self) -> None:
        """Send what is queued, and end."""
        if not self._closing:
            self._closing = True
            self._queue.put_nowait(None)

    def abort(self) -> None:
        """End."""
        self.close()

    async def run(self) -> None:
        """Until either side ends it."""
        self._protocol.connection_made(self)
        sending = asyncio.create_task(self._send(), name="tunnel to the client")
        receiving = asyncio.create_task(self._receive(), name="tunnel from the client")
        try:
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.close()
            self._protocol.connection_lost(None)
            for task in (sending, receiving):
                task.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    async def _send(self) -> None:
        while (data := await self._queue.get()) is not None:
            await self._stream.send_message(BytesMessage(data=data))
            self._queued -= len(data)
            if self._queued <= _QUEUED:
                self._protocol.resume_writing()

    async def _receive(self) -> None:
        async for message in self._stream:
            await self._reading.wait()
            self._protocol.data_received(message.data)


async def serve(builds: "Builds", session: "Session", stream: "Any") -> None:
    """Have a session as long as its stream lasts. Raises Conflict for an id that is taken."""
    tunnel = Tunnel(stream, session.calls.protocol)
    builds.sessions.check(session.id)
    running = asyncio.ensure_future(tunnel.run())
    await asyncio.sleep(0)  # the connection is made: calls may come
    builds.sessions.add(session)
    try:
        await running
    finally:
        running.cancel()
        builds.sessions.drop(session)
