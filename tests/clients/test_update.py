"""`docker update`: limits of a running container change in its control groups, and stay for its next starts."""

import json
import os
import stat
import threading
from typing import Any

import docker
import pytest
from docker.errors import APIError

from service.kernel import cgroup
from service.runtime import limits
from tests.support.instance import Instance

GROUPS = cgroup.detect()
CAN = limits.supported(GROUPS)
# limit → its file as seen from inside a container: cgroup v1, v2
FILES = {
    "memory": ("memory/memory.limit_in_bytes", "memory.max"),
    "shares": ("cpu/cpu.shares", "cpu.weight"),
    "quota": ("cpu/cpu.cfs_quota_us", "cpu.max"),
    "cpus": ("cpuset/cpuset.cpus", "cpuset.cpus"),
    "pids": ("pids/pids.max", "pids.max"),
    "read bps": ("blkio/blkio.throttle.read_bps_device", "io.max"),
    "write iops": ("blkio/blkio.throttle.write_iops_device", "io.max"),
}


def needs(*wanted: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not CAN.issuperset(wanted), reason=f"no control group here limits {', '.join(wanted)}")


def seen(moorage: Instance, name: str, limit: str) -> str:
    """What a process of the container reads in its own control group."""
    file = FILES[limit][GROUPS.version - 1]
    return moorage.docker("exec", name, "cat", f"/sys/fs/cgroup/{file}").stdout.strip()


def host_config(moorage: Instance, name: str) -> Any:
    return json.loads(moorage.docker("inspect", name).stdout)[0]["HostConfig"]


def container_id(moorage: Instance, name: str) -> str:
    found: str = json.loads(moorage.docker("inspect", name).stdout)[0]["Id"]
    return found


def post(client: "docker.DockerClient", name: str, body: Any) -> Any:
    url = client.api._url("/containers/{0}/update", name)
    return client.api._result(client.api._post_json(url, data=body), True)


def disk() -> str:
    """The path of some block device's node."""
    for name in sorted(os.listdir("/sys/block"), reverse=True):
        if os.path.exists(f"/dev/{name}") and stat.S_ISBLK(os.stat(f"/dev/{name}").st_mode):
            return f"/dev/{name}"
    pytest.skip("no block device here")


@needs("memory", "shares", "cfs", "cpuset", "pids")
def test_limits_change_at_once_and_stay(moorage: Instance) -> None:
    moorage.docker("run", "-d", "--name", "limited", "busybox", "sleep", "1000")
    told = moorage.docker(
        *("update", "--memory", "64m", "--memory-swap", "128m", "--cpus", "0.5", "--cpu-shares", "512"),
        *("--cpuset-cpus", "0", "--pids-limit", "77", "limited"),
    )
    assert told.stdout == "limited\n"
    wanted = [
        ("memory", str(64 << 20)),
        ("shares", "512" if GROUPS.version == 1 else "20"),
        ("quota", "50000" if GROUPS.version == 1 else "50000 100000"),
        ("cpus", "0"),
        ("pids", "77"),
    ]
    assert [(limit, seen(moorage, "limited", limit)) for limit, _ in wanted] == wanted
    shown = host_config(moorage, "limited")
    assert (shown["Memory"], shown["MemorySwap"], shown["NanoCpus"]) == (64 << 20, 128 << 20, 500_000_000)
    assert (shown["CpuShares"], shown["CpusetCpus"], shown["PidsLimit"]) == (512, "0", 77)
    moorage.docker("restart", "-t", "0", "limited")
    assert [(limit, seen(moorage, "limited", limit)) for limit, _ in wanted] == wanted
    moorage.docker("rm", "-f", "limited")


@needs("memory", "pids")
def test_of_a_stopped_container_the_next_start_reads_them(moorage: Instance, client: "docker.DockerClient") -> None:
    container = client.containers.create("busybox", "sleep 1000", name="resting")
    since = client.info()["SystemTime"]
    container.update(mem_limit="48m", memswap_limit="96m")
    assert post(client, "resting", {"PidsLimit": 33}) == {"Warnings": None}
    container.start()
    assert seen(moorage, "resting", "memory") == str(48 << 20)
    assert seen(moorage, "resting", "pids") == "33"
    assert post(client, "resting", {"PidsLimit": -1}) == {"Warnings": None}
    assert (seen(moorage, "resting", "pids"), host_config(moorage, "resting")["PidsLimit"]) == ("max", 0)
    happened = client.api.events(since=since, until=client.info()["SystemTime"], decode=True)
    assert [event["Action"] for event in happened if event["Actor"]["ID"] == container.id].count("update") == 3
    container.remove(force=True)


