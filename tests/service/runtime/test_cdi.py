"""Devices of vendors' files (CDI): which file wins, what a request means, what is done to the OCI config."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from service.errors import InvalidParameter
from service.runtime import cdi


def write(path: Path, kind: str, devices: dict[str, Any], edits: Any = None) -> None:
    path.parent.mkdir(exist_ok=True)
    listed = [{"name": name, "containerEdits": made} for name, made in devices.items()]
    path.write_text(
        json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": listed, "containerEdits": edits or {}}),
        encoding="utf-8",
    )


def env(*variables: str) -> dict[str, list[str]]:
    return {"env": list(variables)}


def request(**asked: Any) -> dict[str, Any]:
    return {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": None, "Options": None, **asked}


def test_the_later_directory_wins_and_two_of_one_cancel_out(tmp_path: Path) -> None:
    write(tmp_path / "a/one.json", "v.com/net", {"x": env("FROM=a"), "y": env("FROM=a")})
    write(tmp_path / "b/one.json", "v.com/net", {"x": env("FROM=b")})
    write(tmp_path / "b/two.json", "v.com/net", {"z": env("FROM=1")})
    write(tmp_path / "b/three.json", "v.com/net", {"z": env("FROM=2")})
    registry = cdi.Registry([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "missing")])
    assert sorted(registry.devices) == ["v.com/net=x", "v.com/net=y"]
    assert registry.edits(["v.com/net=x"])["env"] == ["FROM=b"]
    assert set(registry.errors) == {str(tmp_path / "b/two.json"), str(tmp_path / "b/three.json")}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "failed to load CDI Spec"),
        ('{"cdiVersion":"0.6.0","kind":"nope","devices":[{"name":"x"}]}', "invalid kind 'nope'"),
        ('{"cdiVersion":"0.6.0","kind":"v.com/c","devices":[]}', "invalid spec, no devices"),
        ('{"kind":"v.com/c","devices":[{"name":"x"}]}', "no cdiVersion"),
        (
            '{"cdiVersion":"0.6.0","kind":"v.com/c","devices":[{"name":"x","containerEdits":{"env":["nope"]}}]}',
            "invalid environment variable 'nope'",
        ),
        (
            '{"cdiVersion":"0.6.0","kind":"v.com/c","devices":[{"name":"x","containerEdits":{"hooks":[{}]}}]}',
            "invalid hook",
        ),
    ],
)
def test_a_broken_file_is_named_and_hides_no_other(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "broken.json").write_text(text, encoding="utf-8")
    write(tmp_path / "good.json", "v.com/net", {"x": env("A=1")})
    registry = cdi.Registry([str(tmp_path)])
    assert list(registry.devices) == ["v.com/net=x"]
    (words,) = registry.errors[str(tmp_path / "broken.json")]
    assert complaint in words


def test_edits_of_the_file_come_once_and_first(tmp_path: Path) -> None:
    write(tmp_path / "v.json", "v.com/net", {"x": env("X=1"), "y": env("Y=1")}, env("ALL=1"))
    registry = cdi.Registry([str(tmp_path)])
    assert registry.edits(["v.com/net=x", "v.com/net=y"])["env"] == ["ALL=1", "X=1", "Y=1"]
    with pytest.raises(InvalidParameter) as error:
        registry.edits(["v.com/net=x", "v.com/net=no", "w.com/a=b"])
    assert error.value.message == "CDI device injection failed: unresolvable CDI devices v.com/net=no, w.com/a=b"


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"Count": -1, "Capabilities": [["gpu"]]}, ["nvidia.com/gpu=all"]),
        ({"Count": 2, "Capabilities": [["gpu", "utility"]]}, ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]),
        ({"Driver": "nvidia", "DeviceIDs": ["1", "GPU-fef8"]}, ["nvidia.com/gpu=1", "nvidia.com/gpu=GPU-fef8"]),
        ({"DeviceIDs": ["nvidia.com/gpu=0"], "Capabilities": [["tpu"], ["nvidia", "compute"]]}, ["nvidia.com/gpu=0"]),
        ({"Driver": "amd", "Count": -1}, ["amd.com/gpu=0", "amd.com/gpu=9", "amd.com/gpu=10"]),
        ({"Driver": "cdi", "DeviceIDs": ["v.com/net=x"]}, ["v.com/net=x"]),
        ({"Capabilities": [["gpu"]]}, []),
    ],
)
def test_what_a_request_means(tmp_path: Path, asked: Any, names: list[str]) -> None:
    write(tmp_path / "n.json", "nvidia.com/gpu", {"0": env("A=1"), "1": env("A=1"), "all": env("A=1")})
    write(tmp_path / "a.json", "amd.com/gpu", {"10": env("A=1"), "9": env("A=1"), "0": env("A=1")})
    assert cdi.wanted(request(**asked), cdi.Registry([str(tmp_path)])) == names


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"Count": -1, "Capabilities": [["gpu"]]}, 'could not select device driver "" with capabilities: [[gpu]]'),
        (
            {"Driver": "nvidia", "Count": 1, "Capabilities": [["gpu", "nvidia"], ["x"]]},
            'could not select device driver "nvidia" with capabilities: [[gpu nvidia] [x]]',
        ),
        ({"Driver": "foo"}, 'could not select device driver "foo" with capabilities: []'),
        ({"Driver": "cdi", "Count": 1}, "unexpected count in CDI device request"),
        ({"Driver": "cdi", "Options": {"a": "b"}}, "unexpected options in CDI device request"),
    ],
)
def test_what_nothing_serves(tmp_path: Path, asked: Any, text: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        cdi.wanted(request(**asked), cdi.Registry([str(tmp_path)]))
    assert error.value.message == text


def test_gpus_that_no_file_describes_are_left_to_nvidias_hook(tmp_path: Path) -> None:
    registry = cdi.Registry([str(tmp_path)])
    asked = request(Count=2, Capabilities=[["tpu"], ["gpu", "compute", "utility"]])
    edits = cdi.requested([asked], registry, "/opt/nvidia-container-runtime-hook")
    assert edits["env"] == ["NVIDIA_VISIBLE_DEVICES=0,1", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"]
    (hook,) = edits["hooks"]
    assert (hook["hookName"], hook["path"], hook["args"][1:]) == (
        "prestart",
        "/opt/nvidia-container-runtime-hook",
        ["prestart"],
    )
    every = cdi.requested([request(Driver="nvidia", Count=-1, Capabilities=[["gpu"]])], registry, "/opt/hook")
    assert every["env"] == ["NVIDIA_VISIBLE_DEVICES=all"]
    for unserved in (request(Driver="amd", Count=1, Capabilities=[["gpu"]]), request(Count=1, Capabilities=[["tpu"]])):
        with pytest.raises(InvalidParameter, match="could not select device driver"):
            cdi.requested([unserved], registry, "/opt/hook")
    with pytest.raises(InvalidParameter, match="cannot set both Count and DeviceIDs on device request"):
        cdi.requested([request(Count=1, DeviceIDs=["0"], Capabilities=[["gpu"]])], registry, "/opt/hook")


def test_a_described_gpu_needs_no_hook(tmp_path: Path) -> None:
    write(tmp_path / "n.json", "nvidia.com/gpu", {"0": env("A=1")})
    edits = cdi.requested([request(Count=1, Capabilities=[["gpu"]])], cdi.Registry([str(tmp_path)]), "/opt/hook")
    assert (edits["env"], edits["hooks"]) == (["A=1"], [])


def test_the_config_is_edited() -> None:
    spec: dict[str, Any] = {
        "process": {"env": ["PATH=/bin", "A=old"], "user": {"uid": 7, "gid": 0, "additionalGids": [0]}},
        "mounts": [{"destination": "/proc"}, {"destination": "/lib/x"}, {"destination": "/mine/deep"}],
        "linux": {"devices": [{"path": "/dev/v0"}], "resources": {"devices": [{"allow": False}]}},
    }
    edits = {
        "env": ["A=new"],
        "deviceNodes": [{"path": "/dev/v0", "hostPath": "/dev/null", "permissions": "r"}],
        "mounts": [
            {"hostPath": "/h/x", "containerPath": "/lib/x", "options": ["ro"]},
            {"hostPath": "/h/y", "containerPath": "/mine/deep"},
        ],
        "hooks": [{"hookName": "createContainer", "path": "/bin/true", "args": ["true"]}],
        "additionalGids": [44, 0],
    }
    cdi.apply(spec, edits, frozenset({"/mine/deep"}))
    assert spec["process"]["env"] == ["PATH=/bin", "A=new"]
    assert spec["process"]["user"]["additionalGids"] == [0, 44]
    null = os.stat("/dev/null").st_rdev
    numbers = {"major": os.major(null), "minor": os.minor(null)}
    assert spec["linux"]["devices"] == [{"path": "/dev/v0", "type": "c", **numbers, "uid": 7}]
    assert spec["linux"]["resources"]["devices"][-1] == {"allow": True, "type": "c", **numbers, "access": "r"}
    assert [mount["destination"] for mount in spec["mounts"]] == ["/proc", "/lib/x", "/mine/deep"]
    assert spec["mounts"][1] == {"destination": "/lib/x", "type": "bind", "source": "/h/x", "options": ["ro"]}
    assert spec["hooks"] == {"createContainer": [{"path": "/bin/true", "args": ["true"]}]}


def test_a_device_that_the_host_lacks() -> None:
    spec: dict[str, Any] = {
        "process": {"env": [], "user": {"uid": 0, "gid": 0, "additionalGids": [0]}},
        "mounts": [],
        "linux": {"devices": [], "resources": {"devices": []}},
    }
    edits = {"env": [], "deviceNodes": [{"path": "/dev/nope"}], "mounts": [], "hooks": [], "additionalGids": []}
    with pytest.raises(InvalidParameter, match='failed to stat CDI host device "/dev/nope": no such file or directory'):
        cdi.apply(spec, edits, frozenset())
