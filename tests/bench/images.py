"""`python -m tests.bench.images --dockerd SOCKET [--rounds 3]`: pull, load and save beside a running dockerd.

Two images: one layer of 300 MB (half of it random, packed by gzip), and one layer of 10,000 small files. Both come from
a registry on loopback that this starts; the dockerd must be able to reach it. Whole calls of the CLI in seconds, the
least of the rounds, which are interleaved; the service's largest memory (PSS, with its unpacking programs) in MB.
"""

import argparse
import io
import os
import subprocess
import tarfile
import tempfile
import threading
import time

from tests.support import image
from tests.support.instance import Instance, children_of
from tests.support.registry import Registry

Rows = dict[str, dict[str, list[float]]]


def large_layer(size: int) -> bytes:
    """One file, half random and half of a few words."""
    half = size // 2
    return image.layer({"random": os.urandom(half), "words": b"moles dig tunnels " * (half // 18)})


def many_files(count: int) -> bytes:
    """Small files in folders of a hundred."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for number in range(count):
            member = tarfile.TarInfo(f"folder{number // 100}/file{number}")
            member.size = 1000 + number % 3000
            tar.addfile(member, io.BytesIO(os.urandom(member.size // 2) + bytes(member.size - member.size // 2)))
    return written.getvalue()


def call(socket: str, *arguments: str) -> float:
    """Seconds of one call of the CLI. Raises AssertionError when it fails."""
    begun = time.perf_counter()
    done = subprocess.run(["docker", "-H", f"unix://{socket}", *arguments], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return time.perf_counter() - begun


class Memory:
    """Watches the PSS of the processes below one, in MB, while it is entered; `most` is the largest."""

    def __init__(self, root: int) -> None:
        self.root, self.most, self.ended = root, 0.0, threading.Event()

    def __enter__(self) -> "Memory":
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.ended.wait(0.1):
            found, waiting = 0, [self.root]
            while waiting:
                pid = waiting.pop()
                waiting += children_of(pid)
                try:
                    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                        found += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
                except (OSError, StopIteration):
                    continue  # it has ended
            self.most = max(self.most, found / 1000)


def measure(sockets: dict[str, str], rounds: int, folder: str) -> Rows:
    """All figures; every image is removed again."""
    rows: Rows = {}
    with Registry() as registry:
        for name, layer in (("300 MB", large_layer(300_000_000)), ("10,000 files", many_files(10_000))):
            tag = f"{registry.address}/bench/{len(layer)}:1"
            archive, saved = f"{folder}/in.tar", f"{folder}/out.tar"
            image.archive(archive, [layer], tags=[tag])
            for number, socket in enumerate(sockets.values()):
                call(socket, "load", "-qi", archive)
                if not number:
                    call(socket, "push", "-q", tag)
                call(socket, "rmi", "-f", tag)
            for _ in range(rounds):
                for engine, socket in sockets.items():
                    for verb, arguments in (
                        ("pull", ("pull", "-q", tag)),
                        ("save", ("save", "-o", saved, tag)),
                        ("", ("rmi", tag)),
                        ("load", ("load", "-qi", archive)),
                        ("", ("rmi", tag)),
                    ):
                        took = call(socket, *arguments)
                        if verb:
                            rows.setdefault(f"{verb}, {name}", {}).setdefault(engine, []).append(took)
    return rows


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dockerd", required=True, help="its socket")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with Instance() as moorage, tempfile.TemporaryDirectory() as folder:
        sockets = {"moorage": moorage.socket, "dockerd": options.dockerd.removeprefix("unix://")}
        assert moorage._first is not None
        with Memory(moorage._first.pid) as memory:
            rows = measure(sockets, options.rounds, folder)
    print("| seconds | moorage | dockerd | dockerd : moorage |\n| --- | --- | --- | --- |")
    for row, values in rows.items():
        own, other = min(values["moorage"]), min(values["dockerd"])
        print(f"| {row} | {own:.2f} | {other:.2f} | {other / own:.2f} |")
    print(f"\nLargest memory of moorage: {memory.most:.0f} MB")


if __name__ == "__main__":
    main()
