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
from tests.service.network.conftest import Host, Server, call

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
