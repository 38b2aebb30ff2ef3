"""Build checks told by builds: by what the images that stages begin with really set."""

import pytest

from service.engine import solving
from service.engine.solving import Exporter, SolveFailed
from tests.service.engine.test_solve import Built, built, engine, instance, runner

__all__ = ("built", "engine", "instance", "runner")  # fixtures


def test_a_build_tells_what_is_found(built: Built) -> None:
    outcome = built("FROM busybox AS unused\nCMD x\nFROM busybox\nENV A=$PATH B=$PATHS\nMAINTAINER $C\n")
    assert outcome.told.warnings == [
        "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 5)",
        "UndefinedVar: Usage of undefined variable '$PATHS' (did you mean $PATH?) (line 4)",
    ]
    told = next(
        event for event in outcome.told.events if isinstance(event, solving.Warning) and event.short.startswith("Undef")
    )
    assert (told.url, [(each.start, each.end) for each in told.ranges]) == (
        "https://docs.docker.com/go/dockerfile/rule/undefined-var/",
        [(4, 4)],
    )
    assert told.detail == ("Variables should be defined before their use",)


def test_what_an_image_sets_is_known(built: Built) -> None:
    built(
        'FROM busybox\nENV HOMEDIR=/h\nSHELL ["/bin/ash", "-c"]\nONBUILD ENV Y=$NOPE\n',
        exporters=[Exporter("moby", {"name": "checked:base"})],
    )
    outcome = built("FROM checked:base\nENV A=$HOMEDIR B=$Y\nCMD x\n")
    assert outcome.told.warnings == ["UndefinedVar: Usage of undefined variable '$NOPE' (line 1)"]


def test_what_is_found_can_be_an_error_before_anything_is_done(built: Built) -> None:
    dockerfile = "# check=error=true\nFROM busybox\nRUN echo told\nCMD x\nENV a b\n"
    with pytest.raises(
        SolveFailed, match=r"^lint violation found for rules: JSONArgsRecommended, LegacyKeyValueFormat$"
    ):
        built(dockerfile)
    attributes = {"build-arg:BUILDKIT_DOCKERFILE_CHECK": "skip=JSONArgsRecommended"}
    outcome = built(dockerfile, attributes=attributes)  # instead of what the Dockerfile says
    assert [each.partition(":")[0] for each in outcome.told.warnings] == ["LegacyKeyValueFormat"]
    with pytest.raises(SolveFailed, match=r'^failed to parse check options: invalid check option "x"$'):
        built("# check=x\nFROM busybox\n")
    with pytest.raises(SolveFailed, match=r"^failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK: invalid check opt"):
        built("FROM busybox\n", attributes={"build-arg:BUILDKIT_DOCKERFILE_CHECK": "x"})


def test_files_that_are_left_out_are_told(built: Built) -> None:
    with pytest.raises(SolveFailed, match=r'"/left": not found$'):
        built("# check=skip=all\nFROM scratch\nCOPY left /\n", {"left": "", ".dockerignore": "left\n"})
    with pytest.raises(SolveFailed, match=r"^lint violation found for rules: CopyIgnoredFile$"):
        built("# check=error=true\nFROM scratch\nCOPY left /\n", {"left": "", ".dockerignore": "left\n"})


def test_a_stage_needs_a_name_and_a_platform(built: Built) -> None:
    with pytest.raises(SolveFailed, match=r"^base name \(\$X\) should not be blank$"):
        built("FROM $X\nFROM busybox\n")
    with pytest.raises(SolveFailed, match=r"^empty platform value from expression \$X$"):
        built("FROM --platform=$X busybox\n")


def test_another_frontend_is_refused_by_its_name(built: Built) -> None:
    told = r"^the frontend example.com/front:1 cannot be used: the built-in one, dockerfile.v0, is the only one$"
    for text in ("# syntax=example.com/front:1\nFROM busybox\n", '{"syntax": "example.com/front:1"}'):
        with pytest.raises(SolveFailed, match=told) as failed:
            built(text)
        assert failed.value.ranges[0].start == 1
    built("# syntax=docker/dockerfile:1-labs\nFROM busybox\n")
    attributes = {"build-arg:BUILDKIT_SYNTAX": "docker/dockerfile:1"}
    built("# syntax=example.com/front:1\nFROM busybox\n", attributes=attributes)
