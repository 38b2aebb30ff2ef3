"""Programs that extend the engine, by Docker's plugin protocol (v1): JSON over HTTP, on a socket of the plugin's.

A plugin NAME is `NAME.sock` in the first directory, or an address in `NAME.spec` or `NAME.json` in the others; each may
lie in a directory NAME of its own. It is looked up when it is needed and asked once per question: nothing is kept.
Source: docs.docker.com/engine/extend/plugin_api, moby pkg/plugins.
"""

import os
import stat
import time

from service import jsontext
from service.errors import NotFound, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    import http.client
    import ssl
    from typing import Any

    from service.settings import Settings

_TYPE = "application/vnd.docker.plugins.v1.2+json"
_MOST = 1 << 22  # bytes of an answer
PATIENCE = 15.0  # seconds in which a plugin that is just being started may begin to listen
_TIMEOUT = 120.0  # seconds for an answer: a plugin may have to mount something far away


class Plugin:
    """Where a plugin listens."""

    __slots__ = ("address", "name", "tls")

    def __init__(self, name: str, address: str, tls: "dict[str, Any] | None" = None) -> None:
        self.name, self.address, self.tls = name, address, tls

    def call(self, method: str, arguments: "dict[str, Any]", *, patience: float = PATIENCE) -> "dict[str, Any]":
        """Ask the plugin; `method` is like `VolumeDriver.Create`. Blocking; see `find` for `patience`.

        Raises SystemFailure with the plugin's own words, or why it cannot be asked.
        """
        end, pause = time.monotonic() + patience, 0.1
        while True:
            try:
                return self._ask(method, arguments)
            except (ConnectionRefusedError, FileNotFoundError) as error:
                if time.monotonic() + pause > end:
                    raise SystemFailure(
                        f'Post "{self.address}/{method}": {os.strerror(error.errno or 0).lower()}'
                    ) from error
            except OSError as error:
                raise SystemFailure(f'Post "{self.address}/{method}": {error}') from error
            time.sleep(pause)
            pause *= 2

    def _ask(self, method: str, arguments: "dict[str, Any]") -> "dict[str, Any]":
        import http.client

        connection = self._connect()
        try:
            connection.request(
                "POST", "/" + method, jsontext.dump_bytes(arguments), {"Accept": _TYPE, "Content-Type": _TYPE}
            )
            answer = connection.getresponse()
            text = answer.read(_MOST)
        except http.client.HTTPException as error:
            raise SystemFailure(f"{method}: {error!r}") from error
        finally:
            connection.close()
        try:
            said = jsontext.loads(text.decode("utf-8", "replace")) if text.strip() else {}
        except ValueError:
            said = None
        words = str(said.get("Err") or "") if isinstance(said, dict) else ""
        if answer.status != http.client.OK:
            raise SystemFailure(f"{method}: {words or text[:1000].decode('utf-8', 'replace').strip()}")
        if not isinstance(said, dict):
            raise SystemFailure(f"{method}: the answer is no JSON object")
        if words:
            raise SystemFailure(words)
        return said

    def _connect(self) -> "http.client.HTTPConnection":
        import http.client
        from urllib.parse import urlsplit

        parts = urlsplit(self.address)
        if parts.scheme == "unix":
            import socket

            connection = http.client.HTTPConnection("plugin.moby.localhost")
            wire = socket.socket(socket.AF_UNIX)
            wire.settimeout(_TIMEOUT)
            connection.sock = wire
            try:
                wire.connect(parts.path)
            except OSError:
                wire.close()
                raise
            return connection
        host = parts.hostname or ""
        if self.tls is not None:
            return http.client.HTTPSConnection(host, parts.port, timeout=_TIMEOUT, context=self._context(self.tls))
        return http.client.HTTPConnection(host, parts.port, timeout=_TIMEOUT)

    @staticmethod
    def _context(tls: "dict[str, Any]") -> "ssl.SSLContext":
        """As dockerd: without a CA of its own, the plugin's certificate is not checked."""
        import ssl

        context = ssl.create_default_context(cafile=tls.get("CAFile") or None)
        if tls.get("InsecureSkipVerify") or not tls.get("CAFile"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.get("CertFile"):
            context.load_cert_chain(tls["CertFile"], tls.get("KeyFile") or None)
        return context


def find(settings: "Settings", name: str, capability: str, *, patience: float = PATIENCE) -> Plugin:
    """The plugin of that name, if it implements `capability` (`VolumeDriver`). Blocking: `patience` seconds, when there
    is a socket and nobody listens.

    Raises NotFound when there is none, SystemFailure when it cannot be asked.
    """
    plugin = _described(settings, name)
    if plugin is None:
        raise NotFound(f'plugin "{name}" not found')
    if capability not in (plugin.call("Plugin.Activate", {}, patience=patience).get("Implements") or ()):
        raise SystemFailure(f'plugin "{name}" found but does not implement "{capability}"')
    return plugin


def _described(settings: "Settings", name: str) -> "Plugin | None":
    if not name or "/" in name or name.startswith("."):
        return None
    sockets, *specifications = settings.plugin_directories
    for path in _paths(sockets, name, ".sock"):
        if _is_socket(path):
            return Plugin(name, "unix://" + path)
    for folder in specifications:
        for path in _paths(folder, name, ".spec"):
            text = _text(path)
            if text is not None:
                return Plugin(name, _address(name, text.strip()))
        for path in _paths(folder, name, ".json"):
            text = _text(path)
            if text is not None:
                return _from_json(name, text)
    return None


def _from_json(name: str, text: str) -> Plugin:
    try:
        said = jsontext.loads(text)
    except ValueError:
        said = None
    if not isinstance(said, dict) or not isinstance(said.get("TLSConfig") or {}, dict):
        raise SystemFailure(f'the description of plugin "{name}" is no JSON object')
    tls = said.get("TLSConfig")
    return Plugin(name, _address(name, str(said.get("Addr") or "")), tls)


def _address(name: str, address: str) -> str:
    if address.partition("://")[0] not in ("unix", "tcp", "http", "https"):
        raise SystemFailure(f'the address of plugin "{name}" has an unknown protocol: {address}')
    return address


def _paths(folder: str, name: str, ending: str) -> tuple[str, str]:
    return f"{folder}/{name}{ending}", f"{folder}/{name}/{name}{ending}"


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _text(path: str) -> "str | None":
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(_MOST)
    except OSError:
        return None
