"""ContainerConfig: what a request and an image say about the process, checked and merged (moby: daemon/commit.go)."""

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The keys of ContainerConfig as inspect shows them, with what an absent one means.
_DEFAULTS: "dict[str, Any]" = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}
_SHOWN_WHEN_SET = (
    "ExposedPorts", "Healthcheck", "ArgsEscaped", "NetworkDisabled", "MacAddress", "StopSignal", "Shell",
)  # fmt: skip
_ORDER = (  # in which inspect shows all of them
    *("Hostname", "Domainname", "User", "AttachStdin", "AttachStdout", "AttachStderr", "ExposedPorts", "Tty"),
    *("OpenStdin", "StdinOnce", "Env", "Cmd", "Healthcheck", "ArgsEscaped", "Image", "Volumes", "WorkingDir"),
    *("Entrypoint", "NetworkDisabled", "MacAddress", "OnBuild", "Labels", "StopSignal", "StopTimeout", "Shell"),
)
_MAX_HOSTNAME = 64  # the kernel's HOST_NAME_MAX
_MIN_HEALTH_NS = 1_000_000  # one millisecond (moby: daemon/container.go verifyContainerSettings)


def check(config: "dict[str, Any]") -> None:
    """Raise InvalidParameter, in dockerd's words, for what no image could make right."""
    for variable in config.get("Env") or ():
        if not variable or variable.startswith("="):
            raise InvalidParameter(f"invalid environment variable: {variable}")
    directory = config.get("WorkingDir") or ""
    if directory and not directory.startswith("/"):
        raise InvalidParameter(f"the working directory '{directory}' is invalid, it needs to be an absolute path")
    hostname = config.get("Hostname") or ""
    if len(hostname.encode()) > _MAX_HOSTNAME:
        raise InvalidParameter(f'hostname "{hostname}" is too long (maximum {_MAX_HOSTNAME} bytes)')
    if config.get("StopSignal"):
        from service.kernel.signals import signal_number

        signal_number(config["StopSignal"])
    health = config.get("Healthcheck") or {}
    for key in ("Interval", "Timeout", "Retries", "StartPeriod", "StartInterval"):
        value = health.get(key) or 0
        if key == "Retries" and value < 0:
            raise InvalidParameter("Retries in Healthcheck cannot be negative")
        if key != "Retries" and (value < 0 or 0 < value < _MIN_HEALTH_NS):
            raise InvalidParameter(f"{key} in Healthcheck cannot be less than 1ms")
    for port in config.get("ExposedPorts") or ():
        number, _, protocol = port.partition("/")
        low, _, high = number.partition("-")
        if not low.isdigit() or (high and not high.isdigit()) or protocol.lower() not in ("", "tcp", "udp", "sctp"):
            raise InvalidParameter(f"invalid containerPort: {port}")


def merge(asked: "dict[str, Any]", image: "dict[str, Any]") -> "dict[str, Any]":
    """The container's config: the request's over the image's.

    Entrypoint and Cmd go together: an image's Cmd counts only when the request gives neither. Entrypoint `[""]` and
    `[]` empty the image's. Environment, labels, volumes and ports are united, the request's winning. What the image
    says for builds (OnBuild, Shell) is not the container's.
    """
    config = {
        key: asked.get(key, default) if asked.get(key) is not None else default for key, default in _DEFAULTS.items()
    }
    for key in _SHOWN_WHEN_SET:
        if asked.get(key):
            config[key] = asked[key]
    if asked.get("StopTimeout") is not None:  # 0 is a time, too
        config["StopTimeout"] = asked["StopTimeout"]
    if not config["Entrypoint"]:
        config["Cmd"] = config["Cmd"] or image.get("Cmd")
        if asked.get("Entrypoint") is None:
            config["Entrypoint"] = image.get("Entrypoint")
    elif config["Entrypoint"] == [""]:
        # Shown as [], not null: null would mean the image's again when what inspect shows is created anew.
        config["Entrypoint"] = [] if image.get("Entrypoint") else None
    config["Env"] = _environment(asked.get("Env") or [], image.get("Env") or [])
    config["Labels"] = {**(image.get("Labels") or {}), **(asked.get("Labels") or {})}
    for key in ("Volumes", "ExposedPorts"):
        united = {**(image.get(key) or {}), **(asked.get(key) or {})}
        if united:
            config[key] = united
    config["Volumes"] = config["Volumes"] or None
    for key in ("User", "WorkingDir", "StopSignal"):
        if not config.get(key) and image.get(key):
            config[key] = image[key]
    inherited, own = image.get("Healthcheck"), asked.get("Healthcheck")
    if inherited or own is not None:
        config["Healthcheck"] = {**(inherited or {}), **{key: value for key, value in (own or {}).items() if value}}
    if config["WorkingDir"]:
        config["WorkingDir"] = _clean(config["WorkingDir"])
    for key in ("Labels", "ExposedPorts", "Volumes"):  # Go sorts a map's keys when it writes them
        if config.get(key):
            config[key] = dict(sorted(config[key].items()))
    return {key: config[key] for key in _ORDER if key in config}


def whole(config: "dict[str, Any]") -> "dict[str, Any]":
    """A configuration with every key that Docker writes, whether it says something or not."""
    return {**_DEFAULTS, **config}


def _clean(path: str) -> str:
    """A path without `.`, `..`, doubled and trailing slashes (Go: filepath.Clean)."""
    import os

    cleaned = os.path.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _environment(asked: list[str], image: list[str]) -> list[str]:
    """The request's variables, then those of the image that the request does not name."""
    named = {variable.partition("=")[0] for variable in asked}
    return [*asked, *(variable for variable in image if variable.partition("=")[0] not in named)]
