"""The reading of Dockerfiles: forms, directives, heredocs, variables, errors; and that no text whatever makes it fail
otherwise than by saying what is bad, or take long."""

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.builder import ignore, instructions
from service.builder.arguments import Arguments
from service.builder.configuration import State, apply, shown_duration, work_directory
from service.builder.dockerfile import BadDockerfile, parse
from service.builder.words import BadWord, expanded, split

VARIABLES = {"x": "foo.tar.gz", "e": "", "path": "/a/b/a/c"}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("$x", "foo.tar.gz"),
        ("${x}y", "foo.tar.gzy"),
        ("a$", "a$"),
        ("$nosuch-", "-"),
        ("\\$x", "$x"),
        ("'$x'", "$x"),
        ('"$x \\" \\a"', 'foo.tar.gz " \\a'),
        ("${e:-d}", "d"),
        ("${e-d}", ""),
        ("${n-d}", "d"),
        ("${x:+s}", "s"),
        ("${e:+s}", ""),
        ("${e+s}", "s"),
        ("${n:-${x}}", "foo.tar.gz"),
        ("${x%.*}", "foo.tar"),
        ("${x%%.*}", "foo"),
        ("${x#*.}", "tar.gz"),
        ("${x##*.}", "gz"),
        ("${x#f?o}", ".tar.gz"),
        ("${path/a/z}", "/z/b/a/c"),
        ("${path//a/z}", "/z/b/z/c"),
        ("${path//\\/a/}", "/b/c"),
        ("${x:?no}", "foo.tar.gz"),
    ],
)
def test_variables(word: str, value: str) -> None:
    assert expanded(word, VARIABLES) == value


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("${", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${x:-", "syntax error: missing '}'"),
        ("${x^a}", "unsupported modifier (^) in substitution"),
        ("${n:?}", "n: is not allowed to be unset"),
        ("${e:?}", "e: is not allowed to be empty"),
        ("${n?is needed}", "n: is needed"),
        ("'", "unexpected end of statement while looking for matching single-quote"),
        ('"', "unexpected end of statement while looking for matching double-quote"),
        ("${x#\\a}", "invalid pattern (\\a) in substitution: invalid escape '\\a'"),
    ],
)
def test_bad_variables(word: str, complaint: str) -> None:
    with pytest.raises(BadWord) as refused:
        expanded(word, VARIABLES)
    assert str(refused.value).endswith(complaint)


def test_words_are_split_after_variables_are_replaced() -> None:
    assert split("a $p 'b c' \"$p\"", {"p": "80 90"}) == ["a", "80", "90", "b c", "80 90"]


def test_a_pattern_that_would_be_slow_is_not() -> None:
    begun = time.monotonic()
    assert expanded("${x#*a*a*a*a*a*a*a*b}", {"x": "a" * 5000}) == "a" * 5000
    assert expanded("${x//*a*a*a*a*a*b/y}", {"x": "a" * 5000}) == "a" * 5000
    assert time.monotonic() - begun < 20


def test_forms_flags_and_lines() -> None:
    read = parse(
        "# syntax=x\n# escape=`\n\n#c\nFROM  busybox  AS B\nRUN --mount=type=x --network='a b' a `\n  # c\n\n b\n"
        'RUN ["x", "y"]\nRUN ["x", y]\nCOPY --from=B a "b c" d\nENV A=1 B="2 3" C=4` 5\nENV OLD the  rest\nARG Q W=1\n'
    )
    assert read.escape == "`"
    assert read.warnings == ["Empty continuation line found in: RUN --mount=type=x --network='a b' a  b"]
    found = [(line.name, line.flags, line.arguments, line.is_json, line.number) for line in read.lines]
    assert found == [
        ("from", [], ["busybox", "AS", "B"], False, 5),
        ("run", ["--mount=type=x", "--network=a b"], ["a  b"], False, 6),
        ("run", [], ["x", "y"], True, 10),
        ("run", [], ['["x", y]'], False, 11),
        ("copy", ["--from=B"], ["a", '"b', 'c"', "d"], False, 12),
        ("env", [], ["A", "1", "B", '"2 3"', "C", "4` 5"], False, 13),
        ("env", [], ["OLD", "the  rest"], False, 14),
        ("arg", [], ["Q", "W=1"], False, 15),
    ]


def test_heredocs() -> None:
    copy, run, plain = parse(
        "COPY <<A <<-'B' /d\nfirst $x\nA\n\tsecond\n\tB\nRUN cat <<E && x\nline\nE\nENV A=<<E\n"
    ).lines
    assert [(doc.name, doc.text, doc.expand) for doc in copy.heredocs] == [
        ("A", "first $x\n", True),
        ("B", "second\n", False),
    ]
    assert [doc.content for doc in run.heredocs] == ["line\n"]
    assert plain.heredocs == []
    with pytest.raises(BadDockerfile, match="unterminated heredoc"):
        parse("RUN <<E\nx\n")


