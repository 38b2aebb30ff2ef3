"""HostConfig.LogConfig: which drivers and options there are, and what they come to.

As dockerd does it, in two steps: `check` at create looks at names only (moby: daemon/logger/factory.go
ValidateLogOpts), `parse` at the start, and when the log is read, looks at the values; a bad one is told then. Light to
import: every start comes by here.
"""

from service.errors import InvalidParameter, SystemFailure
from service.runtime.log_parts import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.model.container import ContainerRecord

_ATTRIBUTES = ("labels", "labels-regex", "env", "env-regex", "tag")
_SIZES = ("max-file", "max-size", "compress")
OPTIONS = {"json-file": (*_SIZES, *_ATTRIBUTES), "local": _SIZES, "journald": _ATTRIBUTES, "none": ()}
_EVERY_DRIVER = ("mode", "max-buffer-size")
_LOCAL_SIZE, _LOCAL_FILES = 20 * 1024 * 1024, 5  # moby: daemon/logger/local/local.go
_FOREVER = 1 << 62
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")  # Go's ParseBool
_INT_MAX = 1 << 63


def check(driver: str, options: "Mapping[str, str]") -> None:
    """Raises InvalidParameter for a driver or an option that does not exist."""
    if driver == "none":
        return
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        try:
            size(options["max-buffer-size"], 1024)
        except InvalidParameter as error:
            raise InvalidParameter(f"error parsing option max-buffer-size: {error.message}") from None
    if driver not in OPTIONS:
        raise InvalidParameter(f"logger: no log driver named '{driver}' is registered")
    for name in options:
        if name not in OPTIONS[driver] and name not in _EVERY_DRIVER:
            where = "log driver local" if driver == "local" else f"{driver} log driver"
            raise InvalidParameter(f"unknown log opt '{name}' for {where}")


def limits(record: "ContainerRecord") -> "Limits | None":
    """How much of a container's log is kept; None: all of it, or there is no file.

    Raises SystemFailure (json-file) or InvalidParameter (local) with dockerd's sentence for a value that means nothing.
    """
    config = record["HostConfig"]["LogConfig"]
    options = config.get("Config") or {}
    if config["Type"] == "local":
        return _local(options)
    if config["Type"] != "json-file":
        return None
    try:
        return _json_file(options)
    except InvalidParameter as error:
        raise SystemFailure(error.message) from None


def parse(record: "ContainerRecord") -> None:
    """Raises what `limits`, `attributes` or `tag` would raise for this container."""
    limits(record)
    attributes(record)
    if record["HostConfig"]["LogConfig"]["Type"] == "journald":
        from service.runtime import journal_log

        if not journal_log.is_running():
            raise SystemFailure("journald is not enabled on this host")
        tag(record, "{{.ID}}")


def _json_file(options: "Mapping[str, str]") -> "Limits | None":
    max_size, max_files, compress = -1, 1, False
    if "max-size" in options:
        max_size = size(options["max-size"], 1000)
        if max_size <= 0:
            raise InvalidParameter("max-size must be a positive number")
    if "max-file" in options:
        max_files = _number(options["max-file"])
        if max_files < 1:
            raise InvalidParameter("max-file cannot be less than 1")
    if "compress" in options:
        compress = _truth(options["compress"])
        if compress and (max_files == 1 or max_size == -1):
            raise InvalidParameter("compress cannot be true when max-file is less than 2 or max-size is not set")
    return _limits(max_size, max_files, compress) if max_size > 0 else None


def _local(options: "Mapping[str, str]") -> Limits:
    max_size, max_files, compress = _LOCAL_SIZE, _LOCAL_FILES, True
    text = options.get("max-size", "")
    if "max-size" in options:
        max_size = _value(f"invalid value for max-size: {text}", lambda: size(text, 1000))
    if "max-file" in options:
        count = options["max-file"]
        max_files = _value(f"invalid value for max-file: {count}", lambda: _number(count))
    if "compress" in options:
        given = options["compress"]
        compress = bool(_value("error reading compress log option", lambda: _truth(given)))
    if max_files < 0:
        raise InvalidParameter("max file count cannot be less than 0")
    if compress and max_files <= 1:
        raise InvalidParameter("compression cannot be enabled when max file count is 1")
    return _limits(max(1, max_size), max(1, max_files), compress)


