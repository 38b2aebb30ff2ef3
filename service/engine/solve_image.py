"""The configuration of an image as BuildKit's frontend writes it, step by step. Pure.

Source: behaviour of buildkit's frontend/dockerfile/dockerfile2llb and exporter/containerimage.
"""

from service import jsontext, timestamps
from service.builder import configuration
from service.builder.arguments import Arguments
from service.builder.dockerfile import BadDockerfile
from service.builder.ports import exposed
from service.builder.words import BadWord, expanded, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from service.builder.instructions import Instruction
    from service.store.images import LayerRow

_SHELLS = ("cmd", "entrypoint", "run")  # whose shell form may be empty
COMMENT = "buildkit.dockerfile.v0"
_CONFIG = (
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "ArgsEscaped",
    "Healthcheck",
    "OnBuild",
    "Shell",
)  # fmt: skip - the keys of an image's config, in the order in which BuildKit writes them


class LaterState(configuration.State):
    """A stage's configuration in which ARG and ENV are one: of two that set a variable the later counts."""

    def __init__(self, config: "dict[str, Any]", arguments: Arguments, escape: str = "\\") -> None:
        super().__init__(config, arguments, escape)
        self.values: dict[str, str] = {}  # what this stage has set

    def variables(self) -> "dict[str, str]":
        """What a `$name` can mean."""
        return {**super().variables(), **self.values}

    def expand(self, instruction: "Instruction") -> None:
        """As elsewhere; a shell that is given nothing is given an empty text, and no directory is the present one. An
        argument may be the value of the next one: ARG sees to its own."""
        if instruction.name == "arg":
            return
        super().expand(instruction)
        if instruction.name in _SHELLS and not instruction.is_json and not instruction.arguments:
            instruction.arguments = [""]
        elif instruction.name == "workdir" and instruction.arguments == [""]:
            instruction.arguments = ["."]

    def word(self, text: str) -> str:
        """A word with its variables replaced. Raises BadDockerfile."""
        try:
            return expanded(text, self.variables(), self.escape)
        except BadWord as error:
            raise BadDockerfile(str(error)) from None

    def environment(self) -> "list[str]":
        """What a command sees."""
        pairs = (variable.partition("=")[::2] for variable in self.config.get("Env") or ())
        known = {**dict(pairs), **self.variables()}
        known = {**self.arguments.proxies(), **known}
        return [f"{name}={value}" for name, value in known.items()]