@needs("read bps", "write iops")
def test_limits_of_one_device(moorage: Instance, client: "docker.DockerClient") -> None:
    path = disk()
    number = os.stat(path).st_rdev
    device = f"{os.major(number)}:{os.minor(number)}"
    container = client.containers.run("busybox", "sleep 1000", name="disk", detach=True)
    post(client, "disk", {"BlkioDeviceReadBps": [{"Path": path, "Rate": 1 << 20}]})
    post(client, "disk", {"BlkioDeviceWriteIOps": [{"Path": path, "Rate": 200}]})
    assert f"{device} " in seen(moorage, "disk", "read bps")
    assert str(1 << 20) in seen(moorage, "disk", "read bps")
    assert "200" in seen(moorage, "disk", "write iops")
    container.restart(timeout=0)
    assert str(1 << 20) in seen(moorage, "disk", "read bps")
    post(client, "disk", {"BlkioDeviceReadBps": []})
    assert str(1 << 20) not in seen(moorage, "disk", "read bps")
    assert "200" in seen(moorage, "disk", "write iops")
    with pytest.raises(APIError, match="stat /dev/nope: no such file or directory") as refused:
        post(client, "disk", {"BlkioDeviceReadBps": [{"Path": "/dev/nope", "Rate": 5}], "CpuShares": 300})
    assert refused.value.status_code == 400
    assert container.attrs["HostConfig"]["CpuShares"] == 0
    container.remove(force=True)


@needs("memory")
@pytest.mark.skipif(GROUPS.version == 2, reason="cgroup v2 ends processes rather than refuse a limit")
def test_nothing_changes_when_the_kernel_refuses(moorage: Instance) -> None:
    fill = "dd if=/dev/zero of=/dev/shm/full bs=1M count=24 2>/dev/null; echo full; sleep 1000"
    moorage.docker("run", "-d", "--name", "full", "--memory", "64m", "busybox", "sh", "-c", fill)
    moorage.until(lambda: moorage.docker("logs", "full").stdout, 60, "the container did not fill its memory")
    before = host_config(moorage, "full")
    refused = moorage.docker(
        "update", "--memory", "8m", "--memory-swap", "8m", "--restart", "always", "full", check=False
    )
    assert refused.returncode == 1
    assert "Cannot update container" in refused.stderr
    assert host_config(moorage, "full") == before
    assert seen(moorage, "full", "memory") == str(64 << 20)
    moorage.docker("rm", "-f", "full")


@needs("shares", "real time")
def test_what_was_set_before_the_refusal_is_taken_back(moorage: Instance, client: "docker.DockerClient") -> None:
    """runc writes the shares before the real-time slice that the kernel refuses (the group above has none to give)."""
    container = client.containers.run("busybox", "sleep 1000", name="slice", detach=True)
    before = seen(moorage, "slice", "shares")
    with pytest.raises(APIError, match=r"Cannot update container .*cpu\.rt_runtime_us"):
        post(client, "slice", {"CpuShares": 300, "CpuRealtimeRuntime": 1000})
    assert seen(moorage, "slice", "shares") == before
    assert host_config(moorage, "slice")["CpuShares"] == 0
    container.remove(force=True)


@pytest.mark.parametrize(
    ("created", "asked", "status", "text"),
    [
        ({}, {"Memory": 1}, 400, "Minimum memory limit allowed is 6MB"),
        (
            {"Memory": 20 << 20},
            {"Memory": 900 << 20},
            409,
            "Cannot update container {id}: Memory limit should be smaller than already set memoryswap limit, update "
            "the memoryswap at the same time",
        ),
        (
            {"Memory": 20 << 20},
            {"MemorySwap": 10 << 20},
            400,
            "Cannot update container {id}: Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            {"NanoCpus": 10**8},
            {"CpuQuota": 20000},
            409,
            "Cannot update container {id}: Conflicting options: CPU Quota cannot be updated as NanoCPUs has already "
            "been set",
        ),
        (
            {"CpuPeriod": 20000},
            {"NanoCpus": 10**8},
            409,
            "Cannot update container {id}: Conflicting options: Nano CPUs cannot be updated as CPU Period has already "
            "been set",
        ),
        ({}, {"CpusetCpus": "8000"}, 400, "Requested CPUs are not available - requested 8000, available: "),
        (
            {"AutoRemove": True},
            {"RestartPolicy": {"Name": "always"}},
            409,
            "Cannot update container {id}: Restart policy cannot be updated because AutoRemove is enabled for the "
            "container",
        ),
        ({}, {"RestartPolicy": {"Name": "nope"}}, 400, "invalid restart policy: unknown policy 'nope'"),
        (
            {},
            {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}},
            400,
            "invalid restart policy: maximum retry count cannot be negative",
        ),
    ],
)
@needs("memory", "swap", "cfs", "cpuset")
def test_refused(client: "docker.DockerClient", created: Any, asked: Any, status: int, text: str) -> None:
    url = client.api._url("/containers/create")
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": created}
    container = client.containers.get(client.api._result(client.api._post_json(url, data=body), True)["Id"])
    with pytest.raises(APIError) as refused:
        post(client, container.id, {"CpuShares": 77, **asked})
    assert refused.value.status_code == status
    assert refused.value.explanation.startswith(text.replace("{id}", container.id))
    before = container.attrs
    container.reload()
    assert container.attrs == before
    container.remove()


