"""RUN of a BuildKit build: a command in a hidden container, and the layer of what it has written."""

import os
import re

from service.builder import configuration, run_mounts
from service.builder.arguments import PREDEFINED
from service.builder.dockerfile import BadDockerfile, heredoc_of
from service.content import platforms
from service.engine import build_run, container_config, solve_mounts, solve_steps
from service.engine.solving import NETWORK_HOST, SECURITY_INSECURE
from service.errors import InvalidParameter, MoorageError, StartRefused, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from service.builder.instructions import Instruction
    from service.builder.run_mounts import RunMount
    from service.engine.solve import Solve
    from service.engine.solve_image import Built
    from service.engine.solve_told import Step
    from service.store.images import LayerRow

SANDBOX = "buildkitsandbox"  # the name of the machine that a step sees
_UNKNOWN_FORMAT = b"exec format error"


def mounts_of(built_working: str, instruction: "Instruction", expand: "Callable[[str], str]") -> "list[RunMount]":
    """The mounts of a RUN. Raises BadDockerfile."""
    return [
        run_mounts.placed(run_mounts.parse(text, expand), built_working) for text in instruction.flags.get("mount", ())
    ]


def command(built: "Built", instruction: "Instruction") -> "list[str]":
    """What RUN runs: a heredoc alone is the shell's text (or a program, with #!), others go to the shell."""
    state = built.state
    shell = list(state.config.get("Shell") or configuration.SHELL)
    if not instruction.heredocs:
        return state.command(instruction)
    text = instruction.arguments[0]
    if heredoc_of(text) is None:
        return [*shell, "\n".join([text, *(heredoc.content + heredoc.name for heredoc in instruction.heredocs)])]
    heredoc = instruction.heredocs[0]
    if heredoc.text.startswith("#!"):
        return [*shell, f"/dev/pipes/{heredoc.name}"]
    return [*shell, heredoc.text]


async def run(solve: "Solve", built: "Built", instruction: "Instruction", step: "Step") -> None:
    """RUN."""
    from contextlib import AsyncExitStack

    state = built.state
    words = command(built, instruction)
    environment = state.environment()
    variables = state.variables()
    counted = [f"{name}={variables.get(name, '')}" for name in dict.fromkeys(state.arguments.declared)]
    proxies = {f"{name}=" for name in PREDEFINED - set(state.arguments.defined)}
    saved = [f"|{len(counted)}", *counted, *words] if counted else words
    if device := instruction.flag("device"):
        raise InvalidParameter(f"failed to load LLB: device {device} is requested by the build but not registered")
    network, security = _allowed(solve, instruction)
    mounts = mounts_of(state.config.get("WorkingDir") or "", instruction, solve.expander(built))
    async with AsyncExitStack() as stack:
        origins = [await solve_mounts.origin(solve, mount) for mount in mounts]
        contents = [
            await solve_mounts.content(solve, mount, origin) for mount, origin in zip(mounts, origins, strict=True)
        ]
        key = solve_steps.hashed(
            "run",
            solve_steps.chain(built.layers),
            saved,
            [variable for variable in environment if f"{variable.partition('=')[0]}=" not in proxies],
            state.config.get("WorkingDir") or "",
            state.config.get("User") or "",
            network,
            security,
            contents,
            solve.host_key,
            [heredoc.text for heredoc in instruction.heredocs],
        )

        async def work() -> "LayerRow":
            host = {**solve.host, "NetworkMode": network, "Privileged": security == "insecure"}
            whole = container_config.whole(
                {
                    **{name: state.config.get(name) for name in ("User", "WorkingDir")},
                    "Hostname": solve.attributes.get("hostname") or SANDBOX,
                    "Env": [*environment, "HOSTNAME"],
                    "Cmd": words,
                }
            )
            container = build_run.HiddenContainer(
                solve.engine,
                solve.lease,
                layers=[layer.directory for layer in built.layers],
                config=whole,
                host=host,
            )
            unknown = False  # whether the kernel knew no way to run it

            async def told(stream: int, data: bytes) -> None:
                nonlocal unknown
                unknown = unknown or _UNKNOWN_FORMAT in data
                await step.log(stream, data)

            async with container:
                for mount, origin in zip(mounts, origins, strict=True):
                    await solve_mounts.mount(solve, stack, container, mount, origin)
                await _scripts(solve, container, instruction)
                stubs = await solve.thread(
                    _missing, solve.lower(built.layers), [p["Destination"] for p in container.mounts]
                )
                await container.create()
                try:
                    code, _ = await build_run.ran(solve.engine, container.id, told)
                except StartRefused as error:
                    said = error.message[error.message.find("unable to start") :].removesuffix(": unknown")
                    await step.log(2, f"runc run failed: {said}\n".encode())
                    code = 1
                if code and unknown and built.is_foreign(solve.here):
                    text = f"this machine ({platforms.text(solve.here)}) has no binfmt_misc handler for such programs\n"
                    await step.log(2, text.encode())
                if code:
                    raise SystemFailure(f'process "{" ".join(words)}" did not complete successfully: exit code: {code}')
                await solve.thread(_clean, container.upper, stubs)
                return await solve.thread(solve_steps.layer_of, solve, built.layers, container.upper)

        try:
            made = await solve_steps.kept(
                solve,
                step,
                key,
                f"mount / from exec {' '.join(words)}",
                work,
                ignores_cache=solve.ignores_cache(built),
            )
        except MoorageError as error:
            if isinstance(error, SystemFailure):
                raise
            said = re.sub(
                r"/\S+/sources/[0-9a-f]+-[0-9]+", "", error.message
            )  # where a mount's source is on this machine
            raise SystemFailure(f'process "{" ".join(words)}" did not complete successfully: {said}') from None
    built.step(f"RUN {' '.join(saved)} # buildkit", *made)


