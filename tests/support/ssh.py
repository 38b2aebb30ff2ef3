"""ssh with real parts: an agent with a key, and a server of git repositories for those who have one."""

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pytest

SECONDS = 60.0


def need(*names: str) -> None:
    """Skip the test where one of these programs is missing."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here")


def key_pair(path: Path, comment: str = "") -> str:
    """Make a key at `path` (its public half beside it); the line of the public half."""
    generate = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(generate, check=True, timeout=SECONDS)
    return path.with_name(path.name + ".pub").read_text()


class Agent:
    """A real ssh-agent with one key."""

    def __init__(self, folder: Path, comment: str) -> None:
        need("ssh-agent", "ssh-add", "ssh-keygen")
        self.socket, self.key, self.comment = str(folder / f"{comment}.sock"), str(folder / comment), comment
        self.public = key_pair(folder / comment, comment)

    def __enter__(self) -> "Agent":
        self._process = subprocess.Popen(["ssh-agent", "-D", "-a", self.socket], stdout=subprocess.DEVNULL)
        until = time.monotonic() + SECONDS
        environment = {**os.environ, "SSH_AUTH_SOCK": self.socket}
        while subprocess.run(["ssh-add", "-q", self.key], env=environment, capture_output=True, check=False).returncode:
            assert time.monotonic() < until, "the agent does not answer"
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", where: "TracebackType | None"
    ) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)


class Sshd:
    """A real sshd at port 22 of an address of its own (`user@host:path` has no place for a port).

    `folder`: what it serves; `work`: its own files; `host`: an address that an earlier one had.
    Who has one of the keys is root by the name of `git`, with `folder` as home. It runs in a mount namespace, for it
    wants a user and a directory that a machine without sshd has not got.
    """

    def __init__(self, folder: Path, work: Path, keys: Sequence[str], host: str = "") -> None:
        need("sshd", "ssh", "git", "unshare")
        self.host, self._log = host or _address(), work / "sshd.log"
        work.mkdir(exist_ok=True)
        (work / "keys").write_text("".join(keys))
        (work / "host_key").unlink(missing_ok=True)
        key_pair(work / "host_key")
        passwd = work / "passwd"
        passwd.write_text(
            Path("/etc/passwd").read_text()
            + f"git:x:0:0::{folder}:/bin/sh\nsshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
        )
        (work / "sshd_config").write_text(
            f"ListenAddress {self.host}:22\nHostKey {work}/host_key\nAuthorizedKeysFile {work}/keys\nPidFile none\n"
            "AllowUsers git\nAuthenticationMethods publickey\nPermitRootLogin prohibit-password\n"
            "StrictModes no\nUsePAM no\n"
        )
        prepare = f"mount -t tmpfs tmpfs /run && mkdir /run/sshd && mount --bind {passwd} /etc/passwd"
        program = shutil.which("sshd") or ""
        self._argv = ["unshare", "--mount", "sh", "-c", f"{prepare} && exec {program} -D -e -f {work}/sshd_config"]

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log.read_text()

    def __enter__(self) -> "Sshd":
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + SECONDS
        while "Server listening" not in self.log:
            if self._process.poll() is not None or time.monotonic() > until:
                self.__exit__(None, None, None)
                pytest.skip(f"this sshd does not start here: {self.log}")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", where: "TracebackType | None"
    ) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)


def _address() -> str:
    """One of loopback at whose port 22 nobody listens."""
    for _ in range(100):
        host = f"127.{random.randrange(1, 255)}.{random.randrange(255)}.{random.randrange(1, 255)}"
        with socket.socket() as probe:
            try:
                probe.bind((host, 22))
            except OSError:
                continue
        return host
    pytest.skip("port 22 is taken at every address")
