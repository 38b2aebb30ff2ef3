"""What API versions 1.52 to 1.55 changed: each change from its version on, and nothing of it before."""

import json
import urllib.parse
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError

from tests.support import image
from tests.support.instance import Instance
from tests.support.wire import Answer, Wire, request

BEFORE, SINCE, NEWEST = "1.51", "1.52", "1.55"
OTHER = "s390x"


def call(moorage: Instance, version: str, line: str, body: Any = None, **headers: str) -> Answer:
    """`GET /path` in a version ("" for none)."""
    method, path = line.split(" ", 1)
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    if isinstance(body, dict):
        headers["content_type"] = "application/json"
    with Wire(moorage.socket) as wire:
        wire.send(request(f"{method} {version and '/v'}{version}{path}", data, connection="close", **headers))
        return wire.answer()


def said(moorage: Instance, version: str, line: str, body: Any = None) -> Any:
    answer = call(moorage, version, line, body)
    assert answer.status < 300, answer.body
    return answer.json


def in_json(architecture: str) -> str:
    return urllib.parse.quote(json.dumps({"os": "linux", "architecture": architecture}))


def test_a_containers_address_stands_in_its_networks_only(moorage: Instance) -> None:
    mac = "02:42:ac:11:aa:01"
    name = moorage.docker("run", "-d", "--mac-address", mac, "busybox", "sleep", "1000").stdout.strip()
    old, new = (said(moorage, version, f"GET /containers/{name}/json") for version in (BEFORE, SINCE))
    bridge = new["NetworkSettings"]["Networks"]["bridge"]
    assert bridge["IPAddress"].count(".") == 3
    assert old["NetworkSettings"]["IPAddress"] == bridge["IPAddress"]
    assert old["Config"]["MacAddress"] == old["NetworkSettings"]["MacAddress"] == bridge["MacAddress"] == mac
    assert new["NetworkSettings"].keys() == {"SandboxID", "SandboxKey", "Ports", "Networks"}
    assert old["NetworkSettings"]["Networks"] == new["NetworkSettings"]["Networks"]
    assert old["Config"].keys() - new["Config"].keys() == {"MacAddress", "OnBuild"}
    assert said(moorage, "", f"GET /containers/{name}/json") == said(moorage, NEWEST, f"GET /containers/{name}/json")
    moorage.docker("rm", "-f", name)


def test_a_mac_address_is_an_endpoints(moorage: Instance) -> None:
    asked = {"Image": "busybox", "MacAddress": "02:42:ac:11:aa:02"}
    refused = call(moorage, SINCE, "POST /containers/create", asked)
    assert (refused.status, refused.json["message"]) == (
        400,
        "container-wide MAC address no longer supported; use endpoint-specific MAC address instead",
    )
    taken = said(moorage, BEFORE, "POST /containers/create", asked)
    assert "now deprecated" in taken["Warnings"][0]
    moorage.docker("rm", taken["Id"])


def test_who_joins_a_network_gets_the_mac_address_asked_for(moorage: Instance) -> None:
    """dockerd does so from 1.54 on, and passes over it before."""
    moorage.docker("network", "create", "joined")
    container = moorage.docker("run", "-d", "busybox", "sleep", "1000").stdout.strip()
    for version, mac in ((BEFORE, "02:42:ac:11:aa:04"), (NEWEST, "02:42:ac:11:aa:05")):
        asked = {"Container": container, "EndpointConfig": {"MacAddress": mac}}
        assert call(moorage, version, "POST /networks/joined/connect", asked).status == 200
        assert moorage.docker("exec", container, "cat", "/sys/class/net/eth1/address").stdout.strip() == mac
        moorage.docker("network", "disconnect", "joined", container)
    moorage.docker("rm", "-f", container)
    moorage.docker("network", "rm", "joined")


def test_empty_port_bindings_are_warned_of_and_published(moorage: Instance) -> None:
    asked = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"PortBindings": {"80/tcp": []}}}
    for version in (BEFORE, SINCE, NEWEST):
        made = said(moorage, version, "POST /containers/create", asked)
        assert [warning.partition(":")[0] for warning in made["Warnings"]] == (
            [] if version == BEFORE else ["Following container port(s) have an empty list of port-bindings"]
        )
        moorage.docker("start", made["Id"])
        assert int(moorage.docker("port", made["Id"], "80/tcp").stdout.splitlines()[0].rpartition(":")[2])
        moorage.docker("rm", "-f", made["Id"])


