"""Host ports: which one a container gets, and what it is told when it cannot have it."""

import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from service.engine import endpoints
from service.errors import InvalidParameter, SystemFailure
from service.kernel import netns
from service.network import ports, rules
from service.store import networks as stored
from tests.service.network.conftest import Host, Server, call, everywhere_on

Serve = Callable[..., Server]


def on(port: str, host_ip: str = "", container: str = "80/tcp") -> dict[str, list[dict[str, str]]]:
    return {container: [{"HostIp": host_ip, "HostPort": port}]}


def test_a_port_belongs_to_one_container(host: Host) -> None:
    host.container("first", ports=on("8080"))
    record = host.record("second", ports=on("8080"))
    with pytest.raises(SystemFailure) as refused:
        host.start(record)
    text = refused.value.message
    assert text.startswith(
        "failed to set up container networking: driver failed programming external connectivity on endpoint second ("
    )
    assert text.endswith("Bind for 0.0.0.0:8080 failed: port is already allocated")
    assert not stored.endpoints_of(host.engine.store, record["Id"])


@pytest.mark.parametrize(("first", "second"), [("", "127.0.0.1"), ("127.0.0.1", ""), ("127.0.0.1", "127.0.0.1")])
def test_overlapping_addresses_conflict(host: Host, first: str, second: str) -> None:
    host.container("first", ports=on("8080", first))
    with pytest.raises(SystemFailure, match="port is already allocated"):
        host.container("second", ports=on("8080", second))


def test_different_addresses_and_protocols_do_not(host: Host) -> None:
    host.container("first", ports=on("8080", "127.0.0.1"))
    host.container("second", ports=on("8080", "192.0.2.1"))
    host.container("third", ports=on("8080", "", "80/udp"))


def test_a_port_of_another_program_is_not_taken(host: Host, serve: Serve) -> None:
    serve(host.namespace, 8080)
    with pytest.raises(SystemFailure, match=r"failed to bind host port 0\.0\.0\.0:8080/tcp: address already in use$"):
        host.container("web", ports=on("8080"))


@pytest.fixture
def six(host: Host) -> Host:
    if not host.do(ports.serves_ipv6):
        pytest.skip("this machine has no IPv6")
    return host


