"""The log driver journald, with a journal that runs."""

import subprocess

from tests.support.machine import Machine

SERVICE = "moorage.service"
SCRIPT = "echo one; echo err >&2; sleep 1; echo two; head -c 20000 /dev/zero | tr '\\0' x; echo; printf end"
WHOLE = "one\ntwo\n" + "x" * 20000 + "\nend"


def test_output_goes_to_the_journal_and_is_read_back(machine: Machine) -> None:
    options = ("--log-driver", "journald", "--log-opt", "tag=t/{{.Name}}", "--log-opt", "labels=a.b")
    machine.docker("run", "-d", "--name", "told", "--label", "a.b=v w", *options, "busybox", "sh", "-c", SCRIPT)
    try:
        followed = machine.docker("logs", "-f", "told")  # from the middle of it to its end
        assert (followed.stdout, followed.stderr) == (WHOLE, "err\n")
        assert machine.docker("logs", "told").stdout == WHOLE
        assert machine.docker("logs", "--tail", "1", "told").stdout == "end"
        assert machine.docker("logs", "--tail", "0", "told").stdout == ""
        assert machine.docker("logs", "--until", "1h", "told").stdout == ""
        lines = machine.docker("logs", "--timestamps", "--details", "told").stdout.splitlines()
        stamp, attributes, text = lines[1].split(" ")
        assert (attributes, text) == ("A_B=v+w", "two")
        assert machine.docker("logs", "--since", stamp, "told").stdout == WHOLE.removeprefix("one\n")
        entry = machine.run("journalctl", "-o", "cat", "SYSLOG_IDENTIFIER=t/told", "CONTAINER_NAME=told", "PRIORITY=3")
        assert entry == "err"

        # again, followed from where it ends, by a process that was not there before
        machine.until_state(SERVICE, "inactive")
        machine.docker("start", "told")
        new = machine.docker("logs", "-f", "--tail", "0", "told").stdout
        assert WHOLE.endswith(new)
        assert new.endswith("x\nend")
        assert machine.docker("logs", "told").stdout == WHOLE + WHOLE
    finally:
        machine.docker("rm", "-f", "told")


def test_a_journal_that_is_not_there(machine: Machine) -> None:
    units = ("systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald-audit.socket")
    machine.docker("create", "--name", "untold", "--log-driver", "journald", "busybox", "true")
    machine.enter("systemctl", "stop", *units, "systemd-journald.service")
    try:
        failed: subprocess.CompletedProcess[str] = machine.docker("start", "untold", check=False)
        assert "failed to initialize logging driver: journald is not enabled on this host" in failed.stderr
        assert "journald is not enabled on this host" in machine.docker("logs", "untold", check=False).stderr
    finally:
        machine.enter("systemctl", "start", "systemd-journald.service", *units)
        machine.docker("rm", "-f", "untold")
