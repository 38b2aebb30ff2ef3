"""A pure cgroup v2 tree with controllers, as current distributions have it: what limits, a lack of memory, pauses,
device rules and figures come to there. tests/system/test_user_mode_linux.py brings a kernel where the host has none."""

import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from service.kernel import cgroup
from tests.support.instance import Instance
from tests.support.streams import call, inspect

GROUPS = cgroup.detect()
ROOT = Path("/sys/fs/cgroup")
pytestmark = pytest.mark.skipif(
    GROUPS.version != 2 or not all(map(GROUPS.has, ("cpu", "io", "memory", "pids"))),
    reason="no pure cgroup v2 tree with controllers here (tests/system/test_user_mode_linux.py brings one)",
)
MIB = 1 << 20
# a process that takes memory until it is ended: a shell that doubles a word
TAKES_MEMORY = "x=0123456789abcdef; while :; do x=$x$x; done"


def group(moorage: Instance, name: str) -> Path:
    """The control group of a running container, as the host sees it."""
    return ROOT / cgroup.paths_of(inspect(moorage, name)["State"]["Pid"])[""].lstrip("/")


def files(folder: Path, *names: str) -> list[str]:
    return [(folder / name).read_text().strip() for name in names]


def agree(place: Path, shown: Any) -> bool:
    """Whether a group's files say what the container's HostConfig says."""
    cpus = shown["NanoCpus"] // 10_000 or "max"
    wanted = [str(shown["Memory"]), str(shown["PidsLimit"] or "max"), f"{cpus} 100000"]
    return files(place, "memory.max", "pids.max", "cpu.max") == wanted


@pytest.fixture(scope="module")
def limited(moorage: Instance) -> Iterator[str]:
    """A container with limits of all kinds."""
    moorage.docker(
        *("run", "-d", "--name", "limited", "--network", "none", "--cpus", "0.5", "--cpu-shares", "512"),
        *("--memory", "64m", "--memory-swap", "64m", "--memory-reservation", "32m", "--pids-limit", "50"),
        *("busybox", "sleep", "1000"),
    )
    yield "limited"
    moorage.docker("rm", "-f", "limited")


def test_limits_are_what_the_files_say(moorage: Instance, limited: str) -> None:
    names = ("memory.max", "memory.low", "cpu.max", "cpu.weight", "pids.max")
    wanted = [str(64 * MIB), str(32 * MIB), "50000 100000", "20", "50"]
    assert files(group(moorage, limited), *names) == wanted
    inside = moorage.docker("exec", limited, "sh", "-c", f"cd /sys/fs/cgroup && cat {' '.join(names)}").stdout
    assert inside.splitlines() == wanted
    assert moorage.docker("exec", limited, "cat", "/proc/self/cgroup").stdout == "0::/\n"
    refused = moorage.docker("exec", limited, "sh", "-c", "echo max >/sys/fs/cgroup/memory.max", check=False)
    assert "Read-only file system" in refused.stderr


def test_no_more_processes_than_allowed(moorage: Instance, limited: str) -> None:
    forks = "i=0; while [ $i -lt 60 ]; do sleep 100 & i=$((i+1)); done"
    ran = moorage.docker("exec", limited, "sh", "-c", forks, check=False)
    assert "can't fork" in ran.stderr
    assert int(files(group(moorage, limited), "pids.events")[0].split()[1]) > 0
    moorage.docker("restart", "-t", "0", limited)


def test_an_exec_shares_the_limits(moorage: Instance, limited: str) -> None:
    """It is in the container's control group, and what it takes counts there: it is ended, the container lives."""
    before = inspect(moorage, limited)["State"]["Pid"]
    ran = moorage.docker("exec", limited, "sh", "-c", TAKES_MEMORY, check=False)
    assert ran.returncode == 137
    kills = dict(line.split() for line in (group(moorage, limited) / "memory.events").read_text().splitlines())
    assert int(kills["oom_kill"]) >= 1
    state = inspect(moorage, limited)["State"]
    assert (state["Running"], state["Pid"]) == (True, before)