def _limits(max_size: int, max_files: int, compress: bool) -> Limits:
    """One file is kept as two halves. dockerd empties it at the next write; rotation that comes after a write would
    leave nothing to be read."""
    return Limits(max_size, max_files, compress) if max_files > 1 else Limits(max(1, max_size // 2), 2, False)


def _value(prefix: str, parsed: "Callable[[], int]") -> int:
    try:
        return parsed()
    except InvalidParameter as error:
        raise InvalidParameter(f"{prefix}: {error.message}") from None


def size(text: str, thousand: int) -> int:
    """Bytes of `10`, `1.5k`, `20 MB`, `3GiB`; a kilo is `thousand`. Raises InvalidParameter as Docker's units do."""
    at = max((position for position, sign in enumerate(text) if sign in "0123456789. "), default=-1)
    if at < 0:
        raise InvalidParameter(f"invalid size: '{text}'")
    number, suffix = text[:at] if text[at] == " " else text[: at + 1], text[at + 1 :]
    try:
        if "_" in number or number != number.strip():
            raise ValueError(number)
        value = float(number)
    except ValueError:
        raise InvalidParameter(f'strconv.ParseFloat: parsing "{number}": invalid syntax') from None
    if value < 0:
        raise InvalidParameter(f"invalid size: '{text}'")
    unit = suffix.lower()
    if unit in ("", "b"):
        return _whole(value)
    power = "kmgtp".find(unit[0]) + 1
    if len(suffix) > 3 or not power or unit[1:] not in ("", "b", "ib"):
        raise InvalidParameter(f"invalid suffix: '{unit if len(suffix) <= 3 else suffix}'")
    return _whole(value * thousand**power)


def _whole(value: float) -> int:
    return int(min(value, _FOREVER)) if value == value else 0  # noqa: PLR0124 - `nan` is the only one unlike itself


def _number(text: str) -> int:
    """Go's strconv.Atoi."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidParameter(f'strconv.Atoi: parsing "{text}": invalid syntax')
    if not -_INT_MAX <= int(text) < _INT_MAX:
        raise InvalidParameter(f'strconv.Atoi: parsing "{text}": value out of range')
    return int(text)


def _truth(text: str) -> bool:
    if text not in _TRUE and text not in _FALSE:
        raise InvalidParameter(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in _TRUE


# ── attributes: what `docker logs --details` shows ───────────────────────────────────────────────────────────────────


def attributes(record: "ContainerRecord") -> "dict[str, str]":
    """The labels and variables that the options name, and the tag (moby: daemon/logger/loginfo.go).

    Raises SystemFailure for a pattern or a tag that means nothing.
    """
    config, host = record["Config"], record["HostConfig"]
    options = host["LogConfig"].get("Config") or {}
    if host["LogConfig"]["Type"] not in ("json-file", "journald"):
        return {}
    variables = dict(entry.split("=", 1) for entry in config.get("Env") or () if "=" in entry)
    found: dict[str, str] = {}
    for option, given in (("labels", config.get("Labels") or {}), ("env", variables)):
        found |= {name: given[name] for name in options.get(option, "").split(",") if name in given}
        pattern = options.get(f"{option}-regex", "")
        if pattern and (option == "labels" or given):
            found |= _matching(pattern, given)
    if host["LogConfig"]["Type"] == "journald":
        return {_journal_field(name): value for name, value in found.items()}
    shown = tag(record, "")
    return found | {"tag": shown} if shown else found


def _matching(pattern: str, given: "Mapping[str, str]") -> "dict[str, str]":
    import re

    try:
        compiled = re.compile(pattern)
    except re.error as error:
        said, quoted = str(error.msg), pattern
        if "unterminated subpattern" in said:
            said = "missing closing )"
        elif "unterminated character set" in said:
            said, quoted = "missing closing ]", pattern[error.pos or 0 :]
        elif "unbalanced parenthesis" in said:
            said = "unexpected )"
        elif "nothing to repeat" in said:
            said, quoted = "missing argument to repetition operator", pattern[error.pos or 0 :][:1]
        raise SystemFailure(f"error parsing regexp: {said}: `{quoted}`") from None
    return {name: value for name, value in given.items() if compiled.search(name)}


def _journal_field(name: str) -> str:
    """A name as the journal takes it (moby: daemon/logger/journald/journald.go sanitizeKeyMod)."""
    field = "".join(sign.upper() if sign.isascii() and sign.isalnum() else "_" for sign in name)
    return field.lstrip("_")


# ── tag: a template over what is known of the container ──────────────────────────────────────────────────────────────


def tag(record: "ContainerRecord", default: str) -> str:
    """The option `tag`, its fields filled in; `default` is the template where it is not given.

    Fields only (`{{.Name}}/{{.ImageName}}`), none of Go's functions. Raises SystemFailure for what cannot be filled in.
    """
    template = (record["HostConfig"]["LogConfig"].get("Config") or {}).get("tag") or default
    text, *actions = template.split("{{")
    shown = [text]
    for action in actions:
        inside, end, text = action.partition("}}")
        if not end:
            raise SystemFailure("template: log-tag:1: unclosed action")
        shown += [_field(record, inside.strip()), text]
    return "".join(shown)


def _field(record: "ContainerRecord", name: str) -> str:
    container_id, image_id = record["Id"], record["Image"]
    known: dict[str, str] = {
        ".ID": container_id[:12],
        ".FullID": container_id,
        ".ContainerID": container_id,
        ".Name": record["Name"].removeprefix("/"),
        ".ContainerName": "/" + record["Name"].removeprefix("/"),
        ".ImageID": image_id[:12],
        ".ImageFullID": image_id,
        ".ContainerImageID": image_id,
        ".ImageName": record["Config"]["Image"],
        ".ContainerImageName": record["Config"]["Image"],
        ".ContainerEntrypoint": record["Path"],
        ".Command": " ".join([record["Path"], *record["Args"]]),
        ".DaemonName": "docker",
    }
    if name in known:
        return known[name]
    if name.startswith(".") and name[1:].isalnum():
        raise SystemFailure(
            f'template: log-tag:1:2: executing "log-tag" at <{name}>: '
            f"can't evaluate field {name[1:]} in type *logger.Info"
        )
    raise SystemFailure(f"template: log-tag:1: only fields such as {{{{.Name}}}} are supported in a tag, not {name!r}")
