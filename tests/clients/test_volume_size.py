"""A volume's `size` (`docker volume create -o size=2m`) where the file system counts by project: ext4 and XFS.

tests/system/test_user_mode_linux.py brings a kernel that can where the host's cannot.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.kernel import project_quota
from tests.support.instance import Instance

MIB = 1 << 20
MAKE = {"ext4": ("mkfs.ext4", "-q", "-O", "quota,project"), "xfs": ("mkfs.xfs", "-q")}
NO_SPACE = {"ext4": "Disk quota exceeded", "xfs": "No space left on device"}  # so says the kernel


class Disk:
    """A file system in a file."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind, self.image, self.place = kind, folder / "image", folder / "place"
        self.place.mkdir()
        with self.image.open("wb") as file:
            file.truncate(400 * MIB)  # sparse; XFS wants 300
        subprocess.run([*MAKE[kind], str(self.image)], check=True)

    def mount(self, option: str) -> None:
        """Mount it. Raises OSError where the kernel cannot."""
        command = ["mount", "-t", self.kind, "-o", f"loop,{option}", str(self.image), str(self.place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(done.stderr)

    def umount(self) -> None:
        subprocess.run(["umount", str(self.place)], check=True)


@pytest.fixture(scope="module", params=sorted(MAKE))
def disk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """A file system that counts by project, mounted."""
    if shutil.which(MAKE[request.param][0]) is None:
        pytest.skip(f"no {MAKE[request.param][0]} here")
    made = Disk(tmp_path_factory.mktemp("disk"), request.param)
    try:
        made.mount("prjquota")
    except OSError as error:
        pytest.skip(f"this kernel has no such quotas: {error}")
    yield made
    made.umount()


@pytest.fixture(scope="module")
def moorage(disk: Disk) -> Iterator[Instance]:
    """An instance whose files are on that file system."""
    with Instance(environment={"MOORAGE_ROOT": f"{disk.place}/lib"}, idle_seconds=60) as instance:
        instance.root = f"{disk.place}/lib"
        instance.load_busybox()
        yield instance


@pytest.fixture(scope="module")
def sized(moorage: Instance, disk: Disk) -> list[str]:
    """Two volumes, of 2 and of 5 MiB, that a container has filled as far as it could."""
    for name, size in {"two": "2m", "five": "5m"}.items():
        moorage.docker("volume", "create", "-o", f"size={size}", name)
    fill = "for v in /two /five; do mkdir -p $v/a/b; dd if=/dev/zero of=$v/a/b/x bs=64k count=160; done; df -k /five"
    filled = moorage.docker(
        *("run", "--rm", "--network", "none", "-v", "two:/two", "-v", "five:/five", "busybox", "sh", "-c", fill)
    )
    assert filled.stderr.count(NO_SPACE[disk.kind]) == 2, filled.stderr
    assert "5120" in filled.stdout.split(), f"df is to show the size of the volume:\n{filled.stdout}"
    return ["two", "five"]


def data(moorage: Instance, volume: str) -> Path:
    """A volume's directory."""
    return Path(moorage.root, "volumes", volume, "_data")


def room(moorage: Instance, volume: str) -> float:
    """How many MiB can be written to a volume by who has not the right to more (CAP_SYS_RESOURCE, which ext4 asks)."""
    path = data(moorage, volume) / "y"
    command = ("dd", "if=/dev/zero", f"of={path}", "bs=64k", "count=160")
    dropped = ("setpriv", "--inh-caps=-all", "--bounding-set=-sys_resource")
    subprocess.run([*dropped, *command], capture_output=True, check=False)  # it fails when the volume is full
    held = path.stat().st_size
    path.unlink()
    return held / MIB


def number(moorage: Instance, volume: str) -> int:
    """The project number of a volume's directory."""
    fd = os.open(data(moorage, volume), os.O_RDONLY)
    try:
        return project_quota.project(fd)
    finally:
        os.close(fd)


def test_a_container_writes_no_more_than_that(moorage: Instance, sized: list[str]) -> None:
    held = [(data(moorage, name) / "a/b/x").stat().st_size / MIB for name in sized]
    assert 1.8 < held[0] <= 2
    assert 4.8 < held[1] <= 5, "it was filled while the other was full already"
    assert number(moorage, "two") != number(moorage, "five")


def test_it_is_there_after_a_reboot(moorage: Instance, disk: Disk, sized: list[str]) -> None:
    before = number(moorage, "two")
    for name in sized:
        (data(moorage, name) / "a/b/x").unlink()
    moorage.stop()
    disk.umount()
    disk.mount("prjquota")
    moorage.start()
    assert number(moorage, "two") == before
    assert 1.8 < room(moorage, "two") <= 2
    assert 4.8 < room(moorage, "five") <= 5


def test_what_an_image_brings_counts(moorage: Instance, disk: Disk) -> None:
    """ext4 holds no process with CAP_SYS_RESOURCE to a quota, and it is the service that copies: there what the image
    brings is let in, and then the volume is full."""
    moorage.docker("volume", "create", "-o", "size=1m", "small")
    brought = ("run", "--rm", "--network", "none", "-v", "small:/bin", "busybox", "sh", "-c", "echo x >/bin/x")
    said = moorage.docker(*brought, check=False)
    assert NO_SPACE[disk.kind].lower() in said.stderr.lower()
    assert not moorage.docker("ps", "-aq").stdout
    moorage.docker("volume", "rm", "small")


def test_a_removed_volume_gives_its_number_back(moorage: Instance, sized: list[str]) -> None:
    given = [number(moorage, name) for name in sized]
    moorage.docker("volume", "rm", "two")
    moorage.docker("volume", "create", "-o", "size=3m", "two")
    moorage.docker("run", "--rm", "--network", "none", "-v", "two:/two", "busybox", "true")
    assert [number(moorage, name) for name in sized] == given
    assert 2.8 < room(moorage, "two") <= 3


def test_other_projects_are_left_alone(moorage: Instance, disk: Disk) -> None:
    """Administrators and dockerd count from 1: their limits stay as they are."""
    theirs = disk.place / "theirs"
    theirs.mkdir()
    fd = os.open(theirs, os.O_RDONLY)
    try:
        project_quota.limit(fd, 1, 7 * MIB)
        moorage.docker("volume", "create", "-o", "size=1m", "one")
        moorage.docker("volume", "rm", "one")
        shown = os.statvfs(theirs)
        assert shown.f_blocks * shown.f_frsize == 7 * MIB
    finally:
        os.close(fd)
        theirs.rmdir()


def test_a_file_system_that_does_not_hold_to_it_any_more(moorage: Instance, disk: Disk, sized: list[str]) -> None:
    """Mounted without the option, after a reboot: nobody is told that there is a limit."""
    moorage.stop()
    disk.umount()
    disk.mount("noquota")
    moorage.start()
    asked = moorage.docker("volume", "create", "-o", "size=1m", "one", check=False)
    assert "create one: quota size requested but no quota support" in asked.stderr
    made = moorage.docker("run", "--network", "none", "-v", f"{sized[0]}:/v", "busybox", "true", check=False)
    assert "size quota requested for volume but no quota support" in made.stderr
    moorage.docker("volume", "create", "-o", "size=0", "none")
