"""RUN --mount=…: what is put into the place where a command runs, for that command alone (Dockerfile reference, "RUN
--mount"; behaviour of buildkit's frontend/dockerfile/instructions/commands_runmount.go)."""

import csv
import dataclasses
import os
import re

from service.builder.dockerfile import BadDockerfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BIND, CACHE, TMPFS, SECRET, SSH = "bind", "cache", "tmpfs", "secret", "ssh"
KINDS = (BIND, CACHE, TMPFS, SECRET, SSH)
SHARED, PRIVATE, LOCKED = "shared", "private", "locked"
_KEYS = {
    "type": "type", "from": "origin", "source": "source", "src": "source", "target": "target", "dst": "target",
    "destination": "target", "id": "id", "sharing": "sharing", "mode": "mode", "uid": "uid", "gid": "gid",
    "size": "size", "env": "environment",
}  # fmt: skip


@dataclasses.dataclass
class RunMount:
    """One mount. `target` is absolute once `placed`; `mode`, `uid`, `gid`: -1 where they were not given."""

    type: str = BIND
    origin: str = ""  # stage, image or named context; empty: the build context (cache: nothing)
    source: str = ""
    target: str = ""
    id: str = ""
    sharing: str = ""
    environment: str = ""  # secret: the variable that holds it
    read_only: bool = False
    required: bool = False
    mode: int = -1
    uid: int = -1
    gid: int = -1
    size: int = 0  # tmpfs: bytes; 0: as the kernel has it


def parse(text: str, expand: "Callable[[str], str]") -> RunMount:
    """`type=cache,target=/x,…`. `expand` replaces the variables of a value. Raises BadDockerfile."""
    if not text:
        raise BadDockerfile("failed to parse csv mounts: EOF")
    mount = RunMount()
    writable: bool | None = None
    try:
        fields = next(csv.reader([text], strict=True))
    except (csv.Error, StopIteration) as error:
        raise BadDockerfile(f"failed to parse csv mounts: {error}") from None
    for field in fields:
        name, equals, value = field.partition("=")
        name = name.lower()
        if _only_of(name) and mount.type not in _only_of(name):  # as far as the type has been told by then
            raise BadDockerfile(f"unexpected key '{name}' for mount type '{mount.type}'")
        if name in ("readonly", "ro", "readwrite", "rw", "required"):
            on = not equals or _boolean(name, expand(value))
            if name == "required":
                mount.required = on
            else:
                writable = on if name in ("readwrite", "rw") else not on
            continue
        if not equals:
            raise BadDockerfile(f"invalid field '{field}' must be a key=value pair")
        if name == "from" and expand(value) != value:
            raise BadDockerfile("'from' doesn't support variable expansion, define alias stage instead")
        if name not in _KEYS:
            raise BadDockerfile(f"unexpected key '{name}' in '{field}'")
        _set(mount, name, expand(value))
    return _checked(mount, writable)


def _only_of(name: str) -> "tuple[str, ...]":
    """The kinds of mounts that have a key alone; none: all have it."""
    return {"required": (SECRET, SSH), "size": (TMPFS,)}.get(name, ())


def _set(mount: RunMount, name: str, value: str) -> None:
    key = _KEYS[name]
    if key == "type":
        if value.lower() not in KINDS:
            raise BadDockerfile(f'unsupported mount type "{value}"')
        value = value.lower()
    if key == "sharing":
        value = value.lower()
        if value not in (SHARED, PRIVATE, LOCKED):
            raise BadDockerfile(f'unsupported sharing value "{value}"')
    if key in ("mode", "uid", "gid"):
        digits = "01234567" if key == "mode" else "0123456789"
        if not value or value.strip(digits) or len(value) > 10:
            raise BadDockerfile(f"invalid value {value} for {name}")
        setattr(mount, key, int(value, 8 if key == "mode" else 10))
    elif key == "size":
        mount.size = _size(value)
    else:
        setattr(mount, key, value)


def _boolean(name: str, value: str) -> bool:
    if value.lower() in ("true", "1", "t"):
        return True
    if value.lower() in ("false", "0", "f"):
        return False
    raise BadDockerfile(f"invalid value for {name}: {value}")


def _size(text: str) -> int:
    """Bytes of a size as Docker writes them (64m, 1.5GiB). Raises BadDockerfile."""
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([kmgtp]?)i?b?", text.lower(), re.ASCII)
    if found is None:
        raise BadDockerfile(f"invalid value for size: {text}")
    return int(float(found[1]) * 1024 ** " kmgtp".index(found[2] or " "))


def _checked(mount: RunMount, writable: "bool | None") -> RunMount:
    kind = mount.type
    if kind in (BIND, TMPFS):
        for name, number in (("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)):
            if number >= 0:
                raise BadDockerfile(f'{name} not allowed for "{kind}" type mounts')
    mount.read_only = not writable if writable is not None else kind == BIND
    if kind == SECRET:
        if mount.origin:
            raise BadDockerfile("secret mount should not have a from")
        if mount.sharing:
            raise BadDockerfile("secret mount should not define sharing")
        if mount.source and mount.id:
            raise BadDockerfile("both source and id can't be set")
        mount.id = mount.id or mount.source or os.path.basename(mount.target)
        if not mount.id:
            raise BadDockerfile("invalid secret mount. one of source, target required")
        if not mount.target and not mount.environment:
            mount.target = f"/run/secrets/{os.path.basename(mount.id)}"
        mount.mode = 0o400 if mount.mode < 0 else mount.mode
    elif kind == SSH:
        mount.id = mount.id or mount.source or "default"
        mount.mode = 0o600 if mount.mode < 0 else mount.mode
    elif kind == CACHE:
        mount.sharing = mount.sharing or SHARED
        mount.mode = 0o755 if mount.mode < 0 else mount.mode
    elif mount.sharing:
        raise BadDockerfile(f"invalid cache sharing set for {kind} mount")
    return mount


def placed(mount: RunMount, working: str) -> RunMount:
    """The mount with its target made absolute, and its source where it is a path. Raises BadDockerfile for one that
    would hide everything."""
    if mount.source and mount.type in (BIND, CACHE):
        mount.source = "/" + os.path.normpath(f"/{mount.source}").lstrip("/")
    if mount.target or mount.type not in (SECRET, SSH):
        path = os.path.normpath("/" + os.path.join(working or "/", mount.target).lstrip("/"))
        if path == "/":
            raise BadDockerfile(f'invalid mount target "{mount.target or path}"')
        mount.target = path
    return mount
