"""Layers that a build made: its own directory became the layer, and no tar of it is here until somebody wants one."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.instance import Instance
from tests.support.registry import Registry

NAME = "moles:built"
DOCKERFILE = """\
FROM busybox
RUN mkdir -p /a/b && echo dig >/a/b/words && ln /a/b/words /a/again && chmod 700 / && rm /bin/ash
RUN rm -r /a/b && mkdir /a/b && echo >/a/b/half
COPY words /copied/
"""


def build(moorage: Instance, *arguments: str) -> str:
    """`docker build` by the classic builder; what it says."""
    return subprocess.run(
        ["docker", "build", *arguments],
        env={**moorage.client_environment, "DOCKER_BUILDKIT": "0"},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


@pytest.fixture
def built(moorage: Instance, tmp_path: Path) -> Iterator[str]:
    """An image of three layers of its own."""
    moorage.load_busybox()
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "words").write_text("moles dig tunnels\n" * 1000)
    build(moorage, "-qt", NAME, str(context))
    yield NAME
    moorage.docker("rmi", "-f", NAME, check=False)


def own_layers(moorage: Instance) -> "list[tuple[str, str]]":
    """(folder, diff id) of the layers that the image does not share with busybox, lowest first."""
    ids = [moorage.docker("image", "inspect", "-f", "{{.Id}}", name).stdout.strip() for name in (NAME, "busybox")]
    store = sqlite3.connect(f"{moorage.root}/moorage.db")
    rows = store.execute(
        "SELECT l.directory, l.diff_id FROM image_layers i JOIN layers l ON l.chain_id = i.chain_id "
        "WHERE i.image_id = ? AND i.chain_id NOT IN (SELECT chain_id FROM image_layers WHERE image_id = ?) "
        "ORDER BY i.position",
        ids,
    ).fetchall()
    store.close()
    return [(f"{moorage.root}/layers/{row[0]}/diff", row[1]) for row in rows]


def blobs(moorage: Instance) -> set[str]:
    return {f"sha256:{name}" for name in os.listdir(f"{moorage.root}/blobs/sha256")}


def went_down(moorage: Instance) -> None:
    """As if the machine had gone down before anything was flushed."""
    moorage.kill_service()
    store = sqlite3.connect(f"{moorage.root}/moorage.db")
    with store:
        store.execute("UPDATE layers SET unflushed = 'an earlier boot'")
    store.close()


def test_the_tar_is_made_when_it_is_saved(moorage: Instance, built: str, tmp_path: Path) -> None:
    diff_ids = [diff_id for _, diff_id in own_layers(moorage)]
    assert len(diff_ids) == 3
    assert not blobs(moorage) & set(diff_ids), "nobody has wanted them yet"
    moorage.docker("save", "-o", str(tmp_path / "out.tar"), built)
    with tarfile.open(tmp_path / "out.tar") as saved:
        for diff_id in diff_ids:
            content = saved.extractfile(f"blobs/sha256/{diff_id[7:]}").read()  # type: ignore[union-attr]  # a file
            assert f"sha256:{hashlib.sha256(content).hexdigest()}" == diff_id
    before = moorage.docker("run", "--rm", built, "sh", "-c", "ls -lR /a /copied; stat -c '%a %n' /").stdout
    id = moorage.docker("image", "inspect", "-f", "{{.Id}}", built).stdout
    moorage.docker("rmi", "-f", built)
    moorage.docker("image", "prune", "-f")
    moorage.docker("load", "-qi", str(tmp_path / "out.tar"))
    assert moorage.docker("image", "inspect", "-f", "{{.Id}}", built).stdout == id
    assert moorage.docker("run", "--rm", built, "sh", "-c", "ls -lR /a /copied; stat -c '%a %n' /").stdout == before


def test_a_layer_is_what_its_tar_says(moorage: Instance, built: str) -> None:
    """Whole seconds, nothing of overlayfs but what hides names; "/" is as in every container."""
    seen = []
    for folder, _ in own_layers(moorage):
        assert (os.stat(folder).st_mode & 0o7777, os.stat(folder).st_uid) == (0o755, 0)
        for at, folders, files in os.walk(folder):
            for name in (*folders, *files):
                status = os.lstat(f"{at}/{name}")
                seen.append(name)
                assert status.st_mtime_ns % 1_000_000_000 == 0, f"{at}/{name}"
                assert set(os.listxattr(f"{at}/{name}", follow_symlinks=False)) <= {"trusted.overlay.opaque"}
    assert "half" in seen


@pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is missing")
def test_it_can_be_pushed(moorage: Instance, built: str) -> None:
    with Registry() as registry:
        name = f"{registry.address}/moles/built:1"
        moorage.docker("tag", built, name)
        moorage.docker("push", "-q", name)
        moorage.docker("rmi", name)
        digests = blobs(moorage)
        for _, diff_id in own_layers(moorage):
            assert diff_id not in digests, "the gzip form has taken its place"
        before = moorage.docker("run", "--rm", built, "ls", "-lR", "/a", "/copied").stdout
        moorage.docker("rmi", "-f", built)
        moorage.docker("image", "prune", "-f")
        moorage.docker("pull", "-q", name)
        assert moorage.docker("run", "--rm", name, "ls", "-lR", "/a", "/copied").stdout == before
        moorage.docker("rmi", "-f", name)


def test_after_a_power_cut_whole_files_are_kept(moorage: Instance, built: str) -> None:
    layers = own_layers(moorage)
    went_down(moorage)
    assert moorage.docker("run", "--rm", built, "cat", "/copied/words").stdout.startswith("moles dig")
    assert own_layers(moorage) == layers


def test_after_a_power_cut_damaged_files_are_not_shown(moorage: Instance, built: str) -> None:
    folder, _ = own_layers(moorage)[-1]
    os.truncate(f"{folder}/copied/words", 100)
    went_down(moorage)
    assert json.loads(moorage.docker("images", "--format", "{{json .}}", built).stdout or "[]") == []
    moorage.until(lambda: not os.path.exists(folder), 30, "the damaged layer is still there")


def test_a_damaged_layer_is_not_saved_as_if_it_were_whole(moorage: Instance, built: str, tmp_path: Path) -> None:
    folder, diff_id = own_layers(moorage)[-1]
    os.truncate(f"{folder}/copied/words", 100)
    said = moorage.docker("save", "-o", str(tmp_path / "out.tar"), built, check=False)
    assert said.returncode
    assert f"layer {diff_id} is damaged" in said.stderr
    assert diff_id not in blobs(moorage)


def test_a_container_that_removes_itself_can_be_restarted(moorage: Instance) -> None:
    """The kernel refuses to mount what was mounted volatile before, unless the mark of that is taken away."""
    moorage.load_busybox()
    container = moorage.docker("run", "-d", "--rm", "busybox", "sh", "-c", "echo x >>/count; sleep 600").stdout.strip()
    try:
        with open("/proc/mounts", encoding="utf-8") as file:
            assert [line for line in file if container in line and "volatile" in line]
        moorage.docker("restart", "-t0", container)
        moorage.until(
            lambda: moorage.docker("exec", container, "cat", "/count", check=False).stdout == "x\nx\n",
            30,
            "what it wrote before its restart is gone",
        )
    finally:
        moorage.docker("rm", "-f", container)


def test_kept_containers_of_a_build_have_their_files(moorage: Instance, tmp_path: Path) -> None:
    """`--rm=false`: the container of a step stays, with what the step wrote."""
    moorage.load_busybox()
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo kept >/kept\n")
    said = build(moorage, "--no-cache", "--rm=false", str(tmp_path))
    container = said.partition("Running in ")[2].split()[0]
    try:
        moorage.docker("cp", f"{container}:/kept", str(tmp_path / "out"))
        assert (tmp_path / "out").read_text() == "kept\n"
        assert "A /kept" in moorage.docker("diff", container).stdout
    finally:
        moorage.docker("rm", container)
