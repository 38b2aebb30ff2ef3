"""A kernel of one's own, without hardware to virtualise: user-mode Linux, booted in two seconds from this host's root.

    ran = user_mode_linux.run(["python", "-m", "pytest", "tests/clients/test_cgroup2.py"], out="/tmp/out", seconds=300)

It is an ordinary program (Debian's package user-mode-linux), unpacked below `.make/tools`. It sees this host's files by
hostfs, read-only: nothing that happens in it reaches the host, but for the files that it leaves in the folder `out`.
What it has that many hosts of tests have not: a pure cgroup v2 tree with controllers (cpu, io, memory, pids), project
quotas on ext4 and XFS, NFS, and a kernel of Debian's. What it has not: a way out, nftables that a container's network
could stand on, the controller cpuset, more than one CPU.
"""

import glob
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence

from tests.support.instance import ROOT

_TOOLS = f"{ROOT}/.make/tools"
_MODULES = ("overlay",)  # and what it needs
_MEMORY = "1G"
_BOOT_SECONDS = 60.0

# PID 1. The project comes along under its own path, even from below /tmp; what is said goes to the console.
_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
ln -sf /proc/self/fd/0 /dev/stdin
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mkdir /dev/shm/project /dev/shm/out
mount --bind {root} /dev/shm/project
# since Linux 6.7 the folder is an option with a name
mount -t hostfs -o {out} out /dev/shm/out 2>/dev/null || mount -t hostfs -o hostfs={out} out /dev/shm/out
for folder in /run /tmp /var/tmp; do mount -t tmpfs tmpfs "$folder"; done
mkdir -p {root}
mount --bind /dev/shm/project {root}
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
for module in {modules}; do busybox insmod "$module"; done
cd {root}
{command} >/dev/shm/out/output 2>&1 </dev/null
echo $? >/dev/shm/out/code
busybox poweroff -f
"""


class NotHere(Exception):  # noqa: N818 - it is no error: the tests are skipped
    """User-mode Linux cannot run on this machine; the text says why."""


def program() -> str:
    """The kernel's path. Raises NotHere when it was not unpacked."""
    found = shutil.which("linux.uml") or f"{_TOOLS}/usr/bin/linux.uml"
    if not os.path.exists(found):
        raise NotHere("user-mode-linux is not unpacked (make test does it, where Debian has it)")
    if os.geteuid():
        raise NotHere("needs root: what it runs is to see this host's files as root does")
    return found


def _with_needed(names: Sequence[str]) -> list[str]:
    """The files of kernel modules and of those that they need, in the order in which they are loaded. What this kernel
    has built in, or not at all, is left out."""
    below = f"{os.path.dirname(os.path.dirname(os.path.realpath(program())))}/lib/uml/modules"
    needed: dict[str, list[str]] = {}
    for tables in glob.glob(f"{below}/*/modules.dep"):
        with open(tables, encoding="ascii") as file:
            for line in file:
                path, _, others = line.partition(":")
                paths = [f"{os.path.dirname(tables)}/{one}" for one in (*reversed(others.split()), path)]
                needed[os.path.basename(path).partition(".")[0]] = paths
    return list(dict.fromkeys(path for name in names for path in needed.get(name, ())))


def boot() -> None:
    """Boot once, and do nothing. Raises NotHere with the last lines of its console when that fails."""
    try:
        code, console = _run(["init=/bin/true", "panic=-1"], _BOOT_SECONDS)  # PID 1 ends: the kernel panics, and ends
    except AssertionError as error:
        raise NotHere(f"user-mode Linux does not boot here: {error}") from error
    if "Kernel panic" not in console or "init" not in console:
        raise NotHere(f"user-mode Linux does not boot here ({code}): {console[-400:]}")


def run(
    command: Sequence[str],
    *,
    out: str,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    modules: Sequence[str] = (),
) -> "subprocess.CompletedProcess[str]":
    """Run a command as root in a kernel that is booted for it, in the project's folder, and end that kernel.

    `out`: an empty folder of the host's, in which the command may leave files: it finds it as /dev/shm/out. `modules`:
    names of those that it needs beside `_MODULES`. Raises NotHere where no kernel boots, AssertionError when it did
    not end within `seconds` (then it is killed).
    """
    os.makedirs(out, exist_ok=True)
    init = f"{out}/init"
    modules = _with_needed((*_MODULES, *modules))
    words = ["env", "-i", *(f"{name}={value}" for name, value in (environment or {}).items()), *command]
    with open(init, "w", encoding="utf-8") as file:
        file.write(
            _INIT.format(
                root=shlex.quote(ROOT),
                out=shlex.quote(os.path.realpath(out)),
                modules=shlex.join(modules),
                command=shlex.join(words),
            )
        )
    os.chmod(init, 0o755)
    try:
        _, console = _run([f"init={init}"], seconds)
    except AssertionError:
        if not os.path.exists(f"{out}/output"):
            boot()
        raise
    try:
        with open(f"{out}/code", encoding="ascii") as file:
            code = int(file.read())
        with open(f"{out}/output", encoding="utf-8", errors="replace") as file:
            said = file.read()
    except FileNotFoundError:
        boot()  # says why, if it is the kernel
        raise AssertionError(f"the command was not run:\n{console}") from None
    return subprocess.CompletedProcess(words, code, said, console)


def _run(arguments: Sequence[str], seconds: float) -> tuple[int, str]:
    """The exit code and the console of a kernel. It is a group of processes of this host, and killed as one."""
    own = tempfile.TemporaryDirectory(prefix="moorage-uml-")
    started = subprocess.Popen(
        [
            *(
                program(),
                f"uml_dir={own.name}",
                "root=/dev/root",
                "rootfstype=hostfs",
                "rootflags=/",
                "ro",
                f"mem={_MEMORY}",
                "quiet",
            ),
            *("con=null", "con0=null,fd:1", "ssl=null", *arguments),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = started.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        said, _ = started.communicate()
        raise AssertionError(f"it did not end within {seconds:.0f} s:\n{said.decode(errors='replace')}") from None
    finally:
        try:
            os.killpg(started.pid, signal.SIGKILL)  # what a kernel that died has left of its processes
        except ProcessLookupError:
            pass
        own.cleanup()
    return started.returncode, said.decode("utf-8", "replace")
