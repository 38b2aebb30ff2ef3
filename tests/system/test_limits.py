"""Limits in a machine whose control groups are of the second kind and made by systemd; it may have no controllers."""

import json

import pytest

from tests.support.machine import Machine


def test_what_cannot_be_limited_is_a_warning_and_no_failure(machine: Machine) -> None:
    controllers = machine.run("cat", "/sys/fs/cgroup/cgroup.controllers").split()
    if "memory" in controllers or "pids" in controllers:
        pytest.skip("this machine has controllers")
    options = ("--memory", "64m", "--memory-swappiness", "5", "--pids-limit", "7", "--cpu-shares", "300")
    name = machine.docker("run", "-d", *options, "busybox", "sleep", "1000").stdout.strip()
    host = json.loads(machine.docker("inspect", name).stdout)[0]["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["MemorySwappiness"]) == (0, -1, None)
    assert (host["PidsLimit"], host["CpuShares"], host["OomKillDisable"]) == (None, 0, None)
    told = machine.docker("update", "--memory", "64m", "--pids-limit", "9", name)
    assert "Your kernel does not support memory limit capabilities" in told.stdout + told.stderr
    assert "Your kernel does not support PIDs limit capabilities" in told.stdout + told.stderr
    machine.docker("update", "--restart", "on-failure:2", name)
    host = json.loads(machine.docker("inspect", name).stdout)[0]["HostConfig"]
    assert (host["Memory"], host["PidsLimit"], host["RestartPolicy"]["MaximumRetryCount"]) == (0, None, 2)
    machine.docker("rm", "-f", name)


def test_a_parent_group_is_a_slice(machine: Machine) -> None:
    name = machine.docker("run", "-d", "--cgroup-parent", "mine.slice", "busybox", "sleep", "1000").stdout.strip()
    pid = machine.docker("inspect", "-f", "{{.State.Pid}}", name).stdout.strip()
    assert "/mine.slice/moorage-" in machine.run("cat", f"/proc/{pid}/cgroup")
    machine.docker("rm", "-f", name)
    with pytest.raises(AssertionError, match='cgroup-parent for systemd cgroup should be a valid slice named as "xxx'):
        machine.docker("create", "--cgroup-parent", "/mine", "busybox", "true")


def test_what_nobody_limits_is_unlimited(machine: Machine) -> None:
    """The limits of the service's unit are inherited by every container: systemd's own defaults are not."""
    bounds = int(machine.run("grep", "CapBnd", "/proc/1/status").split()[1], 16)
    if not bounds >> 24 & 1:
        pytest.skip("without CAP_SYS_RESOURCE systemd cannot raise a limit")
    said = machine.docker("run", "--rm", "busybox", "grep", "-E", "processes|core", "/proc/self/limits").stdout
    assert [line.split()[-3:-1] for line in said.splitlines()] == [["unlimited"] * 2] * 2, said
