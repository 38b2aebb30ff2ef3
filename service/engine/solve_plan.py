"""What a build has to do, decided before anything is done: stages, what they need, what is fetched for them."""

import csv
import os
import re

from service import jsontext
from service.builder import instructions, run_mounts
from service.builder.dockerfile import BadDockerfile
from service.builder.words import BadWord, expanded, quoted, stripped
from service.content import reference as references
from service.engine import solving
from service.errors import InvalidParameter, MoorageError, SystemFailure
from service.kernel.openat2 import read_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from service.builder.instructions import Instruction
    from service.engine.provenance import Used
    from service.engine.solve import Solve

_URLS = ("http://", "https://", "git://", "ssh://", "git@", "github.com/")
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def file_in(folder: str, name: str) -> "bytes | None":
    """A file of a directory, wherever links inside lead; None when it is not there. Blocking."""
    try:
        return read_in_root(folder, name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SystemFailure(f"failed to read {name}: {os.strerror(error.errno or 0).lower()}") from None


def inside(path: str) -> str:
    """A path of the client's below the directory that it is meant in."""
    return os.path.normpath("/" + path)[1:]


def host_of(attributes: "Mapping[str, str]") -> "dict[str, Any]":
    """Docker's HostConfig for the containers of a build's steps. Raises InvalidParameter."""
    host: dict[str, Any] = {}
    if attributes.get("add-hosts"):
        hosts = []
        for entry in next(csv.reader([attributes["add-hosts"]])):
            name, equals, address = entry.partition("=")
            if not equals:
                raise InvalidParameter(f"invalid key-value pair {entry}")
            hosts.append(f"{name}:{address}")
        host["ExtraHosts"] = sorted(hosts)
    if attributes.get("shm-size"):
        text = attributes["shm-size"].lower().removesuffix("b")
        number = text.rstrip("kmg")
        if not number.isascii() or not number.isdigit() or text[len(number) :] not in _UNITS:
            raise InvalidParameter(f"failed to parse shm size: {attributes['shm-size']}")
        host["ShmSize"] = int(number) * _UNITS[text[len(number) :]]
    if attributes.get("ulimit"):
        host["Ulimits"] = [_ulimit(entry) for entry in next(csv.reader([attributes["ulimit"]]))]
    if attributes.get("cgroup-parent"):
        host["CgroupParent"] = attributes["cgroup-parent"]
    return host


def cache_imports(
    attributes: "Mapping[str, str]", told: "Sequence[solving.CacheOption]"
) -> "list[solving.CacheOption]":
    """All that `--cache-from` names: clients say it to the frontend, in an old form or a newer one, or to the solver.

    Raises InvalidParameter.
    """
    found = [
        solving.CacheOption("registry", {"ref": name}) for name in attributes.get("cache-from", "").split(",") if name
    ]
    try:
        listed = jsontext.loads(attributes["cache-imports"]) if attributes.get("cache-imports") else []
        found += [solving.CacheOption(each["Type"], dict(each.get("Attrs") or {})) for each in listed]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidParameter(f"failed to unmarshal cache-imports ({attributes['cache-imports']!r})") from None
    unique: dict[str, solving.CacheOption] = {}
    for option in (*found, *told):
        unique.setdefault(f"{option.type} {sorted(option.attributes.items())}", option)
    return list(unique.values())


def _ulimit(text: str) -> "dict[str, Any]":
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    try:
        return {"Name": name, "Soft": int(soft), "Hard": int(hard or soft)}
    except ValueError:
        raise InvalidParameter(f"failed to parse ulimit: {text}") from None


class Plan:
    """The stages of a Dockerfile, and how they hang together."""

    def __init__(self, solve: "Solve", before: "Sequence[Instruction]") -> None:
        self.solve, self.stages = solve, solve.stages
        self.opened: dict[str, str] = {}  # named contexts of the client that are here
        arguments = solve.arguments
        for instruction in before:
            known = arguments.known_to_from()
            for name, default in instruction.pairs:
                value = None if default is None else expanded(default, known, solve.escape)
                arguments.define(expanded(name, known, solve.escape), value, before=True)
        known = arguments.known_to_from()
        self.bases: list[tuple[str, str]] = []
        for stage in self.stages:
            try:
                name, platform = (expanded(text, known, solve.escape) for text in (stage.base, stage.platform))
            except BadWord as error:
                raise solve.failed(str(error), stage.number, end=stage.end) from None
            if not name:
                raise solve.failed(f"base name ({stage.base}) should not be blank", stage.number, end=stage.end)
            if stage.platform and not platform:
                told = f"empty platform value from expression {stage.platform}"
                raise solve.failed(told, stage.number, end=stage.end)
            self._check_platform(stage.number, stage.end, platform)
            self.bases.append((name, platform or solve.asked))
        self.wanted: list[int] = []  # what the target needs, and itself

    def _check_platform(self, line: int, end: int, platform: str) -> None:
        from service.content import platforms

        if not platform:
            return
        try:
            platforms.parse(platform)
        except MoorageError as error:
            raise self.solve.failed(f"failed to parse platform {platform}: {error.message}", line, end=end) from None

    def target(self) -> int:
        """The stage that is asked for. Raises SolveFailed."""
        if not self.stages:
            raise self.solve.failed("dockerfile contains no stages to build")
        asked = self.solve.attributes.get("target") or ""
        number = len(self.stages) - 1
        if asked:
            found = self.stage_of(asked)
            if found is None:
                raise self.solve.failed(f'target stage "{asked}" could not be found')
            number = found
        self.wanted = self.needed(number)
        return number

    def stage_of(self, origin: str, before: "int | None" = None) -> "int | None":
        """The stage that a name or a number means; with `before`, one of those before it. Raises SolveFailed."""
        if before is None and re.fullmatch(r"[+-]?[0-9]{1,9}", origin, re.ASCII):
            if not 0 <= int(origin) < len(self.stages):
                raise self.solve.failed(f"invalid stage index {int(origin)}")
            return int(origin)
        if f"context:{origin}" in self.solve.attributes:
            return None  # what the client gives goes before what the Dockerfile has
        last = len(self.stages) if before is None else before
        for number in range(last - 1, -1, -1):
            if self.stages[number].name and self.stages[number].name == origin.lower():
                return number
        return None

    def named(self, name: str) -> "tuple[str, str] | None":
        """A named context: (image | layout | local | input | remote, what). Raises SolveFailed."""
        value = self.solve.attributes.get(f"context:{name}")
        if value is None:
            try:
                stored = references.parse(name).with_default_tag()
            except MoorageError:
                return None
            for spelled in (stored.familiar, stored.stored):
                value = self.solve.attributes.get(f"context:{spelled}")
                if value is not None:
                    break
            else:
                return None
        kind, _, rest = value.partition(":")
        if kind == "docker-image":
            return "image", rest.removeprefix("//")
        if kind == "oci-layout":
            return "layout", rest.removeprefix("//")
        if kind in ("local", "input"):
            return kind, rest
        if value.startswith(_URLS):
            return "remote", value
        raise self.solve.failed(f"unsupported context source {kind} for {name}")

    def base_of(self, number: int) -> "tuple[str, str]":
        """What a stage begins with, and the platform that is asked for."""
        return self.bases[number]

    def origins(self, number: int) -> "list[str]":
        """All --from of a stage, as written."""
        return [origin for instruction in self.stages[number].instructions for origin in self.origins_of(instruction)]

    def origins_of(self, instruction: "Instruction") -> "list[str]":
        """Those of an instruction. Raises SolveFailed, BadWord."""
        if instruction.name in ("copy", "add") and instruction.flag("from"):
            origin = instruction.flag("from")
            if expanded(origin, {}, self.solve.escape) != origin:
                told = (
                    "variable expansion is not supported for --from, define a new stage with FROM using ARG from "
                    "global scope as a workaround"
                )
                raise self.solve.failed(told, instruction.number, end=instruction.end)
            return [origin]
        if instruction.name == "run":
            return [mount.origin for mount in self.mounts(instruction) if mount.origin]
        return []

    def mounts(self, instruction: "Instruction") -> "list[run_mounts.RunMount]":
        """The mounts of a RUN, their variables not replaced. Raises SolveFailed."""
        try:
            return [run_mounts.parse(text, str) for text in instruction.flags.get("mount", ()) if "$" not in text]
        except BadDockerfile as error:
            raise self.solve.failed(str(error), instruction.number, end=instruction.end) from None

    def note_private(self, used: "Used") -> None:
        """Which secrets and agents the steps may ask for, whether or not they are in the cache."""
        for number in self.wanted:
            for instruction in self.stages[number].instructions:
                for mount in self.mounts(instruction) if instruction.name == "run" else ():
                    noted = {run_mounts.SECRET: used.secrets, run_mounts.SSH: used.agents}.get(mount.type)
                    if noted is not None:
                        noted[mount.id] = noted.get(mount.id, True) and not mount.required

    def needs(self, number: int, *, circles: bool = False) -> "list[int]":
        """The stages that a stage needs, its base first. Raises SolveFailed for one that comes later, unless it is
        circles that are looked for."""
        base = self.stage_of(self.bases[number][0], before=number)
        found = [] if base is None else [base]
        for instruction in self.stages[number].instructions:
            for origin in self.origins_of(instruction):
                if self.solve.attributes.get(f"context:{origin}") is None:
                    other = self.stage_of(origin)
                    if other is not None and other > number and not circles:
                        raise self._comes_later(number, instruction, origin)
                    if other is not None and other not in found:
                        found.append(other)
        return found

    def _comes_later(self, number: int, instruction: "Instruction", origin: str) -> "solving.SolveFailed":
        """The error of a stage that is needed before it is there."""
        stage = quoted(self.stages[number].name or f"stage-{number}")
        told = f"cannot copy from stage {quoted(origin)}, it needs to be defined before current stage {stage}"
        if instruction.name == "run":
            target = next(mount.target for mount in self.mounts(instruction) if mount.origin == origin)
            told = (
                f"cannot mount from stage {quoted(origin)} to {quoted(target)}, stage needs to be defined before "
                "current command"
            )
        return self.solve.failed(told, instruction.number, end=instruction.end)

    def needed(self, target: int) -> "list[int]":
        """The stages that the target needs, and itself. Raises SolveFailed when they go round in circles."""
        found: list[int] = []
        above: list[int] = []

        def visit(number: int) -> None:
            if number in above:
                name = self.stages[above[-1]].name or f"stage-{above[-1]}"
                raise self.solve.failed(f"circular dependency detected on stage: {name}")
            if number in found:
                return
            above.append(number)
            for other in self.needs(number, circles=True):
                visit(other)
            above.pop()
            found.append(number)

        visit(target)
        for number in found:
            self.needs(number)
        return found

    def label(self, number: int) -> str:
        """How a stage's steps are told apart from those of others."""
        images = any(self.stage_of(origin) is None for each in range(len(self.stages)) for origin in self.origins(each))
        caches = any(
            mount.type == run_mounts.CACHE and not mount.origin
            for stage in self.stages
            for instruction in stage.instructions
            if instruction.name == "run"
            for mount in self.mounts(instruction)
        )
        if len(self.stages) == 1 and not images and not caches:
            return ""
        return f"{self.stages[number].name or f'stage-{number}'} "

    def is_waiting(self, instruction: "Instruction") -> bool:
        """Whether an instruction needs the build context."""
        if instruction.name in ("copy", "add"):
            return not instruction.flag("from") and any(not source.startswith(_URLS) for source in instruction.sources)
        if instruction.name == "run":
            return any(mount.type == run_mounts.BIND and not mount.origin for mount in self.mounts(instruction))
        return False

    def followed(self, triggers: "Sequence[str]" = ()) -> "list[str]":
        """The paths of the build context that are wanted; none: all of it."""
        wanted: set[str] = set()
        every = [instruction for number in self.wanted for instruction in self.stages[number].instructions]
        for text in triggers:
            try:
                every.append(instructions.one(text))
            except BadDockerfile:
                continue  # told where it is executed
        for instruction in every:
            if instruction.name == "run":
                texts = instruction.flags.get("mount", ())
                if any("$" in text for text in texts):
                    return []
                sources = [
                    mount.source or "."
                    for mount in self.mounts(instruction)
                    if mount.type == run_mounts.BIND and not mount.origin
                ]
            elif instruction.name in ("copy", "add") and not instruction.flag("from"):
                sources = [source for source in instruction.sources if not source.startswith(_URLS)]
                if instruction.flag("parents"):  # any file may be a base that a pattern means
                    sources = [re.split(r"[^/]*[*?\[\\]", source)[0] for source in sources]
            else:
                continue
            for source in sources:
                path = inside(source)
                if not path or "$" in source or "**" in source:
                    return []
                wanted.add(path)
        return sorted(wanted)


def shown_code(instruction: "Instruction") -> str:
    """An instruction as it is shown: of a heredoc, how it begins."""
    code = instruction.code
    if instruction.name == "run" and instruction.heredocs:
        lines = stripped(instruction.heredocs[0].text).split("\n")
        more = "..." if len(lines) > 1 else ""
        return f"{code} ({lines[0]}{more})"
    return code


def shown_base(solve: "Solve", name: str) -> str:
    """An image as it is shown."""
    named = solve.plan.named(name)
    if named is not None and named[0] == "layout":
        return f"oci-layout://{name}@{named[1].rpartition('@')[2]}"
    if named is not None and named[0] != "image":
        return f"{named[0]}:{named[1]}"
    return references.parse(named[1] if named else name).with_default_tag().stored
