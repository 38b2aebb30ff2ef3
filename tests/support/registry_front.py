"""What stands before a registry and is in the way: it breaks, lies, asks for patience, is a proxy, speaks TLS."""

import http.server
import select
import socket
import ssl
import threading
from typing import Any

import requests

from tests.support.registry import Registry


class Fault:
    """What happens `times` times to requests whose "METHOD /path" contains `where`."""

    def __init__(
        self,
        where: str,
        *,
        times: int = 1,
        status: int = 0,
        headers: "dict[str, str] | None" = None,
        body: bytes = b"",
        corrupt: bool = False,
        reset: bool = False,
        hold: "threading.Event | None" = None,
    ) -> None:
        """`hold`: half of the answer's body, and the rest once that event is set; `Front.left` when nobody waits."""
        self.where, self.times, self.status, self.body = where, times, status, body
        self.headers, self.corrupt, self.reset, self.hold = headers or {}, corrupt, reset, hold


class Front(http.server.ThreadingHTTPServer):
    """Passes requests on to a registry; `faults` are used up, `seen` keeps ("METHOD /path", headers).

    As a proxy it serves any http:// address by that registry, and tunnels CONNECT to `tunnels[host:port]`.
    """

    daemon_threads = True

    def __init__(self, registry: Registry, context: "ssl.SSLContext | None" = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.registry, self.is_tls = registry, context is not None
        self.address = f"127.0.0.1:{self.server_address[1]}"
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.tunnels: dict[str, tuple[str, int]] = {}
        self.held, self.left = threading.Event(), threading.Event()  # somebody was made to wait; and has gone
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not like our certificate is no news."""

    def __enter__(self) -> "Front":
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def fault(self, line: str) -> "Fault | None":
        """The next fault for a request."""
        for fault in self.faults:
            if fault.times and fault.where in line:
                fault.times -= 1
                return fault
        return None


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Front
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def handle_any(self) -> None:
        path = self.path
        if path.startswith("http://"):
            path = "/" + path.removeprefix("http://").partition("/")[2]
        line = f"{self.command} {path}"
        self.server.seen.append((f"{self.command} {self.path}", dict(self.headers.items())))
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault(line)
        if fault is not None and fault.status:
            self._answer(fault.status, fault.headers, fault.body)
            return
        kept = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "expect")}
        if self.server.is_tls:
            kept["X-Forwarded-Proto"] = "https"
        upstream = requests.request(
            self.command,
            f"http://{self.server.registry.address}{path}",
            headers=kept,
            data=content,
            timeout=20,
            allow_redirects=False,
        )
        body = upstream.content
        if fault is not None and fault.corrupt:
            body = bytes(len(body))
        headers = {
            name: value
            for name, value in upstream.headers.items()
            if name.lower() not in ("content-length", "transfer-encoding", "connection")
        }
        if self.command == "HEAD":
            headers["Content-Length"] = upstream.headers.get("Content-Length", "0")
        if fault is not None and fault.hold is not None:
            self._answer(upstream.status_code, headers, body, hold=fault.hold)
        else:
            self._answer(upstream.status_code, headers, body, cut=fault is not None and fault.reset)

    def _answer(
        self,
        status: int,
        headers: "dict[str, str]",
        body: bytes,
        *,
        cut: bool = False,
        hold: "threading.Event | None" = None,
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if cut:
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        if hold is not None:
            self.wfile.write(body[: len(body) // 2])
            body = body[len(body) // 2 :]
            self.server.held.set()
            if self._has_gone(hold):
                self.server.left.set()
                self.close_connection = True
                return
        self.wfile.write(body)

    def _has_gone(self, hold: threading.Event) -> bool:
        """Wait for the event; whether the client left before it came."""
        while not hold.wait(0.02):
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                return True
        return False

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = handle_any  # noqa: N815 - http.server looks for these names

    def do_CONNECT(self) -> None:
        self.server.seen.append((f"CONNECT {self.path}", dict(self.headers.items())))
        target = self.server.tunnels.get(self.path)
        if target is None:
            self.send_error(502, "no such tunnel")
            return
        with socket.create_connection(target, 10) as far:
            self.send_response(200)
            self.end_headers()
            there = threading.Thread(target=_pour, args=(self.connection, far), daemon=True)
            there.start()
            _pour(far, self.connection)
            there.join()
        self.close_connection = True


def _pour(source: socket.socket, sink: socket.socket) -> None:
    try:
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the other side has gone
