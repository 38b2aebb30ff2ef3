"""What a Dockerfile says that is not wrong, but not meant either: BuildKit's build checks (Dockerfile reference, "Build
checks"). Pure."""

import json
import re

from service.builder.arguments import of_platforms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from service.builder.dockerfile import Dockerfile, Line
    from service.builder.instructions import Stage

_SECRET = re.compile(r"(?i)(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)")
_PUBLIC = re.compile(r"(?i)(?:_|^)public(?:_|$)")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)|([A-Za-z_]\w*))")
_ALIKE = 2  # signs that a name may differ in from the one that is suggested instead


class Rule:
    """One check: its name, what it is about, and where more is said."""

    def __init__(self, name: str, description: str) -> None:
        self.name, self.description = name, description
        slug = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()
        self.url = f"https://docs.docker.com/go/dockerfile/rule/{slug}/"


class Finding:
    """What a check found, and in which lines."""

    def __init__(self, rule: Rule, detail: str, line: int, end: int = 0) -> None:
        self.rule, self.detail, self.line, self.end = rule, detail, line, max(line, end)

    def shown(self) -> str:
        """In one line."""
        return f"{self.rule.name}: {self.detail}"


CASE = Rule(
    "ConsistentInstructionCasing",
    "All commands within the Dockerfile should use the same casing (either upper or lower)",
)
AS_CASE = Rule("FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword")
STAGE_CASE = Rule("StageNameCasing", "Stage names should be lowercase")
TWICE = Rule("DuplicateStageName", "Stage names should be unique")
RESERVED = Rule("ReservedStageName", "Reserved words should not be used as stage names")
JSON_FORM = Rule(
    "JSONArgsRecommended",
    "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
)
MAINTAINER = Rule(
    "MaintainerDeprecated", "The MAINTAINER instruction is deprecated, use a label instead to define an image author"
)
OLD_PAIRS = Rule("LegacyKeyValueFormat", "Legacy key/value format with whitespace separator should not be used")
SEVERAL = Rule(
    "MultipleInstructionsDisallowed", "Multiple instructions of the same type should not be used in the same stage"
)
RELATIVE = Rule(
    "WorkdirRelativePath",
    "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base "
    "image changes",
)
SECRETS = Rule("SecretsUsedInArgOrEnv", "Sensitive data should not be used in the ARG or ENV commands")
CONTINUED = Rule("NoEmptyContinuation", "Empty continuation lines will become errors in a future release")
UNDECLARED = Rule("UndefinedArgInFrom", "FROM command must use declared ARGs")
REDUNDANT = Rule(
    "RedundantTargetPlatform",
    "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
)
NO_BASE = Rule("InvalidDefaultArgInFrom", "Default value for global ARG results in an empty or invalid base image name")
PROTOCOL = Rule("ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase")
PORT = Rule(
    "ExposeInvalidFormat",
    "IP address and host-port mapping should not be used in EXPOSE instruction. "
    "This will become an error in a future release",
)
CONSTANT = Rule("FromPlatformFlagConstDisallowed", "FROM --platform flag should not use a constant value")


def found(dockerfile: "Dockerfile", stages: "Sequence[Stage]") -> "list[Finding]":
    """All that is found, by lines, but for the checks that `# check=skip=…` names."""
    skipped = _skipped(dockerfile.check)
    everything = [
        *(Finding(CONTINUED, "Empty continuation line", line) for line in dockerfile.empty_continuations),
        *_cases(dockerfile),
        *_stages(dockerfile),
        *_instructions(dockerfile),
        *_several(stages),
    ]
    kept = [finding for finding in everything if "all" not in skipped and finding.rule.name not in skipped]
    return sorted(kept, key=lambda finding: (finding.line, finding.rule.name))


def is_error(dockerfile: "Dockerfile") -> bool:
    """Whether `# check=error=true` makes a build fail that something is found in."""
    return bool(re.search(r"(?:^|;)\s*error\s*=\s*true\s*(?:;|$)", dockerfile.check, re.IGNORECASE))


def _skipped(text: str) -> "set[str]":
    for part in text.split(";"):
        name, _, value = part.partition("=")
        if name.strip().lower() == "skip":
            return {word.strip() for word in value.split(",")}
    return set()


def _cases(dockerfile: "Dockerfile") -> "Iterator[Finding]":
    upper = sum(line.word == line.word.upper() for line in dockerfile.lines)
    majority = "uppercase" if upper * 2 >= len(dockerfile.lines) else "lowercase"
    for line in dockerfile.lines:
        wanted = line.word.upper() if majority == "uppercase" else line.word.lower()
        if line.word != wanted:
            detail = f"Command '{line.word}' should match the case of the command majority ({majority})"
            yield Finding(CASE, detail, line.number, line.end)


def _stages(dockerfile: "Dockerfile") -> "Iterator[Finding]":
    names: set[str] = set()
    defaults: dict[str, str] = {}  # of the arguments before the first stage
    known = list(of_platforms((), ()))
    begun = False
    for line in dockerfile.lines:
        if line.name == "arg" and not begun:
            for name, default in _arguments(line):
                defaults[name] = _replaced(default, defaults)
                known.insert(len(defaults) - 1, name)
        if line.name != "from":
            continue
        begun = True
        words = line.arguments
        yield from _base(line, known, defaults)
        if any(flag.startswith("--platform=") and "$" not in flag for flag in line.flags):
            value = next(flag for flag in line.flags if flag.startswith("--platform=")).partition("=")[2]
            yield Finding(
                CONSTANT, f'FROM --platform flag should not use constant value "{value}"', line.number, line.end
            )
        if len(words) != 3:
            continue
        if line.word.isupper() != words[1].isupper() or line.word.islower() != words[1].islower():
            yield Finding(
                AS_CASE, f"'{words[1]}' and '{line.word}' keywords' casing do not match", line.number, line.end
            )
        if words[2] != words[2].lower():
            yield Finding(STAGE_CASE, f"Stage name '{words[2]}' should be lowercase", line.number, line.end)
        if words[2].lower() in ("scratch", "context"):
            yield Finding(
                RESERVED, f'Stage name should not use the same name as reserved stage "{words[2].lower()}"', line.number
            )
        if words[2].lower() in names:
            yield Finding(
                TWICE, f'Duplicate stage name "{words[2]}", stage names should be unique', line.number, line.end
            )
        names.add(words[2].lower())


