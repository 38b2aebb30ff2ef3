"""`python -m tests.bench.images [--rounds 3] [--growth] [--folder /var/tmp]`: pull, load and save beside others.

Three images: one layer of 300 MB (half of it random), nineteen layers of 5 MB, and one layer of 10,000 small files,
each on one of busybox. They are pulled from a registry on loopback (layers by gzip) and loaded from an archive (not
compressed); both are made here. dockerd is started for this, with no network of its own; podman, unpacked, is asked by
its own command line, and runs no container. Each engine's root is an ext4 made for this run on a file below `--folder`:
a file system that has seen much is ten times slower in making files, whoever asks. What is not there is left out.

Whole calls of the command line in seconds, the least of the rounds, which are interleaved; the disk is quiet before
each. The service's largest memory is the PSS of it and its unpacking programs, in MB. `--growth` measures moorage
alone, by layers of 100 MB to 3 GB.
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from install.busybox_image import BUSYBOX
from tests.differential.dockerd import Dockerd
from tests.support import image, podman, tools
from tests.support.instance import Instance, children_of
from tests.support.registry import Registry

Rows = dict[str, dict[str, list[float]]]
ROOM = 24 << 30  # bytes of each file system; its file is sparse
WORDS = b"moles dig tunnels "


def large_layer(size: int) -> bytes:
    """One file, half random and half of a few words."""
    half = size // 2
    return image.layer({"random": os.urandom(half), "words": WORDS * (half // len(WORDS))})


def many_files(count: int) -> bytes:
    """Small files in folders of a hundred."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for number in range(count):
            member = tarfile.TarInfo(f"folder{number // 100}/file{number}")
            member.size = 1000 + number % 3000
            tar.addfile(member, io.BytesIO(os.urandom(member.size // 2) + bytes(member.size - member.size // 2)))
    return written.getvalue()


def cases() -> "Iterator[tuple[str, list[bytes]]]":
    """Name and layers of each image; the lowest one holds busybox."""
    with open(BUSYBOX, "rb") as file:
        base = image.layer({"bin/busybox": file.read()}, mode=0o755)
    yield "300 MB", [base, large_layer(300_000_000)]
    yield "20 layers", [base, *(large_layer(5_000_000) for _ in range(19))]
    yield "10,000 files", [base, many_files(10_000)]


class Engine:
    """One engine by its command line; every call is timed. `call` raises AssertionError when one fails."""

    def __init__(
        self,
        name: str,
        command: "list[str]",
        environment: "Mapping[str, str]",
        pull: "tuple[str, ...]" = (),
        *,
        runs: bool = True,
    ) -> None:
        self.name, self.command, self.pull, self.runs = name, command, pull, runs
        self.environment = {**os.environ, **environment}

    def call(self, *arguments: str) -> float:
        """Seconds of one call, begun when the disk was quiet."""
        os.sync()
        begun = time.perf_counter()
        done = subprocess.run(
            [*self.command, *arguments], env=self.environment, capture_output=True, text=True, check=False
        )
        took = time.perf_counter() - begun
        assert not done.returncode, f"{self.name} {' '.join(arguments)}: {done.stderr}"
        return took


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
        while not self.ended.wait(0.05):
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


@contextmanager
def fresh_disk(folder: str, name: str) -> "Iterator[str]":
    """The mount point of a new ext4."""
    file, place = f"{folder}/{name}.ext4", f"{folder}/{name}"
    with open(file, "wb") as made:
        made.truncate(ROOM)
    os.mkdir(place)
    for command in (["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", file], ["mount", "-o", "loop"]):
        subprocess.run([*command, *([file, place] if command[0] == "mount" else ())], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        os.unlink(file)


def instance(stack: ExitStack, folder: str) -> "tuple[Instance, int]":
    """One of moorage on a disk of its own, and the process above its service."""
    root = stack.enter_context(fresh_disk(folder, "moorage"))
    made = Instance(environment={"MOORAGE_ROOT": root, "MOORAGE_LOG_LEVEL": "info"})
    made.root = root
    stack.enter_context(made)
    assert made._first is not None
    return made, made._first.pid


def engines(stack: ExitStack, folder: str) -> "tuple[list[Engine], int]":
    """Those that are here, moorage first, and the process above moorage's."""
    moorage, above = instance(stack, folder)
    found = [Engine("moorage", ["docker"], {"DOCKER_HOST": moorage.docker_host}, ("-q",))]
    if shutil.which("dockerd") and shutil.which("containerd"):
        place = stack.enter_context(fresh_disk(folder, "dockerd"))
        dockerd = stack.enter_context(Dockerd(data_root=place, on_loopback=True))
        found.append(Engine("dockerd", ["docker"], {"DOCKER_HOST": f"unix://{dockerd.socket}"}, ("-q",)))
    if podman.program():
        place = stack.enter_context(fresh_disk(folder, "podman"))
        own = stack.enter_context(podman.Podman(place))
        options = ("-q", "--tls-verify=false")
        found.append(Engine("podman", [podman.program()], own.environment, options, runs=False))
    return found, above


def measure(found: "list[Engine]", registry: Registry, rounds: int, folder: str) -> Rows:
    """All figures; every image is removed again."""
    rows: Rows = {}
    archive, saved = f"{folder}/in.tar", f"{folder}/out.tar"
    for name, layers in cases():
        tag = f"{registry.address}/bench/{hashlib.sha256(name.encode()).hexdigest()[:8]}:1"
        image.archive(archive, layers, tags=[tag])
        for number, engine in enumerate(found):
            engine.call("load", "-qi", archive)
            if not number:
                engine.call("push", "-q", tag)
            engine.call("rmi", "-f", tag)
        for _ in range(rounds):
            for engine in found:
                for verb, arguments in (
                    ("pull", ("pull", *engine.pull, tag)),
                    ("first container", ("run", "--rm", "--network", "none", tag, "/bin/busybox", "true")),
                    ("save", ("save", "-o", saved, tag)),
                    ("", ("rmi", tag)),
                    ("load", ("load", "-qi", archive)),
                    ("save of a loaded one", ("save", "-o", saved, tag)),
                    ("", ("rmi", tag)),
                ):
                    if arguments[0] == "run" and not engine.runs:
                        continue
                    took = engine.call(*arguments)
                    if os.path.exists(saved):
                        os.unlink(saved)
                    if verb:
                        rows.setdefault(f"{verb}, {name}", {}).setdefault(engine.name, []).append(took)
    return rows


def growth(engine: Engine, registry: Registry, root: int, folder: str) -> "Iterator[tuple[int, float, float, float]]":
    """MB, seconds of a load and of a pull, the largest memory in MB; for one layer of each size."""
    for size in (100, 300, 1000, 3000):
        tag = f"{registry.address}/bench/growth{size}:1"
        archive = f"{folder}/in.tar"
        _large_archive(archive, size * 1_000_000, tag)
        with Memory(root) as memory:
            load = engine.call("load", "-qi", archive)
            engine.call("push", "-q", tag)
            engine.call("rmi", tag)
            pull = engine.call("pull", *engine.pull, tag)
            engine.call("rmi", tag)
        yield size, load, pull, memory.most


def _large_archive(path: str, size: int, tag: str) -> None:
    """A docker-archive with one layer of `size` bytes, never whole in memory."""
    layer, digest = path + ".layer", hashlib.sha256()
    with tarfile.open(layer, "w") as tar:
        for number in range(max(1, size // 100_000_000)):
            member = tarfile.TarInfo(f"file{number}")
            member.size = 100_000_000
            half = member.size // 2
            tar.addfile(member, io.BytesIO(os.urandom(half) + (WORDS * (half // len(WORDS) + 1))[: member.size - half]))
    with open(layer, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest.hexdigest()}"]},
        }
    ).encode()
    name = hashlib.sha256(config).hexdigest()
    listed = json.dumps([{"Config": f"{name}.json", "RepoTags": [tag], "Layers": [f"{digest.hexdigest()}.tar"]}])
    with tarfile.open(path, "w") as tar:
        tar.add(layer, f"{digest.hexdigest()}.tar")
        for member_name, content in ((f"{name}.json", config), ("manifest.json", listed.encode())):
            member = tarfile.TarInfo(member_name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    os.unlink(layer)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--folder", default="/var/tmp", help="on a disk, with room for the largest image three times")
    options = parser.parse_args()
    tools.find()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder))
        found, root = engines(stack, folder)
        registry = stack.enter_context(Registry(folder=folder))
        if options.growth:
            print("| MB | load, s | pull, s | largest memory, MB |\n| --- | --- | --- | --- |")
            for size, load, pull, memory in growth(found[0], registry, root, folder):
                print(f"| {size} | {load:.2f} | {pull:.2f} | {memory:.0f} |", flush=True)
            return
        with Memory(root) as watched:
            rows = measure(found, registry, options.rounds, folder)
    others = [engine.name for engine in found[1:]]
    print("| seconds | " + " | ".join(["moorage", *others, *(f"{name} : moorage" for name in others)]) + " |")
    print("| --- " * (2 + 2 * len(others)) + "|")
    for row, values in rows.items():
        own = min(values["moorage"])
        least = [min(values.get(name, [float("nan")])) for name in others]
        print(f"| {row} | " + " | ".join(f"{value:.2f}" for value in (own, *least, *(v / own for v in least))) + " |")
    print(f"\nLargest memory of moorage: {watched.most:.0f} MB")


if __name__ == "__main__":
    main()