class Built:
    """A stage as far as it has come: its layers, and all that its configuration will say."""

    def __init__(self, state: LaterState, base: "dict[str, Any]", layers: "Sequence[LayerRow]") -> None:
        """`base`: the whole configuration of the image that it begins with; empty for none."""
        self.state, self.base = state, base
        self.layers = list(layers)
        self.keys = [""] * len(self.layers)  # of the steps that made the layers; empty for those of the base
        self.inherited = len(self.layers)  # how many of them no build has made that can be told about
        self.author: str = base.get("author") or ""
        self.history: list[dict[str, Any]] = [dict(entry) for entry in base.get("history") or ()]
        self._undated: list[dict[str, Any]] = []
        self.stage_name = ""
        self.platform: Sequence[str] | None = None  # what was asked for; None: what the base is made for
        self.epoch: int | None = None  # seconds since 1970 that no time in the configuration may be later than
        self.created = ""  # of the last step that made a layer

    def next(self, arguments: Arguments) -> "Built":
        """A stage that begins where this one ended."""
        state = LaterState(jsontext.loads(jsontext.dumps(self.state.config)), arguments, self.state.escape)
        fresh = Built(state, {**self.base, "author": self.author}, self.layers)
        fresh.keys, fresh.inherited = list(self.keys), self.inherited
        fresh.history = [dict(entry) for entry in self.history]
        fresh._undated = [entry for entry in fresh.history if not entry.get("created")]
        fresh.created, fresh.platform = self.created, self.platform
        return fresh

    def is_foreign(self, here: "Sequence[str]") -> bool:
        """Whether it is made for another kind of machine than `here` (os, architecture, variant)."""
        architecture = self.platform[1] if self.platform is not None else self.base.get("architecture")
        return bool(architecture) and architecture != here[1]

    def step(self, created_by: str, layer: "LayerRow | None" = None, created: str = "", key: str = "") -> None:
        """Note a step; one without a layer has the time of the next one that has one."""
        entry: dict[str, Any] = {"created": created, "created_by": created_by, "comment": COMMENT}
        if layer is None:
            entry["created"] = self.created
            entry["empty_layer"] = True
            if not self.created:
                self._undated.append(entry)
        else:
            self.layers.append(layer)
            self.keys.append(key)
            self.created = created
            for earlier in self._undated:
                earlier["created"] = created
            self._undated = []
        self.history.append(entry)

    def configure(self, instruction: "Instruction") -> None:
        """Apply an instruction that changes the configuration only. Raises BadDockerfile, InvalidParameter."""
        name, state = instruction.name, self.state
        if name == "onbuild":
            configuration.apply(state, instruction)
            return  # the history does not tell it
        if name == "expose":
            self.step(_expose(state, instruction))
            return
        if name == "arg":
            self.step(_arguments(state, instruction))
            return
        told = configuration.apply(state, instruction)
        state.notes = []
        if name == "env":
            state.values.update((variable, value or "") for variable, value in instruction.pairs)
        if name == "cmd":
            state.config["ArgsEscaped"] = True
        elif name == "maintainer":
            self.author = state.author
        self.step(told)

    def document(self, platform: "Sequence[str]") -> bytes:
        """The whole configuration."""
        system, architecture, variant = (*platform, "", "", "")[:3]
        if self.platform is not None:
            system, architecture, variant = self.platform
        elif self.base:
            architecture, variant = self.base.get("architecture") or architecture, self.base.get("variant") or variant
            system = self.base.get("os") or system
        created = self.created or self.base.get("created") or timestamps.now()
        history = [{**entry, "created": entry["created"] or created} for entry in self.history] if self.history else []
        if self.epoch is not None:
            latest = timestamps.rfc3339(self.epoch * 1_000_000_000)
            created = min(created, latest)
            history = [{**entry, "created": min(entry["created"], latest)} for entry in history]
        config = self.state.config
        document = {
            "architecture": architecture,
            **({"variant": variant} if variant else {}),
            **({"author": self.author} if self.author else {}),
            "config": {key: config[key] for key in _CONFIG if config.get(key)},
            "created": created,
            "history": history,
            "os": system,
            **{key: self.base[key] for key in ("os.version", "os.features") if self.base.get(key)},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
        }
        return jsontext.dump_bytes(document)


def _arguments(state: LaterState, instruction: "Instruction") -> str:
    """ARG: what it defines, one after the other; how the history tells it."""
    shown = []
    for name, default in instruction.pairs:
        given = state.arguments.given.get(name) is not None
        value = default if default is None or given else state.word(default)
        state.arguments.define(name, value)
        known = state.arguments.known().get(name)
        if known is not None:
            state.values[name] = known
        shown.append(name if known is None else f"{name}={known}")
    return f"ARG {' '.join(shown)}"


def _expose(state: LaterState, instruction: "Instruction") -> str:
    """EXPOSE: more ports; how the history tells it. Raises BadDockerfile."""
    try:
        words = [each for text in instruction.arguments for each in split(text, state.variables(), state.escape)]
    except BadWord as error:
        raise BadDockerfile(str(error)) from None
    ports = [port for word in words for port in exposed(word)]
    state.config["ExposedPorts"] = {**(state.config.get("ExposedPorts") or {}), **{port: {} for port in ports}}
    return f"EXPOSE [{' '.join(ports)}]"
