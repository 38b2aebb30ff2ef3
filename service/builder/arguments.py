"""Build arguments: what ARG defines, what the client gives, and where each is known (Dockerfile reference, "ARG")."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREDEFINED = frozenset(
    name
    for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (proxy, proxy.lower())
)  # known without ARG, and kept out of history and cache


def of_platforms(build: "Sequence[str]", target: "Sequence[str]") -> "dict[str, str]":
    """What FROM knows of platforms, and what an ARG of the same name brings into a stage.

    Platforms are os, architecture and variant (which may be empty).
    """
    found = {}
    for name, platform in (("BUILD", build), ("TARGET", target)):
        system, architecture, variant = (*platform, "", "", "")[:3]
        found[f"{name}PLATFORM"] = "/".join(part for part in (system, architecture, variant) if part)
        found[f"{name}OS"], found[f"{name}ARCH"], found[f"{name}VARIANT"] = system, architecture, variant
        found[f"{name}OSVERSION"] = ""  # what only Windows has
    return found


class Arguments:
    """The arguments of one stage; `given`: the client's (None: it names one without a value)."""

    def __init__(
        self, given: "Mapping[str, str | None]", build: "Sequence[str]" = (), target: "Sequence[str]" = ()
    ) -> None:
        self.given = given
        self.defined: dict[str, str | None] = {}  # by ARG in this stage, with its default
        self.declared: list[str] = []  # the names of all its ARGs, as often as they stand there
        # by ARG before the first FROM; and the platforms, where they are known
        self.before: dict[str, str | None] = {**of_platforms(build, target)} if build else {}
        self.used: set[str] = set()

    def stage(self, base: "Arguments | None" = None) -> "Arguments":
        """Those of a new stage; `base`: those of the stage that it begins with, which it knows as well."""
        fresh = Arguments(self.given)
        fresh.before, fresh.used = self.before, self.used
        if base is not None:
            fresh.defined, fresh.declared = dict(base.defined), list(base.declared)
        return fresh

    def define(self, name: str, default: "str | None", *, before: bool = False) -> None:
        """ARG name=default."""
        self.defined[name] = default
        self.declared.append(name)
        self.used.add(name)
        if before:
            self.before[name] = default

    def proxies(self) -> "dict[str, str]":
        """The proxies that the client gives, by their names in capital letters and in small ones."""
        found = {}
        for name in sorted(PREDEFINED):  # of two that differ in case alone, that in small letters counts
            value = self.given.get(name)
            if value is not None:
                found[name.upper()] = found[name.lower()] = value
        return found

    def known(self) -> "dict[str, str]":
        """What instructions of the stage see."""
        return self._values(self.defined)

    def known_to_from(self) -> "dict[str, str]":
        """What FROM sees."""
        return self._values(self.before)

    def beside(self, environment: "Sequence[str]") -> "dict[str, str]":
        """What is known, without what ENV has set."""
        named = {variable.partition("=")[0] for variable in environment}
        return {name: value for name, value in self.known().items() if name not in named}

    def in_history(self, name: str) -> bool:
        """Whether an argument is told in the image's history, and counts for the cache."""
        return name in self.defined or name not in PREDEFINED

    def unused(self) -> "list[str]":
        """The client's arguments that no ARG asked for."""
        return sorted(name for name in self.given if name not in PREDEFINED and name not in self.used)

    def _values(self, source: "Mapping[str, str | None]") -> "dict[str, str]":
        found: dict[str, str] = {}
        for name in (*source, *sorted(PREDEFINED - set(source))):
            value = self.given.get(name)
            if value is None:
                value = source.get(name)
            if value is None:
                value = self.before.get(name)
            if value is not None:
                found[name] = value
        return found
