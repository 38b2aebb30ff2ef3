"""`python -m tests.bench [--dockerd unix:///run/docker.sock] [--rounds 12] [--only launch|crowds]`: what things take.

launch: the launch path, cold starts, hot reads. crowds: lists of a thousand, a hundred starts at once, exec sessions.

moorage and podman are socket-activated by the same activator with a short idle window and are asleep before each cold
measurement; dockerd is a running daemon (named by --dockerd, left alone otherwise) that has `busybox:latest`. Rounds
are interleaved, so that the machine's noise falls on all of them alike; the table gives least and median milliseconds.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.bench import crowds
from tests.support import image
from tests.support.instance import ACTIVATOR, Instance, children_of

Rows = dict[str, dict[str, list[float]]]
TRUE = ("run", "--rm", "busybox", "true")


def first_byte(path: str, target: str) -> float:
    """Milliseconds from connect to the first byte of the answer."""
    begun = time.perf_counter()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        assert client.recv(1)
        took = (time.perf_counter() - begun) * 1000
        while client.recv(65536):
            pass
    return took


def command(host: str, *arguments: str) -> float:
    """Milliseconds of one whole call of the docker CLI. Raises AssertionError when it fails."""
    begun = time.perf_counter()
    done = subprocess.run(["docker", "-H", host, *arguments], capture_output=True, text=True, check=False)
    took = (time.perf_counter() - begun) * 1000
    assert done.returncode == 0, done.stderr
    return took


class Engine:
    """One engine under measurement; `asleep` waits until it sleeps (a daemon never does)."""

    def __init__(self, name: str, path: str, running: "Callable[[], bool] | None") -> None:
        self.name, self.path, self.running = name, path, running
        self.host = f"unix://{path}"

    def asleep(self) -> None:
        """Return when no process serves the socket."""
        while self.running is not None and self.running():
            time.sleep(0.05)


def measure_crowds(engines: list[Engine], rounds: int, many: int) -> Rows:
    """Crowds that only lie there stay for all rounds; those that run are made and removed engine by engine."""
    rows: Rows = {}

    def note(row: str, engine: Engine, took: float) -> None:
        rows.setdefault(row, {}).setdefault(engine.name, []).append(took)

    with ExitStack() as stack:
        names = {engine: stack.enter_context(crowds.crowd(engine.path, 1, "sleep", "6000")) for engine in engines}
        for engine in engines:
            crowds.started_at_once(engine.path, names[engine])
        for _ in range(rounds):
            for engine in engines:
                note("warm exec over the API", engine, crowds.exec_session(engine.path, names[engine][0]))
    with ExitStack() as stack:
        for engine in engines:
            stack.enter_context(crowds.crowd(engine.path, many, "true"))
        for _ in range(rounds):
            for engine in engines:
                engine.asleep()
                note(f"cold list of {many}", engine, crowds.listed(engine.path, many))
                note(f"warm list of {many}", engine, crowds.listed(engine.path, many))
    for _ in range(max(1, rounds // 4)):
        for engine in engines:
            with crowds.crowd(engine.path, 100, "sleep", "6000") as started:
                first_byte(engine.path, "/_ping")
                note("100 containers started at once", engine, crowds.started_at_once(engine.path, started))
    return rows


def measure(engines: list[Engine], rounds: int) -> Rows:
    """All figures of all engines, round by round."""
    rows: Rows = {}

    def note(row: str, engine: Engine, measured: Callable[..., float], *arguments: str) -> None:
        found = rows.setdefault(row, {}).setdefault(engine.name, [])
        try:
            found.append(measured(engine.host if measured is command else engine.path, *arguments))
        except AssertionError as error:
            if engine is engines[0]:
                raise
            sys.stderr.write(f"{engine.name}: {row}: {error}\n")  # the table shows a dash

    for _ in range(rounds):
        for engine in engines:
            for row, target in (("cold /_ping", "/_ping"), ("cold GET /containers/json", "/containers/json")):
                engine.asleep()
                note(row, engine, first_byte, target)
            engine.asleep()
            note("cold docker ps", engine, command, "ps")
            engine.asleep()
            note("cold docker run --rm", engine, command, *TRUE)
            note("warm docker run --rm", engine, command, *TRUE)
            note(
                "warm docker run --rm --network none",
                engine,
                command,
                *("run", "--rm", "--network", "none", "busybox", "true"),
            )
            name = f"bench-{os.getpid()}"
            command(engine.host, "run", "-d", "--name", name, "busybox", "sleep", "300")
            note("warm docker exec", engine, command, "exec", name, "true")
            command(engine.host, "rm", "-f", name)
    for engine in engines:
        made = []
        for number in range(100):
            made.append(f"bench-{os.getpid()}-{number}")
            command(engine.host, "create", "--name", made[-1], "busybox", "true")
        for _ in range(rounds):
            first_byte(engine.path, "/_ping")
            note("warm list of 100", engine, first_byte, "/containers/json?all=1")
        command(engine.host, "rm", *made)
    return rows


def table(rows: Rows, engines: list[Engine]) -> str:
    """Markdown: least / median, and moorage's median as a share of the others'."""
    lines = ["| ms, least / median | " + " | ".join(e.name for e in engines) + " | moorage : others |"]
    lines.append("| --- |" + " --- |" * (len(engines) + 1))
    for row, values in rows.items():
        told = [values.get(e.name, []) for e in engines]
        cells = [f"{min(v):.0f} / {statistics.median(v):.0f}" if v else "-" for v in told]
        own = statistics.median(told[0])
        shares = ", ".join(
            f"{own / statistics.median(v):.2f} {e.name}" for e, v in zip(engines[1:], told[1:], strict=True) if v
        )
        lines.append(f"| {row} | " + " | ".join(cells) + f" | {shares} |")
    return "\n".join(lines)


def main() -> None:
    """Set up what is there, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--dockerd", default="", help="socket of a running dockerd that has busybox:latest")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--only", choices=("launch", "crowds"), help="one part of it")
    parser.add_argument("--many", type=int, default=1000, help="how long a long list is")
    parser.add_argument("--without-podman", action="store_true")
    chosen = parser.parse_args()
    with Instance(idle_seconds=0.5) as moorage, tempfile.TemporaryDirectory(prefix="bench") as folder:
        moorage.load_busybox()
        engines = [Engine("moorage", moorage.socket, lambda: moorage.service_pid() is not None)]
        podman: subprocess.Popen[bytes] | None = None
        if shutil.which("podman") and not chosen.without_podman:
            path = f"{folder}/podman.sock"
            # podman asks for more open files than a host without CAP_SYS_RESOURCE lets it have
            limits = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
            Path(folder, "containers.conf").write_text(limits, encoding="utf-8")
            options = f"--root {folder}/root --runroot {folder}/run --runtime runc system service --time 1"
            podman = subprocess.Popen(
                [*ACTIVATOR, path, str(shutil.which("podman")), *options.split()],
                env={**os.environ, "CONTAINERS_CONF": f"{folder}/containers.conf"},
                stderr=subprocess.DEVNULL,
            )
            pid = podman.pid
            moorage.until(lambda: os.path.exists(path), 60, "podman's socket did not appear")
            engines.append(Engine("podman", path, lambda: bool(children_of(pid))))
            command(engines[-1].host, "load", "-q", "-i", image.busybox())
        if chosen.dockerd:
            engines.append(Engine("dockerd", chosen.dockerd.removeprefix("unix://"), None))
        try:
            rows: Rows = {}
            if chosen.only != "crowds":
                rows |= measure(engines, chosen.rounds)
            if chosen.only != "launch":
                rows |= measure_crowds(engines, chosen.rounds, chosen.many)
            print(table(rows, engines))
        finally:
            if podman is not None:
                podman.terminate()
                podman.wait()
                for line in reversed(Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()):
                    if line.split()[1].startswith(folder):  # what podman leaves mounted
                        subprocess.run(["umount", "-l", line.split()[1]], check=False)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
