# ruff: noqa: E501 - Dockerfiles are shown as lines
"""Build checks: what is found in Dockerfiles. Expected is what BuildKit of August 2026 finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.builder import check_rules, instructions
from service.builder.arguments import Arguments
from service.builder.check_rules import Finding, Options
from service.builder.checks import Base, Checker
from service.builder.dockerfile import BadDockerfile, parse
from service.builder.words import expanded

BUSYBOX = Base(["PATH=/bin"])
AMD64 = ("linux", "amd64", "")


def checker(text: str, *, base: "Base | None" = BUSYBOX, ignored: "list[str] | None" = None) -> Checker:
    """One for a Dockerfile whose stages all begin with one image."""
    dockerfile = parse(text)
    stages, before = instructions.stages(dockerfile)
    arguments = Arguments({"GIVEN": "g"}, AMD64, AMD64)
    for instruction in before:
        for name, default in instruction.pairs:
            value = None if default is None else expanded(default, arguments.known_to_from())
            arguments.define(name, value, before=True)
    return Checker(
        dockerfile,
        arguments,
        Options(dockerfile.check),
        bases={number: base for number in range(len(stages)) if base is not None},
        wanted=range(len(stages)),
        ignored=ignored or (),
        is_name=lambda name: bool(name) and not name.endswith((":", "$")),
    )


def details(text: str, **options: object) -> list[str]:
    """All that is found, in a line each."""
    return [finding.shown() for finding in checker(text, **options).run()]  # type: ignore[arg-type]  # as of checker


def found(text: str, **options: object) -> list[tuple[str, int]]:
    """Rule and line of what is found."""
    findings: list[Finding] = checker(text, **options).run()  # type: ignore[arg-type]  # as of checker
    return sorted((finding.rule.name, finding.line) for finding in findings)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ARG A=a\nFROM $A\n", []),
        ("ARG A=a\nFROM x$B\n", ["UndefinedArgInFrom: FROM argument 'B' is not declared (did you mean A?) (line 2)"]),
        ("FROM --platform=$TARGETPLATFROM a\n", ["UndefinedArgInFrom: FROM argument 'TARGETPLATFROM' is not declared (did you mean TARGETPLATFORM?) (line 1)"]),
        ("ARG A=a\nFROM ${A}-$QUITEANOTHER.\n", ["UndefinedArgInFrom: FROM argument 'QUITEANOTHER' is not declared (line 2)"]),
        ("FROM --platform=$TARGETPLATFORM a\n", ["RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior (line 1)"]),
        ("FROM --platform=${TARGETPLATFORM:-x} a\n", ["RedundantTargetPlatform: Setting platform to predefined ${TARGETPLATFORM:-x} in FROM is redundant as this is the default behavior (line 1)"]),
        ("FROM --platform=${TARGETOS}/arm64 a\n", []),
        ("FROM --platform=linux/arm64 a\n", ['FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/arm64" (line 1)']),
        ("FROM --platform=linux/arm64 a AS for-arm64\n", []),
        ("ARG A\nFROM a:$A\n", ["InvalidDefaultArgInFrom: Default value for ARG a:$A results in empty or invalid base image name (line 2)"]),
        ("ARG A\nFROM a:${A:-b}\n", []),
        ("ARG A\nARG B=x$A\nFROM a:$B\n", []),
        ("ARG GIVEN\nFROM a:$GIVEN\n", ["InvalidDefaultArgInFrom: Default value for ARG a:$GIVEN results in empty or invalid base image name (line 2)"]),
    ],
)  # fmt: skip
def test_checks_of_what_a_stage_begins_with(text: str, wanted: list[str]) -> None:
    assert details(text) == wanted


def test_a_rule_is_described_in_the_documentation() -> None:
    assert check_rules.JSON_FORM.url == "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
    assert check_rules.NO_BASE.url == "https://docs.docker.com/go/dockerfile/rule/invalid-default-arg-in-from/"
    assert check_rules.UNDEFINED.url == "https://docs.docker.com/go/dockerfile/rule/undefined-var/"
    assert not check_rules.OTHER_PLATFORM.url


def test_checks_of_how_it_is_written() -> None:
    assert found("FROM busybox\nRUN true\nWORKDIR /x\nWORKDIR y\n") == []
    assert found("FROM busybox as X\nrun true\nMAINTAINER me\n") == [
        ("ConsistentInstructionCasing", 2), ("FromAsCasing", 1), ("MaintainerDeprecated", 3), ("StageNameCasing", 1),
    ]  # fmt: skip
    assert found("arg x=1\nFROM busybox\nfrom busybox\n") == [("ConsistentInstructionCasing", 3)]
    assert found("From busybox As x\n") == [("ConsistentInstructionCasing", 1)]
    assert found("FROM a AS b\nENV K v\nFROM a AS B\nFROM a AS scratch\nLABEL x =y\n") == [
        ("DuplicateStageName", 3), ("LegacyKeyValueFormat", 2), ("LegacyKeyValueFormat", 5), ("ReservedStageName", 4),
        ("StageNameCasing", 3),
    ]  # fmt: skip
    assert found("FROM a\nRUN a \\\n\n  b\nEXPOSE 80/TCP 1:2 3/udp 1.2.3.4:5:6\nARG P=7/UDP\nEXPOSE $P\n") == [
        ("ExposeInvalidFormat", 5), ("ExposeInvalidFormat", 5), ("ExposeProtoCasing", 5), ("ExposeProtoCasing", 7),
        ("NoEmptyContinuation", 4),
    ]  # fmt: skip


def test_checks_of_secrets() -> None:
    text = "ARG TOKEN=x\nFROM a\nARG API_TOKEN b\nENV MY_SECRET_FILE=1 KEYS=1 access_key=3 PUBLIC_KEY=1 KEY_VERSION=2\nARG aUTH=1\n"
    assert details(text) == [
        'SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "API_TOKEN") (line 3)',
        'SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "access_key") (line 4)',
        'SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "aUTH") (line 5)',
    ]


def test_checks_of_what_counts_once() -> None:
    text = 'FROM a\nCMD ["a"]\nHEALTHCHECK NONE\ncmd ["b"]\nHEALTHCHECK CMD x\nENTRYPOINT []\n'
    assert [each for each in details(text) if each.startswith("Multiple")] == [
        "MultipleInstructionsDisallowed: Multiple cmd instructions should not be used in the same stage because only the last one will be used (line 2)",
        "MultipleInstructionsDisallowed: Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used (line 3)",
    ]
    assert found('FROM a AS b\nCMD ["x"]\nFROM b\nCMD ["y"]\n') == []


def test_checks_of_shell_forms() -> None:
    assert found('FROM a AS s\nSHELL ["x"]\nCMD a\nFROM s\nCMD a\nFROM a\nCMD a\nSHELL ["x"]\nENTRYPOINT\n') == [
        ("JSONArgsRecommended", 7)
    ]
    assert found("FROM a\nENTRYPOINT\n") == [("JSONArgsRecommended", 2)]
    assert found("FROM a\nCMD x\n", base=Base([], has_shell=True)) == []


def test_checks_of_directories() -> None:
    text = "FROM a AS s\nWORKDIR x\nWORKDIR y\nFROM s\nWORKDIR z\nFROM a\nARG D=/d\nWORKDIR $D\nWORKDIR e\nFROM a\nARG D=d\nWORKDIR $D\n"
    assert found(text) == [("WorkdirRelativePath", 2), ("WorkdirRelativePath", 12)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ENV A=$NOPE B=${PATH}\n", [(2, "NOPE", "")]),
        ("LABEL x=$PATHH\n", [(2, "PATHH", "PATH")]),
        ("ENV MY_VAR=1\nENV B=$MYVAR C=$my_var\n", [(3, "MYVAR", "MY_VAR"), (3, "my_var", "")]),
        ("ENV A=${N1:-x} B=${N2+x} C=${N3#x} D=${N4/x/y}\n", [(2, "N1", ""), (2, "N2", ""), (2, "N3", ""), (2, "N4", "")]),
        ("ARG C\nENV D=$C\n", []),
        ("ARG C=$NOPE E=$C\nENV D=$E\n", [(2, "NOPE", "")]),
        ("ARG GIVEN=$NOPE\nENV D=$GIVEN\n", []),
        ("ENV A=$TARGETARCH\nARG TARGETOS\nENV C=$TARGETOS\n", [(2, "TARGETARCH", "")]),
        ("ENV A=$N B=$N\n", [(2, "N", ""), (2, "N", "")]),
        ("RUN echo $NOPE\nCMD [\"$NOPE\"]\nEXPOSE ${NOPE:-80}\n", []),
        ("RUN --mount=type=cache,target=/$NOPE true\n", [(2, "NOPE", "")]),
        ("COPY --chown=$N1 --chmod=$N2 $N3 <<E <<'F' /$N4/\n$N5\nE\n$N6\nF\n", [(2, name, "") for name in ("N1", "N2", "N3", "N4", "N5")]),
        ("USER $N1\nVOLUME /$N2 /x$N3\nSTOPSIGNAL ${N4:-9}\nWORKDIR /$N5\n", [(2, "N1", ""), (3, "N2", ""), (3, "N3", ""), (4, "N4", ""), (5, "N5", "")]),
        ("ONBUILD ENV X=$NOPE\n", []),
        ("ENV X=1\nARG Y=2\nFROM s\nENV Z=$X$Y$W\nFROM a\nENV Q=$X\n", [(5, "W", "Y"), (7, "X", "")]),
        ("ONBUILD ENV X=$NOPE\nFROM s\nENV Y=$X\n", [(3, "NOPE", "")]),
    ],
)  # fmt: skip
def test_variables_that_there_are_not(text: str, wanted: list[tuple[int, str, str]]) -> None:
    assert [each for each in details(f"FROM a AS s\n{text}") if each.startswith("UndefinedVar")] == [
        f"UndefinedVar: Usage of undefined variable '${name}'{f' (did you mean ${meant}?)' if meant else ''} (line {line})"
        for line, name, meant in wanted
    ]


def test_what_an_image_sets_is_known_where_the_image_is() -> None:
    assert found("FROM a\nENV B=$HOMEDIR\n", base=Base(["HOMEDIR=/x"])) == []
    assert found("FROM a AS b\nENV B=$HOMEDIR\nFROM b\nENV C=$OTHER\n", base=None) == []
    assert found("FROM scratch\nENV B=$HOMEDIR\n", base=None) == [("UndefinedVar", 2)]
    assert found("FROM a\nENV B=$X\n", base=Base([], triggers=["ENV X=$Y"])) == [("UndefinedVar", 1)]


def test_an_image_of_another_platform() -> None:
    assert details("FROM a\n", base=Base([], wanted=AMD64, found=("linux", "arm64", "v8"))) == [
        'InvalidBaseImagePlatform: Base image a was pulled with platform "linux/arm64/v8", expected "linux/amd64" for current build (line 1)'
    ]
    assert found("FROM a\n", base=Base([], wanted=AMD64, found=AMD64)) == []


def test_files_that_are_left_out() -> None:
    text = "FROM a\nCOPY f /x\nADD ./g/../f /y\nCOPY . /z\nCOPY --from=a f /q\nCOPY g/h /w\nADD http://x/f /f\n"
    assert details(text, ignored=["f", "g"]) == [
        'CopyIgnoredFile: Attempting to Copy file "f" that is excluded by .dockerignore (line 2)',
        'CopyIgnoredFile: Attempting to Add file "f" that is excluded by .dockerignore (line 3)',
        'CopyIgnoredFile: Attempting to Copy file "g/h" that is excluded by .dockerignore (line 6)',
    ]
    assert found(text, ignored=["f", "!f"]) == []
    assert found("FROM a\nCOPY . /x\n", ignored=["*"]) == [("CopyIgnoredFile", 2)]


def test_comments_that_describe_something_else() -> None:
    text = "# wrong\nARG foo=1\n# base the base\nFROM a AS base\n# no\nARG bar q\n# no\n#\nARG r\n# no\nRUN true\n"
    assert found(text) == []
    assert details(f"# check=experimental=all\n{text}") == [
        "InvalidDefinitionDescription: Comment for ARG should follow the format: `# foo <description>` (line 3)",
        "InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> <description>` (line 7)",
    ]


def test_checks_are_skipped() -> None:
    assert found("# check=skip=all\nFROM busybox as X\nCMD a\n") == []
    assert found("# check=skip=JSONArgsRecommended\nFROM busybox\nCMD a\nrun true\n") == [
        ("ConsistentInstructionCasing", 4)
    ]
    assert found("FROM busybox\n# check=skip=JSONArgsRecommended why\nCMD a\n# check=skip=UndefinedVar,LegacyKeyValueFormat\nENV B $C\n# check=nonsense\nENV C=$D\n") == [
        ("UndefinedVar", 7)
    ]  # fmt: skip
    assert found("# check=skip=x\n#\n# check=skip=FromAsCasing\nFROM busybox as x\n# check=skip=all\n#\nMAINTAINER y\n") == [
        ("MaintainerDeprecated", 7)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("foo=bar", 'invalid check option "foo"'),
        ("skip", 'invalid check option "skip"'),
        (
            "error=maybe",
            'failed to parse check option "error=maybe": strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
    ],
)
def test_options_that_are_none(text: str, error: str) -> None:
    with pytest.raises(BadDockerfile) as raised:
        Options(text)
    assert str(raised.value) == error


def test_whether_a_finding_is_an_error() -> None:
    assert [Options(text).is_error for text in ("", "skip=X;error=true", "error=0", "error = T ; skip = Y")] == [
        False, True, False, True,
    ]  # fmt: skip


def test_where_a_build_would_fail() -> None:
    made = checker("FROM a\nENV A=${B:?no}\nCMD x\n")
    assert [finding.rule.name for finding in made.run()] == ["UndefinedVar"]
    assert (str(made.error), made.error and made.error.line) == ('failed to process "${B:?no}": B: no', 2)


@given(
    st.lists(
        st.sampled_from(("FROM a AS b\n", "env ", "=", " ", "ARG ", "K", "$K", "WORKDIR ", "x", "\\\n", "\n", "CMD ", "# check=")),
        max_size=30,
    ).map("".join)
)  # fmt: skip
def test_any_dockerfile_is_checked(text: str) -> None:
    try:
        found("FROM a\n" + text)
    except BadDockerfile:
        return
