"""What inspect shows can be created again, and inspect shows the same of it: Watchtower and Portainer live by that."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from install import busybox_image
from tests.support import image
from tests.support.instance import Instance
from tests.support.wire import Wire, request

VERSIONS = (
    "1.24",
    "1.32",
    "1.39",
    "1.40",
    "1.41",
    "1.42",
    "1.43",
    "1.44",
    "1.45",
    "1.47",
    "1.48",
    "1.51",
    "1.52",
    "1.55",
)
OF_RUNNING = ("1.24", "1.44", "1.51", "1.55")
MEGABYTE = 1 << 20


def call(moorage: Instance, method: str, path: str, body: Any = None, version: str = "1.51") -> Any:
    """The answer's JSON (None without a body). Raises AssertionError with the answer when it is an error."""
    with Wire(moorage.socket) as wire:
        data = b"" if body is None else json.dumps(body).encode()
        wire.send(request(f"{method} /v{version}{path}", data, content_type="application/json", connection="close"))
        answer = wire.answer()
    assert answer.status < 400, (
        f"{method} {path} {version}: {answer.status} {answer.body!r}\n{json.dumps(body, indent=1)}"
    )
    return answer.json if answer.body else None


@pytest.fixture(scope="module")
def world(moorage: Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An image that has everything, a network, a volume, a container to join, and a directory of the host."""
    folder = tmp_path_factory.mktemp("bound")
    config = {
        "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["sleep 1000"], "Env": ["PATH=/bin", "OF=image"], "User": "1000:1000",
        "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "WorkingDir": "/tmp", "Labels": {"of": "image"},
        "StopSignal": "SIGINT", "Shell": ["/bin/sh"], "OnBuild": ["RUN true"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**12},
    }  # fmt: skip
    archive = str(folder.parent / "rich.tar")
    image.archive(
        archive, [busybox_image.layer(), image.layer({"data/file": "x"})], tags=["rich:latest"], config=config
    )
    moorage.docker("load", "-q", "-i", archive)
    moorage.docker(
        "network", "create", "--subnet", f"{moorage.subnets.split('/')[0].rsplit('.', 2)[0]}.63.0/24", "net1"
    )
    moorage.docker("network", "create", "net2")
    moorage.docker("volume", "create", "kept")
    moorage.docker("run", "-d", "--name", "donor", "--ipc", "shareable", "busybox", "sleep", "1000")
    yield folder
    moorage.docker("rm", "-f", "donor")


BUSY = {"Image": "busybox", "Cmd": ["sleep", "1000"]}
CONTAINERS: dict[str, dict[str, Any]] = {
    "plain": BUSY,
    "rich": {"Image": "rich"},
    "entrypoint emptied": {"Image": "rich", "Entrypoint": [""], "Cmd": ["true"]},
    "everything of config": {
        **BUSY, "Hostname": "host", "Domainname": "example.org", "User": "1:2", "AttachStdout": True, "Tty": True,
        "OpenStdin": True, "StdinOnce": True, "Env": ["A=1", "B"], "WorkingDir": "/tmp", "Entrypoint": ["env"],
        "Labels": {"a": "b"}, "StopSignal": "SIGUSR1", "StopTimeout": 0, "Volumes": {"/v": {}},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Shell": ["sh"], "OnBuild": ["RUN x"],
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 10**12, "Retries": 3},
    },
    "limits": {
        **BUSY,
        "HostConfig": {
            "Memory": 64 * MEGABYTE, "MemoryReservation": 32 * MEGABYTE, "CpuShares": 300, "NanoCpus": 5 * 10**8,
            "CpusetCpus": "0", "PidsLimit": 50, "OomScoreAdj": 100, "OomKillDisable": True, "BlkioWeight": 300,
            "MemorySwappiness": 10, "ShmSize": MEGABYTE, "Ulimits": [{"Name": "nofile", "Soft": 64, "Hard": 128}],
            "CgroupParent": "/{parent}", "KernelMemoryTCP": 8 * MEGABYTE,
        },
    },
    "quota": {**BUSY, "HostConfig": {"CpuQuota": 20000, "CpuPeriod": 50000, "PidsLimit": -1, "MemorySwappiness": -1}},
    "security": {
        **BUSY,
        "HostConfig": {
            "CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges", "seccomp=unconfined"],
            "MaskedPaths": [], "ReadonlyPaths": [], "ReadonlyRootfs": True, "Sysctls": {"net.ipv4.ip_forward": "1"},
            "GroupAdd": ["44"], "Annotations": {"a": "b"}, "Init": True,
        },
    },
    "privileged": {**BUSY, "HostConfig": {"Privileged": True, "CgroupnsMode": "private", "Init": False}},
    "devices": {
        **BUSY,
        "HostConfig": {
            "Devices": [{"PathOnHost": "/dev/full", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}],
            "DeviceCgroupRules": ["c 1:* rwm"],
        },
    },
    "host": {**BUSY, "HostConfig": {"NetworkMode": "host", "PidMode": "host", "IpcMode": "host", "UTSMode": "host"}},
    "names of the host": {**BUSY, "HostConfig": {"UTSMode": "host"}},
    "joined": {
        "Image": "rich",
        "HostConfig": {
            "NetworkMode": "container:donor", "PidMode": "container:donor", "IpcMode": "container:donor",
        },
    },
    "no network": {**BUSY, "HostConfig": {"NetworkMode": "none", "IpcMode": "none"}},
    "ports": {
        **BUSY,
        "ExposedPorts": {"90/tcp": {}},
        "HostConfig": {
            "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}], "81/tcp": [{"HostPort": "0"}]},
            "Dns": ["127.0.0.1"], "DnsSearch": ["example.org"], "DnsOptions": ["ndots:2"],
            "ExtraHosts": ["a:127.0.0.2"], "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        },
    },
    "mounts": {
        **BUSY,
        "Volumes": {"/anonymous": {}},
        "HostConfig": {
            "Binds": ["{folder}:/bound:ro", "kept:/kept"], "Tmpfs": {"/run": "size=3M"},
            "Mounts": [
                {"Type": "bind", "Source": "{folder}", "Target": "/also", "ReadOnly": True},
                {"Type": "volume", "Source": "kept", "Target": "/volume"},
                {"Type": "tmpfs", "Target": "/fast", "TmpfsOptions": {"SizeBytes": MEGABYTE, "Mode": 0o700}},
            ],
        },
    },
    "network": {
        **BUSY,
        "HostConfig": {"NetworkMode": "net1"},
        "NetworkingConfig": {"EndpointsConfig": {"net1": {"Aliases": ["alias"], "IPAMConfig": {}}}},
    },
    "two networks": {
        **BUSY,
        "HostConfig": {"NetworkMode": "net1"},
        "NetworkingConfig": {"EndpointsConfig": {"net1": {}, "net2": {"Aliases": ["other"], "GwPriority": 5}}},
    },
    "links": {**BUSY, "HostConfig": {"Links": ["donor:alias"]}},
    "logs": {**BUSY, "HostConfig": {"LogConfig": {"Type": "local", "Config": {"max-size": "1m", "max-file": "3"}}}},
    "gpus": {
        **BUSY,
        "HostConfig": {
            "DeviceRequests": [
                {"Driver": "", "Count": 0, "DeviceIDs": ["7"], "Capabilities": [["gpu"]], "Options": {"a": "b"}}
            ],
        },
    },
}  # fmt: skip
NOT_STARTED = {"gpus"}  # nothing here would serve them
SINCE = {"two networks": "1.44"}  # older versions know one


def shape(inspected: dict[str, Any], version: str) -> dict[str, Any]:
    """What must be equal: all that was asked for, and what became of it but for what each container has of its own.

    Below 1.45 the short id is shown among the aliases; below 1.43 annotations, below 1.48 gateway priorities are shown
    but not read.
    """
    inspected = copy.deepcopy(inspected)
    networks = inspected["NetworkSettings"]["Networks"]
    if inspected["HostConfig"]["Links"]:  # "/donor:/its own name/alias"
        inspected["HostConfig"]["Links"] = [
            link.replace(f":{inspected['Name']}/", ":/OWN/") for link in inspected["HostConfig"]["Links"]
        ]
    if version < "1.43":
        inspected["HostConfig"].pop("Annotations", None)
    inspected["Config"].pop("MacAddress", None)  # that of the first one's endpoint, which the second one then asks for
    for endpoint in networks.values():
        if version < "1.48":
            endpoint.pop("GwPriority")
        if version < "1.45" and endpoint["Aliases"]:
            endpoint["Aliases"] = [alias for alias in endpoint["Aliases"] if not re.fullmatch("[0-9a-f]{12}", alias)]
        for own in ("EndpointID", "NetworkID", "Gateway", "IPAddress", "MacAddress", "IPPrefixLen", "DNSNames"):
            endpoint.pop(own, None)
    mounts = sorted(
        [mount.get(key) for key in ("Destination", "Type", "Mode", "RW", "Propagation")]
        for mount in inspected["Mounts"]
    )
    kept = {key: inspected[key] for key in ("Path", "Args", "Image", "Config", "HostConfig", "Driver", "Platform")}
    return {**kept, "Networks": networks, "Mounts": mounts}


@pytest.mark.parametrize("state", ["created", "running"])
@pytest.mark.parametrize("name", CONTAINERS)
def test_created_again(moorage: Instance, world: Path, name: str, state: str) -> None:
    if state == "running" and name in NOT_STARTED:
        pytest.skip("nothing here would serve it")
    asked = json.loads(
        json.dumps(CONTAINERS[name]).replace("{folder}", str(world)).replace("{parent}", moorage.cgroup_parent)
    )
    first = call(moorage, "POST", "/containers/create", asked)["Id"]
    made = [first]
    try:
        if state == "running":
            call(moorage, "POST", f"/containers/{first}/start")
        for version in VERSIONS if state == "created" else OF_RUNNING:
            if version < SINCE.get(name, ""):
                continue
            before = call(moorage, "GET", f"/containers/{first}/json", version=version)
            networks = {"EndpointsConfig": before["NetworkSettings"]["Networks"]}
            body = {**before["Config"], "HostConfig": before["HostConfig"], "NetworkingConfig": networks}
            again = call(moorage, "POST", "/containers/create", body, version)["Id"]
            made.append(again)
            after = call(moorage, "GET", f"/containers/{again}/json", version=version)
            assert shape(after, version) == shape(before, version), version
        if state == "running":  # the last one takes the first one's place, as an updater does it
            call(moorage, "DELETE", f"/containers/{first}?force=1&v=1")
            call(moorage, "POST", f"/containers/{made[-1]}/start")
            after = call(moorage, "GET", f"/containers/{made[-1]}/json", version=version)
            assert after["State"]["Status"] == "running"
            assert shape(after, version) == shape(before, version)
    finally:
        for container in made:
            if call(moorage, "GET", f'/containers/json?all=1&filters={{"id":["{container}"]}}'):
                call(moorage, "DELETE", f"/containers/{container}?force=1&v=1")
