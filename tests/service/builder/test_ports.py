"""EXPOSE: what its words mean. Expected is what BuildKit of August 2026 makes of them."""

import re

import pytest

from service.builder.dockerfile import BadDockerfile
from service.builder.ports import exposed


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", "80/tcp"),
        ("443/TCP", "443/tcp"),
        ("9-11/udp", "9/udp 10/udp 11/udp"),
        ("9-9/sctp", "9/sctp"),
        ("1.2.3.4:80:90", "90/tcp"),
        ("[::1]:1:2", "2/tcp"),
        ("5:6", "6/tcp"),
        (":6", "6/tcp"),
        ("1-3:6", "6/tcp"),
        ("1-2:6-7/udp", "6/udp 7/udp"),
        ("0", "0/tcp"),
    ],
)
def test_ports(text: str, ports: str) -> None:
    assert exposed(text) == ports.split()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("/tcp", 'invalid port: "/tcp": no port specified'),
        ("80/foo", 'invalid port: "80/foo": invalid proto: foo'),
        ("abc", "invalid containerPort: abc"),
        ("65536", "invalid containerPort: 65536"),
        ("11-9", "invalid containerPort: 11-9"),
        ("1-", "invalid containerPort: 1-"),
        ("x:80:90", "invalid IP address: x"),
        ("x:90", "invalid hostPort: x"),
        ("1-3:4-5", "invalid ranges specified for container and host Ports: 4-5 and 1-3"),
    ],
)
def test_what_is_no_port(text: str, error: str) -> None:
    with pytest.raises(BadDockerfile, match=f"^{re.escape(error)}$"):
        exposed(text)
