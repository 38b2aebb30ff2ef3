"""Networks through the docker CLI: what a user types, and what reaches whom."""

import json
import re
import socket
import subprocess
import urllib.request
from collections.abc import Callable

import pytest

from tests.support.instance import Instance
from tests.support.ports import free_port

PAGE = "mkdir /w; echo hello >/w/index.html; exec httpd -f -p 80 -h /w"
FETCH = "get() { for n in 1 2 3 4 5 6 7 8 9; do wget -qO- $1 2>/dev/null && return; sleep 0.3; done; }; get "


def fetch(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as page:
        return str(page.read().decode())


@pytest.fixture
def docker(moorage: Instance) -> Callable[..., str]:
    """`docker(words…)`: what the CLI prints. Raises AssertionError with its complaint."""

    def run(*words: str) -> str:
        done = subprocess.run(
            ["docker", *words],
            env=moorage.client_environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not done.returncode, done.stderr
        return done.stdout.strip()

    return run


def test_ls_and_inspect(docker: Callable[..., str]) -> None:
    listed = docker("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}").splitlines()
    assert {"bridge bridge local", "host host local", "none null local"} <= set(listed)
    bridge = json.loads(docker("network", "inspect", "bridge"))[0]
    assert bridge["Options"]["com.docker.network.bridge.default_bridge"] == "true"


def test_published_port_until_the_end(docker: Callable[..., str], moorage: Instance) -> None:
    docker("run", "-d", "--name", "web", "-p", "0:80", "busybox", "sh", "-c", PAGE)
    try:
        port = int(docker("port", "web", "80").splitlines()[0].rpartition(":")[2])
        moorage.until(lambda: _answers(port), 60, "the published port does not answer")
        assert f"0.0.0.0:{port}->80/tcp" in docker("ps", "--filter", "name=web", "--format", "{{.Ports}}")
        moorage.restart()  # the service goes and comes, the port stays
        assert fetch(port) == "hello\n"
    finally:
        docker("rm", "-f", "web")
    assert not _answers(port)


def _answers(port: int) -> bool:
    try:
        return fetch(port) == "hello\n"
    except OSError:
        return False


def test_a_taken_port(docker: Callable[..., str]) -> None:
    taken = f"127.0.0.1:{free_port()}"
    docker("run", "-d", "--name", "one", "-p", f"{taken}:80", "busybox", "sleep", "60")
    try:
        with pytest.raises(AssertionError, match=f"Bind for {re.escape(taken)} failed: port is already allocated"):
            docker("run", "--name", "two", "-p", f"{taken}:80", "busybox", "true")
    finally:
        docker("rm", "-f", "one", "two")


def test_files_of_a_container(docker: Callable[..., str]) -> None:
    words = ("--hostname", "box", "--add-host", "db:10.0.0.9", "--dns", "192.0.2.53", "--dns-search", "example.org")
    said = docker("run", "--rm", *words, "busybox", "cat", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname")
    assert "10.0.0.9\tdb\n" in said
    assert said.endswith("\tbox\nnameserver 192.0.2.53\nsearch example.org\nbox")


def test_none_and_host(docker: Callable[..., str]) -> None:
    assert "eth0" not in docker("run", "--rm", "--network", "none", "busybox", "ip", "link")
    before = set(socket.if_nameindex())
    said = docker("run", "--rm", "--network", "host", "busybox", "cat", "/proc/net/dev")
    stayed = before & set(socket.if_nameindex())  # other tests make and remove theirs meanwhile
    assert stayed
    assert all(f"{interface}:" in said for _, interface in stayed)


def test_network_of_another_container(docker: Callable[..., str]) -> None:
    docker("run", "-d", "--name", "owner", "busybox", "sh", "-c", PAGE)
    try:
        words = ("--network", "container:owner", "busybox", "sh", "-c")
        assert docker("run", "--rm", *words, FETCH + "http://127.0.0.1/; hostname").startswith("hello")
    finally:
        docker("rm", "-f", "owner")


def test_a_network_of_ones_own(docker: Callable[..., str]) -> None:
    made = docker("network", "create", "--subnet", "10.213.7.0/24", "--label", "a=b", "mine")
    try:
        docker("run", "-d", "--name", "web", "--network", "mine", "--ip", "10.213.7.9", "busybox", "sh", "-c", PAGE)
        assert (
            docker("run", "--rm", "--network", "mine", "busybox", "sh", "-c", FETCH + "http://10.213.7.9/") == "hello"
        )
        assert docker("inspect", "-f", "{{.NetworkSettings.Networks.mine.NetworkID}}", "web") == made
        with pytest.raises(AssertionError, match="has active endpoints"):
            docker("network", "rm", "mine")
        docker("network", "connect", "bridge", "web")
        assert "eth1" in docker("exec", "web", "ip", "link")
        docker("network", "disconnect", "bridge", "web")
        assert "eth1" not in docker("exec", "web", "ip", "link")
    finally:
        docker("rm", "-f", "web")
        docker("network", "rm", "mine")
