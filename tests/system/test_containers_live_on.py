"""Whatever happens to the service, containers go on; after a reboot they come back by their restart policy."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support import tools
from tests.support.machine import Machine
from tests.support.wire import Wire, request

SERVICE = "moorage.service"
PROBE = ("--health-cmd", "echo >>/looked", "--health-interval", "300ms")
TICKING = "i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.2; done"


@pytest.fixture
def ticking(machine: Machine) -> Iterator[str]:
    """A running container that writes a line five times a second; its id."""
    made = machine.docker("run", "-d", "busybox", "sh", "-c", TICKING).stdout.strip()
    yield made
    machine.docker("rm", "-f", made)


def stop(machine: Machine) -> None:
    machine.run("systemctl", "stop", SERVICE)


def restart(machine: Machine) -> None:
    machine.docker("version")
    machine.run("systemctl", "restart", SERVICE)


def kill(machine: Machine) -> None:
    machine.docker("version")
    machine.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", SERVICE)
    machine.until_state(SERVICE, "failed")


def idle(machine: Machine) -> None:
    machine.until_state(SERVICE, "inactive")


def reinstall(machine: Machine) -> None:
    machine.run("systemctl", "stop", "moorage.socket", SERVICE)
    machine.run("/usr/bin/python3", "-c", "__import__('install.service').service.start()")


@pytest.mark.parametrize("happens", [stop, restart, kill, idle, reinstall])
def test_container_survives(machine: Machine, ticking: str, happens: Callable[[Machine], None]) -> None:
    before = machine.docker("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", ticking).stdout
    happens(machine)
    seen = len(machine.docker("logs", ticking).stdout.splitlines())
    time.sleep(1)
    assert len(machine.docker("logs", ticking).stdout.splitlines()) > seen
    assert machine.docker("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", ticking).stdout == before
    assert machine.docker("exec", ticking, "echo", "here").stdout == "here\n"


def test_exit_is_recorded_while_the_service_sleeps(machine: Machine) -> None:
    name = machine.docker("run", "-d", "busybox", "sh", "-c", "sleep 4; exit 7").stdout.strip()
    try:
        machine.until_state(SERVICE, "inactive")
        time.sleep(5)
        assert machine.state(SERVICE) == "inactive"
        assert machine.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name).stdout == "exited 7\n"
        assert machine.docker("wait", name).stdout == "7\n"
    finally:
        machine.docker("rm", "-f", name)


def test_health_checks_go_on_while_the_service_is_stopped(machine: Machine) -> None:
    made = machine.docker("run", "-d", *PROBE, "busybox", "sleep", "1000").stdout.strip()
    try:
        written = machine.docker("inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", made).stdout.strip()
        machine.run("systemctl", "stop", SERVICE)
        looked = machine.path(f"{written}/looked")
        before, end = _lines(looked), time.monotonic() + 30
        while _lines(looked) < before + 3:
            assert time.monotonic() < end, "no probe ran"
            time.sleep(0.1)
        assert machine.state(SERVICE) == "inactive"
        assert "(healthy)" in machine.docker("ps", "--format", "{{.Status}}").stdout
    finally:
        machine.docker("rm", "-f", made)


def _lines(path: str) -> int:
    try:
        with open(path, encoding="utf-8") as file:
            return len(file.readlines())
    except FileNotFoundError:
        return 0


def test_reboot_starts_containers_by_their_restart_policy(machine: Machine) -> None:
    made = {}
    for name, policy in (
        ("always", "always"),
        ("stopped", "unless-stopped"),
        ("never", "no"),
        ("unless", "unless-stopped"),
    ):
        made[name] = machine.docker(
            "run", "-d", "--name", name, f"--restart={policy}", *PROBE, "busybox", "sh", "-c", TICKING
        ).stdout.strip()
    try:
        machine.docker("stop", "-t", "0", "stopped")
        machine.reboot()
        machine.until_state("moorage-boot.service", "active")
        assert machine.state(SERVICE) == "inactive"
        listed = machine.docker("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}").stdout.splitlines()
        states = dict(line.split() for line in listed)
        assert {name: states[made[name]] for name in made} == {
            "always": "running",
            "unless": "running",
            "stopped": "exited",
            "never": "exited",
        }
        assert machine.docker("exec", "always", "echo", "here").stdout == "here\n"
        end = time.monotonic() + 30
        while "(healthy)" not in machine.docker("ps", "--filter", "name=always", "--format", "{{.Status}}").stdout:
            assert time.monotonic() < end, "nobody probes it since the boot"
            time.sleep(0.1)
    finally:
        machine.docker("rm", "-f", *made)


def test_a_build_does_not_hold_up_a_shutdown(machine: Machine) -> None:
    """Its step would not listen to SIGTERM; nobody would notice what is left of it, but for the 90 s of systemd."""
    program = tools.buildx()
    if program is None:
        pytest.skip("no docker buildx here")
    os.makedirs(f"{machine.folder}/docker/cli-plugins", exist_ok=True)
    os.symlink(program, f"{machine.folder}/docker/cli-plugins/docker-buildx")
    dockerfile = b"FROM busybox\nRUN trap '' TERM; echo begun; while :; do sleep 1; done\n"
    command = ["docker", "buildx", "build", "--progress=plain", "-"]
    with subprocess.Popen(
        command, env=machine.client_environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as build:
        assert build.stdin
        assert build.stdout
        build.stdin.write(dockerfile)
        build.stdin.close()
        assert any(line.endswith(b" begun\n") for line in build.stdout), "the step did not begin"
        threading.Thread(target=build.stdout.read, daemon=True).start()
        begun = time.monotonic()
        machine.power_off()
        took = time.monotonic() - begun
    assert took < 20, "systemd waited for the step"
    machine.boot()
    assert machine.docker("ps", "-aq").stdout == ""
    assert os.listdir(machine.path("/var/lib/moorage/containers")) == [], "nobody would ever see it"


def test_statistics_without_controllers(machine: Machine, ticking: str) -> None:
    """A pure v2 tree counts CPU time always; what its controllers would count is zero, and no error."""
    form = "{{.ID}} {{.Name}} {{.CPUPerc}} {{.MemPerc}} {{.NetIO}} {{.BlockIO}}"
    said = machine.docker("stats", "--no-stream", "--no-trunc", "--format", form).stdout
    assert said.split()[0] == ticking
    with Wire(machine.path("/run/moorage/moorage.sock"), 30) as wire:
        wire.send(request(f"GET /containers/{ticking}/stats?stream=0"))
        document = wire.answer().json
    before, now = (document[name]["cpu_usage"]["total_usage"] for name in ("precpu_stats", "cpu_stats"))
    assert 0 < before < now
    assert "inactive_file" in document["memory_stats"]["stats"]
    assert document["blkio_stats"]["io_serviced_recursive"] is None
    assert document["networks"]["eth0"]["rx_bytes"] >= 0
