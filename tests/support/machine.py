"""A machine with a real systemd as PID 1, booted in a second from this host's own /usr by systemd-nspawn.

    with Machine() as machine:
        machine.run("systemctl", "is-active", "moorage.socket")

Its root is a small folder on disk: /usr is this host's, read-only; /etc is written here; /var is its own, so it keeps
its state over `reboot`. The project stands at /srv/moorage. Root needed; nothing is downloaded.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from types import TracebackType

from tests.support.instance import CGROUPS, ROOT, children_of, mounts_below

PROJECT = "/srv/moorage"
_BOOT_SECONDS = 60.0
_USERS = {"root": 0, "messagebus": 101, "nobody": 65534}
# What would wait for hardware or a person; nothing of it belongs to what is tested.
_MASKED = (
    "console-getty.service",
    "getty.target",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
)


class Machine:
    """One machine, booted on entering and powered off on leaving."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="mtm", dir="/var/tmp")  # not /tmp: overlayfs wants a real file system
        self.tree = f"{self.folder}/tree"
        self.name = f"mtm{os.urandom(4).hex()}"  # a host name: no underscore, which mkdtemp uses
        self.console_path = f"{self.folder}/console"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self.leader = 0
        os.mkdir(f"{self.folder}/local")
        _furnish(self.tree)

    def __enter__(self) -> "Machine":
        try:
            self.boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ── power ────────────────────────────────────────────────────────────────────────────────────────────────────

    def boot(self) -> None:
        """Start it; returns when systemd has started everything. Raises AssertionError with its console."""
        for folder in self._cgroups():
            os.makedirs(folder, exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):  # cgroup v1: a group without them takes no process
                if os.path.exists(f"{folder}/{name}"):
                    with open(f"{os.path.dirname(folder)}/{name}", encoding="ascii") as given:
                        _write(f"{folder}/{name}", given.read())
        enter = "".join(f"echo $$ >{folder}/cgroup.procs; " for folder in self._cgroups())
        command = [
            *(
                "systemd-nspawn",
                "--directory",
                self.tree,
                "--boot",
                "--keep-unit",
                "--register=no",
                "--private-network",
            ),
            *("--machine", self.name, "--console=pipe", "--resolv-conf=off", "--timezone=off", "--link-journal=no"),
            *("--bind-ro=/usr", f"--bind={self.folder}/local:/usr/local", f"--bind-ro={ROOT}:{PROJECT}"),
        ]
        if os.path.islink(f"{ROOT}/.venv"):
            command.append(f"--bind-ro={os.path.realpath(f'{ROOT}/.venv')}")  # one that several clones share
        if os.path.isdir(f"{ROOT}/.make"):
            command.append(f"--tmpfs={PROJECT}/.make")  # what was installed on this host is not the machine's affair
        environment = {
            **os.environ,
            "SYSTEMD_SECCOMP": "0",  # nspawn's filter refuses keyrings and BPF, which runc needs
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
        }
        with open(self.console_path, "ab") as console:
            self._nspawn = subprocess.Popen(
                ["sh", "-c", f'{enter}exec "$@"', "sh", *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        end = time.monotonic() + _BOOT_SECONDS
        while time.monotonic() < end:
            assert self._nspawn.poll() is None, f"the machine did not boot:\n{self.console()}"
            self.leader = next(iter(children_of(self._nspawn.pid)), 0)
            if self.leader and os.path.exists(f"/proc/{self.leader}/root/run/systemd/private"):
                state = self.enter("systemctl", "is-system-running", "--wait").stdout.strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.05)
        raise AssertionError(f"the machine did not come up within {_BOOT_SECONDS} s:\n{self.console()}")

    def power_off(self) -> None:
        """Shut it down in order (SIGRTMIN+4 to its PID 1 means poweroff), by force after 30 s."""
        if self._nspawn is None:
            return
        if self.leader:
            os.kill(self.leader, signal.SIGRTMIN + 4)
        try:
            self._nspawn.wait(30)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
            raise AssertionError(f"the machine did not power off:\n{self.console()}") from None
        finally:
            self._nspawn, self.leader = None, 0

    def reboot(self) -> None:
        """Power off, and boot again: a new boot id, an empty /run, the same /etc and /var."""
        self.power_off()
        self.boot()

    def close(self) -> None:
        """Power off and remove the machine."""
        try:
            self.power_off()
        finally:
            for target in reversed(mounts_below(self.folder)):
                subprocess.run(["umount", "-l", target], check=False)
            for folder in self._cgroups():
                for inner, _, _ in sorted(os.walk(folder), reverse=True):
                    try:
                        os.rmdir(inner)
                    except OSError:
                        pass  # its last process is just dying; an empty group costs nothing
            shutil.rmtree(self.folder, ignore_errors=True)

    def _cgroups(self) -> list[str]:
        """The machine's own group in each hierarchy of this host."""
        if os.path.exists(f"{CGROUPS}/cgroup.procs"):
            return [f"{CGROUPS}/{self.name}"]
        return [
            f"{CGROUPS}/{each}/{self.name}"
            for each in sorted(os.listdir(CGROUPS))
            if not os.path.islink(f"{CGROUPS}/{each}")
        ]

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────

    def enter(self, *command: str, timeout: float = 60.0) -> "subprocess.CompletedProcess[str]":
        """Run a command in the machine's namespaces, outside of any unit."""
        return subprocess.run(
            [
                "nsenter",
                "-t",
                str(self.leader),
                "-a",
                "--",
                "env",
                "-i",
                "PATH=/usr/sbin:/usr/bin",
                "HOME=/root",
                *command,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command there as an administrator would (in a unit of its own); its output.

        Raises AssertionError when it fails and `check` is set.
        """
        done = self.enter(
            "systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--working-directory={PROJECT}", *command
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}\n"
                f"--- journal\n{self.journal()}"
            )
        return done.stdout.strip()

    def state(self, unit: str) -> str:
        """`active`, `inactive`, `failed`, …"""
        return self.enter("systemctl", "is-active", unit).stdout.strip()

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.enter("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def until_state(self, unit: str, state: str, timeout: float = 60.0) -> None:
        """Wait for a unit to come into a state. Raises AssertionError with the journal."""
        end = time.monotonic() + timeout
        while (now := self.state(unit)) != state:
            assert time.monotonic() < end, f"{unit} is {now}, not {state}, after {timeout} s\n{self.journal()}"
            time.sleep(0.1)

    def path(self, inside: str) -> str:
        """A path of the machine, as this host sees it (its mounts included)."""
        return f"/proc/{self.leader}/root{inside}"

    def write(self, inside: str, text: str) -> None:
        """Write a file of the machine, with the folders it needs."""
        os.makedirs(os.path.dirname(self.path(inside)), exist_ok=True)
        _write(self.path(inside), text)

    def remove(self, inside: str) -> None:
        """Remove a file of the machine."""
        os.unlink(self.path(inside))

    @property
    def client_environment(self) -> dict[str, str]:
        """For this host's docker CLI: the machine's socket, and a configuration of its own."""
        host = f"unix://{self.path('/run/moorage/moorage.sock')}"
        return {**os.environ, "DOCKER_HOST": host, "DOCKER_CONFIG": f"{self.folder}/docker"}

    def docker(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run this host's docker CLI against the machine's socket."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.client_environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise AssertionError(
                f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}\n--- journal\n{self.journal()}"
            )
        return done

    def journal(self, lines: int = 60) -> str:
        """The end of the machine's journal."""
        return self.enter("journalctl", "--no-pager", "-o", "short-precise", "-n", str(lines)).stdout

    def console(self) -> str:
        """What it wrote to its console."""
        with open(self.console_path, encoding="utf-8", errors="replace") as file:
            return file.read()[-4000:]


def _furnish(tree: str) -> None:
    """Everything but /usr: links into it, and an /etc that makes a first boot quick and silent."""
    for folder in (
        "usr",
        "etc/systemd/system",
        "etc/default",
        "var/lib",
        "var/tmp",
        "root",
        "srv/moorage",
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
    ):
        os.makedirs(f"{tree}/{folder}")
    for name in os.listdir("/"):
        if os.path.islink(f"/{name}") and os.readlink(f"/{name}").startswith("usr/"):
            os.symlink(os.readlink(f"/{name}"), f"{tree}/{name}")
    for unit in _MASKED:
        os.symlink("/dev/null", f"{tree}/etc/systemd/system/{unit}")
    os.symlink("/usr/lib/systemd/system/multi-user.target", f"{tree}/etc/systemd/system/default.target")
    shutil.copyfile("/usr/lib/os-release", f"{tree}/etc/os-release")  # nspawn looks before it has bound /usr
    # A machine id that is there already: no first boot, no presets, nothing of the host's packages is enabled.
    _write(f"{tree}/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    _write(f"{tree}/etc/passwd", "".join(f"{name}:x:{uid}:{uid}::/root:/bin/sh\n" for name, uid in _USERS.items()))
    _write(f"{tree}/etc/group", "".join(f"{name}:x:{gid}:\n" for name, gid in _USERS.items()))
    _write(f"{tree}/etc/hostname", "moorage-test\n")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


if __name__ == "__main__":  # a look inside: python -m tests.support.machine COMMAND…
    with Machine() as booted:
        sys.stdout.write(booted.run(*sys.argv[1:]) + "\n")
