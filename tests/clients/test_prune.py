"""`container prune` and `system df`: what goes, what stays, and what is weighed. Expectations are dockerd's."""

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import docker
import pytest

from tests.support.instance import Instance
from tests.support.streams import call, create, done, remove, run, wait
from tests.support.wire import Wire, request


def prune(moorage: Instance, **filters: Any) -> Any:
    """A filter's `_not` stands for `!` at the end of its name."""
    asked = {name.replace("_not", "!"): values for name, values in filters.items()}
    return done(call(moorage, f"POST /containers/prune?filters={quote(json.dumps(asked))}"))


@pytest.fixture
def stopped(moorage: Instance) -> Iterator[dict[str, str]]:
    """Containers that do not run: one with a label, one with two, one with none and 48 KiB of its own."""
    made = {
        "one": create(moorage, "true", Labels={"a": "1"}),
        "two": create(moorage, "true", Labels={"a": "2", "b": ""}),
        "big": run(moorage, "dd", "if=/dev/zero", "of=/x", "bs=1k", "count=48"),
    }
    wait(moorage, made["big"])
    yield made
    prune(moorage)


def test_what_runs_stays_and_the_bytes_are_told(moorage: Instance, stopped: dict[str, str]) -> None:
    up = run(moorage, "sleep", "1000")
    since = time.time() - 1
    said = prune(moorage)
    assert sorted(said["ContainersDeleted"]) == sorted(stopped.values())
    assert said["SpaceReclaimed"] == 49152
    assert prune(moorage) == {"ContainersDeleted": None, "SpaceReclaimed": 0}
    assert done(call(moorage, f"GET /containers/{up}/json"))["State"]["Running"]
    remove(moorage, up)
    events = call(moorage, f"GET /events?since={since}&until={time.time()}&filters=%7B%22event%22:%5B%22prune%22%5D%7D")
    told = [json.loads(line) for line in events.body.splitlines()]
    assert (told[0]["Type"], told[0]["Actor"]) == (
        "container",
        {"ID": "", "Attributes": {"reclaimed": "49152"}},
    )


@pytest.mark.parametrize(
    ("filters", "gone"),
    [
        ({"label": ["a"]}, ["one", "two"]),
        ({"label": ["a=1"]}, ["one"]),
        ({"label": ["a", "b"]}, ["two"]),
        ({"label": ["c"]}, []),
        ({"label_not": ["a"]}, ["big"]),
        ({"label_not": ["a=1"]}, ["big", "two"]),
        ({"label_not": ["a", "b"]}, ["big", "one"]),  # spared: what has all of them
        ({"label": ["a"], "label_not": ["b"]}, ["one"]),
        ({"until": ["1h"]}, []),
        ({"until": ["-1h"]}, ["big", "one", "two"]),
        ({"until": ["2020-01-01"]}, []),
        ({"until": ["2099-01-01T00:00:00Z"], "label": ["b"]}, ["two"]),
        ({"until": []}, ["big", "one", "two"]),
    ],
    ids=str,
)
def test_filters(moorage: Instance, stopped: dict[str, str], filters: dict[str, list[str]], gone: list[str]) -> None:
    deleted = prune(moorage, **filters)["ContainersDeleted"]
    names = {container: name for name, container in stopped.items()}
    assert sorted(names[container] for container in deleted or ()) == gone
    assert deleted is None or gone


@pytest.mark.parametrize(
    ("filters", "text"),
    [
        ({"dangling": ["true"]}, "invalid filter 'dangling'"),
        ({"until": ["1h", "2h"]}, "more than one until filter specified"),
        ({"until": ["foo"]}, 'failed to parse value as time or duration: "foo"'),
        ({"until": ["2026-13-01"]}, 'parsing time "2026-13-01": month out of range'),
    ],
)
def test_bad_filters_remove_nothing(
    moorage: Instance, stopped: dict[str, str], filters: dict[str, list[str]], text: str
) -> None:
    answer = call(moorage, f"POST /containers/prune?filters={quote(json.dumps(filters))}")
    assert (answer.status, answer.json["message"]) == (400, text)
    assert len(done(call(moorage, "GET /containers/json?all=1"))) == 3


def test_the_cli(moorage: Instance, stopped: dict[str, str]) -> None:
    said = moorage.docker("container", "prune", "-f", "--filter", "label!=a").stdout
    assert stopped["big"] in said
    assert "Total reclaimed space: 49.15kB" in said


# --- system df ------------------------------------------------------------------------------------------------------


