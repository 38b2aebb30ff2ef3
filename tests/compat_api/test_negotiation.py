"""API versions: which are served, in which shape, and what is said to the others."""

import copy

import pytest

from compat_api import errors, negotiation, versions
from service import errors as meanings


@pytest.mark.parametrize(
    ("path", "text", "rest"),
    [
        ("/v1.44/containers/json", "1.44", "/containers/json"),
        ("/containers/json", "", "/containers/json"),
        ("/v1/_ping", "1", "/_ping"),
        ("/volumes", "", "/volumes"),
        ("/v1.44", "", "/v1.44"),
        ("/vx/_ping", "", "/vx/_ping"),
    ],
)
def test_split(path: str, text: str, rest: str) -> None:
    assert negotiation.split(path) == (text, rest)


@pytest.mark.parametrize("minor", range(24, 56))
def test_served(minor: int) -> None:
    assert negotiation.version(f"1.{minor}") == (1, minor)


def test_no_version_is_the_newest() -> None:
    assert negotiation.version("") == (1, 55)


@pytest.mark.parametrize(
    ("user_agent", "named"),
    [
        ("docker-sdk-python/7.1.0", (1, 51)),
        ("docker-compose/1.29.2 docker-py/5.0.0 Linux/6.1.0", (1, 51)),
        ("ansible-community.docker", (1, 51)),
        ("Python/3.11 aiohttp/3.14.5", (1, 51)),
        ("curl/7.88.1", (1, 55)),
        ("Docker-Client/28.2.2 (linux)", (1, 55)),
        ("", (1, 55)),
    ],
)
def test_which_version_is_named_as_the_newest(user_agent: str, named: tuple[int, int]) -> None:
    assert negotiation.named_to(user_agent) == named


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "1.23",
            "client version 1.23 is too old. Minimum supported API version is 1.24, "
            "please upgrade your client to a newer version",
        ),
        ("1.56", "client version 1.56 is too new. Maximum supported API version is 1.55"),
        ("2.0", "client version 2.0 is too new. Maximum supported API version is 1.55"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(meanings.InvalidParameter) as raised:
        negotiation.version(text)
    assert raised.value.message == message


def test_the_newest_version_changes_nothing() -> None:
    for shape in versions.ROWS:
        document: dict[str, object] = {
            "Config": {},
            "HostConfig": {"Annotations": {}},
            "Descriptor": {},
            "RegistryConfig": {},
        }
        assert versions.apply(shape, copy.deepcopy(document), negotiation.API_VERSION) == document


def test_fields_that_came_later_are_left_out_before() -> None:
    listed = [{"HostConfig": {"NetworkMode": "none", "Annotations": {}}, "ImageManifestDescriptor": {}}, {}]
    assert versions.apply("ContainerSummary", listed, (1, 47)) == [
        {"HostConfig": {"NetworkMode": "none", "Annotations": {}}},
        {},
    ]
    assert versions.apply("ContainerSummary", listed, (1, 45)) == [{"HostConfig": {"NetworkMode": "none"}}, {}]


def test_fields_that_went_later_are_there_before() -> None:
    image = {"Size": 7, "Containers": 2, "RepoTags": [], "RepoDigests": [], "Descriptor": {}}
    assert versions.apply("ImageSummary", dict(image), (1, 48)) == {**image, "Containers": -1}
    old = versions.apply("ImageSummary", dict(image), (1, 42))
    assert old["VirtualSize"] == 7
    assert (old["RepoTags"], old["RepoDigests"]) == (["<none>:<none>"], ["<none>@<none>"])


def test_fields_that_went_are_left_out_from_then_on() -> None:
    beside = {"IPAddress": "172.17.0.2", "Bridge": "", "SecondaryIPAddresses": None}
    container = {
        "Config": {"MacAddress": "02:42:ac:11:00:02", "OnBuild": None, "Cmd": None},
        "NetworkSettings": {**beside, "Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
    }
    assert versions.apply("ContainerInspect", copy.deepcopy(container), (1, 51)) == container
    assert versions.apply("ContainerInspect", copy.deepcopy(container), (1, 52)) == {
        "Config": {"Cmd": None},
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
    }
    event = {"status": "start", "id": "x", "from": "busybox", "Action": "start"}
    assert versions.apply("Event", dict(event), (1, 51)) == event
    assert versions.apply("Event", dict(event), (1, 52)) == {"Action": "start"}


def test_fields_that_are_left_out_where_they_are_empty() -> None:
    image = {"Author": "", "Comment": "made", "Config": {"Hostname": "h", "Labels": {}, "Env": ["A=b"], "Cmd": None}}
    assert versions.apply("ImageInspect", copy.deepcopy(image), (1, 51)) == {
        **image,
        "Config": {"Labels": {}, "Env": ["A=b"], "Cmd": None},
    }
    assert versions.apply("ImageInspect", copy.deepcopy(image), (1, 52)) == {
        "Comment": "made",
        "Config": {"Env": ["A=b"]},
    }


def test_paths_go_through_objects_and_lists() -> None:
    info = {"Runtimes": {"runc": {"path": "runc", "status": {}}, "x": {"status": {}}}, "RuncCommit": {"ID": "v1"}}
    told = versions.apply("Info", info, (1, 43))
    assert told["Runtimes"] == {"runc": {"path": "runc"}, "x": {}}
    assert told["RuncCommit"] == {"ID": "v1", "Expected": "v1"}
    usage = {"Images": [{"Size": 1}], "BuildCache": [{"Parents": ["a"]}, {}]}
    assert versions.apply("SystemDataUsage", usage, (1, 41)) == {
        "Images": [{"Size": 1, "VirtualSize": 1}],
        "BuildCache": [{"Parent": "a"}, {"Parent": ""}],
    }


def test_aliases_before_1_45() -> None:
    container = {
        "Id": "0123456789abcdef",
        "Config": {"Hostname": "h"},
        "NetworkSettings": {"Networks": {"mine": {"Aliases": ["a"]}, "bridge": {"Aliases": None}}},
    }
    networks = versions.apply("ContainerInspect", container, (1, 44))["NetworkSettings"]["Networks"]
    assert networks == {"mine": {"Aliases": ["a", "0123456789ab", "h"]}, "bridge": {"Aliases": None}}


def test_events_of_later_versions() -> None:
    assert not versions.event_is_known("image", "create", (1, 45))
    assert versions.event_is_known("image", "create", (1, 46))
    assert versions.event_is_known("container", "create", (1, 24))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (meanings.InvalidParameter("m"), 400),
        (meanings.Unauthorized("m"), 401),
        (meanings.Forbidden("m"), 403),
        (meanings.NotFound("m"), 404),
        (meanings.Conflict("m"), 409),
        (meanings.NotImplemented_("m"), 501),
        (meanings.Unavailable("m"), 503),
        (meanings.SystemFailure("m"), 500),
        (type("Special", (meanings.Conflict,), {})("m"), 409),
    ],
)
def test_meanings_become_statuses(error: Exception, status: int) -> None:
    answer = errors.answer(error)
    assert (answer.status, answer.document) == (status, {"message": "m"})


def test_not_modified_has_no_body() -> None:
    answer = errors.answer(meanings.NotModified("m"))
    assert (answer.status, answer.document, answer.body) == (304, ..., b"")


def test_every_meaning_has_a_status() -> None:
    kinds = [kind for kind in vars(meanings).values() if isinstance(kind, type) and kind is not meanings.MoorageError]
    wanted = [kind for kind in kinds if issubclass(kind, meanings.MoorageError)]
    assert wanted
    assert not [kind for kind in wanted if not set(kind.__mro__) & set(errors.STATUS)]


def test_what_nobody_foresaw_is_told_to_the_journal_only(capfd: pytest.CaptureFixture[str]) -> None:
    try:
        raise KeyError("/a/secret/path")
    except KeyError as error:
        answer = errors.answer(error)
    assert answer.status == 500
    assert "/" not in answer.document["message"]
    assert "Traceback" in capfd.readouterr().err
