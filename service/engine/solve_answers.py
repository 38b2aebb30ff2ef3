"""What a client may ask of a Dockerfile instead of a build (`docker buildx build --check`, `--call=outline`, …).

Each answer is a document and a text to be shown, in the forms of BuildKit's frontend/subrequests.
"""

import base64
import json

from service.builder import instructions, run_mounts
from service.builder.arguments import Arguments, of_platforms
from service.builder.words import BadWord, Noting, expanded
from service.engine import solve_checks, solve_plan, solving

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from service.builder.check_rules import Finding
    from service.builder.dockerfile import Dockerfile
    from service.builder.instructions import Instruction
    from service.engine.solve import Solve
    from service.engine.solving import SolveFailed

_RULE = "-" * 20
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}  # as Go writes them in JSON


async def answer(solve: "Solve", dockerfile: "Dockerfile") -> "dict[str, bytes] | None":
    """The answer to what is asked for instead of a build; None: a build is asked for. Raises SolveFailed."""
    asked = solve.attributes.get("requestid")
    if not asked:
        return None
    solve.stages, before = instructions.stages(dockerfile)
    solve.name_target()
    if asked == solving.LINT:
        return await _lint(solve, dockerfile, before)
    if asked == solving.TARGETS:
        return _targets(solve, dockerfile)
    if asked == solving.OUTLINE:
        solve.plan = solve_plan.Plan(solve, before)
        target = solve.plan.target()
        await solve_checks.tell(solve, dockerfile, solve.plan.wanted)
        return _outline(solve, dockerfile, before, target)
    if asked == solving.DESCRIBE:
        return _describe()
    raise solving.SolveFailed(f"unsupported request {asked}")


# ── the checks ───────────────────────────────────────────────────────────────────────────────────────────────────────


def refused(solve: "Solve", error: "SolveFailed") -> "dict[str, bytes]":
    """The answer to `--check` where the Dockerfile cannot be read: that is what is wrong with it."""
    return _checked(solve, [], error)


async def _lint(solve: "Solve", dockerfile: "Dockerfile", before: "Sequence[Instruction]") -> "dict[str, bytes]":
    found: list[Finding] = []
    if solve_checks.ASKED in solve.attributes:
        solve_checks.options(solve, dockerfile)  # what the client says wrong is no answer
    try:
        options = solve_checks.options(solve, dockerfile)
        try:
            solve.plan = solve_plan.Plan(solve, before)
            solve.plan.target()
        except solving.SolveFailed as error:
            return _checked(solve, await _found_anyway(solve, dockerfile), error)
        wanted = solve.plan.wanted if solve.attributes.get("target") else range(len(solve.stages))
        found = await solve_checks.found(solve, dockerfile, wanted, pulls=False)
        if options.is_error and found:
            raise solve_checks.failed(solve, found)
    except solve_checks.Stopped as stopped:
        return _checked(solve, stopped.found, stopped.error)
    except solving.SolveFailed as error:
        return _checked(solve, found, error)
    return _checked(solve, found, None)


async def _found_anyway(solve: "Solve", dockerfile: "Dockerfile") -> "list[Finding]":
    """What is found where there are no stages to go through."""
    return await solve_checks.found(solve, dockerfile, (), pulls=False)


def _checked(solve: "Solve", found: "Sequence[Finding]", error: "SolveFailed | None") -> "dict[str, bytes]":
    warnings = [
        {
            "ruleName": finding.rule.name,
            "description": finding.rule.description,
            "url": finding.rule.url,
            "detail": finding.detail,
            "location": _location(finding.line, finding.end),
        }
        for finding in found
    ]
    source = {"filename": solve.filename, "data": _data(solve), "language": "Dockerfile"}
    document: dict[str, Any] = {"warnings": warnings or None, "sources": [source]}
    shown = "".join(
        f"\nWARNING: {each.rule.name} - {each.rule.url}\n{each.detail}\n{_excerpt(solve, each.line, each.end)}"
        for each in sorted(found, key=lambda each: each.line)
    )
    if error is not None:
        lines = error.ranges[0] if error.ranges else None
        document["buildError"] = {
            "message": error.message,
            "location": _location(lines.start, lines.end) if lines is not None else {},
        }
        shown += f"{error.message}\n" + (_excerpt(solve, lines.start, lines.end) if lines is not None else "")
    answered = _answered(document, shown)
    answered["result.statuscode"] = b"1" if found or error is not None else b"0"
    return answered


