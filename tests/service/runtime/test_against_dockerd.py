"""The OCI config that we write beside the one that a real dockerd writes for the same container.

A dockerd of the test's own (no bridge, no firewall rules, everything in a temporary directory) runs each container; its
`inspect` becomes our record, our config must equal its config, but for the differences named here with their reasons.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from service.kernel import cgroup, mount
from service.runtime import facts, security, spec
from service.settings import Settings
from tests.service.runtime.conftest import busybox_root

# dockerd 20.10 knows neither these calls nor newer rules; the profile of Docker 28 and later has them.
_NEWER_CALLS = """
    cachestat clock_settime64 fchmodat2 futex_requeue futex_wait futex_waitv futex_wake getxattrat
    landlock_add_rule landlock_create_ruleset landlock_restrict_self listmount listxattrat lsm_get_self_attr
    lsm_list_modules lsm_set_self_attr map_shadow_stack memfd_secret mseal name_to_handle_at pkey_alloc
    pkey_free pkey_mprotect process_mrelease process_vm_readv process_vm_writev removexattrat riscv_hwprobe
    set_mempolicy_home_node setxattrat statmount uretprobe
"""
# The profile of Docker 25 and later leaves io_uring out (a way around seccomp), and splits socket by address family.
_NO_LONGER = frozenset(["io_uring_enter", "io_uring_register", "io_uring_setup", "socket"])


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator["tuple[docker.APIClient, Path]"]:
    program = shutil.which("dockerd")
    if program is None or os.geteuid():
        pytest.skip("dockerd is not installed, or we are not root")
    folder = tmp_path_factory.mktemp("dockerd")
    run = Path("/run") / f"moorage-dockerd-{os.getpid()}"  # its sockets' paths must be short
    run.mkdir()
    socket = run / "docker.sock"
    argv = [
        program, "--host", f"unix://{socket}", "--data-root", str(folder / "data"), "--exec-root", str(run / "exec"),
        "--pidfile", str(run / "pid"), "--bridge", "none", "--iptables=false", "--storage-driver", "vfs",
        "--config-file", str(folder / "none.json"), "--cgroup-parent", f"/moorage-dockerd-{os.getpid()}",
    ]  # fmt: skip
    (folder / "none.json").write_text("{}")
    with open(folder / "log", "wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        client = docker.APIClient(f"unix://{socket}", version="1.41", timeout=30)
        try:
            _wait_for(socket, process, folder / "log")
            root = folder / "fs"
            busybox_root(root)
            archive = folder / "fs.tar"
            subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
            client.import_image(str(archive), repository="box")
            yield client, run
        finally:
            client.close()
            process.terminate()
            process.wait(30)
            cgroup.remove(cgroup.detect(), f"/moorage-dockerd-{os.getpid()}")
            for entry in mount.table():
                if entry.point.startswith(str(run)):
                    mount.detach(entry.point)  # the network namespaces that dockerd leaves behind
            shutil.rmtree(run)


def _wait_for(socket: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + 30
    while not socket.exists():
        if process.poll() is not None:
            pytest.skip("dockerd does not run here: " + log.read_text()[-300:])
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)


_CASES: "dict[str, tuple[dict[str, Any], dict[str, Any]]]" = {
    "plain": ({}, {}),
    "process": (
        {"Env": ["A=b", "PATH=/bin"], "WorkingDir": "/tmp", "User": "u", "Hostname": "there", "Tty": True,
         "Domainname": "example"},
        {"OomScoreAdj": 10, "GroupAdd": ["games", "77"], "ConsoleSize": [10, 20]},
    ),
    "capabilities": ({}, {"CapAdd": ["SYS_PTRACE", "NET_ADMIN"], "CapDrop": ["MKNOD"]}),
    "no capabilities": ({}, {"CapDrop": ["ALL"]}),
    "many capabilities": ({}, {"CapAdd": ["SYS_ADMIN", "SYS_TIME", "SYSLOG", "SYS_NICE", "DAC_READ_SEARCH"]}),
    "limits": (
        {},
        {"Memory": 64 << 20, "MemoryReservation": 32 << 20, "MemorySwap": 128 << 20, "NanoCpus": 500_000_000,
         "CpuShares": 100,
         "PidsLimit": 20, "CpusetCpus": "0", "BlkioWeight": 300,
         "Ulimits": [{"Name": "nofile", "Soft": 1000, "Hard": 2000}]},
    ),
    "cpu quota": ({}, {"CpuQuota": 20000, "CpuPeriod": 50000}),
    "mounts": (
        {}, {"Binds": ["/usr:/a:ro", "/etc:/c/d"], "Tmpfs": {"/t": "size=1m,exec", "/u": ""}, "ShmSize": 1 << 20},
    ),
    "read-only": ({}, {"ReadonlyRootfs": True, "Tmpfs": {"/run": ""}}),
    "devices": (
        {},
        {"Devices": [{"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/k", "CgroupPermissions": "r"}],
         "DeviceCgroupRules": ["c 7:* rw", "b *:3 m"]},
    ),
    "security": ({}, {"SecurityOpt": ["no-new-privileges", "seccomp=unconfined"]}),
    "bare paths": ({}, {"MaskedPaths": [], "ReadonlyPaths": ["/proc/sys"]}),
    "host namespaces": ({}, {"NetworkMode": "host", "PidMode": "host", "UTSMode": "host", "IpcMode": "host"}),
    "private cgroup namespace": ({}, {"CgroupnsMode": "private"}),
    "sysctls": ({}, {"Sysctls": {"net.ipv4.ip_unprivileged_port_start": "1024", "kernel.shm_rmid_forced": "1"}}),
    "init": ({}, {"Init": True}),
}  # fmt: skip


@pytest.mark.parametrize("case", _CASES)
def test_our_config_is_dockerds(dockerd: "tuple[docker.APIClient, Path]", case: str, tmp_path: Path) -> None:
    client, run = dockerd
    if case == "init" and not facts.init_path():
        pytest.skip("no static init is installed")
    config, host = _CASES[case]
    body = {"Image": "box", "Cmd": ["sleep", "100"], **config, "HostConfig": {"NetworkMode": "none", **host}}
    made = client._result(client._post_json(client._url("/containers/create"), data=body), json=True)["Id"]
    try:
        client.start(made)
        theirs = json.loads(next(run.glob(f"exec/containerd/daemon/*/moby/{made}/config.json")).read_text())
        shown = client.inspect_container(made)
        record = {
            **{key: shown[key] for key in ("Id", "Path", "Args", "Config", "HostConfig")},
            "Mounts": [{"Propagation": "", **point} for point in shown["Mounts"]],
        }
        ours = _ours(record, theirs, tmp_path)
    finally:
        client.remove_container(made, force=True)
    differences = _differences(_normal(ours), _normal(theirs))
    assert not differences, "\n".join(differences)


def _ours(record: Any, theirs: Any, tmp_path: Path) -> Any:
    settings = Settings({"MOORAGE_ROOT": str(tmp_path), "MOORAGE_RUN": str(tmp_path)})
    rootfs = theirs["root"]["path"]
    # what the launch would know: the network's files, and where the host keeps a /dev/shm
    known = facts.gather(settings, record, rootfs=rootfs)
    known.files = {}
    for one in theirs["mounts"]:
        if one["destination"].startswith("/etc/") and one["type"] == "bind":
            known.files[one["destination"]] = one["source"]
    known.cgroup_path = theirs["linux"]["cgroupsPath"]
    known.recursive_read_only = any("rro" in one["options"] for one in theirs["mounts"])  # dockerd 25 and later
    return spec.build_spec(record, known)


def _differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Where two documents differ, leaf by leaf."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            line
            for key in sorted(ours.keys() | theirs.keys())
            for line in _differences(ours.get(key), theirs.get(key), f"{path}.{key}")
        ]
    return [] if ours == theirs else [f"{path}: {ours!r}, dockerd {theirs!r}"]


def _normal(config: Any) -> Any:
    """A config without what differs for a reason; each line says the reason."""
    config = json.loads(json.dumps(config))
    config.pop("ociVersion")
    config.pop("hooks", None)  # libnetwork moves the namespace by a hook; ours is there before
    process, linux = config["process"], config["linux"]
    for mapping, keys in ((process, ("terminal", "noNewPrivileges")), (config["root"], ("readonly",))):
        for key in keys:
            mapping.setdefault(key, False)  # Go leaves out what is false
    process["rlimits"] = process.get("rlimits") or []
    process.pop("consoleSize", None)  # 20.10 passes it on for Windows only
    process["capabilities"] = {kind: sorted(names) for kind, names in process["capabilities"].items() if names}
    # what GroupAdd adds comes in the order of a Go map, another one each time
    process["user"]["additionalGids"] = sorted(process["user"].get("additionalGids") or ())
    config.setdefault("hostname", "")
    if not config["hostname"]:
        config.pop("hostname")
    # 28 masks more than 20.10; the order says nothing
    newer = {
        "/proc/interrupts",
        "/sys/devices/virtual/powercap",
        *security.masked_paths()[len(security.MASKED_PATHS) :],
    }
    for key in ("maskedPaths", "readonlyPaths"):
        linux[key] = sorted(set(linux.get(key) or ()) - newer)
    # dockerd names the host's network by a file of its own, where we leave the namespace out
    linux["namespaces"] = sorted(
        (n for n in linux["namespaces"] if not n.get("path", "").endswith("/netns/default")),
        key=lambda n: str(n["type"]),
    )
    if process["user"][
        "uid"
    ]:  # execve clears both for users other than root; whether the config names them says nothing
        for kind in ("effective", "permitted"):
            process["capabilities"].pop(kind, None)
    resources = linux["resources"]
    rules = [json.dumps(rule, sort_keys=True) for rule in resources.get("devices") or ()]
    resources["devices"] = list(dict.fromkeys(rules))  # dockerd 26 says the default ones twice
    # dockerd 20.10 writes the kernel's own defaults where nothing was asked
    for section, key, default in (
        ("memory", "disableOOMKiller", False),
        ("cpu", "shares", 0),
        ("blockIO", "weight", 0),
    ):
        if resources.get(section, {}).get(key) == default:
            del resources[section][key]
        if not resources.get(section):
            resources.pop(section, None)
    if (resources.get("pids") or {}).get("limit") in (None, 0, -1):
        resources.pop("pids", None)
    linux["devices"] = sorted(linux.get("devices") or [], key=lambda d: str(d["path"]))
    for device in linux["devices"]:
        device["fileMode"] &= 0o777  # dockerd gives the kind of file there too
    for one in config["mounts"]:
        if one["destination"] == "/sbin/docker-init":
            one["source"] = "an init"  # each has its own idea where one lies
        if one["destination"].startswith("/etc/"):  # nothing is mounted below a file: recursively or not is the same
            one["options"] = ["ro" if option == "rro" else option for option in one["options"]]
    in_order = sorted(config["mounts"], key=lambda one: str(one["destination"]))
    config["mounts"] = [{**one, "options": sorted(one["options"])} for one in in_order]
    if "seccomp" in linux:
        linux["seccomp"] = _decisions(linux["seccomp"])
    linux.setdefault("sysctl", {})
    linux.pop("rootfsPropagation", None)
    return config


def _decisions(profile: Any) -> Any:
    """Of a seccomp profile: what is decided for each call, however it was grouped."""
    calls: dict[str, set[str]] = {}
    for rule in profile["syscalls"]:
        for name in rule["names"]:
            arguments = [{"valueTwo": 0, **argument} for argument in rule.get("args") or ()]
            decision = [rule["action"], rule.get("errnoRet"), arguments]
            calls.setdefault(name, set()).add(json.dumps(decision, sort_keys=True))
    kept = {name: sorted(how) for name, how in calls.items() if name not in {*_NEWER_CALLS.split(), *_NO_LONGER}}
    return {"default": profile["defaultAction"], "architectures": profile["architectures"], "calls": kept}
