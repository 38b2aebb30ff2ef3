"""`python -m tests.bench.builds [--rounds 3] [--only classic]`: builds beside dockerd, by BuildKit or classic.

Ten steps (four that run a command, six that copy a file) from nothing, with everything in the cache, and with the last
file changed; a context of 5,000 files with 200 MB together, sent and copied for the first time, and again with nothing
changed; through buildx, and the same with `DOCKER_BUILDKIT=0`; and four targets of one such context with 10 MB, through
`buildx bake`. Whole calls of the command line in seconds, least of the rounds, which are interleaved; who is first
takes turns. dockerd is started for this, in a network namespace of its own; each engine's root is an ext4 of its own,
as in `tests.bench.images`.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench.images import Rows, fresh_disk, instance
from tests.differential.dockerd import Dockerd
from tests.differential.test_same_buildkit import programs
from tests.support import image, tools

STEPS = "FROM busybox\n" + "".join(
    f"COPY f{number} /f{number}\n" + (f"RUN cat /f{number} >/r{number}\n" if number % 2 else "") for number in range(6)
)
STEPS += "RUN cat /f5 >/last\n"


class Builder:
    """One engine, asked by the docker CLI."""

    def __init__(self, name: str, socket: str, program: str, configuration: str) -> None:
        self.name, self.program = name, program
        self.environment = {**os.environ, "DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": configuration}

    def seconds(self, context: Path, *, classic: bool) -> float:
        """Of one build, by buildx or for the classic builder. Raises CalledProcessError."""
        verb = ["build"] if classic else ["buildx", "build"]
        return self._call(
            *verb, "-q", "-t", "bench:build", str(context), environment={"DOCKER_BUILDKIT": "0"} if classic else {}
        )

    def bake(self, context: Path) -> float:
        """Seconds of all targets of a context's bake.json. Raises CalledProcessError."""
        return self._call("buildx", "bake", "-f", f"{context}/bake.json", folder=context)

    def _call(
        self, *arguments: str, environment: "Mapping[str, str] | None" = None, folder: Path | None = None
    ) -> float:
        begun = time.perf_counter()
        subprocess.run(
            [self.program, *arguments],
            check=True,
            capture_output=True,
            env={**self.environment, **(environment or {})},
            cwd=folder,
        )
        return time.perf_counter() - begun


def measure(builders: "list[Builder]", folder: Path, rounds: int, kinds: "Sequence[bool]") -> Rows:
    """All rows of the kinds (classic or not), a figure for each round."""
    rows: Rows = {}
    for number in range(rounds):
        for builder in builders if number % 2 else reversed(builders):
            for classic in kinds:
                place = folder / f"{builder.name}-{number}-{classic}"
                os.sync()  # what one has written, the other does not wait for
                for row, took in _builds(builder, place, number, classic=classic):
                    named = f"{row}, classic" if classic else row
                    rows.setdefault(named, {}).setdefault(builder.name, []).append(took)
    return rows


def _builds(builder: Builder, folder: Path, number: int, *, classic: bool) -> Iterator[tuple[str, float]]:
    steps, large = folder / "steps", folder / "large"
    steps.mkdir(parents=True)
    (steps / "Dockerfile").write_text(STEPS)
    for file in range(6):
        (steps / f"f{file}").write_text(f"{number} {file}\n")
    yield "ten steps, from nothing", builder.seconds(steps, classic=classic)
    yield "ten steps, all in the cache", builder.seconds(steps, classic=classic)
    (steps / "f5").write_text("changed\n")
    yield "ten steps, the last file changed", builder.seconds(steps, classic=classic)
    _fill(large, 20_000)
    (large / "Dockerfile").write_text("FROM busybox\nCOPY . /all/\n")
    yield "200 MB in 5,000 files, first", builder.seconds(large, classic=classic)
    yield "200 MB in 5,000 files, unchanged", builder.seconds(large, classic=classic)
    if classic:
        return
    baked = folder / "baked"
    _fill(baked, 1_000)
    targets = {}
    for target in ("a", "b", "c", "d"):
        (baked / target).write_text(f"FROM busybox\nCOPY . /{target}/\n")
        targets[target] = {"context": ".", "dockerfile": target, "tags": [f"bench:{target}"]}
    (baked / "bake.json").write_text(json.dumps({"group": {"default": {"targets": [*targets]}}, "target": targets}))
    yield "bake, four targets, first", builder.bake(baked)
    yield "bake, four targets, unchanged", builder.bake(baked)


def _fill(folder: Path, size: int) -> None:
    """Five thousand files of twice so many bytes, half of them random."""
    for file in range(5000):
        path = folder / f"d{file % 50}" / f"f{file}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size) + bytes(size))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["buildkit", "classic"], help="one kind alone")
    asked = parser.parse_args()
    kinds = {"buildkit": (False,), "classic": (True,)}.get(asked.only, (False, True))
    tools.find()
    program, plugin = programs()
    with ExitStack() as stack:
        made = stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp"))
        moorage, _ = instance(stack, made)
        dockerd = stack.enter_context(Dockerd(data_root=stack.enter_context(fresh_disk(made, "dockerd"))))
        folder = Path(made)
        plugins = folder / "configuration" / "cli-plugins"
        plugins.mkdir(parents=True)
        (plugins / "docker-buildx").symlink_to(plugin)
        configuration = str(folder / "configuration")
        builders = [
            Builder("moorage", moorage.socket, program, configuration),
            Builder("dockerd", dockerd.socket, program, configuration),
        ]
        moorage.load_busybox()
        subprocess.run(
            [program, "load", "-q", "-i", image.busybox()], check=True, capture_output=True, env=builders[1].environment
        )
        for row, taken in measure(builders, folder, asked.rounds, kinds).items():
            print(f"{row:44}" + "".join(f"  {name} {min(times):7.3f}" for name, times in taken.items()))
        moorage.reset()


if __name__ == "__main__":
    main()
