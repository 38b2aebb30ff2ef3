"""A firewalld of one's own, on a D-Bus of its own, in a network namespace: Debian's, unpacked below `.make/tools`."""

import glob
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType

from tests.support.instance import ROOT

_TREE = f"{ROOT}/.make/tools/usr/lib/firewalld-tree"
_NAME, _PATH = "org.fedoraproject.FirewallD1", "/org/fedoraproject/FirewallD1"
_SECONDS = 60.0
_BUS = """<busconfig><type>system</type><listen>{address}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
</policy></busconfig>
"""


class NotHere(Exception):  # noqa: N818 - it is no error: the tests are skipped
    """There is no firewalld to start; the text says why."""


class Firewalld:
    """A context manager: the bus lives as long as it, firewalld from `start` to `stop`."""

    def __init__(self, namespace: str, folder: Path) -> None:
        if not os.path.isdir(_TREE) or shutil.which("dbus-daemon") is None:
            raise NotHere("firewalld is not unpacked (make test does it), or there is no dbus-daemon")
        self.namespace, self.folder = namespace, folder
        self.address = f"unix:path={folder}/bus"
        self.environment = {
            **os.environ,
            "DBUS_SYSTEM_BUS_ADDRESS": self.address,
            "PYTHONPATH": f"{_TREE}/usr/lib/python3/dist-packages",
            "GI_TYPELIB_PATH": ":".join(glob.glob(f"{_TREE}/usr/lib/*/girepository-1.0")),
            "LD_LIBRARY_PATH": ":".join(glob.glob(f"{_TREE}/usr/lib/*-linux-gnu")),
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Firewalld":
        shutil.copytree(f"{_TREE}/etc/firewalld", self.folder / "etc")
        (self.folder / "bus.conf").write_text(_BUS.format(address=self.address))
        self._spawn("dbus-daemon", f"--config-file={self.folder}/bus.conf", "--nofork", "--nopidfile")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._started:
            self._end(self._started.pop())

    def _spawn(self, *command: str) -> None:
        with open(self.folder / "said", "ab") as said:
            self._started.append(
                subprocess.Popen(
                    ["nsenter", f"--net={self.namespace}", *command], env=self.environment, stdout=said, stderr=said
                )
            )

    @staticmethod
    def _end(started: "subprocess.Popen[bytes]") -> None:
        started.terminate()
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()

    def start(self) -> None:
        """Start it, and wait until it answers. Raises AssertionError with what it said."""
        self._spawn(
            *("/usr/bin/python3", f"{_TREE}/usr/sbin/firewalld", "--nofork", "--nopid"),
            *("--system-config", f"{self.folder}/etc", "--default-config", f"{_TREE}/usr/lib/firewalld"),
            *("--log-file", f"{self.folder}/log"),
        )
        end = time.monotonic() + _SECONDS
        while self._call("", "getDefaultZone").returncode:
            assert time.monotonic() < end, (self.folder / "said").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """End it; it takes its rules along."""
        self._end(self._started.pop())

    def reload(self) -> None:
        """`firewall-cmd --reload`."""
        self.call("", "reload")

    def call(self, interface: str, method: str, *arguments: str) -> str:
        """What one of its methods answers, as busctl writes it. Raises AssertionError when it refuses."""
        done = self._call(interface, method, *arguments)
        assert not done.returncode, done.stderr
        return done.stdout

    def _call(self, interface: str, method: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        names = (_NAME, _PATH, f"{_NAME}.{interface}".rstrip("."), method)
        environment = {"PATH": os.environ["PATH"], "DBUS_SYSTEM_BUS_ADDRESS": self.address}
        return subprocess.run(
            ["busctl", "call", *names, *arguments], env=environment, capture_output=True, text=True, check=False
        )
