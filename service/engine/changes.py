"""Dockerfile instructions that change an image's configuration: `import --change`, `commit --change`."""

from service.builder import configuration, instructions
from service.builder.arguments import Arguments
from service.builder.dockerfile import BadDockerfile, parse
from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_ALLOWED = frozenset(
    ("cmd", "entrypoint", "healthcheck", "env", "expose", "label", "onbuild", "stopsignal", "user", "volume", "workdir")
)


def apply(config: "dict[str, Any]", changes: "Sequence[str]") -> None:
    """Change `config` (Docker's ContainerConfig) by instructions. Raises InvalidParameter."""
    if not changes:
        return
    try:
        dockerfile = parse("\n".join(changes))
        for line in dockerfile.lines:
            if line.name not in _ALLOWED:
                raise InvalidParameter(f"{line.word} is not a valid change command")
        understood = [instructions.understood(line) for line in dockerfile.lines]
        state = configuration.State(config, Arguments({}), dockerfile.escape)
        for instruction in understood:
            state.expand(instruction)
            if instruction.name == "workdir":
                configuration.work_directory(state, instruction)
            else:
                configuration.apply(state, instruction)
    except BadDockerfile as error:
        raise InvalidParameter(str(error)) from None
