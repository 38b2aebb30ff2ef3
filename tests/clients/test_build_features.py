"""What builds can do beside their everyday work, with real parts: agents, git repositories, caches, other times."""

import os
import shutil
import subprocess
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


# ── other machines ───────────────────────────────────────────────────────────────────────────────────────────────────

FOREIGN = "FROM scratch\nCOPY busybox /bin/busybox\nARG TARGETARCH\nENV MADE_FOR=$TARGETARCH\n"
OURS = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "")


def test_a_build_for_another_machine_runs_nothing_and_says_so(buildx: Buildx, moorage: Instance) -> None:
    other = "arm64" if OURS == "amd64" else "amd64"
    context = buildx.folder / "foreign"
    context.mkdir()
    shutil.copy(arm_busybox() if other == "arm64" and arm_busybox() else "/bin/true", context / "busybox")
    (context / "Dockerfile").write_text(FOREIGN)
    buildx.build("--platform", f"linux/{other}", "-t", "foreign", "foreign")
    told = moorage.docker("image", "inspect", "-f", "{{.Architecture}} {{.Config.Env}}", "foreign").stdout
    assert told.startswith(f"{other} ")
    assert f"MADE_FOR={other}" in told
    asked = moorage.docker("create", "--platform", f"linux/{other}", "foreign", "x")
    assert asked.stderr == ""
    unasked = moorage.docker("create", "foreign", "x").stderr
    assert f"The requested image's platform (linux/{other}) does not match the detected host platform" in unasked
    moorage.docker("rm", *moorage.docker("ps", "-aq").stdout.split())
    said = buildx.build("--platform", f"linux/{other}", "-", stdin=b"FROM busybox\nRUN true\n", code=1)
    assert "busybox: failed to resolve source metadata" in said  # the one that is here is for this machine
    crossed = (
        b"FROM --platform=$BUILDPLATFORM busybox\nARG BUILDARCH TARGETARCH\nRUN echo $BUILDARCH makes $TARGETARCH\n"
    )
    said = buildx.build("--platform", f"linux/{other}", "-t", "crossed", "-", stdin=crossed)
    assert f"{OURS} makes {other}" in said
    assert moorage.docker("image", "inspect", "-f", "{{.Architecture}}", "crossed").stdout == f"{other}\n"
    assert "not supported" in buildx.build("--platform", "linux/amd64,linux/arm64", "-", stdin=crossed, code=1)
    assert "unknown operating system" in buildx.build("-", stdin=b"FROM --platform=nosuch busybox\n", code=1)


def arm_busybox() -> str:
    """A static program of arm64's, where Debian's packages of it were unpacked."""
    return os.environ.get("MOORAGE_TEST_ARM64_BUSYBOX", "")


@pytest.fixture
def emulation() -> Iterator[str]:
    """A static busybox of arm64, which this machine runs by qemu for as long as the test lasts."""
    program, interpreter = arm_busybox(), shutil.which("qemu-aarch64-static")
    if OURS != "amd64" or not program or not interpreter:
        pytest.skip("no qemu-aarch64-static, or no arm64 busybox (MOORAGE_TEST_ARM64_BUSYBOX) here")
    folder, name = "/proc/sys/fs/binfmt_misc", "qemu-aarch64"
    mounted = not os.path.exists(f"{folder}/register")
    if mounted:
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", folder], check=True)
    known = os.path.exists(f"{folder}/{name}")
    try:
        if not known:
            magic = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
            mask = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
            Path(folder, "register").write_text(f":{name}:M::{magic}:{mask}:{interpreter}:F")
        yield program
    finally:
        if not known and os.path.exists(f"{folder}/{name}"):
            Path(folder, name).write_text("-1")
        if mounted:
            subprocess.run(["umount", folder], check=True)


def test_without_a_handler_the_reason_is_told(buildx: Buildx) -> None:
    if not arm_busybox() or OURS != "amd64" or os.path.exists("/proc/sys/fs/binfmt_misc/qemu-aarch64"):
        pytest.skip("nothing here that cannot be run")
    context = buildx.folder / "unknown"
    context.mkdir()
    shutil.copy(arm_busybox(), context / "busybox")
    (context / "Dockerfile").write_text(FOREIGN + 'RUN ["/bin/busybox", "true"]\n')
    said = buildx.build("--platform", "linux/arm64", "unknown", code=1)
    assert "exec format error" in said
    assert "has no binfmt_misc handler" in said


def test_a_build_for_another_machine_by_emulation(emulation: str, buildx: Buildx, moorage: Instance) -> None:
    context = buildx.folder / "emulated"
    context.mkdir()
    shutil.copy(emulation, context / "busybox")
    (context / "Dockerfile").write_text(
        FOREIGN + 'SHELL ["/bin/busybox", "sh", "-c"]\nRUN busybox uname -m; echo for $TARGETARCH >/made\n'
    )
    said = buildx.build("--platform", "linux/arm64", "-t", "emulated", "emulated")
    assert any(line.endswith(" aarch64") for line in said.splitlines())
    run = ("run", "--rm", "--platform", "linux/arm64", "emulated", "/bin/busybox")
    assert moorage.docker(*run, "uname", "-m").stdout == "aarch64\n"
    assert moorage.docker(*run, "cat", "/made").stdout == "for arm64\n"
    classic = subprocess.run(
        ["docker", "build", "--platform", "linux/arm64", "-t", "classic", "emulated"],
        env={**buildx.environment, "DOCKER_BUILDKIT": "0"}, cwd=buildx.folder, capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    assert "aarch64" in classic.stdout, classic.stderr
    assert moorage.docker("image", "inspect", "-f", "{{.Architecture}}", "classic").stdout == "arm64\n"
    assert "linux/arm64" in buildx("buildx", "inspect")