def _allowed(solve: "Solve", instruction: "Instruction") -> "tuple[str, str]":
    """Network mode and security mode of a step. Raises BadDockerfile, InvalidParameter."""
    network = instruction.flag("network") or solve.attributes.get("force-network-mode") or "default"
    security = instruction.flag("security") or "sandbox"
    if network not in ("default", "none", "host"):
        raise BadDockerfile(f'dockerfile parse error on line {instruction.number}: invalid network mode "{network}"')
    if security not in ("sandbox", "insecure"):
        raise BadDockerfile(f'dockerfile parse error on line {instruction.number}: security "{security}" is not valid')
    if network == "host" and NETWORK_HOST not in solve.request.entitlements:
        raise InvalidParameter(f"failed to load LLB: {NETWORK_HOST} is not allowed")
    if security == "insecure" and SECURITY_INSECURE not in solve.request.entitlements:
        raise InvalidParameter(f"failed to load LLB: {SECURITY_INSECURE} is not allowed")
    return network, security


async def _scripts(solve: "Solve", container: build_run.HiddenContainer, instruction: "Instruction") -> None:
    """A heredoc that names its own interpreter is a file that is run."""
    if not instruction.heredocs or not container.config["Cmd"][-1].startswith("/dev/pipes/"):
        return
    heredoc = instruction.heredocs[0]
    path = await solve.thread(solve.private_file, heredoc.text.encode("utf-8", "replace"), 0o755, 0, 0)
    container.mounts.append(solve_mounts.point("bind", path, f"/dev/pipes/{heredoc.name}", writable=False))


def _missing(layers: "Sequence[str]", targets: "Sequence[str]") -> "list[str]":
    """The paths that the runtime has to make for mounts, the deepest first. Blocking."""
    found: list[str] = []
    for target in targets:
        parts = target.strip("/").split("/")
        for count in range(len(parts), 0, -1):
            path = "/".join(parts[:count])
            if any(os.path.lexists(f"{layer}/{path}") for layer in layers):
                break
            if path not in found:
                found.append(path)
    return sorted(found, key=lambda path: -path.count("/"))


def _clean(upper: str, stubs: "Sequence[str]") -> None:
    """Take away what was made for mounts only, where nothing else has come to be in it. Blocking."""
    for path in stubs:
        full = f"{upper}/{path}"
        above = os.path.dirname(full)
        if os.path.realpath(above) != above:
            continue  # a link that the step made
        before = os.stat(above) if os.path.isdir(above) else None
        try:
            if os.path.isdir(full) and not os.path.islink(full):
                os.rmdir(full)
            elif os.path.isfile(full) and not os.path.islink(full) and not os.path.getsize(full):
                os.unlink(full)
            else:
                continue
        except OSError:
            continue  # the step has put something there
        if before is not None:
            os.utime(above, ns=(before.st_atime_ns, before.st_mtime_ns))
