"""What a container has mounted: -v, --mount, --tmpfs, --volumes-from through the real CLI and docker-py."""

import json
import os
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.errors import APIError, ContainerError
from docker.types import Mount

from tests.support import image
from tests.support.instance import Instance, mounts_below


def run(moorage: Instance, *arguments: str) -> str:
    return moorage.docker("run", "--rm", *arguments).stdout


def refused(moorage: Instance, *arguments: str) -> str:
    done = moorage.docker("run", "--rm", *arguments, check=False)
    assert done.returncode, done.stdout
    return done.stderr


@pytest.fixture
def volume(moorage: Instance) -> Iterator[str]:
    """A named volume; its directory on the host is `data_of`."""
    moorage.docker("volume", "create", "vol")
    yield "vol"
    moorage.docker("volume", "rm", "-f", "vol")


def data_of(moorage: Instance, name: str) -> Path:
    return Path(moorage.docker("volume", "inspect", "-f", "{{.Mountpoint}}", name).stdout.strip())


# --- binds ----------------------------------------------------------------------------------------------------------


def test_a_missing_source_is_made_by_v_and_not_by_mount(
    moorage: Instance, client: DockerClient, tmp_path: Path
) -> None:
    container = moorage.docker("create", "-v", f"{tmp_path}/made/deep:/data", "busybox", "true").stdout.strip()
    assert not (tmp_path / "made").exists(), "a create makes nothing on the host"
    moorage.docker("start", "-a", container)
    assert (tmp_path / "made/deep").is_dir()
    moorage.docker("rm", container)
    said = refused(moorage, "--mount", f"type=bind,src={tmp_path}/none,dst=/data", "busybox", "true")
    assert f'invalid mount config for type "bind": bind source path does not exist: {tmp_path}/none' in said
    asked = Mount("/data", f"{tmp_path}/asked", type="bind")
    asked["BindOptions"] = {"CreateMountpoint": True}
    client.containers.run("busybox", "true", mounts=[asked], remove=True)
    assert (tmp_path / "asked").is_dir()


