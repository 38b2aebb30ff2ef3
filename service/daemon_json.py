"""daemon.json, dockerd's own file of settings: what of it has a meaning here is read where dockerd looks for it.

Source: docs.docker.com/reference/cli/dockerd (daemon configuration file). Keys that change nothing here are named in
the journal, once per change of the file: nothing that an administrator has written is passed over in silence.
"""

from service import file_cache, journal, jsontext
from service.errors import MoorageError, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Runtime:
    """An OCI runtime that an administrator has named: a program, and arguments that go before all others.

    `path` is empty for one of another kind (a shim of containerd's), which is known and not run.
    """

    __slots__ = ("arguments", "path")

    def __init__(self, path: str, arguments: "list[str]") -> None:
        self.path, self.arguments = path, arguments


class DaemonJson:
    """What the file says. Numbers are 0, texts and lists empty where it says nothing."""

    def __init__(self, document: "dict[str, Any]") -> None:
        """Raises ValueError for a value of another type than dockerd takes."""
        self.registry_mirrors = _texts(document, "registry-mirrors")  # URLs; of Docker Hub
        self.insecure_registries = _texts(document, "insecure-registries")  # hosts, host:port, or networks
        self.downloads = _number(document, "max-concurrent-downloads")
        self.uploads = _number(document, "max-concurrent-uploads")
        self.attempts = _number(document, "max-download-attempts")
        self.labels = _texts(document, "labels")  # of the engine: KEY=VALUE
        for label in self.labels:
            if "=" not in label:
                raise ValueError(f"bad attribute format: {label}")
        self.log_level = _log_level(document)
        self.runtimes = {name: _runtime(document, name) for name in _object(document, "runtimes")}
        self.default_runtime = _text(document, "default-runtime") or STOCK_RUNTIMES[0]
        if self.default_runtime not in (*STOCK_RUNTIMES, *self.runtimes):
            raise ValueError(f"specified default runtime '{self.default_runtime}' does not exist (default-runtime)")
        self.experimental = _flag(document, "experimental", False)
        # what a container gets that says nothing of it
        self.log_driver = _text(document, "log-driver")
        self.log_options = _texts_by_name(document, "log-opts")
        self.ulimits = _ulimits(document)
        self.shm_size = document.get("default-shm-size") or 0  # bytes, or a text such as "64M"
        if isinstance(self.shm_size, bool) or not isinstance(self.shm_size, int | str):
            raise ValueError(f"invalid default-shm-size: {self.shm_size}")
        self.init = _flag(document, "init", False)
        self.ipc_mode = _one_of(document, "default-ipc-mode", _IPC, 'IPC mode "{}" is not supported as default value')
        self.cgroupns_mode = _one_of(
            document, "default-cgroupns-mode", _CGROUPNS, "invalid default cgroup namespace ({})"
        )
        self.no_new_privileges = _flag(document, "no-new-privileges", False)
        profile = _text(document, "seccomp-profile")
        self.seccomp_profile = "" if profile == "builtin" else profile  # a path, or "unconfined"
        self.cgroup_parent = _text(document, "cgroup-parent")
        self.cgroup_driver = _cgroup_driver(document)  # cgroupfs, systemd; empty: by what PID 1 is
        self.dns = _texts(document, "dns")
        self.dns_search = _texts(document, "dns-search")
        self.dns_options = _texts(document, "dns-opts")
        self.build_cache = _build_cache(document)  # bytes that builds may keep
        allowed = _builder(document, "entitlements")  # what builds may be allowed by their user
        self.build_host_network = _flag(allowed, "network-host", True)
        self.build_insecure = _flag(allowed, "security-insecure", False)
        # networks
        self.address_pools = _pools(document)
        self.network_options = {
            driver: _texts_by_name(document["default-network-opts"], driver, "default-network-opts")
            for driver in _object(document, "default-network-opts")
        }
        self.default_bridge = {key: document[key] for key in _BRIDGE if document.get(key) not in (None, "")}
        for key, kind in _BRIDGE.items():
            if not isinstance(document.get(key, kind()), kind):
                raise ValueError(f"invalid {key}: {document[key]}")


