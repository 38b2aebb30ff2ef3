"""Devices as a process in the container finds them: `--device`, its permissions, cgroup rules, CDI and `--gpus`."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.support.instance import Instance

# A device that no container gets by itself, and that anyone who may use it can open (runc's defaults have /dev/full).
SPARE = next((path for path in ("/dev/loop-control", "/dev/fuse", "/dev/kvm") if os.path.exists(path)), "/dev/null")
needs_a_spare = pytest.mark.skipif(SPARE == "/dev/null", reason="no device here that containers are not given anyway")
TRY = "exec 3< {0} && echo reads; exec 4> {0} && echo writes"

VENDOR = """\
cdiVersion: "0.6.0"
kind: nvidia.com/gpu
containerEdits:
  env:
  - DRIVER=loaded
  hooks:
  - hookName: createRuntime
    path: /bin/sh
    args: ["sh", "-c", "echo hooked > {folder}/hooked"]
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      hostPath: {spare}
      permissions: r
    mounts:
    - hostPath: {folder}/library
      containerPath: /usr/lib/vendor/library
      options: [ro, nosuid, bind]
- name: all
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      hostPath: /dev/zero
    - path: /dev/nvidia1
      hostPath: /dev/null
- name: broken
  containerEdits:
    hooks:
    - hookName: prestart
      path: /bin/false
"""


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for vendors' files, with one in YAML and one that is broken."""
    folder = tmp_path_factory.mktemp("cdi")
    (folder / "library").write_text("so\n", encoding="ascii")
    (folder / "nvidia.yaml").write_text(
        VENDOR.replace("{folder}", str(folder)).replace("{spare}", SPARE), encoding="ascii"
    )
    (folder / "broken.json").write_text("{", encoding="ascii")
    return folder


@pytest.fixture(scope="module")
def moorage(vendor: Path) -> Iterator[Instance]:
    """An instance that looks for vendors' files there."""
    with Instance(environment={"MOORAGE_CDI_DIRS": f"{vendor}/missing:{vendor}"}) as instance:
        instance.load_busybox()
        yield instance


def run(moorage: Instance, *arguments: str) -> str:
    done = moorage.docker("run", "--rm", *arguments, check=False)
    return done.stdout + done.stderr


# --- CDI ------------------------------------------------------------------------------------------------------------


@needs_a_spare
def test_a_vendors_device(moorage: Instance, vendor: Path) -> None:
    script = "echo $DRIVER; cat /usr/lib/vendor/library; ls /dev/nvidia*; " + TRY.format("/dev/nvidia0")
    said = run(moorage, "--device", "nvidia.com/gpu=0", "busybox", "sh", "-c", script)
    assert said.splitlines()[:4] == ["loaded", "so", "/dev/nvidia0", "reads"]
    assert "can't create /dev/nvidia0: Operation not permitted" in said
    assert (vendor / "hooked").read_text(encoding="ascii") == "hooked\n"


def test_gpus_are_vendors_devices(moorage: Instance, client: "docker.DockerClient") -> None:
    every = run(moorage, "--gpus", "all", "busybox", "sh", "-c", "ls /dev/nvidia*; : > /dev/nvidia0; echo $DRIVER")
    assert every.split() == ["/dev/nvidia0", "/dev/nvidia1", "loaded"]
    one = run(moorage, "--gpus", "1", "busybox", "sh", "-c", "ls /dev/nvidia*")
    assert one.split() == ["/dev/nvidia0"]
    asked = docker.types.DeviceRequest(device_ids=["0"], capabilities=[["gpu", "utility"]])
    assert (
        client.containers.run("busybox", "ls /dev/nvidia0", remove=True, device_requests=[asked]) == b"/dev/nvidia0\n"
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--gpus", "3"], "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=1, nvidia.com/gpu=2"),
        (
            ["--device", "other.com/thing=one"],
            "CDI device injection failed: unresolvable CDI devices other.com/thing=one",
        ),
        (
            ["--gpus", "driver=intel,count=1"],
            'could not select device driver "intel" with capabilities: [[gpu]]',
        ),
    ],
)
def test_devices_that_nobody_offers(moorage: Instance, arguments: list[str], text: str) -> None:
    assert text in run(moorage, *arguments, "busybox", "true")