def test_who_takes_too_much_memory_is_ended_and_it_is_told(moorage: Instance) -> None:
    since = moorage.client().info()["SystemTime"]
    ran = moorage.docker(
        *("run", "--name", "greedy", "--network", "none", "--memory", "16m", "--memory-swap", "16m"),
        *("busybox", "sh", "-c", TAKES_MEMORY),
        check=False,
    )
    assert ran.returncode == 137
    state = inspect(moorage, "greedy")["State"]
    assert (state["OOMKilled"], state["ExitCode"], state["Status"]) == (True, 137, "exited")
    client = moorage.client()
    told = client.events(since=since, until=client.info()["SystemTime"], decode=True, filters={"container": "greedy"})
    actions = [event["Action"] for event in told]
    assert actions.index("oom") < actions.index("die")
    moorage.docker("rm", "greedy")


def test_a_pause_freezes_the_group(moorage: Instance) -> None:
    moorage.docker(
        *("run", "-d", "--name", "busy", "--network", "none"),
        *("busybox", "sh", "-c", "while :; do :; done"),
    )
    place = group(moorage, "busy")

    def used() -> int:
        return int(files(place, "cpu.stat")[0].split()[1])

    start = used()
    moorage.until(lambda: used() > start, 60, "a loop takes no processor time")
    moorage.docker("pause", "busy")
    assert "frozen 1" in files(place, "cgroup.events")[0]
    assert inspect(moorage, "busy")["State"]["Status"] == "paused"
    frozen = used()
    moorage.kill_service()
    assert moorage.docker("ps", "--format", "{{.Status}}", "--filter", "name=busy").stdout.endswith("(Paused)\n")
    assert used() == frozen
    refused = moorage.docker("exec", "busy", "true", check=False)
    assert "is paused, unpause the container before exec" in refused.stderr
    moorage.docker("unpause", "busy")
    moorage.until(lambda: used() > frozen, 60, "it does not go on")
    moorage.docker("pause", "busy")
    moorage.docker("rm", "-f", "busy")  # a frozen one can be ended, too
    assert not place.exists()


def test_devices_are_held_back_by_a_program_of_the_group(moorage: Instance) -> None:
    """Without the v1 controller it is BPF: what is not allowed cannot be opened, whatever node one makes."""
    moorage.docker(
        *("run", "-d", "--name", "devices", "--network", "none", "--device", "/dev/zero:/dev/own:r"),
        *("busybox", "sleep", "1000"),
    )
    assert moorage.docker("exec", "devices", "dd", "if=/dev/own", "bs=4", "count=1").stdout == "\0" * 4
    # /dev/zero is every container's, under its own name and also under this one: what is not is /dev/kmsg
    tried = moorage.docker("exec", "devices", "sh", "-c", "mknod /kmsg c 1 11 && cat /kmsg", check=False)
    assert "Operation not permitted" in tried.stderr
    assert tried.returncode == 1
    privileged = moorage.docker(
        *("run", "--rm", "--network", "none", "--privileged", "busybox"),
        *("sh", "-c", "mknod /tmp-kmsg c 1 11 && dd if=/tmp-kmsg of=/dev/null bs=8192 count=1 2>&1"),
    )
    assert "+1 records out" in privileged.stdout or "1+0 records out" in privileged.stdout
    allowed = moorage.docker(
        *("run", "--rm", "--network", "none", "--device-cgroup-rule", "c 1:11 r", "busybox"),
        *("sh", "-c", "mknod /kmsg c 1 11 && (: </kmsg) && ! (: >/kmsg)"),
        check=False,
    )
    assert allowed.returncode == 0, allowed.stderr
    moorage.docker("rm", "-f", "devices")