def test_a_new_restart_policy_acts_at_the_next_exit(moorage: Instance, client: "docker.DockerClient") -> None:
    script = "until [ -e /fail ]; do sleep 0.05; done; rm /fail; exit 3"
    container = client.containers.run("busybox", ["sh", "-c", script], name="stays", detach=True)
    container.update(restart_policy={"Name": "on-failure", "MaximumRetryCount": 5})
    container.exec_run("touch /fail")
    moorage.until(
        lambda: json.loads(moorage.docker("inspect", "stays").stdout)[0]["RestartCount"] == 1, 20, "it did not restart"
    )
    assert host_config(moorage, "stays")["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 5}
    container.remove(force=True)


@needs("pids")
def test_a_stop_that_takes_its_time_does_not_hold_it_up(moorage: Instance) -> None:
    moorage.docker("run", "-d", "--name", "slow", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    stopping = moorage.docker_popen("stop", "-t", "100", "slow")
    try:
        moorage.docker("update", "--pids-limit", "44", "slow")
        assert (seen(moorage, "slow", "pids"), stopping.poll()) == ("44", None)
    finally:
        moorage.docker("kill", "slow")
        stopping.communicate()
        moorage.docker("rm", "-f", "slow")


def test_what_cannot_be_updated_is_named(client: "docker.DockerClient") -> None:
    container = client.containers.create("busybox", "true")
    told = post(client, container.id, {"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x"}]})
    assert told == {"Warnings": ["Devices cannot be updated: it stays as it is."]}
    container.remove()
    with pytest.raises(APIError, match="No such container: nosuch") as missing:
        post(client, "nosuch", {})
    assert missing.value.status_code == 404


@needs("memory", "pids")
def test_killed_in_the_middle(moorage: Instance) -> None:
    """At some moments of the verb: then the control groups say what inspect says, and that is the old or the new."""
    moorage.docker("run", "-d", "--name", "torn", "--memory", "40m", "busybox", "sleep", "1000")
    for moment in range(6):
        old, new = host_config(moorage, "torn")["Memory"], (41 + moment) << 20
        killer = threading.Timer(0.015 + moment * 0.01, moorage.kill_service)
        killer.start()
        done = moorage.docker("update", "--memory", str(new), "--pids-limit", str(moment + 35), "torn", check=False)
        killer.join()
        shown = host_config(moorage, "torn")
        assert shown["Memory"] in ((new,) if done.returncode == 0 else (old, new))
        assert seen(moorage, "torn", "memory") == str(shown["Memory"])
        assert seen(moorage, "torn", "pids") == str(shown["PidsLimit"] or "max")
    assert not os.path.exists(f"{moorage.run}/containers/{container_id(moorage, 'torn')}/updating")
    moorage.docker("rm", "-f", "torn")


@needs("memory", "pids")
def test_the_next_process_ends_what_a_killed_one_began(moorage: Instance, client: "docker.DockerClient") -> None:
    """The mark of a killed update makes the next process bring the control groups back to what inspect says."""
    container = client.containers.run("busybox", "sleep 1000", name="torn", mem_limit="40m", detach=True)
    for controller, file, value in (
        ("memory", ("memory.limit_in_bytes", "memory.max")[GROUPS.version - 1], str(16 << 20)),
        ("pids", "pids.max", "5"),
    ):
        group = GROUPS.directory(controller, f"/{moorage.cgroup_parent}/{container.id}")
        cgroup.write(f"{group}/{file}", value)
    with open(f"{moorage.run}/containers/{container.id}/updating", "x", encoding="ascii"):
        pass
    moorage.kill_service()
    moorage.docker("ps")
    assert seen(moorage, "torn", "memory") == str(40 << 20)
    assert seen(moorage, "torn", "pids") == "max"
    assert not os.path.exists(f"{moorage.run}/containers/{container.id}/updating")
    container.remove(force=True)