def _excerpt(solve: "Solve", start: int, end: int) -> str:
    """Some lines, with others around them, as BuildKit's errdefs.Source shows them."""
    lines = solve.text.decode("utf-8", "replace").split("\n")
    if not 1 <= start <= len(lines):
        return ""
    first, last = start, min(max(start, end), len(lines))
    marked = range(first, last + 1)
    room, pad = 0, 4 if first == last else 2
    while room < pad:
        if first > 1:
            first, room = first - 1, room + 1
        if last != len(lines):
            last, room = last + 1, room + 1
        room += 1
    text = "".join(
        f" {number:3} | {'>>>' if number in marked else '   '} {lines[number - 1]}\n"
        for number in range(first, last + 1)
    )
    return f"{solve.filename}:{start}\n{_RULE}\n{text}{_RULE}\n"


# ── targets and what they take ───────────────────────────────────────────────────────────────────────────────────────


def _targets(solve: "Solve", dockerfile: "Dockerfile") -> "dict[str, bytes]":
    about = _Comments(dockerfile)
    last = len(solve.stages) - 1
    targets = [
        {
            **({"name": stage.name} if stage.name else {}),
            **({"default": True} if number == last else {}),
            **about.of(stage.number, stage.name),
            "base": stage.base,
            **({"platform": stage.platform} if stage.platform else {}),
            "location": _location(stage.number, stage.end),
        }
        for number, stage in enumerate(solve.stages)
    ]
    rows = [
        (f"{stage.name} (default)".strip() if number == last else stage.name, about.text(stage.number, stage.name))
        for number, stage in enumerate(solve.stages)
    ]
    shown = _table(("TARGET", "DESCRIPTION"), rows, 1)
    return _answered({"targets": targets, "sources": [_data(solve)]}, shown)


def _outline(
    solve: "Solve", dockerfile: "Dockerfile", before: "Sequence[Instruction]", target: int
) -> "dict[str, bytes]":
    about = _Comments(dockerfile)
    arguments = sorted(_arguments(solve, about, before), key=_line)
    secrets = sorted(_mounts(solve, run_mounts.SECRET), key=_line)
    agents = sorted(_mounts(solve, run_mounts.SSH), key=_line)
    stage = solve.stages[target]
    document = {
        **({"name": stage.name} if stage.name else {}),
        **about.of(stage.number, stage.name),
        **({"args": arguments} if arguments else {}),
        **({"secrets": secrets} if secrets else {}),
        **({"ssh": agents} if agents else {}),
        "sources": [_data(solve)],
    }
    shown, description = "", about.text(stage.number, stage.name)
    if stage.name:
        head = [("TARGET:", stage.name), *([("DESCRIPTION:", description)] if description else [])]
        shown += _table(head[0], head[1:], 1) + "\n"
    if arguments:
        values = [(each["name"], each.get("value", ""), each.get("description", "")) for each in arguments]
        shown += _table(("BUILD ARG", "VALUE", "DESCRIPTION"), values, 3) + "\n"
    for title, mounts in (("SECRET", secrets), ("SSH", agents)):
        if mounts:
            required = [(each["name"], "true" if each.get("required") else "") for each in mounts]
            shown += _table((title, "REQUIRED"), required, 3) + "\n"
    return _answered(document, shown)


def _line(entry: "dict[str, Any]") -> int:
    line: int = entry["location"]["ranges"][0]["start"]["line"]
    return line


def _arguments(solve: "Solve", about: "_Comments", before: "Sequence[Instruction]") -> "list[dict[str, Any]]":
    """The arguments that a target reads: its own, those of the stages that it needs, and those of their FROM."""
    globals_: dict[str, Instruction] = {}
    needs: dict[str, str] = {}  # by name: the text that its value comes from
    for instruction in before:
        for name, default in instruction.pairs:
            globals_[name], needs[name] = instruction, default or ""
    found: dict[str, dict[str, Any]] = {}
    known_to_from = solve.arguments.known_to_from()

    def add(name: str, value: str, instruction: "Instruction") -> None:
        found[name] = {  # a stage's own hides that of a stage that it needs
            "name": name,
            **about.of(instruction.number, name),
            **({"value": value} if value else {}),
            "location": _location(instruction.number, instruction.end),
        }

    def read(text: str) -> None:
        for name in _variables(text, solve.escape, known_to_from):
            if name in globals_ and name not in found:
                add(name, known_to_from.get(name, ""), globals_[name])
                read(needs[name])

    platforms = {**of_platforms(solve.here, solve.here), "TARGETSTAGE": ""}
    environments: dict[int, dict[str, str]] = {}
    known_in: dict[int, Arguments] = {}
    for number in solve.plan.wanted:
        stage = solve.stages[number]
        read(stage.base)
        read(stage.platform)
        base = solve.plan.stage_of(solve.plan.base_of(number)[0], before=number)
        environment = environments[number] = {} if base is None else dict(environments[base])
        arguments = known_in[number] = solve.arguments.stage(None if base is None else known_in[base])
        for instruction in stage.instructions:
            if instruction.name not in ("arg", "env"):
                continue
            for name, text in instruction.pairs:
                value = _replaced(text, {**arguments.known(), **environment}, solve.escape)
                if instruction.name == "env":
                    environment[name] = value or ""
                    continue
                arguments.define(name, value)
                if value is None and name in globals_:
                    add(name, arguments.known().get(name, ""), globals_[name])
                    read(needs[name])
                elif value is not None or name not in platforms:
                    add(name, arguments.known().get(name, ""), instruction)
    return list(found.values())


