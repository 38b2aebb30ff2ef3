"""What a process in a container may and may not do: each promise of the spec tried from inside."""

# ruff: noqa: ASYNC240 - a test has its event loop to itself, it may block it

import os
from pathlib import Path

import pytest

from service.errors import StartRefused
from service.kernel import cgroup
from service.runtime import devices, runc, shm
from tests.service.runtime.conftest import Workshop, drain

_DEFAULT_CAPABILITIES = 0xA80425FB
_MOUNT = "mount -t tmpfs none /tmp"


async def test_dockers_default_isolation(workshop: Workshop) -> None:
    code, out, err = await workshop.run(
        "sh", "-c", "grep -E 'Cap|NoNew|Seccomp:' /proc/self/status; id; hostname; env; pwd"
    )
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [int(line.split()[1], 16) for line in lines[:5]] == [0, *[_DEFAULT_CAPABILITIES] * 3, 0]
    assert lines[5:9] == ["NoNewPrivs:\t0", "Seccomp:\t2", "uid=0(root) gid=0(root) groups=0(root),10(wheel)", "box"]
    assert "HOSTNAME=box" in lines
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in lines
    assert "HOME=/root" in lines
    assert lines[-1] == "/"


@pytest.mark.parametrize(
    "forbidden",
    [
        _MOUNT,
        "unshare -U true",
        "echo 1 > /proc/sys/kernel/panic",
        "head -c 1 /proc/kcore | grep .",
        "touch /sys/x",
        "cd /sys/fs/cgroup/pids 2>/dev/null || cd /sys/fs/cgroup; mkdir x",
        "echo b > /proc/sysrq-trigger",
    ],
)
async def test_what_the_default_forbids(workshop: Workshop, forbidden: str) -> None:
    code, _, _ = await workshop.run("sh", "-c", forbidden)
    assert code != 0


async def test_seccomp_profiles(workshop: Workshop) -> None:
    _, _, err = await workshop.run("sh", "-c", "unshare -U true")
    assert "Operation not permitted" in err
    code, _, _ = await workshop.run("sh", "-c", "unshare -U true", SecurityOpt=["seccomp=unconfined"])
    assert code == 0, "a user namespace needs no capability: only the filter forbade it"
    rule = '{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":122}'
    profile = f'{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}'
    code, _, err = await workshop.run("sh", "-c", "mkdir /tmp/x", SecurityOpt=["seccomp=" + profile])
    assert (code, "quota exceeded" in err) == (1, True), err


async def test_capabilities_are_added_and_dropped(workshop: Workshop) -> None:
    for host, expected in (
        ({"CapDrop": ["ALL"]}, 0),
        ({"CapDrop": ["ALL"], "CapAdd": ["NET_ADMIN"]}, 1 << 12),
        ({"CapAdd": ["sys_admin"]}, _DEFAULT_CAPABILITIES | 1 << 21),
        ({"CapDrop": ["chown"]}, _DEFAULT_CAPABILITIES & ~1),
    ):
        _, out, _ = await workshop.run("grep", "CapEff", "/proc/self/status", **host)  # type: ignore[arg-type]  # mixed
        assert int(out.split()[1], 16) == expected


async def test_cap_sys_admin_may_mount(workshop: Workshop) -> None:
    code, _, err = await workshop.run("sh", "-c", _MOUNT, CapAdd=["SYS_ADMIN"])
    assert (code, err) == (0, "")


async def test_privileged(workshop: Workshop) -> None:
    code, out, err = await workshop.run(
        "sh", "-c", f"{_MOUNT}; ls /dev; grep Seccomp: /proc/self/status",
        Privileged=True, MaskedPaths=None, ReadonlyPaths=None,
    )  # fmt: skip
    assert (code, err) == (0, "")
    *seen, word, number = out.split()
    assert (word, number) == ("Seccomp:", "0")
    assert {os.path.basename(d["path"]) for d in devices.host_devices() if d["path"].count("/") == 2} <= set(seen)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "uid=0(root) gid=0(root) groups=0(root),10(wheel)"),
        ("u", "uid=1000(u) gid=1000(u) groups=10(wheel),1000(u)"),
        ("1000", "uid=1000(u) gid=1000(u) groups=10(wheel),1000(u)"),
        ("u:games", "uid=1000(u) gid=60(games) groups=60(games)"),
        ("7777:8888", "uid=7777 gid=8888 groups=8888"),
        ("7777", "uid=7777 gid=0(root) groups=0(root)"),
    ],
)
async def test_users(workshop: Workshop, user: str, expected: str) -> None:
    code, out, _ = await workshop.run("sh", "-c", "id; grep CapEff /proc/self/status", config={"User": user})
    got, capabilities = out.splitlines()
    assert (code, got) == (0, expected)
    assert (int(capabilities.split()[1], 16) != 0) == (user == "")


