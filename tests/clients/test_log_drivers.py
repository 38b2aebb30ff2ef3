"""LogConfig: drivers and options, what create says of them, what the start says, and what inspect shows."""

from typing import Any

import pytest

from tests.support.instance import Instance
from tests.support.streams import call, create, inspect, of_stream, run, wait

BOTH = "stdout=1&stderr=1"
NOT_STARTED = "failed to create task for container: failed to initialize logging driver: "
NO_BOOL = 'strconv.ParseBool: parsing "x": invalid syntax'
COMPRESS = "compress cannot be true when max-file is less than 2 or max-size is not set"


@pytest.mark.parametrize(
    ("driver", "options", "text"),
    [
        ("asdf", {}, "logger: no log driver named 'asdf' is registered"),
        ("json-file", {"x": "y"}, "unknown log opt 'x' for json-file log driver"),
        ("", {"x": "y"}, "unknown log opt 'x' for json-file log driver"),
        ("local", {"tag": "y"}, "unknown log opt 'tag' for log driver local"),
        ("journald", {"max-size": "1m"}, "unknown log opt 'max-size' for journald log driver"),
        ("json-file", {"mode": "y"}, "logger: logging mode not supported: y"),
        (
            "json-file",
            {"max-buffer-size": "1m", "mode": "blocking"},
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        (
            "local",
            {"max-buffer-size": "zz", "mode": "non-blocking"},
            "error parsing option max-buffer-size: invalid size: 'zz'",
        ),
    ],
)
def test_names_are_checked_at_create(moorage: Instance, driver: str, options: dict[str, str], text: str) -> None:
    host = {"LogConfig": {"Type": driver, "Config": options}}
    answer = call(moorage, "POST /containers/create", {"Image": "busybox", "HostConfig": host})
    assert (answer.status, answer.json["message"]) == (400, text)


@pytest.mark.parametrize(
    ("driver", "options", "status", "text"),
    [
        ("json-file", {"max-size": "abc"}, 500, "invalid size: 'abc'"),
        ("json-file", {"max-size": "0"}, 500, "max-size must be a positive number"),
        ("json-file", {"max-file": "0"}, 500, "max-file cannot be less than 1"),
        ("json-file", {"max-file": "1.5"}, 500, 'strconv.Atoi: parsing "1.5": invalid syntax'),
        ("json-file", {"compress": "yes"}, 500, 'strconv.ParseBool: parsing "yes": invalid syntax'),
        ("json-file", {"compress": "true", "max-size": "3k"}, 500, COMPRESS),
        ("json-file", {"labels-regex": "("}, 500, "error parsing regexp: missing closing ): `(`"),
        ("json-file", {"tag": "{{"}, 500, "template: log-tag:1: unclosed action"),
        ("local", {"max-size": "abc"}, 400, "invalid value for max-size: abc: invalid size: 'abc'"),
        ("local", {"max-file": "1"}, 400, "compression cannot be enabled when max file count is 1"),
        ("local", {"compress": "x"}, 400, f"error reading compress log option: {NO_BOOL}"),
    ],
)
def test_values_are_checked_at_the_start(
    moorage: Instance, containers: list[str], driver: str, options: dict[str, str], status: int, text: str
) -> None:
    containers.append(create(moorage, "true", HostConfig={"LogConfig": {"Type": driver, "Config": options}}))
    answer = call(moorage, f"POST /containers/{containers[0]}/start")
    assert (answer.status, answer.json["message"]) == (500, NOT_STARTED + text)
    state = inspect(moorage, containers[0])["State"]
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("created", 128, NOT_STARTED + text)
    answer = call(moorage, f"GET /containers/{containers[0]}/logs?{BOTH}")
    assert (answer.status, answer.json["message"]) == (status, text)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, {"Type": "json-file", "Config": {}}),
        ({"Type": "", "Config": {"max-size": "1m"}}, {"Type": "json-file", "Config": {"max-size": "1m"}}),
        ({"Type": "local"}, {"Type": "local", "Config": {}}),
        ({"Type": "none", "Config": {"any": "thing"}}, {"Type": "none", "Config": {"any": "thing"}}),
        (
            {"Type": "json-file", "Config": {"mode": "non-blocking", "max-buffer-size": "4m"}},
            {"Type": "json-file", "Config": {"mode": "non-blocking", "max-buffer-size": "4m"}},
        ),
    ],
)
def test_inspect_shows_what_was_asked(moorage: Instance, containers: list[str], given: Any, shown: Any) -> None:
    body = {"Image": "busybox", "Cmd": ["echo", "hi"], "HostConfig": {"LogConfig": given, "NetworkMode": "none"}}
    made = call(moorage, "POST /containers/create", body).json
    containers.append(made["Id"])
    assert made["Warnings"] == []
    assert call(moorage, f"POST /containers/{made['Id']}/start").status == 204
    wait(moorage, made["Id"])
    seen = inspect(moorage, made["Id"])
    assert seen["HostConfig"]["LogConfig"] == shown
    assert seen["LogPath"] == ""  # conmon's format is none that a driver promises
    answer = call(moorage, f"GET /containers/{made['Id']}/logs?{BOTH}")
    assert answer.status == (501 if shown["Type"] == "none" else 200)


def test_details_by_name_by_pattern_and_the_tag(moorage: Instance, containers: list[str]) -> None:
    options = {"labels": "one,none", "labels-regex": "^t", "env": "E", "env-regex": "^F.$", "tag": "{{.Name}}/{{.ID}}"}
    containers.append(
        run(
            moorage,
            *("echo", "hi"),
            Labels={"one": "a b", "two": "x", "other": "y"},
            Env=["E=v", "F1=f=1", "G=g"],
            HostConfig={"LogConfig": {"Type": "json-file", "Config": options}},
        )
    )
    wait(moorage, containers[0])
    name = inspect(moorage, containers[0])["Name"].removeprefix("/")
    said = call(moorage, f"GET /containers/{containers[0]}/logs?stdout=1&details=1").body
    assert of_stream(said, 1).decode() == f"E=v,F1=f%3D1,one=a+b,tag={name}%2F{containers[0][:12]},two=x hi\n"


def test_details_come_after_the_timestamp(moorage: Instance, containers: list[str]) -> None:
    containers.append(run(moorage, "echo", "hi", HostConfig={"LogConfig": {"Type": "local"}}))
    wait(moorage, containers[0])
    said = of_stream(call(moorage, f"GET /containers/{containers[0]}/logs?stdout=1&details=1&timestamps=1").body, 1)
    stamp, rest = said[:30], said[30:]
    assert stamp.endswith(b"Z")
    assert rest == b"  hi\n"  # no attributes, but the blank after them
