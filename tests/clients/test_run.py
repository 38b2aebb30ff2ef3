"""`docker run` with each flag that the first slice promises, through the real CLI: what a user would notice."""

import json
import os
from pathlib import Path

import pytest

from tests.support.instance import Instance


def run(moorage: Instance, *arguments: str, stdin: str | None = None) -> str:
    return moorage.docker("run", "--rm", *arguments, stdin=stdin).stdout


def test_in_the_foreground(moorage: Instance) -> None:
    done = moorage.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_detached_and_named(moorage: Instance) -> None:
    container = moorage.docker("run", "-d", "--name", "named", "busybox", "sleep", "60").stdout.strip()
    assert len(container) == 64
    assert moorage.docker("ps", "--format", "{{.Names}} {{.State}}").stdout.split() == ["named", "running"]
    taken = moorage.docker("run", "-d", "--name", "named", "busybox", check=False)
    assert taken.returncode == 125
    assert f'The container name "/named" is already in use by container "{container}"' in taken.stderr
    moorage.docker("rm", "-f", "named")
    assert moorage.docker("ps", "-aq").stdout == ""


def test_stdin(moorage: Instance) -> None:
    assert run(moorage, "-i", "busybox", "cat", stdin="a\nb") == "a\nb"


def test_a_terminal(moorage: Instance) -> None:
    assert run(moorage, "-t", "busybox", "tty") == "/dev/pts/0\r\n"
    assert run(moorage, "busybox", "sh", "-c", "tty || true") == "not a tty\n"


def test_environment_workdir_and_user(moorage: Instance) -> None:
    told = run(moorage, "-e", "A=1", "-e", "B=x y", "-w", "/tmp/new", "-u", "1234:56", "busybox", "sh", "-c",
               "echo $A $B; pwd; id -u; id -g")  # fmt: skip
    assert told.splitlines() == ["1 x y", "/tmp/new", "1234", "56"]
    unknown = moorage.docker("run", "--rm", "-u", "nobodyhere", "busybox", "true", check=False)
    assert "unable to find user nobodyhere: no matching entries in passwd file" in unknown.stderr