def foreign(host: Host, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Another program's socket, at the host's IPv6 addresses alone, which it would share with others of its user."""
    made = netns.inside(host.namespace, lambda: socket.socket(socket.AF_INET6, kind))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind(("::", port))
    return made


@pytest.mark.parametrize(("protocol", "kind"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)])
def test_an_ipv6_port_of_another_program_is_not_taken(six: Host, protocol: str, kind: int) -> None:
    wish = on("8080", "", f"80/{protocol}")
    with foreign(six, 8080, kind) as other:
        if kind == socket.SOCK_STREAM:
            other.listen()
        text = rf"failed to bind host port \[::\]:8080/{protocol}: address already in use$"
        with pytest.raises(SystemFailure, match=text):
            six.container("web", ports=wish)
        assert six.left_behind() == []
        with netns.inside(six.namespace, lambda: socket.socket(socket.AF_INET, kind)) as free:
            free.bind(("0.0.0.0", 8080))  # nothing is kept of the half that could be had
    assert six.container("again", ports=wish).host_ports == [8080]
    with pytest.raises(OSError, match="Address already in use"):
        foreign(six, 8080, kind).close()


def test_a_port_that_one_container_has_by_ipv6_alone(six: Host) -> None:
    six.container("first", ports=on("8080", "::"))
    for name, host_ip, told in (("second", "", "::"), ("third", "::1", "::1"), ("fourth", "0::0", "::")):
        with pytest.raises(SystemFailure, match=rf"Bind for {told}:8080 failed: port is already allocated$"):
            six.container(name, ports=on("8080", host_ip))
    assert six.container("fifth", ports=on("8080", "0.0.0.0")).host_ports == [8080]


def test_any_port_is_free_by_ipv6_too(six: Host) -> None:
    used = six.container("first", ports=on("")).host_ports[0] + 1
    with foreign(six, used):
        web = six.container("second", ports=on(""))
    assert [(port["HostIP"], port["HostPort"]) for port in web.plan.ports] == [("0.0.0.0", used + 1), ("::", used + 1)]


def test_a_host_without_ipv6(host: Host) -> None:
    host.run("sh", "-c", "for each in all default lo; do echo 1 >/proc/sys/net/ipv6/conf/$each/disable_ipv6; done")
    assert [port["HostIP"] for port in host.container("web", ports=on("8080")).plan.ports] == ["0.0.0.0"]
    with pytest.raises(
        SystemFailure, match=r"failed to bind host port \[::1\]:8081/tcp: cannot assign requested address"
    ):
        host.container("other", ports=on("8081", "::1"))


def test_where_a_network_publishes(six: Host) -> None:
    option = "com.docker.network.bridge.host_binding_ipv4"
    for name, host_ip in (("near", "127.0.0.1"), ("new", "::"), ("all", "0.0.0.0")):
        six.network(name, Options={option: host_ip})
        shown = [port["HostIP"] for port in six.container(f"on-{name}", name, ports=on("")).plan.ports]
        assert shown == (everywhere_on(six) if name == "all" else [host_ip])


def test_nobody_else_takes_a_published_port(host: Host) -> None:
    host.container("web", ports=on("8080"))
    with netns.inside(host.namespace, socket.socket) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="Address already in use"):  # noqa: PT012 - either of the two may be refused
            other.bind(("0.0.0.0", 8080))
            other.listen()


def test_an_address_that_the_host_does_not_have(host: Host) -> None:
    with pytest.raises(SystemFailure, match="cannot assign requested address"):
        host.container("web", ports=on("8080", "203.0.113.9"))


def test_any_port(host: Host, serve: Serve) -> None:
    first, second = host.container("first", ports=on("")), host.container("second", ports=on("0"))
    low, high = host.do(ports.ephemeral_range)
    assert first.host_ports != second.host_ports
    assert all(low <= port <= high for port in (*first.host_ports, *second.host_ports))
    serve(first.namespace, 80)
    assert call(host.outside, "192.0.2.1", first.host_ports[0])


def test_any_port_passes_over_one_in_use(host: Host, serve: Serve) -> None:
    used = host.container("first", ports=on("")).host_ports[0] + 1
    serve(host.namespace, used)
    assert host.container("second", ports=on("")).host_ports == [used + 1]


def test_first_free_of_a_range(host: Host) -> None:
    assert host.container("first", ports=on("8000-8002")).host_ports == [8000]
    assert host.container("second", ports=on("8000-8002")).host_ports == [8001]
    assert host.container("third", ports=on("8000-8002")).host_ports == [8002]
    with pytest.raises(SystemFailure, match=r"8002 failed: port is already allocated"):
        host.container("fourth", ports=on("8000-8002"))


def test_publish_all(host: Host) -> None:
    config: Any = {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "host_config": {"PublishAllPorts": True}}
    web = host.container("web", **config)
    assert {(port["ContainerPort"], port["Protocol"]) for port in web.plan.ports} == {(80, "tcp"), (53, "udp")}


def test_several_ports_of_one_container(host: Host, serve: Serve) -> None:
    wanted = {"80/tcp": [{"HostPort": "8080"}, {"HostPort": "8081"}], "81/tcp": [{"HostPort": "8082"}]}
    web = host.container("web", ports=wanted)
    serve(web.namespace, 80)
    assert call(host.outside, "192.0.2.1", 8080)
    assert call(host.outside, "192.0.2.1", 8081)


@pytest.mark.parametrize(
    ("container_port", "host_port"),
    [("0/tcp", "1"), ("80/foo", "1"), ("x/tcp", "1"), ("80/tcp", "9-8"), ("80/tcp", "x"), ("80/tcp", "65536")],
)
def test_what_is_no_port_is_refused(container_port: str, host_port: str) -> None:
    with pytest.raises(InvalidParameter):
        ports.wishes({"PortBindings": on(host_port, "", container_port)}, {})


def test_a_host_that_knows_no_names_of_protocols(host: Host) -> None:
    """/etc/protocols belongs to a package that a small system does not have; nft asks it for names."""
    wanted = {f"80/{protocol}": [{"HostPort": "8080"}] for protocol in ("tcp", "udp", "sctp")}
    host.container("web", ports=wanted)
    known = stored.all_ports(host.engine.store)
    assert {port["Protocol"] for port in known} == {"tcp", "udp", "sctp"}
    script = rules.render("mtest", endpoints.bridges(host.engine.store), known, closed=True)
    hide = "if [ -e /etc/protocols ]; then mount --bind /dev/null /etc/protocols; fi; "
    argv = ["nsenter", f"--net={host.namespace}", "unshare", "--mount", "sh", "-ec", hide + "exec nft -f -"]
    done = subprocess.run(argv, input=script, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "8080 : 172.17.0.2 . 80" in host.run("nft", "list", "map", "inet", "mtest", "published_any4")
