"""The stand-in for a socket unit. The command it starts here is the test's own program: it answers with its pid."""

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import pytest

from tests.support.instance import ACTIVATOR, children_of

ANSWER_ONE = """
import os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid()) and os.environ["LISTEN_FDS"] == "1"
listener = socket.socket(fileno=3)
listener.setblocking(True)
client, _ = listener.accept()
client.sendall(b"%d" % os.getpid())
"""


class Activator:
    """One activator on a socket in a folder of its own."""

    def __init__(self, folder: str, program: str, *options: str) -> None:
        self.socket, self.log = f"{folder}/socket", f"{folder}/log"
        before = os.stat(self.socket).st_ino if os.path.exists(self.socket) else 0  # one left by a killed activator
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*ACTIVATOR, *options, self.socket, sys.executable, "-c", program], stderr=log
            )
        end = time.monotonic() + 30
        while not os.path.exists(self.socket) or os.stat(self.socket).st_ino == before:
            assert time.monotonic() < end, "nothing listens"
            time.sleep(0.01)
        assert stat.S_IMODE(os.stat(self.socket).st_mode) == 0o660

    def ask(self) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(self.socket)
            return client.recv(100)

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture
def folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="mta", dir="/tmp") as made:
        yield made


def test_each_client_gets_a_process_and_none_is_lost(folder: str) -> None:
    activator = Activator(folder, ANSWER_ONE)
    try:
        assert not children_of(activator.process.pid)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        for client in waiting:
            client.settimeout(20)
            client.connect(activator.socket)
        answers = {client.recv(100) for client in waiting}
        assert len(answers) == 20
    finally:
        assert activator.end() == 0
    assert not os.path.exists(activator.socket)


def test_ending_it_ends_the_service_first(folder: str) -> None:
    activator = Activator(folder, "import time; time.sleep(60)")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(activator.socket)
        end = time.monotonic() + 30
        while not (services := children_of(activator.process.pid)):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert activator.end() == 0
    assert not os.path.exists(f"/proc/{services[0]}")


def test_a_service_that_fails_is_not_started_in_a_circle(folder: str) -> None:
    activator = Activator(folder, "raise SystemExit(3)")

    def started() -> int:
        with open(activator.log, encoding="utf-8") as log:
            return log.read().count("activator: started")

    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(activator.socket)
            end = time.monotonic() + 60
            while started() < 2:
                assert time.monotonic() < end, "it is not tried again"
                time.sleep(0.02)
            time.sleep(1.5)  # in a circle, it would be hundreds by then
    finally:
        activator.end()
    assert started() <= 5


def test_socket_of_a_killed_activator_is_taken_over_and_a_live_one_is_not(folder: str) -> None:
    killed = Activator(folder, ANSWER_ONE)
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait()
    assert os.path.exists(killed.socket)
    activator = Activator(folder, ANSWER_ONE)
    try:
        assert activator.ask()
        second = subprocess.run([*ACTIVATOR, activator.socket, "/bin/true"], capture_output=True, check=False)
        assert second.returncode == 1
        assert b"Address already in use" in second.stderr
        assert activator.ask()
    finally:
        activator.end()


def test_wrong_calls_are_told_the_usage() -> None:
    done = subprocess.run(ACTIVATOR, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"usage:" in done.stderr