def test_arguments_are_known_where_they_are_defined() -> None:
    arguments = Arguments({"given": "g", "http_proxy": "p", "unused": "1", "null": None})
    arguments.define("before", "b", before=True)
    assert arguments.known_to_from() == {"before": "b", "http_proxy": "p"}
    stage = arguments.stage()
    assert stage.known() == {"http_proxy": "p"}
    stage.define("before", None)
    stage.define("given", "default")
    assert stage.known() == {"before": "b", "given": "g", "http_proxy": "p"}
    assert stage.beside(["given=env"]) == {"before": "b", "http_proxy": "p"}
    assert not stage.in_history("http_proxy")
    assert arguments.unused() == ["null", "unused"]


def test_a_configuration_is_built_up() -> None:
    state = State({}, Arguments({}))
    text = (
        'FROM x\nENV A=1\nENV B=$A A=2\nEXPOSE 1-3/udp 80\nWORKDIR a\nWORKDIR ../b/./c\nCMD x $A\nENTRYPOINT ["e"]\n'
        'HEALTHCHECK --interval=1m2.5s CMD ["h"]\nVOLUME /a $A\nLABEL k=${B}v\n'
    )
    for instruction in instructions.stages(parse(text))[0][0].instructions:
        state.expand(instruction)
        (work_directory if instruction.name == "workdir" else apply)(state, instruction)
    assert state.config == {
        "Env": ["A=2", "B=1"],
        "ExposedPorts": {"1/udp": {}, "2/udp": {}, "3/udp": {}, "80/tcp": {}},
        "WorkingDir": "/b/c",
        "Cmd": ["/bin/sh", "-c", "x $A"],
        "Entrypoint": ["e"],
        "Healthcheck": {"Test": ["CMD", "h"], "Interval": 62_500_000_000},
        "Volumes": {"/a": {}, "2": {}},
        "Labels": {"k": "1v"},
    }


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("0s", 0), ("1.5s", 1_500_000_000), ("1m30s", 90_000_000_000), ("1h0m0s", 3_600_000_000_000), ("5µs", 5_000)],
)
def test_durations_come_and_go(text: str, nanoseconds: int) -> None:
    assert instructions.duration(text) == nanoseconds
    assert shown_duration(nanoseconds) == text


def test_what_dockerignore_leaves_out() -> None:
    listed = ignore.patterns("# c\n\n*.md\n!README.md\n/a/b\n**/deep\n./x/../y\n")
    paths = ("z.md", "README.md", "a/b/c", "q/w/deep", "y", "x", "d/z.md")
    left_out = [ignore.leaves_out(listed, path) for path in paths]
    assert left_out == [True, False, True, True, True, False, False]


WORDS = st.sampled_from(
    [
        *(
            "FROM",
            "RUN",
            "COPY",
            "ENV",
            "ARG",
            "ONBUILD",
            "HEALTHCHECK",
            "CMD",
            "EXPOSE",
            "LABEL",
            "busybox",
            "--from=x",
        ),
        *("--", "a=b", "$x", "${x:-", "}", '"', "'", "\\", "\\\n", "`", "\n", "\r\n", "<<EOF", "EOF", "<<-E", "[", "]"),
        *('["a"]', ",", "#", "# escape=`\n", " ", "\t", "80/tcp", "1-99999", "--interval=1s", "\x00", "\u2028"),
        *("\x1c", "\xe9", "%s", "${x//a/"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.lists(WORDS, max_size=40).map("".join), st.text(max_size=200), st.binary(max_size=200)))
def test_no_text_breaks_it(text: "str | bytes") -> None:
    with contextlib.suppress(BadDockerfile, BadWord):
        stages, before = instructions.stages(parse(text))
        for instruction in (*before, *(each for stage in stages for each in stage.instructions)):
            State({"Env": ["x=abc"]}, Arguments({})).expand(instruction)


@settings(max_examples=400, deadline=None)
@given(st.lists(WORDS, max_size=40).map("".join), st.text(max_size=50))
def test_no_word_breaks_it(word: str, value: str) -> None:
    with contextlib.suppress(BadWord):
        expanded(word, {"x": value})
        split(word, {"x": value}, raw=True)


@pytest.mark.parametrize(
    "text", ["ONBUILD " * 5000, "ENV A=" + "${x:-" * 5000, "CMD " + "[" * 20000, "RUN " + "a" * 70000]
)
def test_a_deep_or_long_line_is_refused_or_read(text: str) -> None:
    with contextlib.suppress(BadDockerfile, BadWord):
        stages = instructions.stages(parse("FROM x\n" + text))[0]
        State({}, Arguments({})).expand(stages[0].instructions[0])
