"""`python -m tests.bench.builds [--rounds 3]`: builds through buildx, beside dockerd's BuildKit in one run.

Ten steps (four that run a command, six that copy a file) from nothing, with everything in the cache, and with the last
file changed; a context of 5,000 files with 200 MB together, sent and copied for the first time, and again with nothing
changed. Whole calls of the command line in seconds, least of the rounds, which are interleaved. dockerd is started for
this, in a network namespace of its own.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

from tests.bench.images import Rows
from tests.differential.dockerd import Dockerd
from tests.differential.test_same_buildkit import programs
from tests.support import image, tools
from tests.support.instance import Instance

STEPS = "FROM busybox\n" + "".join(
    f"COPY f{number} /f{number}\n" + (f"RUN cat /f{number} >/r{number}\n" if number % 2 else "") for number in range(6)
)
STEPS += "RUN cat /f5 >/last\n"


class Builder:
    """One engine, asked by buildx."""

    def __init__(self, name: str, socket: str, program: str, configuration: str) -> None:
        self.name, self.program = name, program
        self.environment = {**os.environ, "DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": configuration}

    def seconds(self, context: Path, *arguments: str) -> float:
        """Of one build. Raises CalledProcessError."""
        begun = time.perf_counter()
        subprocess.run(
            [self.program, "buildx", "build", "-q", "-t", "bench:build", *arguments, str(context)],
            check=True,
            capture_output=True,
            env=self.environment,
        )
        return time.perf_counter() - begun


def measure(builders: "list[Builder]", folder: Path, rounds: int) -> Rows:
    """All rows, a figure for each round."""
    rows: Rows = {}
    for number in range(rounds):
        for builder in builders:

            def note(row: str, took: float, name: str = builder.name) -> None:
                rows.setdefault(row, {}).setdefault(name, []).append(took)

            steps = folder / f"{builder.name}-steps-{number}"
            steps.mkdir()
            (steps / "Dockerfile").write_text(STEPS)
            for file in range(6):
                (steps / f"f{file}").write_text(f"{number} {file}\n")
            note("ten steps, from nothing", builder.seconds(steps))
            note("ten steps, all in the cache", builder.seconds(steps))
            (steps / "f5").write_text("changed\n")
            note("ten steps, the last file changed", builder.seconds(steps))
            large = folder / f"{builder.name}-large-{number}"
            for file in range(5000):
                path = large / f"d{file % 50}" / f"f{file}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(os.urandom(20_000) + bytes(20_000))
            (large / "Dockerfile").write_text("FROM busybox\nCOPY . /all/\n")
            note("200 MB in 5,000 files, first", builder.seconds(large))
            note("200 MB in 5,000 files, unchanged", builder.seconds(large))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    tools.find()
    program, plugin = programs()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made, Dockerd() as dockerd, Instance() as moorage:
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
        for row, taken in measure(builders, folder, rounds).items():
            print(f"{row:36}" + "".join(f"  {name} {min(times):6.2f}" for name, times in taken.items()))
        moorage.reset()


if __name__ == "__main__":
    main()
