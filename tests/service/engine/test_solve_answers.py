"""What is asked of a Dockerfile instead of a build. The shown texts are those that dockerd 28's BuildKit gives."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from service.engine.engine import Engine
from service.engine.solving import SolveFailed
from service.settings import Settings
from tests.support.build_session import FolderSession, build

DOCKERFILE = """\
# UNUSED never read
ARG UNUSED=u
# BASE the base image
ARG BASE=busybox
ARG DEP=x-$BASE
ARG T=${DEP}

# first the first stage
FROM $BASE AS first
# A about a
#
# A more about a
ARG A=1
# B about b

ARG B
ARG T
ARG TARGETARCH
RUN --mount=type=secret,id=s1,required=true --mount=type=ssh true
RUN --mount=type=secret,id=s2,env=X true
FROM scratch AS other
ARG O=other
FROM busybox AS dep2
ARG D2
# final the last one
FROM first AS final
COPY --from=dep2 /x /y
ARG C=c-$A C2
"""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An engine with nothing."""
    made = Engine(Settings({"MOORAGE_ROOT": str(tmp_path / "lib"), "MOORAGE_RUN": str(tmp_path / "run")}))
    made.open()
    return made


def asked(engine: Engine, dockerfile: str, request: str, **options: str) -> tuple[Any, str, Any]:
    """The document and the text of an answer, and all that came with them."""
    folder = Path(engine.settings.run) / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(dockerfile)
    session = FolderSession({"context": str(folder), "dockerfile": str(folder)})
    attributes = {"requestid": request, **{name.replace("__", ":"): value for name, value in options.items()}}
    outcome = asyncio.run(build(engine, session, attributes, exporters=[]))
    assert not outcome.config
    return json.loads(outcome.metadata["result.json"]), outcome.metadata["result.txt"].decode(), outcome


def line_of(entry: Any) -> int:
    """Where it stands."""
    line: int = entry["location"]["ranges"][0]["start"]["line"]
    return line


def test_an_outline_tells_what_a_target_takes(engine: Engine) -> None:
    told, shown, outcome = asked(engine, DOCKERFILE, "frontend.outline", build_arg="", **{"build-arg__B": "given"})
    assert (told["name"], told["description"]) == ("final", "the last one")
    assert [(each["name"], each.get("value", ""), line_of(each)) for each in told["args"]] == [
        ("BASE", "busybox", 4),
        ("DEP", "x-busybox", 5),
        ("T", "x-busybox", 6),
        ("A", "1", 13),
        ("B", "given", 16),
        ("D2", "", 24),
        ("C", "c-1", 28),
        ("C2", "", 28),
    ]
    assert told["secrets"] == [
        {"name": "s1", "required": True, "location": told["secrets"][0]["location"]},
        {"name": "s2", "location": told["secrets"][1]["location"]},
    ]
    assert [each["name"] for each in told["ssh"]] == ["default"]
    assert base64.b64decode(told["sources"][0]).decode() == DOCKERFILE
    assert shown == (
        "TARGET:      final\n"
        "DESCRIPTION: the last one\n"
        "\n"
        "BUILD ARG   VALUE       DESCRIPTION\n"
        "BASE        busybox     the base image\n"
        "DEP         x-busybox   \n"
        "T           x-busybox   \n"
        "A           1           more about a\n"
        "B           given       about b\n"
        "D2                      \n"
        "C           c-1         \n"
        "C2                      \n"
        "\n"
        "SECRET   REQUIRED\n"
        "s1       true\n"
        "s2       \n"
        "\n"
        "SSH       REQUIRED\n"
        "default   \n"
        "\n"
    )
    assert outcome.told.ended


def test_an_outline_is_of_one_target(engine: Engine) -> None:
    told, shown, _ = asked(engine, DOCKERFILE, "frontend.outline", target="other")
    assert [each["name"] for each in told["args"]] == ["O"]
    assert shown == "TARGET: other\n\nBUILD ARG   VALUE   DESCRIPTION\nO           other   \n\n"


def test_an_outline_of_a_target_that_is_not_there_fails_as_its_build(engine: Engine) -> None:
    with pytest.raises(SolveFailed, match='target stage "no" could not be found'):
        asked(engine, DOCKERFILE, "frontend.outline", target="no")


def test_targets(engine: Engine) -> None:
    told, shown, _ = asked(engine, DOCKERFILE, "frontend.targets")
    assert [(each["name"], each["base"], each.get("default", False)) for each in told["targets"]] == [
        ("first", "$BASE", False),
        ("other", "scratch", False),
        ("dep2", "busybox", False),
        ("final", "first", True),
    ]
    assert base64.b64decode(told["sources"][0]).decode() == DOCKERFILE
    assert shown == (
        "TARGET          DESCRIPTION\n"
        "first           the first stage\n"
        "other           \n"
        "dep2            \n"
        "final (default) the last one\n"
    )
    assert (
        asked(engine_beside(engine), "FROM scratch\n", "frontend.targets")[1] == "TARGET    DESCRIPTION\n(default) \n"
    )


def engine_beside(engine: Engine) -> Engine:
    """Another one, for a second question."""
    made = Engine(Settings({"MOORAGE_ROOT": engine.settings.root + "2", "MOORAGE_RUN": engine.settings.run + "2"}))
    made.open()
    return made


def test_what_can_be_asked(engine: Engine) -> None:
    told, shown, _ = asked(engine, DOCKERFILE, "frontend.subrequests.describe")
    assert [each["name"] for each in told] == ["frontend.outline", "frontend.targets", "frontend.subrequests.describe"]
    assert shown.splitlines()[0] == "NAME                 VERSION DESCRIPTION"
    with pytest.raises(SolveFailed, match=r"unsupported request frontend\.nothing") as refused:
        asked(engine_beside(engine), DOCKERFILE, "frontend.nothing")
    assert refused.value.code == 2


def test_a_check_says_by_its_status_whether_it_found_something(engine: Engine) -> None:
    told, shown, outcome = asked(engine, "FROM scratch\nMAINTAINER me\n", "frontend.lint")
    assert [each["ruleName"] for each in told["warnings"]] == ["MaintainerDeprecated"]
    assert outcome.metadata["result.statuscode"] == b"1"
    assert shown == (
        "\nWARNING: MaintainerDeprecated - https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/\n"
        "Maintainer instruction is deprecated in favor of using label\n"
        "Dockerfile:2\n"
        "--------------------\n"
        "   1 |     FROM scratch\n"
        "   2 | >>> MAINTAINER me\n"
        "   3 |     \n"
        "--------------------\n"
    )
    told, shown, outcome = asked(engine_beside(engine), "FROM scratch\n", "frontend.lint")
    assert (told["warnings"], shown, outcome.metadata["result.statuscode"]) == (None, "", b"0")


def test_a_check_of_what_is_no_dockerfile_tells_the_error(engine: Engine) -> None:
    told, _, outcome = asked(engine, "FROM scratch\nRUNN <x>\n", "frontend.lint")
    assert told["buildError"]["message"].startswith("dockerfile parse error on line 2: unknown instruction: RUNN")
    assert line_of(told["buildError"]) == 2
    assert outcome.metadata["result.statuscode"] == b"1"
    told, _, outcome = asked(engine_beside(engine), "FROM scratch\n", "frontend.lint", target="no")
    assert told["buildError"]["message"] == 'target stage "no" could not be found'
