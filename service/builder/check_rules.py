"""The build checks that BuildKit knows (Dockerfile reference, "Build checks"), and which of them a Dockerfile wants."""

import re

from service.builder.dockerfile import BadDockerfile
from service.builder.words import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


class Rule:
    """One check: its name, what it is about, and where more is said. `experimental`: only where it is asked for."""

    def __init__(self, name: str, description: str, *, experimental: bool = False, has_page: bool = True) -> None:
        self.name, self.description, self.experimental = name, description, experimental
        slug = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()
        self.url = f"https://docs.docker.com/go/dockerfile/rule/{slug}/" if has_page else ""


class Finding:
    """What a check found, and in which lines."""

    def __init__(self, rule: Rule, detail: str, line: int, end: int = 0) -> None:
        self.rule, self.detail, self.line, self.end = rule, detail, line, max(line, end)

    def shown(self) -> str:
        """In one line."""
        return f"{self.rule.name}: {self.detail} (line {self.line})"


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
UNDEFINED = Rule("UndefinedVar", "Variables should be defined before their use")
OTHER_PLATFORM = Rule(
    "InvalidBaseImagePlatform", "Base image platform does not match expected target platform", has_page=False
)
IGNORED = Rule("CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore")
COMMENT = Rule(
    "InvalidDefinitionDescription",
    "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not "
    "intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    experimental=True,
)


class Options:
    """Which checks count: what `# check=…` says, or the build argument BUILDKIT_DOCKERFILE_CHECK."""

    def __init__(self, text: str = "") -> None:
        """Raises BadDockerfile."""
        self.skipped: set[str] = set()
        self.wanted: set[str] = set()  # experimental ones
        self.is_error = False  # whether a finding fails the build
        for part in text.strip().split(";", 2) if text.strip() else ():
            name, equals, value = part.partition("=")
            name, value = name.strip(), value.strip()
            if name in ("skip", "experimental") and equals:
                named = {word.strip() for word in value.split(",")}
                self.skipped |= named if name == "skip" else set()
                self.wanted |= named if name == "experimental" else set()
            elif name == "error" and equals:
                if value not in (*_TRUE, *_FALSE):
                    told = f"strconv.ParseBool: parsing {quoted(value)}: invalid syntax"
                    raise BadDockerfile(f"failed to parse check option {quoted(part)}: {told}")
                self.is_error = value in _TRUE
            else:
                raise BadDockerfile(f"invalid check option {quoted(name if equals else part)}")

    def with_comments(self, comments: "Sequence[str]") -> "Options":
        """Those of one instruction, with a comment `check=…` above it; one that nobody can read says nothing."""
        for comment in comments:
            found = re.match(r"check\s*=\s*(\S+)", comment, re.IGNORECASE)
            if found is None:
                continue
            try:
                more = Options(found[1])
            except BadDockerfile:
                return self
            merged = Options()
            merged.skipped, merged.wanted = self.skipped | more.skipped, self.wanted | more.wanted
            return merged
        return self

    def counts(self, rule: Rule) -> bool:
        """Whether what a check finds is told."""
        if rule.experimental:
            return bool({"all", rule.name} & self.wanted)
        return not {"all", rule.name} & self.skipped
