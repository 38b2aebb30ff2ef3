"""The OCI process of an exec session: the container's own process with what was asked for laid over it. Pure."""

from service.runtime import capabilities, environment, spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from service.runtime.users import User


def process(
    of_container: "dict[str, Any]",
    *,
    command: "Sequence[str]",
    env: "Sequence[str]",
    working_dir: str,
    user: "User | None",
    privileged: bool,
    terminal: bool,
    console_size: "Sequence[int] | None" = None,
    available: "Sequence[str]" = capabilities.NAMES,
) -> "dict[str, Any]":
    """`of_container` is `process` of the container's config.json: limits, no-new-privileges and profiles stay its own.

    `user` is None for the container's own; `working_dir` "" likewise. `privileged` gives every capability of
    `available`, and nothing else of what a privileged container has (API: ContainerExec, as dockerd).
    """
    made = dict(of_container)
    made.pop("consoleSize", None)
    made["args"] = list(command)
    made["terminal"] = terminal
    made["env"] = environment.merge(_environment(of_container, terminal), env)
    made["cwd"] = working_dir or of_container["cwd"]
    if terminal and console_size and any(console_size):
        height, width = (*console_size, 0)[:2]
        made["consoleSize"] = {"height": height, "width": width}
    if user is not None:
        made["user"] = spec.user_of(user)
    uid = made["user"]["uid"]
    bounding = list(available) if privileged else of_container["capabilities"]["bounding"]
    made["capabilities"] = spec.capability_sets(bounding, uid)
    return made


def _environment(of_container: "dict[str, Any]", terminal: bool) -> list[str]:
    """The container's environment, with Docker's TERM only where this process has a terminal."""
    env: list[str] = of_container["env"]
    if terminal:
        return env if any(entry.startswith("TERM=") for entry in env) else [*env, "TERM=xterm"]
    return [entry for entry in env if entry != "TERM=xterm"] if of_container["terminal"] else env
