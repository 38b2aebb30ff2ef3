"""The environment variables of a container's processes: Docker's own, then the container's, later ones winning."""

from service.settings import PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def environment(
    config_env: "Sequence[str] | None", *, hostname: str, terminal: bool, linked: "Sequence[str]" = ()
) -> list[str]:
    """PATH, HOSTNAME and, with a terminal, TERM; then `linked` (legacy links); then Config.Env over all of them.

    HOME comes from the runtime, which reads it from the container's passwd when nobody set it.
    """
    own = ["PATH=" + PATH]
    if hostname:
        own.append("HOSTNAME=" + hostname)
    if terminal:
        own.append("TERM=xterm")
    return merge([*own, *linked], config_env or ())


def merge(base: "Sequence[str]", override: "Sequence[str]") -> list[str]:
    """`base` with `override` laid over it in place; a name without `=` takes the variable away."""
    order: dict[str, str | None] = {}
    for entry in base:
        order[entry.partition("=")[0]] = entry
    for entry in override:
        name, equals, _ = entry.partition("=")
        order[name] = entry if equals else None
    return [entry for entry in order.values() if entry is not None]
