"""A dockerd of one's own to compare with: private state, private network namespace, nothing of the machine's touched.

Where MOORAGE_TEST_DOCKERD names the socket of a running one (`/run/docker.sock`), that one is asked instead: every
object a case makes is removed again.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from types import TracebackType

from tests.support.instance import CGROUPS, mounts_below
from tests.support.wire import Wire, request

_START_SECONDS = 30.0


class Unavailable(Exception):  # noqa: N818 - says what is the case; nobody's mistake
    """This machine has no dockerd, or it does not come up here."""


class Dockerd:
    """Use as a context manager. Raises Unavailable, with the daemon's last words, where it cannot run."""

    def __init__(
        self,
        *,
        data_root: str = "",
        on_loopback: bool = False,
        experimental: bool = False,
        configuration: str = "{}",
    ) -> None:
        """`data_root`: where it keeps its images. `on_loopback`: it lives in this network namespace, without a network
        of its own, and so reaches what listens on 127.0.0.1. `experimental`: it serves what only such a one does.
        `configuration`: its daemon.json."""
        self.configuration = configuration
        self.data_root, self.on_loopback, self.experimental = data_root, on_loopback, experimental
        self.given = os.environ.get("MOORAGE_TEST_DOCKERD", "").removeprefix("unix://")
        self.folder = tempfile.mkdtemp(prefix="md", dir="/tmp")  # short: socket paths end at 107 bytes
        self.socket = self.given or f"{self.folder}/sock"
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Dockerd":
        try:
            if not self.given:
                self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def installed() -> int:
        """The major version of the dockerd that would be started; 0 when there is none."""
        program = shutil.which("dockerd")
        if program is None:
            return 0
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"version (\d+)", said)
        return int(found[1]) if found else 0

    @property
    def namespace(self) -> str:
        """Its network namespace. Raises Unavailable for a given one, whose namespace is not ours to change."""
        if self.given:
            raise Unavailable("a dockerd that was there already works in the machine's own network")
        return f"/proc/{self._processes[-1].pid}/ns/net"

    def version(self) -> tuple[int, str]:
        """The engine's major version and its API version."""
        with Wire(self.socket, described=False) as wire:
            wire.send(request("GET /version", connection="close"))
            said = wire.answer().json
        return int(re.match(r"\d+", said["Version"])[0]), said["ApiVersion"]  # type: ignore[index]  # a version begins so

    @property
    def network(self) -> str:
        """The path of its network namespace; empty when it is a running one's, which we know nothing of."""
        return f"/proc/{self._processes[-1].pid}/ns/net" if self._processes else ""

    def _start(self) -> None:
        if not (shutil.which("dockerd") and shutil.which("containerd")):
            raise Unavailable("no dockerd is installed")
        config = f"{self.folder}/containerd.toml"
        with open(config, "w", encoding="ascii") as file:
            file.write(
                f'version = 2\nroot = "{self.folder}/cd"\nstate = "{self.folder}/cs"\n'
                'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                f'[grpc]\naddress = "{self.folder}/c.sock"\n'
            )
        with open(f"{self.folder}/daemon.json", "w", encoding="ascii") as file:
            file.write(self.configuration)  # else the machine's own would be read
        self._spawn("containerd", "-c", config)
        self._until(f"{self.folder}/c.sock")
        self._spawn(
            *(
                *(() if self.on_loopback else ("unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")),
                "dockerd",
                "--config-file",
                f"{self.folder}/daemon.json",
                "-H",
                f"unix://{self.socket}",
            ),
            *(("--bridge=none", "--iptables=false", "--ip-forward=false") if self.on_loopback else ()),
            *(
                "--data-root",
                self.data_root or f"{self.folder}/lib",
                "--exec-root",
                f"{self.folder}/run",
                "-p",
                f"{self.folder}/pid",
            ),
            *("--containerd", f"{self.folder}/c.sock", "--cgroup-parent", f"/{os.path.basename(self.folder)}"),
            *("--exec-opt", "native.cgroupdriver=cgroupfs"),
            *(("--experimental",) if self.experimental else ()),
        )
        self._until(self.socket)

    def _spawn(self, *command: str) -> None:
        with open(f"{self.folder}/log", "ab") as log:
            self._processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def _until(self, path: str) -> None:
        end = time.monotonic() + _START_SECONDS
        while not os.path.exists(path):
            if self._processes[-1].poll() is not None or time.monotonic() > end:
                with open(f"{self.folder}/log", encoding="utf-8", errors="replace") as log:
                    raise Unavailable("dockerd does not come up here: " + "".join(log.readlines()[-3:]))
            time.sleep(0.02)

    def close(self) -> None:
        """End the daemon, and take away what it had made."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        for target in sorted(mounts_below(self.folder), reverse=True):
            subprocess.run(["umount", "-l", target], check=False, capture_output=True)
        for folder, names, _ in os.walk(CGROUPS, topdown=False):
            if os.path.basename(self.folder) in names:
                subprocess.run(["rmdir", f"{folder}/{os.path.basename(self.folder)}"], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)
