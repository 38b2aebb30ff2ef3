"""The pure parts of the runtime, as tables: what goes in, what must come out, and the sentence of each refusal."""

from pathlib import Path
from typing import Any

import pytest

from service.errors import InvalidParameter, StartFailed, StartRefused
from service.kernel.cgroup import Cgroups
from service.kernel.mount import MountEntry
from service.runtime import (
    capabilities,
    conmon,
    devices,
    environment,
    facts,
    limits,
    mounts,
    resources,
    runc,
    seccomp,
    security,
)
from service.settings import Settings

V1 = Cgroups(1, frozenset(("cpu", "cpuset", "memory", "pids", "blkio")), {"memory": "/sys/fs/cgroup/memory"}, "")
V2 = Cgroups(2, frozenset(("cpu", "cpuset", "memory", "pids", "io")), {}, "/sys/fs/cgroup")
BARE_V2 = Cgroups(2, frozenset(), {}, "/sys/fs/cgroup")


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ([], [], list(capabilities.DEFAULT)),
        ([], ["ALL"], []),
        (["net_admin"], ["ALL"], ["CAP_NET_ADMIN"]),
        (["CAP_NET_ADMIN"], ["all"], ["CAP_NET_ADMIN"]),
        (["ALL"], [], list(capabilities.NAMES)),
        (["ALL"], ["SYS_ADMIN"], [n for n in capabilities.NAMES if n != "CAP_SYS_ADMIN"]),
        (["CHOWN"], [], list(capabilities.DEFAULT)),
    ],
)
def test_capabilities(add: list[str], drop: list[str], expected: list[str]) -> None:
    assert capabilities.tweak(add, drop) == expected


def test_privileged_is_what_the_host_has() -> None:
    assert capabilities.tweak([], ["CHOWN"], privileged=True, available=["CAP_CHOWN"]) == ["CAP_CHOWN"]
    with pytest.raises(InvalidParameter, match='unknown capability: "CAP_NOPE"'):
        capabilities.tweak(["CAP_NOPE"], [])
    with pytest.raises(InvalidParameter, match="capability not supported by your kernel"):
        capabilities.tweak(["SYS_ADMIN"], [], available=["CAP_CHOWN"])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("c 1:3 rwm", ("c", 1, 3, "rwm")),
        ("a *:* r", ("a", -1, -1, "r")),
        ("b 8:* rw", ("b", 8, -1, "rw")),
    ],
)
def test_device_rules(rule: str, expected: "tuple[Any, ...]") -> None:
    made = devices.parse_rule(rule)
    assert (made["type"], made["major"], made["minor"], made["access"]) == expected


