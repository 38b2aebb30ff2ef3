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


@pytest.mark.parametrize("minor", range(24, 52))
def test_served(minor: int) -> None:
    assert negotiation.version(f"1.{minor}") == (1, minor)


def test_no_version_is_the_newest() -> None:
    assert negotiation.version("") == (1, 51)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "1.23",
            "client version 1.23 is too old. Minimum supported API version is 1.24, "
            "please upgrade your client to a newer version",
        ),
        ("1.52", "client version 1.52 is too new. Maximum supported API version is 1.51"),
        ("2.0", "client version 2.0 is too new. Maximum supported API version is 1.51"),
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
