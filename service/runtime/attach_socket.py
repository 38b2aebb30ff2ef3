"""conmon's attach socket: a SEQPACKET socket whose packets from conmon are one byte of stream (2 stdout, 3 stderr; a
terminal is all stdout) and then data, and whose packets to conmon are stdin. Here the streams have Docker's numbers.

conmon writes to a client before it goes on: a client that does not read stops the container. So the service, which
always reads, is the only client; it feeds its own.
"""

import asyncio
import os
import socket

_PACKET = 16 * 1024  # conmon reads at most 32 KiB of a packet, and the rest would be lost
_READ = 64 * 1024  # conmon's packets hold at most 8 KiB and the byte of the stream

STDOUT, STDERR = 1, 2  # as Docker frames them


class AttachSocket:
    """One connection. Not shared between tasks, but for one that reads and one that writes."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._loop = asyncio.get_running_loop()

    async def read(self) -> "tuple[int, bytes] | None":
        """The next (stream, data); None when the process has ended and everything was read."""
        try:
            packet = await self._loop.sock_recv(self._socket, _READ)
        except ConnectionResetError:
            # conmon ended while stdin that nobody read was still under way. The kernel tells that first and once;
            # output that was sent before is still there to be read.
            packet = await self._loop.sock_recv(self._socket, _READ)
        return (packet[0] - 1, packet[1:]) if packet else None

    async def write_stdin(self, data: bytes) -> None:
        """Send stdin; waits while the process does not read it. Raises BrokenPipeError when it has ended."""
        view = memoryview(data)
        while view:
            await self._loop.sock_sendall(self._socket, view[:_PACKET])
            view = view[_PACKET:]

    def close_stdin(self) -> None:
        """No more stdin: the process reads end of file (unless its stdin outlives its clients); output goes on."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it has ended: there is no stdin to close

    def close(self) -> None:
        """Leave. The process goes on."""
        self._socket.close()


async def connect(path: str) -> AttachSocket:
    """Connect to the attach socket at `path`. Raises FileNotFoundError or ConnectionRefusedError when none listens.

    A path may be longer than a socket address holds: the directory is opened, and the socket named through it.
    """
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        connection.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(directory)
    return AttachSocket(connection)
