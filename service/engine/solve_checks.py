"""What the build checks need to know of a build: its arguments and the images that its stages begin with."""

import asyncio
import contextlib

from service import jsontext
from service.builder import check_rules, checks
from service.builder.dockerfile import BadDockerfile
from service.content import platforms
from service.content import reference as references
from service.engine import solving
from service.errors import MoorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import Any

    from service.builder.check_rules import Finding
    from service.builder.dockerfile import Dockerfile
    from service.engine.solve import Solve

ASKED = "build-arg:BUILDKIT_DOCKERFILE_CHECK"


class Stopped(Exception):  # noqa: N818 - it says what happened
    """A stage could not be gone through to its end."""

    def __init__(self, found: "list[Finding]", error: "solving.SolveFailed") -> None:
        """`found`: what was found; `error`: that of a build."""
        super().__init__(error.message)
        self.found, self.error = found, error


def options(solve: "Solve", dockerfile: "Dockerfile") -> "check_rules.Options":
    """Which checks count. Raises SolveFailed."""
    asked = solve.attributes.get(ASKED)
    try:
        return check_rules.Options(dockerfile.check.split(" ")[0] if asked is None else asked)
    except BadDockerfile as error:
        told = "check options" if asked is None else ASKED
        raise solve.failed(f"failed to parse {told}: {error}") from None


def failed(solve: "Solve", found: "Sequence[Finding]") -> "solving.SolveFailed":
    """The error of a Dockerfile in which nothing may be found."""
    return solve.failed(f"lint violation found for rules: {', '.join(sorted({each.rule.name for each in found}))}")


async def found(solve: "Solve", dockerfile: "Dockerfile", wanted: "Sequence[int]", *, pulls: bool) -> "list[Finding]":
    """What is found in the stages `wanted`. `pulls`: images are got, and errors told by the build; else only what is
    here is known.

    Raises SolveFailed, Stopped.
    """
    bases = {}
    for number in wanted:
        base = await _base(solve, number, pulls=pulls)
        if base is not None:
            bases[number] = base
    checker = checks.Checker(
        dockerfile,
        solve.arguments,
        options(solve, dockerfile),
        bases=bases,
        wanted=wanted,
        ignored=solve.excluded,
        is_name=_is_name,
    )
    everything = checker.run()
    if checker.error is not None and not pulls:
        raise Stopped(everything, solve.failed(str(checker.error), checker.error.line))
    return everything


@contextlib.asynccontextmanager
async def telling(solve: "Solve", dockerfile: "Dockerfile") -> "AsyncIterator[None]":
    """Tell what is found while the build goes on; before anything is done, where it is an error. Raises SolveFailed."""
    if options(solve, dockerfile).is_error:
        if told := await tell(solve, dockerfile, solve.plan.wanted):
            raise failed(solve, told)
        yield
        return
    task = asyncio.ensure_future(tell(solve, dockerfile, solve.plan.wanted))
    try:
        yield
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def tell(solve: "Solve", dockerfile: "Dockerfile", wanted: "Sequence[int]") -> "list[Finding]":
    """Tell what is found in the stages `wanted`, as warnings."""
    everything = await found(solve, dockerfile, wanted, pulls=True)
    for finding in everything:
        await solve.progress.tell(
            solving.Warning(
                solve.definition,
                finding.shown(),
                1,
                (finding.rule.description,),
                finding.rule.url,
                solve.filename,
                solve.text,
                (solving.SourceRange(finding.line, finding.end),),
            )
        )
    return everything


async def _base(solve: "Solve", number: int, *, pulls: bool) -> "checks.Base | None":
    """What a stage begins with; None: a stage, nothing, or something that nobody knows here."""
    name, platform = solve.plan.base_of(number)
    if not name or name == "scratch" or solve.plan.stage_of(name, before=number) is not None:
        return None
    named = solve.plan.named(name)
    config: dict[str, Any]
    try:
        if named is not None and named[0] == "input":
            config = jsontext.loads(solve.input(named[1]).document(solve.here))
        elif named is not None and named[0] != "image":
            return checks.Base(())
        elif pulls:
            config, _ = await solve.base(named[1] if named else name, platform)
        else:
            config, _ = await solve.thread(solve.held, named[1] if named else name, platform)
    except MoorageError:  # told by the build, where it is one
        return None
    inside = config.get("config") or {}
    asked = platforms.parse(platform) if platform else solve.target
    there = (str(config.get("os") or ""), str(config.get("architecture") or ""), str(config.get("variant") or ""))
    return checks.Base(
        inside.get("Env") or (),
        has_shell=bool(inside.get("Shell")),
        triggers=inside.get("OnBuild") or (),
        wanted=asked,
        found=there if all(there[:2]) else (),
    )


def _is_name(text: str) -> bool:
    try:
        references.parse(text)
    except MoorageError:
        return False
    return True