def test_sources_that_cannot_be_had(moorage: Instance, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    for source, target, complaint in (
        (f"{tmp_path}/file/below", "/d", "not a directory"),
        (f"{tmp_path}/dangling", "/d", f"error while creating mount source path '{tmp_path}/dangling'"),
        ("/proc/nosuch/below", "/d", "mkdir /proc/nosuch: no such file or directory"),
        (f"{tmp_path}", "/bin/busybox", "Are you trying to mount a directory onto a file (or vice-versa)?"),
        (f"{tmp_path}/file", "/etc", "Are you trying to mount a directory onto a file (or vice-versa)?"),
    ):
        said = refused(moorage, "-v", f"{source}:{target}", "busybox", "true")
        assert complaint in said, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file"]


def test_a_file_over_what_docker_provides(moorage: Instance, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("mine\n")
    container = moorage.docker(
        "run", "-d", "-v", f"{tmp_path}/hosts:/etc/hosts:ro", "-v", f"{tmp_path}:/etc/deep", "busybox", "sleep", "60"
    ).stdout.strip()
    try:
        assert moorage.docker("exec", container, "cat", "/etc/hosts", "/etc/deep/hosts").stdout == "mine\nmine\n"
        assert moorage.docker("inspect", "-f", "{{.HostsPath}}", container).stdout == f"{tmp_path}/hosts\n"
        assert (tmp_path / "hosts").read_text() == "mine\n"
    finally:
        moorage.docker("rm", "-f", container)


def test_the_api_from_inside_a_container(moorage: Instance) -> None:
    """What Testcontainers' Ryuk does: our own socket, bound into a container, also after the service has slept."""
    cli = shutil.which("docker")
    assert cli
    if not subprocess.run(["ldd", cli], capture_output=True, check=False).returncode:
        pytest.skip("the docker CLI here is not static: busybox cannot run it")
    told = run(
        moorage, "-v", f"{moorage.socket}:/var/run/docker.sock", "-v", f"{cli}:/bin/docker:ro", "--name", "inside",
        "busybox", "docker", "ps", "--format", "{{.Names}}",
    )  # fmt: skip
    assert "inside" in told.split()


def test_read_only_reaches_what_is_mounted_below(moorage: Instance, client: DockerClient, tmp_path: Path) -> None:
    """Recursively from API 1.44 on, as `bind-recursive` says, and not before."""
    (tmp_path / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "below", f"{tmp_path}/below"], check=True)
    try:
        old = moorage.client(version="1.43")

        def writes(api: DockerClient, **options: Any) -> bool:
            mount: dict[str, Any] = {
                "Type": "bind",
                "Source": str(tmp_path),
                "Target": "/d",
                "ReadOnly": True,
                **options,
            }
            try:
                api.containers.run("busybox", "touch /d/below/x", mounts=[mount], remove=True)
            except ContainerError:
                return False
            return True

        assert not writes(client)
        assert writes(old)
        assert writes(client, BindOptions={"ReadOnlyNonRecursive": True})
        assert not writes(client, BindOptions={"ReadOnlyForceRecursive": True})
        said = refused(moorage, "-v", f"{tmp_path}:/d:ro", "busybox", "touch", "/d/below/y")
        assert "Read-only file system" in said
        assert "below/x" in run(moorage, "-v", f"{tmp_path}:/d", "busybox", "find", "/d")
        flat = f"type=bind,src={tmp_path},dst=/d,bind-recursive=disabled"
        assert "below/x" not in run(moorage, "--mount", flat, "busybox", "find", "/d")
    finally:
        subprocess.run(["umount", "-l", f"{tmp_path}/below"], check=True)


def test_mounts_made_later_reach_a_container_that_asked(moorage: Instance, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "shared", str(shared)], check=True)
    subprocess.run(["mount", "--make-shared", str(shared)], check=True)
    (shared / "later").mkdir()
    container = ""
    try:
        container = moorage.docker(
            "run", "-d", "-v", f"{shared}:/slave:rslave", "-v", f"{shared}:/private", "busybox", "sleep", "60"
        ).stdout.strip()
        subprocess.run(["mount", "-t", "tmpfs", "later", f"{shared}/later"], check=True)
        (shared / "later/file").touch()
        seen = moorage.docker("exec", container, "find", "/slave", "/private", "-name", "file").stdout
        assert seen == "/slave/later/file\n"
        said = refused(moorage, "-v", f"{tmp_path}:/d:rshared", "busybox", "true")
        assert "but it is not a shared mount" in said
        (shared / "back").mkdir()
        run(moorage, "--privileged", "-v", f"{shared}:/d:rshared", "busybox", "mount", "-t", "tmpfs", "back", "/d/back")
        assert os.path.ismount(shared / "back")
    finally:
        if container:
            moorage.docker("rm", "-f", container)
        subprocess.run(["umount", "-R", "-l", str(shared)], check=True)


