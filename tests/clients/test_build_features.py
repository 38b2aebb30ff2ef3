"""What builds can do beside their everyday work, with real parts: agents, git repositories, caches, other times."""

import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.test_buildx import Buildx
from tests.support.instance import Instance

SECONDS = 120.0
EPOCH = 1_500_000_000


@pytest.fixture(scope="module")
def buildx(moorage: Instance, tmp_path_factory: pytest.TempPathFactory) -> Buildx:
    """buildx, in a folder of its own."""
    program = shutil.which("docker-buildx")
    if program is None:
        pytest.skip("no docker buildx here")
    folder: Path = tmp_path_factory.mktemp("features")
    plugins = folder / "config/cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-buildx").symlink_to(program)
    return Buildx(moorage, plugins, folder)


@pytest.fixture(autouse=True)
def _nothing_is_left(moorage: Instance) -> Iterator[None]:
    """A build leaves no mount, no container, no process."""
    yield
    moorage.until(lambda: not moorage.leftovers(), SECONDS, "a build left something")


def built(buildx: Buildx, dockerfile: str, *arguments: str, code: int = 0, **environment: str) -> str:
    """Build a Dockerfile that needs no context; what was told."""
    return buildx.build(*arguments, "-", stdin=dockerfile.encode(), code=code, **environment)


# ── times ────────────────────────────────────────────────────────────────────────────────────────────────────────────

TIMED = """\
FROM busybox AS base
RUN mkdir /d && echo one >/d/young && touch -d @1000000000 /d/old && rm /bin/vi
WORKDIR /w/deep
FROM base
COPY <<A /d/copied
text
A
RUN touch -d @1600000000 /d/later; ln /d/later /d/link
"""


def test_two_builds_are_one_image_when_times_are_rewritten(buildx: Buildx, moorage: Instance) -> None:
    ids = []
    for number in range(2):
        output = f"type=image,name=timed:{number},rewrite-timestamp=true"
        built(buildx, TIMED, "--no-cache", "-o", output, SOURCE_DATE_EPOCH=str(EPOCH))
        ids.append(moorage.docker("image", "inspect", "-f", "{{.Id}}", f"timed:{number}").stdout)
    assert ids[0] == ids[1]
    told = moorage.docker(
        "run", "--rm", "timed:0", "sh", "-c", "stat -c '%n %Y' /d /d/* /w /w/deep; stat -c %h /d/link; ls /bin/vi",
        check=False,
    ).stdout  # fmt: skip
    seen = dict(line.split() for line in told.splitlines() if " " in line)
    assert seen.pop("/d/old") == "1000000000"
    assert seen == dict.fromkeys(("/d", "/d/copied", "/d/later", "/d/link", "/d/young", "/w", "/w/deep"), str(EPOCH))
    assert told.splitlines()[-1] == "2"
    base = moorage.docker("image", "inspect", "-f", "{{json .RootFS.Layers}}", "busybox").stdout
    made = moorage.docker("image", "inspect", "-f", "{{json .RootFS.Layers}}", "timed:0").stdout
    assert made.startswith(base.rstrip("]\n"))


def test_times_stay_without_being_asked_for(buildx: Buildx, moorage: Instance) -> None:
    built(buildx, TIMED, "-t", "untimed", SOURCE_DATE_EPOCH=str(EPOCH))
    assert int(moorage.docker("run", "--rm", "untimed", "stat", "-c", "%Y", "/d/young").stdout) > EPOCH
    built(buildx, TIMED, "-o", "type=image,name=untimed,rewrite-timestamp=true")
    assert int(moorage.docker("run", "--rm", "untimed", "stat", "-c", "%Y", "/d/young").stdout) > EPOCH
    said = built(buildx, TIMED, "-o", "type=image,rewrite-timestamp=maybe", code=1, SOURCE_DATE_EPOCH=str(EPOCH))
    assert "non-bool value for rewrite-timestamp" in said


def test_files_for_the_client_are_of_the_epoch(buildx: Buildx) -> None:
    dockerfile = "FROM scratch\nCOPY <<A /d/a\nA\n"
    built(buildx, dockerfile, "-o", "type=local,dest=local", SOURCE_DATE_EPOCH=str(EPOCH))
    assert {os.stat(buildx.folder / "local" / path).st_mtime for path in ("d", "d/a")} == {EPOCH}
    built(buildx, dockerfile, "-o", "type=tar,dest=all.tar", SOURCE_DATE_EPOCH=str(EPOCH))
    with tarfile.open(buildx.folder / "all.tar") as archive:
        assert {member.mtime for member in archive} == {EPOCH}
