"""A Dockerfile executed as BuildKit does: only the stages that are needed, those that do not wait for one another at
the same time, each step once.

`solve` is the frontend `dockerfile.v0` with its executor behind it; `solve_export` makes something of what it built.
Words and errors are BuildKit's. What a build needs while it works is held by its lease, as in `engine.build`.
"""

import asyncio
import contextlib
import os

from service import jsontext
from service.builder import configuration, ignore, instructions, syntax
from service.builder.arguments import Arguments
from service.builder.dockerfile import BadDockerfile, parse
from service.builder.words import BadWord, expanded, shown
from service.content import platforms
from service.content import reference as references
from service.content.rootfs import layer_path
from service.engine import (
    build_history,
    build_run,
    container_config,
    flushing,
    images,
    provenance,
    solve_answers,
    solve_cache,
    solve_checks,
    solve_fetch,
    solve_layout,
    solve_plan,
    solve_run,
    solve_steps,
    solve_told,
    solving,
)
from service.engine.build_files import BuildFiles, tree
from service.engine.layers import Lease
from service.engine.solve_export import export
from service.engine.solve_image import Built, LaterState
from service.engine.solve_result import Result
from service.engine.solving import SolveFailed, SourceRange
from service.errors import MoorageError, NotFound, SystemFailure
from service.kernel.tree import remove_tree
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from typing import Any, TypeVar

    from service.build_files import Tree
    from service.builder.dockerfile import Dockerfile
    from service.builder.instructions import Instruction, Stage
    from service.content.reference import Reference
    from service.engine.engine import Engine
    from service.engine.solve_told import Step
    from service.engine.solving import Progress, Session, SolveRequest
    from service.store.images import LayerRow

    Returned = TypeVar("Returned")

__all__ = ("export", "reconcile", "solve")

AT_ONCE = 4  # steps of one build that work at the same time
_LAYERED = ("run", "copy", "add", "workdir")
_IGNORE = ".dockerignore"
_SYNTAX = "build-arg:BUILDKIT_SYNTAX"  # instead of what the Dockerfile names


@contextlib.asynccontextmanager
async def solve(
    engine: "Engine", request: "SolveRequest", session: "Session", progress: "Progress"
) -> "AsyncIterator[Result]":
    """Build what is asked for. Raises SolveFailed. The result's layers are kept until the end of the block."""
    async with Lease(engine) as lease:
        files = await engine.thread(BuildFiles(engine).__enter__)
        try:
            work = Solve(engine, request, session, progress, lease, files)
        except MoorageError:  # an option that nobody can read
            await build_run.finished(engine.thread(files.__exit__, None, None, None))
            raise
        try:
            try:
                async with work.stack:
                    result = await work.run()
            except SolveFailed:
                raise
            except (BadDockerfile, BadWord) as error:
                raise work.failed(str(error), getattr(error, "line", 0)) from None
            except MoorageError as error:
                raise work.failed(error.message) from None
            finally:
                if work.made:
                    flushing.soon(engine, flushing.QUIET_SECONDS)
            try:
                yield result
            finally:
                await result.aclose()
        finally:
            await build_run.finished(engine.thread(_clear, files, work.secrets))


def _clear(files: BuildFiles, secrets: str) -> None:
    files.__exit__(None, None, None)
    remove_tree(secrets)


