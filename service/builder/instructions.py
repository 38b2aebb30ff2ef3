"""What the instructions of a Dockerfile mean: flags and arguments checked, stages told apart.

Errors are Docker's sentences. Source: Dockerfile reference; behaviour of buildkit's frontend/dockerfile/instructions.
"""

import re

from service.builder.dockerfile import BadDockerfile, Dockerfile, Heredoc, Line, heredoc_of, parse
from service.builder.words import BadWord, quoted, stripped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

_STAGE_NAME = re.compile(r"^[a-z][a-z0-9-_.]*$")
_TEXT, _BOOLEAN, _TEXTS = "text", "boolean", "texts"
_FLAGS: "dict[str, dict[str, str]]" = {
    "add": {
        "chown": _TEXT, "chmod": _TEXT, "link": _BOOLEAN, "keep-git-dir": _BOOLEAN, "checksum": _TEXT,
        "unpack": _BOOLEAN, "exclude": _TEXTS,
    },
    "copy": {
        "chown": _TEXT, "from": _TEXT, "chmod": _TEXT, "link": _BOOLEAN, "exclude": _TEXTS, "parents": _BOOLEAN,
    },
    "from": {"platform": _TEXT},
    "healthcheck": {
        "interval": _TEXT, "timeout": _TEXT, "start-period": _TEXT, "start-interval": _TEXT, "retries": _TEXT,
    },
    "run": {"mount": _TEXTS, "network": _TEXT, "security": _TEXT, "device": _TEXTS},
}  # fmt: skip
_MILLISECOND = 1_000_000


class Instruction:
    """One instruction, checked. `code` is its source as it is shown."""

    __slots__ = (
        "arguments", "code", "comments", "end", "flags", "health", "heredocs", "is_json", "literal", "name", "number",
        "pairs", "word",
    )  # fmt: skip

    def __init__(self, line: Line) -> None:
        self.name, self.code, self.is_json, self.heredocs = line.name, line.code, line.is_json, line.heredocs
        self.number, self.end, self.word, self.comments = line.number, line.end, line.word, line.comments
        self.arguments = list(line.arguments)
        self.flags: dict[str, list[str]] = {}
        self.pairs: list[tuple[str, str | None]] = []  # ARG, ENV, LABEL
        self.literal = False  # no variables are looked for
        self.health: dict[str, Any] = {}  # HEALTHCHECK: Docker's HealthConfig

    def flag(self, name: str) -> str:
        """A flag's text; empty when it was not given."""
        return self.flags.get(name, [""])[-1]

    @property
    def sources(self) -> "list[str]":
        """ADD and COPY: what is copied, without heredocs."""
        return [word for word in self.arguments[:-1] if heredoc_of(word) is None]

    @property
    def inline_words(self) -> "list[str]":
        """ADD and COPY: the words that stand for heredocs."""
        return [word for word in self.arguments[:-1] if heredoc_of(word) is not None]

    @property
    def inline(self) -> "list[Heredoc]":
        """ADD and COPY: the files whose content stands in the Dockerfile (empty ones, where the words are JSON)."""
        named = {heredoc.name: heredoc for heredoc in self.heredocs}
        found = [heredoc_of(word) for word in self.arguments[:-1]]
        return [named.get(heredoc.name, heredoc) for heredoc in found if heredoc is not None]


class Stage:
    """FROM and what follows it."""

    def __init__(self, instruction: Instruction) -> None:
        self.base, self.code, self.begins = instruction.arguments[0], instruction.code, instruction
        self.number, self.end = instruction.number, instruction.end
        self.name = instruction.arguments[2].lower() if len(instruction.arguments) == 3 else ""
        self.platform = instruction.flag("platform")
        self.instructions: list[Instruction] = []


def stages(dockerfile: Dockerfile) -> "tuple[list[Stage], list[Instruction]]":
    """The stages, and the ARGs before the first of them. Raises BadDockerfile."""
    found: list[Stage] = []
    before: list[Instruction] = []
    for line in dockerfile.lines:
        try:
            instruction = understood(line)
        except BadDockerfile as error:
            raise BadDockerfile(f"dockerfile parse error on line {line.number}: {error}", line.number) from None
        if instruction.name == "from":
            found.append(Stage(instruction))
        elif found:
            found[-1].instructions.append(instruction)
        elif instruction.name == "arg":
            before.append(instruction)
        else:
            raise BadDockerfile("no build stage in current context", line.number)
    return found, before


def understood(line: Line) -> Instruction:
    """One line, checked. Raises BadDockerfile."""
    check = _CHECKS.get(line.name)
    if check is None:
        raise BadDockerfile(f"unknown instruction: {line.word}{_meant(line.word, sorted(_CHECKS))}")
    instruction = Instruction(line)
    try:
        check(instruction, line)
    except BadWord as error:
        raise BadDockerfile(str(error)) from None
    return instruction