def test_a_directory_of_the_host(moorage: Instance, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("from the host")
    assert run(
        moorage, "-v", f"{tmp_path}:/data", "busybox", "sh", "-c", "cat /data/given; echo back > /data/made"
    ) == ("from the host")
    assert (tmp_path / "made").read_text() == "back\n"
    refused = moorage.docker("run", "--rm", "-v", f"{tmp_path}:/data:ro", "busybox", "touch", "/data/x", check=False)
    assert refused.returncode == 1
    assert "Read-only file system" in refused.stderr
    assert not (tmp_path / "x").exists()


def test_a_named_volume_keeps_what_is_written(moorage: Instance) -> None:
    run(moorage, "-v", "kept:/data", "busybox", "sh", "-c", "echo kept > /data/file")
    assert run(moorage, "-v", "kept:/other", "busybox", "cat", "/other/file") == "kept\n"
    assert moorage.docker("volume", "ls", "-q").stdout.split() == ["kept"]
    moorage.docker("volume", "rm", "kept")


def test_an_anonymous_volume_goes_with_its_container(moorage: Instance) -> None:
    run(moorage, "-v", "/data", "busybox", "touch", "/data/x")
    assert moorage.docker("volume", "ls", "-q").stdout == ""


def test_a_volume_begins_with_what_the_image_has_there(moorage: Instance) -> None:
    assert "busybox" in run(moorage, "-v", "copied:/bin", "busybox", "ls", "/bin")
    assert run(moorage, "-v", "copied:/seen:ro", "busybox", "ls", "/seen/busybox") == "/seen/busybox\n"
    moorage.docker("volume", "rm", "copied")


@pytest.mark.parametrize(("network", "interfaces"), [("bridge", {"lo", "eth0"}), ("none", {"lo"})])
def test_networks(moorage: Instance, network: str, interfaces: set[str]) -> None:
    # `ip tunnel` devices that some kernels put into every new namespace are no business of ours
    seen = set(run(moorage, "--network", network, "busybox", "ls", "/sys/class/net").split())
    assert {name for name in seen if name == "lo" or name.startswith("eth")} == interfaces


def test_the_host_s_network(moorage: Instance) -> None:
    inside = run(moorage, "--network", "host", "busybox", "readlink", "/proc/self/ns/net").strip()
    assert inside == os.readlink("/proc/self/ns/net")


def test_entrypoint_hostname_labels(moorage: Instance) -> None:
    assert run(moorage, "--entrypoint", "echo", "busybox", "said") == "said\n"
    assert run(moorage, "--hostname", "harbour", "busybox", "hostname") == "harbour\n"
    container = moorage.docker("create", "--label", "a=b", "busybox").stdout.strip()
    assert moorage.docker("ps", "-aq", "--no-trunc", "--filter", "label=a=b").stdout.split() == [container]
    assert moorage.docker("ps", "-aq", "--filter", "label=a=c").stdout == ""
    moorage.docker("rm", container)


@pytest.mark.usefixtures("limits_enforced")
def test_limits_are_enforced(moorage: Instance) -> None:
    container = moorage.docker(
        "run", "-d", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "20", "busybox", "sleep", "60"
    ).stdout.strip()
    host = json.loads(moorage.docker("inspect", container).stdout)[0]["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 500_000_000, 20)
    forked = moorage.docker("exec", container, "sh", "-c", "for i in $(seq 40); do sleep 5 & done", check=False)
    assert "can't fork" in forked.stderr
    moorage.docker("rm", "-f", container)


def test_capabilities(moorage: Instance) -> None:
    def effective(*flags: str) -> int:
        return int(run(moorage, *flags, "busybox", "grep", "CapEff", "/proc/self/status").split()[1], 16)

    assert effective() == 0xA80425FB  # Docker's default set
    assert effective("--cap-drop", "ALL") == 0
    assert effective("--cap-drop", "ALL", "--cap-add", "NET_ADMIN") == 1 << 12
    assert effective("--privileged") & 1 << 21, "CAP_SYS_ADMIN"


def test_read_only_with_a_tmpfs(moorage: Instance) -> None:
    told = run(moorage, "--read-only", "--tmpfs", "/scratch:size=1m", "busybox", "sh", "-c",
               "touch /x 2>&1; touch /scratch/x && grep ' /scratch ' /proc/mounts")  # fmt: skip
    assert "Read-only file system" in told
    assert "size=1024k" in told


def test_proc_is_masked_unless_privileged(moorage: Instance) -> None:
    assert run(moorage, "busybox", "sh", "-c", "wc -c < /proc/keys") == "0\n"
    refused = moorage.docker("run", "--rm", "busybox", "sh", "-c", "echo 1 > /proc/sys/kernel/printk", check=False)
    assert "Read-only file system" in refused.stderr


def test_an_init_reaps(moorage: Instance) -> None:
    assert "docker-init" in run(moorage, "--init", "busybox", "cat", "/proc/1/cmdline").replace("\0", " ")


@pytest.mark.parametrize(("command", "code"), [("/nope", 127), ("/etc", 126)])
def test_a_command_that_cannot_run(moorage: Instance, command: str, code: int) -> None:
    done = moorage.docker("run", "--rm", "busybox", command, check=False)
    assert done.returncode == code
    assert "OCI runtime create failed" in done.stderr
    assert moorage.docker("ps", "-aq").stdout == ""


def test_an_image_that_is_not_there(moorage: Instance) -> None:
    done = moorage.docker("run", "--rm", "--pull", "never", "nosuchimage", check=False)
    assert done.returncode == 125
    assert "No such image: nosuchimage:latest" in done.stderr
