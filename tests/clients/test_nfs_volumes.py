"""Volumes on an NFS server (`--opt type=nfs`), the kernel's own: mounted for the first container, away after the last.

tests/system/test_user_mode_linux.py brings a kernel with such a server.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import nfs_server
from tests.support.instance import Instance, mounts_below

pytestmark = pytest.mark.skipif(not nfs_server.is_possible(), reason="no NFS server of its own in this kernel")


@pytest.fixture(scope="module")
def moorage() -> Iterator[Instance]:
    """An instance that stays awake: its process starts slowly in such a kernel."""
    with Instance(idle_seconds=60) as instance:
        instance.load_busybox()
        yield instance


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that the server exports as its root."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / "sub").mkdir()
    (folder / "sub/file").write_text("on the server")
    nfs_server.serve(folder)
    yield folder
    nfs_server.stop()


def mounted(moorage: Instance) -> list[str]:
    """The volumes that are mounted."""
    return [path.split("/")[-2] for path in mounts_below(f"{moorage.root}/volumes")]


def test_a_folder_of_a_server(moorage: Instance, exported: Path) -> None:
    moorage.docker(
        *("volume", "create", "--opt", "type=nfs", "--opt", "o=addr=localhost,rw,nfsvers=4,soft"),
        *("--opt", "device=:/sub", "shared"),
    )
    assert mounted(moorage) == [], "the first container has it mounted"
    moorage.docker("run", "-d", "--name", "one", "--network", "none", "-v", "shared:/v", "busybox", "sleep", "1000")
    told = moorage.docker("exec", "one", "sh", "-c", "cat /v/file; echo back >/v/new; grep ' /v ' /proc/mounts").stdout
    assert told.startswith("on the server")
    assert " nfs4 " in told
    assert "addr=127.0.0.1" in told, "the kernel knows no names: the address was looked up"
    assert (exported / "sub/new").read_text() == "back\n"
    moorage.kill_service()
    assert moorage.docker("run", "--rm", "--network", "none", "-v", "shared:/v:ro", "busybox", "cat", "/v/new").stdout
    assert mounted(moorage) == ["shared"], "another one still has it"
    moorage.docker("rm", "-f", "one")
    assert mounted(moorage) == []
    moorage.docker("volume", "rm", "shared")
    assert (exported / "sub/new").exists(), "what is on the server stays there"


def test_what_the_server_has_not(moorage: Instance, exported: Path) -> None:
    moorage.docker(
        *("volume", "create", "--opt", "type=nfs4", "--opt", "o=addr=127.0.0.1,soft"),
        *("--opt", "device=:/nothing", "missing"),
    )
    made = moorage.docker("run", "--rm", "--network", "none", "-v", "missing:/v", "busybox", "true", check=False)
    path = f"{moorage.root}/volumes/missing/_data"
    assert f"failed to mount local volume: mount :/nothing:{path}, data: addr=127.0.0.1,soft: " in made.stderr
    assert "no such file or directory" in made.stderr
    assert mounted(moorage) == []
    moorage.docker("volume", "rm", "missing")
