"""File patterns as Go understands them: those of `path.Match`, and those of a .dockerignore.

Patterns come from clients, and backtracking takes a time exponential in the number of stars: a pattern with few of them
is a regular expression, any other runs as the set of its states, one step per character (Go's own engines are linear).
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_FEW = 2  # with two stars a path of PATH_MAX bytes still takes milliseconds only
_ONE, _MANY, _FOLDERS = "one", "many", "folders"  # a character; any number of them; any number of whole directories


class Pattern:
    """A compiled pattern."""

    def __init__(self, parts: "Iterable[tuple[str, str]]") -> None:
        """`parts`: each an expression for one character, and how often it stands. Raises ValueError for a bad one."""
        parts = list(parts)
        self._expression: re.Pattern[str] | None = None
        self._states: _States | None = None
        try:
            if sum(often != _ONE for _, often in parts) <= _FEW:
                self._expression = re.compile("".join(_written(part, often) for part, often in parts), re.DOTALL)
            else:
                self._states = _States(parts)
        except re.error:
            raise ValueError("syntax error in pattern") from None

    def matches(self, text: str) -> bool:
        """Whether the pattern describes the whole of `text`."""
        if self._expression is not None:
            return self._expression.fullmatch(text) is not None
        assert self._states is not None
        return self._states.match(text)


class _States:
    """A pattern as a machine whose states are the bits of a number: bit n before part n, the last one at the end."""

    def __init__(self, parts: "list[tuple[str, str]]") -> None:
        self._tests: list[tuple[re.Pattern[str], int, int]] = []  # a character, where it stays, and where it goes on
        self._skips = self._double_skips = 0
        at = 0
        for part, often in parts:
            here = 1 << at
            if often == _FOLDERS:  # entered at `here`: over both, or into the directories, which a slash ends
                self._skips |= here
                self._double_skips |= here
                self._tests += [(re.compile(".", re.DOTALL), here << 1, 0), (re.compile("/"), 0, here << 1)]
                at += 2
                continue
            if often == _MANY:
                self._skips |= here
            self._tests.append(
                (re.compile(part, re.DOTALL), here, 0) if often == _MANY else (re.compile(part), 0, here)
            )
            at += 1
        self._end = 1 << at
        self._known: dict[str, tuple[int, int]] = {}

    def match(self, text: str) -> bool:
        states = self._widened(1)
        for sign in text:
            stays, goes = self._known.get(sign) or self._learn(sign)
            states = self._widened((states & stays) | (states & goes) << 1)
            if not states:
                return False
        return bool(states & self._end)

    def _learn(self, sign: str) -> "tuple[int, int]":
        stays = goes = 0
        for test, stay, go in self._tests:
            if test.fullmatch(sign):
                stays, goes = stays | stay, goes | go
        self._known[sign] = stays, goes
        return stays, goes

    def _widened(self, states: int) -> int:
        while True:
            wider = states | (states & self._skips) << 1 | (states & self._double_skips) << 2
            if wider == states:
                return states
            states = wider


def glob(pattern: str) -> Pattern:
    """Go's path.Match: `*` and `?` stop at a slash, `[…]` is a class. Raises ValueError for a malformed pattern."""
    parts: list[tuple[str, str]] = []
    at = 0
    while at < len(pattern):
        sign = pattern[at]
        at += 1
        if sign == "*":
            if parts[-1:] != [("[^/]", _MANY)]:
                parts.append(("[^/]", _MANY))
        elif sign == "?":
            parts.append(("[^/]", _ONE))
        elif sign == "[":
            end = pattern.find("]", at + 1)
            if end < 0:
                raise ValueError("syntax error in pattern")
            parts.append((_class(pattern[at:end], r"\[\]&~|^"), _ONE))
            at = end + 1
        else:
            if sign == "\\":
                if at == len(pattern):
                    raise ValueError("syntax error in pattern")
                sign = pattern[at]
                at += 1
            parts.append((re.escape(sign), _ONE))
    return Pattern(parts)


def ignored(pattern: str) -> Pattern:
    """A line of a .dockerignore (moby: patternmatcher): as `glob`, and `**` stands for any directories.

    Raises ValueError for a malformed one.
    """
    if pattern.startswith("**") and not re.search(r"[*?\\\[\]]", pattern[2:]) and pattern[2:3] != "/":
        return Pattern([(".", _MANY), *((re.escape(sign), _ONE) for sign in pattern[2:])])  # the end of any path
    parts: list[tuple[str, str]] = []
    at = 0
    while at < len(pattern):
        sign = pattern[at]
        at += 1
        if pattern.startswith("**", at - 1):
            at += 2 if pattern.startswith("/", at + 1) else 1
            part = (".", _MANY) if at == len(pattern) else ("", _FOLDERS)
            if parts[-1:] != [part]:
                parts.append(part)
        elif sign == "*":
            parts.append(("[^/]", _MANY))
        elif sign == "?":
            parts.append(("[^/]", _ONE))
        elif sign == "[" and "]" in pattern[at + 1 :]:
            end = pattern.index("]", at + 1)
            parts.append((_class(pattern[at:end], r"\[\]&~|"), _ONE))
            at = end + 1
        else:
            escaped = sign == "\\" and at < len(pattern)
            parts.append((re.escape(pattern[at] if escaped else sign), _ONE))
            at += escaped
    return Pattern(parts)


def _class(inside: str, special: str) -> str:
    negated = "^" if inside.startswith("^") else ""
    return f"[{negated}" + re.sub(f"([{special}])", r"\\\1", inside.removeprefix("^")) + "]"


def _written(part: str, often: str) -> str:
    return "(?:.*/)?" if often == _FOLDERS else f"{part}*" if often == _MANY else part