def label(name: str, value: str) -> Instruction:
    """The LABEL that a client adds; nothing in it is a variable."""
    instruction = Instruction(Line("LABEL", f"LABEL {name}={value}"))
    instruction.pairs, instruction.literal = [(name, value)], True
    return instruction


def one(text: str) -> Instruction:
    """The instruction of an image's trigger. Raises BadDockerfile."""
    lines = parse(text).lines
    if len(lines) != 1:
        raise BadDockerfile("onbuild trigger should be a single expression")
    instruction = understood(lines[0])
    if instruction.name == "from":
        raise BadDockerfile("*instructions.Stage is not a command type")
    return instruction


_FARTHEST = 3  # a word that differs in so many signs was not meant


def _meant(word: str, known: "Sequence[str]", *, any_case: bool = True) -> str:
    """What is added to a complaint about a word that is close to a known one."""
    nearest, distance = "", _FARTHEST
    for other in known if len(word) < 100 else ():
        found = signs_apart(word.lower() if any_case else word, other)
        if found < distance:
            nearest, distance = other, found
    if not nearest:
        return ""
    return f" (did you mean {nearest.upper() if any_case and word == word.upper() else nearest}?)"


def signs_apart(one: str, other: str) -> int:
    """How many signs are to be changed, added or taken away (Levenshtein)."""
    before = list(range(len(other) + 1))
    for row, sign in enumerate(one, 1):
        current = [row]
        for column, against in enumerate(other, 1):
            current.append(min(before[column] + 1, current[-1] + 1, before[column - 1] + (sign != against)))
        before = current
    return before[-1]


def _read_flags(instruction: Instruction, given: "Sequence[str]") -> None:
    known = _FLAGS.get(instruction.name, {})
    for flag in given:
        shown, equals, value = flag.partition("=")
        name = shown[2:]
        kind = known.get(name)
        if kind is None:
            raise BadDockerfile(f"unknown flag: {shown}{_meant(name, sorted(known), any_case=False)}")
        if name in instruction.flags and kind != _TEXTS:
            raise BadDockerfile(f"duplicate flag specified: {shown}")
        if kind == _BOOLEAN:
            if equals and not value:
                raise BadDockerfile(f"missing a value on flag: {shown}")
            if value.lower() not in ("", "true", "false"):
                raise BadDockerfile(f"expecting boolean value for flag {shown}, not: {value}")
            value = "" if value.lower() == "false" else "true"
        elif not equals:
            raise BadDockerfile(f"missing a value on flag: {shown}")
        instruction.flags.setdefault(name, []).append(value)


def _at_least_one(instruction: Instruction) -> None:
    if not instruction.arguments:
        raise BadDockerfile(f"{instruction.name.upper()} requires at least one argument")


def _exactly_one(instruction: Instruction, line: Line) -> None:
    if len(instruction.arguments) != 1:
        raise BadDockerfile(f"{instruction.name.upper()} requires exactly one argument")
    if instruction.name != "stopsignal":
        _read_flags(instruction, line.flags)


def _pairs(instruction: Instruction, line: Line) -> None:
    _read_flags(instruction, line.flags)
    _at_least_one(instruction)
    words = instruction.arguments
    instruction.pairs = list(zip(words[::2], words[1::2], strict=True))
    if any(not name for name, _ in instruction.pairs):
        raise BadDockerfile(f"{instruction.name.upper()} names can not be blank")


def _arg(instruction: Instruction, _: Line) -> None:
    _at_least_one(instruction)
    for word in instruction.arguments:
        name, equals, value = word.partition("=")
        if equals and not name:
            raise BadDockerfile("ARG names can not be blank")
        instruction.pairs.append((name, value if equals else None))


def _copy(instruction: Instruction, line: Line) -> None:
    name = instruction.name.upper()
    if len(instruction.arguments) < 2:
        raise BadDockerfile(
            f"{name} requires at least two arguments, but only one was provided. Destination could not be determined"
        )
    _read_flags(instruction, line.flags)
    if heredoc_of(instruction.arguments[-1]) is not None:
        raise BadDockerfile(f"{name} cannot accept a heredoc as a destination")


def _from(instruction: Instruction, line: Line) -> None:
    words = instruction.arguments
    if len(words) == 3 and words[1].lower() == "as":
        if not _STAGE_NAME.match(words[2].lower()):
            raise BadDockerfile(
                f"invalid name for build stage: {quoted(words[2])}, name can't start with a number or contain symbols"
            )
    elif len(words) != 1:
        raise BadDockerfile("FROM requires either one or three arguments")
    _read_flags(instruction, line.flags)


