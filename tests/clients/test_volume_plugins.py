"""Volumes of a plugin: what the docker CLI and docker-py see of them, and what the plugin is asked."""

import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient
from docker.errors import APIError, NotFound

from tests.support import image
from tests.support.certificates import Authority
from tests.support.instance import Instance
from tests.support.volume_plugin import VolumePlugin


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugins")
    for name in ("sockets", "etc"):
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="module")
def moorage(directories: Path) -> Iterator[Instance]:
    named = f"{directories}/sockets:{directories}/etc"
    with Instance(environment={"MOORAGE_PLUGIN_DIRS": named}) as instance:
        instance.docker("load", "-i", str(image.busybox()))
        yield instance


@pytest.fixture
def client(moorage: Instance) -> DockerClient:
    return moorage.client()


@pytest.fixture
def plugin(directories: Path, tmp_path: Path) -> Iterator[VolumePlugin]:
    with VolumePlugin(directories / "sockets/far.sock", tmp_path / "kept") as running:
        yield running


def until(plugin: VolumePlugin, name: str, count: int) -> None:
    end = time.monotonic() + 60
    while len(plugin.held.get(name, ())) != count:
        assert time.monotonic() < end, plugin.held
        time.sleep(0.02)


def test_a_volume_from_its_making_to_its_removal(moorage: Instance, client: DockerClient, plugin: VolumePlugin) -> None:
    made = client.volumes.create("far1", driver="far", driver_opts={"any": "thing"}, labels={"a": "b"})
    assert plugin.options == {"far1": {"any": "thing"}}
    assert (made.attrs["Driver"], made.attrs["Scope"], made.attrs["Status"]) == ("far", "global", {"kept": "well"})
    assert made.attrs["Mountpoint"] == ""
    (plugin.folder / "far1/before").write_text("was there")
    told = moorage.docker(
        "run", "--rm", "-v", "far1:/v", "-v", "far1:/again", "busybox", "sh", "-c", "cat /again/before; echo x >/v/new"
    )
    assert told.stdout == "was there"
    assert (plugin.folder / "far1/new").read_text() == "x\n"
    until(plugin, "far1", 0)
    container = moorage.docker("run", "-d", "-v", "far1:/v", "busybox", "sleep", "600").stdout.strip()
    assert plugin.held["far1"] == [container]
    assert client.volumes.get("far1").attrs["Mountpoint"] == str(plugin.folder / "far1")
    moorage.docker("cp", f"{container}:/v/new", str(plugin.folder / "copied"))
    assert (plugin.folder / "copied").read_text() == "x\n"
    said = moorage.docker("volume", "rm", "far1", check=False)
    assert f"remove far1: volume is in use - [{container}]" in said.stderr
    assert "far1" in plugin.options
    moorage.docker("restart", "-t", "0", container)
    assert plugin.held["far1"] == [container]
    moorage.docker("rm", "-f", container)
    until(plugin, "far1", 0)
    assert moorage.docker("volume", "ls", "-q", "--filter", "driver=far").stdout == "far1\n"
    assert "far" in client.info()["Plugins"]["Volume"]
    moorage.docker("volume", "prune", "-af")
    assert "far1" in plugin.options, "what is kept elsewhere is not pruned"
    moorage.docker("volume", "rm", "far1")
    assert plugin.options == {}
    assert "far" not in client.info()["Plugins"]["Volume"]


def test_a_container_brings_its_volume_along(moorage: Instance, plugin: VolumePlugin) -> None:
    """Named by --mount, taken over from the plugin, or anonymous; a new one gets the image's files."""
    plugin.obey("VolumeDriver.Create", {"Name": "old", "Opts": {"mine": "1"}})
    mount = "type=volume,dst=/etc,src=new,volume-driver=far,volume-opt=k=v"
    words = ("--mount", mount, "--volume-driver", "far", "-v", "old:/old", "-v", "/anonymous")
    told = moorage.docker("run", "--rm", *words, "busybox", "cat", "/etc/passwd").stdout
    assert "root" in told
    assert (plugin.folder / "new/passwd").read_text() == told
    assert plugin.options == {"old": {"mine": "1"}, "new": {"k": "v"}}, "the anonymous one went with its container"
    until(plugin, "new", 0)
    until(plugin, "old", 0)
    moorage.docker("volume", "rm", "new", "old")


