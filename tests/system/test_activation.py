"""The socket belongs to systemd, the process to whoever asks: real units under a real systemd."""

import os
import stat
import time

from tests.support.machine import Machine

SOCKET, SERVICE = "moorage.socket", "moorage.service"


def test_socket_is_for_root_and_the_docker_group(machine: Machine) -> None:
    about = os.stat(machine.path("/run/moorage/moorage.sock"))
    assert stat.S_ISSOCK(about.st_mode)
    assert stat.S_IMODE(about.st_mode) == 0o660
    assert about.st_uid == 0
    with open(machine.path("/etc/group"), encoding="ascii") as file:
        groups = {line.split(":")[0]: int(line.split(":")[2]) for line in file}
    assert about.st_gid == groups["docker"]


def test_process_comes_with_a_client_and_leaves_when_idle(machine: Machine) -> None:
    machine.until_state(SERVICE, "inactive")
    assert machine.state(SOCKET) == "active"
    pids = []
    for _ in range(2):
        assert machine.docker("version", "--format", "{{.Server.APIVersion}}").stdout.strip() == "1.55"
        assert machine.state(SERVICE) == "active"
        pids.append(machine.show(SERVICE, "MainPID"))
        machine.until_state(SERVICE, "inactive")
        assert machine.show(SERVICE, "Result") == "success"
        assert machine.state(SOCKET) == "active"
    assert pids[0] != pids[1]


def test_nothing_runs_when_idle(machine: Machine) -> None:
    machine.until_state(SERVICE, "inactive")
    running = machine.enter("ps", "-eo", "args=").stdout
    assert "moorage" not in running


def test_service_that_cannot_start_does_not_circle_for_ever(machine: Machine) -> None:
    machine.until_state(SERVICE, "inactive")
    machine.write("/run/systemd/system/moorage.service.d/broken.conf", "[Service]\nExecStart=\nExecStart=/bin/false\n")
    try:
        machine.enter("systemctl", "daemon-reload")
        machine.docker("version", check=False)
        machine.until_state(SOCKET, "failed", 30)
    finally:
        machine.remove("/run/systemd/system/moorage.service.d/broken.conf")
        machine.enter("systemctl", "daemon-reload")
        machine.enter("systemctl", "reset-failed", SOCKET, SERVICE)
    end = time.monotonic() + 20  # systemd remembers the triggers of the last ten seconds, whatever is reset
    while machine.docker("version", check=False).returncode:
        assert time.monotonic() < end, machine.journal()
        machine.enter("systemctl", "reset-failed", SOCKET, SERVICE)
        machine.enter("systemctl", "start", SOCKET)
        time.sleep(1)