STOCK_RUNTIMES = ("runc", "io.containerd.runc.v2")  # those that are there without being named
# of the default network alone
_BRIDGE = {
    **dict.fromkeys(("bip", "fixed-cidr", "fixed-cidr-v6", "default-gateway", "default-gateway-v6", "ip"), str),
    **dict.fromkeys(("ipv6", "icc", "ip-masq"), bool),
    "mtu": int,
}
_IPC, _CGROUPNS = ("private", "shareable"), ("private", "host")
# dockerd's words for levels → ours
_LEVELS = {"debug": "debug", "info": "info", "warn": "warning", "error": "error", "fatal": "error", "panic": "error"}
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_READ = frozenset(
    (
        *("registry-mirrors", "insecure-registries", "labels", "builder", "experimental"),
        *("max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts"),
        *("log-driver", "log-opts", "default-ulimits", "default-shm-size", "init", "dns", "dns-search", "dns-opts"),
        *("default-ipc-mode", "default-cgroupns-mode", "no-new-privileges", "seccomp-profile", "cgroup-parent"),
        *("exec-opts", "debug", "log-level", "runtimes", "default-runtime"),
        *("default-address-pools", "default-network-opts", *_BRIDGE),
    )
)
# what needs no saying: it is so in any case
_SO_ANYHOW: "dict[str, tuple[Any, ...]]" = {
    **dict.fromkeys(("live-restore", "iptables", "ip6tables", "ip-forward"), (True,)),
    **dict.fromkeys(("userland-proxy", "selinux-enabled"), (False,)),
    "storage-driver": ("overlay2", ""),
    "features": ({"buildkit": True}, {}),
    "hosts": ([], ["fd://"], ["unix:///var/run/docker.sock"]),
}


def _text(document: "dict[str, Any]", key: str) -> str:
    found = document.get(key) or ""
    if not isinstance(found, str):
        raise ValueError(f"{key} is not a string")
    return found


def _one_of(document: "dict[str, Any]", key: str, allowed: "tuple[str, str]", complaint: str) -> str:
    """`complaint`: dockerd's, with a place for what was found."""
    found = _text(document, key)
    if found and found not in allowed:
        raise ValueError(f'{complaint.format(found)}; use "{allowed[1]}" or "{allowed[0]}" ({key})')
    return found


def _runtime(document: "dict[str, Any]", name: str) -> Runtime:
    found = _object(_object(document, "runtimes"), name)
    if name == STOCK_RUNTIMES[0]:
        raise ValueError(f"runtime name '{name}' is reserved (runtimes)")
    path, kind, arguments = _text(found, "path"), _text(found, "runtimeType"), _texts(found, "runtimeArgs")
    for is_wrong, complaint in (
        (not path and not kind, "either a runtimeType or a path must be configured"),
        (path and kind, "cannot configure both path and runtimeType for the same runtime"),
        (path and found.get("options"), "options cannot be used with a path runtime"),
        (kind and arguments, "args cannot be used with a runtimeType runtime"),
    ):
        if is_wrong:
            raise ValueError(f"runtime {name}: {complaint} (runtimes)")
    return Runtime(path, arguments)


def _log_level(document: "dict[str, Any]") -> str:
    """In the journal's words; empty where nothing is said. `debug` goes before `log-level`, as with dockerd."""
    level = _text(document, "log-level")
    if level and level not in _LEVELS:
        raise ValueError(f"invalid logging level: {level} (log-level)")
    return "debug" if _flag(document, "debug", False) else _LEVELS.get(level, "")


def _cgroup_driver(document: "dict[str, Any]") -> str:
    driver = ""
    for option in _texts(document, "exec-opts"):
        name, equals, driver = option.partition("=")
        if not equals:
            raise ValueError(f"invalid key-value pair in exec-opts: {option}")
        if name != "native.cgroupdriver":
            raise ValueError(f"unknown option: '{name}' (exec-opts)")
        if driver not in ("", "cgroupfs", "systemd"):
            raise ValueError(f"native.cgroupdriver option {driver} not supported (exec-opts)")
    return driver


def _flag(document: "dict[str, Any]", key: str, default: bool) -> bool:
    found = document.get(key, default)
    if not isinstance(found, bool):
        raise ValueError(f"{key} is neither true nor false")
    return found