def _replaced(text: "str | None", known: "dict[str, str]", escape: str) -> "str | None":
    try:
        return None if text is None else expanded(text, known, escape)
    except BadWord:  # told by the build
        return text


def _variables(text: str, escape: str, known: "dict[str, str]") -> list[str]:
    """The names whose values a text is made with."""
    noting = Noting(known)
    _replaced(text, noting, escape)
    return list(dict.fromkeys(noting.asked))


def _mounts(solve: "Solve", kind: str) -> "list[dict[str, Any]]":
    """The secrets, or the agents, that a target's steps are given."""
    found: dict[str, dict[str, Any]] = {}
    for number in reversed(solve.plan.wanted):
        for instruction in solve.stages[number].instructions:
            for mount in solve.plan.mounts(instruction) if instruction.name == "run" else ():
                if mount.type == kind:
                    entry = {
                        "name": mount.id,
                        **({"required": True} if mount.required else {}),
                        "location": _location(instruction.number, instruction.end),
                    }
                    found.setdefault(mount.id, entry)
    return list(found.values())


class _Comments:
    """What is written above instructions: `# NAME what it is for`."""

    def __init__(self, dockerfile: "Dockerfile") -> None:
        self._above = {line.number: line.comments for line in dockerfile.lines}

    def text(self, line: int, name: str) -> str:
        """The description of what is called `name`, of the instruction that begins in `line`."""
        start = f"{name} "
        above = self._above.get(line, ()) if name else ()
        return next((comment.removeprefix(start) for comment in above if comment.startswith(start)), "")

    def of(self, line: int, name: str) -> "dict[str, str]":
        """The same as a part of a document."""
        text = self.text(line, name)
        return {"description": text} if text else {}


# ── what can be asked ────────────────────────────────────────────────────────────────────────────────────────────────


def _describe() -> "dict[str, bytes]":
    target = {"name": "target", "description": "Target build stage"}
    known: list[tuple[str, str, Any]] = [
        (solving.OUTLINE, "List all parameters current build target supports", [target]),
        (solving.TARGETS, "List all targets current build supports", []),
        (solving.DESCRIBE, "List available subrequest types", None),
    ]
    results = [{"name": name, "description": ""} for name in ("result.json", "result.txt")]
    document = [
        {
            "name": name,
            "version": "1.0.0",
            "type": "rpc",
            "description": description,
            "opts": options,
            "inputs": None,
            "metadata": results,
            "refs": None,
        }
        for name, description, options in known
    ]
    rows = [(name.removeprefix("frontend."), "1.0.0", description) for name, description, _ in known]
    return _answered(document, _table(("NAME", "VERSION", "DESCRIPTION"), rows, 1))


def _location(line: int, end: int) -> "dict[str, Any]":
    return {"ranges": [{"start": {"line": line}, "end": {"line": max(line, end)}}]}


def _data(solve: "Solve") -> str:
    return base64.b64encode(solve.text).decode("ascii")


def _table(head: "Sequence[str]", rows: "Sequence[Sequence[str]]", space: int) -> str:
    """Columns as Go's tabwriter sets them: each as wide as its longest cell, the last one as it is."""
    widths = [max(len(row[column]) for row in (head, *rows)) + space for column in range(len(head) - 1)]
    return "".join(
        "".join(cell.ljust(size) for cell, size in zip(row, widths, strict=False)) + row[-1] + "\n"
        for row in (head, *rows)
    )


def _answered(document: object, text: str) -> "dict[str, bytes]":
    shown = json.dumps(document, indent=2, ensure_ascii=False)
    for sign, escaped in _ESCAPED.items():
        shown = shown.replace(sign, escaped)
    return {"result.json": shown.encode(), "result.txt": text.encode(), "version": b"1.0.0"}