def _arguments(line: "Line") -> "Iterator[tuple[str, str]]":
    for word in line.arguments:
        name, _, default = word.partition("=")
        yield name, default.strip("\"'")


def _replaced(text: str, values: "Mapping[str, str]") -> str:
    """A text with its variables replaced; one that has more to it than a name (`${A:-b}`) stays."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: values.get(found[1] or found[2], ""), text)


def _base(line: "Line", known: "list[str]", defaults: "Mapping[str, str]") -> "Iterator[Finding]":
    """What a stage begins with, and for which platform."""
    base = line.arguments[0] if line.arguments else ""
    platform = next((flag.partition("=")[2] for flag in line.flags if flag.startswith("--platform=")), "")
    for braced, plain in _VARIABLE.findall(f"{base} {platform}"):
        name = braced or plain
        if name not in known:
            alike = _alike(name, known)
            detail = f"FROM argument '{name}' is not declared" + (f" (did you mean {alike}?)" if alike else "")
            yield Finding(UNDECLARED, detail, line.number, line.end)
    if platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
        detail = f"Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
        yield Finding(REDUNDANT, detail, line.number, line.end)
    if all((braced or plain) in defaults for braced, plain in _VARIABLE.findall(base)):
        name = _replaced(base, defaults)
        if "$" in base and "$" not in name and (not name or re.search(r"[:@/]$|^[:@/]|::|//", name)):
            detail = f"Default value for ARG {base} results in empty or invalid base image name"
            yield Finding(NO_BASE, detail, line.number, line.end)


def _alike(name: str, known: "Sequence[str]") -> str:
    """The name that may have been meant: the first of those that differ least; empty when all differ too much."""
    ranked = [(_distance(name.lower(), other.lower()), number) for number, other in enumerate(known)]
    best, number = min(ranked, default=(_ALIKE + 1, 0))
    return known[number] if best <= _ALIKE else ""


def _distance(one: str, other: str) -> int:
    """How many signs have to be changed, added or taken away (Levenshtein)."""
    row = list(range(len(other) + 1))
    for number, sign in enumerate(one, 1):
        before, row[0] = row[0], number
        for place, against in enumerate(other, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (sign != against))
    return row[-1]


def _instructions(dockerfile: "Dockerfile") -> "Iterator[Finding]":
    has_shell = working = False
    shells: dict[str, bool] = {}  # by stage: whether it names a shell of its own
    stage = ""
    for line in dockerfile.lines:
        if line.name == "from":
            has_shell, working = shells.get((line.arguments or [""])[0].lower(), False), False
            stage = line.arguments[2].lower() if len(line.arguments) == 3 else ""
        elif line.name == "shell":
            has_shell = shells[stage] = True
        elif line.name == "expose":
            for port in line.arguments:
                if ":" in port:
                    detail = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                    yield Finding(PORT, detail, line.number, line.end)
                protocol = port.partition("/")[2]
                if "$" not in protocol and protocol != protocol.lower():
                    detail = f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"
                    yield Finding(PROTOCOL, detail, line.number, line.end)
        elif line.name == "maintainer":
            detail = "Maintainer instruction is deprecated in favor of using label"
            yield Finding(MAINTAINER, detail, line.number, line.end)
        elif line.name in ("cmd", "entrypoint") and line.arguments and not line.is_json and not has_shell:
            detail = f"JSON arguments recommended for {line.word} to prevent unintended behavior related to OS signals"
            yield Finding(JSON_FORM, detail, line.number, line.end)
        elif line.name == "workdir" and line.arguments:
            path = line.arguments[0]
            if not working and not path.startswith(("/", "$")):
                detail = f'Relative workdir "{path}" can have unexpected results if the base image changes'
                yield Finding(RELATIVE, detail, line.number, line.end)
            working = True
        elif line.name in ("env", "label", "arg"):
            yield from _pairs(line)


def _pairs(line: "Line") -> "Iterator[Finding]":
    if line.name == "arg":
        names = [word.partition("=")[0] for word in line.arguments]
    else:
        names = line.arguments[::2]
        if "=" not in re.split(r"\s+", line.code, maxsplit=2)[1]:
            word = line.word.upper()
            detail = f'"{word} key=value" should be used instead of legacy "{word} key value" format'
            yield Finding(OLD_PAIRS, detail, line.number, line.end)
    for name in names if line.name != "label" else ():
        if _SECRET.search(name) and not _PUBLIC.search(name):
            detail = f"Do not use ARG or ENV instructions for sensitive data ({line.word.upper()} {json.dumps(name)})"
            yield Finding(SECRETS, detail, line.number, line.end)


def _several(stages: "Sequence[Stage]") -> "Iterator[Finding]":
    for stage in stages:
        for name in ("cmd", "entrypoint", "healthcheck"):
            given = [instruction for instruction in stage.instructions if instruction.name == name]
            for instruction in given[:-1]:
                detail = (
                    f"Multiple {name.upper()} instructions should not be used in the same stage because only the last "
                    "one will be used"
                )
                yield Finding(SEVERAL, detail, instruction.number, instruction.end)