def test_figures_are_those_of_the_files(moorage: Instance, limited: str) -> None:
    moorage.docker("restart", "-t", "0", limited)
    moorage.docker("exec", limited, "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=8 2>/dev/null")
    place = group(moorage, limited)
    shown = moorage.client().containers.get(limited).stats(stream=False)
    memory = shown["memory_stats"]
    assert memory["limit"] == 64 * MIB
    assert 8 * MIB <= memory["usage"] <= 64 * MIB
    assert memory["stats"]["shmem"] >= 8 * MIB
    assert "max_usage" not in memory, "cgroup v2 has no such figure, and dockerd leaves it out"
    assert shown["pids_stats"] == {"current": 1, "limit": 50}
    spent = dict(line.split() for line in (place / "cpu.stat").read_text().splitlines())
    usage = shown["cpu_stats"]["cpu_usage"]
    assert 0 < usage["total_usage"] <= int(spent["usage_usec"]) * 1000
    assert "percpu_usage" not in usage
    assert shown["cpu_stats"]["throttling_data"].keys() == {"periods", "throttled_periods", "throttled_time"}
    assert shown["cpu_stats"]["throttling_data"]["periods"] <= int(spent["nr_periods"])


def test_top_shows_what_runs_in_the_group(moorage: Instance, limited: str) -> None:
    moorage.docker("exec", "-d", limited, "sleep", "777")
    pid = inspect(moorage, limited)["State"]["Pid"]

    def shown() -> list[list[str]]:
        return [line.split(None, 1) for line in moorage.docker("top", limited, "-eo", "pid,args").stdout.splitlines()]

    moorage.until(lambda: "sleep 777" in [line[1] for line in shown()], 60, "the exec is not shown")
    assert [str(pid), "sleep 1000"] in shown()
    in_group = set(files(group(moorage, limited), "cgroup.procs")[0].split())
    assert {line[0] for line in shown()[1:]} == in_group


def test_an_update_under_kills_is_whole(moorage: Instance) -> None:
    """After a kill at any moment, the record and the control group say the same as soon as a service is there again."""
    moorage.docker("run", "-d", "--name", "grows", "--network", "none", "--memory", "32m", "busybox", "sleep", "1000")
    place = group(moorage, "grows")
    for moment in range(5):
        wanted = 33 + moment
        call(moorage, "GET /version")  # awake: what is killed is the verb
        killer = threading.Timer(0.12 + 0.06 * moment, moorage.kill_service)
        killer.start()
        told = moorage.docker(
            *("update", "--memory", f"{wanted}m", "--memory-swap", f"{wanted + 9}m", "--pids-limit", str(wanted)),
            *("--cpus", f"0.{wanted}", "grows"),
            check=False,
        )
        killer.join()
        shown = inspect(moorage, "grows")["HostConfig"]
        assert told.returncode or shown["Memory"] == wanted * MIB, "told of a change that was not kept"
        moorage.until(partial(agree, place, shown), 60, f"the record says otherwise than the group: {shown}")
    moorage.docker("rm", "-f", "grows")


def test_rates_of_a_device(moorage: Instance) -> None:
    """The four kinds are one file here; an update of one leaves the others."""
    path = next((path for path in ("/dev/loop0", "/dev/vda", "/dev/sda") if os.path.exists(path)), None)
    if path is None:
        pytest.skip("no block device here")
    number = os.stat(path).st_rdev
    moorage.docker(
        *("run", "-d", "--name", "rated", "--network", "none", "--device-read-bps", f"{path}:1mb"),
        *("--device-write-iops", f"{path}:200", "busybox", "sleep", "1000"),
    )
    place = group(moorage, "rated")
    shown = f"{os.major(number)}:{os.minor(number)} rbps={MIB} wbps=max riops=max wiops=200"
    assert files(place, "io.max") == [shown]
    call(moorage, "POST /containers/rated/update", {"BlkioDeviceReadBps": [{"Path": path, "Rate": 2 * MIB}]})
    assert files(place, "io.max") == [shown.replace(str(MIB), str(2 * MIB))]
    moorage.docker("rm", "-f", "rated")