def _onbuild(instruction: Instruction, line: Line) -> None:
    _at_least_one(instruction)
    _read_flags(instruction, line.flags)
    trigger = instruction.arguments[0].upper()
    if trigger == "ONBUILD":
        raise BadDockerfile("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise BadDockerfile(f"{trigger} isn't allowed as an ONBUILD trigger")
    text = re.sub(r"(?i)^\s*ONBUILD\s*", "", line.code)
    for heredoc in line.heredocs:
        text += f"\n{heredoc.content}{heredoc.name}"
    instruction.arguments = [text]


def _with_flags(instruction: Instruction, line: Line) -> None:
    _read_flags(instruction, line.flags)


def _expose(instruction: Instruction, line: Line) -> None:
    _at_least_one(instruction)
    _read_flags(instruction, line.flags)
    instruction.arguments.sort()


def _volume(instruction: Instruction, line: Line) -> None:
    _at_least_one(instruction)
    _read_flags(instruction, line.flags)
    instruction.arguments = [stripped(path) for path in instruction.arguments]
    if not all(instruction.arguments):
        raise BadDockerfile("VOLUME specified can not be an empty string")


def _shell(instruction: Instruction, line: Line) -> None:
    _read_flags(instruction, line.flags)
    _at_least_one(instruction)
    if not instruction.is_json:
        raise BadDockerfile("SHELL requires the arguments to be in JSON form")


def _healthcheck(instruction: Instruction, line: Line) -> None:
    _at_least_one(instruction)
    kind, *words = instruction.arguments
    kind = kind.upper()
    if kind == "NONE":
        if words:
            raise BadDockerfile("HEALTHCHECK NONE takes no arguments")
        instruction.health = {"Test": ["NONE"]}
        return
    _read_flags(instruction, line.flags)
    if kind != "CMD":
        raise BadDockerfile(f"Unknown type {quoted(kind)} in HEALTHCHECK (try CMD)")
    if not words:
        raise BadDockerfile("Missing command after HEALTHCHECK CMD")
    health: dict[str, Any] = {"Test": ["CMD" if instruction.is_json else "CMD-SHELL", *words]}
    for flag, key in (
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start-period", "StartPeriod"),
        ("start-interval", "StartInterval"),
    ):
        value = duration(instruction.flag(flag)) if instruction.flag(flag) else 0
        if value and value < _MILLISECOND:
            raise BadDockerfile(f"Interval {quoted(flag)} cannot be less than 1ms")
        if value:
            health[key] = value
    retries = instruction.flag("retries")
    if retries:
        if not re.fullmatch(r"[+-]?[0-9]+", retries):
            raise BadDockerfile(f"strconv.ParseInt: parsing {quoted(retries)}: invalid syntax")
        if not -(1 << 31) <= int(retries[:12]) < 1 << 31:
            raise BadDockerfile(f"strconv.ParseInt: parsing {quoted(retries)}: value out of range")
        if int(retries) < 0:
            raise BadDockerfile(f"--retries cannot be negative ({int(retries)})")
        if int(retries):
            health["Retries"] = int(retries)
    instruction.health = health


_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([^0-9.]*)")


def duration(text: str) -> int:
    """Nanoseconds of a duration as Go writes it (1m30s, 1.5h, -2s). Raises BadDockerfile."""
    shown = quoted(text)
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    if not rest:
        raise BadDockerfile(f"time: invalid duration {shown}")
    total = 0
    while rest:
        found = _DURATION_PART.match(rest)
        if found is None:
            raise BadDockerfile(f"time: invalid duration {shown}")
        if not found[2]:
            raise BadDockerfile(f"time: missing unit in duration {shown}")
        unit = _UNITS.get(found[2])
        if unit is None:
            raise BadDockerfile(f"time: unknown unit {quoted(found[2])} in duration {shown}")
        whole, _, fraction = found[1].partition(".")
        total += int(whole[:30] or "0") * unit + (
            int(fraction[:18]) * unit // 10 ** len(fraction[:18]) if fraction else 0
        )
        rest = rest[found.end() :]
    if total >= 1 << 63:
        raise BadDockerfile(f"time: invalid duration {shown}")
    return -total if text[:1] == "-" else total


_CHECKS: "Mapping[str, Callable[[Instruction, Line], None]]" = {
    "add": _copy,
    "arg": _arg,
    "cmd": _with_flags,
    "copy": _copy,
    "entrypoint": _with_flags,
    "env": _pairs,
    "expose": _expose,
    "from": _from,
    "healthcheck": _healthcheck,
    "label": _pairs,
    "maintainer": _exactly_one,
    "onbuild": _onbuild,
    "run": _with_flags,
    "shell": _shell,
    "stopsignal": _exactly_one,
    "user": _exactly_one,
    "volume": _volume,
    "workdir": _exactly_one,
}
