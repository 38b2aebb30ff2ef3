"""What `make uninstall` takes away."""

import os

from tests.support.machine import Machine


def test_nothing_outside_the_clone_remains(machine: Machine) -> None:
    machine.docker("run", "-d", "--name", "left", "busybox", "sleep", "1000")
    said = machine.run("/usr/bin/python3", "-m", "install.uninstall", "--purge")
    assert "stopping left" in said
    for path in (
        *("/run/moorage", "/var/lib/moorage", "/usr/local/lib/moorage", "/etc/sysusers.d/moorage.conf"),
        *(f"/etc/systemd/system/{unit}" for unit in ("moorage.socket", "moorage.service", "moorage-boot.service")),
        *("/etc/systemd/system/sockets.target.wants/moorage.socket", "/sys/class/net/moorage0"),
    ):
        assert not os.path.lexists(machine.path(path)), path
    assert "moorage" not in machine.enter("systemctl", "list-unit-files").stdout
    targets = [line.split()[4] for line in machine.enter("cat", "/proc/self/mountinfo").stdout.splitlines()]
    assert not [target for target in targets if target.startswith(("/run/moorage", "/var/lib/moorage"))]
    assert "moorage" not in machine.enter("nft", "list", "tables").stdout
    assert "conmon" not in machine.enter("ps", "-eo", "args=").stdout