def test_what_v2_has_not_is_taken_back(moorage: Instance) -> None:
    """Docker's warnings, and no trace in the record: a limit that nobody holds to is not shown."""
    made = moorage.docker(
        *("create", "--name", "wishes", "--network", "none", "--memory", "64m", "--memory-swappiness", "7"),
        *("--oom-kill-disable", "busybox", "true"),
    )
    for word in ("memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
                 "OomKillDisable. OomKillDisable discarded."):  # fmt: skip
        assert f"Your kernel does not support {word}" in made.stderr
    shown = inspect(moorage, "wishes")["HostConfig"]
    assert (shown["MemorySwappiness"], shown["OomKillDisable"]) == (None, None)
    moorage.docker("start", "-a", "wishes")
    moorage.docker("rm", "wishes")
    known = moorage.client().info()
    assert known["CgroupVersion"] == "2"
    assert "name=cgroupns" in known["SecurityOptions"]
    assert not any("oom kill disable" in line for line in known["Warnings"] or ())


def test_who_sees_which_part_of_the_tree(moorage: Instance) -> None:
    """A container its own, read-only; a privileged one may write; with the host's namespace, all of it."""
    command = ("busybox", "sh", "-c", "cat /proc/self/cgroup; mkdir /sys/fs/cgroup/inner && rmdir /sys/fs/cgroup/inner")

    def seen(*options: str) -> tuple[str, bool]:
        done = moorage.docker("run", "--rm", "--network", "none", *options, *command, check=False)
        return done.stdout.strip(), done.returncode == 0

    assert seen() == ("0::/", False)
    assert seen("--privileged") == ("0::/", True)
    shown, _ = seen("--cgroupns", "host")
    assert shown.startswith(f"0::/{moorage.cgroup_parent}/")


def test_crun_runs_containers_as_well(moorage: Instance) -> None:
    """It keeps another state than runc, and is told to start, to pause and to delete in its own way."""
    program = shutil.which("crun")
    if program is None:
        pytest.skip("no crun here")
    script = Path(moorage.folder, "crun")  # its library is where only tests look
    libraries = os.environ.get("LD_LIBRARY_PATH", "")
    script.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {program} "$@"\n')
    script.chmod(0o755)
    moorage.configure({"runtimes": {"crun": {"path": str(script)}}})
    run = ("run", "-d", "--name", "by-crun", "--runtime", "crun", "--network", "none", "--memory", "64m")
    moorage.docker(*run, "busybox", "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")
    place = group(moorage, "by-crun")
    assert files(place, "memory.max") == [str(64 * MIB)]
    assert moorage.docker("exec", "by-crun", "echo", "here").stdout == "here\n"
    assert moorage.docker("top", "by-crun", "-o", "pid,comm").stdout.splitlines()[1].split()[1] == "sh"
    moorage.docker("pause", "by-crun")
    moorage.until(lambda: files(place, "cgroup.freeze") == ["1"], 30, "it is not frozen")
    moorage.docker("unpause", "by-crun")
    moorage.docker("update", "--memory", "32m", "--memory-swap", "32m", "by-crun")
    assert files(place, "memory.max") == [str(32 * MIB)]
    assert "by-crun" in moorage.docker("stats", "--no-stream", "by-crun").stdout
    moorage.kill_service()
    moorage.docker("stop", "by-crun")
    assert inspect(moorage, "by-crun")["State"]["ExitCode"] == 7
    assert not place.exists()
    moorage.docker("start", "by-crun")
    moorage.docker("kill", "by-crun")
    moorage.docker("wait", "by-crun")
    moorage.docker("start", "by-crun")
    moorage.docker("rm", "-f", "by-crun")
