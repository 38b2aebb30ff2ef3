"""Create requests of older API versions: read with the rules that they were written for."""

from typing import Any

import pytest

from compat_api.create_request import as_newest
from service.errors import InvalidParameter

NEWEST = (1, 55)
LAST_WITH_A_MAC = (1, 51)  # of a container as a whole


def adapted(request: dict[str, Any], version: tuple[int, int]) -> tuple[dict[str, Any], list[str]]:
    warnings = as_newest(request, version)
    return request, warnings


def mounting(**mount: Any) -> dict[str, Any]:
    return {"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/s", "Target": "/t", **mount}]}}


@pytest.mark.parametrize(
    ("field", "since"), [("NonRecursive", (1, 40)), ("CreateMountpoint", (1, 42)), ("Propagation", (1, 24))]
)
def test_options_of_binds_count_from_their_version_on(field: str, since: tuple[int, int]) -> None:
    for version in ((1, 24), (1, 39), (1, 40), (1, 41), (1, 42), NEWEST):
        request, _ = adapted(mounting(BindOptions={field: True}), version)
        assert (field in request["HostConfig"]["Mounts"][0]["BindOptions"]) == (version >= since)


@pytest.mark.parametrize(
    ("mount", "below", "complaint"),
    [
        ({"BindOptions": {"ReadOnlyForceRecursive": True}}, (1, 44), "BindOptions.ReadOnlyForceRecursive needs"),
        ({"Type": "volume", "VolumeOptions": {"Subpath": "a"}}, (1, 45), "VolumeOptions.Subpath needs API v1.45"),
        ({"Type": "image"}, (1, 48), 'Mount type "Image" needs API v1.48 or newer'),
    ],
)  # fmt: skip
def test_what_an_older_version_refuses(mount: dict[str, Any], below: tuple[int, int], complaint: str) -> None:
    adapted(mounting(**mount), below)
    with pytest.raises(InvalidParameter) as refused:
        adapted(mounting(**mount), (1, below[1] - 1))
    assert refused.value.message.startswith(complaint)


def test_options_of_another_kind_of_mount() -> None:
    request, _ = adapted(mounting(VolumeOptions={"NoCopy": True}), (1, 41))
    assert "VolumeOptions" not in request["HostConfig"]["Mounts"][0]
    with pytest.raises(InvalidParameter, match='VolumeOptions must not be specified on mount type "bind"'):
        adapted(mounting(VolumeOptions={"NoCopy": True}), (1, 42))


def test_several_endpoints() -> None:
    request = {"NetworkingConfig": {"EndpointsConfig": {"a": {"GwPriority": 1}, "b": {}}}}
    with pytest.raises(InvalidParameter, match="Container cannot be created with multiple network endpoints: a, b"):
        adapted(request, (1, 43))
    assert adapted(request, (1, 47))[0]["NetworkingConfig"]["EndpointsConfig"] == {"a": {}, "b": {}}


def test_the_default_network_is_bridge() -> None:
    request, _ = adapted({"NetworkingConfig": {"EndpointsConfig": {"default": {"Links": ["a:b"]}}}}, NEWEST)
    assert request["HostConfig"]["NetworkMode"] == "bridge"
    assert request["NetworkingConfig"]["EndpointsConfig"] == {"bridge": {"Links": ["a:b"]}}


MAC = "02:00:00:00:00:01"


def test_the_mac_address_goes_to_the_main_network() -> None:
    for version, warned in (((1, 43), False), (LAST_WITH_A_MAC, True)):
        request, warnings = adapted({"MacAddress": MAC, "HostConfig": {"NetworkMode": "n"}}, version)
        assert request["NetworkingConfig"]["EndpointsConfig"] == {"n": {"MacAddress": MAC}}
        assert "MacAddress" not in request
        assert bool(warnings) == warned
    request, _ = adapted({"NetworkingConfig": {"EndpointsConfig": {"bridge": {"MacAddress": MAC}}}}, (1, 43))
    assert request["NetworkingConfig"]["EndpointsConfig"] == {"bridge": {}}


