"""A full disk: pull, load and import tell it, nothing is half registered, and what fits still goes in afterwards."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.test_registry import publish
from tests.support import image
from tests.support.instance import Instance
from tests.support.registry import Registry

pytestmark = pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is missing")


@pytest.fixture(scope="module")
def moorage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance whose root is a file system of 24 MB."""
    root = str(tmp_path_factory.mktemp("root"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=711", "full", root], check=True)
    try:
        with Instance(environment={"MOORAGE_ROOT": root}) as instance:
            instance.root = root
            instance.load_busybox()
            yield instance
    finally:
        subprocess.run(["umount", "-l", root], check=False)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of an image that does not fit: its first layer does."""
    path = tmp_path_factory.mktemp("large") / "a.tar"
    layers = [image.layer({"small": os.urandom(1 << 20)}), image.layer({"big": os.urandom(40 << 20)})]
    image.archive(str(path), layers, tags=["large:1"])
    return path


def stored(moorage: Instance) -> tuple[list[str], str]:
    """Layer directories, and the images listed."""
    return sorted(os.listdir(f"{moorage.root}/layers")), moorage.docker("images", "-a").stdout


def test_load_and_import_tell_that_the_disk_is_full(moorage: Instance, large: Path, tmp_path: Path) -> None:
    before = stored(moorage)
    refused = moorage.docker("load", "-i", str(large), check=False)
    assert refused.returncode == 1
    assert "no space left on device" in refused.stderr
    assert stored(moorage) == before
    (tmp_path / "root.tar").write_bytes(image.layer({"big": os.urandom(40 << 20)}))
    refused = moorage.docker("import", str(tmp_path / "root.tar"), check=False)
    assert refused.returncode == 1
    assert "no space left on device" in refused.stderr
    assert stored(moorage) == before


def test_pull_tells_that_the_disk_is_full_and_what_fits_still_comes(
    moorage: Instance, large: Path, tmp_path: Path
) -> None:
    image.archive(str(tmp_path / "a.tar"), [image.layer({"a": "fits"})])
    with Registry() as registry:
        name, small = publish(registry, "large:1", str(large)), publish(registry, "small:1", str(tmp_path / "a.tar"))
        before = stored(moorage)
        refused = moorage.docker("pull", name, check=False)
        assert refused.returncode == 1
        assert "no space left on device" in refused.stderr
        assert "Retrying" not in refused.stdout
        assert stored(moorage) == before
        moorage.docker("pull", small)
        moorage.docker("rmi", small)
    assert moorage.docker("run", "--rm", "--network", "none", "busybox", "echo", "alive").stdout == "alive\n"


def test_commit_tells_that_the_disk_is_full(moorage: Instance) -> None:
    moorage.docker(
        "run",
        "--name",
        "writer",
        "--network",
        "none",
        "busybox",
        "dd",
        "if=/dev/urandom",
        "of=/big",
        "bs=1M",
        "count=12",
    )
    try:
        before = stored(moorage)
        refused = moorage.docker("commit", "writer", "committed:1", check=False)
        assert refused.returncode == 1
        assert "no space left on device" in refused.stderr
        assert stored(moorage) == before
    finally:
        moorage.docker("rm", "writer")


@pytest.mark.parametrize("size", [13, 40], ids=["the layer", "the context"])
def test_a_build_tells_that_the_disk_is_full(moorage: Instance, tmp_path: Path, size: int) -> None:
    (tmp_path / "big").write_bytes(os.urandom(size << 20))
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY big /big\n")
    before = stored(moorage)
    refused = subprocess.run(
        ["docker", "build", "-t", "built:1", str(tmp_path)],
        env={**moorage.client_environment, "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert refused.returncode == 1
    assert "no space left on device" in refused.stderr
    assert stored(moorage) == before
    assert not os.listdir(f"{moorage.root}/tmp")


def test_on_a_disk_without_any_room_every_verb_says_so(moorage: Instance) -> None:
    moorage.docker("tag", "busybox", "there:1")
    filler = f"{moorage.root}/filler"
    _fill(filler)
    try:
        for command in (["create", "--name", "roomless", "busybox", "true"], ["volume", "create", "roomless"]):
            refused = moorage.docker(*command, check=False)
            assert refused.returncode, command
            assert "no space left on device" in refused.stderr.lower(), (command, refused.stderr)
        assert "there" in moorage.docker("images").stdout  # what needs no room goes on
    finally:
        os.unlink(filler)
    moorage.docker("rmi", "there:1")
    assert moorage.docker("run", "--rm", "--network", "none", "busybox", "echo", "alive").stdout == "alive\n"
    assert not moorage.docker("ps", "-aq").stdout


def _fill(path: str) -> None:
    """Write until nothing goes in any more."""
    with open(path, "wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    return
                raise
