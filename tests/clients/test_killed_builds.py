"""Builds whose clients, and whose service, are killed at any moment: nothing of them stays, neither directories, nor
containers, mounts, control groups and processes, nor rows. What is in the cache serves the next build."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import tools
from tests.support.instance import Instance

STORM_SECONDS = float(os.environ.get("MOORAGE_TEST_STORM_SECONDS", "10"))  # of killing; what follows is looking
# Steps that take the engine some time each: an archive, many files, processes, a stage of its own
CLASSIC = """\
FROM busybox AS one
ARG WHICH
WORKDIR /made
COPY many many/
RUN echo $WHICH >which; sleep 0.2
ADD some.tar /unpacked/
FROM busybox
ARG WHICH
COPY --from=one /made /made
RUN echo $WHICH; sleep 0.2; cat /made/which
"""
BUILDKIT = (
    "# syntax=docker/dockerfile:1\n"
    + CLASSIC
    + """\
RUN --mount=type=secret,id=tok --mount=type=cache,target=/cache cat /run/secrets/tok; sleep 0.2
COPY <<X <<Y /here/
x
X
y
Y
"""
)


class Builder(threading.Thread):
    """Builds, over and over, and kills its own client now and then."""

    def __init__(self, moorage: Instance, folder: Path, number: int, chance: random.Random, end: float) -> None:
        super().__init__()
        self.moorage, self.folder, self.number, self.chance, self.end = moorage, folder, number, chance, end
        self.wrong = ""

    def run(self) -> None:
        round_ = 0
        while time.monotonic() < self.end and not self.wrong:
            round_ += 1
            self._build(f"{self.number}-{round_}")

    def _build(self, which: str) -> None:
        buildkit = tools.buildx() is not None and self.chance.random() < 0.6
        words = ["build", "-q", "--build-arg", f"WHICH={which}", "-t", f"built-{self.number}"]
        words += ["-f", "ctx/Dockerfile.buildkit", "--secret", "id=tok,src=tok"] if buildkit else []
        client = subprocess.Popen(
            ["docker", *words, "ctx"],
            env={
                **self.moorage.client_environment,
                "DOCKER_CONFIG": str(self.folder / "config"),
                "DOCKER_BUILDKIT": str(int(buildkit)),
            },
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            if self.chance.random() < 0.6:
                time.sleep(self.chance.uniform(0.05, 1.2))
                os.killpg(client.pid, self.chance.choice((signal.SIGKILL, signal.SIGINT)))
            said = client.communicate(timeout=120)[0]
        finally:
            client.kill()
        for bad in ("server error", "Internal", "Traceback"):
            if bad in said:
                self.wrong = said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Contexts."""
    folder = tmp_path_factory.mktemp("builds")
    (folder / "config/cli-plugins").mkdir(parents=True)
    program = tools.buildx()
    if program is not None:
        (folder / "config/cli-plugins/docker-buildx").symlink_to(program)
    many = folder / "ctx/many"
    many.mkdir(parents=True)
    for number in range(400):
        (many / str(number)).write_bytes(bytes(2000))
    subprocess.run(["tar", "-cf", str(folder / "ctx/some.tar"), "-C", str(many), "."], check=True)
    (folder / "ctx/Dockerfile").write_text(CLASSIC)
    (folder / "ctx/Dockerfile.buildkit").write_text(BUILDKIT)
    (folder / "tok").write_text("s3cret\n")
    return folder


def test_a_storm_of_kills_over_builds(moorage: Instance, folder: Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)  # shown by a failure
    chance = random.Random(seed)
    end = time.monotonic() + STORM_SECONDS
    builders = [Builder(moorage, folder, number, random.Random(seed + number), end) for number in range(3)]
    for builder in builders:
        builder.start()
    while time.monotonic() < end:
        time.sleep(chance.uniform(0.3, 2.0))
        moorage.kill_service()
    for builder in builders:
        builder.join()
    assert [builder.wrong for builder in builders if builder.wrong] == []
    moorage.docker("ps")  # what was left is found by the next process, if there is none
    moorage.until(lambda: moorage.leftovers() == [], 60, f"left: {moorage.leftovers()}")
    moorage.until(lambda: rows(moorage) == {}, 60, f"rows: {rows(moorage)}")
    assert secrets_of(moorage) == []
    moorage.docker("build", "-q", "-t", "built", str(folder / "ctx"), timeout=120)
    assert moorage.docker("run", "--rm", "built", "ls", "/made/many").stdout.count("\n") == 400


def rows(moorage: Instance) -> dict[str, Any]:
    """What the store still says of builds."""
    store = sqlite3.connect(f"{moorage.root}/moorage.db", timeout=60)
    found = {
        "leases": store.execute("SELECT owner, object FROM leases").fetchall(),
        "containers": [json.loads(text)["Name"] for (text,) in store.execute("SELECT record FROM containers")],
    }
    store.close()
    return {name: those for name, those in found.items() if those}


def secrets_of(moorage: Instance) -> list[str]:
    """What is kept in memory for steps of builds."""
    folder = f"{moorage.run}/builds"
    return os.listdir(folder) if os.path.isdir(folder) else []
