"""What a Dockerfile says that is not wrong, but not meant either: BuildKit's build checks (Dockerfile reference, "Build
checks"). Pure; what they are is in `check_rules`.

The instructions are gone through as a build does, with what each stage would know by then, and nothing is done. Source:
behaviour of buildkit's frontend/dockerfile/dockerfile2llb and frontend/dockerfile/instructions.
"""

import os
import re

from service.builder import check_rules as rules
from service.builder import ignore, instructions, run_mounts
from service.builder.arguments import Arguments
from service.builder.check_rules import Finding, Options, Rule
from service.builder.configuration import DEFAULT_PATH
from service.builder.dockerfile import BadDockerfile
from service.builder.words import BadWord, Noting, expanded, expanded_plainly, quoted, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.builder.dockerfile import Dockerfile
    from service.builder.instructions import Instruction, Stage

_SECRET = re.compile(r"(?i)(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)")
_PUBLIC = re.compile(r"(?i)(?:_|^)(?:public|file|version)(?:_|$)")
_FARTHEST = 3  # a name that differs in so many signs was not meant
_NOT_SEEN = ("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE")  # arguments that no instruction sees
_URLS = ("http://", "https://", "git@", "ssh://", "git://")
_EVERYTHING = ("*", "**", "**/*")
_ONCE = ("cmd", "entrypoint", "healthcheck")


class Base:
    """What is known of the image that a stage begins with. Platforms are os, architecture and variant; `wanted`: what
    was asked for, `found`: what it is for (empty: not known)."""

    def __init__(
        self, environment: "Sequence[str]", *, has_shell: bool = False, triggers: "Sequence[str]" = (),
        wanted: "Sequence[str]" = (), found: "Sequence[str]" = (),
    ) -> None:  # fmt: skip
        self.environment, self.has_shell, self.triggers = environment, has_shell, triggers
        self.wanted, self.found = wanted, found


class _Known:
    """A stage as far as it has come."""

    def __init__(self, arguments: Arguments, base: "Base | None") -> None:
        self.arguments = arguments
        self.is_known = base is not None  # else nobody can say which variables are there
        self.environment = dict(variable.partition("=")[::2] for variable in (base.environment if base else ()))
        self.environment.setdefault("PATH", DEFAULT_PATH)
        self.lasting = dict(self.environment)  # without what ARG has set
        self.has_shell = base is not None and base.has_shell
        self.triggers = list(base.triggers) if base is not None else []
        self.has_directory = False  # whether WORKDIR was there
        self.last: dict[str, Instruction] = {}  # of those of which one counts only
        self.onbuild: list[str] = []

    def next(self, arguments: Arguments) -> "_Known":
        """A stage that begins where this one ended."""
        fresh = _Known(arguments, None)
        fresh.is_known, fresh.environment, fresh.has_shell = self.is_known, dict(self.environment), self.has_shell
        fresh.has_directory, fresh.triggers = self.has_directory, list(self.onbuild)
        fresh.lasting = dict(self.lasting)
        for name, value in self.lasting.items():
            fresh.set(name, value)
        return fresh

    def set(self, name: str, value: str) -> None:
        """A variable gets a value; it is the newest then."""
        self.environment.pop(name, None)
        self.environment[name] = value


