"""A machine for each module of system tests, with moorage installed in it as `make run` installs it."""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.support import image
from tests.support.machine import Machine

IDLE_SECONDS = 2


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A booted machine: units installed and enabled, the socket listening, `busybox:latest` loaded."""
    if os.geteuid():
        pytest.skip("needs root: it boots a machine")
    assert shutil.which("systemd-nspawn"), "systemd-container is not installed (make test installs it)"
    with Machine() as booted:
        booted.write("/etc/default/moorage", f"MOORAGE_IDLE_SECONDS={IDLE_SECONDS}\nMOORAGE_LOG_LEVEL=debug\n")
        booted.run("/usr/bin/python3", "-c", "__import__('install.service').service.start()")
        booted.docker("load", "-q", "-i", image.busybox())
        yield booted
