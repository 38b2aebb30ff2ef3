"""A volume plugin (Docker's protocol v1) of a test's own: volumes are directories, mounts are counted by their ids."""

import json
import os
import socketserver
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any


class VolumePlugin:
    """Listens on `path`, or with `context` by TLS on `port` of 127.0.0.1, while it is used as a context manager.

    `folder` holds the volumes' files. `held`: which ids hold each volume, in the order in which they came. `refused`:
    what is said to a method instead of doing it. `before_answer`: called with method and arguments after a question was
    obeyed and before it is answered.
    """

    def __init__(self, path: Path, folder: Path, context: ssl.SSLContext | None = None) -> None:
        self.path, self.folder = path, folder
        self.options: dict[str, dict[str, str]] = {}
        self.held: dict[str, list[str]] = {}
        self.refused: dict[str, str] = {}
        self.asked: list[str] = []
        self.before_answer: Callable[[str, dict[str, Any]], None] = lambda _method, _arguments: None
        plugin = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                arguments = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}")
                method = self.path.strip("/")
                plugin.asked.append(method)
                answer = plugin.obey(method, arguments)
                plugin.before_answer(method, arguments)
                text = json.dumps(answer).encode()
                try:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)
                except BrokenPipeError:
                    pass  # who asked was killed

            def log_message(self, format: str, *words: object) -> None:
                """Say nothing."""

            def address_string(self) -> str:
                return "unix"

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        class Secure(socketserver.ThreadingMixIn, socketserver.TCPServer):
            daemon_threads = True

            def finish_request(self, request: Any, client_address: Any) -> None:
                assert context is not None
                try:
                    wrapped = context.wrap_socket(request, server_side=True)
                except ssl.SSLError:
                    return  # the client did not like us, or we not it
                with wrapped:
                    super().finish_request(wrapped, client_address)

        self.server: socketserver.BaseServer
        if context is None:
            self.server = Server(str(path), Handler)
        else:
            self.server = Secure(("127.0.0.1", 0), Handler)
            self.port = int(self.server.server_address[1])
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})

    def obey(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if method in self.refused:
            return {"Err": self.refused[method]}
        name = arguments.get("Name", "")
        if method == "Plugin.Activate":
            return {"Implements": ["VolumeDriver"]}
        if method == "VolumeDriver.Capabilities":
            return {"Capabilities": {"Scope": "global"}}
        if method == "VolumeDriver.Create":
            self.options[name] = arguments["Opts"] or {}
            (self.folder / name).mkdir(parents=True)
            return {"Err": ""}
        if name not in self.options:
            return {"Err": f"volume {name} unknown"}
        if method == "VolumeDriver.Remove":
            del self.options[name]
            os.rename(self.folder / name, self.folder / f"{name}.removed")
        elif method == "VolumeDriver.Mount":
            self.held.setdefault(name, []).append(arguments["ID"])
            return {"Mountpoint": str(self.folder / name)}
        elif method == "VolumeDriver.Unmount":
            self.held[name].remove(arguments["ID"])
        elif method == "VolumeDriver.Get":
            where = str(self.folder / name) if self.held.get(name) else ""
            return {"Volume": {"Name": name, "Mountpoint": where, "Status": {"kept": "well"}}}
        return {"Err": ""}

    def __enter__(self) -> "VolumePlugin":
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        self.path.unlink(missing_ok=True)
