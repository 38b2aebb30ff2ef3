"""Settings of daemon.json that concern networks and containers: read when the file changes, without a restart."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.errors import APIError

from service import daemon_json
from service.kernel import cgroup
from service.runtime import facts
from service.settings import Settings
from tests.support.instance import Instance
from tests.support.wire import Wire, request


@pytest.fixture(scope="module")
def moorage() -> Iterator[Instance]:
    """One whose pools are those of the file."""
    with Instance(environment={"MOORAGE_SUBNETS": "", "MOORAGE_LOG_LEVEL": ""}) as instance:
        instance.load_busybox()
        yield instance


@pytest.fixture(autouse=True)
def nothing_written(moorage: Instance) -> Iterator[None]:
    yield
    Path(moorage.folder, "daemon.json").unlink(missing_ok=True)


def say(moorage: Instance, settings: dict[str, Any]) -> None:
    moorage.configure(settings)


def run(moorage: Instance, script: str, *options: str) -> list[str]:
    return moorage.docker("run", "--rm", *options, "busybox", "sh", "-c", script).stdout.splitlines()


MTU_AND_ADDRESS = (
    "cat /sys/class/net/eth0/mtu; ip -4 -o addr show eth0 | awk '{print $4}'; ip route | awk '/default/{print $3}'"
)


def test_the_default_network_follows_the_file(moorage: Instance, client: DockerClient) -> None:
    before = run(moorage, MTU_AND_ADDRESS)
    network = client.networks.get("bridge").id
    say(moorage, {"bip": "10.98.3.1/24", "mtu": 1380})
    assert run(moorage, MTU_AND_ADDRESS) == ["1380", "10.98.3.2/24", "10.98.3.1"]
    assert client.networks.get("bridge").id == network
    say(moorage, {"bip": "10.98.3.1/24", "default-gateway": "10.98.3.200", "fixed-cidr": "10.98.3.64/26"})
    assert run(moorage, MTU_AND_ADDRESS) == ["1500", "10.98.3.64/24", "10.98.3.200"]
    say(moorage, {"ipv6": True, "fixed-cidr-v6": "fd00:98:3::/64"})
    assert "fd00:98:3::" in "".join(run(moorage, "ip -6 -o addr show eth0"))
    Path(moorage.folder, "daemon.json").unlink()
    assert run(moorage, MTU_AND_ADDRESS)[0] == before[0] == "1500"
    assert "fd00" not in "".join(run(moorage, "ip -6 -o addr show eth0"))


def test_a_default_network_in_use_waits(moorage: Instance, client: DockerClient) -> None:
    say(moorage, {"bip": "10.98.4.1/24"})
    running = client.containers.run("busybox", ["sleep", "1000"], detach=True, stop_signal="KILL")
    say(moorage, {"bip": "10.98.5.1/24"})
    assert run(moorage, MTU_AND_ADDRESS)[1].startswith("10.98.4.")
    assert "the default network changes when no container is on it" in moorage.log()
    moorage.kill_service()
    assert running.exec_run(["ping", "-c1", "-W2", "10.98.4.1"]).exit_code == 0
    running.remove(force=True)
    assert run(moorage, MTU_AND_ADDRESS)[1] == "10.98.5.2/24"
    assert run(moorage, "wget -qO- 10.98.5.1:1 2>&1; ip route")[-1].startswith("10.98.5.0/24")


def test_what_cannot_be_had_is_told_and_the_network_stays_usable(moorage: Instance, client: DockerClient) -> None:
    client.networks.create("d-taken", ipam={"Config": [{"Subnet": "10.98.6.0/24"}]})
    say(moorage, {"bip": "10.98.6.1/24"})
    assert len(run(moorage, MTU_AND_ADDRESS)) == 3
    assert "the default network cannot be so: 10.98.6.0/24 overlaps with another network" in moorage.log()
    say(moorage, {"bip": "10.98.7.1"})
    assert len(run(moorage, MTU_AND_ADDRESS)) == 3
    assert "the default network cannot be so: invalid CIDR address: 10.98.7.1/" in moorage.log()
    client.networks.get("d-taken").remove()


def test_neighbours_on_the_default_network(moorage: Instance, client: DockerClient) -> None:
    say(moorage, {"icc": False})
    other = client.containers.run("busybox", ["httpd", "-f"], detach=True, stop_signal="KILL")
    other.reload()
    address = other.attrs["NetworkSettings"]["IPAddress"]
    ping = ("ping", "-c1", "-W1", address)
    assert "100% packet loss" in moorage.docker("run", "--rm", "busybox", *ping, check=False).stdout
    other.remove(force=True)


def test_pools_and_options_of_networks(moorage: Instance, client: DockerClient) -> None:
    pools: list[dict[str, Any]] = [{"base": "10.98.16.0/20", "size": 28}, {"base": "fd00:98:10::/56", "size": 64}]
    options = {"bridge": {"com.docker.network.driver.mtu": "1290"}}
    say(moorage, {"default-address-pools": pools, "default-network-opts": options})
    made = client.networks.create("d-pool", enable_ipv6=True)
    made.reload()
    assert [pool["Subnet"] for pool in made.attrs["IPAM"]["Config"]] == ["10.98.16.0/28", "fd00:98:10::/64"]
    assert run(moorage, "cat /sys/class/net/eth0/mtu", "--network", "d-pool") == ["1290"]
    shown = moorage.docker("info").stdout
    assert "   Base: 10.98.16.0/20, Size: 28\n   Base: fd00:98:10::/56, Size: 64\n" in shown
    made.remove()
    say(moorage, {"default-address-pools": [{"base": "10.98.16.0/20", "size": 8}]})
    refused = moorage.docker("network", "create", "d-pool", check=False)
    assert "the address pools for networks cannot be understood: invalid pool: 10.98.16.0/20/8" in refused.stderr


def test_defaults_of_containers(moorage: Instance, client: DockerClient) -> None:
    say(
        moorage,
        {
            **{"log-driver": "local", "log-opts": {"max-file": "3"}, "default-shm-size": "16m", "init": True},
            **{"default-ulimits": {"nofile": {"Hard": 300, "Name": "nofile", "Soft": 200}}},
            **{"dns": ["10.98.0.53"], "dns-search": ["example.org"], "dns-opts": ["timeout:3"]},
        },
    )
    look = "ulimit -n; ulimit -Hn; df -m /dev/shm | awk 'END{print $2}'; cat /etc/resolv.conf; cat /proc/1/comm"
    assert run(moorage, look) == [
        *("200", "300", "16", "nameserver 10.98.0.53", "search example.org", "options timeout:3"),
        "docker-init",
    ]
    own = ("--ulimit", "nofile=50", "--shm-size", "8m", "--dns", "10.98.0.54", "--init=false")
    assert run(moorage, look, *own)[:4] == ["50", "50", "8", "nameserver 10.98.0.54"]
    made = client.containers.create("busybox", "true")
    assert made.attrs["HostConfig"]["LogConfig"] == {"Type": "local", "Config": {"max-file": "3"}}
    made.remove()
    made = client.containers.create("busybox", "true", log_config={"Type": "json-file"})
    assert made.attrs["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": {}}
    made.remove()
    assert client.info()["LoggingDriver"] == "local"


def test_a_broken_file_stops_what_is_made_and_no_more(moorage: Instance, client: DockerClient) -> None:
    made = client.containers.create("busybox", ["sleep", "1000"], stop_signal="KILL")
    moorage.configure("{")
    refused = moorage.docker("create", "busybox", check=False)
    assert f"unable to configure the Docker daemon with file {moorage.folder}/daemon.json: " in refused.stderr
    made.start()
    assert moorage.docker("network", "ls").returncode == moorage.docker("info").returncode == 0
    made.remove(force=True)
    assert f"unable to configure the Docker daemon with file {moorage.folder}/daemon.json: " in moorage.log()


def test_what_has_no_effect_is_told(moorage: Instance) -> None:
    say(moorage, {"live-restore": True, "storage-driver": "overlay2", "data-root": "/x", "no-such-thing": 1})
    moorage.docker("create", "--name", "d-told", "busybox")
    moorage.docker("rm", "d-told")
    assert f"{moorage.folder}/daemon.json: without effect here: data-root, no-such-thing\n" in moorage.log()


@pytest.mark.parametrize(
    "settings",
    [
        {"labels": ["novalue"]},
        {"labels": "a=b"},
        {"log-opts": {"max-file": 3}},
        {"default-ulimits": {"nofile": 3}},
        {"default-address-pools": [{"base": "10.0.0.0/8"}]},
        {"default-network-opts": {"bridge": {"a": 1}}},
        {"icc": "no"},
        {"bip": 1},
        {"dns": "10.0.0.1"},
        {"init": "yes"},
        {"default-ipc-mode": "host"},
        {"default-cgroupns-mode": "shared"},
        {"exec-opts": ["native.cgroupdriver"]},
        {"exec-opts": ["native.cgroupdriver=none"]},
        {"exec-opts": ["isolation=process"]},
        {"log-level": "loud"},
        {"debug": 1},
        {"no-new-privileges": "yes"},
    ],
    ids=json.dumps,
)
def test_values_of_another_type_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=next(iter(settings)) if settings != {"labels": ["novalue"]} else "bad attribute"
    ):
        daemon_json.DaemonJson(settings)


def built(moorage: Instance, folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """`docker build` by the classic builder."""
    return subprocess.run(
        ["docker", "build", *options, str(folder)],
        env={**moorage.client_environment, "DOCKER_BUILDKIT": "0"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_experimental(moorage: Instance, client: DockerClient, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo a >/a\nRUN rm /a; echo b >/b\n")

    def headers() -> set[str]:
        """What a ping, a refusal and a stream say: each is written elsewhere."""
        found = set()
        for line in ("GET /_ping", "GET /nosuch", "GET /events?until=1"):
            with Wire(moorage.socket, 30) as wire:
                wire.send(request(line, connection="close"))
                found.add(wire.answer().headers["docker-experimental"])
        return found

    def refused(*lines: str) -> list[tuple[int, str]]:
        found = []
        for line in lines:
            with Wire(moorage.socket, 30, described=False) as wire:
                wire.send(request(line, connection="close"))
                answer = wire.answer()
            found.append((answer.status, answer.json["message"]))
        return found

    assert headers() == {"false"}
    checkpoints = (
        "GET /containers/x/checkpoints",
        "POST /containers/x/checkpoints",
        "DELETE /containers/x/checkpoints/y",
    )
    off = "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to "
    assert refused(*checkpoints) == [(501, off + "enable it.")] * 3
    assert "only supported on a Docker daemon with experimental features" in built(moorage, tmp_path, "--squash").stderr
    with pytest.raises(APIError, match="squash is only supported with experimental mode"):
        client.api._raise_for_status(client.api._post(client.api._url("/build?squash=1"), data=b""))
    say(moorage, {"experimental": True})
    assert headers() == {"true"}
    assert refused(*checkpoints) == [(501, "checkpoints are not offered by this engine")] * 3
    assert client.info()["ExperimentalBuild"] is True
    assert moorage.docker("version", "-f", "{{.Server.Experimental}}").stdout == "true\n"
    done = built(moorage, tmp_path, "--squash", "-t", "d-squashed")
    assert done.returncode == 0, done.stderr
    layers = [len(client.api.inspect_image(name)["RootFS"]["Layers"]) for name in ("busybox", "d-squashed")]
    assert layers[1] == layers[0] + 1
    assert moorage.docker("run", "--rm", "d-squashed", "sh", "-c", "cat /b; ls /").stdout.split()[0] == "b"
    moorage.docker("rmi", "d-squashed")
    say(moorage, {"experimental": "yes"})
    assert headers() == {"false"}


def test_namespaces_and_security_of_containers(moorage: Instance, client: DockerClient, tmp_path: Path) -> None:
    look = (
        "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | cut -f2; readlink /proc/self/ns/cgroup; mkdir /x/y || true"
    )
    plain = run(moorage, look)
    assert plain[:2] == ["0", "2"]
    profile = tmp_path / "no-mkdir.json"
    refused = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]}))
    before = client.containers.create("busybox", ["sh", "-c", look])
    say(
        moorage,
        {
            **{"default-ipc-mode": "shareable", "default-cgroupns-mode": "private", "no-new-privileges": True},
            "seccomp-profile": str(profile),
        },
    )
    made = client.containers.create("busybox", ["sh", "-c", look])
    host = made.attrs["HostConfig"]
    assert (host["IpcMode"], host["CgroupnsMode"], host["SecurityOpt"]) == ("shareable", "private", None)
    assert (before.attrs["HostConfig"]["IpcMode"], before.attrs["HostConfig"]["Privileged"]) == ("private", False)
    said = []
    for container in (made, before):
        container.start()
        container.wait()
        said.append(container.logs().decode().splitlines())
        container.remove()
    assert said[0][:2] == ["1", "2"]
    assert said[1][0] == "0", "what was made before it was laid down is as it was made"
    for lines in said:
        assert "Operation not supported" in lines[-1] or "Not supported" in lines[-1], lines
    assert said[0][2] != os.readlink("/proc/self/ns/cgroup")
    own = ("--security-opt", "no-new-privileges=false", "--security-opt", "seccomp=builtin", "--ipc", "private")
    assert run(moorage, look, *own)[:2] == ["0", "2"]
    assert run(moorage, look, "--security-opt", "seccomp=unconfined")[1] == "0"
    info = client.info()
    for option in (f"name=seccomp,profile={profile}", "name=cgroupns", "name=no-new-privileges"):
        assert option in info["SecurityOptions"]
    assert "WARNING: daemon is not using the default seccomp profile" in info["Warnings"]
    say(moorage, {"seccomp-profile": "unconfined"})
    assert run(moorage, look)[1] == "0"
    say(moorage, {"seccomp-profile": f"{tmp_path}/nosuch"})
    done = moorage.docker("run", "--rm", "busybox", "true", check=False)
    assert f"opening seccomp profile ({tmp_path}/nosuch) failed" in done.stderr


def test_control_groups_of_containers(moorage: Instance, client: DockerClient, tmp_path: Path) -> None:
    parent = f"/{moorage.cgroup_parent}/laid-down"
    say(moorage, {"cgroup-parent": parent})
    made = client.containers.run("busybox", ["sleep", "1000"], detach=True, stop_signal="KILL")
    groups = Path(f"/proc/{made.attrs['State']['Pid'] or client.api.inspect_container(made.id)['State']['Pid']}/cgroup")
    assert f"{parent}/{made.id}" in groups.read_text()
    assert made.attrs["HostConfig"]["CgroupParent"] == ""
    made.remove(force=True)
    for folder in Path("/sys/fs/cgroup").glob(f"**{parent}"):
        folder.rmdir()
    path = tmp_path / "daemon.json"
    for driver, expected in (("systemd", True), ("cgroupfs", False)):
        path.write_text(json.dumps({"exec-opts": [f"native.cgroupdriver={driver}"], "cgroup-parent": "some.slice"}))
        settings = Settings({"MOORAGE_DAEMON_JSON": str(path)})
        assert facts.uses_systemd(settings, cgroup.detect()) is expected
        settings = Settings({"MOORAGE_DAEMON_JSON": str(path), "MOORAGE_CGROUP_DRIVER": "cgroupfs"})
        assert not facts.uses_systemd(settings, cgroup.detect())


def test_how_much_is_told(moorage: Instance) -> None:
    for settings, debug in (
        ({}, "false"),
        ({"debug": True}, "true"),
        ({"log-level": "debug"}, "true"),
        ({"log-level": "warn", "debug": False}, "false"),
    ):
        say(moorage, settings)
        assert moorage.docker("info", "-f", "{{.Debug}}").stdout.strip() == debug, settings
    for level, is_told in (("error", False), ("warn", True)):
        say(moorage, {"log-level": level, f"unknown-for-{level}": 1})
        moorage.kill_service()
        moorage.docker("rm", moorage.docker("create", "busybox").stdout.strip())
        assert (f"without effect here: unknown-for-{level}" in moorage.log()) is is_told