class Checker:
    """Goes through a Dockerfile once: `run`.

    `arguments`: those before the first stage are defined in it. `bases`: of the stages that begin with an image, by
    number, as far as they are known; none is needed for `scratch`. `wanted`: the stages that are built. `ignored`: what
    .dockerignore says. `is_name`: whether an image can have a name.
    """

    def __init__(
        self,
        dockerfile: "Dockerfile",
        arguments: Arguments,
        options: Options,
        *,
        bases: "Mapping[int, Base]",
        wanted: "Sequence[int]",
        ignored: "Sequence[str]" = (),
        is_name: "Callable[[str], bool]" = bool,
    ) -> None:
        self.dockerfile, self.arguments, self.options, self.escape = dockerfile, arguments, options, dockerfile.escape
        self.bases, self.wanted, self.ignored, self.is_name = bases, wanted, ignored, is_name
        self.found: list[Finding] = []
        self.error: BadDockerfile | None = None  # why a stage could not be gone through to its end: a build fails there

    def run(self) -> "list[Finding]":
        """What is found, in BuildKit's order. Raises BadDockerfile."""
        stages, before = instructions.stages(self.dockerfile)
        for line in self.dockerfile.empty_continuations:
            if self.options.counts(rules.CONTINUED):
                self.found.append(Finding(rules.CONTINUED, "Empty continuation line", line))
        for instruction in before:
            self._comment(instruction)
        for stage in stages:
            self._written(stage)
        self._names(stages)
        self._cases(stages)
        for stage in stages:
            self._base(stage, before)
        known: dict[int, _Known] = {}
        names: dict[str, int] = {}
        for number, stage in enumerate(stages):
            below = names.get(self._name(stage))
            if number in self.wanted:
                self._stage(number, stage, known, below)
            if stage.name:
                names[stage.name] = number
        return self.found

    def _note(self, rule: Rule, detail: str, at: "Instruction", *, plainly: bool = False) -> None:
        """Tell a finding, unless it is skipped. `plainly`: comments above the instruction do not count."""
        options = self.options if plainly else self.options.with_comments(at.comments)
        if options.counts(rule):
            self.found.append(Finding(rule, detail, at.number, at.end))

    # ── as it is written ─────────────────────────────────────────────────────────────────────────────────────────

    def _written(self, stage: "Stage") -> None:
        words, word = stage.begins.arguments, stage.begins.word
        if len(words) == 3:
            if words[2] != words[2].lower():
                self._note(rules.STAGE_CASE, f"Stage name '{words[2]}' should be lowercase", stage.begins)
            alike = words[1].lower() if word == word.lower() else words[1].upper() if word == word.upper() else words[1]
            if words[1] != alike:
                self._note(rules.AS_CASE, f"'{words[1]}' and '{word}' keywords' casing do not match", stage.begins)
        self._comment(stage.begins, stage.name)
        for instruction in stage.instructions:
            if instruction.name == "maintainer":
                detail = "Maintainer instruction is deprecated in favor of using label"
                self._note(rules.MAINTAINER, detail, instruction)
            self._comment(instruction)

    def _comment(self, instruction: "Instruction", name: str = "") -> None:
        names = [name] if name else [pair for pair, _ in instruction.pairs] if instruction.name == "arg" else []
        if names and instruction.comments and instruction.comments[-1].split(" ")[0] not in names:
            shown = names[0] if len(names) == 1 else "<arg_key>"
            detail = f"Comment for {instruction.name.upper()} should follow the format: `# {shown} <description>`"
            self._note(rules.COMMENT, detail, instruction)

    def _names(self, stages: "Sequence[Stage]") -> None:
        names: set[str] = set()
        for stage in (stage for stage in stages if stage.name):
            if stage.name in ("scratch", "context"):
                detail = f"Stage name should not use the same name as reserved stage {quoted(stage.name)}"
                self._note(rules.RESERVED, detail, stage.begins, plainly=True)
            if stage.name in names:
                detail = f"Duplicate stage name {quoted(stage.name)}, stage names should be unique"
                self._note(rules.TWICE, detail, stage.begins, plainly=True)
            names.add(stage.name)

    def _cases(self, stages: "Sequence[Stage]") -> None:
        every = [instruction for stage in stages for instruction in (stage.begins, *stage.instructions)]
        lower = sum(instruction.word == instruction.word.lower() for instruction in every)
        upper = sum(instruction.word == instruction.word.upper() for instruction in every)
        majority = "lowercase" if lower > upper else "uppercase"
        for instruction in every:
            word = instruction.word
            if word != (word.lower() if majority == "lowercase" else word.upper()):
                detail = f"Command '{word}' should match the case of the command majority ({majority})"
                self._note(rules.CASE, detail, instruction, plainly=True)

    # ── what a stage begins with ─────────────────────────────────────────────────────────────────────────────────

    def _name(self, stage: "Stage") -> str:
        try:
            return expanded(stage.base, self.arguments.known_to_from(), self.escape)
        except BadWord:
            return ""

    def _base(self, stage: "Stage", before: "Sequence[Instruction]") -> None:
        """The name of the image, and its platform."""
        at, known = stage.begins, self.arguments.known_to_from()
        declared = [*(name for instruction in before for name, _ in instruction.pairs), *known]
        platform = Noting(known)
        name = Noting(known)
        try:
            expanded(stage.base, name, self.escape)
            result = expanded(stage.platform, platform, self.escape)
        except BadWord:
            return  # told by the build
        default = expanded(stage.base, self._defaults(before), self.escape)
        if not self.is_name(default):
            detail = f"Default value for ARG {stage.base} results in empty or invalid base image name"
            self._note(rules.NO_BASE, detail, at, plainly=True)
        for missing in dict.fromkeys((*name.missing, *platform.missing)):
            if missing not in declared:
                detail = f"FROM argument '{missing}' is not declared{_meant(missing, declared)}"
                self._note(rules.UNDECLARED, detail, at)
        if not stage.platform:
            return
        if platform.asked == ["TARGETPLATFORM"] and not platform.missing and result == known["TARGETPLATFORM"]:
            detail = (
                f"Setting platform to predefined {stage.platform} in FROM is redundant as this is the default behavior"
            )
            self._note(rules.REDUNDANT, detail, at)
        parts = result.split("/")
        if not platform.asked and not any(part and part in stage.name for part in parts[:2]):
            self._note(rules.CONSTANT, f"FROM --platform flag should not use constant value {quoted(result)}", at)

    def _defaults(self, before: "Sequence[Instruction]") -> "dict[str, str]":
        """What FROM would see if the client gave nothing."""
        arguments = Arguments({})
        own = {name for instruction in before for name, _ in instruction.pairs}
        arguments.before = {name: value for name, value in self.arguments.before.items() if name not in own}
        for instruction in before:
            for name, default in instruction.pairs:
                value = None if default is None else expanded(default, arguments.known_to_from(), self.escape)
                arguments.define(name, value, before=True)
        return arguments.known_to_from()

    # ── what a stage does ────────────────────────────────────────────────────────────────────────────────────────

    def _stage(self, number: int, stage: "Stage", known: "dict[int, _Known]", below: "int | None") -> None:
        if below in known:
            state = known[below].next(self.arguments.stage(known[below].arguments))
        else:
            base = self.bases.get(number) or (Base(()) if self._name(stage) == "scratch" else None)
            state = _Known(self.arguments.stage(), base)
            if base is not None and base.found and tuple(base.found[:2]) != tuple(base.wanted[:2]):
                asked, there = ("/".join(part for part in each if part) for each in (base.wanted, base.found))
                detail = (
                    f"Base image {self._name(stage)} was pulled with platform {quoted(there)}, expected "
                    f"{quoted(asked)} for current build"
                )
                self._note(rules.OTHER_PLATFORM, detail, stage.begins, plainly=True)
        known[number] = state
        line = stage.number
        try:
            for text in state.triggers:
                trigger = instructions.one(text)
                trigger.number, trigger.end = stage.number, stage.end
                self._instruction(state, trigger)
            for instruction in stage.instructions:
                line = instruction.number
                self._instruction(state, instruction)
        except (BadWord, BadDockerfile) as error:
            self.error = self.error or BadDockerfile(str(error), line)

    def _instruction(self, state: _Known, at: "Instruction") -> None:
        work = {
            "env": self._env, "label": self._label, "arg": self._arg, "copy": self._copy, "add": self._copy,
            "workdir": self._workdir, "expose": self._expose, "run": self._run, "cmd": self._command,
            "entrypoint": self._command,
        }.get(at.name)  # fmt: skip
        if at.name in _ONCE:
            if (last := state.last.get(at.name)) is not None:
                detail = (
                    f"Multiple {at.word} instructions should not be used in the same stage because only the last one "
                    "will be used"
                )
                options = self.options.with_comments(at.comments)
                if options.counts(rules.SEVERAL):
                    self.found.append(Finding(rules.SEVERAL, detail, last.number, last.end))
            state.last[at.name] = at
        if work is not None:
            work(state, at)
        elif at.name in ("user", "volume", "stopsignal"):
            for word in at.arguments:
                self._word(state, at, word)
        elif at.name == "shell":
            state.has_shell = True
        elif at.name == "onbuild":
            state.onbuild.append(at.arguments[0])

    def _word(self, state: _Known, at: "Instruction", text: str, expand: "Callable[..., str]" = expanded) -> str:
        """A word with its variables replaced; those that there are not are found."""
        noting = Noting(state.environment)
        try:
            return expand(text, noting, self.escape)
        finally:
            for name in dict.fromkeys(noting.missing):
                if state.is_known and name not in state.arguments.declared and name not in _NOT_SEEN:
                    meant = _meant(name, list(state.environment), sign="$")
                    self._note(rules.UNDEFINED, f"Usage of undefined variable '${name}'{meant}", at)

    def _env(self, state: _Known, at: "Instruction") -> None:
        pairs = [(self._word(state, at, name), self._word(state, at, value or "")) for name, value in at.pairs]
        self._old_pairs(at)
        for name, value in pairs:
            self._secret("ENV", name, at)
            state.set(name, value)
            state.lasting[name] = value

    def _label(self, state: _Known, at: "Instruction") -> None:
        for name, value in at.pairs:
            self._word(state, at, name)
            self._word(state, at, value or "")
        self._old_pairs(at)

    def _old_pairs(self, at: "Instruction") -> None:
        if "=" not in re.split(r"\s+", at.code, maxsplit=2)[1]:
            detail = f'"{at.word} key=value" should be used instead of legacy "{at.word} key value" format'
            self._note(rules.OLD_PAIRS, detail, at)

    def _secret(self, word: str, name: str, at: "Instruction") -> None:
        if _SECRET.search(name) and not _PUBLIC.search(name):
            detail = f"Do not use ARG or ENV instructions for sensitive data ({word} {quoted(name)})"
            self._note(rules.SECRETS, detail, at)

    def _arg(self, state: _Known, at: "Instruction") -> None:
        for name, default in at.pairs:
            self._secret("ARG", name, at)
            given = state.arguments.given.get(name) is not None
            value = None if default is None or given else self._word(state, at, default)
            state.arguments.define(name, value)
            known = state.arguments.known().get(name)
            if known is not None and name not in _NOT_SEEN:
                state.set(name, known)

    def _copy(self, state: _Known, at: "Instruction") -> None:
        for flag in ("chown", "chmod", *(("checksum",) if at.name == "add" else ())):
            self._word(state, at, at.flag(flag))
        sources = [self._word(state, at, word) for word in at.sources]
        self._word(state, at, at.arguments[-1])
        for heredoc in at.inline:
            if heredoc.expand:
                self._word(state, at, heredoc.text, expanded_plainly)
        if at.flag("from") or any(pattern.startswith("!") for pattern in self.ignored):
            return
        for source in (source for source in sources if not source.startswith(_URLS)):
            path = os.path.normpath(source)
            if path in (".", "/") and not any(pattern in _EVERYTHING for pattern in self.ignored):
                continue
            if ignore.leaves_out(self.ignored, path):
                detail = f"Attempting to {at.name.capitalize()} file {quoted(path)} that is excluded by .dockerignore"
                self._note(rules.IGNORED, detail, at)

    def _workdir(self, state: _Known, at: "Instruction") -> None:
        path = self._word(state, at, at.arguments[0])
        if not state.has_directory and not path.startswith("/"):
            detail = f"Relative workdir {quoted(path)} can have unexpected results if the base image changes"
            self._note(rules.RELATIVE, detail, at)
        state.has_directory = True

    def _expose(self, state: _Known, at: "Instruction") -> None:
        for word in at.arguments:
            for port in split(word, state.environment, self.escape):
                protocol = port.rpartition(":")[2].partition("/")[2]
                if protocol != protocol.lower():
                    detail = f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"
                    self._note(rules.PROTOCOL, detail, at)
                if port.rpartition(":")[0].strip(":"):
                    detail = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                    self._note(rules.PORT, detail, at)

    def _run(self, state: _Known, at: "Instruction") -> None:
        for text in at.flags.get("mount", ()):
            run_mounts.parse(text, lambda word: self._word(state, at, word))

    def _command(self, state: _Known, at: "Instruction") -> None:
        if not at.is_json and not state.has_shell:
            detail = f"JSON arguments recommended for {at.word} to prevent unintended behavior related to OS signals"
            self._note(rules.JSON_FORM, detail, at)


def _meant(name: str, known: "Sequence[str]", sign: str = "") -> str:
    """What is added about a name that may have been meant: the first of those that differ least."""
    nearest, distance = "", _FARTHEST
    for other in known:
        if other == name:
            return ""
        found = instructions.signs_apart(name, other)
        if found < distance:
            nearest, distance = other, found
    return f" (did you mean {sign}{nearest}?)" if nearest else ""
