"""Containers on a user-defined network find each other by name, whether or not a service process is alive."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.dns import Upstream
from tests.support.instance import Instance, keepers_of


def told(moorage: Instance, *words: str) -> str:
    return moorage.docker(*words).stdout.strip()


@pytest.fixture(scope="module")
def named(moorage: Instance) -> Iterator[Instance]:
    """Two networks; `web` and `web2` share the alias `www` on the first, `far` is on the second."""
    for network in ("near", "away"):
        told(moorage, "network", "create", network)
    for name, network in (("web", "near"), ("web2", "near"), ("far", "away")):
        told(
            moorage,
            "run",
            "-d",
            "--name",
            name,
            "--network",
            network,
            "--network-alias",
            "www",
            "busybox",
            "sleep",
            "1000",
        )
    yield moorage
    told(moorage, "rm", "-f", "web", "web2", "far")
    told(moorage, "network", "rm", "near", "away")


def address(moorage: Instance, name: str, network: str = "near") -> str:
    return told(moorage, "inspect", "-f", f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}', name)


def looked_up(moorage: Instance, container: str, *question: str) -> list[str]:
    """The addresses that the container is told, sorted; empty when there are none."""
    said = moorage.docker("exec", container, "nslookup", *question, check=False).stdout
    return sorted(re.findall(r"^Address: (\S+)$", said, re.MULTILINE))


def test_names_ids_and_aliases(named: Instance) -> None:
    web, web2 = address(named, "web"), address(named, "web2")
    short = told(named, "inspect", "-f", "{{.Config.Hostname}}", "web")
    assert "nameserver 127.0.0.11\n" in told(named, "exec", "web", "cat", "/etc/resolv.conf") + "\n"
    for name in ("web", "WEB", short, "web.near"):
        assert looked_up(named, "web2", name) == [web], name
    assert looked_up(named, "web", "www") == sorted([web, web2])
    assert looked_up(named, "web", "-type=aaaa", "web2") == []


def test_the_first_process_finds_the_names_at_once(named: Instance) -> None:
    words = ("run", "--rm", "--network", "near", "busybox", "sh", "-c", "nslookup -type=a web | tail -n 2")
    for _ in range(5):
        assert told(named, *words).endswith(f"Address: {address(named, 'web')}")


def test_networks_do_not_see_each_others_names(named: Instance) -> None:
    assert looked_up(named, "far", "web") == []
    assert looked_up(named, "far", "www") == [address(named, "far", "away")]


def test_an_address_has_a_name(named: Instance) -> None:
    said = told(named, "exec", "web2", "nslookup", address(named, "web"))
    assert re.search(r"name = web\.near\b", said)


def test_names_come_and_go_with_networks_and_containers(named: Instance) -> None:
    told(named, "run", "-d", "--name", "guest", "busybox", "sleep", "1000")
    try:
        told(named, "network", "connect", "--alias", "visitor", "near", "guest")
        named.until(lambda: looked_up(named, "guest", "web"), 60, "it does not find the others")
        assert looked_up(named, "guest", "web") == [address(named, "web")]
        assert looked_up(named, "web", "visitor") == [address(named, "guest")]
        told(named, "rename", "guest", "renamed")
        assert looked_up(named, "web", "renamed") == [address(named, "renamed")]
        assert looked_up(named, "web", "guest") == []
        told(named, "network", "disconnect", "near", "renamed")
        assert looked_up(named, "web", "visitor") == []
    finally:
        told(named, "rm", "-f", told(named, "ps", "-lq"))


def test_a_question_waits_while_nobody_is_there_to_answer(named: Instance) -> None:
    """The server's sockets live with the container's monitor: one that is killed is followed by another."""
    web = address(named, "web")
    for pid in keepers_of(named.root):
        os.kill(pid, signal.SIGKILL)
    named.until(lambda: not keepers_of(named.root), 30, "it did not end")
    # detached: the service, which is killed too, takes its clients' streams along
    told(named, "exec", "-d", "web2", "sh", "-c", "nslookup -timeout=60 -type=a web >/said; echo done >>/said")
    named.kill_service()
    told(named, "ps")  # a service that comes looks after the keeper
    named.until(lambda: "done" in told(named, "exec", "web2", "sh", "-c", "cat /said || true"), 90, "nobody answers")
    assert f"Address: {web}\n" in told(named, "exec", "web2", "cat", "/said") + "\n"
    assert len(keepers_of(named.root)) == 1


def test_answers_while_the_service_sleeps(named: Instance) -> None:
    pid = told(named, "inspect", "-f", "{{.State.Pid}}", "web")
    web2 = address(named, "web2")
    named.wait_idle()
    inside = ["nsenter", "--net", "--target", pid, "busybox", "nslookup", "-type=a", "web2", "127.0.0.11"]
    said = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=30)
    assert f"Address: {web2}\n" in said.stdout
    assert named.service_pid() is None


OUTSIDE = {  # `big.example` has more addresses than a datagram takes
    ("small.example", "A"): [bytes((203, 0, 113, 1))],
    ("big.example", "A"): [bytes((203, 0, 113, n)) for n in range(1, 101)],
}


def test_other_names_are_asked_outside_by_datagram_and_by_stream(named: Instance) -> None:
    gateway = told(named, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "near")
    upstream = Upstream("/proc/self/ns/net", gateway, OUTSIDE)
    try:
        words = ("run", "-d", "--name", "asker", "--network", "near", "--dns", "192.0.2.1", "--dns", gateway)
        told(named, *words, "busybox", "sleep", "1000")
        # the first server does not exist: the second is asked after its time
        assert looked_up(named, "asker", "-type=a", "small.example") == ["203.0.113.1"]
        pid = told(named, "inspect", "-f", "{{.State.Pid}}", "asker")
        assert by_stream(pid, "big.example") == 100
        assert by_stream(pid, "www") == 2
        assert "www" not in [name for name, _ in upstream.asked], "our own names are nobody else's business"
    finally:
        upstream.close()
        told(named, "rm", "-f", "asker")


ASK_BY_STREAM = """
import socket, sys
name = b"".join(bytes((len(label),)) + label for label in sys.argv[1].encode().split(b"."))
packet = b"\\1\\2\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + name + b"\\0\\0\\1\\0\\1"
with socket.create_connection(("127.0.0.11", 53), 30) as stream:
    stream.sendall(len(packet).to_bytes(2, "big") + packet)
    said = stream.recv(int.from_bytes(stream.recv(2, socket.MSG_WAITALL), "big"), socket.MSG_WAITALL)