def _object(document: "dict[str, Any]", key: str) -> "dict[str, Any]":
    found = document.get(key) or {}
    if not isinstance(found, dict):
        raise ValueError(f"{key} is not an object")
    return found


def _texts_by_name(document: "dict[str, Any]", key: str, shown: str = "") -> "dict[str, str]":
    found = _object(document, key)
    if not all(isinstance(text, str) for text in found.values()):
        raise ValueError(f"{shown or key} holds something other than strings")
    return found


def _builder(document: "dict[str, Any]", part: str) -> "dict[str, Any]":
    """A part of the settings for builds; dockerd reads its name in any case."""
    return _object({key.lower(): found for key, found in _object(document, "builder").items()}, part)


def _build_cache(document: "dict[str, Any]") -> int:
    found = _builder(document, "gc").get("defaultKeepStorage") or ""
    if not isinstance(found, str):
        raise ValueError("builder.gc.defaultKeepStorage is not a string")
    if not found:
        return 0
    number = found.strip().rstrip("bBiIkKmMgGtTpP ")
    unit = found.strip()[len(number) :].strip().lower().removesuffix("b").removesuffix("i")
    if unit not in _UNITS or not number.replace(".", "", 1).isdigit():
        raise ValueError(f"failed to parse builder.gc.defaultKeepStorage: invalid size: '{found}'")
    return int(float(number) * _UNITS[unit])


def _ulimits(document: "dict[str, Any]") -> "list[dict[str, Any]]":
    """As a container's HostConfig has them."""
    found = []
    for name, limit in _object(document, "default-ulimits").items():
        if not isinstance(limit, dict):
            raise ValueError(f"the limit {name} of default-ulimits is not an object")
        folded = {key.lower(): value for key, value in limit.items()}
        bounds = [folded.get(key, 0) for key in ("hard", "soft")]
        if any(isinstance(bound, bool) or not isinstance(bound, int) for bound in bounds):
            raise ValueError(f"the limit {name} of default-ulimits is not made of numbers")
        found.append({"Name": name, "Hard": bounds[0], "Soft": bounds[1]})
    return found


def _pools(document: "dict[str, Any]") -> "list[tuple[str, int]]":
    """(network, size of each subnet)."""
    found = []
    listed = document.get("default-address-pools") or []
    for pool in listed if isinstance(listed, list) else [listed]:
        if not isinstance(pool, dict) or not isinstance(pool.get("base"), str) or type(pool.get("size")) is not int:
            raise ValueError("default-address-pools is not a list of objects with base and size")
        found.append((pool["base"], pool["size"]))
    return found


def _texts(document: "dict[str, Any]", key: str) -> "list[str]":
    found = document.get(key) or []
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{key} is not a list of strings")
    return found


def _number(document: "dict[str, Any]", key: str) -> int:
    found = document.get(key) or 0
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise ValueError(f"invalid {key}: {found}")
    return found


def _parse(paths: "Sequence[str]") -> DaemonJson:
    for path in paths:
        try:
            with open(path, "rb") as file:
                content = file.read()
            document = jsontext.loads(content) if content.strip() else {}
            if not isinstance(document, dict):
                raise ValueError("not an object")
            meant = DaemonJson(document)
        except (OSError, ValueError) as error:
            raise SystemFailure(f"unable to configure the Docker daemon with file {path}: {error}") from None
        journal.set_level(laid_down=meant.log_level)
        unread = sorted(key for key in document.keys() - _READ if document[key] not in _SO_ANYHOW.get(key, ()))
        if unread:
            journal.write("warning", f"{path}: without effect here: {', '.join(unread)}")
        return meant
    journal.set_level()
    return DaemonJson({})


_read = file_cache.kept(_parse)


def read(path: str) -> DaemonJson:
    """What the file at `path` says; nothing when there is none. Raises SystemFailure when it cannot be understood."""
    return _read([path])


def readable(path: str) -> DaemonJson:
    """The same where nobody could be told of an error: it stands in the journal then, and the file says nothing."""
    try:
        return read(path)
    except MoorageError as error:
        if _told.get(path) != error.message:
            _told[path] = error.message
            journal.write("error", error.message)
        return DaemonJson({})


_told: "dict[str, str]" = {}  # the last complaint about a file