def test_an_images_empty_fields_are_left_out(moorage: Instance, tmp_path: Path) -> None:
    image.archive(f"{tmp_path}/i.tar", [image.layer({"a": "b"})], tags=["bare:1"], config={"Cmd": ["x"]})
    moorage.docker("load", "-q", "-i", f"{tmp_path}/i.tar")
    old, new = (said(moorage, version, "GET /images/bare:1/json") for version in (BEFORE, SINCE))
    gone = {"Parent", "Comment", "DockerVersion", "Author"}
    assert {field: old[field] for field in gone} == dict.fromkeys(gone, "")
    assert gone.isdisjoint(new)
    assert new["Config"] == {"Cmd": ["x"]}
    assert old["Config"] == {
        **dict.fromkeys(("Entrypoint", "Env", "Labels", "OnBuild", "Volumes")),
        **{"Cmd": ["x"], "User": "", "WorkingDir": ""},
    }
    committed = moorage.docker("create", "busybox").stdout.strip()
    moorage.docker("commit", "-m", "why", "-a", "who", "-c", "USER 7", committed, "bare:2")
    new = said(moorage, NEWEST, "GET /images/bare:2/json")
    assert (new["Comment"], new["Author"], new["Config"]["User"]) == ("why", "who", "7")
    assert new["Parent"].startswith("sha256:")
    moorage.docker("rm", committed)
    moorage.docker("rmi", "bare:1", "bare:2")


def test_a_networks_addresses_are_counted(moorage: Instance) -> None:
    moorage.docker("network", "create", "--subnet", "10.231.7.0/29", "counted")
    inspect = "GET /networks/counted"
    assert "Status" not in said(moorage, BEFORE, inspect)
    assert said(moorage, SINCE, inspect)["Status"] == {
        "IPAM": {"Subnets": {"10.231.7.0/29": {"IPsInUse": 3, "DynamicIPsAvailable": 5}}}
    }
    container = moorage.docker("run", "-d", "--network", "counted", "busybox", "sleep", "1000").stdout.strip()
    counted = said(moorage, "", inspect)["Status"]["IPAM"]["Subnets"]["10.231.7.0/29"]
    assert counted == {"IPsInUse": 4, "DynamicIPsAvailable": 4}
    assert said(moorage, SINCE, "GET /networks/none")["Status"] == {"IPAM": {}}
    for version, fields in ((BEFORE, {"Containers"}), (SINCE, set())):
        (listed,) = [one for one in said(moorage, version, "GET /networks") if one["Name"] == "counted"]
        assert listed.keys() & {"Containers", "Status"} == fields
    moorage.docker("rm", "-f", container)
    moorage.docker("network", "rm", "counted")


USAGES = {"ImageUsage", "ContainerUsage", "VolumeUsage", "BuildCacheUsage"}
BEFORE_USAGES = {"LayersSize", "Images", "Containers", "Volumes", "BuildCache"}


def test_data_usage_in_sums(moorage: Instance) -> None:
    size = 3 << 20
    write = f"head -c {size} /dev/zero >/x; head -c {size} /dev/zero >/v/x"
    ended = moorage.docker("run", "-d", "-v", "kept:/v", "busybox", "sh", "-c", write).stdout.strip()
    moorage.docker("wait", ended)
    running = moorage.docker("run", "-d", "busybox", "sleep", "1000").stdout.strip()
    moorage.docker("volume", "create", "idle")

    old = said(moorage, BEFORE, "GET /system/df")
    assert old.keys() == BEFORE_USAGES
    both = said(moorage, SINCE, "GET /system/df")
    assert {"ImageUsage", "ContainerUsage", "VolumeUsage"} <= both.keys()
    assert both.keys() <= USAGES | BEFORE_USAGES
    assert {field: both[field] for field in BEFORE_USAGES} == {
        **old,
        "Containers": both["Containers"],  # with Health, and other seconds
    }

    verbose = said(moorage, SINCE, "GET /system/df?verbose=1")
    assert verbose.keys() == USAGES
    containers, volumes, images = (verbose[f"{kind}Usage"] for kind in ("Container", "Volume", "Image"))
    assert {one["Id"] for one in containers.pop("Items")} == {ended, running}
    assert (containers["ActiveCount"], containers["TotalCount"]) == (1, 2)
    assert size <= containers["Reclaimable"] <= containers["TotalSize"] < 2 * size
    assert {one["Name"] for one in volumes.pop("Items")} == {"kept", "idle"}
    assert (volumes["ActiveCount"], volumes["TotalCount"]) == (1, 2)
    assert volumes["TotalSize"] >= size
    assert volumes.get("Reclaimable", 0) < size, "what a container uses cannot be had back"
    assert [one["RepoTags"] for one in images.pop("Items")] == [["busybox:latest"]]
    assert images == {"ActiveCount": 1, "TotalCount": 1, "TotalSize": old["LayersSize"]}
    assert both["ImageUsage"] == images, "without `verbose` no single things"

    moorage.docker("rm", "-f", running, ended)
    freed = said(moorage, NEWEST, "GET /system/df?verbose=1")
    assert freed["ContainerUsage"] == {}
    assert freed["ImageUsage"]["Reclaimable"] == freed["ImageUsage"]["TotalSize"] == old["LayersSize"]
    assert freed["VolumeUsage"]["Reclaimable"] >= size
    assert said(moorage, NEWEST, "GET /system/df?type=volume").keys() == {"VolumeUsage", "Volumes"}
    assert said(moorage, "", "GET /system/df?type=volume&verbose=1").keys() == {"VolumeUsage"}
    moorage.docker("volume", "rm", "kept", "idle")


