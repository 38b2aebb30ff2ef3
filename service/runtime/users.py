"""Who a container's process is: `user[:group]` looked up in the passwd and group files of its own file system."""

import os

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGEST = (1 << 31) - 1


class User:
    """Numbers for the kernel; `home` as passwd says ("/" when the user has no entry)."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int = 0, gid: int = 0, groups: "Sequence[int]" = (), home: str = "/") -> None:
        self.uid, self.gid, self.groups, self.home = uid, gid, list(groups), home

    def __repr__(self) -> str:
        return f"User(uid={self.uid}, gid={self.gid}, groups={self.groups}, home={self.home!r})"


def resolve_user(rootfs: str, user: str, groups: "Sequence[str]" = ()) -> User:
    """`user` ("", "name", "uid", "name:group", "uid:gid", ":group"), and the further `groups`, as numbers.

    passwd(5) and group(5) are read inside `rootfs`: no symbolic link of the image leads outside. Raises
    InvalidParameter with dockerd's sentences (`unable to find user X: no matching entries in passwd file`).
    """
    passwd, group_lines = _read(rootfs, "/etc/passwd"), _read(rootfs, "/etc/group")
    wanted, _, wanted_group = user.partition(":")
    found = _find_user(passwd, wanted)
    if wanted_group:
        found.gid, found.groups = _find_group(group_lines, wanted_group), []
    else:
        found.groups = _groups_of(group_lines, _name_of(passwd, wanted, found.uid))
    found.groups += [_find_extra_group(group_lines, name) for name in groups]
    return found


def _read(rootfs: str, path: str) -> list[list[str]]:
    """The lines of a colon-separated file inside a root, as fields; empty when there is none."""
    from service.kernel.openat2 import read_in_root

    try:
        text = read_in_root(rootfs, path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InvalidParameter(f"read {path}: {(error.strerror or '').lower()}") from None
    lines = text.decode("utf-8", "surrogateescape").splitlines()
    return [line.strip().split(":") for line in lines if line.strip() and not line.startswith("#")]


def _number(text: str) -> int:
    """The value of a decimal number, -1 for any other text."""
    return int(text) if text.isascii() and text.isdigit() else -1


def _in_range(number: int) -> int:
    if number > _LARGEST:
        raise InvalidParameter("uids and gids must be in range 0-2147483647")
    return number


def _entry(passwd: list[list[str]], wanted: str) -> "list[str] | None":
    """The passwd line of a user by name, or by number when nobody has that name."""
    number = _number(wanted)
    for fields in passwd:
        if len(fields) >= 6 and (fields[0] == wanted or (number >= 0 and fields[2] == str(number))):
            return fields
    return None


def _find_user(passwd: list[list[str]], wanted: str) -> User:
    fields = _entry(passwd, wanted or "0")
    if fields:
        return User(_in_range(max(0, _number(fields[2]))), _in_range(max(0, _number(fields[3]))), (), fields[5] or "/")
    number = _number(wanted or "0")
    if number < 0:
        raise InvalidParameter(f"unable to find user {wanted}: no matching entries in passwd file")
    return User(_in_range(number), 0)


def _name_of(passwd: list[list[str]], wanted: str, uid: int) -> str:
    fields = _entry(passwd, wanted or str(uid))
    return fields[0] if fields else ""


def _groups_of(lines: list[list[str]], name: str) -> list[int]:
    """The groups that list `name` as a member."""
    if not name:
        return []
    return [int(f[2]) for f in lines if len(f) >= 4 and _number(f[2]) >= 0 and name in f[3].split(",")]


def _find_group(lines: list[list[str]], wanted: str) -> int:
    number = _number(wanted)
    for fields in lines:
        if len(fields) >= 3 and _number(fields[2]) >= 0 and (fields[0] == wanted or _number(fields[2]) == number):
            return int(fields[2])
    if number < 0:
        raise InvalidParameter(f"unable to find group {wanted}: no matching entries in group file")
    return _in_range(number)


def _find_extra_group(lines: list[list[str]], wanted: str) -> int:
    try:
        return _find_group(lines, wanted)
    except InvalidParameter:
        raise InvalidParameter(f"Unable to find group {wanted}: no matching entries in group file") from None


def home_of(rootfs: str, uid: int) -> str:
    """The home directory that passwd inside `rootfs` gives a user id; "/" when it has no entry."""
    fields = _entry(_read(rootfs, "/etc/passwd"), str(uid))
    return fields[5] if fields and fields[5] else "/"


def exists_in(rootfs: str, path: str) -> bool:
    """Whether a path exists inside a root, symbolic links resolved there."""
    from service.kernel.openat2 import open_in_root

    try:
        os.close(open_in_root(rootfs, path, os.O_PATH))
    except OSError:
        return False
    return True
