"""`build`: a Dockerfile, step by step, as dockerd's classic builder tells it (API: ImageBuild).

Each step leaves an image with its parent: the next step begins with it, and a later build finds it again. What a step
needs while it works is held by the build's lease: its containers, too, are removed when the process is gone. A failed
build leaves images and containers of its steps, as dockerd does; one whose client left, no containers.
"""

import asyncio
import collections
import os

from service import timestamps
from service.builder import configuration, instructions
from service.builder.arguments import Arguments
from service.builder.dockerfile import BadDockerfile, heredoc_of
from service.builder.words import BadWord, expanded
from service.content import platforms
from service.content import reference as references
from service.content.rootfs import layer_path
from service.engine import (
    build_context,
    build_files,
    build_run,
    child_image,
    container_config,
    create,
    images,
    lifecycle,
    pause,
    squash,
)
from service.engine.build_copy import copied
from service.engine.build_files import BuildFiles
from service.engine.layers import Lease
from service.engine.step_cache import Cache
from service.errors import Conflict, InvalidParameter, MoorageError, NotFound, SystemFailure
from service.ids import short
from service.store import containers
from service.store import images as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Any, TypeVar

    from service.builder.dockerfile import Dockerfile
    from service.builder.instructions import Instruction, Stage
    from service.engine.build_options import Options
    from service.engine.engine import Engine

    Result = TypeVar("Result")

_UNTOLD = 10_000  # messages of a quiet build that are kept
_WAITING = 100  # messages that a slow client may be behind; then the step waits
NEEDS_BUILDKIT = (
    "the --{} option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build images "
    "with BuildKit enabled"
)
_REFUSED = {
    "add": ("checksum", "exclude", "keep-git-dir", "unpack"),
    "copy": ("exclude", "parents"),
    "run": ("mount", "network", "security", "device"),
}


class CommandFailed(SystemFailure):
    """RUN ended with another code than 0."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


async def build(
    engine: "Engine", options: "Options", body: "AsyncIterator[bytes]"
) -> "AsyncIterator[list[dict[str, Any]]]":
    """Build, yielding Docker's messages, all that there are at once. Raises MoorageError, before or between them."""
    async with Lease(engine) as lease:
        files = BuildFiles(engine)
        try:
            dockerfile = await build_context.begun(files, options, body)
            work = Build(engine, options, lease, files)
            stages, before = work.read(dockerfile)
            task = asyncio.ensure_future(work.run(stages, before, dockerfile))
            try:
                while ready := await work.ready():
                    yield ready
                await task
            finally:
                if not task.done():
                    task.cancel()
                    work.abandoned = True
                    await asyncio.gather(task, return_exceptions=True)
                    await work.remove_containers(tell=False)
        finally:
            await build_run.finished(engine.thread(files.__exit__, None, None, None))


