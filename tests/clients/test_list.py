"""`docker ps`: what is shown of a container, and which containers each filter keeps. Expectations are dockerd's."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import docker
import pytest

from tests.support.instance import Instance
from tests.support.streams import call, create, done, inspect, remove, run, start, wait
from tests.support.wire import Wire, request


def listed(moorage: Instance, all: bool = True, query: str = "", **filters: Any) -> list[Any]:
    """The list. A filter's `_` stands for `-` in its name."""
    asked = {name.replace("_", "-"): [value] if isinstance(value, str) else value for name, value in filters.items()}
    found = done(call(moorage, f"GET /containers/json?all={int(all)}&{query}&filters={quote(json.dumps(asked))}"))
    assert isinstance(found, list)
    return found


def names(moorage: Instance, all: bool = True, query: str = "", **filters: Any) -> list[str]:
    return [container["Names"][0].removeprefix("/") for container in listed(moorage, all, query, **filters)]


@pytest.fixture(scope="module")
def four(moorage: Instance) -> Iterator[dict[str, str]]:
    """ended (exit code 3) ← web (runs, ports, volume) ← idle (created) ← lone (runs, no network); the oldest first."""
    moorage.docker("network", "create", "listnet")
    ids = {}
    ids["ended"] = moorage.docker(
        "run", "-d", "--name", "ended", "--label", "tier=back", "--network", "listnet", "busybox", "sh", "-c", "exit 3"
    ).stdout.strip()
    ids["web"] = moorage.docker(
        *("run", "-d", "--name", "web", "--label", "tier=front", "--label", "empty", "-v", "listvol:/data", "-v"),
        *("/tmp:/host:ro", "-p", "127.0.0.1::80", "--expose", "7000-7002/udp", "busybox", "sleep", "1000"),
    ).stdout.strip()
    ids["idle"] = moorage.docker(
        *("create", "--name", "idle", "-p", "18180:80", "busybox", "sh", "-c", "echo 'a b'", "", "x\ty")
    ).stdout.strip()
    ids["lone"] = create(moorage, "sleep", "1000", Labels={"tier": "front"}, ExposedPorts={"81/tcp": {}})
    done(call(moorage, f"POST /containers/{ids['lone']}/rename?name=lone"))
    start(moorage, ids["lone"])
    wait(moorage, ids["ended"])
    yield ids
    for container in ids.values():
        remove(moorage, container)
    moorage.docker("network", "rm", "listnet")
    moorage.docker("volume", "rm", "listvol")


def test_order_all_and_limit(moorage: Instance, four: dict[str, str]) -> None:
    assert names(moorage) == ["lone", "idle", "web", "ended"]
    assert names(moorage, all=False) == ["lone", "web"]
    assert names(moorage, all=False, query="limit=2") == ["lone", "idle"]
    assert names(moorage, query="limit=-1") == ["lone", "idle", "web", "ended"]
    assert names(moorage, query="limit=1", label="tier=back") == ["ended"]
    assert call(moorage, "GET /containers/json?limit=x").status == 400


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({"name": "e"}, ["lone", "idle", "web", "ended"]),
        ({"name": "^/?(web|idle)$"}, ["idle", "web"]),
        ({"name": "/we"}, ["web"]),
        ({"name": "["}, []),
        ({"name": ["[", "lone"]}, ["lone"]),
        ({"status": "created"}, ["idle"]),
        ({"status": ["exited", "running"]}, ["lone", "web", "ended"]),
        ({"status": []}, ["lone", "idle", "web", "ended"]),
        ({"exited": "3"}, ["ended"]),
        ({"exited": "+3"}, ["ended"]),
        ({"exited": "0"}, []),  # one that never ran has not exited
        ({"label": "tier"}, ["lone", "web", "ended"]),
        ({"label": ["tier=front", "empty"]}, ["web"]),
        ({"label": "empty="}, ["web"]),
        ({"before": "web"}, ["ended"]),
        ({"since": "web"}, ["lone", "idle"]),
        ({"since": "/ended", "before": "idle"}, ["web"]),
        ({"volume": "listvol"}, ["web"]),
        ({"volume": "/data"}, ["web"]),
        ({"volume": "/tmp"}, ["web"]),
        ({"volume": []}, []),
        ({"network": "listnet"}, ["ended"]),  # also when it has stopped
        ({"network": ["bridge", "none"]}, ["lone", "idle", "web"]),
        ({"network": "nosuch"}, []),
        ({"network": []}, []),
        ({"expose": "80"}, ["web"]),
        ({"expose": "6999-7000/udp"}, ["web"]),
        ({"expose": "7001"}, []),
        ({"publish": "18180"}, []),  # only asked for: it does not run
        ({"publish": "0/udp"}, ["web"]),
        ({"publish": "1024-65535/tcp"}, ["web"]),
        ({"ancestor": "busybox"}, ["lone", "idle", "web", "ended"]),
        ({"ancestor": ["nosuch:1", "busybox:latest"]}, ["lone", "idle", "web", "ended"]),
        ({"ancestor": "Bad Ref!"}, []),
        ({"ancestor": []}, []),
        ({"health": "none"}, ["lone", "idle", "web", "ended"]),
        ({"health": "healthy"}, []),
        ({"is_task": "false"}, ["lone", "idle", "web", "ended"]),
        ({"is_task": "1"}, []),
        ({"isolation": "process"}, ["lone", "idle", "web", "ended"]),
        ({"name": "web", "status": "created"}, []),
    ],
    ids=str,
)
def test_filters(moorage: Instance, four: dict[str, str], filters: dict[str, Any], kept: list[str]) -> None:
    assert names(moorage, **filters) == kept