@pytest.mark.parametrize("rule", ["", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 x", "c 1:3 rwmm", "c  1:3 r", "c 1:-1 r"])
def test_bad_device_rules(rule: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid device cgroup rule format: '"):
        devices.parse_rule(rule)


def test_devices_of_the_host() -> None:
    found, rules = devices.mapped("/dev/null", "/dev/nothing", "r")
    assert [(d["path"], d["type"], d["major"], d["minor"]) for d in found] == [("/dev/nothing", "c", 1, 3)]
    assert rules == [{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"}]
    with pytest.raises(
        InvalidParameter,
        match=r'^error gathering device .* device "/dev/none": no such file or directory$',
    ):
        devices.mapped("/dev/none", "/dev/none", "rwm")
    with pytest.raises(InvalidParameter, match="not a device node"):
        devices.mapped("/etc/passwd", "/x", "rwm")


@pytest.mark.parametrize(
    ("base", "over", "expected"),
    [
        (["A=1", "B=2"], ["A=3"], ["A=3", "B=2"]),
        (["A=1"], ["A"], []),
        (["A=1"], ["B="], ["A=1", "B="]),
        ([], ["A=b=c"], ["A=b=c"]),
        ([], ["Foo"], []),
    ],
)
def test_environment(base: list[str], over: list[str], expected: list[str]) -> None:
    assert environment.merge(base, over) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["noexec", "nosuid", "nodev", "rprivate"]),
        (["exec", "size=1m"], ["nosuid", "nodev", "rprivate", "exec", "size=1m"]),
        (["size=1m", "size=2m"], ["noexec", "nosuid", "nodev", "rprivate", "size=2m"]),
        (["rw", "ro"], ["noexec", "nosuid", "nodev", "rprivate", "ro"]),
    ],
)
def test_tmpfs(options: list[str], expected: list[str]) -> None:
    assert mounts.tmpfs("/t", options)["options"] == expected


@pytest.mark.parametrize("option", ["nope", "size", "lowerdir=/etc"])
def test_bad_tmpfs(option: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid tmpfs option"):
        mounts.tmpfs("/t", [option])


def test_read_only_binds_reach_as_far_as_can_be_done() -> None:
    point: Any = {"Type": "bind", "Source": "/s", "Destination": "/d", "RW": False, "Propagation": "rprivate"}

    def options(able: bool, **more: Any) -> list[str]:
        asked: Any = point | more
        found: list[str] = mounts.of_point(asked, recursive_read_only=able)["options"]
        return found

    assert options(True) == ["rbind", "rro", "rprivate"]
    assert options(False) == ["rbind", "ro", "rprivate"]
    assert options(True, ReadOnlyBelow=False, NonRecursive=True) == ["bind", "ro", "rprivate"]
    assert options(True, ReadOnlyBelow=True) == ["rbind", "rro", "rprivate"]
    with pytest.raises(InvalidParameter, match="rro is not supported"):
        options(False, ReadOnlyBelow=True)


def test_propagation_needs_its_like_on_the_host() -> None:
    point: Any = {"Type": "bind", "Source": "/s", "Destination": "/d", "RW": True, "Propagation": "rshared"}
    assert mounts.root_propagation([point], {"/s": ("shared", "/")}) == "shared"
    with pytest.raises(InvalidParameter, match="path /s is mounted on /m but it is not a shared mount"):
        mounts.root_propagation([point], {"/s": ("private", "/m")})
    assert mounts.root_propagation([point | {"Propagation": "slave"}], {"/s": ("slave", "/")}) == "rslave"
    assert mounts.root_propagation([point | {"Propagation": "rprivate"}], {}) == ""
    assert mounts.root_propagation([point], {"/s": (mounts.OURS, "/")}) == ""


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", True), ("/var", True), ("/var/lib/m", True), ("/var/lib/m/x", True), ("/var/lib/mm", False), ("/va", False)],
)
def test_what_holds_our_own_directories(path: str, expected: bool) -> None:
    assert mounts.touches(path, ["/var/lib/m"]) is expected


_LIMITS = {
    "Memory": 1 << 26,
    "MemorySwappiness": 10,
    "NanoCpus": 1_500_000_000,
    "CpusetCpus": "0",
    "PidsLimit": 5,
    "BlkioWeight": 10,
}


def test_limits_by_controller() -> None:
    assert resources.resources(_LIMITS, V1) == {
        "memory": {"limit": 1 << 26, "swappiness": 10},
        "cpu": {"period": 100_000, "quota": 150_000, "cpus": "0"},
        "blockIO": {"weight": 10},
        "pids": {"limit": 5},
    }
    on_v2 = resources.resources(_LIMITS, V2)
    assert on_v2["memory"] == {"limit": 1 << 26}, "v2 has no swappiness, and runc would refuse it"
    assert resources.resources(_LIMITS, BARE_V2) == {}, "a limit that nobody enforces must not fail the start"
    assert resources.resources({}, V1) == {}
    assert resources.pids({"PidsLimit": 0}) == resources.pids({"PidsLimit": -1}) == {"limit": -1}


@pytest.mark.parametrize(
    ("options", "attribute", "expected"),
    [
        (["no-new-privileges"], "no_new_privileges", True),
        (["no-new-privileges=false"], "no_new_privileges", False),
        (["no-new-privileges:true"], "no_new_privileges", True),
        (["seccomp=unconfined"], "seccomp", "unconfined"),
        (["seccomp:unconfined"], "seccomp", "unconfined"),
        (['seccomp={"a":"b=c"}'], "seccomp", '{"a":"b=c"}'),
        (["apparmor=mine"], "apparmor", "mine"),
        (["label=disable"], "labels", ["disable"]),
        (["writable-cgroups=true"], "writable_cgroups", True),
        ([], "writable_cgroups", None),
    ],
)
def test_security_options(options: list[str], attribute: str, expected: object) -> None:
    assert getattr(security.parse(options), attribute) == expected


@pytest.mark.parametrize(("option", "which"), [("nope", 1), ("nope=x", 2), ("no-new-privileges=maybe", 2)])
def test_bad_security_options(option: str, which: int) -> None:
    with pytest.raises(InvalidParameter) as caught:
        security.parse([option])
    assert caught.value.message == f'invalid --security-opt {which}: "{option}"'


def _allowed(profile: "dict[str, Any]") -> set[str]:
    return {n for r in profile["syscalls"] if r["action"] == seccomp.ALLOW and "args" not in r for n in r["names"]}


@pytest.mark.parametrize(
    ("capability", "call"),
    [("CAP_SYS_ADMIN", "mount"), ("CAP_SYS_TIME", "settimeofday"), ("CAP_BPF", "bpf"), ("CAP_SYS_CHROOT", "chroot")],
)
def test_capabilities_open_their_calls(capability: str, call: str) -> None:
    assert call not in _allowed(seccomp.default_profile("x86_64", (6, 1), []))
    assert call in _allowed(seccomp.default_profile("x86_64", (6, 1), [capability]))


def test_the_default_filter() -> None:
    profile = seccomp.default_profile("x86_64", (6, 1), [])
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert profile["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    calls = [name for rule in profile["syscalls"] for name in rule["names"]]
    assert not {"io_uring_setup", "keyctl", "add_key", "kexec_load", "userfaultfd", "unshare"} & set(calls)
    clone3 = [rule for rule in profile["syscalls"] if "clone3" in rule["names"]]
    assert clone3 == [{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]
    assert len(seccomp._ALWAYS) == len(set(seccomp._ALWAYS)), "a call is listed twice"
    sockets = [rule["args"][0] for rule in profile["syscalls"] if rule["names"] == ["socket"]]
    compare = {"LT": int.__lt__, "EQ": int.__eq__, "GT": int.__gt__}
    refused = [n for n in range(64) if not any(compare[a["op"][9:]](n, a["value"]) for a in sockets)]
    assert refused == [38, 40], "AF_ALG and AF_VSOCK"
    assert "swapcontext" in _allowed(seccomp.default_profile("ppc64le", (6, 1), []))
    assert "ptrace" not in _allowed(seccomp.default_profile("x86_64", (4, 7), []))
    on_s390 = [r for r in seccomp.default_profile("s390x", (6, 1), [])["syscalls"] if r["names"] == ["clone"]]
    assert on_s390[0]["args"][0]["index"] == 1, "its clone takes the flags second"


def test_a_profile_in_dockers_format() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"name": "write", "action": "SCMP_ACT_ALLOW"},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_CHOWN"]}},
            {"names": ["breakpoint"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.2"}},
            {"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_NE"}]},
        ],
    }
    made = seccomp.user_profile(profile, "x86_64", (6, 1), ["CAP_CHOWN"])
    assert [rule["names"] for rule in made["syscalls"]] == [["read"], ["write"], ["kill"]]
    assert made["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert "archMap" not in made
    with pytest.raises(InvalidParameter, match="both 'name' and 'names'"):
        seccomp.user_profile({"syscalls": [{"name": "a", "names": ["b"], "action": "x"}]}, "x86_64", (6, 1), [])
    with pytest.raises(InvalidParameter, match="both 'architectures' and 'archMap'"):
        seccomp.user_profile({**profile, "architectures": ["x"]}, "x86_64", (6, 1), [])


@pytest.mark.parametrize(
    ("stderr", "sentence"),
    [
        (
            'time="2026-01-01T00:00:00Z" level=error msg="runc create failed: exec: \\"x\\": gone"\n',
            'runc create failed: exec: "x": gone',
        ),
        ('{"level":"error","msg":"no such thing","time":"now"}\n', "no such thing"),
        ("warning: something\nrunc create failed: plain\n", "runc create failed: plain"),
        ("", ""),
    ],
)
def test_what_runc_complains_of(stderr: str, sentence: str) -> None:
    assert runc.last_sentence(stderr) == sentence


@pytest.mark.parametrize(
    ("reason", "kind", "code"),
    [
        ('exec: "nope": executable file not found in $PATH', StartRefused, 127),
        ('exec: "/nope": stat /nope: no such file or directory', StartRefused, 127),
        ('exec: "/etc": permission denied', StartRefused, 126),
        ("error mounting: not a directory", StartRefused, 127),
        ("cannot allocate memory", StartFailed, 128),
    ],
)
def test_failures_have_dockers_exit_codes(reason: str, kind: type, code: int) -> None:
    made = runc.failure(reason)
    assert type(made) is kind
    assert made.exit_code == code
    assert reason in made.message


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (b'{"data": 12}\n', (12, "")),
        (b'{"pid": 12}\n', (12, "")),
        (b'{"data": -1, "message": "runc create failed: \\"x\\"\\n"}\n', (-1, 'runc create failed: "x"\n')),
        (b"", (0, "")),
        (b"garbage", (0, "garbage")),
    ],
)
def test_conmons_report(report: bytes, expected: "tuple[int, str]") -> None:
    assert conmon.parse_report(report) == expected