class Build:
    """One build at work. Its steps are in here and in `build_copy`; `state` is the stage as far as it has come."""

    def __init__(self, engine: "Engine", options: "Options", lease: Lease, files: BuildFiles) -> None:
        self.engine, self.options, self.lease, self.files = engine, options, lease, files
        self.messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(_WAITING)
        self.abandoned = False
        self.untold: collections.deque[dict[str, Any]] = collections.deque(maxlen=_UNTOLD)  # told if the build fails
        here = platforms.host()
        self.platform = platforms.parse(options.platform) if options.platform else None
        self.arguments = Arguments(options.arguments, here, self.platform or here)
        self.escape = "\\"
        self.results: list[tuple[str, str]] = []  # of the stages that are done: name, image
        self.created: list[str] = []  # the containers of the present step
        self.state: configuration.State
        self.image = ""  # what the next step begins with; empty: nothing
        self.begun = ""  # what the stage has begun with
        self.cache: Cache

    def read(self, dockerfile: "Dockerfile") -> "tuple[list[Stage], list[Instruction]]":
        """The stages that are to be built. Raises InvalidParameter."""
        self.escape = dockerfile.escape
        try:
            stages, before = instructions.stages(dockerfile)
        except BadDockerfile as error:
            raise InvalidParameter(str(error)) from None
        if self.options.target:
            wanted = self.options.target.lower()
            names = [stage.name for stage in stages]
            if wanted not in names:
                raise InvalidParameter(f'target stage "{self.options.target}" could not be found')
            stages = stages[: names.index(wanted) + 1]
        if stages:
            for name, value in sorted(self.options.labels.items()):
                stages[-1].instructions.append(instructions.label(name, value))
        return stages, before

    # ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────

    async def tell(self, message: "dict[str, Any]") -> None:
        """Send a message; where only the result is wanted, keep it until it is known that there is none."""
        if self.options.quiet:
            self.untold.append(message)
        elif not self.abandoned:
            await self.messages.put(message)

    async def say(self, text: str) -> None:
        """A line, or a part of one."""
        await self.tell({"stream": text})

    async def ready(self) -> "list[dict[str, Any]]":
        """The messages that are there to be sent, one at least; none at the end."""
        found, message = [], await self.messages.get()
        while message is not None:
            found.append(message)
            if self.messages.empty():
                return found
            message = self.messages.get_nowait()
        self.messages.put_nowait(None)
        return found

    async def complain(self, text: str) -> None:
        """What goes to standard error."""
        await self.tell({"stream": f"\x1b[91m{text}\x1b[0m"})

    async def thread(self, work: "Callable[..., Result]", *arguments: "Any") -> "Result":
        """As the engine's, but work that was begun is waited for even when the build is given up."""
        return await build_run.finished(self.engine.thread(work, *arguments))

    # ── the whole ────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, stages: "list[Stage]", before: "list[Instruction]", dockerfile: "Dockerfile") -> None:
        """Build all stages, and name the result."""
        try:
            await self._run(stages, before, dockerfile)
            self.untold.clear()
        except (BadDockerfile, BadWord) as error:
            raise InvalidParameter(str(error)) from None
        finally:
            if not self.abandoned:
                for message in self.untold:
                    await self.messages.put(message)
                await self.messages.put(None)

    async def _run(self, stages: "list[Stage]", before: "list[Instruction]", dockerfile: "Dockerfile") -> None:
        for warning in dockerfile.warnings:
            await self.complain(f"[WARNING]: {warning}\n")
        if dockerfile.warnings:
            await self.complain("[WARNING]: Empty continuation lines will become errors in a future release.\n")
        total = len(before) + sum(1 + len(stage.instructions) for stage in stages)
        number = 0
        for instruction in before:
            number += 1
            await self._step(number, total, instruction.code)
            known = self.arguments.known_to_from()
            for name, default in instruction.pairs:
                value = None if default is None else expanded(default, known, self.escape)
                self.arguments.define(expanded(name, known, self.escape), value, before=True)
        for stage in stages:
            if stage.name and stage.name in [name for name, _ in self.results]:
                raise SystemFailure(f"{stage.name} stage name already used")
            number += 1
            await self._step(number, total, stage.code)
            await self._begin(stage)
            await self.say(f" ---> {short(self.image)}\n")
            for instruction in stage.instructions:
                number += 1
                await self._step(number, total, instruction.code)
                await self.dispatch(instruction)
                await self.say(f" ---> {short(self.image)}\n")
            if self.image:
                await self.tell({"aux": {"ID": self.image}})
            if self.image and stage is not stages[-1]:  # a step that was in the cache may be held by nobody else
                await self.thread(self._held, self.image, "")
            self.results.append((stage.name, self.image))
        if unused := self.arguments.unused():
            await self.say(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n")
        if not self.image:
            raise SystemFailure("No image was generated. Is your Dockerfile empty?")
        if self.options.squash:
            await self._squash()
            await self.tell({"id": "moby.image.id", "aux": {"ID": self.image}})
        await self.say(f"Successfully built {short(self.image)}\n")
        for tag in self.options.tags:
            await self.thread(images.tag, self.engine, self.image, tag)
            await self.say(f"Successfully tagged {tag.familiar}\n")
        if self.options.quiet:
            await self.messages.put({"stream": f"{self.image}\n"})

    async def _squash(self) -> None:
        """What the last stage has put on its base becomes one layer; nothing, and the image stays as it is."""
        squashing = await self.thread(squash.Squashing, self.engine, self.lease, self.image, self.begun)
        if not squashing.layers:
            return
        upper, work = self.files.folder(), self.files.folder()
        settings = self.engine.settings
        layers = [[layer_path(settings, layer.directory)] for layer in squashing.layers]
        sources = [await self.thread(self.lower_paths, self.begun), *layers]
        await self.files.done(
            {
                "do": "squash",
                "staging": self.files.staging,
                "target": build_files.tree(upper=upper, work=work),
                "sources": [(build_files.tree(paths), []) for paths in sources],
            }
        )
        self.image = (await self.thread(squashing.register, upper)).id

    async def _step(self, number: int, total: int, code: str) -> None:
        await self.say(f"Step {number}/{total} : {code}")
        await self.say("\n")

    async def _begin(self, stage: "Stage") -> None:
        """FROM: the base image, and its triggers."""
        known = self.arguments.known_to_from()
        self.cache = await self.thread(self._cache) if self.options.cache_from else self._cache()
        platform = expanded(stage.platform, known, self.escape) or self.options.platform
        name = expanded(stage.base, known, self.escape)
        if not name:
            raise SystemFailure(f"base name ({stage.base}) should not be blank")
        self.image = self.begun = await self.base(name, platform)
        config: dict[str, Any] = {}
        if self.image:
            config = images.find(self.engine, self.image).config.get("config") or {}
        config = configuration.begin(container_config.whole(config))
        triggers, config["OnBuild"] = config.get("OnBuild") or [], None
        self.state = configuration.State(config, self.arguments.stage(), self.escape)
        if triggers:
            await self.say(f"# Executing {len(triggers)} build trigger{'s' if len(triggers) > 1 else ''}\n")
        for trigger in triggers:
            await self.dispatch(instructions.one(trigger))

    def _cache(self) -> Cache:
        return Cache(self.engine, self.lease, self.options.cache_from, off=self.options.no_cache)

    async def base(self, name: str, platform: str, *, pulls: bool = True) -> str:
        """The image of a stage, of this machine or of a registry; empty for `scratch`. It stays while we build."""
        for known, image_id in self.results:
            if known and known == name.lower():
                return image_id
        if name == "scratch":
            return ""
        if not self.options.pull or not pulls:
            try:
                return await self.thread(self._held, name, platform)
            except NotFound:
                if not pulls:
                    raise
        from service.engine import pull  # it brings a client for HTTP, which takes longer to load than most builds

        reference = references.parse(name)
        async for message in pull.pull(self.engine, reference, self.options.credentials(reference), platform):
            await self.tell(message)
        return await self.thread(self._held, name, platform)

    def _held(self, name: str, platform: str) -> str:
        with self.engine.store.write(durable=False):
            found = images.find(self.engine, name, platform)
            self.lease.hold(found.id, *(layer.chain_id for layer in store.layers_of(self.engine.store, found.id)))
        return found.id

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def dispatch(self, instruction: "Instruction") -> None:
        """One instruction. Its containers go when that is asked for."""
        self.state.config["Image"] = self.image
        removes = self.options.force_remove
        try:
            self.state.expand(instruction)
            for flag in _REFUSED.get(instruction.name, ()):
                if flag in instruction.flags:
                    raise SystemFailure(NEEDS_BUILDKIT.format(flag))
            if configuration.applies(instruction):
                await self._configure(instruction)
            elif instruction.name == "workdir":
                await self._work_directory(instruction)
            elif instruction.name == "run":
                await self._run_command(instruction)
            else:
                await copied(self, instruction)
            removes = removes or self.options.remove
        finally:
            if removes and not self.abandoned:
                await self.remove_containers(tell=True)

    def shell(self) -> "list[str]":
        """What the shell form is run by."""
        return list(self.state.config.get("Shell") or configuration.SHELL)

    async def cached(self, config: "dict[str, Any]") -> bool:
        """Whether this step was made before; the build goes on from there then."""
        if self.cache.asked:
            found = await self.thread(self.cache.find, self.image, config)
        else:
            found = self.cache.find(self.image, config)
        if not found:
            return False
        await self.say(" ---> Using cache\n")
        self.image = found
        return True

    async def _configure(self, instruction: "Instruction") -> None:
        before = self.state.config.get("Healthcheck") or {}
        told = configuration.apply(self.state, instruction)
        if instruction.name == "healthcheck":  # what an earlier one has set stays where this one says nothing
            self.state.config["Healthcheck"] = {**before, **self.state.config["Healthcheck"]}
        notes, self.state.notes = self.state.notes, []
        for note in notes:
            await self.say(note)
        config = {**self.state.config, "Cmd": [*self.shell(), "#(nop) ", told]}
        if not await self.cached(config):
            container_id = await self.container(config)
            await self.commit(config, container_id, changed=False)

    async def _work_directory(self, instruction: "Instruction") -> None:
        told = configuration.work_directory(self.state, instruction)
        config = {**self.state.config, "Cmd": [*self.shell(), f"#(nop) {told}"]}
        if await self.cached(config):
            return
        container_id = await self.container(config, self.state.config["WorkingDir"])
        await self.commit(config, container_id)

    def lower_paths(self, image: str) -> "list[str]":
        """The directories of an image's layers, the uppermost first."""
        if not image:
            return []
        found = images.find(self.engine, image)
        return [layer_path(self.engine.settings, layer) for layer in reversed(found.layers)]

    async def _run_command(self, instruction: "Instruction") -> None:
        command = self._command(instruction)
        environment = list(self.state.config.get("Env") or ())
        given = [f"{name}={value}" for name, value in self.state.arguments.beside(environment).items()]
        counted = sorted(word for word in given if self.state.arguments.in_history(word.partition("=")[0]))
        saved = [f"|{len(counted)}", *counted, *command] if given else command
        probe = {**self.state.config, "Cmd": saved, "Entrypoint": None if saved else self.state.config["Entrypoint"]}
        if await self.cached(probe):
            return
        config = {
            **self.state.config,
            "Cmd": command,
            "Env": [*environment, *given],
            "Entrypoint": [""] if saved else self.state.config["Entrypoint"],
            "Healthcheck": {"Test": ["NONE"]},
        }
        container_id = await self.container(config)
        code, error = await self._ran(container_id)
        if code:
            reason = f": {error}" if error else ""
            raise CommandFailed(f"The command '{' '.join(command)}' returned a non-zero code: {code}{reason}", code)
        await self.commit(probe, container_id)

    def _command(self, instruction: "Instruction") -> "list[str]":
        """What RUN runs: a heredoc alone is the shell's text, one among words goes to the shell with them."""
        if not instruction.heredocs:
            return self.state.command(instruction)
        text = instruction.arguments[0]
        if heredoc_of(text) is None:
            whole = "\n".join([text, *(heredoc.content + heredoc.name for heredoc in instruction.heredocs)])
            return [*self.shell(), whole]
        script = instruction.heredocs[0].text
        if script.startswith("#!"):
            raise SystemFailure("RUN with a heredoc that names its own interpreter (#!) requires BuildKit")
        return [*self.shell(), script]

    async def _ran(self, container_id: str) -> "tuple[int, str]":
        """Run a container to its end, telling what it writes; its exit code, and why it did not start."""
        import codecs

        decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in (1, 2)}

        async def told(stream: int, data: bytes) -> None:
            if text := decoders[stream].decode(data):
                await (self.say(text) if stream == 1 else self.complain(text))

        return await build_run.ran(self.engine, container_id, told)

    async def container(self, config: "dict[str, Any]", folder: str = "") -> str:
        """Create the container of a step, with a directory in it. A directory that cannot be made: no container."""
        container_id, warnings = await self.thread(self._create, config)
        if folder:
            home = self.engine.settings.container_root(container_id)
            target = build_files.tree(await self.thread(self.lower_paths, self.image), home + "/diff", home + "/work")
            try:
                await self.files.make(target, folder)
            except MoorageError:
                await self.remove_containers(tell=False)
                raise
        for warning in warnings:
            await self.say(f" ---> [Warning] {warning}\n")
        await self.say(f" ---> Running in {short(container_id)}\n")
        return container_id

    def _removes(self) -> bool:
        """Whether the containers of a step that went well are removed."""
        return self.options.remove or self.options.force_remove

    def _create(self, config: "dict[str, Any]") -> "tuple[str, list[str]]":
        request = {**config, "Image": self.image, "HostConfig": dict(self.options.host)}
        made = create.create(
            self.engine,
            "",
            request,
            lease=self.lease.owner,
            volatile=self._removes(),
            from_nothing=not self.image,
        )
        self.created.append(made[0])
        return made

    async def remove_containers(self, *, tell: bool) -> None:
        """Remove the containers of the present step, whatever they are doing."""
        for container_id in list(self.created):
            try:
                await lifecycle.delete(self.engine, container_id, force=True, volumes=True, link=False)
            except NotFound:
                pass
            except MoorageError as error:
                await self.say(f"Removing intermediate container {short(container_id)}: {error.message}\n")
                continue
            self.created.remove(container_id)
            await self.thread(self._let_go, container_id)
            if tell:
                await self.say(f" ---> Removed intermediate container {short(container_id)}\n")

    def _let_go(self, container_id: str) -> None:
        with self.engine.store.write():
            store.let_go(self.engine.store, self.lease.owner, create.LEASED + container_id)

    async def commit(self, config: "dict[str, Any]", container_id: str = "", *, changed: bool = True) -> None:
        """Make the image of a step from its container; `config` is what the cache compares. `changed`: its files may
        be."""
        upper = self.engine.settings.container_root(container_id) + "/diff" if changed else ""
        await self.commit_files(config, upper, container_id)

    async def commit_files(self, config: "dict[str, Any]", upper: str, container_id: str = "") -> None:
        """Make the image of a step from what was written over its base."""
        step = child_image.Step(
            {**self.state.config, "Image": self.image},
            {**config, "Image": self.image},
            container_id=container_id,
            author=self.state.author,
            platform=self.platform,
        )
        self.image = await self.thread(self._commit, step, upper)

    def _commit(self, step: child_image.Step, upper: str) -> str:
        base = child_image.Base(self.engine, self.lease, self.image)
        if not upper:
            layer = None
        elif step.container_id and not self._removes():
            layer = base.layer(upper)  # the container stays, and is a user's from now on
        else:
            layer = base.taken(upper)
            os.makedirs(upper, 0o755, exist_ok=True)  # until it is removed, the container is one like any other
        return child_image.create(base, layer, step).id


