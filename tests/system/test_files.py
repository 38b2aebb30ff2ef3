"""cp, export and diff where systemd has made every mount shared: what is mounted for them goes nowhere else."""

import tarfile
from pathlib import Path

from tests.support.machine import Machine


def mounts(machine: Machine) -> str:
    return machine.run("findmnt", "-rno", "TARGET,PROPAGATION")


def test_files_go_in_and_out_and_no_mount_is_left(machine: Machine, tmp_path: Path) -> None:
    made = machine.docker("create", "-v", "kept:/vol", "busybox", "sleep", "1000").stdout.strip()
    before = mounts(machine)
    assert "/ shared" in before
    (tmp_path / "note").write_text("from outside\n")
    for state in ("created", "running"):
        if state == "running":
            machine.docker("start", made)
            before = mounts(machine)
        machine.docker("cp", f"{tmp_path}/note", f"{made}:/vol/{state}")
        machine.docker("cp", f"{tmp_path}/note", f"{made}:/root/{state}")
        machine.docker("cp", f"{made}:/vol/{state}", f"{tmp_path}/back")
        assert (tmp_path / "back").read_text() == "from outside\n"
        machine.docker("export", "-o", f"{tmp_path}/whole.tar", made)
        with tarfile.open(tmp_path / "whole.tar") as whole:
            listed = whole.getnames()
        assert f"root/{state}" in listed
        assert f"vol/{state}" not in listed
        assert f"A /root/{state}" in machine.docker("diff", made).stdout.splitlines()
        assert mounts(machine) == before
    assert machine.docker("exec", made, "cat", "/vol/created", "/root/running").stdout == "from outside\n" * 2
    machine.docker("rm", "-fv", made)
    machine.docker("volume", "rm", "kept")