@pytest.mark.parametrize(
    ("given", "parent", "expected"),
    [
        ({}, "", "/moorage/ID"),
        ({}, "/mine", "/mine/ID"),
        ({}, "mine/../../else", "/else/ID"),
        ({"MOORAGE_CGROUP_PARENT": "other"}, "", "/other/ID"),
        ({"MOORAGE_CGROUP_DRIVER": "systemd"}, "", "system.slice:moorage:ID"),
        ({"MOORAGE_CGROUP_DRIVER": "systemd"}, "my.slice", "my.slice:moorage:ID"),
    ],
)
def test_cgroup_paths(given: dict[str, str], parent: str, expected: str) -> None:
    settings = Settings({"MOORAGE_CGROUP_DRIVER": "cgroupfs", **given})
    assert facts.cgroup_path(settings, V2, "ID", parent) == expected


@pytest.mark.parametrize(
    ("release", "expected"), [("6.1.0-23-amd64", (6, 1)), ("5.10", (5, 10)), ("6.18-rc1", (6, 18))]
)
def test_kernel_versions(release: str, expected: "tuple[int, int]") -> None:
    assert facts.kernel_version(release) == expected


def test_a_line_of_the_mount_table() -> None:
    line = r"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
    entry = MountEntry(line)
    assert (entry.point, entry.kind, entry.slave, entry.shared) == ("/mnt 2", "ext3", True, False)
    assert MountEntry("36 35 98:0 / / rw - tmpfs none rw").fields == []