def test_a_vendors_hook_that_fails_ends_the_start(moorage: Instance) -> None:
    made = moorage.docker("create", "--device", "nvidia.com/gpu=broken", "busybox", "true").stdout.strip()
    refused = moorage.docker("start", made, check=False)
    assert refused.returncode == 1
    assert "hook" in refused.stderr
    state = json.loads(moorage.docker("inspect", made).stdout)[0]["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", 128)
    moorage.docker("rm", made)


def test_info_lists_what_is_offered_and_what_is_broken(client: "docker.DockerClient", vendor: Path) -> None:
    said = client.info()
    assert said["DiscoveredDevices"] == [
        {"Source": "cdi", "ID": "nvidia.com/gpu=0"},
        {"Source": "cdi", "ID": "nvidia.com/gpu=all"},
        {"Source": "cdi", "ID": "nvidia.com/gpu=broken"},
    ]
    assert said["CDISpecDirs"] == [f"{vendor}/missing", str(vendor)]
    assert any(f"CDI: Error associated with spec file {vendor}/broken.json" in text for text in said["Warnings"])


# --- device nodes ---------------------------------------------------------------------------------------------------


@needs_a_spare
def test_a_node_under_another_name_and_with_less_rights(moorage: Instance) -> None:
    said = run(moorage, "--device", f"{SPARE}:/dev/mine:r", "busybox", "sh", "-c", TRY.format("/dev/mine"))
    assert said.startswith("reads\n")
    assert "can't create /dev/mine: Operation not permitted" in said
    said = run(moorage, "--device", f"{SPARE}:/dev/mine", "busybox", "sh", "-c", TRY.format("/dev/mine"))
    assert said.split() == ["reads", "writes"]


def test_links_are_followed_and_a_directory_means_its_nodes(moorage: Instance, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/full")
    said = run(moorage, "--device", f"{tmp_path}/link:/dev/linked", "busybox", "stat", "-c", "%t:%T %F", "/dev/linked")
    assert said == "1:7 character special file\n"
    nodes = tmp_path / "nodes"
    (nodes / "deep").mkdir(parents=True)
    os.mknod(nodes / "one", stat.S_IFCHR | 0o600, os.makedev(1, 7))
    os.mknod(nodes / "deep/two", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (nodes / "file").write_text("no device", encoding="ascii")
    listed = run(
        moorage,
        "--device",
        f"{nodes}:/dev/many",
        "busybox",
        "sh",
        "-c",
        "cd /dev/many; find . | sort; echo x > deep/two",
    )
    assert listed.split() == [".", "./deep", "./deep/two", "./one"]


@pytest.mark.parametrize(
    ("path", "reason"), [("/dev/nope", "no such file or directory"), ("/etc/passwd", "not a device node")]
)
def test_what_is_no_device(moorage: Instance, path: str, reason: str) -> None:
    said = run(moorage, "--device", path, "busybox", "true")
    assert f'error gathering device information while adding custom device "{path}": ' in said
    assert reason in said


@needs_a_spare
def test_a_rule_lets_a_node_be_used(moorage: Instance) -> None:
    number = os.stat(SPARE).st_rdev
    script = f"mknod /tmp/node c {os.major(number)} {os.minor(number)}; " + TRY.format("/tmp/node")
    rule = f"c {os.major(number)}:* rmw"
    assert run(moorage, "--device-cgroup-rule", rule, "busybox", "sh", "-c", script).split() == ["reads", "writes"]
    assert "can't open /tmp/node: Operation not permitted" in run(moorage, "busybox", "sh", "-c", script)


def test_a_privileged_container_has_the_hosts_devices(moorage: Instance) -> None:
    script = "ls /dev/full /dev/kmsg /dev/renamed; mknod /tmp/full c 1 7; head -c1 /tmp/full | wc -c"
    said = run(moorage, "--privileged", "--device", "/dev/full:/dev/renamed", "busybox", "sh", "-c", script)
    assert said.split() == ["/dev/full", "/dev/kmsg", "/dev/renamed", "1"]


def test_what_inspect_shows(moorage: Instance) -> None:
    moorage.docker("create", "--name", "shown", "--device", "/dev/full", "--gpus", "2", "busybox", "true")
    shown = json.loads(moorage.docker("inspect", "shown").stdout)[0]["HostConfig"]
    assert shown["Devices"] == [{"PathOnHost": "/dev/full", "PathInContainer": "/dev/full", "CgroupPermissions": "rwm"}]
    assert shown["DeviceRequests"] == [
        {"Driver": "", "Count": 2, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
    ]
    moorage.docker("rm", "shown")
