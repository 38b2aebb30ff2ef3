"""Debian's docker-registry on loopback: open, behind basic authentication, or behind a token service of the test's."""

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from types import TracebackType
from typing import Any

from tests.support.ports import free_port

USER, PASSWORD = "mole", "open-sesame"
# bcrypt of the password above, the one form that docker-registry reads
_HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuutXu9KzOt.1yBoZUeFWoT/914/JfszCO\n"


class Registry:
    """One registry, empty at first. Use as a context manager; `address` is host:port.

    `twin_of`: the same content under the same address in another network namespace (`network`, a path).
    `folder`: what it holds lies below that, else where the machine keeps temporary files.
    """

    def __init__(
        self,
        *,
        basic: bool = False,
        token: "dict[str, Any] | None" = None,
        twin_of: "Registry | None" = None,
        network: str = "",
        folder: str = "",
    ) -> None:
        self.basic, self.token = basic, token
        self.folder = tempfile.mkdtemp(prefix="registry-", dir=folder or None)
        self.data: str = twin_of.data if twin_of else f"{self.folder}/data"
        self.port: int = twin_of.port if twin_of else free_port()
        self._enter = ["nsenter", f"--net={network}"] if network else []
        self.address = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Registry":
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": self.data}, "delete": {"enabled": True}},
            "http": {"addr": self.address},
        }
        if self.basic:
            with open(f"{self.folder}/htpasswd", "w", encoding="ascii") as file:
                file.write(_HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "moles", "path": f"{self.folder}/htpasswd"}}
        if self.token:
            config["auth"] = {"token": self.token}
        with open(f"{self.folder}/config.yml", "w", encoding="ascii") as file:
            json.dump(config, file)  # JSON is YAML
        with open(f"{self.folder}/log", "wb") as log:
            self._process = subprocess.Popen(
                [*self._enter, "docker-registry", "serve", f"{self.folder}/config.yml"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]},
            )  # fmt: skip
        end = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < end, self.log()
            assert self._process.poll() is None, self.log()
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        if self._enter:  # from here it cannot be reached
            return "listening on" in self.log()
        try:
            urllib.request.urlopen(f"http://{self.address}/v2/", timeout=2).close()
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False
        return True

    def log(self) -> str:
        """What it wrote."""
        with open(f"{self.folder}/log", encoding="utf-8", errors="replace") as file:
            return file.read()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)
