"""What a process in a container finds of the limits, rights and namespaces that `docker run` asked for."""

import json
import os
import subprocess
from typing import Any

import pytest

from service.kernel import cgroup
from service.runtime import limits
from tests.support.instance import Instance

V1 = cgroup.detect().version == 1
CAN = limits.supported(cgroup.detect())
ALLOW_BUT_CHROOT = json.dumps(
    {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_ERRNO"}]}
)
CAPABILITIES = "grep CapEff /proc/self/status"


def run(moorage: Instance, *arguments: str) -> str:
    """Both outputs of `docker run --rm`."""
    done = moorage.docker("run", "--rm", *arguments, check=False)
    return (done.stdout + done.stderr).strip()


def group(v1: str, v2: str) -> str:
    return f"cat /sys/fs/cgroup/{v1 if V1 else v2}"


@pytest.mark.parametrize(
    ("options", "needs", "script", "seen"),
    [
        ("--memory 64m", "memory", group("memory/memory.limit_in_bytes", "memory.max"), "67108864"),
        ("--memory 64m --memory-swap 96m", "swap", group("memory/memory.memsw.limit_in_bytes", "memory.swap.max"),
         "100663296" if V1 else "33554432"),
        ("--memory 64m --memory-swap -1", "swap", group("memory/memory.memsw.limit_in_bytes", "memory.swap.max"),
         "9223372036854771712" if V1 else "max"),
        ("--memory-reservation 32m", "reservation", group("memory/memory.soft_limit_in_bytes", "memory.low"),
         "33554432"),
        ("--memory-swappiness 7", "swappiness", "cat /sys/fs/cgroup/memory/memory.swappiness", "7"),
        ("--memory 64m --oom-kill-disable", "oom", "head -1 /sys/fs/cgroup/memory/memory.oom_control",
         "oom_kill_disable 1"),
        ("--cpu-shares 300", "shares", group("cpu/cpu.shares", "cpu.weight"), "300" if V1 else "12"),
        ("--cpus 0.25", "cfs", group("cpu/cpu.cfs_quota_us", "cpu.max"), "25000" if V1 else "25000 100000"),
        ("--cpu-period 50000 --cpu-quota 10000", "cfs", group("cpu/cpu.cfs_quota_us", "cpu.max"),
         "10000" if V1 else "10000 50000"),
        ("--cpuset-cpus 0 --cpuset-mems 0", "cpuset", group("cpuset/cpuset.cpus", "cpuset.cpus"), "0"),
        ("--pids-limit 40", "pids", group("pids/pids.max", "pids.max"), "40"),
        ("--cpu-rt-period 900000", "real time", "cat /sys/fs/cgroup/cpu/cpu.rt_period_us", "900000"),
    ],
)  # fmt: skip
def test_limits(moorage: Instance, options: str, needs: str, script: str, seen: str) -> None:
    if needs not in CAN:
        pytest.skip(f"no control group here limits {needs}")
    assert run(moorage, *options.split(), "busybox", "sh", "-c", script) == seen


@pytest.mark.parametrize(
    ("options", "script", "seen"),
    [
        ("--ulimit nofile=64:128 --ulimit core=0", "ulimit -Sn; ulimit -Hn; ulimit -Hc", "64\n128\n0"),
        ("--oom-score-adj 300", "cat /proc/self/oom_score_adj", "300"),
        ("--shm-size 2m", "df -k /dev/shm | tail -1 | awk '{print $2}'", "2048"),
        ("--sysctl net.core.somaxconn=99 --sysctl kernel.shmmax=4096",
         "cd /proc/sys; cat net/core/somaxconn kernel/shmmax", "99\n4096"),
        ("--user 1000:1000 --group-add 44 --group-add audio", "id -G | tr ' ' '\\n' | sort -n", "29\n44\n1000"),
        ("--hostname box --domainname example.org",
         "hostname; cat /proc/sys/kernel/domainname; grep -c box.example /etc/hosts", "box\nexample.org\n1"),
        ("--init", "cat /proc/1/comm", "docker-init"),
        ("--workdir /made/on/start", "pwd", "/made/on/start"),
        ("--read-only --tmpfs /t", "touch /x 2>&1; touch /t/x && echo in tmpfs",
         "touch: /x: Read-only file system\nin tmpfs"),
        # capabilities
        ("--cap-drop all", CAPABILITIES, "CapEff:\t0000000000000000"),
        ("--cap-drop ALL --cap-add chown", CAPABILITIES, "CapEff:\t0000000000000001"),
        ("--cap-add sys_admin", CAPABILITIES, "CapEff:\t00000000a82425fb"),
        ("--cap-drop CAP_CHOWN", CAPABILITIES, "CapEff:\t00000000a80425fa"),
        ("--user 1:1 --cap-add chown", CAPABILITIES, "CapEff:\t0000000000000000"),
        # security options
        ("--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"),
        ("--security-opt no-new-privileges=false", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t0"),
        ("--security-opt seccomp=unconfined", "grep Seccomp: /proc/self/status", "Seccomp:\t0"),
        ("--security-opt seccomp=builtin", "grep Seccomp: /proc/self/status", "Seccomp:\t2"),
        ("--security-opt systempaths=unconfined", "grep -c ' /proc/' /proc/self/mountinfo", "0"),
        ("--privileged",
         "touch /sys/fs/cgroup/x 2>&1 | grep -c Read-only; grep Seccomp: /proc/self/status; ls /dev/kmsg",
         "0\nSeccomp:\t0\n/dev/kmsg"),
        # namespaces
        ("--pid host", "[ $$ != 1 ] && readlink /proc/self/ns/pid", os.readlink("/proc/self/ns/pid")),
        ("--ipc host", "readlink /proc/self/ns/ipc", os.readlink("/proc/self/ns/ipc")),
        ("--uts host", "readlink /proc/self/ns/uts", os.readlink("/proc/self/ns/uts")),
        ("--network host", "readlink /proc/self/ns/net", os.readlink("/proc/self/ns/net")),
        ("--cgroupns host", "readlink /proc/self/ns/cgroup", os.readlink("/proc/self/ns/cgroup")),
        ("--cgroupns private", "cut -d: -f3 /proc/self/cgroup | sort -u", "/"),
        ("--ipc none", "ls -d /dev/shm", "ls: /dev/shm: No such file or directory"),
        ("--userns host", "cat /proc/self/uid_map | tr -s ' '", " 0 0 4294967295"),
    ],
)  # fmt: skip
def test_rights_and_namespaces(moorage: Instance, options: str, script: str, seen: str) -> None:
    assert run(moorage, *options.split(), "busybox", "sh", "-c", script).splitlines() == seen.strip().splitlines()


def create(moorage: Instance, **body: Any) -> str:
    """Create and start a container by the API; its id."""
    client = moorage.client().api
    made = client._post_json(client._url("/containers/create"), data={"Image": "busybox", **body})
    container: str = client._result(made, True)["Id"]
    client.start(container)
    return container


def output(moorage: Instance, container: str) -> list[str]:
    """What it wrote until its end; it is removed then."""
    moorage.docker("wait", container)
    said = moorage.docker("logs", container)
    moorage.docker("rm", container)
    return (said.stdout + said.stderr).splitlines()


def test_masked_and_read_only_paths(moorage: Instance) -> None:
    """None means Docker's own, a list just that (and what does not exist is no error)."""
    script = "cat /etc/passwd | wc -c; ls /usr | wc -l; touch /tmp/x; grep -c ' /proc/keys ' /proc/self/mountinfo"
    host = {"MaskedPaths": ["/etc/passwd", "/usr", "/nope"], "ReadonlyPaths": ["/tmp"]}
    found = output(moorage, create(moorage, Cmd=["sh", "-c", script], HostConfig=host))
    assert sorted(found) == sorted(["0", "0", "0", "touch: /tmp/x: Read-only file system"])
    assert run(moorage, "busybox", "sh", "-c", "grep -c ' /proc/' /proc/self/mountinfo") != "0"


def test_a_seccomp_profile_of_ones_own(moorage: Instance, tmp_path: Any) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(ALLOW_BUT_CHROOT, encoding="ascii")
    said = run(
        moorage, "--security-opt", f"seccomp={profile}", "busybox", "sh", "-c", "unshare -U true && chroot / true"
    )
    assert "can't change root directory to '/': Operation not permitted" in said
    refused = moorage.docker("run", "--rm", "--security-opt", "seccomp=/etc/passwd", "busybox", "true", check=False)
    assert refused.returncode == 125


def test_writable_cgroups(moorage: Instance) -> None:
    folder = "/sys/fs/cgroup/pids/own" if V1 else "/sys/fs/cgroup/own"
    host = {"SecurityOpt": ["writable-cgroups"], "CgroupnsMode": "private"}
    command = ["sh", "-c", f"mkdir {folder} && rmdir {folder} && echo made"]
    assert output(moorage, create(moorage, Cmd=command, HostConfig=host)) == ["made"]
    assert "Read-only file system" in output(moorage, create(moorage, Cmd=command))[0]


def test_no_network_at_all(moorage: Instance) -> None:
    container = create(moorage, Cmd=["ls", "/sys/class/net"], NetworkDisabled=True)
    shown = json.loads(moorage.docker("inspect", container).stdout)[0]
    assert shown["NetworkSettings"]["Networks"] == {}
    assert output(moorage, container) == ["lo"]


def test_a_terminal_of_a_given_size(moorage: Instance) -> None:
    container = create(moorage, Cmd=["stty", "size"], Tty=True, HostConfig={"ConsoleSize": [33, 44]})
    assert output(moorage, container) == ["33 44"]


# --- namespaces of other containers ---------------------------------------------------------------------------------


def test_joined_namespaces(moorage: Instance) -> None:
    """By name, and through a container that joined itself; a rename of the owner does not part them."""
    moorage.docker(
        "run", "-d", "--name", "owner", "--ipc", "shareable", "--hostname", "named", "busybox", "sleep", "1000"
    )
    moorage.docker("exec", "owner", "touch", "/dev/shm/shared")
    joins = ["--ipc", "container:owner", "--pid", "container:owner", "--network", "container:owner"]
    moorage.docker("run", "-d", "--name", "second", *joins, "busybox", "sleep", "1000")
    moorage.docker("rename", "owner", "renamed")
    moorage.docker("restart", "-t", "0", "second")
    for name in ("second", "third"):
        if name == "third":
            joins = ["--ipc", "container:second", "--pid", "container:second", "--network", "container:second"]
            moorage.docker("run", "-d", "--name", "third", *joins, "busybox", "sleep", "1000")
        said = moorage.docker(
            "exec", name, "sh", "-c", "ls /dev/shm; hostname; echo $HOSTNAME; cat /proc/1/cmdline | tr '\\0' ' '"
        )
        assert said.stdout == "shared\nnamed\nnamed\nsleep 1000 "
        for kind in ("ipc", "pid", "net"):
            links = [moorage.docker("exec", of, "readlink", f"/proc/self/ns/{kind}").stdout for of in ("renamed", name)]
            assert links[0] == links[1]
    owner = json.loads(moorage.docker("inspect", "renamed").stdout)[0]["Id"]
    host = json.loads(moorage.docker("inspect", "second").stdout)[0]["HostConfig"]
    assert [host[key] for key in ("IpcMode", "PidMode", "NetworkMode")] == [f"container:{owner}"] * 3
    moorage.docker("rm", "-f", "third", "second", "renamed")


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--ipc=container:private", "failed to join IPC namespace: container {private}: non-shareable IPC (hint: use "
         "IpcMode:shareable for the donor container)"),
        ("--ipc=container:stopped", "failed to join IPC namespace: container {stopped} is not running"),
        ("--pid=container:stopped", "failed to join PID namespace: container {stopped} is not running"),
        ("--network=container:stopped", "cannot join network namespace of a non running container: container stopped "
         "is created"),
        ("--pid=container:nosuch", "No such container: nosuch"),
        ("--ipc=container:nosuch", "No such container: nosuch"),
        ("--network=container:nosuch", "No such container: nosuch"),
    ],
)  # fmt: skip
def test_namespaces_that_cannot_be_joined(moorage: Instance, option: str, text: str) -> None:
    ids = {
        "private": moorage.docker("run", "-d", "--name", "private", "busybox", "sleep", "1000").stdout.strip(),
        "stopped": moorage.docker("create", "--name", "stopped", "busybox", "true").stdout.strip(),
    }
    try:
        assert text.format(**ids) in run(moorage, option, "busybox", "true")
    finally:
        moorage.docker("rm", "-f", *ids)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"Hostname": "a", "HostConfig": {"UTSMode": "host"}}, "conflicting options: hostname and the UTS mode"),
        ({"Hostname": "a", "HostConfig": {"NetworkMode": "container:x"}},
         "conflicting options: hostname and the network mode"),
        ({"ExposedPorts": {"80/tcp": {}}, "HostConfig": {"NetworkMode": "container:x"}},
         "conflicting options: port exposing and the container type network mode"),
        ({"HostConfig": {"NetworkMode": "container:x", "PublishAllPorts": True}},
         "conflicting options: port publishing and the container type network mode"),
        ({"HostConfig": {"Memory": "64"}}, "cannot unmarshal string into Go struct field"),
        ({"HostConfig": {"Memory": 10**20}}, "cannot unmarshal number 100000000000000000000 into Go struct field"),
        ({"HostConfig": {"BlkioWeight": 65536}}, "HostConfig.BlkioWeight of type uint16"),
        ({"HostConfig": {"ConsoleSize": [-1, 2]}}, "cannot unmarshal number -1 into Go struct field"),
        ({"HostConfig": {"Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": "2"}]}}, "Ulimits.Hard of type int64"),
        ({"Tty": 1}, "cannot unmarshal number into Go struct field"),
    ],
)  # fmt: skip
def test_refused_at_create(moorage: Instance, body: Any, text: str) -> None:
    client = moorage.client().api
    answer = client._post_json(client._url("/containers/create"), data={"Image": "busybox", "Cmd": ["true"], **body})
    assert answer.status_code == 400
    assert text in answer.json()["message"]


