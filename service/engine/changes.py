"""Dockerfile instructions that change an image's configuration: `import --change`, `commit --change`."""

from service import jsontext
from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_ALLOWED = frozenset(
    ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
)


def apply(config: "dict[str, Any]", changes: "Sequence[str]") -> None:
    """Change `config` (OCI image-spec's, with Docker's keys) by instructions. Raises InvalidParameter."""
    for change in changes:
        for line in change.splitlines():
            if line.strip():
                _apply_one(config, line.strip())


def _apply_one(config: "dict[str, Any]", line: str) -> None:
    given, _, rest = line.partition(" ")
    word, rest = given.upper(), rest.strip()
    if word not in _ALLOWED:
        raise InvalidParameter(f"{given} is not a valid change command")
    if not rest:
        raise InvalidParameter(f"{word} requires at least one argument")
    if word in ("CMD", "ENTRYPOINT"):
        config["Cmd" if word == "CMD" else "Entrypoint"] = _command(rest)
        if word == "ENTRYPOINT":
            config.pop("Cmd", None)
    elif word == "ENV":
        kept = config.get("Env") or []
        for name, value in _pairs(rest, word):
            kept = [entry for entry in kept if entry.partition("=")[0] != name] + [f"{name}={value}"]
        config["Env"] = kept
    elif word == "LABEL":
        config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(rest, word))}
    elif word == "EXPOSE":
        ports = [port if "/" in port else port + "/tcp" for port in rest.split()]
        if not all(_is_port(port) for port in ports):
            raise InvalidParameter(f"Invalid containerPort: {rest}")
        config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **{port: {} for port in ports}}
    elif word == "VOLUME":
        paths = _json_list(rest) or _words(rest)
        config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in paths}}
    elif word == "WORKDIR":
        base = config.get("WorkingDir") or "/"
        config["WorkingDir"] = rest if rest.startswith("/") else f"{base.rstrip('/')}/{rest}"
    elif word == "USER":
        config["User"] = rest
    elif word == "STOPSIGNAL":
        config["StopSignal"] = rest
    elif word == "ONBUILD":
        config["OnBuild"] = [*(config.get("OnBuild") or []), rest]
    else:
        config["Healthcheck"] = _healthcheck(rest)


def _command(text: str) -> "list[str]":
    """The exec form, or the shell form run by /bin/sh."""
    given = _json_list(text)
    return ["/bin/sh", "-c", text] if given is None else given


def _json_list(text: str) -> "list[str] | None":
    if not text.startswith("["):
        return None
    try:
        given = jsontext.loads(text)
    except ValueError:
        return None
    return given if isinstance(given, list) and all(isinstance(item, str) for item in given) else None


def _words(text: str) -> "list[str]":
    import shlex

    try:
        return shlex.split(text)
    except ValueError:
        raise InvalidParameter(f"unexpected end of statement while looking for matching quote in {text}") from None


def _pairs(text: str, word: str) -> "list[tuple[str, str]]":
    """name=value …, or the old form `name the rest`."""
    first = text.split(None, 1)
    if "=" not in first[0]:
        if len(first) < 2:
            raise InvalidParameter(f"{word} must have two arguments")
        return [(first[0], first[1])]
    pairs = []
    for item in _words(text):
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise InvalidParameter(f"Syntax error - can't find = in {item!r}. Must be of the form: name=value")
        pairs.append((name, value))
    return pairs


def _is_port(text: str) -> bool:
    numbers, _, protocol = text.partition("/")
    return protocol in ("tcp", "udp", "sctp") and all(
        number.isascii() and number.isdigit() and 0 < int(number) < 65536 for number in numbers.split("-", 1)
    )


_UNITS = (("ms", 10**6), ("us", 10**3), ("ns", 1), ("h", 3600 * 10**9), ("m", 60 * 10**9), ("s", 10**9))


def _duration(text: str) -> int:
    """Nanoseconds of a duration of one unit, such as 30s. Raises InvalidParameter."""
    for unit, factor in _UNITS:
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit():
            return int(float(number) * factor)
    raise InvalidParameter(f'time: invalid duration "{text}"')


def _healthcheck(text: str) -> "dict[str, Any]":
    if text.upper() == "NONE":
        return {"Test": ["NONE"]}
    check: dict[str, Any] = {}
    while text.startswith("--"):
        flag, _, text = text.partition(" ")
        name, _, value = flag[2:].partition("=")
        text = text.strip()
        keys = {
            "interval": "Interval",
            "timeout": "Timeout",
            "start-period": "StartPeriod",
            "start-interval": "StartInterval",
        }
        if name == "retries" and value.isdigit():
            check["Retries"] = int(value)
        elif name in keys:
            check[keys[name]] = _duration(value)
        else:
            raise InvalidParameter(f"unknown flag: {flag}")
    word, _, rest = text.partition(" ")
    if word.upper() != "CMD" or not rest.strip():
        raise InvalidParameter(f"Unknown type {word!r} in HEALTHCHECK (try CMD)")
    given = _json_list(rest.strip())
    return {"Test": ["CMD", *given] if given else ["CMD-SHELL", rest.strip()], **check}