print(int.from_bytes(said[6:8], "big"))
"""


def by_stream(pid: str, name: str) -> int:
    """How many records the container is told by TCP."""
    inside = ["nsenter", "--net", "--target", pid, "/usr/bin/python3", "-I", "-c", ASK_BY_STREAM, name]
    return int(subprocess.run(inside, capture_output=True, text=True, check=True, timeout=60).stdout)


def test_a_closed_network_has_no_way_out_by_names(named: Instance) -> None:
    told(named, "network", "create", "--internal", "closed")
    try:
        words = ("run", "--rm", "--network", "closed", "--name", "inside", "busybox", "sh", "-c")
        said = told(named, *words, "nslookup -type=a inside; nslookup -type=a outside.example || true")
        assert re.search(r"^Name:\tinside$", said, re.MULTILINE)
        assert "can't find outside.example: SERVFAIL" in said
    finally:
        told(named, "network", "rm", "closed")


ASK_AND_NEVER_READ = """
import socket
packet = b"\\1\\2\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\3www\\0\\0\\1\\0\\1"
questions, sent = 1000 * (len(packet).to_bytes(2, "big") + packet), 0
stream = socket.create_connection(("127.0.0.11", 53), 3)
try:
    while sent < 1 << 26:
        sent += stream.send(questions)
except OSError as error:
    print("refused", type(error).__name__)
"""


def test_who_asks_and_does_not_read_is_no_longer_listened_to(named: Instance) -> None:
    """Answers that nobody takes are not collected, and others are answered meanwhile."""
    pid, (keeper,) = told(named, "inspect", "-f", "{{.State.Pid}}", "web"), keepers_of(named.root)
    before = memory(keeper)
    inside = ["nsenter", "--net", "--target", pid, "/usr/bin/python3", "-I", "-c", ASK_AND_NEVER_READ]
    with subprocess.Popen(inside, stdout=subprocess.PIPE, text=True) as asking:
        assert looked_up(named, "web2", "web") == [address(named, "web")]
        assert asking.communicate(timeout=60)[0] in ("refused TimeoutError\n", "refused ConnectionResetError\n")
    assert keepers_of(named.root) == [keeper]
    assert memory(keeper) < before + 8192, "KiB"


def memory(pid: int) -> int:
    """What a process has in memory, in KiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("VmRSS")).split()[1])