@pytest.fixture
def used(moorage: Instance, stopped: dict[str, str]) -> Iterator[dict[str, str]]:
    """As `stopped`, and a container that runs with a port, and 20 kB in a volume; another volume is unused."""
    moorage.docker("volume", "create", "unused")
    up = moorage.docker(
        *("run", "-d", "--name", "up", "-v", "dfvol:/data", "-p", "127.0.0.1::80", "--label", "x=y", "busybox"),
        *("sh", "-c", "head -c 20000 /dev/zero >/data/f; ln /data/f /data/g; exec sleep 1000"),
    ).stdout.strip()
    moorage.until(
        lambda: moorage.docker("exec", "up", "ls", "/data").stdout.split() == ["f", "g"], 10, "nothing was written"
    )
    yield {**stopped, "up": up}
    moorage.docker("rm", "-f", "up")
    moorage.docker("volume", "rm", "unused", "dfvol")


def test_everything(moorage: Instance, used: dict[str, str]) -> None:
    said = done(call(moorage, "GET /system/df"))
    assert set(said) == {"LayersSize", "Images", "Containers", "Volumes", "BuildCache"}
    shown = {container["Id"]: container for container in said["Containers"]}
    assert set(shown) == set(used.values())
    assert shown[used["big"]]["SizeRw"] == 49152
    assert "SizeRw" not in shown[used["one"]]
    up = shown[used["up"]]
    assert (up["Names"], up["State"], up["Labels"], up["Image"]) == (["/up"], "running", {"x": "y"}, "busybox")
    assert up["Ports"][0]["PrivatePort"] == 80
    assert up["Mounts"][0]["Name"] == "dfvol"
    assert "Health" not in up  # from 1.52 on
    assert up["SizeRootFs"] >= said["LayersSize"] > 0
    volumes = {volume["Name"]: volume for volume in said["Volumes"]}
    assert volumes["dfvol"]["UsageData"] == {"RefCount": 1, "Size": 20000}
    assert volumes["unused"]["UsageData"] == {"RefCount": 0, "Size": 0}
    assert volumes["dfvol"]["Driver"] == "local"
    assert said["BuildCache"] == []
    (image,) = said["Images"]
    assert (image["Containers"], image["SharedSize"]) == (4, 0)


def test_only_some_types(moorage: Instance, used: dict[str, str]) -> None:
    said = done(call(moorage, "GET /system/df?type=volume&type=build-cache"))
    assert (said["LayersSize"], said["Images"], said["Containers"], said["BuildCache"]) == (0, None, None, [])
    assert len(said["Volumes"]) == 2
    said = done(call(moorage, "GET /system/df?type=container"))
    assert (len(said["Containers"]), said["Volumes"], said["BuildCache"]) == (4, None, None)
    assert done(call(moorage, "GET /system/df?type=image"))["LayersSize"] > 0


@pytest.mark.parametrize(("query", "kind"), [("type=foo", "foo"), ("type=", ""), ("type=image&type=x", "x")])
def test_unknown_types(moorage: Instance, query: str, kind: str) -> None:
    answer = call(moorage, f"GET /system/df?{query}")
    assert (answer.status, answer.json["message"]) == (400, f"unknown object type: {kind}")
    with Wire(moorage.socket) as wire:  # an older version does not know the parameter
        wire.send(request(f"GET /v1.41/system/df?{query}"))
        assert isinstance(wire.answer().json["Containers"], list)


def test_the_clients(moorage: Instance, used: dict[str, str], client: "docker.DockerClient") -> None:
    rows = moorage.docker("system", "df", "--format", "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}").stdout
    shown = {kind: rest for kind, _, rest in (line.partition("|") for line in rows.splitlines())}
    assert shown["Containers"] == "4|1|49.15kB"
    assert shown["Local Volumes"] == "2|1|20kB"
    assert shown["Images"].startswith("1|1|")
    assert "dfvol" in moorage.docker("system", "df", "-v").stdout
    assert len(client.df()["Containers"]) == 4


def test_everything_at_once(moorage: Instance) -> None:
    """`docker system prune` asks containers, networks, volumes, images and the builder in turn."""
    moorage.docker("create", "--name", "stale", "busybox")
    moorage.docker("network", "create", "stale")
    said = moorage.docker("system", "prune", "-f")
    assert "Deleted Containers:" in said.stdout
    assert "Deleted Networks:\nstale\n" in said.stdout
    assert "Total reclaimed space:" in said.stdout
    assert moorage.docker("builder", "prune", "-af").stdout == "Total reclaimed space: 0B\n"


def test_everything_with_a_label(moorage: Instance) -> None:
    """The filter goes to each in turn, also to the builder, whose things have no labels."""
    moorage.docker("network", "create", "--label", "old", "labelled")
    moorage.docker("network", "create", "other")
    said = moorage.docker("system", "prune", "-f", "--filter", "label=old").stdout
    assert said == "Deleted Networks:\nlabelled\n\nTotal reclaimed space: 0B\n"
    assert moorage.docker("builder", "prune", "-f", "--filter", "label!=old").stdout == "Total reclaimed space: 0B\n"
    moorage.docker("network", "rm", "other")