def test_filters_by_id(moorage: Instance, four: dict[str, str]) -> None:
    image = listed(moorage)[0]["ImageID"]
    assert names(moorage, id=four["web"]) == names(moorage, id=four["web"][:20]) == ["web"]
    assert names(moorage, id=[four["web"], four["lone"]], name="web") == ["web"]
    assert names(moorage, id="") == []
    assert names(moorage, before=four["web"]) == ["ended"]
    assert len(names(moorage, ancestor=image)) == len(names(moorage, ancestor=image[7:19])) == 4
    network = json.loads(moorage.docker("network", "inspect", "listnet").stdout)[0]["Id"]
    assert names(moorage, network=network) == names(moorage, network=network[:12]) == ["ended"]


def test_a_status_asks_for_all_other_filters_do_not(moorage: Instance, four: dict[str, str]) -> None:
    assert names(moorage, all=False, status="created") == ["idle"]
    assert names(moorage, all=False, exited="3") == []
    assert names(moorage, all=False, since="ended") == ["lone", "web"]


@pytest.mark.parametrize(
    ("filters", "status", "text"),
    [
        ({"nope": ["x"]}, 400, "invalid filter 'nope'"),
        ({"label!": ["x"]}, 400, "invalid filter 'label!'"),
        ({"status": ["x"]}, 400, "invalid filter 'status=x'"),
        ({"exited": ["0x1"]}, 400, "invalid filter 'exited=0x1': strconv.Atoi: parsing \"0x1\": invalid syntax"),
        ({"health": ["x"]}, 400, "unrecognized filter value for health: x"),
        ({"is-task": ["x"]}, 400, "invalid filter 'is-task=[x]'"),
        ({"is-task": ["true", "false"]}, 400, "invalid filter 'is-task=[true false]'"),
        ({"is-task": []}, 400, "invalid filter 'is-task'"),
        ({"before": ["nosuch"]}, 404, "No such container: nosuch"),
        ({"since": ["nosuch"]}, 404, "No such container: nosuch"),
        ({"publish": ["8:8"]}, 400, "filter for 'publish' should not contain ':': 8:8"),
        (
            {"publish": ["x"]},
            400,
            'error while looking up for publish x: strconv.ParseUint: parsing "x": invalid syntax',
        ),
        ({"expose": ["9-8"]}, 400, "error while looking up for expose 9-8: Invalid range specified for the Port: 9-8"),
        ({"expose": [""]}, 400, "error while looking up for expose : Empty string specified for ports."),
        (
            {"expose": ["70000"]},
            400,
            'error while looking up for expose 70000: strconv.ParseUint: parsing "70000": value out of range',
        ),
        ({"name": "x"}, 400, "invalid filter"),
        ([], 400, "invalid filter"),
    ],
    ids=str,
)
def test_bad_filters(moorage: Instance, filters: Any, status: int, text: str) -> None:
    answer = call(moorage, f"GET /containers/json?filters={quote(json.dumps(filters))}")
    assert (answer.status, answer.json["message"]) == (status, text)


@pytest.mark.parametrize("text", ["null", "", '{"name":null}', "{}"])
def test_filters_that_ask_nothing(moorage: Instance, four: dict[str, str], text: str) -> None:
    assert len(done(call(moorage, f"GET /containers/json?all=1&filters={quote(text)}"))) == 4