def test_events_without_their_older_fields(moorage: Instance) -> None:
    container = moorage.docker("create", "busybox").stdout.strip()
    moorage.docker("rm", container)
    wanted = urllib.parse.quote(json.dumps({"container": [container], "event": ["create"]}))
    for version, form in ((BEFORE, "application/json"), (SINCE, "application/jsonl"), ("", "application/jsonl")):
        told = call(moorage, version, f"GET /events?since=1m&until=0s&filters={wanted}")
        assert told.headers["content-type"] == form
        (event,) = [json.loads(line) for line in told.body.splitlines()]
        assert event["Actor"]["ID"] == container
        older = {"status": "create", "id": container, "from": "busybox"} if version == BEFORE else {}
        assert {field: event[field] for field in event.keys() & {"status", "id", "from"}} == older


def test_several_platforms_of_a_load_and_a_save(moorage: Instance) -> None:
    here = said(moorage, "", "GET /images/busybox/json")["Architecture"]
    both, other = f"platform={in_json(here)}&platform={in_json(OTHER)}", f"platform={in_json(OTHER)}"
    complaint = "multiple platform parameters are not supported in this API version; use API version 1.52 or later"
    for line in (f"GET /images/busybox/get?{both}", f"GET /images/get?names=busybox&{both}"):
        refused = call(moorage, BEFORE, line)
        assert (refused.status, refused.json["message"]) == (400, complaint)
        saved = call(moorage, SINCE, line)
        assert saved.status == 200
        with open(image.busybox(), "rb") as archive:
            whole = archive.read()
        for platforms, loaded in ((both, True), (other, False)):
            moorage.docker("rmi", "-f", "busybox")
            told = call(moorage, NEWEST, f"POST /images/load?{platforms}", whole, content_type="application/x-tar")
            assert (b"Loaded image: busybox:latest" in told.body) == loaded
        told = call(moorage, NEWEST, f"POST /images/load?{both}", saved.body, content_type="application/x-tar")
        assert b"Loaded image: busybox:latest" in told.body
    nowhere = call(moorage, SINCE, f"GET /images/busybox/get?{other}&platform={in_json('ppc64le')}")
    assert nowhere.status == 404
    assert "does not match the specified platform" in nowhere.json["message"]


def test_what_was_attested_of_an_image(moorage: Instance) -> None:
    path = "GET /images/busybox/attestations"
    assert call(moorage, "1.54", path).json == {"message": "page not found"}
    answer = call(moorage, NEWEST, path)
    assert (answer.status, answer.json["message"]) == (501, "the legacy image store does not support attestations")
    assert call(moorage, NEWEST, "GET /images/nosuch/attestations").status == 404
    assert call(moorage, NEWEST, f"{path}?platform={in_json(OTHER)}").status == 404
    twice = call(moorage, NEWEST, f"{path}?platform={in_json(OTHER)}&platform={in_json(OTHER)}")
    assert (twice.status, twice.json["message"]) == (400, "only one platform value is currently supported")


def test_the_identity_of_listed_images_needs_manifests(moorage: Instance) -> None:
    refused = call(moorage, "1.54", "GET /images/json?identity=1")
    assert (refused.status, refused.json["message"]) == (400, "conflicting options: identity requires manifests=1")
    assert said(moorage, "1.53", "GET /images/json?identity=1") == said(moorage, "1.53", "GET /images/json")
    assert said(moorage, "1.54", "GET /images/json?identity=1&manifests=1")[0]["RepoTags"] == ["busybox:latest"]


def test_docker_py_is_told_the_last_version_that_its_scripts_can_read(moorage: Instance) -> None:
    client = moorage.client()
    assert client.api.api_version == BEFORE
    container = client.containers.run("busybox", ["sleep", "1000"], detach=True)
    container.reload()
    assert container.attrs["NetworkSettings"]["IPAddress"]
    assert client.df()["LayersSize"]
    assert client.images.get("busybox").attrs["Parent"] == ""
    event = next(client.events(since=1, decode=True, filters={"event": "start", "container": container.id}))
    assert (event["status"], event["id"]) == ("start", container.id)

    newer = docker.DockerClient(base_url=moorage.docker_host, version=NEWEST)
    assert newer.version()["ApiVersion"] == BEFORE, "whatever it asks in, it is the same client"
    assert "IPAddress" not in newer.containers.get(container.id).attrs["NetworkSettings"]
    with pytest.raises(APIError, match="container-wide MAC address no longer supported"):
        newer.containers.create("busybox", mac_address="02:42:ac:11:aa:03")
    newer.close()
    container.remove(force=True)
    assert said(moorage, "", "GET /version")["ApiVersion"] == NEWEST
    assert call(moorage, "", "HEAD /_ping").headers["api-version"] == NEWEST
