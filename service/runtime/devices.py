"""Device nodes: what a container finds in /dev, and which devices its control group lets it use."""

import os

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Device = dict[str, Any]
    Rule = dict[str, Any]


def _rule(allow: bool, kind: str, major: int, minor: int, access: str = "rwm") -> "Rule":
    return {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}


def default_rules() -> "list[Rule]":
    """Nothing, but for zero, null, urandom, random, tty and console; /dev/fuse is named to stay forbidden.

    The runtime adds ptmx, the pseudo terminals and mknod of anything (OCI runtime spec, default devices).
    """
    allowed = ((1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1))
    return [
        {"allow": False, "access": "rwm"},
        *(_rule(True, "c", major, minor) for major, minor in allowed),
        _rule(False, "c", 10, 229),
    ]


def every_rule() -> "list[Rule]":
    """A privileged container may use every device."""
    return [{"allow": True, "access": "rwm"}]


def device_at(host_path: str, path: str = "") -> "Device | None":
    """The device node at `host_path` (links followed) as it shall appear at `path`; None when it is no device.

    Raises OSError when there is nothing.
    """
    import stat

    found = os.stat(host_path)
    if stat.S_ISCHR(found.st_mode):
        kind = "c"
    elif stat.S_ISBLK(found.st_mode):
        kind = "b"
    else:
        return None
    return {
        "path": path or host_path,
        "type": kind,
        "major": os.major(found.st_rdev),
        "minor": os.minor(found.st_rdev),
        "fileMode": found.st_mode & 0o7777,
        "uid": found.st_uid,
        "gid": found.st_gid,
    }


def mapped(host_path: str, path: str, access: str) -> "tuple[list[Device], list[Rule]]":
    """`--device`: one device, or all of those in a directory. Raises InvalidParameter with dockerd's sentence."""
    real = os.path.realpath(host_path)
    reason = "not a device node"
    try:
        single = device_at(real, path)
        found = [single] if single else [*_below(real, path)]
    except OSError as error:
        found, reason = [], (error.strerror or "").lower()
    if not found:
        raise InvalidParameter(f'error gathering device information while adding custom device "{host_path}": {reason}')
    return found, [_rule(True, d["type"], d["major"], d["minor"], access) for d in found]


def _below(directory: str, path: str) -> "list[Device]":
    found = []
    for folder, _, names in os.walk(directory):
        for name in sorted(names):
            host_path = f"{folder}/{name}"
            try:
                device = None if os.path.islink(host_path) else device_at(host_path, path + host_path[len(directory) :])
            except OSError:
                continue  # gone since it was listed
            if device:
                found.append(device)
    return found


# Made anew for every container: the host's terminals, queues and shared memory are not devices to pass on.
_NOT_OF_THE_HOST = frozenset(("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"))


def host_devices() -> "list[Device]":
    """Every device node of the host's /dev, for privileged containers."""
    found: list[Device] = []
    pending = ["/dev"]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.name in _NOT_OF_THE_HOST or entry.is_symlink():
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
                continue
            try:
                device = device_at(entry.path)
            except OSError:
                continue  # gone since it was listed
            if device:
                found.append(device)
    return found


def rules_of(texts: "Sequence[str]") -> "list[Rule]":
    """`--device-cgroup-rule "c 1:3 rwm"`. Raises InvalidParameter with dockerd's sentence."""
    return [parse_rule(text) for text in texts]


def parse_rule(text: str) -> "Rule":
    """One rule `TYPE MAJOR:MINOR ACCESS`, `*` for any number. Raises InvalidParameter."""
    words = text.split(" ")
    refusal = InvalidParameter(f"invalid device cgroup rule format: '{text}'")
    if len(words) != 3 or words[0] not in ("a", "b", "c"):
        raise refusal
    major, colon, minor = words[1].partition(":")
    if not colon or not all(n == "*" or (n.isascii() and n.isdigit()) for n in (major, minor)):
        raise refusal
    if not 1 <= len(words[2]) <= 3 or not set(words[2]) <= set("rwm"):
        raise refusal
    numbers = [-1 if n == "*" else int(n) for n in (major, minor)]
    return _rule(True, words[0], numbers[0], numbers[1], words[2])


def parse_access(text: str) -> str:
    """The cgroup permissions of a device mapping; empty means all. Raises InvalidParameter."""
    if not text:
        return "rwm"
    if len(text) > 3 or not set(text) <= set("rwm") or len(set(text)) != len(text):
        raise InvalidParameter(f"invalid device mode: {text}")
    return text