def test_parents_are_mounted_before_children(moorage: Instance, tmp_path: Path) -> None:
    for name in ("outer", "inner"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    (tmp_path / "outer/z").mkdir()
    told = run(
        moorage, "-v", f"{tmp_path}/inner:/a/z", "-v", f"{tmp_path}/outer:/a", "--tmpfs", "/a/z/deep",
        "busybox", "sh", "-c", "find /a -type f; mount | grep -c ' /a'",
    )  # fmt: skip
    assert sorted(told.split()) == ["/a/outer", "/a/z/inner", "3"]


# --- volumes --------------------------------------------------------------------------------------------------------


@pytest.fixture
def populated(moorage: Instance, populated_archive: str) -> str:
    """An image with owners, modes, links, attributes and a VOLUME, loaded unless it is there."""
    if not moorage.docker("images", "-q", "populated").stdout:
        moorage.docker("load", "-q", "-i", populated_archive)
    return "populated"


@pytest.fixture(scope="module")
def populated_archive(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("populated")
    root = folder / "root"
    (root / "data/sub").mkdir(parents=True)
    (root / "data/file").write_text("from the image")
    os.link(root / "data/file", root / "data/hard")
    os.symlink("file", root / "data/soft")
    os.chown(root / "data", 1234, 5678)
    os.chmod(root / "data", 0o2750)
    os.chown(root / "data/sub", 99, 99)
    os.chmod(root / "data/file", 0o4711)
    os.setxattr(root / "data/file", "user.kept", b"yes")
    os.mkfifo(root / "data/fifo")
    (root / "link").symlink_to("data")
    layer = folder / "layer.tar"
    subprocess.run(["tar", "--xattrs", "-C", str(root), "-cf", str(layer), "."], check=True)
    image.archive(
        str(folder / "image.tar"),
        [_layer_of(image.busybox()), layer.read_bytes()],
        tags=["populated:latest"],
        config={"Volumes": {"/data": {}}, "Cmd": ["sh"]},
    )
    return str(folder / "image.tar")


def _layer_of(archive: str) -> bytes:
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest
        name = json.load(manifest)[0]["Layers"][0]
        blob = tar.extractfile(name)
        assert blob
        return blob.read()


def test_a_volume_of_the_image_begins_as_the_image_is(moorage: Instance, populated: str) -> None:
    container = moorage.docker("create", populated, "true").stdout.strip()
    try:
        mount = json.loads(moorage.docker("inspect", "-f", "{{json .Mounts}}", container).stdout)[0]
        assert (mount["Type"], mount["Destination"], mount["Mode"]) == ("volume", "/data", "")
        data = Path(mount["Source"])
        status = data.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (1234, 5678, 0o2750)
        assert (data / "sub").stat().st_uid == 99
        assert (data / "file").stat().st_mode & 0o7777 == 0o4711
        assert (data / "file").stat().st_ino == (data / "hard").stat().st_ino
        assert os.readlink(data / "soft") == "file"
        assert os.getxattr(data / "file", "user.kept") == b"yes"
        assert (data / "fifo").is_fifo()
    finally:
        moorage.docker("rm", "-v", container)
    assert moorage.docker("volume", "ls", "-q").stdout == ""


def test_only_an_empty_volume_is_filled(moorage: Instance, volume: str, populated: str) -> None:
    run(moorage, "-v", f"{volume}:/link:nocopy", populated, "true")
    data = data_of(moorage, volume)
    assert list(data.iterdir()) == []
    (data / "mine").touch()
    run(moorage, "-v", f"{volume}:/link", populated, "true")
    assert [path.name for path in data.iterdir()] == ["mine"]
    (data / "mine").unlink()
    assert "file" in run(moorage, "-v", f"{volume}:/link", populated, "ls", "/link")  # by way of a symbolic link
    assert (data / "file").read_text() == "from the image"


def test_an_image_that_has_a_file_where_a_volume_is_to_be(client: DockerClient) -> None:
    with pytest.raises(APIError, match="cannot mount volume over existing file, file exists"):
        client.containers.create("busybox", volumes=["/bin/busybox"])
    assert client.volumes.list() == []


def test_labels_and_driver_options(moorage: Instance) -> None:
    options = "volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=size=1m"
    words = ("--mount", f"type=volume,src=driven,dst=/d,volume-label=k=v,{options}", "busybox")
    container = moorage.docker("run", "-d", *words, "sh", "-c", "touch /d/x; sleep 60").stdout.strip()
    try:
        inspected = json.loads(moorage.docker("volume", "inspect", "driven").stdout)[0]
        assert inspected["Labels"] == {"k": "v"}
        assert inspected["Options"] == {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
        assert "size=1024k" in run(moorage, "-v", "driven:/d", "busybox", "grep", " /d ", "/proc/mounts")
        data = inspected["Mountpoint"]
        assert os.path.ismount(data), "the second container left while the first one uses it"
        moorage.docker("kill", container)
        moorage.until(lambda: not os.path.ismount(data), 60, "the last user is gone and the volume is still mounted")
        moorage.docker("rm", container)
        assert "driven" not in moorage.docker("volume", "prune", "-af").stdout, "what is kept elsewhere is not pruned"
    finally:
        moorage.docker("rm", "-f", container, check=False)
        moorage.docker("volume", "rm", "driven")


def test_a_volume_that_cannot_be_mounted(moorage: Instance) -> None:
    words = "type=volume,src=broken,dst=/d,volume-opt=type=nosuchfs,volume-opt=device=x"
    assert "failed to mount local volume" in refused(moorage, "--mount", words, "busybox", "true")
    assert moorage.docker("volume", "ls", "-q").stdout == ""


def test_a_part_of_a_volume(moorage: Instance, volume: str) -> None:
    data = data_of(moorage, volume)
    (data / "a/b").mkdir(parents=True)
    (data / "a/b/file").write_text("deep")
    (data / "to-b").symlink_to("a/b")

    def part(subpath: str) -> tuple[str, str]:
        return "--mount", f"type=volume,src={volume},dst=/d,volume-subpath={subpath}"

    assert run(moorage, *part("a/b"), "busybox", "cat", "/d/file") == "deep"
    assert run(moorage, *part("to-b"), "busybox", "ls", "/d") == "file\n"
    assert run(moorage, *part("a/b/file"), "busybox", "cat", "/d") == "deep"
    assert run(moorage, *part("a/b"), "busybox", "sh", "-c", "echo new >/d/made; ls /d/..") == run(
        moorage, "busybox", "ls", "/"
    ).replace("dev\n", "d\ndev\n")
    assert (data / "a/b/made").read_text() == "new\n"


@pytest.mark.parametrize(
    ("link", "subpath", "complaint"),
    [
        ("/etc", "escape", "path concatenation escapes the base directory"),
        ("../../..", "escape", "path concatenation escapes the base directory"),
        ("/etc", "escape/ssl", "path concatenation escapes the base directory"),
        ("a", "escape/none", "cannot access path"),
        ("a", "../x", "subpath must be a relative path within the volume"),
        ("a", "/x", "subpath must be a relative path within the volume"),
    ],
)
def test_a_part_never_leaves_its_volume(
    moorage: Instance, volume: str, link: str, subpath: str, complaint: str
) -> None:
    data = data_of(moorage, volume)
    (data / "a").mkdir()
    (data / "escape").symlink_to(link)
    words = f"type=volume,src={volume},dst=/d,volume-subpath={subpath}"
    assert complaint in refused(moorage, "--mount", words, "busybox", "true")


def test_a_part_that_is_swapped_for_a_link_while_it_runs(moorage: Instance, volume: str) -> None:
    """What was mounted stays what it is; the next start sees the link and refuses."""
    data = data_of(moorage, volume)
    (data / "part").mkdir()
    (data / "part/mine").touch()
    container = moorage.docker(
        "run", "-d", "--mount", f"type=volume,src={volume},dst=/d,volume-subpath=part", "busybox", "sleep", "60"
    ).stdout.strip()
    try:
        shutil.rmtree(data / "part")
        (data / "part").symlink_to("/etc")
        assert moorage.docker("exec", container, "ls", "/d").stdout == ""
        again = moorage.docker("restart", "-t", "0", container, check=False)
        assert "escapes the base directory" in again.stderr
    finally:
        moorage.docker("rm", "-f", container)


def test_volumes_from(moorage: Instance, tmp_path: Path) -> None:
    donor = moorage.docker(
        "create", "-v", "/anon", "-v", "named:/named:ro", "-v", f"{tmp_path}:/bind", "busybox", "true"
    ).stdout.strip()
    user = moorage.docker("create", "--volumes-from", donor, "busybox", "true").stdout.strip()
    mounts = {m["Destination"]: m for m in json.loads(moorage.docker("inspect", user).stdout)[0]["Mounts"]}
    assert {path: mount["RW"] for path, mount in mounts.items()} == {"/anon": True, "/named": False, "/bind": True}
    told = run(moorage, "--volumes-from", f"{donor}:ro", "busybox", "sh", "-c", "touch /bind/x 2>&1 || true")
    assert "Read-only file system" in told
    anonymous = mounts["/anon"]["Name"]
    moorage.docker("rm", "-v", donor)
    assert anonymous in moorage.docker("volume", "ls", "-q").stdout, "another container uses it"
    said = moorage.docker("volume", "rm", anonymous, check=False).stderr
    assert f"remove {anonymous}: volume is in use - [{user}]" in said
    moorage.docker("rm", "-v", user)
    assert moorage.docker("volume", "ls", "-q").stdout.split() == ["named"], "named volumes stay"
    moorage.docker("volume", "rm", "named")
    for words, complaint in (("nosuch", "No such container: nosuch"), ("nosuch:rslave", "invalid mode: rslave")):
        assert complaint in refused(moorage, "--volumes-from", words, "busybox", "true")


def test_rm_v_takes_what_was_anonymous_here(moorage: Instance) -> None:
    first = moorage.docker("create", "-v", "/a", "busybox").stdout.strip()
    name = moorage.docker("inspect", "-f", "{{(index .Mounts 0).Name}}", first).stdout.strip()
    second = moorage.docker("create", "-v", f"{name}:/b", "busybox").stdout.strip()
    moorage.docker("rm", first)
    moorage.docker("rm", "-v", second)
    assert moorage.docker("volume", "ls", "-q").stdout.split() == [name], "the second one had named it"
    moorage.docker("volume", "rm", name)


# --- tmpfs and images -----------------------------------------------------------------------------------------------


def test_tmpfs(moorage: Instance, client: DockerClient) -> None:
    told = run(
        moorage, "--tmpfs", "/plain:size=2m,mode=700", "--mount", "type=tmpfs,dst=/m,tmpfs-size=1m,tmpfs-mode=1770",
        "busybox", "sh", "-c", "grep -E ' /(plain|m) ' /proc/mounts; stat -c %a /plain /m",
    )  # fmt: skip
    lines = told.splitlines()
    assert "size=2048k" in lines[0] + lines[1]
    assert "size=1024k" in lines[0] + lines[1]
    assert lines[2:] == ["700", "1770"]
    executable = Mount("/x", None, type="tmpfs")
    executable["TmpfsOptions"] = {"Options": [["exec"]]}
    shown = client.containers.run("busybox", "grep ' /x ' /proc/mounts", mounts=[executable], remove=True)
    assert b"noexec" not in shown
    assert "invalid tmpfs option" in refused(moorage, "--tmpfs", "/x:bad", "busybox", "true")


def _mounts_images(moorage: Instance) -> bool:
    """Whether this docker CLI is new enough to ask for mounts of images."""
    known = moorage.docker("version", "-f", "{{.Client.APIVersion}}").stdout.strip()
    return tuple(map(int, known.split("."))) >= (1, 48)


def test_the_file_system_of_another_image(moorage: Instance, populated: str) -> None:
    if not _mounts_images(moorage):
        pytest.skip("a docker CLI before 28 knows no mounts of images")
    words = (
        "--mount",
        f"type=image,src={populated},dst=/img",
        "--mount",
        f"type=image,src={populated},dst=/p,image-subpath=data",
    )
    container = moorage.docker("run", "-d", *words, "busybox", "sleep", "60").stdout.strip()
    try:
        said = moorage.docker(
            "exec", container, "sh", "-c", "cat /img/data/file /p/file; ls /img; touch /img/x", check=False
        )
        assert said.stdout.startswith("from the imagefrom the image")
        assert "Read-only file system" in said.stderr
        assert ".dockerenv" not in said.stdout
        shown = json.loads(moorage.docker("inspect", "-f", "{{json .Mounts}}", container).stdout)
        assert {(m["Type"], m["Name"], m["Destination"], m["RW"]) for m in shown} == {
            ("image", populated, "/img", False),
            ("image", populated, "/p", False),
        }
        moorage.docker("rmi", "-f", populated)
        moorage.docker("restart", "-t", "0", container)
        assert moorage.docker("exec", container, "cat", "/img/data/file").stdout == "from the image"
    finally:
        moorage.docker("rm", "-f", container)
    assert [path for path in mounts_below(moorage.folder) if "sources" in path] == []
    done = moorage.docker("create", *words, "busybox", "true", check=False)
    assert done.returncode, "the image is gone"


# --- what is refused, and what is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "complaint"),
    [
        ({"Binds": ["vol:rel"]}, "invalid volume specification: 'vol:rel': invalid mount config for type \"volume\": "
         "invalid mount path: 'rel' mount path must be absolute"),
        ({"Binds": ["/x:/a:ro,rw"]}, "invalid mode: ro,rw"),
        ({"Binds": ["/x:/"]}, "destination can't be '/'"),
        ({"Binds": ["../x:/a"]}, "includes invalid characters for a local volume name"),
        ({"Binds": ["/x:/a", "/y:/a/"]}, "Duplicate mount point: /a"),
        ({"Binds": ["/x:/a"], "Tmpfs": {"/a": ""}}, "Duplicate mount point: /a"),
        ({"Mounts": [{"Type": "npipe", "Source": "x", "Target": "/a"}]}, 'for type "npipe": mount type unknown'),
        ({"Mounts": [{"Type": "cluster", "Source": "x", "Target": "/a"}]}, 'for type "cluster": mount type unknown'),
        ({"Mounts": [{"Type": "tmpfs", "Source": "x", "Target": "/a"}]}, "field Source must not be specified"),
        ({"Mounts": [{"Type": "volume", "Target": "/a", "VolumeOptions": {"Subpath": "a"}}]},
         "must not set Subpath when using anonymous volumes"),
        ({"Binds": ["/x\0y:/a"]}, "a path cannot hold a NUL"),
        ({"Mounts": [{"Type": "tmpfs", "Target": "/a\0"}]}, "a path cannot hold a NUL"),
        ({"Tmpfs": {"rel": ""}}, "invalid mount path: 'rel' mount path must be absolute"),
        ({"Binds": ["vol:/a"], "VolumeDriver": "nope"}, 'error looking up volume plugin nope: plugin "nope" not found'),
    ],
)  # fmt: skip
def test_bad_mounts(client: DockerClient, host: dict[str, Any], complaint: str) -> None:
    with pytest.raises(APIError) as said:
        client.api.create_container_from_config({"Image": "busybox", "Cmd": ["true"], "HostConfig": host})
    assert complaint in said.value.explanation
    assert said.value.status_code in (400, 404)
    assert client.volumes.list() == [], "a refused create leaves no volume"


def test_a_create_that_is_killed_leaves_no_volume(moorage: Instance, populated: str) -> None:
    """The volume's directory is filled before any row knows it; the next process removes what nobody registered."""
    leftover = Path(moorage.root) / "volumes/orphan/_data"
    leftover.mkdir(parents=True)
    (leftover / "file").touch()
    moorage.docker("volume", "create", "known")
    moorage.kill_service()
    assert moorage.docker("volume", "ls", "-q").stdout == "known\n"
    assert not leftover.parent.exists()
    moorage.docker("volume", "rm", "known")


@pytest.mark.parametrize("verb", ["create", "start", "rm"])
def test_killed_in_the_middle(moorage: Instance, volume: str, populated: str, verb: str) -> None:
    """With every kind of mount: what was told is true, a next try works, and the fixture finds nothing left."""
    if not _mounts_images(moorage):
        pytest.skip("a docker CLI before 28 knows no mounts of images")
    (data_of(moorage, volume) / "part").mkdir()
    driven = "volume-opt=type=tmpfs,volume-opt=device=tmpfs"
    words = (
        "--mount", f"type=volume,src={volume},dst=/part,volume-subpath=part",
        "--mount", f"type=image,src={populated},dst=/i",
        "--mount", f"type=volume,src=driven,dst=/driven,{driven}",
        "-v", "/data", "-v", "kept:/link", populated, "sleep", "60",
    )  # fmt: skip
    for moment in range(6):
        name = f"{verb}{moment}"
        if verb != "create":
            moorage.docker("create", "--name", name, *words)
        moorage.docker("version")  # awake: what is measured is the verb
        arguments = {"create": ("create", "--name", name, *words), "start": ("start", name), "rm": ("rm", "-v", name)}
        killer = threading.Timer(0.03 + moment * 0.03, moorage.kill_service)
        killer.start()
        done = moorage.docker(*arguments[verb], check=False)
        killer.join()
        there = name in moorage.docker("ps", "-a", "--format", "{{.Names}}").stdout.split()
        assert there or verb == "rm" or done.returncode, "told of a container that is not there"
        assert not there or verb != "rm" or done.returncode, "told of a removal that did not happen"
        if there:
            moorage.docker("start", name)
            seen = moorage.docker("exec", name, "cat", "/i/data/file", "/data/file", "/link/file").stdout
            assert seen == "from the image" * 3
            moorage.docker("rm", "-fv", name)
    names = set(moorage.docker("volume", "ls", "-q").stdout.split())
    anonymous = {name for name in names if len(name) == 64}
    assert names - anonymous <= {volume, "driven", "kept"}
    assert not anonymous, "a removal that was killed is ended with its volumes"
    if names - {volume}:
        moorage.docker("volume", "rm", *(names - {volume}))


def test_events_of_volumes(moorage: Instance, client: DockerClient, volume: str) -> None:
    container = moorage.docker("create", "-v", f"{volume}:/d:ro", "busybox", "true").stdout.strip()
    since = int(time.time())
    moorage.docker("start", "-a", container)
    moorage.docker("rm", container)
    told = client.events(since=since, until=int(time.time()) + 1, filters={"volume": volume}, decode=True)
    events = [event for event in told if event["Actor"]["Attributes"].get("container") == container]
    assert [event["Action"] for event in events] == ["mount", "unmount"]
    assert events[0]["Actor"]["Attributes"] == {
        "container": container, "destination": "/d", "driver": "local", "propagation": "", "read/write": "false",
    }  # fmt: skip


# --- what the local driver mounts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"nope": "1"}, 'create dr: invalid option: "nope"'),
        ({"type": "tmpfs"}, 'create dr: missing required option: "device"'),
        ({"device": "/tmp"}, 'create dr: missing required option: "type"'),
        ({"o": "ro"}, 'create dr: missing required option: "device"'),
        ({"size": "zz"}, "create dr: invalid size: 'zz'"),
        ({"type": "cifs", "device": "//h:44/x", "o": "password=secret"},
         "create dr: port not allowed in CIFS device URL, include 'port' in 'o='"),
        ({"type": "cifs", "device": "//%zz/x"},
         'create dr: error parsing mount device url: parse "//%zz/x": invalid URL escape "%zz"'),
    ],
)  # fmt: skip
def test_options_that_mean_nothing(client: DockerClient, options: dict[str, str], complaint: str) -> None:
    with pytest.raises(APIError) as said:
        client.volumes.create("dr", driver_opts=options)
    assert said.value.explanation == complaint
    assert client.volumes.list() == []


