"""Layers that are registered but had not reached the disk when the process, or the whole machine, went down.

The power cut is played: the store is told that the layer was registered in another boot, and its files are damaged.
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator

import pytest

from tests.support import image
from tests.support.instance import Instance
from tests.support.registry import Registry

pytestmark = pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is missing")

BELOW, ABOVE = {"opt/tool": b"#!/bin/busybox sh\n"}, {"opt/below/data": b"moles dig tunnels " * 5000}


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as made:
        yield made


@pytest.fixture
def pulled(moorage: Instance, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of two layers, here from a registry and on the disk."""
    name = f"{registry.address}/moles/tunnel:1"
    archive = str(tmp_path_factory.mktemp("tunnel") / "in.tar")
    image.archive(archive, [image.layer(BELOW), image.layer(ABOVE)], tags=[name])
    for arguments in (("load", "-qi", archive), ("push", "-q", name), ("rmi", name), ("pull", "-q", name)):
        moorage.docker(*arguments)
    moorage.until(lambda: not noted(moorage), 60, "the layers were never said to be on the disk")
    yield name
    moorage.docker("rmi", "-f", name, check=False)


def noted(moorage: Instance) -> list[str]:
    """The boots in which unflushed layers were registered."""
    store = sqlite3.connect(f"{moorage.root}/moorage.db")
    with store:
        found = [row[0] for row in store.execute("SELECT unflushed FROM layers WHERE unflushed <> ''")]
    store.close()
    return found


def layers(moorage: Instance, name: str) -> "list[tuple[str, str]]":
    """(folder, blob) of an image's layers, lowest first."""
    image_id = moorage.docker("image", "inspect", "-f", "{{.Id}}", name).stdout.strip()
    store = sqlite3.connect(f"{moorage.root}/moorage.db")
    with store:
        rows = store.execute(
            "SELECT l.directory, b.digest FROM image_layers i JOIN layers l ON l.chain_id = i.chain_id "
            "JOIN layer_blobs b ON b.diff_id = l.diff_id WHERE i.image_id = ? AND b.repository <> '' "
            "ORDER BY i.position",
            (image_id,),
        ).fetchall()
    store.close()
    return [(f"{moorage.root}/layers/{row[0]}/diff", f"{moorage.root}/blobs/sha256/{row[1][7:]}") for row in rows]


def went_down(moorage: Instance, boot: str = "an earlier boot") -> None:
    """As if the machine had gone down before anything was flushed."""
    moorage.kill_service()
    store = sqlite3.connect(f"{moorage.root}/moorage.db")
    with store:
        store.execute("UPDATE layers SET unflushed = ?", (boot,))
    store.close()


def test_after_a_kill_the_same_boot_flushes_again(moorage: Instance, pulled: str) -> None:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        went_down(moorage, file.read().strip())
    assert noted(moorage)
    inodes = [os.stat(folder).st_ino for folder, _ in layers(moorage, pulled)]
    moorage.until(lambda: not noted(moorage), 60, "nobody flushed")
    assert [os.stat(folder).st_ino for folder, _ in layers(moorage, pulled)] == inodes, "nothing was to be repaired"


def test_after_a_power_cut_layers_are_unpacked_anew(moorage: Instance, pulled: str) -> None:
    (below, _), (above, _) = layers(moorage, pulled)
    os.truncate(f"{below}/opt/tool", 0)
    shutil.rmtree(f"{above}/opt")
    went_down(moorage)
    container = moorage.docker("create", pulled, "/none").stdout.strip()
    try:
        for path, content in (BELOW | ABOVE).items():
            moorage.docker("cp", f"{container}:/{path}", f"{moorage.folder}/out")
            with open(f"{moorage.folder}/out", "rb") as file:
                assert hashlib.sha256(file.read()).digest() == hashlib.sha256(content).digest(), path
    finally:
        moorage.docker("rm", container)
    moorage.until(lambda: not noted(moorage), 60, "what was repaired never reached the disk")
    assert [folder for folder, _ in layers(moorage, pulled)] == [below, above], (
        "containers know layers by their folders"
    )


def test_what_cannot_be_repaired_is_removed_and_told(moorage: Instance, pulled: str) -> None:
    (below, _), (above, blob) = layers(moorage, pulled)
    os.truncate(blob, 0)
    went_down(moorage)
    assert json.loads(moorage.docker("images", "--format", "{{json .}}", pulled).stdout or "[]") == []
    moorage.until(lambda: not os.path.exists(below) and not os.path.exists(above), 30, "its layers are still there")
    assert f"({pulled}) had not reached the disk when the machine went down: removed" in moorage.log()
    moorage.docker("pull", "-q", pulled)
    assert [os.path.exists(folder) for folder, _ in layers(moorage, pulled)] == [True, True]


def test_what_fails_for_another_reason_is_not_given_up(moorage: Instance, pulled: str) -> None:
    """Nothing can be unpacked at the moment, and the blob is whole: all stays, and the next start tries again."""
    _, (above, blob) = layers(moorage, pulled)
    shutil.rmtree(f"{above}/opt")
    went_down(moorage)
    moorage.environment["MOORAGE_PYTHON"] = "/bin/false"  # what runs the programs beside the service
    moorage.restart()
    try:
        assert moorage.docker("images", "-q", pulled).stdout
        assert "could not be looked at after the machine went down" in moorage.log()
    finally:
        del moorage.environment["MOORAGE_PYTHON"]
        moorage.restart()
    assert os.path.exists(blob)
    moorage.docker("version")
    moorage.until(lambda: os.path.exists(f"{above}/opt/below/data"), 60, "it was not repaired")


def test_what_a_container_stands_on_stays(moorage: Instance, pulled: str) -> None:
    container = moorage.docker("create", pulled, "/none").stdout.strip()
    try:
        _, (above, blob) = layers(moorage, pulled)
        os.truncate(blob, 0)
        went_down(moorage)
        assert moorage.docker("image", "inspect", "-f", "{{.Id}}", pulled).stdout.startswith("sha256:")
        assert os.path.exists(above)
        assert "a container was made from it: it stays, and may be damaged" in moorage.log()
    finally:
        moorage.docker("rm", container)


def test_what_an_interrupted_pull_left_goes_with_the_boot(moorage: Instance, pulled: str) -> None:
    """Nobody noted whether it had reached the disk."""
    moorage.kill_service()
    left = f"{moorage.root}/blobs/sha256/{'ab' * 32}"
    with open(left, "wb"):
        os.utime(left, (1_500_000_000, 1_500_000_000))  # by an earlier boot
    moorage.docker("version")
    assert os.path.exists(left), "within a boot it is what the next pull goes on from"
    moorage.kill_service()
    store = sqlite3.connect(f"{moorage.root}/moorage.db")
    with store:
        store.execute("UPDATE meta SET value = 'an earlier boot' WHERE key = 'boot_id'")
    store.close()
    moorage.docker("version")
    assert not os.path.exists(left)
    assert all(os.path.exists(blob) for _, blob in layers(moorage, pulled))


def test_the_service_leaves_when_all_is_flushed(moorage: Instance, pulled: str) -> None:
    moorage.docker("rmi", pulled)
    moorage.docker("pull", "-q", pulled)
    moorage.until(lambda: not noted(moorage), 60, "the layers were never said to be on the disk")
    moorage.until(lambda: moorage.service_pid() is None, 60, "the service does not leave")
