"""The few API calls that installation makes itself, over the socket, with the standard library only."""

import http.client
import json
import socket
from typing import IO, Any

from install.service import SOCKET


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(120)
        self.sock.connect(SOCKET)


def call(method: str, path: str, body: IO[bytes] | None = None) -> tuple[int, Any]:
    """Send one request; the status, and what the body's JSON says (its text where it is not one value)."""
    connection = _Connection("localhost")
    try:
        headers = {"Content-Type": "application/x-tar"} if body else {}
        connection.request(method, path, body=body, headers=headers, encode_chunked=False)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
    finally:
        connection.close()
    try:
        return answer.status, json.loads(text) if text else None
    except json.JSONDecodeError:
        return answer.status, text
