"""A moorage of one's own: everything it touches on the machine carries its number, and is looked for when it ends.

    with Instance() as moorage:
        moorage.docker("load", "-i", image.busybox())
        moorage.docker("run", "--rm", "busybox", "true")

It runs behind the product's own socket activator with a short idle window, so that processes come and go while a test
works; `Instance(activated=False)` runs one process on `--socket` instead. Several instances live side by side: each
takes a free slot, and from its number follow the bridge, the nftables table, the subnets and the cgroup. Root needed.
`Instance(namespace=PATH)` works in a network namespace that the test has made, as on a host of its own.
"""

import fcntl
import ipaddress
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import IO, Any

from docker import DockerClient
from docker.errors import NotFound

from service.settings import PATH
from tests.support import image

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SERVICE = (sys.executable, "-I", "-S", f"{ROOT}/service/__main__.py")
ACTIVATOR = (sys.executable, "-I", "-S", f"{ROOT}/service/activator.py")
CGROUPS = "/sys/fs/cgroup"
_SLOTS = 64
_KEPT = ("build_files.py", "content/layer_program.py")
_START_SECONDS = 60.0  # longest wait for a socket to appear; a loaded machine compiles the tree first


class Instance:
    """One private moorage. Use it as a context manager, or call `start` and `close`."""

    def __init__(
        self,
        *,
        idle_seconds: float = 3.0,
        activated: bool = True,
        environment: Mapping[str, str] | None = None,
        namespace: str = "",
    ) -> None:
        self.inside = ("nsenter", f"--net={namespace}") if namespace else ()  # nsenter becomes what it is to run
        self.activated = activated
        self.slot, self._slot_lock = _take_slot()
        self.folder = tempfile.mkdtemp(prefix="mt", dir="/tmp")  # short: socket paths end at 107 bytes
        os.chmod(self.folder, 0o711)
        self.root, self.run = f"{self.folder}/lib", f"{self.folder}/run"
        self.socket = f"{self.folder}/sock"
        self.log_path = f"{self.folder}/log"
        self.bridge, self.nft_table = f"mt{self.slot}br0", f"moorage_t{self.slot}"
        self.cgroup_parent = f"moorage-t{self.slot}"
        self.subnets = f"10.{192 + self.slot // 4}.{self.slot % 4 * 64}.0/18/24"
        self.environment = {
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "HOME": self.folder,
            "MOORAGE_ROOT": self.root,
            "MOORAGE_RUN": self.run,
            "MOORAGE_IDLE_SECONDS": str(idle_seconds),
            "MOORAGE_BRIDGE": self.bridge,
            "MOORAGE_NFT_TABLE": self.nft_table,
            "MOORAGE_SUBNETS": self.subnets,
            "MOORAGE_CGROUP_PARENT": self.cgroup_parent,
            "MOORAGE_CGROUP_DRIVER": "cgroupfs",
            "MOORAGE_LOG_LEVEL": "debug",
            # files of the machine's own do not count
            "MOORAGE_AUTH_FILE": f"{self.folder}/auth.json",
            "MOORAGE_DAEMON_JSON": f"{self.folder}/daemon.json",
            "MOORAGE_REGISTRIES_CONF": f"{self.folder}/registries.conf",
            **(environment or {}),
        }
        self._first: subprocess.Popen[bytes] | None = None
        self._clients: list[DockerClient] = []

    # ── its life ─────────────────────────────────────────────────────────────────────────────────────────────────

    def configure(self, settings: "Mapping[str, Any] | str") -> None:
        """Its daemon.json, in place at once: the service may be reading it."""
        path = self.environment["MOORAGE_DAEMON_JSON"]
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(settings if isinstance(settings, str) else json.dumps(settings))
        os.replace(path + ".new", path)

    def __enter__(self) -> "Instance":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Begin to listen. Raises AssertionError with the log when no socket appears."""
        command = [*ACTIVATOR, self.socket, *SERVICE] if self.activated else [*SERVICE, "--socket", self.socket]
        command = [*self.inside, *command]
        with open(self.log_path, "ab") as log:
            self._first = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.until(lambda: os.path.exists(self.socket), _START_SECONDS, "no socket appeared")

    def stop(self) -> None:
        """End the service and its activator as an administrator would (SIGTERM). Containers go on."""
        if self._first is None:
            return
        self._first.send_signal(signal.SIGTERM)
        try:
            self._first.wait(60)
        except subprocess.TimeoutExpired:
            for pid in (*self._services(), self._first.pid):
                _kill(pid)
            self._first.wait()
            raise AssertionError(f"the service did not end on SIGTERM:\n{self.log()}") from None
        finally:
            self._first = None

    def restart(self) -> None:
        """`stop`, then `start`."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Remove everything, and insist that the product left nothing behind.

        Raises AssertionError naming what was left; that too is removed before.
        """
        left: list[str] = []
        try:
            if self._first is not None:
                left = self.reset()
        finally:
            try:
                self.stop()
                left += self._still_there()
            finally:
                self._sweep()
                shutil.rmtree(self.folder, ignore_errors=True)
                self._slot_lock.close()
        assert not left, "left behind:\n" + "\n".join(left)

    # ── clients ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def docker_host(self) -> str:
        """The value of DOCKER_HOST."""
        return f"unix://{self.socket}"

    @property
    def client_environment(self) -> dict[str, str]:
        """The environment of a Docker client that is to use this instance and no configuration of the user's."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
        return {**kept, "DOCKER_HOST": self.docker_host, "DOCKER_CONFIG": f"{self.folder}/docker", "HOME": self.folder}

    def docker(
        self, *arguments: str, check: bool = True, stdin: str | bytes | None = None, timeout: float = 60.0
    ) -> "subprocess.CompletedProcess[str]":
        """Run the docker CLI to its end. Raises AssertionError with both outputs when it fails and `check` is set."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.client_environment,
            input=stdin.encode() if isinstance(stdin, str) else stdin or b"",
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        said = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        )
        if check and said.returncode:
            shown = " ".join(arguments)
            raise AssertionError(
                f"docker {shown}: exit code {said.returncode}\n{said.stdout}{said.stderr}\n--- log\n{self.log(40)}"
            )
        return said

    def docker_popen(self, *arguments: str, **keywords: Any) -> "subprocess.Popen[bytes]":
        """Start the docker CLI with pipes on its standard streams (any of them may be given otherwise)."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **keywords}
        return subprocess.Popen(["docker", *arguments], env=self.client_environment, **pipes)

    def client(self, **keywords: Any) -> DockerClient:
        """A docker-py client; closed with the instance."""
        made = DockerClient(base_url=self.docker_host, **{"timeout": 60, "version": "auto", **keywords})
        self._clients.append(made)
        return made

    def load_busybox(self) -> None:
        """Have `busybox:latest`."""
        self.docker("load", "-q", "-i", image.busybox())

    # ── the process behind the socket ────────────────────────────────────────────────────────────────────────────

    def service_pid(self) -> int | None:
        """The pid of the service process; None while it sleeps."""
        return next(iter(self._services()), None)

    def _services(self) -> list[int]:
        if self._first is None:
            return []
        return children_of(self._first.pid) if self.activated else [self._first.pid]

    def starts(self) -> int:
        """How often the activator has started the service."""
        return len(re.findall(r"^activator: started ", self.log(), re.MULTILINE))

    def kill_service(self) -> None:
        """`kill -9` of the service process, if there is one; returns when it is gone."""
        pid = self.service_pid()
        if pid is None:
            return
        _kill(pid)
        if self.activated:
            self.until(lambda: pid not in self._services(), 60, "the service outlived SIGKILL")
        elif self._first is not None:
            self._first.wait()
            self._first = None
            self.start()

    def wait_idle(self, timeout: float = 60.0) -> None:
        """Return when the service has left by itself. Only for activated instances."""
        self.until(lambda: self.service_pid() is None, timeout, "the service did not leave")

    def log(self, lines: int = 0) -> str:
        """What the service (and the activator) wrote to stderr; the last `lines` lines only, when given."""
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                text = log.read()
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:]) if lines else text

    def until(self, true: Callable[[], Any], timeout: float, otherwise: str) -> None:
        """Wait for a condition. Raises AssertionError with the log when it does not come true within `timeout` s."""
        end = time.monotonic() + timeout
        while not true():
            if time.monotonic() > end:
                raise AssertionError(f"{otherwise} within {timeout} s\n--- log\n{self.log(60)}")
            time.sleep(0.02)

    # ── what it leaves behind ────────────────────────────────────────────────────────────────────────────────────

    def reset(self) -> list[str]:
        """Remove all containers, networks and volumes through the API, and return `leftovers()` once it is quiet."""
        for made in self._clients:
            made.close()
        self._clients.clear()
        client = DockerClient(base_url=self.docker_host, version="auto", timeout=60)
        try:
            for container in client.api.containers(all=True):
                try:
                    client.api.remove_container(container["Id"], force=True, v=True)
                except NotFound:
                    pass  # one with --rm that was just leaving
            for network in client.api.networks():
                if network["Name"] not in ("bridge", "host", "none"):
                    client.api.remove_network(network["Id"])
            for volume in client.api.volumes()["Volumes"] or ():
                client.api.remove_volume(volume["Name"], force=True)
        finally:
            client.close()
        end = time.monotonic() + 60  # exit hooks of what was just removed may still be on their way
        while (left := self.leftovers()) and time.monotonic() < end:
            time.sleep(0.05)
        return left

    def leftovers(self) -> list[str]:
        """What containers of this instance have left on the machine, one line each. Empty when no container exists.

        The bridge, the nftables table and the cgroup parent stay as long as the instance does, as Docker's do.
        """
        return [
            *(f"mount {target}" for target in mounts_below(self.folder)),
            *(f"interface {name}" for name in self._ports()),
            *(f"nft {element}" for element in self._nft_elements()),
            *(f"cgroup {path}" for path in self._cgroups() if os.path.basename(path) != self.cgroup_parent),
            *(f"process {pid} {shown}" for pid, shown in self._processes()),
            *(
                f"file {folder}/{name}"
                for folder in (
                    *(f"{self.root}/containers", f"{self.root}/tmp", f"{self.root}/volumes"),
                    *(f"{self.run}/containers", f"{self.run}/netns", f"{self.run}/exits", f"{self.run}/runc"),
                )
                for name in _listed(folder)
            ),
        ]

    def _still_there(self) -> list[str]:
        """The processes that outlive the service, when nothing is left for them to do."""
        end = time.monotonic() + 30
        while (found := self._processes()) and time.monotonic() < end:
            time.sleep(0.02)
        return [f"process {pid} {shown}" for pid, shown in found]

    def _net(self, *command: str) -> str:
        """What a program says where the instance's network is; "" when it fails."""
        return subprocess.run([*self.inside, *command], capture_output=True, text=True, check=False).stdout

    def _ports(self) -> list[str]:
        """The interfaces in the default bridge."""
        listed = self._net("ip", "-br", "link", "show", "master", self.bridge)
        return [line.split()[0].partition("@")[0] for line in listed.splitlines()]

    def _nft_elements(self) -> list[str]:
        listed = self._net("nft", "list", "tables")
        found: list[str] = []
        for line in listed.splitlines():
            _, family, name = line.split()
            if name == self.nft_table:
                text = self._net("nft", "list", "table", family, name)
                # Elements of the instance's own (its bridges) stay; those that name a container's address do not.
                prefix = re.escape(".".join(self.subnets.split(".")[:2]))
                found += re.findall(
                    rf"\b(?:tcp|udp|sctp) \. [^,}}]*{prefix}[^,}}]*|{prefix}\.\d+\.(?:[2-9]|\d\d+) \. \d+", text
                )
        return found

    def _cgroups(self) -> list[str]:
        return sorted(
            os.path.join(folder, name)
            for folder, names, _ in os.walk(CGROUPS)
            for name in names
            if f"/{self.cgroup_parent}/" in f"{folder}/{name}/"
        )

    def _processes(self) -> list[tuple[int, str]]:
        """Every process that mentions our folder or stands in our cgroup, without the service, the programs that it
        keeps for as long as it lives, and its activator."""
        services = self._services()
        kept = {pid for service in services for pid in children_of(service) if _is_kept(pid)}
        known = {os.getpid(), *services, *kept, *((self._first.pid,) if self._first else ())}
        found = []
        for pid in _pids():
            if pid in known:
                continue
            arguments, environ, cgroup = (_read(f"/proc/{pid}/{name}") for name in ("cmdline", "environ", "cgroup"))
            if not arguments:
                continue  # a kernel thread or a zombie
            ours = f"{self.folder}/".encode()
            if (
                ours in arguments
                or b"MOORAGE_ROOT=" + self.root.encode() in environ
                or (f"/{self.cgroup_parent}/".encode() in cgroup)
            ):
                shown = arguments.replace(b"\0", b" ").decode("utf-8", "replace")[:120]
                if not shown.startswith("docker "):  # a client of the test's own
                    found.append((pid, shown))
        return found

    def _network_bridges(self) -> list[str]:
        """The bridges of networks that a test made and did not come to remove: their addresses are of our subnets."""
        ours = ipaddress.ip_network("/".join(self.subnets.split("/")[:2]))
        listed = self._net("ip", "-4", "-br", "address")
        return [
            name
            for name, _, *addresses in map(str.split, listed.splitlines())
            if name.startswith("br-") and any(ipaddress.ip_interface(text).ip in ours for text in addresses)
        ]

    def _sweep(self) -> None:
        """Take from the machine what is still there, whoever's fault: the last step, and after a failed test."""
        for pid, _ in self._processes():
            _kill(pid)
        end = time.monotonic() + 30
        while self._processes() and time.monotonic() < end:
            time.sleep(0.02)
        for target in sorted(mounts_below(self.folder), reverse=True):
            subprocess.run(["umount", "-l", target], check=False, capture_output=True)
        for name in (*self._ports(), self.bridge, *self._network_bridges()):
            self._net("ip", "link", "delete", name)
        for family in ("inet", "ip", "ip6", "bridge"):
            self._net("nft", "delete", "table", family, self.nft_table)
        chain = self.nft_table.upper() + "-FORWARD"  # made where there is iptables
        programs = ["iptables", "ip6tables"]
        for program, names in (("iptables-legacy", "ip_tables_names"), ("ip6tables-legacy", "ip6_tables_names")):
            if "filter" in self._net("cat", f"/proc/net/{names}").split():
                programs.append(program)
        for program in filter(shutil.which, programs):
            for rule in (["-D", "FORWARD", "-j", chain], ["-F", chain], ["-X", chain]):
                self._net(program, "-w", *rule)
        for path in reversed(self._cgroups()):
            try:
                os.rmdir(path)
            except OSError:
                pass  # still dying processes in it; the slot's next owner meets an empty group


