"""Identifiers as Docker writes them: 64 lower-case hexadecimal digits, shown to people by their first twelve."""

from posix import urandom


def new_id() -> str:
    """A new random object id (64 hex digits), never all digits in its short form.

    A short id of digits only could be taken for a number (a host name, a pid), so it is drawn again.
    """
    while True:
        drawn = urandom(32).hex()
        if not drawn[:12].isdigit():
            return drawn


def short(object_id: str) -> str:
    """The twelve digits that people see; a `sha256:` prefix is dropped first."""
    return object_id.removeprefix("sha256:")[:12]


def is_hex(text: str) -> bool:
    """Whether `text` could be an id or the beginning of one."""
    return 0 < len(text) <= 64 and all(c in "0123456789abcdef" for c in text)