def test_what_is_shown(moorage: Instance, four: dict[str, str]) -> None:
    shown = {container["Id"]: container for container in listed(moorage, query="size=1")}
    web, idle, ended = (shown[four[name]] for name in ("web", "idle", "ended"))
    assert idle["Command"] == "sh -c 'echo 'a b''  x\ty"  # dockerd quotes what holds a blank, whatever else it holds
    assert (idle["State"], idle["Status"], idle["Ports"]) == ("created", "Created", [])
    assert ended["Status"].startswith("Exited (3) ")
    assert web["Status"].startswith("Up ")
    assert (web["Image"], web["HostConfig"]) == ("busybox", {"NetworkMode": "bridge"})
    assert web["Labels"] == {"tier": "front", "empty": ""}
    ports = sorted((port["PrivatePort"], port["Type"], port.get("IP")) for port in web["Ports"])
    assert ports == [(80, "tcp", "127.0.0.1"), (7000, "udp", None), (7001, "udp", None), (7002, "udp", None)]
    assert shown[four["lone"]]["Ports"] == []  # on no network: nothing is exposed to anybody
    mounts = {mount["Destination"]: mount for mount in web["Mounts"]}
    assert (mounts["/data"]["Name"], mounts["/data"]["Driver"], mounts["/host"]["RW"]) == ("listvol", "local", False)
    network = web["NetworkSettings"]["Networks"]["bridge"]
    assert network["IPAddress"] == inspect(moorage, four["web"])["NetworkSettings"]["IPAddress"]
    assert [network[name] for name in ("Links", "Aliases", "DriverOpts", "DNSNames")] == [None] * 4
    assert ended["NetworkSettings"]["Networks"]["listnet"]["NetworkID"]
    assert web["SizeRootFs"] > 100_000
    assert "SizeRw" not in web  # nothing was written: zeros are left out
    assert "SizeRw" not in listed(moorage)[0]


def test_sizes_follow_what_is_written(moorage: Instance) -> None:
    made = run(moorage, "sh", "-c", "dd if=/dev/zero of=/big bs=1k count=64; ln /big /again")
    wait(moorage, made)
    (shown,) = listed(moorage, query="size=true", id=made)
    assert shown["SizeRw"] == 65536  # two names of one file
    whole = done(call(moorage, f"GET /containers/{made}/json?size=1"))
    assert (shown["SizeRw"], shown["SizeRootFs"]) == (whole["SizeRw"], whole["SizeRootFs"])
    remove(moorage, made)


def test_the_cli_shows_names_ports_and_size(moorage: Instance, four: dict[str, str]) -> None:
    said = moorage.docker("ps", "-a", "-s", "--no-trunc", "--format", "{{.Names}}|{{.Ports}}|{{.Size}}|{{.Mounts}}")
    lines = dict(line.split("|", 1) for line in said.stdout.splitlines())
    assert "->80/tcp" in lines["web"]
    assert "7000-7002/udp" in lines["web"]
    assert "|0B (virtual " in lines["web"]
    assert "listvol" in lines["web"]
    assert lines["idle"].startswith("|0B (virtual")


def test_an_image_that_lost_its_name_is_shown_by_id(moorage: Instance, client: "docker.DockerClient") -> None:
    moorage.docker("tag", "busybox", "other:1")
    made = moorage.docker("create", "other:1", "true").stdout.strip()
    assert listed(moorage, id=made)[0]["Image"] == "other:1"
    client.images.remove("other:1", force=True)
    (shown,) = listed(moorage, id=made)
    assert shown["Image"] == shown["ImageID"]
    remove(moorage, made)


def test_what_was_read_before_is_not_shown_when_it_has_changed(moorage: Instance, four: dict[str, str]) -> None:
    """The records that a process has read are kept; versions edit what is shown of them."""
    made = create(moorage, "true", HostConfig={"Annotations": {"x": "y"}})
    for version in ("1.45", "1.51", "1.45", "1.51"):
        with Wire(moorage.socket) as wire:
            wire.send(request(f"GET /v{version}/containers/json?all=1"))
            (shown,) = [container for container in wire.answer().json if container["Id"] == made]
        assert shown["HostConfig"].get("Annotations") == ({"x": "y"} if version == "1.51" else None)
        assert shown["NetworkSettings"]["Networks"]["none"].get("DNSNames") is None
    done(call(moorage, f"POST /containers/{made}/rename?name=changed"))
    assert names(moorage, id=made) == ["changed"]
    remove(moorage, made)
    assert made not in str(listed(moorage))
