"""RUN --mount and the build checks: what they read, and that nothing makes them fail otherwise than in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.builder import checks, instructions, run_mounts
from service.builder.dockerfile import BadDockerfile, parse

WORDS = st.sampled_from(
    (
        *run_mounts.KINDS,
        *("type", "from", "source", "target", "id", "sharing", "locked", "mode", "uid", "size", "ro", "rw", "required"),
        *("env", "=", ",", '"', "/", "7", "1m", "..", "é", "\n", " "),
    )
)


def read(text: str) -> run_mounts.RunMount:
    """A mount in /srv."""
    return run_mounts.placed(run_mounts.parse(text, str), "/srv")


def test_mounts() -> None:
    assert (read("target=x").type, read("target=x").target, read("target=x").read_only) == ("bind", "/srv/x", True)
    assert not read("type=bind,target=/x,rw").read_only
    cache = read("type=cache,dst=/c/../d,sharing=LOCKED,mode=700,uid=1")
    assert (cache.target, cache.sharing, cache.mode, cache.uid, cache.read_only) == ("/d", "locked", 0o700, 1, False)
    assert read("type=secret,id=a/b").target == "/run/secrets/b"
    secret = read("type=secret,id=k,env=K")
    assert (secret.target, secret.environment) == ("", "K")
    assert read("type=tmpfs,target=/t,size=2m").size == 2 << 20
    assert (read("type=ssh").id, read("type=ssh,required").required) == ("default", True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=what,target=/x", 'unsupported mount type "what"'),
        ("type=cache,target=/", 'invalid mount target "/"'),
        ("type=cache,target=/x,sharing=some", 'unsupported sharing value "some"'),
        ("type=bind,target=/x,other=1", "unexpected key 'other' in 'other=1'"),
        ("type=bind,target", "invalid field 'target' must be a key=value pair"),
        ("type=tmpfs,target=/x,size=much", "invalid value for size: much"),
    ],
)
def test_what_is_no_mount(text: str, message: str) -> None:
    with pytest.raises(BadDockerfile) as caught:
        read(text)
    assert str(caught.value) == message


@given(st.lists(WORDS, max_size=20).map("".join))
def test_any_text_is_a_mount_or_is_refused(text: str) -> None:
    try:
        mount = read(text)
    except BadDockerfile:
        return
    assert mount.target.startswith("/") or mount.type in ("secret", "ssh")


def found(text: str) -> list[tuple[str, int]]:
    """Rule and line of what the checks find."""
    dockerfile = parse(text)
    return [
        (finding.rule.name, finding.line) for finding in checks.found(dockerfile, instructions.stages(dockerfile)[0])
    ]


@pytest.mark.parametrize(
    ("text", "details"),
    [
        ("ARG A=a\nFROM $A\n", []),
        ("ARG A=a\nFROM $B\n", ["FROM argument 'B' is not declared (did you mean A?)"]),
        (
            "FROM --platform=$TARGETPLATFROM a\n",
            ["FROM argument 'TARGETPLATFROM' is not declared (did you mean TARGETPLATFORM?)"],
        ),
        ("ARG A=a\nFROM ${A}-$QUITEANOTHER\n", ["FROM argument 'QUITEANOTHER' is not declared"]),
        (
            "FROM --platform=$TARGETPLATFORM a\n",
            ["Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"],
        ),
        ("ARG A\nFROM a:$A\n", ["Default value for ARG a:$A results in empty or invalid base image name"]),
        ("ARG A\nARG B=x$A\nFROM a:$B\n", []),
    ],
)
def test_checks_of_what_a_stage_begins_with(text: str, details: list[str]) -> None:
    dockerfile = parse(text)
    assert [finding.detail for finding in checks.found(dockerfile, instructions.stages(dockerfile)[0])] == details


def test_a_rule_is_described_in_the_documentation() -> None:
    assert checks.JSON_FORM.url == "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
    assert checks.NO_BASE.url == "https://docs.docker.com/go/dockerfile/rule/invalid-default-arg-in-from/"


def test_checks() -> None:
    assert found("FROM busybox\nRUN true\nWORKDIR /x\nWORKDIR y\n") == []
    assert found("FROM busybox as X\nrun true\nWORKDIR y\nCMD a\nCMD b\n") == [
        ("FromAsCasing", 1),
        ("StageNameCasing", 1),
        ("ConsistentInstructionCasing", 2),
        ("WorkdirRelativePath", 3),
        ("JSONArgsRecommended", 4),
        ("MultipleInstructionsDisallowed", 4),
        ("JSONArgsRecommended", 5),
    ]
    assert found("FROM a AS b\nENV K v\nFROM a AS b\nARG API_TOKEN\nARG PUBLIC_KEY=1\nMAINTAINER me\n") == [
        ("LegacyKeyValueFormat", 2),
        ("DuplicateStageName", 3),
        ("SecretsUsedInArgOrEnv", 4),
        ("MaintainerDeprecated", 6),
    ]
    assert found("FROM a\nENV MY_SECRET_FILE=1 KEYS=1 access_keys=3\nRUN a \\\n\n  b\nEXPOSE 80/TCP 1:2 3/udp\n") == [
        ("SecretsUsedInArgOrEnv", 2),
        ("NoEmptyContinuation", 5),
        ("ExposeInvalidFormat", 6),
        ("ExposeProtoCasing", 6),
    ]
    assert found('FROM a AS s\nSHELL ["x"]\nCMD a\nFROM s\nCMD a\nFROM a\nCMD a\nSHELL ["x"]\n') == [
        ("JSONArgsRecommended", 7)
    ]
    assert found("# check=skip=all\nFROM busybox as X\nCMD a\n") == []
    assert found("# check=skip=JSONArgsRecommended\nFROM busybox\nCMD a\nrun true\n") == [
        ("ConsistentInstructionCasing", 4)
    ]
    assert checks.is_error(parse("# check=skip=X;error=true\nFROM a\n"))
    assert not checks.is_error(parse("FROM a\n"))


@given(
    st.lists(
        st.sampled_from(("FROM a AS b\n", "env ", "=", " ", "ARG ", "K", "WORKDIR ", "x", "\\\n", "\n", "CMD ")),
        max_size=30,
    ).map("".join)
)
def test_any_dockerfile_is_checked(text: str) -> None:
    try:
        found("FROM a\n" + text)
    except BadDockerfile:
        return
