"""/events: filters, times, replay across restarts of the service, forms, and what a follower costs."""

import json
import time
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.instance import Instance
from tests.support.streams import VERSION, call, create, done, remove, start, wait
from tests.support.wire import Wire, request

Told = list[tuple[str, str]]  # (type, action)


class Story:
    """A network, a volume, an image's tag and two containers that came and went."""

    def __init__(self, moorage: Instance) -> None:
        self.moorage = moorage
        self.begun = time.time()
        moorage.docker("tag", "busybox", "story:1")
        self.network = str(done(call(moorage, "POST /networks/create", {"Name": "story-net"}))["Id"])
        done(call(moorage, "POST /volumes/create", {"Name": "story-volume"}))
        host = {"NetworkMode": "story-net", "Binds": ["story-volume:/data"]}
        self.container = create(moorage, "sh", "-c", "exit 3", HostConfig=host, Labels={"part": "first", "kept": ""})
        done(call(moorage, f"POST /containers/{self.container}/rename?name=story-first"))
        start(moorage, self.container)
        wait(moorage, self.container)
        self.other = create(moorage, "true", Image="story:1", Labels={"part": "other"})
        remove(moorage, self.container)
        remove(moorage, self.other)
        done(call(moorage, "DELETE /volumes/story-volume"))
        done(call(moorage, "DELETE /networks/story-net"))
        moorage.docker("rmi", "story:1")
        self.ended = time.time()

    def events(self, **filters: list[str]) -> list[dict[str, Any]]:
        """What is told of it under these filters."""
        query = f"since={self.begun:.9f}&until={self.ended:.9f}&filters={quote(json.dumps(filters))}"
        return ask(self.moorage, query)

    def told(self, **filters: list[str]) -> Told:
        """The same in short."""
        return [(event["Type"], event["Action"]) for event in self.events(**filters)]


def ask(moorage: Instance, query: str) -> list[dict[str, Any]]:
    """The events of the past that a query asks for."""
    with Wire(moorage.socket, 30) as wire:
        wire.send(request(f"GET {VERSION}/events?{query}", connection="close"))
        answer = wire.answer()
    assert answer.status == 200, answer.body
    return [json.loads(line) for line in answer.body.splitlines()]


@pytest.fixture(scope="module")
def story(moorage: Instance) -> Story:
    return Story(moorage)


WHOLE: Told = [
    ("image", "tag"),
    ("network", "create"),
    ("volume", "create"),
    ("container", "create"),
    ("container", "rename"),
    ("network", "connect"),
    ("volume", "mount"),
    ("container", "start"),
    ("network", "disconnect"),
    ("volume", "unmount"),
    ("container", "die"),
    ("container", "create"),
    ("container", "destroy"),
    ("container", "destroy"),
    ("volume", "destroy"),
    ("network", "destroy"),
    ("image", "untag"),
]
OF_FIRST: Told = [("container", action) for action in ("create", "rename", "start", "die", "destroy")]


def test_the_whole_story(story: Story) -> None:
    assert story.told() == WHOLE


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"type": ["network"]}, [entry for entry in WHOLE if entry[0] == "network"]),
        ({"type": ["network", "image"]}, [entry for entry in WHOLE if entry[0] in ("network", "image")]),
        ({"event": ["destroy"]}, [entry for entry in WHOLE if entry[1] == "destroy"]),
        ({"event": ["des"]}, []),
        ({"event": ["create"], "type": ["container"]}, [("container", "create")] * 2),
        ({"container": ["story-first"]}, OF_FIRST[1:]),
        ({"container": ["story-f"], "event": ["die"]}, [("container", "die")]),
        ({"network": ["story-net"]}, [entry for entry in WHOLE if entry[0] == "network"]),
        ({"volume": ["story-volume"]}, [entry for entry in WHOLE if entry[0] == "volume"]),
        ({"label": ["part"]}, [entry for entry in WHOLE if entry[0] == "container"]),
        ({"label": ["part=first"]}, OF_FIRST),
        ({"label": ["part=first", "kept"]}, OF_FIRST),
        ({"label": ["part=first", "missing"]}, []),
        ({"image": ["busybox"]}, OF_FIRST),
        ({"image": ["story:1"]}, [("image", "tag"), ("container", "create"), ("container", "destroy")]),
        ({"image": ["story"], "type": ["container"]}, [("container", "create"), ("container", "destroy")]),
        ({"scope": ["local"]}, WHOLE),
        ({"scope": ["swarm"]}, []),
        ({"daemon": ["nosuch"]}, []),
        ({"plugin": ["nosuch"]}, []),
        ({"colour": ["red"]}, WHOLE),
    ],
    ids=json.dumps,
)
def test_filters(story: Story, filters: dict[str, list[str]], expected: Told) -> None:
    assert story.told(**filters) == expected


def test_a_container_by_its_id_or_the_beginning_of_it(story: Story) -> None:
    for text in (story.container, story.container[:12]):
        assert story.told(container=[text]) == OF_FIRST


