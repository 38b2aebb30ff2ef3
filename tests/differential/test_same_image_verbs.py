"""Every verb of images on the same images, by dockerd and by moorage: list, inspect, history, tag, delete, prune, df.

Ids follow from content, so nothing of them is masked: what an answer says of an image must be the same on both sides.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import pytest

from install import busybox_image
from tests.differential.dockerd import Dockerd, Unavailable
from tests.differential.sameness import differences
from tests.support import image
from tests.support.instance import Instance
from tests.support.wire import Wire, request

Told = tuple[int, Any]
_ENGINES_FROM = 25  # older ones word and shape too much otherwise


class Archive:
    """A docker-archive of images made to measure."""

    def __init__(self) -> None:
        self.members: dict[str, bytes] = {}
        self.manifest: list[dict[str, Any]] = []

    def add(
        self,
        names: Sequence[str],
        layers: Sequence[bytes],
        created: str,
        *,
        parent: str = "",
        labels: "dict[str, str] | None" = None,
        **more: Any,
    ) -> str:
        """One image; its id. `more` goes into its configuration."""
        diff_ids = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
        document = {
            "architecture": busybox_image.architecture(), "os": "linux", "created": created,
            "config": {"Cmd": ["sleep", "1000"], "Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created": "2020-01-01T00:00:00Z", "created_by": diff_id} for diff_id in diff_ids],
            **more,
        }  # fmt: skip
        config = json.dumps(document, sort_keys=True).encode()
        digest = hashlib.sha256(config).hexdigest()
        self.members[f"{digest}.json"] = config
        for diff_id, layer in zip(diff_ids, layers, strict=True):
            self.members[f"{diff_id[7:]}/layer.tar"] = layer
        entry = {"Config": f"{digest}.json", "RepoTags": list(names) or None, "Parent": parent}
        self.manifest.append({**entry, "Layers": [f"{diff_id[7:]}/layer.tar" for diff_id in diff_ids]})
        return "sha256:" + digest

    def whole(self) -> bytes:
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w") as tar:
            for name, content in (*self.members.items(), ("manifest.json", json.dumps(self.manifest).encode())):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return written.getvalue()


class Side:
    """One of the two engines. What it makes of its own (containers) is called alike on both sides."""

    def __init__(self, socket: str, *, described: bool) -> None:
        self.socket, self.described = socket, described
        self.own: dict[str, str] = {}

    def ask(self, method: str, path: str, body: Any = None) -> Told:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
        with Wire(self.socket, timeout=60, described=self.described) as wire:
            wire.send(request(f"{method} {path}", data, connection="close", **({"content-type": kind} if data else {})))
            answer = wire.answer()
        text = answer.body.decode()
        for identifier, name in self.own.items():
            text = text.replace(identifier, name).replace(identifier[:12], name)
        try:
            return answer.status, json.loads(text) if text else None
        except ValueError:
            return answer.status, text.splitlines()

    def create(self, name: str, wanted: str) -> Told:
        status, said = self.ask("POST", f"/v1.45/containers/create?name={name}", {"Image": wanted})
        if status == 201:
            self.own[said["Id"]] = f"<{name}>"
            said = {"Warnings": said["Warnings"]}
        return status, said


class Both:
    """The two engines, asked the same; `wrong` is what they answered otherwise."""

    def __init__(self, theirs: Side, ours: Side) -> None:
        self.theirs, self.ours = theirs, ours
        self.wrong: list[str] = []

    def ask(self, method: str, path: str, body: Any = None) -> None:
        self._compare(f"{method} {path}", *(side.ask(method, path, body) for side in (self.theirs, self.ours)))

    def create(self, name: str, wanted: str) -> None:
        self._compare(f"create {name}", *(side.create(name, wanted) for side in (self.theirs, self.ours)))

    def listed(self, query: str = "", **filters: "Sequence[str]") -> None:
        """A list, with filters."""
        asked = quote(json.dumps({key.rstrip("_"): list(values) for key, values in filters.items()}))
        self.ask("GET", f"/v1.45/images/json?{query}&filters={asked}")

    def delete(self, name: str, query: str = "") -> None:
        self.ask("DELETE", f"/v1.45/images/{quote(name)}?{query}")

    def _compare(self, asked: str, theirs: Told, ours: Told) -> None:
        one, other = (_normal(told[1]) for told in (theirs, ours))
        # a client's mistake is a 400 here where dockerd 26 says 500: openapi/DIFFERENCES.md
        mistaken = theirs[0] == 500 and ours[0] == 400 and one == other
        found = [] if mistaken or theirs[0] == ours[0] else [f"status {theirs[0]} → {ours[0]}"]
        found += [
            f"{path or 'message'}: {one} → {other}"
            for path, one, other in differences(one, other)
            if path.rpartition(".")[2] not in _NOT_COMPARED and not (one is None and other == [] and "/df" in asked)
        ]  # empty lists are none in dockerd's df alone: openapi/DIFFERENCES.md
        if found:
            self.wrong.append(asked + "\n    " + "\n    ".join(found))

    def done(self) -> None:
        assert not self.wrong, "\n".join(self.wrong)


# The places of layers differ; what a load counts as the moment of a tag, too.
_NOT_COMPARED = {"UpperDir", "LowerDir", "MergedDir", "WorkDir", "LastTagTime", "LayersSize", "BuildCache"}


def _normal(document: Any) -> Any:
    """Without the order of what has none: names, what a prune took; of images, that the newest come first."""
    if isinstance(document, list):
        items = [_normal(item) for item in document]
        if items and all(isinstance(item, dict) and "Id" in item and "ParentId" in item for item in items):
            moments = [item["Created"] for item in items]
            return {"in order": moments == sorted(moments, reverse=True), **{item["Id"]: item for item in items}}
        return items
    if isinstance(document, dict):
        unordered = ("RepoTags", "RepoDigests", "ImagesDeleted")
        return {
            key: sorted(value, key=json.dumps) if key in unordered and value else _normal(value)
            for key, value in document.items()
        }
    return document


@pytest.fixture(scope="module")
def reference() -> Iterator[Dockerd]:
    try:
        with Dockerd() as dockerd:
            if dockerd.version()[0] < _ENGINES_FROM:
                pytest.skip("dockerd of that age words its answers otherwise")
            yield dockerd
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def bare() -> Iterator[Instance]:
    """An instance without any image."""
    with Instance() as instance:
        yield instance


BASE = image.layer({"base": "b" * 1000})
TOPS = [image.layer({f"top{number}": str(number) * 100}) for number in range(9)]


def world() -> tuple[bytes, dict[str, str]]:
    """Images of every kind, and their ids: named once, twice, in two repositories, not at all, parents and children."""
    made = Archive()
    ids = {"base": made.add(["base:1"], [BASE], "2020-01-01T00:00:00Z", labels={"kind": "base"})}
    ids["two"] = made.add(["two:1", "two:2"], [BASE, TOPS[0]], "2020-01-02T00:00:00Z", labels={"kind": "two", "a": ""})
    ids["many"] = made.add(
        ["one.test/many:1", "other.test:5000/team/many:x", "many:latest"], [TOPS[1]], "2020-01-03T00:00:00.5Z"
    )
    ids["hidden"] = made.add([], [BASE, TOPS[2]], "2020-01-04T00:00:00Z")
    ids["child"] = made.add(
        ["child:1"], [BASE, TOPS[2], TOPS[3]], "2020-01-05T00:00:00Z", parent=ids["hidden"], labels={"kind": "two"}
    )
    ids["dangling"] = made.add([], [BASE, TOPS[4]], "2020-01-06T00:00:00Z", labels={"kind": "none"})
    ids["used"] = made.add(["used:1"], [busybox_image.layer()], "2020-01-07T00:00:00Z")
    ids["empty"] = made.add(["empty:1"], [], "2020-01-08T00:00:00Z", author="moles", comment="nothing in it")
    return made.whole(), ids


@pytest.fixture(scope="module")
def ids() -> dict[str, str]:
    return world()[1]


@pytest.fixture
def both(reference: Dockerd, bare: Instance) -> Iterator[Both]:
    """Both engines with the same images, which are all removed again."""
    made = Both(Side(reference.socket, described=False), Side(bare.socket, described=True))
    archive, _ = world()
    for side in (made.theirs, made.ours):
        status, said = side.ask("POST", "/v1.45/images/load?quiet=1", archive)
        assert status == 200
        assert '"error' not in json.dumps(said), said
    yield made
    for side in (made.theirs, made.ours):
        for identifier in side.own:
            side.ask("DELETE", f"/v1.45/containers/{identifier}?force=1&v=1")
        for _ in range(3):  # parents after their children
            for found in side.ask("GET", "/v1.45/images/json?all=1")[1]:
                side.ask("DELETE", f"/v1.45/images/{found['Id']}?force=1")
        assert side.ask("GET", "/v1.45/images/json?all=1")[1] == []


def test_lists_and_their_filters(both: Both, ids: dict[str, str]) -> None:
    for query in ("", "all=1", "all=1&shared-size=1", "digests=1"):
        both.listed(query)
        for dangling in ("true", "false", "1", "0", "maybe"):
            both.listed(query, dangling=[dangling])
    for labels in (["kind"], ["kind=two"], ["kind=two", "a"], ["kind=two", "a=x"], ["nosuch"], ["a="]):
        both.listed(label=labels)
        both.listed("all=1", label=labels)
    for name in ("two:1", ids["two"], ids["two"][7:19], "nosuch", "two", "base:1"):
        both.listed(before=[name])
        both.listed(since=[name])
    both.listed(since=["base:1"], before=["child:1"])
    both.listed(before=["child:1", "two:2"])
    for moment in ("2020-01-03", "2020-01-03T00:00:00Z", "1578009600", "10m", "nonsense"):
        both.listed(until=[moment])
    for pattern in (
        *("base", "base:1", "base:*", "*", "*:1", "t*o", "two:[12]", "two:[^1]", "t?o", "many", "*/many", "*/*/many"),
        *("one.test/many", "one.test/*:1", "other.test:5000/*/*", "library/base", "[", "\\", "nosuch", "", "base@*"),
    ):
        both.listed(reference=[pattern])
    both.listed(reference=["base", "two:2"])
    both.listed(reference=["two"], label=["kind=base"])
    both.listed(dangling=["false"], reference=["*"])
    both.listed(nosuch=["x"])
    both.done()


def test_inspection_and_history_by_every_name(both: Both, ids: dict[str, str]) -> None:
    for name in (
        *("base", "base:1", "docker.io/library/base:1", "index.docker.io/base:1", "many", "two:3", "nosuch", "Base:1"),
        *(ids["base"], ids["base"][7:], ids["base"][7:19], ids["base"][:19], ids["empty"], ids["child"], ids["hidden"]),
        *("sha256:", "sha256:abc", "f" * 64, "sha256:" + "f" * 64, "base:1@" + ids["base"], "base@" + ids["base"]),
        *("base:", ":1", "base::1", "one.test/many", "one.test/many:1", "-", "a" * 300),
    ):
        both.ask("GET", f"/v1.45/images/{quote(name)}/json")
        both.ask("GET", f"/v1.45/images/{quote(name)}/history")
    both.done()


def test_tags(both: Both, ids: dict[str, str]) -> None:
    for name, repo, tag in (
        *(
            ("base:1", "new", "1"),
            ("base:1", "new", ""),
            (ids["base"], "by-id", "x"),
            (ids["base"][7:19], "short", "x"),
        ),
        *(("two:1", "new", "1"), ("base:1", "base", "1"), ("nosuch", "a", "b"), ("base:1", "New", "1")),
        *(("base:1", "a", ".b"), ("base:1", "a", "b" * 129), ("base:1", "a:b", "c"), ("base:1", "a:b", "")),
        *(
            ("base:1", "sha256", "x"),
            ("base:1", "a@" + ids["base"], ""),
            ("base:1", "f" * 64, ""),
            ("base:1", "a//b", ""),
        ),
        *(("base:1", "one.test:70000/a", ""), ("base:1", "http://a", ""), ("base:1", "scratch", "")),
    ):
        both.ask("POST", f"/v1.45/images/{quote(name)}/tag?repo={quote(repo)}&tag={quote(tag)}")
    both.listed("all=1")
    both.done()


def test_untag_and_delete(both: Both, ids: dict[str, str]) -> None:
    for name in (
        "",
        "nosuch",
        "nosuch:1",
        "two:3",
        "Two:1",
        "f" * 64,
        "sha256:" + "f" * 64,
        "ffff",
        "two@" + ids["two"],
    ):
        if name:
            both.delete(name)
    both.delete(ids["two"])  # two names, one repository
    both.delete(ids["many"])  # several repositories
    both.delete(ids["many"][7:19])
    both.delete("many")
    both.delete("one.test/many:1")
    both.delete("other.test:5000/team/many:x")
    both.delete("many:latest")
    both.delete("two:1")
    both.listed("all=1")
    both.delete(ids["two"])  # by its id, with one name left
    both.delete(ids["hidden"])  # it has a child
    both.delete(ids["hidden"], "force=1")
    both.delete("child:1", "noprune=1")  # its parent stays
    both.listed("all=1")
    both.delete(ids["hidden"])
    both.delete(ids["dangling"][7:15])
    both.delete("empty:1")
    both.listed("all=1")
    both.done()


def test_deleting_a_child_takes_its_parent_along(both: Both) -> None:
    both.ask("POST", "/v1.45/images/child:1/tag?repo=again&tag=1")
    both.delete("child:1")
    both.delete("again:1")
    both.listed("all=1")
    both.done()


def test_forced_by_id_all_names_go(both: Both, ids: dict[str, str]) -> None:
    both.delete(ids["many"], "force=1")
    both.delete(ids["two"][7:19], "force=1")
    both.listed("all=1")
    both.done()


def test_images_that_containers_use(both: Both, ids: dict[str, str]) -> None:
    both.create("by-name", "two:1")
    both.create("by-id", ids["dangling"])
    both.create("by-child", "child:1")
    for name in ("two:1", ids["two"], "two:2", ids["dangling"], "child:1", ids["child"], ids["hidden"]):
        both.delete(name)
    both.listed("all=1")
    both.ask("GET", "/v1.45/system/df?type=image")
    both.ask("POST", "/v1.45/images/prune")
    both.ask("POST", f"/v1.45/images/prune?filters={quote(json.dumps({'dangling': ['false'], 'label': ['kind=two']}))}")
    both.listed("all=1")
    both.delete(ids["dangling"], "force=1")
    both.delete("child:1", "force=1")
    both.listed("all=1")
    both.done()


def test_images_of_running_containers(both: Both, ids: dict[str, str]) -> None:
    both.create("running", "used:1")
    both.ask("POST", "/v1.45/containers/running/start")
    for query in ("", "force=1"):
        both.delete(ids["used"], query)
        both.delete("used:1", query)
        both.listed("all=1")
    both.ask("POST", "/v1.45/images/used:1/tag?repo=more&tag=1")
    both.delete(ids["used"], "force=1")
    both.listed("all=1")
    both.done()


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"dangling": ["true"]},
        {"dangling": ["false"]},
        {"dangling": ["maybe"]},
        {"dangling": ["false"], "label": ["kind=two"]},
        {"dangling": ["false"], "label!": ["kind=two"]},
        {"dangling": ["false"], "until": ["2020-01-04T12:00:00Z"]},
        {"until": ["24h"]},
        {"until": ["1h", "2h"]},
        {"until": ["nonsense"]},
        {"label": ["nosuch"]},
        {"nosuch": ["x"]},
    ],
    ids=json.dumps,
)
def test_prune(both: Both, filters: dict[str, list[str]]) -> None:
    both.ask("POST", f"/v1.45/images/prune?filters={quote(json.dumps(filters))}")
    both.listed("all=1")
    both.done()


def test_loading_again_moves_a_name(both: Both) -> None:
    moved = Archive()
    moved.add(["base:1", "two:1"], [TOPS[7]], "2021-01-01T00:00:00Z")
    both.ask("POST", "/v1.45/images/load?quiet=1", moved.whole())
    both.listed("all=1")
    both.listed(dangling=["true"])
    both.ask("POST", "/v1.45/images/prune")
    both.done()


def test_parents_in_archives(both: Both) -> None:
    """Whoever is said to be a parent must be the same image but for its last step, and come along."""
    steps = [{"created": "2020-01-01T00:00:00Z", "created_by": text} for text in ("one", "two", "three")]
    good, bad, absent, bare = Archive(), Archive(), Archive(), Archive()
    for made, before in ((good, steps[:1]), (bad, steps[1:2])):
        parent = made.add(["p:1"], [BASE], "2022-01-01T00:00:00Z", history=before)
        made.add(["c:1"], [BASE, TOPS[8]], "2022-01-02T00:00:00Z", parent=parent, history=steps[:2])
        made.manifest.reverse()  # the child comes first
    absent.add(["a:1"], [BASE, TOPS[5]], "2022-01-03T00:00:00Z", parent="sha256:" + "e" * 64, history=steps[:2])
    parent = bare.add(["b:1"], [BASE], "2022-01-04T00:00:00Z", history=[])
    bare.add(["b:2"], [BASE, TOPS[6]], "2022-01-05T00:00:00Z", parent=parent, history=[])
    for made in (good, absent, bare, bad):
        both.ask("POST", "/v1.45/images/load?quiet=1", made.whole())
        both.listed("all=1")
    for name in ("c:1", "p:1", "b:1"):
        both.ask("GET", f"/v1.45/images/{name}/history")
    both.delete("b:2")
    both.done()


def test_the_whole_name_of_an_image_of_docker_hub_is_found(bare: Instance) -> None:
    """Where dockerd 26 compares with the short form only, a whole name finds its image as well."""
    side = Side(bare.socket, described=True)
    assert side.ask("POST", "/v1.45/images/load?quiet=1", world()[0])[0] == 200
    try:
        for pattern in ("docker.io/library/base", "docker.io/*/base", "docker.io/library/base:1"):
            status, found = side.ask("GET", f"/v1.45/images/json?filters={quote(json.dumps({'reference': [pattern]}))}")
            assert (status, [entry["RepoTags"] for entry in found]) == (200, [["base:1"]])
    finally:
        for _ in range(3):
            for entry in side.ask("GET", "/v1.45/images/json?all=1")[1]:
                side.ask("DELETE", f"/v1.45/images/{entry['Id']}?force=1")