def mounts_below(folder: str) -> list[str]:
    """The mount points under `folder`, in mount order."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        targets = [line.split(" ")[4].encode().decode("unicode_escape") for line in table]
    return [target for target in targets if target.startswith(f"{folder}/")]


def children_of(parent: int) -> list[int]:
    """The living children of a process."""
    found = []
    for pid in _pids():
        status = _read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
        if len(status) > 1 and int(status[1]) == parent and status[0] != b"Z":
            found.append(pid)
    return found


def keepers_of(root: str) -> list[int]:
    """The keepers of the instance whose root directory that is."""
    return [
        pid
        for pid in _pids()
        if b"keeper.py" in _read(f"/proc/{pid}/cmdline") and root.encode() in _read(f"/proc/{pid}/environ")
    ]


def _is_kept(pid: int) -> bool:
    """Whether it is one of the programs that fork for every piece of work, and end with the service."""
    arguments = _read(f"/proc/{pid}/cmdline")
    return any(f"/service/{name}\0".encode() in arguments for name in _KEPT)


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""  # the process has ended meanwhile


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _take_slot() -> tuple[int, IO[str]]:
    """A number that no other living instance on this machine has, and the lock that says so."""
    folder = "/run/moorage-test-slots"
    os.makedirs(folder, exist_ok=True)
    for slot in range(_SLOTS):
        lock = open(f"{folder}/{slot}", "w", encoding="ascii")  # noqa: SIM115 - held open for the instance's life
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return slot, lock
    raise AssertionError(f"all {_SLOTS} slots in {folder} are taken")