class Solve:
    """One build at work."""

    def __init__(
        self,
        engine: "Engine",
        request: "SolveRequest",
        session: "Session",
        progress: "Progress",
        lease: Lease,
        files: BuildFiles,
    ) -> None:
        self.engine, self.request, self.session, self.progress = engine, request, session, progress
        self.lease, self.files = lease, files
        self.attributes = request.attributes
        self.id = os.path.basename(files.home).removeprefix("build-")
        self.secrets = f"{engine.settings.run}/builds/{os.path.basename(files.home)}"
        self.stack = contextlib.AsyncExitStack()  # what is open until the build is done: directories of the client
        self.working = asyncio.Semaphore(AT_ONCE)
        self.made = False  # whether there was anything to build at all
        self.used = provenance.Used()
        self.imported: dict[str, tuple[LayerRow, str]] = {}  # by key: what --cache-from has brought
        self.context_path = ""
        self.here = platforms.host()
        self.asked = self._platform()  # the platform that is asked for; empty: this machine's, whatever a base says
        self.target = platforms.parse(self.asked) if self.asked else self.here
        self.filename = self.attributes.get("filename") or "Dockerfile"
        self.text = b""
        self.definition = ""  # the digest of the vertex that has loaded it
        self.escape = "\\"
        self.excluded: list[str] = []
        self.host, self.host_key = solve_plan.host_of(self.attributes), ""
        self.host_key = solve_steps.hashed(self.host)
        self.arguments = Arguments(
            {
                name.removeprefix("build-arg:"): value
                for name, value in self.attributes.items()
                if name.startswith("build-arg:")
            },
            self.here,
            self.target,
        )
        epoch = self.arguments.given.get("SOURCE_DATE_EPOCH") or ""
        if epoch and not (epoch.isascii() and epoch.isdigit() and len(epoch) < 12):
            raise SolveFailed(
                f'invalid SOURCE_DATE_EPOCH: {epoch}: strconv.ParseInt: parsing "{epoch}": invalid syntax'
            )
        self.epoch = int(epoch) if epoch else None
        self.stages: list[Stage] = []
        self.plan: solve_plan.Plan
        self._tasks: dict[int, asyncio.Task[Built]] = {}
        self._context: asyncio.Task[str] | None = None
        self._bases: dict[tuple[str, str], asyncio.Task[tuple[dict[str, Any], list[LayerRow]]]] = {}
        self._private = 0

    # ── small things that steps need ─────────────────────────────────────────────────────────────────────────────

    async def thread(self, work: "Callable[..., Returned]", *arguments: "Any") -> "Returned":
        """As the engine's, but work that was begun is waited for even when the build is given up."""
        return await build_run.finished(self.engine.thread(work, *arguments))

    def lower(self, rows: "Sequence[LayerRow]") -> "list[str]":
        """The directories of layers, the uppermost first."""
        return [layer_path(self.engine.settings, layer.directory) for layer in reversed(rows)]

    def tree(self, rows: "Sequence[LayerRow]", upper: str = "", work: str = "") -> "Tree":
        """Layers as a tree, with what is written over them."""
        return tree(self.lower(rows), upper, work)

    def expander(self, built: Built) -> "Callable[[str], str]":
        """What replaces variables in a stage."""
        variables = built.state.variables()

        def word(text: str) -> str:
            try:
                return expanded(text, variables, self.escape)
            except BadWord as error:
                raise BadDockerfile(str(error)) from None

        return word

    def ignores_cache(self, built: Built) -> bool:
        """`--no-cache`, or `--no-cache-filter` with the stage's name."""
        asked = self.attributes.get("no-cache")
        if asked is None:
            return False
        names = [name.strip().lower() for name in asked.split(",") if name.strip()]
        return not names or built.stage_name in names

    def private_path(self) -> str:
        """A path for something that may not come to a disk. Blocking."""
        os.makedirs(self.secrets, 0o700, exist_ok=True)
        self._private += 1
        return f"{self.secrets}/{self._private}"

    def private_file(self, content: bytes, mode: int, uid: int, gid: int) -> str:
        """A file that may not come to a disk. Blocking."""
        path = self.private_path()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
        os.chown(path, uid, gid)
        os.chmod(path, mode)
        return path

    def failed(self, message: str, line: int = 0, step: "Step | None" = None, end: int = 0) -> SolveFailed:
        """The error that says so, with the lines of the Dockerfile that it is about."""
        ranges = [SourceRange(line, max(line, end))] if line else []
        return SolveFailed(
            message,
            filename=self.filename,
            text=self.text,
            ranges=ranges,
            vertex=step.digest if step is not None else "",
        )

    def step(self, name: str, key: str = "") -> "Step":
        """A new vertex."""
        return solve_told.Step(self.progress, name, key=f"{self.id} {key or name}")

    # ── the definition ───────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> Result:
        """The whole."""
        platform = platforms.text(self.target)
        try:
            dockerfile = await self._read()
        except SolveFailed as error:
            if self.attributes.get("requestid") != solving.LINT or not error.ranges:
                raise
            return Result(self, None, platform, solve_answers.refused(self, error))
        self.escape = dockerfile.escape
        answered = await solve_answers.answer(self, dockerfile)
        if answered is not None:
            return Result(self, None, platform, answered)
        self.stages, before = instructions.stages(dockerfile)
        self.name_target()
        try:
            self.plan = solve_plan.Plan(self, before)
            target = self.plan.target()
        except SolveFailed:
            await solve_checks.tell(self, dockerfile, ())
            raise
        self.plan.note_private(self.used)
        self.made = True
        await self._import()
        try:
            async with solve_checks.telling(self, dockerfile):
                built = await self.stage(target)
        except BaseException:
            for task in (*self._tasks.values(), *self._bases.values()):
                task.cancel()
            await asyncio.gather(*self._tasks.values(), *self._bases.values(), return_exceptions=True)
            raise
        for name, value in sorted(self.attributes.items()):
            if name.startswith("label:"):
                built.state.config["Labels"] = {
                    **(built.state.config.get("Labels") or {}),
                    name.removeprefix("label:"): value,
                }
        if self.epoch is not None:
            built.epoch = self.epoch
        return Result(self, built, platform, {})

    def name_target(self) -> None:
        """Let the arguments know which stage is built."""
        asked = self.attributes.get("target") or (self.stages[-1].name if self.stages else "")
        self.arguments.before["TARGETSTAGE"] = asked or "default"

    async def _import(self) -> None:
        """`--cache-from`: images that brought along what their layers are the results of."""
        options = solve_plan.cache_imports(self.attributes, self.request.cache_imports)
        for option in options:
            name = option.attributes.get("src" if option.type == "local" else "ref") or ""
            if option.type not in ("registry", "inline", "local") or not name:
                raise SolveFailed(
                    f"unsupported cache import type {option.type}: images can be given (type=registry, type=local)"
                )
            async with self.step(f"importing cache manifest from {name}") as step:
                try:
                    if option.type == "local":
                        config, rows = await solve_layout.cache(self, option.attributes, self.target, step)
                    else:
                        config, rows = await self.base(name, self.asked)
                except MoorageError as error:  # as BuildKit: a build does without
                    await step.log(
                        2, f"WARNING: failed to import cache manifest from {name}: {error.message}\n".encode()
                    )
                    continue
                self.imported.update(solve_cache.brought(config, rows))

    def _platform(self) -> str:
        asked = [name for name in (self.attributes.get("platform") or "").split(",") if name]
        if len(asked) > 1:
            raise SolveFailed("multiple platforms feature is currently not supported for docker driver")
        try:
            return platforms.text(platforms.parse(asked[0])) if asked else ""
        except MoorageError as error:
            raise SolveFailed(f"failed to parse platform {asked[0]}: {error.message}") from None

    async def _read(self) -> "Dockerfile":
        """The Dockerfile, and what is to be left out of the context."""
        name = solve_plan.inside(self.filename)
        remote = self.attributes.get("context") or ""
        local = "dockerfilekey" in self.attributes or not remote
        if remote:
            self.context_path = await solve_fetch.context(self, remote)
        async with self.step(f"[internal] load build definition from {os.path.basename(self.filename)}") as step:
            self.text, listed = await self._definition(step, name, local=local)
            self.definition = step.digest
            failed: SolveFailed | None = None
            try:
                if not self.text:
                    raise BadDockerfile("the Dockerfile cannot be empty")
                image, line = syntax.named(self.text)
                if image and not syntax.is_built_in(image) and _SYNTAX not in self.attributes:
                    raise BadDockerfile(syntax.refused(image), line)
                dockerfile = parse(self.text)
                instructions.stages(dockerfile)
            except BadDockerfile as error:
                text = str(error)
                failed = self.failed(text, error.line)
        if failed is not None:
            raise failed
        async with self.step("[internal] load .dockerignore") as step:
            if listed is None:
                listed = await self._ignored(step)
            self.excluded = ignore.patterns(listed.decode("utf-8", "replace"))
        return dockerfile

    async def _definition(self, step: "Step", name: str, *, local: bool) -> "tuple[bytes, bytes | None]":
        if not local:
            return await self.thread(self._of_folder, self.context_path, name)
        key = self.attributes.get("dockerfilekey") or "dockerfile"
        followed = [name, f"{name}{_IGNORE}", *([name.lower()] if name == "Dockerfile" else [])]
        session = self._session(key)
        line = step.transferred("transferring dockerfile:")
        async with session.local(key, follow=followed, transferred=line) as folder:
            return await self.thread(self._of_folder, folder, name)

    def _of_folder(self, folder: str, name: str) -> "tuple[bytes, bytes | None]":
        text = solve_plan.file_in(folder, name)
        if text is None and name == "Dockerfile":
            text = solve_plan.file_in(folder, "dockerfile")
        if text is None:
            raise SystemFailure(f"failed to read dockerfile: open {name}: no such file or directory")
        return text, solve_plan.file_in(folder, f"{name}{_IGNORE}")

    async def _ignored(self, step: "Step") -> bytes:
        if self.context_path:
            return await self.thread(solve_plan.file_in, self.context_path, _IGNORE) or b""
        key = self.attributes.get("contextkey") or "context"
        line = step.transferred("transferring context:")
        async with self._session(key).local(key, follow=[_IGNORE], transferred=line) as folder:
            return await self.thread(solve_plan.file_in, folder, _IGNORE) or b""

    def _session(self, name: str) -> "Session":
        """Who has a directory: several targets may share one from an extra session."""
        self.used.locals.add(name)
        named = self.attributes.get(f"local-sessionid:{name}")
        return self.request.sessions.get(named, self.session) if named else self.session

    # ── contexts ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def context(self) -> str:
        """The directory of the build context."""
        if self.context_path:
            return self.context_path
        if self._context is None:
            self._context = asyncio.ensure_future(self._local_context())
        return await asyncio.shield(self._context)

    async def _local_context(self) -> str:
        key = self.attributes.get("contextkey") or "context"
        triggers = await self._triggers()
        async with self.step("[internal] load build context") as step:
            line = step.transferred("transferring context:")
            local = self._session(key).local(
                key, exclude=self.excluded, follow=self.plan.followed(triggers), transferred=line
            )
            self.context_path = await self.stack.enter_async_context(local)
        return self.context_path

    async def _triggers(self) -> "list[str]":
        """What the images trigger that the stages begin with."""
        found: list[str] = []
        for number in self.plan.wanted:
            name, platform = self.plan.base_of(number)
            named = self.plan.named(name)
            if name in ("", "scratch") or self.plan.stage_of(name, before=number) is not None:
                continue
            if named is not None and named[0] != "image":
                continue
            config, _ = await self.base(named[1] if named else name, platform)
            found += (config.get("config") or {}).get("OnBuild") or []
        return found

    async def source(self, origin: str) -> "Tree":
        """The files of --from: a stage by name or number, a named context, or an image."""
        number = self.plan.stage_of(origin)
        if number is not None:
            return self.tree((await self.stage(number)).layers)
        named = self.plan.named(origin)
        if named is not None:
            kind, value = named
            if kind == "local":
                return tree(path=await self._named_local(origin, value))
            if kind == "input":
                return self.tree(self.input(value).layers)
            if kind == "remote":
                return tree(path=await solve_fetch.context(self, value))
            origin = value if kind == "image" else origin
        elif origin == "scratch":
            return tree(path=await self.thread(self.files.folder))
        _, rows = await self.base(origin, self.asked)
        return self.tree(rows)

    async def _named_local(self, origin: str, key: str) -> str:
        async with solve_steps.lock(f"{self.id} context {key}"):
            held = self.plan.opened.get(key)
            if held is None:
                async with self.step(f"[internal] load context {origin}", f"context {key}") as step:
                    session = self._session(key)
                    async with session.local(key, follow=[_IGNORE]) as folder:
                        listed = await self.thread(solve_plan.file_in, folder, _IGNORE) or b""
                    line = step.transferred(f"transferring {origin}:")
                    excluded = ignore.patterns(listed.decode("utf-8", "replace"))
                    held = await self.stack.enter_async_context(session.local(key, exclude=excluded, transferred=line))
                self.plan.opened[key] = held
            return held

    def input(self, key: str) -> Built:
        """What another request has built, by its key."""
        result = self.request.inputs.get(key)
        built = getattr(result, "built", None)
        if result is None or not isinstance(built, Built):
            raise SystemFailure(f"input {key} not found")
        solve_steps.held(self, built.layers)
        self.used.add(result.used)
        return built

    async def fetched(self, instruction: "Instruction", url: str) -> "tuple[Tree, list[str]]":
        """What ADD names in the network."""
        folder, name = await solve_fetch.source(self, instruction, url)
        return tree(path=folder), [name]

    # ── stages ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def stage(self, number: int) -> Built:
        """A stage, built once."""
        if number not in self._tasks:
            for needed in self.plan.needs(number):
                await asyncio.sleep(0)
                if needed not in self._tasks:
                    self._tasks[needed] = asyncio.ensure_future(self._stage(needed))
            self._tasks.setdefault(number, asyncio.ensure_future(self._stage(number)))
        return await asyncio.shield(self._tasks[number])

    async def _stage(self, number: int) -> Built:
        stage = self.stages[number]
        built = await self._begin(number, stage)
        done = self._first(number)
        total = done + sum(instruction.name in _LAYERED for instruction in stage.instructions)
        triggers, built.state.config["OnBuild"] = built.state.config.get("OnBuild") or [], None
        followed = [*(self._trigger(text) for text in triggers), *stage.instructions]
        total += sum(instruction.name in _LAYERED for instruction in followed[: len(triggers)])
        for instruction in followed:
            if instruction.name in _LAYERED:
                done += 1
            await self._instruction(number, built, instruction, f"{done}/{total}".rjust(2 * len(str(total)) + 1))
        return built

    def _first(self, number: int) -> int:
        """1 where a stage begins with an image: that is a step, which nothing and another stage are not."""
        name, _ = self.plan.base_of(number)
        return int(name != "scratch" and self.plan.stage_of(name, before=number) is None)

    def _trigger(self, text: str) -> "Instruction":
        try:
            return instructions.one(text)
        except BadDockerfile as error:
            raise self.failed(str(error)) from None

    async def _begin(self, number: int, stage: "Stage") -> Built:
        name, platform = self.plan.base_of(number)
        total = self._first(number) + sum(instruction.name in _LAYERED for instruction in stage.instructions)
        before = self.plan.stage_of(name, before=number)
        label = self.plan.label(number)
        if before is not None:
            built = await self.stage(before)
            built = built.next(self.arguments.stage(built.state.arguments))
        else:
            arguments = self.arguments.stage()
            config, rows = await self._of_name(stage, name, platform)
            if name != "scratch":
                place = f"{1}/{total}".rjust(2 * len(str(total)) + 1)
                async with self.step(
                    f"[{label}{place}] FROM {solve_plan.shown_base(self, name)}", f"from {number}"
                ) as step:
                    step.cached = True
            whole = container_config.whole(config.get("config") or {})
            state = LaterState(configuration.begin(whole), arguments, self.escape)
            if name == "scratch":
                state.config["WorkingDir"] = "/"
            built = Built(state, config, rows)
            made_for = self.asked or (platform if name != "scratch" else "")
            built.platform = platforms.parse(made_for) if made_for else None
            built.inherited = self._inherited(name, rows)
        built.stage_name = stage.name
        built.state.has_command = False
        return built

    async def _of_name(self, stage: "Stage", name: str, platform: str) -> "tuple[dict[str, Any], list[LayerRow]]":
        named = self.plan.named(name)
        if named is not None:
            kind, value = named
            if kind == "input":
                other = self.input(value)
                return jsontext.loads(other.document(self.here)), list(other.layers)
            if kind not in ("image", "layout"):
                source = await self.source(name)
                return {}, [await solve_fetch.layer(self, source)]
            name = value if kind == "image" else name
        if name == "scratch":
            return {}, []
        try:
            return await self.base(name, platform)
        except MoorageError as error:
            raise self.failed(error.message, stage.number, end=stage.end) from None

    def _inherited(self, name: str, rows: "Sequence[LayerRow]") -> int:
        """How many of a base's layers are an image's, not made for this build: what a context holds, is."""
        kind, value = self.plan.named(name) or ("image", "")
        if kind == "input":
            return self.input(value).inherited
        return len(rows) if kind in ("image", "layout") else 0

    async def base(self, name: str, platform: str) -> "tuple[dict[str, Any], list[LayerRow]]":
        """An image's configuration and layers: of this machine, of a registry, or of a layout that the client calls so.
        Looked up once."""
        kind, layout = self.plan.named(name) or ("", "")
        key = (layout if kind == "layout" else name), platform
        if key not in self._bases:
            if kind == "layout":
                looking = solve_layout.image(self, name, layout, platform)
            else:
                looking = self._image(name, platform)
            self._bases[key] = asyncio.ensure_future(looking)
        return await asyncio.shield(self._bases[key])

    async def _image(self, name: str, platform: str) -> "tuple[dict[str, Any], list[LayerRow]]":
        try:
            reference = references.parse(name).with_default_tag()
        except MoorageError as error:
            raise SystemFailure(f'failed to parse stage name "{name}": {error.message}') from None
        async with self.step(f"[internal] load metadata for {reference.stored}") as step:
            if self.attributes.get("image-resolve-mode") != "pull":
                try:
                    config, rows = await self.thread(self.held, name, platform)
                except NotFound:
                    pass
                else:
                    self.used.image(reference, platform or platforms.text(self.here), rows[-1].chain_id if rows else "")
                    return config, rows
            from service.engine import pull  # it brings a client for HTTP, which takes longer to load than most builds

            credentials = await self.session.credentials(reference.domain)
            # an image of another machine's kind does not take the name of one of ours
            outcome = pull.Outcome(keeps_names=bool(platform) and platforms.parse(platform)[:2] != self.here[:2])
            try:
                async for message in pull.pull(self.engine, reference, credentials, platform, outcome):
                    await solve_told.pulled(step, message)
                held = await self.thread(self.held, outcome.id, platform)
            except MoorageError as error:
                said = error.message
            else:
                digest = await self.thread(self._digest, reference, outcome.id)
                self.used.image(reference, platform or platforms.text(self.here), digest)
                return held
        raise SystemFailure(f"{name}: failed to resolve source metadata for {reference.stored}: {said}")

    def _digest(self, name: "Reference", image_id: str) -> str:
        """The digest by which a registry knows an image that was pulled."""
        prefix = f"{name.repository}@"
        found = (known for known in store.digests_of(self.engine.store, image_id) if known.startswith(prefix))
        return name.digest or next(found, prefix).removeprefix(prefix)

    def held(self, name: str, platform: str) -> "tuple[dict[str, Any], list[LayerRow]]":
        """An image of this machine, kept for the build. Raises NotFound. Blocking."""
        found = images.find(self.engine, name, platform)
        if not platform and images.foreign(found):  # as if it were not here: there may be one for this machine
            raise NotFound(f"No such image: {name}")
        with self.engine.store.write(durable=False):
            rows = store.layers_of(self.engine.store, found.id)
            self.lease.hold(*(layer.chain_id for layer in rows))
        return found.config, rows

    async def _instruction(self, number: int, built: Built, instruction: "Instruction", place: str) -> None:
        name = instruction.name
        step: Step | None = None
        try:
            code = solve_plan.shown_code(instruction)
            text = shown(code, built.state.variables(), self.escape)
            built.state.expand(instruction)
            if name not in _LAYERED:
                built.configure(instruction)
                return
            if self.plan.is_waiting(instruction):  # what it needs is told before the step, as it comes first
                await self.context()
            for origin in self.plan.origins_of(instruction):
                await self.source(origin)
            step = self.step(f"[{self.plan.label(number)}{place}] {text}", f"step {number} {place}")
            work = {"run": solve_run.run, "workdir": solve_steps.work_directory}.get(name, solve_steps.copied)
            async with step:
                await work(self, built, instruction, step)
        except SolveFailed:
            raise
        except (BadDockerfile, BadWord) as error:
            raise self.failed(str(error), instruction.number, step, instruction.end) from None
        except MoorageError as error:
            message = error.message
            if message.startswith("failed to calculate checksum"):
                message = f"failed to compute cache key: {message}"
            raise self.failed(message, instruction.number, step, instruction.end) from None


def reconcile(engine: "Engine") -> None:
    """At start: what killed builds left beside their containers. Blocking."""
    folder = engine.settings.run + "/builds"
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if not os.path.isdir(f"{engine.settings.root}/tmp/{name}"):
            remove_tree(f"{folder}/{name}")
    solve_cache.reconcile(engine)
    build_history.sweep(engine)