def test_errors_are_the_plugins_own(moorage: Instance, client: DockerClient, plugin: VolumePlugin) -> None:
    with pytest.raises(NotFound) as missing:
        client.volumes.create("v1", driver="nosuch")
    assert missing.value.explanation == 'create v1: error looking up volume plugin nosuch: plugin "nosuch" not found'
    plugin.refused["VolumeDriver.Create"] = "no room"
    with pytest.raises(APIError) as refused:
        client.volumes.create("v1", driver="far")
    assert (refused.value.status_code, refused.value.explanation) == (500, "create v1: no room")
    assert not os.path.exists(f"{moorage.root}/volumes/v1")
    said = moorage.docker("run", "--name", "none", "--volume-driver", "far", "-v", "v1:/v", "busybox", check=False)
    assert "create v1: no room" in said.stderr
    assert client.volumes.list() == []
    assert client.containers.list(all=True) == []
    plugin.refused.clear()
    client.volumes.create("v1", driver="far")
    with pytest.raises(APIError) as conflict:
        client.volumes.create("v1", driver="local")
    assert conflict.value.status_code == 409
    said_then = "create v1: driver 'far' already has volume 'v1': volume name must be unique"
    assert conflict.value.explanation == said_then
    assert [volume.get("Status") for volume in client.api.volumes()["Volumes"]] == [None]
    plugin.refused["VolumeDriver.Mount"] = "out of reach"
    said = moorage.docker("run", "--rm", "-v", "v1:/v:nocopy", "busybox", "true", check=False)
    assert "error while mounting volume 'v1': out of reach" in said.stderr
    plugin.refused = {"VolumeDriver.Remove": "not now"}
    said = moorage.docker("volume", "rm", "v1", check=False)
    assert "remove v1: not now" in said.stderr
    plugin.refused.clear()
    moorage.docker("volume", "rm", "v1")
    plugin.refused["Plugin.Activate"] = "asleep"
    with pytest.raises(APIError) as asleep:
        client.volumes.create("v1", driver="far")
    assert asleep.value.explanation == "create v1: error looking up volume plugin far: asleep"


def test_a_plugin_that_is_gone_hides_nothing(
    moorage: Instance, client: DockerClient, directories: Path, tmp_path: Path
) -> None:
    with VolumePlugin(directories / "sockets/away.sock", tmp_path / "kept"):
        client.volumes.create("away1", driver="away")
    assert [volume.name for volume in client.volumes.list()] == ["away1"]
    assert client.api.volumes()["Warnings"] == ['error looking up volume plugin away: plugin "away" not found']
    with pytest.raises(NotFound):
        client.volumes.get("away1")
    container = client.containers.create("busybox", "true", volumes=["away1:/v:nocopy"])
    with pytest.raises(NotFound) as said:
        container.start()
    assert 'plugin "away" not found' in said.value.explanation
    container.remove(v=True)
    assert moorage.docker("volume", "rm", "away1", check=False).returncode
    moorage.docker("volume", "rm", "-f", "away1")
    assert client.volumes.list() == []


def test_an_address_in_a_file(client: DockerClient, directories: Path, tmp_path: Path) -> None:
    with VolumePlugin(tmp_path / "elsewhere.sock", tmp_path / "kept") as plugin:
        (directories / "etc/spec.spec").write_text(f"unix://{plugin.path}\n")
        (directories / "etc/json").mkdir()
        (directories / "etc/json/json.json").write_text(f'{{"Name": "json", "Addr": "unix://{plugin.path}"}}')
        for driver in ("spec", "json"):
            client.volumes.create(f"by-{driver}", driver=driver)
        assert set(plugin.options) == {"by-spec", "by-json"}
        for driver in ("spec", "json"):
            client.volumes.get(f"by-{driver}").remove()


