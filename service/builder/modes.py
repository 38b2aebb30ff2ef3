"""--chmod of COPY and ADD: an octal mode, or changes as chmod(1) takes them (Dockerfile reference, "COPY --chmod").

A symbolic mode is BSD's (setmode(3)), with a umask of 0: `X` looks at what a file was before all changes, and means `x`
after `-`; bits after a class's letter (`u=gr`) replace what the letter has brought.
"""

import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Change = Callable[[int, int], int]  # of the mode that a file had, and what became of it so far

_CLASSES = {"u": (stat.S_ISUID | stat.S_IRWXU, 6), "g": (stat.S_ISGID | stat.S_IRWXG, 3), "o": (stat.S_IRWXO, 0)}
_EVERY = stat.S_ISUID | stat.S_ISGID | 0o777
_ALL = stat.S_ISVTX | _EVERY
_ANY_X = 0o111
_SIGNS = {"r": 0o444, "w": 0o222, "x": _ANY_X, "X": _ANY_X}


class BadMode(ValueError):  # noqa: N818 - it says what is bad
    """The text is no mode; the message is BuildKit's."""


class Mode:
    """What --chmod asks for. `octal`: the mode itself; -1 where it is a change."""

    def __init__(self, octal: int, changes: "list[Change]") -> None:
        self.octal, self.changes = octal, changes

    def applied(self, before: int) -> int:
        """The permissions (07777) of a file or directory whose st_mode is `before`."""
        if self.octal >= 0:
            return self.octal
        mode = stat.S_IMODE(before)
        for change in self.changes:
            mode = change(before, mode)
        return mode


def parse(text: str) -> Mode:
    """An octal or symbolic mode. Raises BadMode."""
    if text and not text.strip("01234567") and int(text, 8) <= _ALL:
        return Mode(int(text, 8), [])
    if not text or text[0] in "0123456789":
        raise BadMode(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
    changes: list[Change] = []
    for clause in text.split(","):
        changes += _clause(clause)
    return Mode(-1, changes)


def _clause(text: str) -> "list[Change]":
    """`ug+rw-x`: classes, then what is done to them, as often as they like."""
    rest = text.lstrip("augo")
    who = 0
    for letter in text[: len(text) - len(rest)]:
        who |= _EVERY if letter == "a" else _CLASSES[letter][0]
    if not rest:
        raise BadMode("invalid syntax")
    found: list[Change] = []
    while rest:
        operator, signs = rest[0], rest[1:]
        if operator not in "+-=":
            raise BadMode("invalid syntax")
        rest = signs.lstrip("rwxXstugo")
        found += _changes(operator, signs[: len(signs) - len(rest)], who)
    return found


def _changes(operator: str, signs: str, who: int) -> "list[Change]":
    """What one `+`, `-` or `=` does to the classes `who` (0: none was named; `t` counts as one then)."""
    found: list[Change] = []
    bits, executable, sticky = 0, False, 0

    def flush(*, always: bool) -> None:
        if bits or always:
            found.append(_bits(operator, bits, who | sticky))
        if executable:
            found.append(_executable(who | sticky))

    copies = False
    for sign in signs:
        if sign in _CLASSES:
            flush(always=False)
            bits, executable, copies = 0, False, True
            found.append(_copied(operator, _CLASSES[sign][1], who | sticky))
        elif sign == "X" and operator != "-":
            executable = True
        elif sign in "st":
            if who == stat.S_IRWXO:
                continue  # others have neither
            bits |= stat.S_ISUID | stat.S_ISGID if sign == "s" else stat.S_ISVTX
            sticky |= stat.S_ISVTX if sign == "t" else 0
        else:
            bits |= _SIGNS[sign]
    flush(always=operator == "=" and not copies)
    return found


def _bits(operator: str, bits: int, who: int) -> "Change":
    asked = bits & who if who else bits
    if operator == "+":
        return lambda _, mode: mode | asked
    if operator == "-":
        return lambda _, mode: mode & ~asked
    cleared = who or _EVERY
    return lambda _, mode: mode & ~cleared | asked


def _executable(who: int) -> "Change":
    asked = _ANY_X & who if who else _ANY_X
    return lambda before, mode: mode | asked if before & _ANY_X or stat.S_ISDIR(before) else mode


def _copied(operator: str, shift: int, who: int) -> "Change":
    """The permissions of one class, for those of others."""
    shifts = [place for classed, place in _CLASSES.values() if not who or who & classed]

    def change(_: int, mode: int) -> int:
        value = mode >> shift & 0o7
        for place in shifts:
            if operator != "+":
                mode &= ~((0o7 if operator == "=" else value) << place)
            if operator != "-":
                mode |= value << place
        return mode

    return change