@pytest.fixture
def driven(client: DockerClient) -> Iterator[Callable[..., str]]:
    """Makes a volume of these options and starts a container with it; what the container prints of it, or the error."""
    made: list[str] = []

    def shown(options: dict[str, str], command: str = "grep ' /v ' /proc/mounts") -> str:
        name = f"driven{len(made)}"
        made.append(client.volumes.create(name, driver_opts=options).name)
        try:
            told = client.containers.run("busybox", ["sh", "-c", command], volumes=[f"{name}:/v"], remove=True)
        except APIError as error:
            return str(error.explanation)
        return bytes(told).decode()

    yield shown
    for container in client.containers.list(all=True, filters={"volume": made}):
        container.remove()
    for name in made:
        client.volumes.get(name).remove()


def test_the_local_driver_mounts_as_the_kernel_is_told(
    moorage: Instance, driven: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("on the host")
    seen = driven({"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=7,noexec,nosuid"})
    assert "tmpfs" in seen
    assert "size=1024k" in seen
    assert "noexec" in seen
    assert driven({"type": "none", "device": str(tmp_path), "o": "bind"}, "cat /v/file") == "on the host"
    said = driven({"type": "none", "device": str(tmp_path), "o": "bind,ro"}, "cat /v/file; touch /v/x 2>&1; true")
    assert "on the host" in said
    assert "Read-only file system" in said
    assert [path for path in mounts_below(moorage.folder) if "_data" in path] == []


def test_a_volume_laid_over_a_folder(moorage: Instance, driven: Callable[..., str], tmp_path: Path) -> None:
    """What is written stays in the upper folder, from one container to the next."""
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/file").write_text("below")
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    over = {"type": "overlay", "device": "overlay", "o": options}
    assert driven(over, "cat /v/file; echo above >/v/file; cat /v/file") == "belowabove\n"
    assert (tmp_path / "upper/file").read_text() == "above\n"
    assert (tmp_path / "lower/file").read_text() == "below"
    assert driven(over, "cat /v/file") == "above\n"
    assert [path for path in mounts_below(moorage.folder) if "_data" in path] == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"type": "tmpfs", "device": ""}, "missing device in volume options"),
        ({"type": "none", "device": "/nosuchdir", "o": "bind"},
         "failed to mount local volume: mount /nosuchdir:{path}, flags: 0x1000: no such file or directory"),
        ({"type": "tmpfs", "device": "tmpfs", "o": "size=zz,ro"},
         "failed to mount local volume: mount tmpfs:{path}, flags: 0x1, data: size=zz: invalid argument"),
        ({"type": "nosuchfs", "device": "x", "o": "username=u,password=se,cr=1"},
         "failed to mount local volume: mount x:{path}, data: username=u,password=********,cr=1: no such device"),
        ({"type": "nfs", "device": ":/x", "o": "addr=a..b"},
         "error resolving passed in network volume address: lookup a..b: no such host"),
    ],
)  # fmt: skip
def test_what_cannot_be_mounted(
    moorage: Instance, driven: Callable[..., str], options: dict[str, str], complaint: str
) -> None:
    said = driven(options)
    path = f"{moorage.root}/volumes/driven0/_data"
    assert said == f"error while mounting volume '{path}': " + complaint.replace("{path}", path)