@pytest.mark.parametrize("moment", ["create", "start"])
def test_killed_while_the_plugin_mounts(moorage: Instance, plugin: VolumePlugin, moment: str) -> None:
    """The plugin has mounted, and who asked is gone: the next process gives it back."""
    moorage.docker("volume", "create", "-d", "far", "held")
    if moment == "start":
        moorage.docker("create", "--name", "killed", "-v", "held:/v:nocopy", "busybox", "sleep", "600")
    mounted, go_on = threading.Event(), threading.Event()

    def pause(method: str, arguments: dict[str, str]) -> None:
        if method == "VolumeDriver.Mount":
            mounted.set()
            assert go_on.wait(60)

    plugin.before_answer = pause
    words = ("start", "killed") if moment == "start" else ("create", "--name", "killed", "-v", "held:/v", "busybox")
    asking = moorage.docker_popen(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert mounted.wait(60)
        assert len(plugin.held["held"]) == 1
        moorage.kill_service()
    finally:
        go_on.set()
        asking.wait(60)
    plugin.before_answer = lambda _method, _arguments: None
    moorage.docker("ps")
    until(plugin, "held", 0)
    moorage.docker("rm", "-f", "killed", check=False)
    moorage.docker("volume", "rm", "held")


def test_one_that_has_crashed_holds_up_no_list(
    moorage: Instance, client: DockerClient, directories: Path, tmp_path: Path
) -> None:
    """Its socket is there and nobody listens: told at once, not after the time that a start is given."""
    path = directories / "sockets/crashed.sock"
    with VolumePlugin(path, tmp_path / "kept"):
        client.volumes.create("crashed1", driver="crashed")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert [volume.name for volume in client.volumes.list()] == ["crashed1"]
    [warning] = client.api.volumes()["Warnings"]
    assert (
        f'error looking up volume plugin crashed: Post "unix://{path}/Plugin.Activate": connection refused' == warning
    )
    path.unlink()
    moorage.docker("volume", "rm", "-f", "crashed1")  # docker-py forgets `force`


def test_a_plugin_behind_tls(client: DockerClient, directories: Path, tmp_path: Path) -> None:
    """Its certificate is checked by the CA that its description names, and it checks ours."""
    folders = [tmp_path / name for name in ("right", "wrong")]
    for folder in folders:
        folder.mkdir()
    right, wrong = (Authority(folder) for folder in folders)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*right.sign("plugin", alternative="IP:127.0.0.1"))
    context.load_verify_locations(right.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    certificate, key = right.sign("engine")
    with VolumePlugin(tmp_path / "none", tmp_path / "kept", context) as plugin:

        def describe(**tls: object) -> None:
            said = {"Addr": f"https://127.0.0.1:{plugin.port}", "TLSConfig": tls}
            (directories / "etc/secure.json").write_text(json.dumps(said))

        describe(CAFile=right.certificate, CertFile=certificate, KeyFile=key)
        client.volumes.create("secure1", driver="secure")
        assert set(plugin.options) == {"secure1"}
        ours = {"CertFile": certificate, "KeyFile": key}
        for refused in ({"CAFile": wrong.certificate, **ours}, {"CAFile": right.certificate}):
            describe(**refused)
            with pytest.raises(APIError) as said:
                client.volumes.create("secure2", driver="secure")
            assert "create secure2: error looking up volume plugin secure: " in said.value.explanation
        assert set(plugin.options) == {"secure1"}
        describe(InsecureSkipVerify=True, CertFile=certificate, KeyFile=key)
        client.volumes.get("secure1").remove()
    (directories / "etc/secure.json").unlink()
