"""The service on this machine: installed, started, stopped, removed; under systemd where that is PID 1, else without.

Standard library only, and idempotent: each function brings about a state, whatever was before.
"""

import filecmp
import os
import shutil
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LINK = "/usr/local/lib/moorage"  # where the units look; a link to the clone
STATE, RUN = "/var/lib/moorage", "/run/moorage"
SOCKET = f"{RUN}/moorage.sock"
GROUP = "docker"
# The third one stands for the machine: stopping it stops the containers.
UNITS = ("moorage.socket", "moorage.service", "moorage-boot.service")
UNIT_FOLDER = "/etc/systemd/system"
SYSUSERS = "/etc/sysusers.d/moorage.conf"
LOG = "/var/log/moorage.log"  # without systemd; with it, the journal
ACTIVATOR_PID = f"{RUN}/activator.pid"
DOCKER_HOST = f"unix://{SOCKET}"


def under_systemd() -> bool:
    """Whether PID 1 is systemd (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def start() -> None:
    """Install what the machine needs to know, and listen. New code is used from the next request on."""
    _link()
    if under_systemd():
        _start_units()
    else:
        _start_activator()


def stop() -> bool:
    """Listen no more, and end the service process; containers go on. False when nothing was listening."""
    if under_systemd():
        was = subprocess.run(["systemctl", "is-active", "--quiet", "moorage.socket"], check=False).returncode == 0
        present = [unit for unit in UNITS[:2] if os.path.exists(f"{UNIT_FOLDER}/{unit}")]
        if present:
            subprocess.run(["systemctl", "stop", *present], check=True)
        return was
    pid = _activator()
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    while _is_activator(pid):
        time.sleep(0.05)
    return True


def remove() -> None:
    """Take away what `start` put outside the clone. The group stays: its members are the administrator's."""
    stop()
    if under_systemd():
        present = [unit for unit in UNITS if os.path.exists(f"{UNIT_FOLDER}/{unit}")]
        if present:
            subprocess.run(["systemctl", "disable", "--quiet", "--now", *present], check=True)
    for path in (*(f"{UNIT_FOLDER}/{unit}" for unit in UNITS), SYSUSERS, LOG, LINK):
        if os.path.lexists(path):
            os.unlink(path)
    if under_systemd():
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        subprocess.run(["systemctl", "reset-failed", *UNITS], check=False, capture_output=True)


def _link() -> None:
    if os.path.realpath(LINK) == ROOT:
        return
    os.makedirs(os.path.dirname(LINK), exist_ok=True)
    if os.path.lexists(LINK):
        if not os.path.islink(LINK):
            raise SystemExit(f"{LINK} is in the way: it is not a link")
        os.unlink(LINK)
    os.symlink(ROOT, LINK)


def _start_units() -> None:
    os.makedirs(os.path.dirname(SYSUSERS), exist_ok=True)
    changed = _copy(f"{ROOT}/systemd/moorage.sysusers.conf", SYSUSERS)
    subprocess.run(["systemd-sysusers", SYSUSERS], check=True)
    for unit in UNITS:
        changed |= _copy(f"{ROOT}/systemd/{unit}", f"{UNIT_FOLDER}/{unit}")
    if changed:
        subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "enable", "--quiet", "moorage.socket", "moorage-boot.service"], check=True)
    subprocess.run(["systemctl", "stop", "moorage.service"], check=True)
    subprocess.run(["systemctl", "start", "moorage-boot.service"], check=True)
    subprocess.run(["systemctl", "restart" if changed else "start", "moorage.socket"], check=True)


def _copy(source: str, target: str) -> bool:
    if os.path.exists(target) and filecmp.cmp(source, target, shallow=False):
        return False
    shutil.copyfile(source, target)
    return True


def _start_activator() -> None:
    if _activator() is not None:
        stop()
    os.makedirs(RUN, 0o711, exist_ok=True)
    subprocess.run(["groupadd", "--force", "--system", GROUP], check=True)
    python = f"{LINK}/.venv/bin/python"
    subprocess.run([f"{LINK}/.venv/bin/python", "-I", "-S", f"{LINK}/service/boot.py"], check=True)
    service = [python, "-I", "-S", f"{LINK}/service/__main__.py"]
    stale = _inode(SOCKET)  # of an activator that was killed: the new one puts its own socket in that place
    with open(LOG, "ab") as log:
        started = subprocess.Popen(
            ["/usr/bin/python3", "-I", "-S", f"{LINK}/service/activator.py", "--group", GROUP, SOCKET, *service],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    with open(ACTIVATOR_PID, "w", encoding="ascii") as file:
        file.write(f"{started.pid}\n")
    while _inode(SOCKET) in (0, stale):
        if started.poll() is not None:
            raise SystemExit(f"nothing listens on {SOCKET}: see {LOG}")
        time.sleep(0.02)


def _inode(path: str) -> int:
    """0 where there is nothing."""
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0


def _activator() -> int | None:
    """The pid of the running activator."""
    try:
        with open(ACTIVATOR_PID, encoding="ascii") as file:
            pid = int(file.read())
    except (FileNotFoundError, ValueError):
        return None
    return pid if _is_activator(pid) else None


def _is_activator(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"/service/activator.py" in file.read()
    except (FileNotFoundError, ProcessLookupError):
        return False


def say(text: str) -> None:
    """One line to whoever ran make."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
