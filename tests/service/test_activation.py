"""Sockets of our own: who may use them, and what happens to what is in the way."""

import grp
import os
import socket
import stat
import subprocess

import pytest

from service import activation
from service.errors import SystemFailure
from tests.support.wire import PRODUCT


@pytest.fixture
def path(tmp_path: "os.PathLike[str]") -> str:
    return os.path.join(tmp_path, "s")


def test_only_root_and_the_group_may_use_it(path: str) -> None:
    listener = activation.bind(path)
    found = os.lstat(path)
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert found.st_uid == os.geteuid()
    try:
        group = grp.getgrnam("docker").gr_gid
    except KeyError:
        group = os.getegid()
    assert found.st_gid == group
    assert not os.get_inheritable(listener.fileno())
    listener.close()


def test_a_stale_socket_is_replaced(path: str) -> None:
    activation.bind(path).close()
    activation.bind(path).close()


def test_a_live_socket_is_not(path: str) -> None:
    listener = activation.bind(path)
    with pytest.raises(SystemFailure, match="another process listens there"):
        activation.bind(path)
    listener.close()


def test_a_file_is_not(path: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write("precious")
    with pytest.raises(SystemFailure, match="not a socket"):
        activation.bind(path)
    with open(path, encoding="utf-8") as file:
        assert file.read() == "precious"


def test_a_missing_folder_is_told(path: str) -> None:
    with pytest.raises(SystemFailure, match="No such file or directory"):
        activation.bind(path + "/deeper")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "passed no socket"),
        (["--sock"], "usage"),
        (["--socket"], "usage"),
        (["--socket", "/nonexistent/s"], "cannot"),
    ],
)
def test_wrong_starts(arguments: list[str], message: str) -> None:
    done = subprocess.run([*PRODUCT, *arguments], capture_output=True, text=True, check=False, env={}, timeout=60)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_not_a_listening_socket_is_refused() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        program = 'exec env LISTEN_FDS=1 LISTEN_PID=$$ "$@"'
        done = subprocess.run(
            ["sh", "-c", f"exec 3<&0; {program}", "sh", *PRODUCT],
            stdin=theirs.fileno(), capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert "not a listening stream socket" in done.stderr
