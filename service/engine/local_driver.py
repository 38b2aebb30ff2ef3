"""The options of the local volume driver: `type`, `device` and `o` are a file system to mount, `size` is a quota.

Source: moby volume/local/local_unix.go.
"""

import os

from service.errors import InvalidParameter, SystemFailure
from service.kernel import project_quota

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

    from service.kernel.fstab import Device
    from service.settings import Settings

_KNOWN = ("device", "o", "size", "type")
_NEEDS = (("device", ("type",)), ("type", ("device",)), ("o", ("device", "type")))
_BY_ADDRESS = ("nfs", "nfs4", "cifs")  # the kernel knows no host names: they are resolved for it
_NO_QUOTA = "quota size requested but no quota support"


def check(settings: "Settings", options: "Mapping[str, str]") -> None:
    """Raise InvalidParameter unless the options mean something here."""
    for key in options:
        if key not in _KNOWN:
            raise InvalidParameter(f'invalid option: "{key}"')
    if options.get("type") == "cifs" and options.get("device") and _url(options["device"]).port is not None:
        raise InvalidParameter("port not allowed in CIFS device URL, include 'port' in 'o='")
    if _size(options) and not _has_quotas(settings):
        raise InvalidParameter(_NO_QUOTA)
    for key, needed in _NEEDS:
        for other in needed:
            if key in options and other not in options:
                raise InvalidParameter(f'missing required option: "{other}"')


def _url(text: str) -> "SplitResult":
    """A CIFS device, `//host/share`, in its parts. Raises InvalidParameter as Go's url.Parse does."""
    from urllib.parse import urlsplit

    complaint = f'error parsing mount device url: parse "{text}": '
    for escape in text.split("%")[1:]:
        if len(escape) < 2 or not all(sign in "0123456789abcdefABCDEF" for sign in escape[:2]):
            raise InvalidParameter(f'{complaint}invalid URL escape "%{escape[:2]}"')
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - reading it is what checks it
    except ValueError:
        host = text.split("/")[2] if text.count("/") > 1 else text
        raise InvalidParameter(f'{complaint}invalid port ":{host.rpartition(":")[2]}" after host') from None
    return parts


def _size(options: "Mapping[str, str]") -> int:
    if "size" not in options:
        return 0
    from service.engine.log_config import size

    return size(options["size"], 1024)


def _has_quotas(settings: "Settings") -> bool:
    fd = os.open(settings.root + "/volumes", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return project_quota.is_supported(fd)
    finally:
        os.close(fd)


def device(options: "Mapping[str, str]") -> "Device | None":
    """What the options mount, host names resolved; None when they mount nothing. Blocking: it may ask for an address.

    Raises SystemFailure when it is not said what, or its host is not known.
    """
    kind, source, words = options.get("type", ""), options.get("device", ""), options.get("o", "")
    if not kind and not source:
        return None
    if not source:
        raise SystemFailure("missing device in volume options")
    if kind in _BY_ADDRESS:
        given = _value(words, "addr=")
        if given and not _is_ipv4(given):
            words = words.replace("addr=" + given, "addr=" + _address(given), 1)
        elif kind == "cifs":
            source = _by_address(source)
    return {"device": source, "type": kind, "options": words}


def _by_address(source: str) -> str:
    """A CIFS device with its host's address for its name."""
    from urllib.parse import unquote_plus

    host = _url(source).hostname or ""
    if not host or _is_ipv4(host) or ":" in host:
        return source
    before, found, after = source.partition(host)  # as written; `hostname` is in lower case
    if not found:
        before, after = "//", "/" + source.split("/", 3)[3] if source.count("/") > 2 else ""
    return unquote_plus(before + _address(host) + after)


def _value(words: str, key: str) -> str:
    return next((word.removeprefix(key) for word in words.split(",") if word.startswith(key)), "")


def _is_ipv4(text: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(text).version == 4
    except ValueError:
        return False


def _address(host: str) -> str:
    import socket

    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise SystemFailure(f"error resolving passed in network volume address: lookup {host}: no such host") from None
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return str(found[0][4][0])


def mount(options: "Mapping[str, str]", path: str) -> None:
    """Mount what the options name at `path`, unless something is mounted there. Blocking.

    Raises SystemFailure; a password among the options is not in its message.
    """
    wanted = device(options)
    if wanted is None:
        return
    from service.kernel import fstab
    from service.kernel.mount import is_mounted

    if is_mounted(path):
        return
    try:
        fstab.mount(wanted, path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in an option
        flags, data = fstab.parse(wanted["options"])
        said = f"mount {wanted['device']}:{path}"
        said += f", flags: {flags:#x}" if flags else ""
        password = _value(data, "password=")
        data = data.replace("password=" + password, "password=********") if password else data
        said += f", data: {data}" if data else ""
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "invalid argument"
        raise SystemFailure(f"failed to mount local volume: {said}: {reason.lower()}") from None


def limit(settings: "Settings", options: "Mapping[str, str]", path: str) -> None:
    """Hold the directory of a volume to its `size`, if it has one. Idempotent; under `volumes.exclusively`.

    Raises SystemFailure when the file system does not do that (any more).
    """
    size = _size(options)
    if not size:
        return
    import fcntl

    if not _has_quotas(settings):
        raise SystemFailure("size quota requested for volume but no quota support")
    folder = settings.root + "/volumes"
    around = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        own = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(around, fcntl.LOCK_EX)  # two volumes must not find the same number free
            number = project_quota.project(own)
            if number in (0, project_quota.project(around)):
                others = [f"{folder}/{name}/_data" for name in os.listdir(around)]
                number = project_quota.free_number(around, others)
            project_quota.limit(own, number, size)
        finally:
            os.close(own)
    except OSError as error:
        raise SystemFailure(f"failed to set quota limit of {path}: {os.strerror(error.errno or 0).lower()}") from error
    finally:
        os.close(around)
