"""The instructions that only change an image's configuration (Docker's ContainerConfig), for build and commit."""

import os

from service.builder.arguments import Arguments
from service.builder.dockerfile import BadDockerfile
from service.builder.words import BadWord, expanded, quoted, split
from service.kernel.signals import signal_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from service.builder.instructions import Instruction

SHELL = ("/bin/sh", "-c")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class State:
    """A stage as far as it has come: its configuration, and what later instructions depend on."""

    def __init__(self, config: "dict[str, Any]", arguments: Arguments, escape: str = "\\") -> None:
        self.config, self.arguments, self.escape = config, arguments, escape
        self.author = ""
        self.has_command = False  # CMD was given in this stage: ENTRYPOINT leaves it then
        self.notes: list[str] = []  # what is to be told beside the step

    def variables(self) -> "dict[str, str]":
        """What a `$name` can mean."""
        environment = self.config.get("Env") or []
        pairs = (variable.partition("=")[::2] for variable in environment)
        return {**self.arguments.beside(environment), **dict(pairs)}

    def expand(self, instruction: "Instruction") -> None:
        """Replace the variables of the instruction where they are replaced. Raises BadDockerfile."""
        if instruction.name not in _EXPANDED or instruction.literal:
            return
        variables = self.variables()

        def word(text: str) -> str:
            try:
                return expanded(text, variables, self.escape)
            except BadWord as error:
                raise BadDockerfile(str(error)) from None

        for flag in ("chown", "chmod", "checksum"):
            if flag in instruction.flags:
                instruction.flags[flag] = [word(instruction.flag(flag))]
        if instruction.pairs:
            instruction.pairs = [
                (word(name), None if value is None else word(value)) for name, value in instruction.pairs
            ]
        elif instruction.name in ("add", "copy") and not instruction.is_json and instruction.heredocs:
            kept = instruction.inline_words
            instruction.arguments = [text if text in kept else word(text) for text in instruction.arguments]
        else:
            instruction.arguments = [word(text) for text in instruction.arguments]

    def command(self, instruction: "Instruction") -> "list[str]":
        """What CMD, ENTRYPOINT or RUN says: the exec form, or the shell form with its shell."""
        if instruction.is_json:
            return list(instruction.arguments)
        words = [" ".join(instruction.arguments)] if instruction.arguments else []
        return [*(self.config.get("Shell") or SHELL), *words]


_EXPANDED = frozenset(("add", "arg", "copy", "env", "label", "stopsignal", "user", "volume", "workdir"))


def begin(config: "dict[str, Any]") -> "dict[str, Any]":
    """The configuration with which a stage begins, from its base image's."""
    fresh = {**config, "OpenStdin": False, "StdinOnce": False}
    environment = list(fresh.get("Env") or ())
    if not any(variable.startswith("PATH=") for variable in environment):
        environment.append(f"PATH={DEFAULT_PATH}")
    fresh["Env"] = environment
    return fresh


def applies(instruction: "Instruction") -> bool:
    """Whether `apply` is all there is to do."""
    return instruction.name in _APPLY


def apply(state: State, instruction: "Instruction") -> str:
    """Apply an instruction whose variables are replaced; how the image's history tells it.

    Raises BadDockerfile, and InvalidParameter for a bad signal.
    """
    return _APPLY[instruction.name](state, instruction)


def work_directory(state: State, instruction: "Instruction", *, as_written: bool = False) -> str:
    """WORKDIR: the new directory, which becomes the stage's; how the history tells it. `as_written`: an absolute one
    stays as it is."""
    asked = instruction.arguments[0]
    if not asked:
        raise BadDockerfile("cannot normalize nothing")
    path = asked if asked.startswith("/") else os.path.join("/", state.config.get("WorkingDir") or "", asked)
    path = path if as_written and asked.startswith("/") else os.path.normpath(path)
    if as_written:
        state.config["WorkingDir"] = path
        return f"WORKDIR {path}"
    state.config["WorkingDir"] = path[1:] if path.startswith("//") else path
    return f"WORKDIR {state.config['WorkingDir']}"


def _env(state: State, instruction: "Instruction") -> str:
    environment = list(state.config.get("Env") or ())
    told = ["ENV"]
    for name, value in instruction.pairs:
        variable = f"{name}={value}"
        told.append(variable)
        for place, known in enumerate(environment):
            if known.partition("=")[0] == name:
                environment[place] = variable
                break
        else:
            environment.append(variable)
    state.config["Env"] = environment
    return " ".join(told)


def _label(state: State, instruction: "Instruction") -> str:
    state.config["Labels"] = {**(state.config.get("Labels") or {}), **dict(instruction.pairs)}
    return " ".join(("LABEL", *(f"{name}={value}" for name, value in instruction.pairs)))


def _arg(state: State, instruction: "Instruction") -> str:
    for name, value in instruction.pairs:
        state.arguments.define(name, value)
    shown = (name if value is None else f"{name}={value}" for name, value in instruction.pairs)
    return f"ARG {' '.join(shown)}"


def _maintainer(state: State, instruction: "Instruction") -> str:
    state.author = instruction.arguments[0]
    return f"MAINTAINER {state.author}"


def _cmd(state: State, instruction: "Instruction") -> str:
    state.config["Cmd"] = state.command(instruction)
    state.has_command = state.has_command or bool(instruction.arguments)
    return f"CMD {_strings(state.config['Cmd'])}"


