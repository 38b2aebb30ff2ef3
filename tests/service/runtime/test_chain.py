"""create → attach → start → exit, on the real kernel with real runc and conmon."""

# ruff: noqa: ASYNC220, ASYNC240 - a test has its event loop to itself, it may block it

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.errors import Conflict, InvalidParameter, NotFound, StartRefused
from service.kernel import cgroup, pidfd
from service.runtime import attach_socket, bundle, capabilities, conmon, exits, runc, users
from tests.service.runtime.conftest import Workshop, drain

ROOT = str(Path(__file__).parents[3])


async def test_the_whole_chain(workshop: Workshop) -> None:
    settings = workshop.settings
    record = workshop.record("sh", "-c", "echo out; echo err >&2; exit 3")
    created = workshop.create(record)
    assert pidfd.is_alive(created.pid)
    assert pidfd.is_alive(created.conmon_pid)
    stream = await attach_socket.connect(conmon.attach_path(settings, record["Id"]))
    assert exits.read(settings, record["Id"]) is None
    runc.start(settings, record["Id"])
    assert await drain(stream) == ("out\n", "err\n")
    ended = workshop.exit(record["Id"])
    assert (ended.exit_code, ended.oom_killed) == (3, False)
    assert abs(ended.finished_ns - time.time_ns()) < 60e9
    log = Path(workshop.log(record["Id"])).read_text().splitlines()
    assert sorted(line.split(" ", 1)[1] for line in log) == ["stderr F err", "stdout F out"]
    runc.delete(settings, record["Id"])
    runc.delete(settings, record["Id"])  # idempotent
    assert runc.state(settings, record["Id"]) is None
    assert not Path(runc.root(settings), record["Id"]).exists()


async def test_nothing_is_lost_of_a_container_that_prints_and_ends_at_once(workshop: Workshop) -> None:
    code, out, _ = await workshop.run("sh", "-c", "head -c 300000 /dev/zero | cat")
    assert code == 0
    assert len(out) == 300000


async def test_stdin_is_half_closed(workshop: Workshop) -> None:
    record = workshop.record("sh", "-c", "cat; echo after", config={"OpenStdin": True, "StdinOnce": True})
    workshop.create(record)
    stream = await workshop.attach(record)
    runc.start(workshop.settings, record["Id"])
    await stream.write_stdin(b"x" * 100_000 + b"\n")
    stream.close_stdin()
    out, _ = await drain(stream)
    assert out == "x" * 100_000 + "\nafter\n"


async def test_stdin_outlives_its_clients_unless_once(workshop: Workshop) -> None:
    record = workshop.record("cat", config={"OpenStdin": True, "StdinOnce": False})
    workshop.create(record)
    runc.start(workshop.settings, record["Id"])
    for word in (b"first\n", b"second\n"):
        stream = await workshop.attach(record)
        await stream.write_stdin(word)
        assert await stream.read() == (1, word)
        stream.close_stdin()
        stream.close()
    assert exits.read(workshop.settings, record["Id"]) is None
    runc.kill(workshop.settings, record["Id"], signal.SIGKILL)
    assert workshop.exit(record["Id"]).exit_code == 137


async def test_a_terminal_has_its_size_and_is_resized(workshop: Workshop) -> None:
    config = {"Tty": True, "OpenStdin": True, "StdinOnce": True}
    record = workshop.record(
        "sh", "-c", "stty size; read x; stty size; echo $TERM", config=config, ConsoleSize=[33, 77]
    )
    created = workshop.create(record)
    stream = await workshop.attach(record)
    runc.start(workshop.settings, record["Id"])
    seen = b""
    while b"33 77\r\n" not in seen:
        packet = await stream.read()
        assert packet is not None, seen
        seen += packet[1]
    conmon.resize(workshop.settings, record["Id"], None, 40, 100)
    await asyncio.sleep(0.2)  # conmon reads its fifo when it pleases; nothing tells when it has
    await stream.write_stdin(b"\n")
    out, err = await drain(stream)
    assert "40 100\r\nxterm\r\n" in out
    assert err == ""
    assert pidfd.wait_gone(created.conmon_pid, 60)
    with pytest.raises(Conflict):
        conmon.resize(workshop.settings, record["Id"], None, 1, 1)