@pytest.mark.parametrize(
    ("version", "mode", "endpoints", "complaint"),
    [
        ((1, 43), "host", {}, "conflicting options: mac-address and the network mode"),
        ((1, 52), "bridge", {}, "container-wide MAC address no longer supported; use endpoint-specific"),
        (NEWEST, "host", {}, "container-wide MAC address no longer supported; use endpoint-specific"),
        (LAST_WITH_A_MAC, "bridge", {"bridge": {"MacAddress": "02:00:00:00:00:02"}}, "the container-wide MAC"),
        (LAST_WITH_A_MAC, "n", {"other": {}}, "unable to migrate container-wide MAC address to a specific network"),
    ],
)  # fmt: skip
def test_mac_addresses_that_contradict(
    version: tuple[int, int], mode: str, endpoints: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidParameter) as refused:
        adapted(
            {
                "MacAddress": MAC,
                "HostConfig": {"NetworkMode": mode},
                "NetworkingConfig": {"EndpointsConfig": endpoints},
            },
            version,
        )
    assert refused.value.message.startswith(complaint)


def test_empty_port_bindings() -> None:
    for version, told in (((1, 51), False), ((1, 52), True), (NEWEST, True)):
        bindings: dict[str, Any] = {"80/tcp": [], "81/tcp": None, "82/tcp": [{"HostPort": "8082"}]}
        request, warnings = adapted({"HostConfig": {"PortBindings": bindings}}, version)
        assert bool(warnings) == told
        if told:
            assert "have an empty list of port-bindings: 80/tcp, 81/tcp." in warnings[0]
            assert request["HostConfig"]["PortBindings"] == {
                "80/tcp": [{}],
                "81/tcp": [{}],
                "82/tcp": [{"HostPort": "8082"}],
            }
    assert adapted({"HostConfig": {"PortBindings": {"80": [{}]}}}, NEWEST)[1] == []


def test_what_a_version_does_not_know_any_more_is_not_read() -> None:
    for version, read in (((1, 51), True), ((1, 52), False)):
        request, _ = adapted({"HostConfig": {"KernelMemoryTCP": 1 << 20}}, version)
        assert ("KernelMemoryTCP" in request["HostConfig"]) == read


def test_sysctls_of_an_interface() -> None:
    asked = {"HostConfig": {"Sysctls": {"net.ipv4.conf.eth0.forwarding": "1", "net.core.somaxconn": "9"}}}
    request, warnings = adapted(asked, (1, 47))
    moved = "net.ipv4.conf.IFNAME.forwarding=1"
    assert request["HostConfig"]["Sysctls"] == {"net.core.somaxconn": "9"}
    assert request["NetworkingConfig"]["EndpointsConfig"]["bridge"]["DriverOpts"] == {
        "com.docker.network.endpoint.sysctls": moved
    }
    assert warnings == [
        'Migrated sysctl "net.ipv4.conf.eth0.forwarding" to DriverOpts{"com.docker.network.endpoint.sysctls":'
        f'"{moved}"}}.'
    ]
    for version, name in ((NEWEST, "eth0"), ((1, 47), "eth1")):
        with pytest.raises(InvalidParameter, match="sysctl"):
            adapted({"HostConfig": {"Sysctls": {f"net.ipv4.conf.{name}.forwarding": "1"}}}, version)


def test_defaults_of_the_time() -> None:
    old, _ = adapted({"HostConfig": {"AutoRemove": True, "Annotations": {"a": "b"}, "ConsoleSize": [1, 2]}}, (1, 24))
    assert old["HostConfig"]["IpcMode"] == "shareable"
    assert not {"AutoRemove", "Annotations", "ConsoleSize"} & old["HostConfig"].keys()
    new, _ = adapted({"Healthcheck": {"StartInterval": 1}}, (1, 44))
    assert "IpcMode" not in new["HostConfig"]
    assert new["Healthcheck"] == {"StartInterval": 1}
    assert adapted({"Healthcheck": {"StartInterval": 1}}, (1, 43))[0]["Healthcheck"] == {}


def test_a_volume_driver_that_reaches_nothing() -> None:
    asked = {"HostConfig": {"VolumeDriver": "local", "Mounts": [{"Type": "volume", "Target": "/t"}]}}
    assert [w[:46] for w in as_newest(asked, NEWEST)] == ["WARNING: the container-wide volume-driver confi"[:46]]
    assert as_newest(asked, (1, 47)) == []
