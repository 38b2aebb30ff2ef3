"""Where a line goes: to stderr, and to the system's log where stderr leads nowhere."""

import os
import socket
from pathlib import Path

import pytest

from service import journal


def test_a_line_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    journal.write("error", "one\ntwo")
    assert capfd.readouterr().err == "moorage: error: one two\n"


def test_what_has_no_stderr_tells_the_systems_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(f"{tmp_path}/log")
        monkeypatch.setattr(journal, "_SYSLOG", f"{tmp_path}/log")
        kept, nowhere = os.dup(2), os.open("/dev/null", os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            try:
                raise ValueError("what happened")
            except ValueError as error:
                journal.failure("keeper", error)
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)
        log.settimeout(10)
        said = log.recv(4096).decode()
    assert said.startswith(f"<27>moorage[{os.getpid()}]: keeper: ValueError: what happened ({__file__}:")
    assert capfd.readouterr().err == ""