async def test_further_groups(workshop: Workshop) -> None:
    _, out, _ = await workshop.run("id", "-G", config={"User": "u"}, GroupAdd=["games", "99"])
    assert set(out.split()) == {"1000", "10", "60", "99"}


async def test_read_only_root(workshop: Workshop) -> None:
    script = "touch /x; touch /tmp/x && touch /dev/shm/x && echo fine"
    code, out, err = await workshop.run("sh", "-c", script, ReadonlyRootfs=True, Tmpfs={"/tmp": "size=1m,mode=700"})
    assert (code, out) == (0, "fine\n")
    assert "Read-only file system" in err
    assert not Path(workshop.rootfs, "x").exists()


async def test_tmpfs_and_shm(workshop: Workshop) -> None:
    _, out, _ = await workshop.run("mount", Tmpfs={"/t": "size=3M,exec"}, ShmSize=1 << 20)
    lines = {line.split()[2]: line for line in out.splitlines()}
    assert "size=3072k" in lines["/t"]
    assert "nosuid" in lines["/t"]
    assert "noexec" not in lines["/t"]
    assert "size=1024k" in lines["/dev/shm"]
    _, out, _ = await workshop.run("ls", "/dev", IpcMode="none")
    assert "shm" not in out.split()


async def test_binds_read_only_below_as_well(workshop: Workshop, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content")
    record = workshop.record("sh", "-c", "cat /in/file; touch /in/new; touch /out/new && echo ok")
    record["Mounts"] = [
        {"Type": "bind", "Source": str(source), "Destination": to, "Mode": "", "RW": rw, "Propagation": "rprivate"}
        for to, rw in (("/in", False), ("/out", True))
    ]
    workshop.create(record)
    stream = await workshop.attach(record)
    runc.start(workshop.settings, record["Id"])
    out, err = await drain(stream)
    assert out == "contentok\n"
    assert "Read-only file system" in err
    assert (source / "new").exists()


async def test_the_whole_host_is_bound_without_keeping_our_mounts(workshop: Workshop) -> None:
    """What is bound holds our own mounts, so it must follow their end: rslave, though the host's root is private."""
    record = workshop.record("sh", "-c", "ls /host/etc/passwd")
    record["Mounts"] = [
        {"Type": "bind", "Source": "/", "Destination": "/host", "Mode": "", "RW": False, "Propagation": "rslave"}
    ]
    workshop.create(record)
    stream = await workshop.attach(record)
    runc.start(workshop.settings, record["Id"])
    assert await drain(stream) == ("/host/etc/passwd\n", "")


async def test_init_is_the_first_process_and_reaps(workshop: Workshop) -> None:
    code, out, _ = await workshop.run("sh", "-c", "readlink /proc/1/exe; exit 9", Init=True)
    assert (code, out) == (9, "/sbin/docker-init\n")


async def test_sysctls_and_domain(workshop: Workshop) -> None:
    script = (
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/domainname /proc/sys/kernel/shm_rmid_forced"
    )
    _, out, _ = await workshop.run(
        "sh", "-c", script, config={"Domainname": "example"}, Sysctls={"kernel.shm_rmid_forced": "1"}
    )
    assert out.split() == ["0", "example", "1"]


async def test_host_namespaces(workshop: Workshop) -> None:
    script = "for n in net uts pid ipc; do readlink /proc/self/ns/$n; done"
    _, out, _ = await workshop.run(
        "sh", "-c", script, NetworkMode="host", UTSMode="host", PidMode="host", IpcMode="host"
    )
    assert out.split() == [os.readlink(f"/proc/self/ns/{name}") for name in ("net", "uts", "pid", "ipc")]
    _, out, _ = await workshop.run("sh", "-c", script)
    assert not set(out.split()) & {os.readlink(f"/proc/self/ns/{name}") for name in ("net", "uts", "pid", "ipc")}


async def test_ulimits(workshop: Workshop) -> None:
    _, out, _ = await workshop.run(
        "sh", "-c", "ulimit -n; ulimit -Hn", Ulimits=[{"Name": "nofile", "Soft": 100, "Hard": 200}]
    )
    assert out.split() == ["100", "200"]


async def test_devices(workshop: Workshop) -> None:
    if not Path("/dev/kmsg").exists():
        pytest.skip("no /dev/kmsg here: a device that anybody may have is needed")
    mapping = [{"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/mine", "CgroupPermissions": "r"}]
    code, out, _ = await workshop.run(
        "sh", "-c", "stat -c %t:%T /dev/mine && head -c 1 /dev/mine >/dev/null", Devices=mapping, CapAdd=["SYSLOG"]
    )
    assert (code, out) == (0, "1:b\n")
    code, _, err = await workshop.run("sh", "-c", "echo x > /dev/mine", Devices=mapping)
    assert code != 0
    assert "not permitted" in err
    code, _, _ = await workshop.run("sh", "-c", "mknod /tmp/k c 1 11 && head -c 1 /tmp/k >/dev/null")
    assert code != 0, "a device node that the container makes itself is closed by the control group"


def _needs(controller: str) -> None:
    if not cgroup.detect().has(controller):
        pytest.skip(f"no {controller} controller here: limits cannot be enforced")


async def test_a_memory_limit_is_enforced(workshop: Workshop) -> None:
    _needs("memory")
    record = workshop.record(
        "sh", "-c", "dd if=/dev/zero of=/dev/null bs=100M count=1", Memory=64 << 20, MemorySwap=64 << 20
    )
    workshop.create(record)
    runc.start(workshop.settings, record["Id"])
    ended = workshop.exit(record["Id"])
    assert (ended.exit_code, ended.oom_killed) == (137, True)


async def test_a_pids_limit_is_enforced(workshop: Workshop) -> None:
    _needs("pids")
    _, _, err = await workshop.run("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 2 & done", PidsLimit=4)
    assert "can't fork" in err


async def test_cpu_limits_arrive(workshop: Workshop) -> None:
    _needs("cpu")
    record = workshop.record("sleep", "100", NanoCpus=500_000_000, CpuShares=512)
    workshop.create(record)
    groups = cgroup.detect()
    folder = groups.directory("cpu", f"/{workshop.parent}/{record['Id']}")
    if groups.version == 2:
        assert cgroup.read(folder + "/cpu.max") == "50000 100000"
    else:
        assert cgroup.read(folder + "/cpu.cfs_quota_us") == "50000"
        assert cgroup.read(folder + "/cpu.shares") == "512"


async def test_limits_change_while_it_runs(workshop: Workshop) -> None:
    _needs("pids")
    record = workshop.record("sleep", "100", PidsLimit=10)
    workshop.create(record)
    runc.start(workshop.settings, record["Id"])
    runc.update(workshop.settings, record["Id"], {"pids": {"limit": 20}})
    folder = cgroup.detect().directory("pids", f"/{workshop.parent}/{record['Id']}")
    assert cgroup.read(folder + "/pids.max") == "20"


async def test_a_file_mounted_on_a_directory(workshop: Workshop) -> None:
    record = workshop.record("true")
    record["Mounts"] = [
        {
            "Type": "bind",
            "Source": "/etc/hostname",
            "Destination": "/tmp",
            "Mode": "",
            "RW": True,
            "Propagation": "rprivate",
        }
    ]
    with pytest.raises(StartRefused, match="Are you trying to mount a directory onto a file") as caught:
        workshop.create(record)
    assert caught.value.exit_code == 127


async def test_network_files_and_namespace(workshop: Workshop) -> None:
    record = workshop.record("sh", "-c", "cat /etc/hosts; echo more >> /etc/hosts; cat /etc/hosts")
    root = Path(workshop.settings.container_root(record["Id"]))
    root.mkdir(parents=True)
    (root / "hosts").write_text("127.0.0.1 localhost\n")
    workshop.create(record)
    stream = await workshop.attach(record)
    runc.start(workshop.settings, record["Id"])
    out, _ = await drain(stream)
    assert out == "127.0.0.1 localhost\n" * 2 + "more\n"


async def test_a_shared_ipc_namespace_shares_its_memory(workshop: Workshop) -> None:
    settings = workshop.settings
    owner = workshop.record("sh", "-c", "echo hello > /dev/shm/note; sleep 100", IpcMode="shareable")
    place = shm.mount(settings, owner["Id"], 1 << 20)
    try:
        created = workshop.create(owner, shm_path=place)
        runc.start(settings, owner["Id"])
        guest = workshop.record(
            "sh", "-c", "sleep 0.3; cat /dev/shm/note; readlink /proc/self/ns/ipc", IpcMode=f"container:{owner['Id']}"
        )
        workshop.create(guest, joined={"ipc": created.pid}, shm_path=shm.path(settings, owner["Id"]))
        stream = await workshop.attach(guest)
        runc.start(settings, guest["Id"])
        out, _ = await drain(stream)
        assert out.split() == ["hello", os.readlink(f"/proc/{created.pid}/ns/ipc")]
    finally:
        for record in (guest, owner):
            runc.delete(settings, record["Id"], force=True)
        shm.unmount(settings, owner["Id"])
        shm.unmount(settings, owner["Id"])