def test_cp_into_a_volume_that_is_mounted_for_it(moorage: Instance, client: DockerClient, tmp_path: Path) -> None:
    client.volumes.create("aside", driver_opts={"type": "none", "device": str(tmp_path), "o": "bind"})
    (tmp_path / "file").write_text("there")
    moorage.docker("create", "--name", "aside", "-v", "aside:/v", "busybox", "true")
    try:
        moorage.docker("cp", "aside:/v/file", str(tmp_path / "back"))
        assert (tmp_path / "back").read_text() == "there"
    finally:
        moorage.docker("rm", "-f", "aside")
        client.volumes.get("aside").remove()


def test_a_size_is_a_quota_or_an_error(moorage: Instance, client: DockerClient) -> None:
    """Where the file system counts by project, the container cannot write more; elsewhere nobody is told otherwise."""
    from service.kernel import project_quota

    fd = os.open(f"{moorage.root}/volumes", os.O_RDONLY)
    supported = project_quota.is_supported(fd)
    os.close(fd)
    if not supported:
        with pytest.raises(APIError) as said:
            client.volumes.create("sized", driver_opts={"size": "2m"})
        assert said.value.explanation == "create sized: quota size requested but no quota support"
        return
    client.volumes.create("sized", driver_opts={"size": "2m"})
    try:
        said_there = refused(moorage, "-v", "sized:/v", "busybox", "dd", "if=/dev/zero", "of=/v/x", "bs=1M", "count=3")
        assert "No space left on device" in said_there or "quota" in said_there
    finally:
        client.volumes.get("sized").remove()


def test_a_volume_that_is_there_is_given_as_it_is(client: DockerClient) -> None:
    """What else is asked of it is not looked at, as under dockerd; a new one's options are."""
    wrong = {"type": "nfs", "o": "addr=nowhere"}
    made = client.volumes.create("there", labels={"a": "b"})
    try:
        again = client.volumes.create("there", driver_opts=wrong, labels={"c": "d"})
        assert again.attrs["Labels"] == {"a": "b"}
        assert not again.attrs["Options"]
        with pytest.raises(APIError, match='missing required option: "device"'):
            client.volumes.create("new", driver_opts=wrong)
    finally:
        made.remove()
