"""Beside a running firewalld, whose default zone refuses what it does not know: containers work as under dockerd."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.engine import network_repair, networks
from tests.service.network.conftest import PATIENCE, Container, Host, call, run
from tests.service.network.test_bridge import WEB, Serve
from tests.support import firewalld as support
from tests.support.firewalld import Firewalld


@pytest.fixture
def firewalld(host: Host, tmp_path: Path) -> Iterator[Firewalld]:
    """A firewalld on the host; the product finds its bus."""
    try:
        started = Firewalld(host.namespace, tmp_path)
    except support.NotHere as reason:
        pytest.skip(str(reason))
    host.settings.system_bus = started.address
    with started:
        yield started


def works(host: Host, web: Container) -> bool:
    """Whether a container has its way out, its published port, and the host."""
    gateway = web.ip.rpartition(".")[0] + ".1"
    return (
        call(web.namespace, "192.0.2.2", 7000) == "192.0.2.1"
        and call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"
        and call(web.namespace, gateway, 7001) == web.ip
    )


def test_containers_beside_it(host: Host, serve: Serve, firewalld: Firewalld) -> None:
    serve(host.outside, 7000)
    serve(host.namespace, 7001)
    web = host.container("web", ports=WEB)
    serve(web.namespace, 80)
    assert works(host, web)
    with pytest.raises(OSError):  # noqa: PT011 - refused by whatever means
        call(host.outside, "192.0.2.1", 7001, patience=PATIENCE)  # the host itself is no more open than before
    firewalld.reload()
    assert works(host, web), "a reload, and nobody of ours awake"
    firewalld.stop()
    assert works(host, web)
    firewalld.start()
    assert works(host, web), "a start of firewalld, and nobody of ours awake"


def test_it_was_started_after_them(host: Host, serve: Serve, firewalld: Firewalld) -> None:
    firewalld.stop()
    serve(host.outside, 7000)
    serve(host.namespace, 7001)
    web = host.container("web", ports=WEB)
    serve(web.namespace, 80)
    firewalld.start()
    with pytest.raises(OSError):  # noqa: PT011 - refused by whatever means
        call(web.namespace, "192.0.2.2", 7000, patience=PATIENCE)
    said: list[str] = []
    host.do(network_repair.at_start, host.settings, host.engine.store, said.append)
    assert said == []
    assert works(host, web)


def test_zones_of_networks(host: Host, firewalld: Firewalld) -> None:
    """A network that goes leaves the zone; one whose bridge the administrator has put elsewhere stays there."""
    gone = f"br-{host.network('gone')[:12]}"
    assert firewalld.call("zone", "getInterfaces", "s", "docker") == f'as 1 "{gone}"\n'
    host.do(networks.remove, host.settings, host.engine.store, "gone")
    firewalld.call("zone", "addInterface", "ss", "internal", "mine0")
    host.network("mine", Options={"com.docker.network.bridge.name": "mine0"})
    assert firewalld.call("zone", "getInterfaces", "s", "docker") == "as 0\n"
    assert firewalld.call("zone", "getZoneOfInterface", "s", "mine0") == 's "internal"\n'
    firewalld.reload()
    assert firewalld.call("zone", "getInterfaces", "s", "docker") == "as 0\n", "none is left for the next start"


def test_a_routed_network_is_open_to_its_neighbours(host: Host, serve: Serve, firewalld: Firewalld) -> None:
    options = {"com.docker.network.bridge.gateway_mode_ipv4": "routed"}
    host.network("routed", Options=options, IPAM={"Config": [{"Subnet": "10.77.0.0/24"}]})
    web = host.container("web", "routed", ports=WEB)
    serve(web.namespace, 80)
    run(host.outside, "ip", "route", "add", "10.77.0.0/24", "via", "192.0.2.1")
    assert call(host.outside, web.ip, 80) == "192.0.2.2"
