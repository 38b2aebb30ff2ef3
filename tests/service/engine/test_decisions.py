"""What create decides without touching the machine: config merged, host config completed, times read, names checked."""

import os
from pathlib import Path
from typing import Any

import pytest

from service.engine import container_config, container_list, host_config, names, prune, unsupported
from service.engine.create import check_name
from service.engine.engine import Engine
from service.engine.exit import next_backoff_ms, restart_wanted
from service.errors import Conflict, InvalidParameter
from service.kernel import cgroup
from service.settings import Settings

IMAGE = {
    "Env": ["PATH=/bin", "A=image"],
    "Cmd": ["sh"],
    "Entrypoint": ["/init"],
    "Labels": {"a": "image", "b": "image"},
}


@pytest.mark.parametrize(
    ("asked", "entrypoint", "command"),
    [
        ({}, ["/init"], ["sh"]),
        ({"Cmd": ["ls"]}, ["/init"], ["ls"]),
        ({"Entrypoint": ["/mine"]}, ["/mine"], None),
        ({"Entrypoint": ["/mine"], "Cmd": ["x"]}, ["/mine"], ["x"]),
        ({"Entrypoint": [""], "Cmd": ["x"]}, [], ["x"]),
        ({"Entrypoint": [], "Cmd": []}, [], ["sh"]),
        ({"Entrypoint": None, "Cmd": None}, ["/init"], ["sh"]),
    ],
)
def test_entrypoint_and_command_go_together(asked: Any, entrypoint: Any, command: Any) -> None:
    merged = container_config.merge(asked, IMAGE)
    assert (merged["Entrypoint"], merged["Cmd"]) == (entrypoint, command)