def test_limits_that_nobody_enforces_are_taken_back_with_a_warning() -> None:
    host: dict[str, Any] = {
        "Memory": 1 << 26, "MemorySwap": 1 << 27, "PidsLimit": 5, "CpuShares": 10, "CpusetCpus": "0",
        "OomKillDisable": False, "BlkioWeight": 100, "CpuQuota": 5000,
    }  # fmt: skip
    warnings = limits.discard_unsupported(host, frozenset())
    assert host == {
        "Memory": 0, "MemorySwap": -1, "PidsLimit": None, "CpuShares": 0, "CpusetCpus": "", "CpusetMems": "",
        "OomKillDisable": None, "BlkioWeight": 0, "CpuQuota": 0, "CpuPeriod": 0,
    }  # fmt: skip
    assert len(warnings) == 6
    assert warnings[0] == (
        "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded."
    )
    assert limits.discard_unsupported(host, frozenset()) == []
    with pytest.raises(InvalidParameter, match=r"^NanoCPUs can not be set"):
        limits.discard_unsupported({"NanoCpus": 1}, frozenset())
    everything = frozenset(limits._V1)
    untouched = {"Memory": 1 << 26, "MemorySwap": 1 << 27, "PidsLimit": 5, "BlkioWeight": 100, "OomKillDisable": True}
    asked = dict(untouched)
    assert limits.discard_unsupported(asked, everything) == []
    assert asked == untouched
    assert limits.supported(BARE_V2) == frozenset()
    assert {"memory", "pids", "cfs", "weight"} <= limits.supported(V2)


def test_counters_that_betray_other_tenants_are_masked(tmp_path: Path) -> None:
    for name in ("cpu10/thermal_throttle", "cpu2/thermal_throttle", "cpu3", "cpufreq/thermal_throttle"):
        (tmp_path / name).mkdir(parents=True)
    found = security.masked_paths(str(tmp_path))
    assert found[: len(security.MASKED_PATHS)] == list(security.MASKED_PATHS)
    assert found[len(security.MASKED_PATHS) :] == [f"{tmp_path}/cpu{n}/thermal_throttle" for n in (2, 10)]
