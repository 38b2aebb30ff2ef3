"""Published ports of SCTP, where the kernel speaks it: led to the container by the packet filter, as TCP's are."""

import errno
import socket
from functools import partial

import pytest

from service.errors import MoorageError
from service.kernel import netns
from tests.service.network import conftest
from tests.service.network.conftest import PATIENCE, UNREACHABLE, Host
from tests.service.network.test_bridge import Serve

SCTP = 132
WEB = {"80/sctp": [{"HostIp": "", "HostPort": "8080"}]}
call = partial(conftest.call, protocol=SCTP)


def _spoken() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, SCTP).close()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not _spoken(), reason="this kernel has no SCTP")


def test_from_everywhere(host: Host, serve: Serve) -> None:
    web, other = host.container("web", ports=WEB), host.container("other")
    serve(web.namespace, 80, protocol=SCTP)
    assert call(host.outside, "192.0.2.1", 8080) == "192.0.2.2"
    for address in ("127.0.0.1", "192.0.2.1", "172.17.0.1"):
        assert call(host.namespace, address, 8080) in ("172.17.0.1", "192.0.2.1"), address
    assert call(other.namespace, "172.17.0.1", 8080) in ("172.17.0.1", other.ip)
    assert call(other.namespace, web.ip, 80) == other.ip
    web.release()
    with pytest.raises(UNREACHABLE):
        call(host.outside, "192.0.2.1", 8080, patience=PATIENCE)


def test_outwards(host: Host, serve: Serve) -> None:
    serve(host.outside, 7000, protocol=SCTP)
    assert call(host.container("a").namespace, "192.0.2.2", 7000) == "192.0.2.1"


def test_the_port_is_taken(host: Host) -> None:
    """Nobody else gets it, neither a container nor a program; TCP's port of that number is another one."""
    host.container("web", ports=WEB)
    with pytest.raises(MoorageError, match=r"8080/sctp: address already in use|port is already allocated"):
        host.container("second", ports=WEB)
    with netns.inside(host.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, SCTP)) as mine:
        with pytest.raises(OSError) as refused:  # noqa: PT011 - its number is looked at
            mine.bind(("0.0.0.0", 8080))
        assert refused.value.errno == errno.EADDRINUSE
    host.container("third", ports={"80/tcp": [{"HostIp": "", "HostPort": "8080"}]})
