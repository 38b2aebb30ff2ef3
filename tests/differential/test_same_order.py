"""The order of keys in what inspect prints: people compare two outputs line by line."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.differential.dockerd import Dockerd, Unavailable
from tests.differential.steps import delete, get, make, post
from tests.differential.test_same_answers import WORDED_ALIKE_SINCE, Side
from tests.support import image
from tests.support.instance import Instance
from tests.support.ports import free_ports

PORT = free_ports(2)
CONTAINER: dict[str, Any] = {
    "Labels": {"z": "1", "a": "2", "m.n": "3"},
    "ExposedPorts": {"9000/tcp": {}, "80/tcp": {}},
    "Volumes": {"/z": {}, "/a": {}},
    "Healthcheck": {"Test": ["NONE"]},
    "StopSignal": "SIGINT",
    "StopTimeout": 3,
    "HostConfig": {
        "Annotations": {"z": "1", "a": "2"},
        "Tmpfs": {"/t2": "", "/t1": "size=1m"},
        "Sysctls": {"net.ipv4.ip_forward": "1", "net.core.somaxconn": "100"},
        "Mounts": [{"Type": "tmpfs", "Target": "/m"}],
        "PortBindings": {"90/tcp": [{"HostPort": str(PORT + 1)}], "81/tcp": [{"HostPort": str(PORT)}]},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        "Init": True,
    },
}
NETWORK: dict[str, Any] = {
    "Name": "d-order",
    "Options": {"z.z": "1", "a.a": "2"},
    "Labels": {"z": "1", "a": "2"},
    "IPAM": {"Config": [{"Subnet": "10.99.5.0/24", "Gateway": "10.99.5.1", "IPRange": "10.99.5.0/25"}]},
}
VOLUME: dict[str, Any] = {
    "Name": "d-order",
    "Labels": {"z": "1", "a": "2"},
    "DriverOpts": {"type": "tmpfs", "o": "size=1m", "device": "tmpfs"},
}
LATER = {"GwPriority", "DriverOpts"}  # fields of later engines, or with another place there


@pytest.fixture(scope="module")
def reference() -> Iterator[Dockerd]:
    try:
        with Dockerd() as dockerd:
            if dockerd.version()[0] < WORDED_ALIKE_SINCE:
                pytest.skip("older ones have other fields")
            with open(image.busybox(), "rb") as archive:
                Side(dockerd.socket).ask("", post("/images/load", archive.read()), "application/x-tar")
            yield dockerd
    except Unavailable as reason:
        pytest.skip(str(reason))


def keys(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all keys, in their order; those of a map that is keyed by what differs (ids, networks) too."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in LATER:
                yield f"{path}.{key}"
                yield from keys(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from keys(item, path + "[]")


def test_keys_come_in_the_order_of_dockerd(moorage: Instance, reference: Dockerd) -> None:
    found: list[dict[str, list[str]]] = []
    for side in (Side(reference.socket), Side(moorage.socket)):
        made = side.ask("/v1.45", make("d-order", **CONTAINER))
        assert made.status == 201, made.body
        side.ask("/v1.45", post("/networks/create", NETWORK))
        side.ask("/v1.45", post("/volumes/create", VOLUME))
        shown = {}
        for path in ("/containers/d-order/json", "/networks/d-order", "/volumes/d-order"):
            document = json.loads(side.ask("/v1.45", get(path)).body)
            for differing in ("Mounts", "GraphDriver"):
                document.pop(differing, None)
            shown[path] = list(keys(document))
        found.append(shown)
        for path in ("/containers/d-order?v=1", "/networks/d-order", "/volumes/d-order"):
            assert side.ask("/v1.45", delete(path)).status == 204
    for path, wanted in found[0].items():
        assert "\n".join(found[1][path]) == "\n".join(wanted)
