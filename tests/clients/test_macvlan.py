"""macvlan and ipvlan: containers that stand on an interface of the host, here one end of a veth pair."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.support.instance import Instance


def ip(*words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=check)


@pytest.fixture
def parent(moorage: Instance) -> Iterator[str]:
    """An interface of the host; its other end, a namespace away, is the router 10.213.20.1."""
    name, space = f"mtp{moorage.slot}", f"mtn{moorage.slot}"
    ip("netns", "add", space)
    try:
        ip("link", "add", name, "type", "veth", "peer", "name", "far0", "netns", space)
        ip("link", "set", name, "up")
        ip("-n", space, "addr", "add", "10.213.20.1/24", "dev", "far0")
        ip("-n", space, "link", "set", "far0", "up")
        yield name
    finally:
        names = moorage.docker("ps", "-aq").stdout.split()
        if names:
            moorage.docker("rm", "-f", *names)
        moorage.docker("network", "prune", "-f")
        ip("link", "delete", name, check=False)
        ip("netns", "delete", space)


def test_containers_reach_each_other_and_the_router(moorage: Instance, parent: str) -> None:
    words = ("--subnet", "10.213.20.0/24", "--gateway", "10.213.20.1", "--aux-address", "host=10.213.20.2")
    moorage.docker("network", "create", "-d", "macvlan", "-o", f"parent={parent}", *words, "lan")
    moorage.docker(
        "run", "-d", "--name", "one", "--network", "lan", "--mac-address", "02:00:0a:d5:14:09", "busybox", "sleep", "90"
    )
    shown = moorage.docker("exec", "one", "ip", "addr", "show", "eth0").stdout
    assert "10.213.20.3/24" in shown
    assert "02:00:0a:d5:14:09" in shown
    assert "default via 10.213.20.1" in moorage.docker("exec", "one", "ip", "route").stdout
    for _ in range(2):  # the second time with the same hardware address: the first interface is gone at once
        moorage.docker("run", "--rm", "--network", "lan", "busybox", "ping", "-c", "1", "-w", "20", "one")
        moorage.docker("exec", "one", "ping", "-c", "1", "-w", "20", "10.213.20.1")
        moorage.docker("restart", "-t", "0", "one")
    refused = moorage.docker("network", "rm", "lan", check=False)
    assert "has active endpoints" in refused.stderr
    moorage.docker("rm", "-f", "one")
    moorage.docker("network", "rm", "lan")
    assert parent in ip("-br", "link").stdout


def test_connect_and_disconnect(moorage: Instance, parent: str) -> None:
    moorage.docker("network", "create", "-d", "macvlan", "-o", f"parent={parent}", "--subnet", "10.213.20.0/24", "lan")
    moorage.docker("run", "-d", "--name", "one", "-p", "0:80", "busybox", "sleep", "90")
    published = moorage.docker("port", "one").stdout
    moorage.docker("network", "connect", "--ip", "10.213.20.77", "lan", "one")
    assert "10.213.20.77/24" in moorage.docker("exec", "one", "ip", "addr", "show", "eth1").stdout
    moorage.docker("exec", "one", "ping", "-c", "1", "-w", "20", "10.213.20.1")
    assert moorage.docker("port", "one").stdout == published
    moorage.docker("network", "disconnect", "lan", "one")
    assert "eth1" not in moorage.docker("exec", "one", "ls", "/sys/class/net").stdout


def test_a_parent_for_one_only(moorage: Instance, parent: str) -> None:
    options = ("-o", f"parent={parent}", "-o", "macvlan_mode=passthru")
    moorage.docker("network", "create", "-d", "macvlan", *options, "alone")
    other = moorage.docker("network", "create", "-d", "macvlan", "-o", f"parent={parent}", "other", check=False)
    assert f"is already using parent interface {parent} in mode passthru" in other.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("macvlan -o parent=lo", "loopback interface is not a valid macvlan parent link"),
        (
            "macvlan -o macvlan_mode=odd",
            "requested macvlan mode 'odd' is not valid, 'bridge' mode is the macvlan driver",
        ),
        ("ipvlan -o ipvlan_mode=l9", "requested ipvlan mode 'l9' is not valid, 'l2' mode is the ipvlan driver default"),
        (
            "ipvlan -o ipvlan_flag=odd",
            "requested ipvlan flag 'odd' is not valid, 'bridge' is the ipvlan driver default",
        ),
        ("ipvlan -o parent=mtnone", "invalid subinterface vlan name mtnone, example formatting is eth0.10"),
        ("macvlan -o parent=mtnone.5", "-o parent interface was not found on the host: mtnone"),
        ("macvlan -o parent=mtnone.x", "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)"),
    ],
)
def test_what_is_refused(moorage: Instance, words: str, complaint: str) -> None:
    done = moorage.docker("network", "create", "-d", *words.split(), "bad", check=False)
    assert done.returncode
    assert complaint in done.stderr
    assert "bad" not in moorage.docker("network", "ls", "--format", "{{.Name}}").stdout.split()


def lacks(kind: str, *words: str) -> bool:
    """Whether this kernel has no such interfaces."""
    if ip("link", "add", *words, "name", "mtprobe", "type", kind, check=False).returncode:
        return True
    ip("link", "delete", "mtprobe")
    return False


@pytest.mark.parametrize(
    ("mode", "route"), [("l2", "10.213.20.0/24 dev eth0"), ("l3", "default dev eth0")], ids=["l2", "l3"]
)
def test_ipvlan_where_the_kernel_has_it(moorage: Instance, parent: str, mode: str, route: str) -> None:
    if lacks("ipvlan", "link", parent):
        pytest.skip("this kernel has no ipvlan")
    options = ("-o", f"parent={parent}", "-o", f"ipvlan_mode={mode}")
    moorage.docker("network", "create", "-d", "ipvlan", *options, "--subnet", "10.213.20.0/24", "lan")
    moorage.docker("run", "-d", "--name", "one", "--network", "lan", "busybox", "sleep", "900")
    assert route in moorage.docker("exec", "one", "ip", "route").stdout
    moorage.docker("run", "--rm", "--network", "lan", "busybox", "ping", "-c", "1", "-w", "20", "one")


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_without_a_parent_it_has_one_of_its_own(moorage: Instance, driver: str) -> None:
    """A dummy that leads nowhere: its containers reach each other. It goes with the network."""
    if lacks("dummy"):
        pytest.skip("this kernel has no dummy interfaces")
    made = moorage.docker("network", "create", "-d", driver, "--subnet", "10.213.21.0/24", "own").stdout[:12]
    try:
        moorage.docker("run", "-d", "--name", "one", "--network", "own", "busybox", "sleep", "900")
        moorage.docker("run", "--rm", "--network", "own", "busybox", "ping", "-c", "1", "-w", "20", "one")
        assert made in ip("link", "show", "type", "dummy").stdout
    finally:
        moorage.docker("rm", "-f", "one")
        moorage.docker("network", "rm", "own")
    assert made not in ip("link").stdout
