"""The network-facing fields of create: hosts, names, addresses, MAC addresses, several networks, another's network."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.errors import APIError

from tests.support.instance import Instance


def said(moorage: Instance, *words: str) -> str:
    return moorage.docker("run", "--rm", *words).stdout


def complaint(moorage: Instance, *words: str) -> str:
    done = moorage.docker("run", "--rm", *words, "busybox", "true", check=False)
    assert done.returncode == 125
    return done.stderr


def create(client: DockerClient, **config: Any) -> str:
    made: str = client.api.create_container_from_config({"Image": "busybox", "Cmd": ["sleep", "600"], **config})["Id"]
    return made


@pytest.fixture
def two_networks(moorage: Instance) -> Iterator[tuple[str, str]]:
    for name in ("one", "two"):
        moorage.docker("network", "create", name)
    yield "one", "two"
    moorage.docker("network", "rm", "one", "two")


# --- files ----------------------------------------------------------------------------------------------------------


def test_extra_hosts(moorage: Instance) -> None:
    gateway = moorage.docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge").stdout.strip()
    words = ("--add-host", "db:10.0.0.9", "--add-host", "six:::7", "--add-host", "outside:host-gateway")
    lines = said(moorage, *words, "--hostname", "a.b", "--domainname", "c", "busybox", "cat", "/etc/hosts").splitlines()
    assert lines[6:9] == ["10.0.0.9\tdb", "::7\tsix", f"{gateway}\toutside"]
    assert lines[9].endswith("\ta.b.c a")
    on_host = said(moorage, "--network", "host", "busybox", "cat", "/etc/hosts")
    assert on_host == Path("/etc/hosts").read_text(encoding="utf-8")
    added = said(moorage, "--network", "host", "--add-host", "db:10.0.0.9", "busybox", "cat", "/etc/hosts").splitlines()
    assert added[0] == "127.0.0.1\tlocalhost"
    assert added[-1] == "10.0.0.9\tdb"


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ({"ExtraHosts": ["db"]}, 'bad format for add-host: "db"'),
        ({"ExtraHosts": ["db:x"]}, 'invalid IP address in add-host: "x"'),
        ({"ExtraHosts": ["db:[::1]"]}, 'invalid IP address in add-host: "[::1]"'),
        ({"Dns": ["x"]}, "bad nameserver address x"),
    ],
)
def test_hosts_and_servers_that_mean_nothing(client: DockerClient, host: dict[str, Any], text: str) -> None:
    with pytest.raises(APIError) as refused:
        create(client, HostConfig=host)
    assert text in refused.value.explanation
    assert refused.value.status_code == 400


def test_name_servers(moorage: Instance) -> None:
    words = ("--dns", "192.0.2.1", "--dns", "127.0.0.1", "--dns-search", "example.org", "--dns-option", "ndots:3")
    assert said(moorage, *words, "busybox", "cat", "/etc/resolv.conf") == (
        "nameserver 192.0.2.1\nnameserver 127.0.0.1\nsearch example.org\noptions ndots:3\n"
    )
    text = said(moorage, "--dns-search", ".", "busybox", "cat", "/etc/resolv.conf")
    assert "search" not in text
    assert "nameserver 127." not in text


def test_what_a_running_container_has_written_stays(moorage: Instance, two_networks: tuple[str, str]) -> None:
    first, second = two_networks
    container = moorage.docker("run", "-d", "--network", first, "busybox", "sleep", "600").stdout.strip()
    try:
        moorage.docker("exec", container, "sh", "-c", "echo '192.0.2.7\tmine' >>/etc/hosts")
        moorage.docker("network", "connect", second, container)
        lines = moorage.docker("exec", container, "cat", "/etc/hosts").stdout.splitlines()
        own = [line for line in lines if line.endswith(f"\t{container[:12]}")]
        assert len(own) == 2
        assert "192.0.2.7\tmine" in lines
        moorage.docker("network", "disconnect", second, container)
        left = moorage.docker("exec", container, "cat", "/etc/hosts").stdout.splitlines()
        assert [line for line in lines if line not in left] == [own[1]]
    finally:
        moorage.docker("rm", "-f", container)


# --- MAC addresses, addresses, sysctls --------------------------------------------------------------------------------

MAC = "02:00:00:00:00:09"


def test_a_mac_address(moorage: Instance, client: DockerClient) -> None:
    assert said(moorage, "--mac-address", MAC, "busybox", "cat", "/sys/class/net/eth0/address") == f"{MAC}\n"
    old = moorage.client(version="1.43")
    container = create(old, MacAddress="02-00-00-00-00-0A")
    try:
        client.api.start(container)
        shown = client.api.inspect_container(container)
        assert shown["Config"]["MacAddress"] == "02-00-00-00-00-0A"
        assert shown["NetworkSettings"]["MacAddress"] == "02:00:00:00:00:0a"
    finally:
        client.api.remove_container(container, force=True)
    for text in ("zz", "01:00:00:00:00:00", "02:00:00:00:00"):
        with pytest.raises(APIError, match=f"invalid MAC address {text}"):
            create(client, MacAddress=text)


def test_sysctls_and_link_local_addresses_of_an_endpoint(client: DockerClient, moorage: Instance) -> None:
    moorage.docker("network", "create", "--subnet", "10.213.9.0/24", "settings")
    endpoint = {
        "IPAMConfig": {"IPv4Address": "10.213.9.9", "LinkLocalIPs": ["169.254.7.7"]},
        "DriverOpts": {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"},
    }
    container = create(
        client, HostConfig={"NetworkMode": "settings"}, NetworkingConfig={"EndpointsConfig": {"settings": endpoint}}
    )
    try:
        client.api.start(container)
        shown = moorage.docker(
            "exec", container, "sh", "-c", "ip addr show eth0; sysctl -n net.ipv4.conf.eth0.log_martians"
        )
        assert "10.213.9.9/24" in shown.stdout
        assert "169.254.7.7/16" in shown.stdout
        assert shown.stdout.endswith("\n1\n")
    finally:
        client.api.remove_container(container, force=True)
        moorage.docker("network", "rm", "settings")
    for text in ("net.ipv4.conf.eth0.log_martians=1", "kernel.pid_max=1", "net.ipv4.../../conf.IFNAME.x=1"):
        options = {"bridge": {"DriverOpts": {"com.docker.network.endpoint.sysctls": text}}}
        with pytest.raises(APIError, match="unrecognised network interface sysctl"):
            create(client, NetworkingConfig={"EndpointsConfig": options})


# --- several networks, and another container's ------------------------------------------------------------------------


def test_several_networks(moorage: Instance, client: DockerClient, two_networks: tuple[str, str]) -> None:
    first, second = two_networks
    container = moorage.docker(
        "run", "-d", "--network", f"name={second},alias=x", "--network", first, "busybox", "sleep", "600"
    ).stdout.strip()
    try:
        networks = client.api.inspect_container(container)["NetworkSettings"]["Networks"]
        assert set(networks) == {first, second}
        addresses = moorage.docker("exec", container, "ip", "-4", "-o", "addr").stdout
        assert f"eth0    inet {networks[second]['IPAddress']}/" in addresses
        assert f"eth1    inet {networks[first]['IPAddress']}/" in addresses
    finally:
        moorage.docker("rm", "-f", container)
    with pytest.raises(APIError, match="Container cannot be created with multiple network endpoints: one, two"):
        create(moorage.client(version="1.43"), NetworkingConfig={"EndpointsConfig": {first: {}, second: {}}})


def test_interfaces_by_name(moorage: Instance, client: DockerClient, two_networks: tuple[str, str]) -> None:
    first, second = two_networks
    option = "com.docker.network.endpoint.ifname"
    container = moorage.docker(
        "run",
        "-d",
        "--network",
        f"name={first},driver-opt={option}=eth1",
        "--network",
        second,
        "busybox",
        "sleep",
        "600",
    ).stdout.strip()
    try:
        networks = client.api.inspect_container(container)["NetworkSettings"]["Networks"]
        addresses = moorage.docker("exec", container, "ip", "-4", "-o", "addr").stdout
        assert f"eth1    inet {networks[first]['IPAddress']}/" in addresses
        assert f"eth0    inet {networks[second]['IPAddress']}/" in addresses
        words = ("network", "connect", "bridge", container, "--driver-opt")
        assert "in use already" in moorage.docker(*words, f"{option}=eth0", check=False).stderr
        moorage.docker(*words, f"{option}=lan")
        assert " lan " in moorage.docker("exec", container, "ip", "-4", "-o", "addr").stdout
        moorage.docker("restart", "-t", "0", container)
        assert " lan " in moorage.docker("exec", container, "ip", "-4", "-o", "addr").stdout
    finally:
        moorage.docker("rm", "-f", container)
    for text in ("a/b", "sixteen-letters-", ".", "a b"):
        with pytest.raises(APIError, match="invalid interface name"):
            create(client, NetworkingConfig={"EndpointsConfig": {"bridge": {"DriverOpts": {option: text}}}})


def test_a_network_by_its_id(moorage: Instance, client: DockerClient, two_networks: tuple[str, str]) -> None:
    first, _ = two_networks
    network = moorage.docker("network", "inspect", "-f", "{{.Id}}", first).stdout.strip()
    for reference in (network, network[:12]):
        container = moorage.docker("run", "-d", "--network", reference, "busybox", "sleep", "600").stdout.strip()
        try:
            shown = client.api.inspect_container(container)
            assert set(shown["NetworkSettings"]["Networks"]) == {first}
            assert shown["NetworkSettings"]["Networks"][first]["NetworkID"] == network
        finally:
            moorage.docker("rm", "-f", container)


def test_a_container_is_on_the_networks_that_it_names(client: DockerClient, two_networks: tuple[str, str]) -> None:
    """As with dockerd: NetworkMode counts when no endpoint is named at all."""
    _, second = two_networks
    container = create(client, NetworkingConfig={"EndpointsConfig": {second: {}}})
    try:
        client.api.start(container)
        assert set(client.api.inspect_container(container)["NetworkSettings"]["Networks"]) == {second}
        client.api.disconnect_container_from_network(container, second)
        client.api.restart(container, timeout=0)
        shown = client.api.inspect_container(container)
        assert (shown["NetworkSettings"]["Networks"], shown["State"]["Running"]) == ({}, True)
    finally:
        client.api.remove_container(container, force=True)


@pytest.mark.parametrize(
    ("mode", "endpoint", "text"),
    [
        ("host", "bridge", "container sharing network namespace with another container or host cannot be connected to"),
        ("bridge", "host", "cannot connect container to host network - container must be created in host network mode"),
    ],
)
def test_networks_that_cannot_be_mixed(client: DockerClient, mode: str, endpoint: str, text: str) -> None:
    container = create(client, HostConfig={"NetworkMode": mode}, NetworkingConfig={"EndpointsConfig": {endpoint: {}}})
    try:
        with pytest.raises(APIError, match=text):
            client.api.start(container)
    finally:
        client.api.remove_container(container)


def test_files_are_those_of_the_networks_owner(moorage: Instance) -> None:
    """The same files, not copies: what one writes the other reads; inspect says whose they are."""
    owner = moorage.docker(
        "run", "-d", "--name", "owner", "--hostname", "box", "busybox", "sleep", "600"
    ).stdout.strip()
    try:
        moorage.docker("run", "-d", "--name", "guest", "--network", "container:owner", "busybox", "sleep", "600")
        moorage.docker("exec", "guest", "sh", "-c", "echo '192.0.2.7\tmine' >>/etc/hosts")
        assert "192.0.2.7\tmine" in moorage.docker("exec", "owner", "cat", "/etc/hosts").stdout
        assert owner in moorage.docker("inspect", "-f", "{{.HostsPath}}", "guest").stdout
        assert moorage.docker("exec", "guest", "cat", "/etc/hostname").stdout == "box\n"
    finally:
        moorage.docker("rm", "-f", "owner", "guest", check=False)


def test_an_owner_that_stops_and_goes(moorage: Instance) -> None:
    moorage.docker("run", "-d", "--name", "owner", "busybox", "sleep", "600")
    moorage.docker("run", "-d", "--name", "guest", "--network", "container:owner", "busybox", "sleep", "600")
    try:
        moorage.docker("stop", "-t", "0", "owner")
        assert moorage.docker("exec", "guest", "echo", "alive").stdout == "alive\n"
        again = moorage.docker("restart", "-t", "0", "guest", check=False)
        assert "cannot join network namespace of a non running container: container owner is exited" in again.stderr
        owner = moorage.docker("inspect", "-f", "{{.Id}}", "owner").stdout.strip()
        moorage.docker("rm", "owner")
        gone = moorage.docker("start", "guest", check=False)
        assert f"joining network namespace of container: No such container: {owner}" in gone.stderr
        state = json.loads(moorage.docker("inspect", "guest").stdout)[0]["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 128)
        for verb in ("connect", "disconnect"):
            refused = moorage.docker("network", verb, "bridge", "guest", check=False)
            assert refused.returncode, refused.stdout
    finally:
        moorage.docker("rm", "-f", "owner", "guest", check=False)


def test_a_container_cannot_join_itself(client: DockerClient) -> None:
    container = client.api.create_container_from_config(
        {"Image": "busybox", "HostConfig": {"NetworkMode": "container:self"}}, name="self"
    )["Id"]
    try:
        with pytest.raises(APIError, match="cannot join own network namespace"):
            client.api.start(container)
    finally:
        client.api.remove_container(container)


def test_containers_that_point_at_each_other(client: DockerClient) -> None:
    """A name can be given again: what follows the chain comes to an end."""
    made = []
    for name, other in (("first", "second"), ("second", "first")):
        body = {"Image": "busybox", "HostConfig": {"NetworkMode": f"container:{other}"}}
        made.append(client.api.create_container_from_config(body, name=name)["Id"])
    try:
        for container in made:
            with pytest.raises(APIError, match="cannot join network namespace of a non running container"):
                client.api.start(container)
            assert client.api.inspect_container(container)["State"]["Status"] == "created"
        with pytest.raises(APIError, match="could not get container for"):
            create(client, HostConfig={"Links": ["first:x"]})
    finally:
        for container in made:
            client.api.remove_container(container)


def test_the_ends_of_a_subnet_are_nobodys_address(moorage: Instance) -> None:
    moorage.docker("network", "create", "--subnet", "10.213.11.0/24", "ends")
    try:
        for address in ("10.213.11.0", "10.213.11.255"):
            assert "Address already in use" in complaint(moorage, "--network", "ends", "--ip", address)
        six = complaint(moorage, "--network", "ends", "--ip6", "fd00:213:11::9")
        assert "supported only when connecting to networks with user configured subnets" in six
    finally:
        moorage.docker("network", "rm", "ends")


def test_a_network_that_was_removed_is_left(moorage: Instance) -> None:
    """Else the container that names it could never be started again."""
    moorage.docker("network", "create", "going")
    moorage.docker("create", "--name", "stays", "--network", "going", "busybox", "sleep", "600")
    try:
        moorage.docker("network", "rm", "going")
        assert "network going not found" in moorage.docker("start", "stays", check=False).stderr
        assert (
            "network other not found" in moorage.docker("network", "disconnect", "other", "stays", check=False).stderr
        )
        moorage.docker("network", "disconnect", "going", "stays")
        moorage.docker("network", "connect", "bridge", "stays")
        moorage.docker("start", "stays")
        assert "eth0" in moorage.docker("exec", "stays", "ip", "link").stdout
    finally:
        moorage.docker("rm", "-f", "stays")


def test_names_are_shown_as_they_are_since_a_renaming(client: DockerClient, two_networks: tuple[str, str]) -> None:
    made = create(
        client, HostConfig={"NetworkMode": "one"}, NetworkingConfig={"EndpointsConfig": {"one": {"Aliases": ["a"]}}}
    )
    try:
        client.api.start(made)
        client.api.rename(made, "renamed")
        (shown,) = client.api.inspect_container(made)["NetworkSettings"]["Networks"].values()
        assert shown["DNSNames"] == ["renamed", "a", made[:12]]
    finally:
        client.api.remove_container(made, force=True)


def test_the_network_of_a_guest_outlives_the_service(moorage: Instance) -> None:
    moorage.docker("run", "-d", "--name", "owner", "busybox", "sleep", "600")
    moorage.docker("run", "-d", "--name", "guest", "--network", "container:owner", "busybox", "sleep", "600")
    try:
        moorage.kill_service()
        spaces = [
            subprocess.run(
                ["readlink", f"/proc/{moorage.docker('inspect', '-f', '{{.State.Pid}}', name).stdout.strip()}/ns/net"],
                capture_output=True, text=True, check=True,
            ).stdout
            for name in ("owner", "guest")
        ]  # fmt: skip
        assert spaces[0] == spaces[1]
    finally:
        moorage.docker("rm", "-f", "owner", "guest")