def test_why_a_command_does_not_start(workshop: Workshop) -> None:
    with pytest.raises(StartRefused) as caught:
        workshop.create(workshop.record("nope"))
    assert caught.value.exit_code == 127
    assert 'exec: "nope": executable file not found in $PATH' in caught.value.message
    with pytest.raises(StartRefused) as caught:
        workshop.create(workshop.record("/etc/passwd"))
    assert caught.value.exit_code == 126
    assert "permission denied" in caught.value.message


async def test_starting_twice_is_a_conflict(workshop: Workshop) -> None:
    record = workshop.record("sleep", "100")
    workshop.create(record)
    runc.start(workshop.settings, record["Id"])
    with pytest.raises(Conflict, match="cannot start"):
        runc.start(workshop.settings, record["Id"])


def test_a_signal_reaches_the_first_process_and_all_reaches_the_rest(workshop: Workshop) -> None:
    record = workshop.record("sh", "-c", "trap 'exit 7' TERM; sleep 100 & wait")
    workshop.create(record)
    runc.start(workshop.settings, record["Id"])
    while len(runc.ps(workshop.settings, record["Id"])) < 2:
        time.sleep(0.01)
    with pytest.raises(Conflict):
        runc.delete(workshop.settings, record["Id"])
    runc.kill(workshop.settings, record["Id"], signal.SIGTERM)
    assert workshop.exit(record["Id"]).exit_code == 7
    with pytest.raises(NotFound):
        runc.kill(workshop.settings, record["Id"], signal.SIGTERM)


def test_a_paused_container_stands_still_and_can_be_removed(workshop: Workshop) -> None:
    record = workshop.record("sleep", "100")
    workshop.create(record)
    runc.start(workshop.settings, record["Id"])
    runc.pause(workshop.settings, record["Id"])
    runc.resume(workshop.settings, record["Id"])
    runc.pause(workshop.settings, record["Id"])
    started = time.monotonic()
    runc.delete(workshop.settings, record["Id"], force=True)
    assert time.monotonic() - started < 60
    assert workshop.exit(record["Id"]).exit_code == 137


async def test_the_exit_command_runs_after_the_exit_is_written(workshop: Workshop, tmp_path: Path) -> None:
    record = workshop.record("false")
    note = tmp_path / "note"
    exit_file = f"{exits.directory(workshop.settings)}/{record['Id']}"
    workshop.create(record, exit_command=["/bin/sh", "-c", f"cat {exit_file} > {note}.new; mv {note}.new {note}"])
    runc.start(workshop.settings, record["Id"])
    until = time.monotonic() + 30
    while not note.exists():
        assert time.monotonic() < until
        await asyncio.sleep(0.01)
    assert note.read_text() == "1"


_STARTER = """
import sys
from service.settings import Settings
from service.runtime import bundle, conmon, runc
settings, container = Settings(), sys.argv[1]
conmon.create(settings, container, bundle=bundle.path(settings, container), generation=1,
              log=conmon.log_file(sys.argv[2]), terminal=False, open_stdin=False, stdin_once=False,
              exit_command=[]).wait()
runc.start(settings, container)
print("started", flush=True)
sys.stdin.read()
"""