def reconcile(engine: "Engine") -> None:
    """At start: remove what builds left that were killed. Blocking."""
    from service.engine import remove

    for name in store.abandoned(engine.store):
        if not name.startswith(create.LEASED):
            continue
        container_id = name.removeprefix(create.LEASED)
        try:
            _end(engine, container_id)
            remove.remove(engine.settings, engine.store, container_id, container_id, anonymous_volumes=True)
        except NotFound:
            continue
        except (MoorageError, OSError) as error:
            engine.log(f"reconcile: container {container_id} of a build: {error}")
            with engine.store.write():  # the leases of the dead go next: by ours, the next process finds it
                store.lease(engine.store, store.lease_owner(), [name], timestamps.now_ns())
    build_files.remove_leftovers(engine.settings)


def _end(engine: "Engine", container_id: str) -> None:
    """Kill a container that runs; its exit hook records the end. Raises NotFound."""
    from service.kernel import pidfd
    from service.kernel.signals import KILL
    from service.runtime import runc

    state = containers.get(engine.store, container_id)["state"]
    if state["status"] not in ("running", "paused"):
        return
    try:
        runc.kill(engine.settings, container_id, KILL)
        if state["status"] == "paused":
            pause.resume(engine.settings, engine.store, container_id)
    except (NotFound, Conflict):
        pass  # it has just ended, or goes on already
    pidfd.wait_gone(state["conmon_pid"], lifecycle.KILL_GRACE, state["conmon_start"])
