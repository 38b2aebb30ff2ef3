"""Networks with options: what is refused and in which words, and what an option does for a container."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.instance import Instance
from tests.support.streams import call, done

BRIDGE = "com.docker.network.bridge."


@pytest.fixture
def clean(moorage: Instance) -> Iterator[Instance]:
    yield moorage
    names = moorage.docker("ps", "-aq").stdout.split()
    if names:
        moorage.docker("rm", "-f", *names)
    moorage.docker("network", "prune", "-f")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            f"-o {BRIDGE}enable_icc=maybe",
            'enable_icc value: maybe (strconv.ParseBool: parsing "maybe": invalid syntax)',
        ),
        (f"-o {BRIDGE}host_binding_ipv4=maybe", "host_binding_ipv4 value: maybe (nil ip)"),
        (f"-o {BRIDGE}gateway_mode_ipv4=odd", "gateway_mode_ipv4 value: odd (unknown gateway mode odd)"),
        (f"-o {BRIDGE}gateway_mode_ipv4=isolated", "gateway mode 'isolated' can only be used for an internal network"),
        (f"-o {BRIDGE}name=lo", "existing interface lo is not a bridge"),
        ("-o com.docker.network.driver.mtu=-1", "invalid MTU number: -1"),
        ("-o com.docker.network.driver.mtu=99999999", "invalid argument"),
        ("--subnet 10.213.8.0/24 --subnet 10.213.9.0/24", "bridge driver doesn't support multiple subnets"),
        (
            "--subnet 10.213.8.0/24 --ip-range 10.213.8.5/25",
            "invalid ip-range 10.213.8.5/25: it should be 10.213.8.0/25",
        ),
        (
            "--subnet 10.213.8.0/24 --gateway 10.213.8.3 --aux-address x=10.213.8.3",
            "failed to allocate secondary ip address (x:10.213.8.3): Address already in use",
        ),
        ("--config-from nosuch", 'configuration network "nosuch" does not exist'),
    ],
)
def test_what_is_refused_leaves_nothing(clean: Instance, words: str, complaint: str) -> None:
    done = clean.docker("network", "create", *words.split(), "bad", check=False)
    assert done.returncode
    assert complaint in done.stderr
    assert "bad" not in clean.docker("network", "ls", "--format", "{{.Name}}").stdout.split()


def test_ports_are_published_where_the_network_says(clean: Instance) -> None:
    clean.docker("network", "create", "-o", BRIDGE + "host_binding_ipv4=127.0.0.1", "here")
    clean.docker("run", "-d", "--name", "web", "--network", "here", "-p", "0:80", "busybox", "sleep", "60")
    assert clean.docker("port", "web", "80").stdout.startswith("127.0.0.1:")


def test_names_of_interfaces(clean: Instance) -> None:
    clean.docker("network", "create", "-o", "com.docker.network.container_iface_prefix=lan", "lan")
    clean.docker("network", "create", "plain")
    clean.docker("run", "-d", "--name", "box", "--network", "lan", "busybox", "sleep", "60")
    clean.docker("network", "connect", "plain", "box")
    said = clean.docker("exec", "box", "ls", "/sys/class/net").stdout.split()
    assert "lan0" in said
    assert "eth0" in said


def test_a_network_without_ipv4(clean: Instance) -> None:
    # by the API: a docker CLI before 28 cannot ask for it
    body = {"Name": "six", "EnableIPv4": False, "EnableIPv6": True, "IPAM": {"Config": [{"Subnet": "fd00:213:8::/64"}]}}
    done(call(clean, "POST /networks/create", body))
    said = clean.docker("run", "--rm", "--network", "six", "busybox", "ip", "addr", "show", "eth0").stdout
    assert "fd00:213:8::2/64" in said
    assert "inet " not in said


def test_a_bridge_of_the_users_stays_as_it_was(clean: Instance) -> None:
    name = f"mtu{clean.slot}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "addr", "add", "10.213.10.77/24", "dev", name], check=True)
        clean.docker("network", "create", "-o", f"{BRIDGE}name={name}", "--subnet", "10.213.10.0/24", "mine")
        again = clean.docker("network", "create", "-o", f"{BRIDGE}name={name}", "other", check=False)
        assert "networks have same bridge name" in again.stderr
        clean.docker("network", "rm", "mine")
        left = subprocess.run(["ip", "-o", "addr", "show", name], capture_output=True, text=True, check=True).stdout
        assert "10.213.10.77/24" in left
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


def test_an_isolated_network_has_no_address_of_the_host(clean: Instance) -> None:
    name = f"mti{clean.slot}"
    options = ("-o", f"{BRIDGE}gateway_mode_ipv4=isolated", "-o", f"{BRIDGE}name={name}")
    clean.docker("network", "create", "--internal", *options, "apart")
    shown = subprocess.run(["ip", "-4", "-o", "addr", "show", name], capture_output=True, text=True, check=True)
    assert shown.stdout == ""
    clean.docker("run", "-d", "--name", "one", "--network", "apart", "busybox", "sleep", "60")
    clean.docker("run", "--rm", "--network", "apart", "busybox", "ping", "-c", "1", "-w", "10", "one")


def test_fifty_at_once_share_no_address(clean: Instance) -> None:
    clients = [clean.client() for _ in range(8)]
    with ThreadPoolExecutor(50) as pool:
        made = list(pool.map(lambda n: clients[n % 8].networks.create(f"many{n}"), range(50)))
    given = [network.attrs["IPAM"]["Config"][0]["Subnet"] for network in clean.client().networks.list(names=["many"])]
    assert len(made) == len(given) == len(set(given)) == 50