def test_a_failed_start_leaves_its_reason(moorage: Instance) -> None:
    moorage.docker("create", "--name", "fails", "--device", "/dev/nope", "busybox", "true")
    assert "no such file or directory" in moorage.docker("start", "fails", check=False).stderr
    state = json.loads(moorage.docker("inspect", "fails").stdout)[0]["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", 128)
    assert state["Error"].startswith('error gathering device information while adding custom device "/dev/nope"')
    moorage.docker("rm", "fails")


def test_no_user_of_the_machine_gets_at_a_containers_files(moorage: Instance) -> None:
    """A program in them may be set-user-ID root: it would be root on the machine as well."""
    name = moorage.docker("run", "-d", "busybox", "sleep", "1000").stdout.strip()
    try:
        data = json.loads(moorage.docker("inspect", name).stdout)[0]["GraphDriver"]["Data"]
        for folder in (data["UpperDir"], data["MergedDir"], data["LowerDir"].split(":")[0]):
            assert os.path.isdir(folder)
            looked = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "test", "-e", folder]
            assert subprocess.run(looked, check=False).returncode == 1, folder
        assert moorage.docker("exec", "-u", "1000", name, "cat", "/etc/hosts", "/etc/passwd").stdout
    finally:
        moorage.docker("rm", "-f", name)