async def test_a_container_survives_the_death_of_who_started_it(workshop: Workshop) -> None:
    """The starter sits in a cgroup of its own, as a systemd unit would, and is killed with everything in there."""
    record = workshop.record("sh", "-c", "echo one; sleep 1; echo two; exit 5")
    settings = workshop.settings
    workshop.create(record)  # only for its bundle: the one that counts is made by the starter
    runc.delete(settings, record["Id"], force=True)
    workshop.exit(record["Id"])
    environment = {**os.environ, **settings.given, "PYTHONPATH": ROOT}
    with subprocess.Popen(
        [sys.executable, "-c", _STARTER, record["Id"], workshop.log(record["Id"])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
    ) as starter:  # fmt: skip
        unit = f"/moorage-unit-{os.getpid()}"
        groups = cgroup.detect()
        tree = groups.unified or groups.mounts["name=systemd"]
        os.makedirs(tree + unit, exist_ok=True)
        cgroup.write(f"{tree}{unit}/cgroup.procs", str(starter.pid))
        try:
            assert starter.stdout is not None
            assert starter.stdout.readline() == b"started\n"
            assert cgroup.processes(tree + unit) == [starter.pid], "conmon stayed with the unit"
        finally:
            for pid in cgroup.processes(tree + unit):
                os.kill(pid, signal.SIGKILL)
            starter.wait()
            os.rmdir(tree + unit)
    assert workshop.exit(record["Id"]).exit_code == 5
    assert Path(workshop.log(record["Id"])).read_text().endswith("stdout F two\n")


async def test_exec(workshop: Workshop) -> None:
    record = workshop.record("sleep", "100", config={"Env": ["A=b"], "WorkingDir": "/tmp"})
    workshop.create(record)
    runc.start(workshop.settings, record["Id"])
    assert await workshop.exec(record, "sh", "-c", "echo $A $HOSTNAME; pwd; echo no >&2; exit 4") == (
        4, "b box\n/tmp\n", "no\n",
    )  # fmt: skip
    assert await workshop.exec(record, "cat", stdin=b"to and fro") == (0, "to and fro", "")
    user = users.resolve_user(workshop.rootfs, "u")
    code, out, _ = await workshop.exec(
        record, "sh", "-c", "id; grep CapEff /proc/self/status; pwd", user=user, working_dir="/etc"
    )
    assert (code, out) == (0, "uid=1000(u) gid=1000(u) groups=10(wheel),1000(u)\nCapEff:\t0000000000000000\n/etc\n")
    code, out, _ = await workshop.exec(
        record, "grep", "CapEff", "/proc/self/status", privileged=True, available=capabilities.bounding_set()
    )
    assert int(out.split()[1], 16) & 1 << 21, "CAP_SYS_ADMIN"
    code, out, err = await workshop.exec(
        record, "sh", "-c", "stty size; echo e >&2", terminal=True, console_size=[20, 60]
    )
    assert (code, out, err) == (0, "20 60\r\ne\r\n", "")
    for command, expected, sentence in (
        ("nope", 127, 'OCI runtime exec failed: exec failed: unable to start container process: exec: "nope"'),
        ("/etc/passwd", 126, "permission denied"),
    ):
        with pytest.raises(StartRefused) as caught:
            await workshop.exec(record, command)
        assert caught.value.exit_code == expected
        assert sentence in caught.value.message


async def test_reserved_sockets_stay_open_with_the_container(workshop: Workshop) -> None:
    """A published port is kept by a socket that conmon holds; when the container ends, it is free."""
    record = workshop.record("sleep", "100")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    settings = workshop.settings
    workshop.create(record)
    runc.delete(settings, record["Id"], force=True)
    workshop.exit(record["Id"])
    conmon.create(
        settings, record["Id"], bundle=bundle.path(settings, record["Id"]), generation=2, log=conmon.no_log(),
        terminal=False, open_stdin=False, stdin_once=False, exit_command=[], reserved_fds=[listener.fileno()],
    ).wait()  # fmt: skip
    listener.close()
    runc.start(settings, record["Id"])
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", port))
    pid = runc.ps(settings, record["Id"])[0]
    until = time.monotonic() + 30
    while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":  # the runtime's own process becomes the command
        assert time.monotonic() < until
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
    runc.kill(settings, record["Id"], signal.SIGKILL)
    workshop.exit(record["Id"])
    socket.create_server(("127.0.0.1", port)).close()


async def test_unknown_user(workshop: Workshop) -> None:
    with pytest.raises(InvalidParameter, match="unable to find user nobody2: no matching entries in passwd file"):
        workshop.create(workshop.record("true", config={"User": "nobody2"}))