def _entrypoint(state: State, instruction: "Instruction") -> str:
    state.config["Entrypoint"] = state.command(instruction) if instruction.arguments else None
    if not state.has_command:
        state.config["Cmd"] = None
    return f"ENTRYPOINT {_strings(state.config['Entrypoint'] or ())}"


def _expose(state: State, instruction: "Instruction") -> str:
    words: list[str] = []
    for text in instruction.arguments:
        try:
            words += split(text, state.variables(), state.escape)
        except BadWord as error:
            raise BadDockerfile(str(error)) from None
    ports = dict(state.config.get("ExposedPorts") or {})
    for text in words:
        ports.update({port: {} for port in _ports(text)})
    state.config["ExposedPorts"] = ports
    return f"EXPOSE {' '.join(words)}"


def _ports(text: str) -> "list[str]":
    """80, 80/udp, 8000-8010, with or without a host's part, which means nothing here. Raises BadDockerfile."""
    *host, last = text.split(":")
    numbers, _, protocol = last.partition("/")
    if not numbers:
        raise BadDockerfile(f"no port specified: {text}<empty>")
    protocol = protocol.lower() or "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise BadDockerfile(f"invalid proto: {protocol}")
    first, dash, end = numbers.partition("-")
    if not _is_port(first) or (dash and not (_is_port(end) and int(first) <= int(end))):
        raise BadDockerfile(f"invalid containerPort: {numbers}")
    if host and host[-1] and not all(_is_port(number) for number in host[-1].split("-", 1)):
        raise BadDockerfile(f"invalid hostPort: {host[-1]}")
    return [f"{number}/{protocol}" for number in range(int(first), int(end if dash else first) + 1)]


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 9 and int(text) < 65536


def _user(state: State, instruction: "Instruction") -> str:
    state.config["User"] = instruction.arguments[0]
    return f"USER {instruction.arguments[0]}"


def _volume(state: State, instruction: "Instruction") -> str:
    if not all(instruction.arguments):
        raise BadDockerfile("VOLUME specified can not be an empty string")
    state.config["Volumes"] = {**(state.config.get("Volumes") or {}), **{path: {} for path in instruction.arguments}}
    return f"VOLUME {_listed(instruction.arguments)}"


def _stop_signal(state: State, instruction: "Instruction") -> str:
    signal_number(instruction.arguments[0])
    state.config["StopSignal"] = instruction.arguments[0]
    return f"STOPSIGNAL {instruction.arguments[0]}"


def _onbuild(state: State, instruction: "Instruction") -> str:
    state.config["OnBuild"] = [*(state.config.get("OnBuild") or ()), instruction.arguments[0]]
    return f"ONBUILD {instruction.arguments[0]}"


def _shell(state: State, instruction: "Instruction") -> str:
    state.config["Shell"] = list(instruction.arguments)
    return f"SHELL {_listed(instruction.arguments)}"


def _healthcheck(state: State, instruction: "Instruction") -> str:
    before = (state.config.get("Healthcheck") or {}).get("Test") or []
    if before and before[0] != "NONE":
        state.notes.append(f"Note: overriding previous HEALTHCHECK: {_listed(before)}\n")
    state.config["Healthcheck"] = dict(instruction.health)
    told = [_strings(instruction.health["Test"])]
    for key in ("Interval", "Timeout", "StartPeriod", "StartInterval"):
        told.append(f'"{shown_duration(instruction.health.get(key, 0))}"')
    return f"HEALTHCHECK &{{{' '.join(told)} {_quoted_number(instruction.health.get('Retries', 0))}}}"


def _quoted_number(number: int) -> str:
    """Go's %q of a number: the sign that it is the code of."""
    if not 0 <= number < 0x110000:
        return "'\\ufffd'"
    inside = {'"': '"', "'": "\\'"}.get(chr(number)) or quoted(chr(number))[1:-1]
    return f"'{inside}'"


def shown_duration(nanoseconds: int) -> str:
    """A duration as Go shows it: 0s, 1.5s, 1m30s, 500ms."""
    if nanoseconds < 1_000_000_000:
        for unit, name in ((1_000_000, "ms"), (1_000, "µs"), (1, "ns")):
            if nanoseconds >= unit:
                return f"{_decimal(nanoseconds, unit)}{name}"
        return "0s"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    above = (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "")
    return f"{above}{_decimal(rest, 1_000_000_000)}s"


def _decimal(number: int, unit: int) -> str:
    whole, fraction = divmod(number, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)


def _strings(words: "Sequence[str]") -> str:
    """Go's %q of a list."""
    return f"[{' '.join(quoted(word) for word in words)}]"


def _listed(words: "Sequence[str]") -> str:
    """Go's %v of a list."""
    return f"[{' '.join(words)}]"


_APPLY: "dict[str, Callable[[State, Instruction], str]]" = {
    "arg": _arg,
    "cmd": _cmd,
    "entrypoint": _entrypoint,
    "env": _env,
    "expose": _expose,
    "healthcheck": _healthcheck,
    "label": _label,
    "maintainer": _maintainer,
    "onbuild": _onbuild,
    "shell": _shell,
    "stopsignal": _stop_signal,
    "user": _user,
    "volume": _volume,
}