def test_environment_and_labels_are_united_and_the_request_wins() -> None:
    merged = container_config.merge({"Env": ["A=mine", "B"], "Labels": {"a": "mine"}}, IMAGE)
    assert merged["Env"] == ["A=mine", "B", "PATH=/bin"]
    assert merged["Labels"] == {"a": "mine", "b": "image"}


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"Env": ["=foo"]}, "invalid environment variable: =foo"),
        ({"WorkingDir": "a"}, "the working directory 'a' is invalid, it needs to be an absolute path"),
        ({"Healthcheck": {"Interval": 5}}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"StopSignal": "NOPE"}, "invalid signal: NOPE"),
    ],
)
def test_config_errors(config: Any, text: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        container_config.check(config)
    assert error.value.message == text


@pytest.mark.usefixtures("limits_enforced")  # a limit that nobody enforces is taken back before it is looked at
@pytest.mark.parametrize(
    ("host", "text"),
    [
        ({"IpcMode": "invalid"}, "invalid IPC mode: invalid"),
        ({"PidMode": "container"}, "invalid PID mode: container"),
        ({"CpuShares": -1}, "invalid CPU shares (-1): value must be a positive integer"),
        ({"Memory": 1024}, "Minimum memory limit allowed is 6MB"),
        ({"MemorySwap": 10**9}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
        ({"NanoCpus": 10**9, "CpuQuota": 5000}, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        ({"LogConfig": {"Type": "asdf"}}, "logger: no log driver named 'asdf' is registered"),
        (
            {"AutoRemove": True, "RestartPolicy": {"Name": "always"}},
            "can't create 'AutoRemove' container with restart policy",
        ),
        ({"Dns": ["nope"]}, 'bad nameserver address nope: ParseAddr("nope"): unable to parse IP'),
        ({"Memory": -1}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 9 << 20, "MemoryReservation": 5 << 20}, "Minimum memory reservation allowed is 6MB"),
        ({"NanoCpus": 10**13}, "range of CPUs is from 0.01 to {0}.00, as there are only {0} CPUs available"),
        ({"CpusetCpus": "0,x"}, "Invalid value 0,x for cpuset cpus: invalid format: 0,x"),
        ({"CpusetMems": "3-1"}, "Invalid value 3-1 for cpuset mems: invalid format: 3-1"),
        ({"CpusetCpus": "0-99999999"}, "Invalid value 0-99999999 for cpuset cpus: value of out range, maximum is 8192"),
        ({"IOMaximumIOps": 1}, "invalid option: QoS maximum IOPs configuration is not supported on linux"),
        ({"Isolation": "hyperv"}, "invalid isolation (hyperv): linux only supports 'default'"),
        ({"UTSMode": "private"}, "invalid UTS mode: private"),
        ({"CgroupnsMode": "x"}, "invalid cgroup namespace mode: x"),
        ({"Runtime": "x"}, "unknown or invalid runtime name: x"),
        ({"ShmSize": -1}, "SHM size can not be less than 0"),
        ({"OomScoreAdj": 1001}, "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
        (
            {"NetworkMode": "container:"},
            "invalid network mode: invalid container format container:<name|id>",
        ),
        ({"NetworkMode": "container:x", "Dns": ["1.1.1.1"]}, "conflicting options: dns and the network mode"),
        ({"Annotations": {"": "x"}}, "invalid Annotations: the empty string is not permitted as an annotation key"),
        ({"CapDrop": ["nope"]}, 'invalid CapDrop: unknown capability: "CAP_NOPE"'),
        ({"SecurityOpt": ["x=y"]}, 'invalid --security-opt 2: "x=y"'),
        (
            {"StorageOpt": {"size": "1G"}},
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
        ),
    ],
)
def test_host_config_errors(host: Any, text: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        host_config.complete(host, [])
    assert error.value.message == text.replace("{0}", str(os.cpu_count()))


def test_a_slice_is_wanted_where_systemd_makes_the_control_groups() -> None:
    with pytest.raises(InvalidParameter, match="cgroup-parent for systemd cgroup should be a valid slice"):
        host_config.complete({"CgroupParent": "/mine"}, [], systemd_cgroups=True)
    host = host_config.complete({"CgroupParent": "mine.slice"}, [], systemd_cgroups=True)
    assert host["CgroupParent"] == "mine.slice"


def test_a_bindings_address_has_no_brackets() -> None:
    """Docker's newer clients read an address there, and nothing else."""
    asked = {"80/tcp": [{"HostIp": "[::1]", "HostPort": "8080"}], "81/tcp": None}
    assert host_config.complete({"PortBindings": asked}, [])["PortBindings"] == {
        "80/tcp": [{"HostIp": "::1", "HostPort": "8080"}],
        "81/tcp": None,
    }


def test_what_no_kernel_does_any_more_is_named() -> None:
    warnings: list[str] = []
    host = host_config.complete({"KernelMemory": 9 << 20, "KernelMemoryTCP": 9 << 20, "CpuPercent": 5}, warnings)
    assert not {"KernelMemory", "KernelMemoryTCP"} & host.keys()
    assert host["CpuPercent"] == 0
    assert sorted(w.split(" capabilities")[0] for w in warnings) == [
        "Your kernel does not support kernel memory TCP limit",
        "Your kernel does not support kernel memory limit",
        "linux does not support CPU percent. Percent discarded.",
    ]


def test_what_a_client_leaves_out_of_an_item_is_shown_as_go_shows_it() -> None:
    host = host_config.complete({"Devices": [{"PathOnHost": "/dev/null"}], "DeviceRequests": [{"Driver": "cdi"}]}, [])
    assert host["Devices"] == [{"PathOnHost": "/dev/null", "PathInContainer": "", "CgroupPermissions": ""}]
    assert host["DeviceRequests"] == [
        {"Driver": "cdi", "Count": 0, "DeviceIDs": None, "Capabilities": None, "Options": None}
    ]


def test_host_config_is_completed() -> None:
    host = host_config.complete({"Memory": 64 << 20, "NetworkMode": "default"}, [])
    assert host["NetworkMode"] == "bridge"
    if cgroup.detect().has("memory"):  # without it the limit is taken back, with a warning
        assert host["MemorySwap"] == 128 << 20
    assert host["LogConfig"] == {"Type": "json-file", "Config": {}}
    assert host["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    assert "/proc/kcore" in host["MaskedPaths"]
    assert host_config.complete({"MaskedPaths": []}, [])["MaskedPaths"] == []


@pytest.mark.parametrize("name", ["web", "/web", "a1", "A_.-z"])
def test_names_that_are(name: str) -> None:
    assert check_name(name) == name.removeprefix("/")


@pytest.mark.parametrize("name", ["a", "/", "-web", "we b", "wéb", "a/b", "."])
def test_names_that_are_not(name: str) -> None:
    with pytest.raises(InvalidParameter, match="Invalid container name"):
        check_name(name)


def test_drawn_names_are_names_and_differ() -> None:
    drawn = {names.draw() for _ in range(200)}
    assert len(drawn) > 150
    assert all(check_name(name) == name for name in drawn)


def test_one_prune_of_a_kind_at_a_time(tmp_path: Path) -> None:
    engine = Engine(Settings({"MOORAGE_ROOT": str(tmp_path), "MOORAGE_RUN": str(tmp_path)}))

    def again(kind: str) -> int:
        return prune.alone(engine, kind, lambda: 7)

    assert prune.alone(engine, "container", again, "volume") == 7
    with pytest.raises(Conflict) as error:
        prune.alone(engine, "container", again, "container")
    assert error.value.message == "a prune operation is already running"
    assert again("container") == 7


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (150, "2 minutes"),
        (3600, "About an hour"), (2 * 3600, "2 hours"), (3 * 86400, "3 days"), (20 * 86400, "2 weeks"),
        (100 * 86400, "3 months"), (800 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_durations_in_words(seconds: float, text: str) -> None:
    assert container_list.human_duration(seconds) == text


def _container(policy: str, maximum: int = 0, **state: Any) -> Any:
    return {
        "record": {"HostConfig": {"RestartPolicy": {"Name": policy, "MaximumRetryCount": maximum}}},
        "state": {
            "stopped_by_user": False,
            "restart_canceled": False,
            "restart_count": 0,
            "backoff_ms": 0,
            "started_at": "2026-01-01T00:00:00Z",
            "finished_at": "2026-01-01T00:00:01Z",
            **state,
        },
    }


@pytest.mark.parametrize(
    ("container", "code", "wanted"),
    [
        (_container("no"), 1, False),
        (_container("always"), 0, True),
        (_container("always", restart_canceled=True), 0, False),
        (_container("unless-stopped"), 0, True),
        (_container("on-failure"), 0, False),
        (_container("on-failure"), 1, True),
        (_container("on-failure", 2, restart_count=1), 1, True),
        (_container("on-failure", 2, restart_count=2), 1, False),
    ],
)
def test_restart_policies(container: Any, code: int, wanted: bool) -> None:
    assert restart_wanted(container, code) is wanted


def test_backoff_doubles_up_to_a_minute_and_forgets() -> None:
    waits = [0]
    for _ in range(12):
        waits.append(next_backoff_ms(_container("always", backoff_ms=waits[-1]), 9.9))
    assert waits[1:5] == [100, 200, 400, 800]
    assert waits[-3:] == [51_200, 60_000, 60_000]
    assert next_backoff_ms(_container("always", backoff_ms=60_000), 10.0) == 100


def test_what_has_no_effect_is_said() -> None:
    host = host_config.complete({"Cgroup": "container:a"}, [])
    assert "Control groups" in " ".join(unsupported.warnings(host))
    assert unsupported.warnings(host_config.complete({}, [])) == []