@pytest.mark.parametrize("filters", ["{", "[]", '"x"', '{"type":"container"}', '{"type":[1]}', '{"type":{"a":1}}'])
def test_filters_that_cannot_be_read(moorage: Instance, filters: str) -> None:
    answer = call(moorage, f"GET /events?until=1&filters={quote(filters)}")
    assert (answer.status, answer.json) == (400, {"message": "invalid filter"})


def test_what_an_event_says(story: Story) -> None:
    events = {(event["Type"], event["Action"]): event for event in story.events(label=["part=first"])}
    die = events["container", "die"]
    assert die["Actor"]["ID"] == die["id"] == story.container
    assert die["Actor"]["Attributes"] == {
        "execDuration": "0", "exitCode": "3", "image": "busybox", "kept": "", "name": "story-first", "part": "first",
    }  # fmt: skip
    assert (die["status"], die["from"], die["scope"]) == ("die", "busybox", "local")
    assert die["time"] == die["timeNano"] // 1_000_000_000
    rename = events["container", "rename"]["Actor"]["Attributes"]
    assert rename["name"] == "story-first"
    assert rename["oldName"].startswith("/")
    of_network = story.events(type=["network"], event=["connect"])[0]["Actor"]
    assert of_network == {
        "ID": story.network,
        "Attributes": {"container": story.container, "name": "story-net", "type": "bridge"},
    }
    mount, unmount = story.events(type=["volume"], event=["mount", "unmount"])
    assert mount["Actor"] == {
        "ID": "story-volume",
        "Attributes": {
            "container": story.container, "destination": "/data", "driver": "local", "propagation": "",
            "read/write": "true",
        },
    }  # fmt: skip
    assert unmount["Actor"]["Attributes"] == {"container": story.container, "driver": "local"}
    assert "status" not in mount


def test_the_past_is_told_by_every_process(moorage: Instance, story: Story) -> None:
    before = story.events()
    moorage.kill_service()
    assert story.events() == before
    moorage.wait_idle()
    assert story.events() == before


def test_since_and_until(moorage: Instance, story: Story) -> None:
    events = story.events()
    middle = events[8]["timeNano"]
    exact = f"{middle // 10**9}.{middle % 10**9:09}"
    later = [event for event in events if event["timeNano"] >= middle]
    earlier = [event for event in events if event["timeNano"] <= middle]
    assert ask(moorage, f"since={exact}&until={story.ended:.9f}") == later
    assert ask(moorage, f"since={story.begun:.9f}&until={exact}") == earlier
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(middle // 10**9)) + f".{middle % 10**9:09}Z"
    assert ask(moorage, f"since={moment}&until={story.ended:.9f}") == later
    assert ask(moorage, f"until={exact}")[-len(earlier) :] == earlier, "an end alone asks for all of the past"
    assert ask(moorage, f"since=1h&until={story.ended:.9f}")[-len(events) :] == events
    assert ask(moorage, "since=-1&until=1") == []
    refused = call(moorage, "GET /events?since=2&until=1")
    assert (refused.status, refused.json) == (400, {"message": "`since` time (2) cannot be after `until` time (1)"})
    assert call(moorage, "GET /events?since=yesterday").status == 400


@pytest.mark.parametrize(
    ("accept", "form", "start"),
    [
        (None, "application/json", b""),
        ("*/*", "application/json", b""),
        ("application/x-ndjson", "application/x-ndjson", b""),
        ("application/json-seq, application/jsonl;q=0.5", "application/json-seq", b"\x1e"),
        ("application/jsonl;q=0, text/html", "application/json", b""),
    ],
)
def test_forms(story: Story, accept: "str | None", form: str, start: bytes) -> None:
    query = f"since={story.begun:.9f}&until={story.ended:.9f}"
    with Wire(story.moorage.socket, 30) as wire:
        wire.send(
            request(f"GET {VERSION}/events?{query}", connection="close", **({"accept": accept} if accept else {}))
        )
        answer = wire.answer()
    assert answer.headers["content-type"] == form
    lines = answer.body.splitlines()
    assert len(lines) == len(WHOLE)
    for line in lines:
        assert line.startswith(start + b"{")
        json.loads(line.removeprefix(start))


def test_a_follower_costs_nothing_while_nothing_happens(moorage: Instance) -> None:
    with Wire(moorage.socket, 30) as wire:
        wire.send(request(f"GET {VERSION}/events?filters={quote(json.dumps({'container': ['quiet']}))}"))
        assert wire.head().status == 200
        pid = moorage.service_pid()
        time.sleep(1)  # the answer to what came before may still be on its way
        begun, until = _switches(pid), time.monotonic() + 2
        while time.monotonic() < until:
            time.sleep(0.2)
        # the process looks ever more rarely whether it may leave
        assert _switches(pid) - begun < 10
        assert moorage.service_pid() == pid, "the follower was left alone"
        remove(moorage, create(moorage, "true"))
        container = str(done(call(moorage, "POST /containers/create?name=quiet", {"Image": "busybox"}))["Id"])
        assert container.encode() in wire.until(b"}\n")
        remove(moorage, container)


def _switches(pid: "int | None") -> int:
    """How often a process has been given the processor after it had waited (proc_pid_status(5))."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches"))
