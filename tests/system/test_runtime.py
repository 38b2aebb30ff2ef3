"""The runtime's own tests inside a machine with systemd and cgroup v2: there, systemd makes the control groups."""

from tests.support.machine import PROJECT, Machine

_PYTEST = f"{PROJECT}/.venv/bin/python -m pytest -q -p no:cacheprovider --basetemp /var/tmp/runtime"


def test_containers_run_in_systemds_control_groups(machine: Machine) -> None:
    said = machine.run("/bin/sh", "-c", f"{_PYTEST} tests/service/runtime/test_chain.py 2>&1")
    assert " passed" in said
    said = machine.run("/bin/sh", "-c", f"{_PYTEST} tests/service/runtime/test_isolation.py 2>&1")
    assert " passed" in said
