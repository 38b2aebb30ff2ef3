"""Words of a Dockerfile: quotes, escapes and variables, as Docker's own shell-like lexer reads them.

    $name ${name} ${name:-word} ${name-word} ${name:+word} ${name+word} ${name:?word} ${name?word}
    ${name#pattern} ${name##pattern} ${name%pattern} ${name%%pattern} ${name/pattern/word} ${name//pattern/word}

Source: Dockerfile reference, "Environment replacement"; behaviour of buildkit's frontend/dockerfile/shell.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_SPECIAL = "@*#?-$!0"  # shell parameters of one sign
_END = "\ufffd"  # how Go shows that no sign was left
_DEEPEST = 100  # expansions inside one another: more is an attack, not a Dockerfile


class BadWord(Exception):  # noqa: N818 - it says what is bad
    """A word that means nothing; the message is Docker's."""


class Noting(dict[str, str]):
    """Variables that remember which of them were asked for, and which of those there are not, in that order."""

    def __init__(self, values: "Mapping[str, str]") -> None:
        super().__init__(values)
        self.asked: list[str] = []
        self.missing: list[str] = []

    def get(self, name: str, default: "Any" = None) -> "Any":
        """As of any dictionary."""
        self.asked.append(name)
        if name not in self:
            self.missing.append(name)
        return super().get(name, default)


def is_space(sign: str) -> bool:
    """Go's unicode.IsSpace."""
    return sign.isspace() and sign not in "\x1c\x1d\x1e\x1f"


def stripped(text: str) -> str:
    """Go's strings.TrimSpace."""
    start, end = 0, len(text)
    while start < end and is_space(text[start]):
        start += 1
    while end > start and is_space(text[end - 1]):
        end -= 1
    return text[start:end]


def expanded(word: str, variables: "Mapping[str, str]", escape: str = "\\") -> str:
    """The word with quotes taken away and variables replaced; blanks stay. Raises BadWord."""
    return _Lexer(word, variables, escape).run()[0]


def split(text: str, variables: "Mapping[str, str]", escape: str = "\\", *, raw: bool = False) -> "list[str]":
    """The words of a text, split at blanks after variables were replaced. `raw`: quotes and escapes stay, and so do
    variables that are not set. Raises BadWord."""
    lexer = _Lexer(text, variables, escape)
    lexer.raw_quotes = lexer.raw_escapes = lexer.keeps_unset = raw
    return lexer.run()[1]


def shown(text: str, variables: "Mapping[str, str]", escape: str = "\\") -> str:
    """A text for people: what is known of variables is put in, everything else stays as it is written."""
    lexer = _Lexer(text, variables, escape)
    lexer.raw_quotes = lexer.raw_escapes = lexer.keeps_unset = True
    try:
        return lexer.run()[0]
    except BadWord:
        return text


def expanded_plainly(text: str, variables: "Mapping[str, str]", escape: str = "\\") -> str:
    """A heredoc's content with its variables replaced; quotes are signs as others are. Raises BadWord."""
    lexer = _Lexer(text, variables, escape)
    lexer.knows_quotes = False
    return lexer.run()[0]


class _Words:
    """Signs gathered into words."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.signs: list[str] = []
        self.inside = False

    def add(self, text: str) -> None:
        """Text whose blanks end words."""
        for sign in text:
            if not is_space(sign):
                self.add_raw(sign)
            elif self.inside and self.signs:
                self.found.append("".join(self.signs))
                self.signs.clear()
                self.inside = False

    def add_raw(self, text: str) -> None:
        """Text whose blanks are signs as others are."""
        if text:
            self.signs.append(text)
        self.inside = True

    def all(self) -> "list[str]":
        """The words."""
        if self.signs:
            self.found.append("".join(self.signs))
            self.signs.clear()
        return self.found


class _Lexer:
    def __init__(self, text: str, variables: "Mapping[str, str]", escape: str) -> None:
        self.text, self.variables, self.escape = text, variables, escape
        self.at = self.depth = 0
        self.raw_quotes = self.raw_escapes = self.keeps_unset = False
        self.knows_quotes = True

    def run(self) -> "tuple[str, list[str]]":
        try:
            return self._until("", self.raw_escapes)
        except BadWord as error:
            raise BadWord(f"failed to process {quoted(self.text)}: {error}") from None

    def _peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def _next(self) -> str:
        sign = self._peek()
        self.at += 1 if sign else 0
        return sign

    def _until(self, stop: str, raw_escapes: bool) -> "tuple[str, list[str]]":
        """Everything up to `stop` (empty: the end): as one text, and as words."""
        result: list[str] = []
        words = _Words()
        before, self.raw_escapes = self.raw_escapes, raw_escapes
        try:
            while sign := self._peek():
                if sign == stop:
                    self.at += 1
                    return "".join(result), words.all()
                if sign in "$<" or (sign in "'\"" and self.knows_quotes):
                    piece = self._special(sign)
                    result.append(piece)
                    words.add(piece) if sign == "$" else words.add_raw(piece)
                    continue
                self.at += 1
                if sign == self.escape:
                    if self.raw_escapes:
                        result.append(sign)
                        words.add_raw(sign)
                    sign = self._next()
                    if not sign:
                        break
                    words.add_raw(sign)
                else:
                    words.add(sign)
                result.append(sign)
        finally:
            self.raw_escapes = before
        if stop:
            raise BadWord(f"unexpected end of statement while looking for matching {stop}")
        return "".join(result), words.all()

    def _special(self, sign: str) -> str:
        if sign == "'":
            return self._single_quoted()
        if sign == '"':
            return self._double_quoted()
        return self._dollar() if sign == "$" else self._heredoc()

    def _heredoc(self) -> str:
        """`<<` takes the blanks after it along, so that `<< EOF` is one word."""
        self.at += 1
        if self._peek() != "<":
            return "<"
        self.at += 1
        start = self.at
        while self._peek() and self._peek() in "\t\r ":
            self.at += 1
        return "<<" + self.text[start : self.at]

    def _single_quoted(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            self.at = len(self.text)
            raise BadWord("unexpected end of statement while looking for matching single-quote")
        inside = self.text[self.at + 1 : end]
        self.at = end + 1
        return f"'{inside}'" if self.raw_quotes else inside

    def _double_quoted(self) -> str:
        result: list[str] = []
        self.at += 1
        while sign := self._peek():
            if sign == '"':
                self.at += 1
                inside = "".join(result)
                return f'"{inside}"' if self.raw_quotes else inside
            if sign == "$":
                result.append(self._dollar())
                continue
            self.at += 1
            if sign == self.escape:
                if self.raw_escapes:
                    result.append(sign)
                following = self._peek()
                if not following:
                    continue
                if following in ('"', "$", self.escape):
                    sign = self._next()
            result.append(sign)
        raise BadWord("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        self.at += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self.variables.get(name)
            return ("$" + name if self.keeps_unset else "") if value is None else value
        self.at += 1
        if not self._peek():
            raise BadWord("syntax error: missing '}'")
        if self._peek() in "{}:":
            raise BadWord("syntax error: bad substitution")
        self.depth += 1
        if self.depth > _DEEPEST:
            raise BadWord("syntax error: bad substitution")
        try:
            return self._substituted(self._name())
        finally:
            self.depth -= 1

    def _substituted(self, name: str) -> str:
        """What `${name…}` means; its name was read."""
        value = self.variables.get(name)
        sign = self._next()
        if sign == "}":
            return (f"${{{name}}}" if self.keeps_unset else "") if value is None else value
        if sign == "/":
            return self._replaced(name, value)
        shown, empty_counts = sign or _END, False
        if sign == ":":
            sign, empty_counts = self._next(), True
            shown += sign or _END
        if not sign or sign not in "+-?#%" or (empty_counts and sign in "#%"):
            raise BadWord(f"unsupported modifier ({shown}) in substitution")
        word = self._inside("}", sign in "#%")
        if value is None and self.keeps_unset:
            return f"${{{name}{shown}{word}}}"
        missing = value is None or (empty_counts and not value)
        if sign == "-":
            return word if missing else value or ""
        if sign == "+":
            return "" if missing else word
        if sign == "?":
            if missing:
                state = "unset" if value is None else "empty"
                raise BadWord(f"{name}: {word or f'is not allowed to be {state}'}")
            return value or ""
        return _trimmed(sign, word, value or "")

    def _inside(self, stop: str, raw_escapes: bool) -> str:
        try:
            return self._until(stop, raw_escapes)[0]
        except BadWord:
            if not self._peek():
                missing = "syntax error: missing '}'" if stop == "}" else "syntax error: missing '/' in ${}"
                raise BadWord(missing) from None
            raise

    def _replaced(self, name: str, value: "str | None") -> str:
        everywhere = self._peek() == "/"
        if everywhere:
            self.at += 1
        pattern = self._inside("/", True)
        replacement = self._inside("}", True)
        if value is None and self.keeps_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        return _Pattern(pattern).replaced(value or "", replacement, everywhere=everywhere)

    def _name(self) -> str:
        """A variable's name: letters, digits and `_`; digits alone; or one of the shell's special signs."""
        start = self.at
        first = self._peek()
        if first.isdigit():
            while self._peek().isdigit():
                self.at += 1
        elif first and first in _SPECIAL:
            self.at += 1
        else:
            while (sign := self._peek()) and (sign == "_" or sign.isalpha() or sign.isdigit()):
                self.at += 1
        return self.text[start : self.at]


def _trimmed(sign: str, word: str, value: str) -> str:
    """`value` without the beginning (#) or end (%) that a pattern matches: the shortest, or the longest (##, %%)."""
    longest = word[:1] == sign
    word = word[1:] if longest else word
    if sign == "#":
        end = _Pattern(word).end(value, 0, longest=longest)
        return value if end < 0 else value[end:]
    # the shortest end is the shortest beginning of it all turned round
    turned = "".join(reversed(_escaped_signs(word)))
    end = _Pattern(turned).end(value[::-1], 0, longest=longest)
    return value if end < 0 else value[: len(value) - end]


def _escaped_signs(pattern: str) -> "list[str]":
    signs: list[str] = []
    at = 0
    while at < len(pattern):
        width = 2 if pattern[at] == "\\" else 1
        signs.append(pattern[at : at + width])
        at += width
    return signs


class _Pattern:
    """A shell's pattern (`*` and `?` only). Followed state by state: no text makes it slow, as one makes `re`.

    Raises BadWord for an escape that means nothing.
    """

    def __init__(self, pattern: str) -> None:
        self.parts: list[tuple[str, str]] = []  # (kind, sign): "*" any run, "?" any sign, "=" this sign
        for signs in _escaped_signs(pattern):
            if signs in ("*", "?"):
                if signs == "?" or self.parts[-1:] != [("*", "")]:
                    self.parts.append((signs, ""))
            elif signs in ("\\}", "\\/") or (len(signs) == 1 and signs != "\\"):
                self.parts.append(("=", signs[-1]))
            elif signs in ("\\*", "\\?", "\\\\"):
                self.parts.append(("=", signs[1]))
            else:
                raise BadWord(f"invalid pattern ({pattern}) in substitution: invalid escape '{signs}'")

    def _reached(self, state: int) -> "list[int]":
        """A state, and those that are reached from it without a sign."""
        found = [state]
        while state < len(self.parts) and self.parts[state][0] == "*":
            state += 1
            found.append(state)
        return found

    def _after(self, state: int, sign: str) -> "list[int]":
        kind, wanted = self.parts[state] if state < len(self.parts) else ("", "")
        if kind == "*" and sign != "\n":
            return self._reached(state)
        if (kind == "?" and sign != "\n") or (kind == "=" and sign == wanted):
            return self._reached(state + 1)
        return []

    def end(self, value: str, start: int, *, longest: bool) -> int:
        """Where a match that begins at `start` ends; -1 when there is none."""
        states = set(self._reached(0))
        ended = -1
        for at in range(start, len(value) + 1):
            if len(self.parts) in states:
                ended = at
                if not longest:
                    break
            if at == len(value) or not states:
                break
            states = {after for state in states for after in self._after(state, value[at])}
        return ended

    def begin(self, value: str, start: int) -> int:
        """Where the first match at or after `start` begins; -1 when there is none."""
        states: dict[int, int] = {}  # state → the first beginning that leads to it
        for at in range(start, len(value) + 1):
            for state in self._reached(0):
                states.setdefault(state, at)
            if len(self.parts) in states:
                return states[len(self.parts)]
            if at == len(value):
                break
            following: dict[int, int] = {}
            for state, began in states.items():
                for after in self._after(state, value[at]):
                    following[after] = min(began, following.get(after, began))
            states = following
        return -1

    def replaced(self, value: str, replacement: str, *, everywhere: bool) -> str:
        """`value` with the first match (or all of them) replaced."""
        out: list[str] = []
        at = 0
        while (began := self.begin(value, at)) >= 0:
            ended = self.end(value, began, longest=True)
            out += [value[at:began], replacement]
            at = ended
            if ended == began:  # an empty match: go on behind the next sign
                out.append(value[at : at + 1])
                at += 1
            if not everywhere or at > len(value):
                break
        return "".join(out) + value[at:]


def quoted(text: str) -> str:
    """Go's %q."""
    marks = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\v": "\\v", "\f": "\\f", "\b": "\\b"}
    marks["\a"] = "\\a"
    signs = []
    for sign in text:
        if sign in marks:
            signs.append(marks[sign])
        elif sign.isprintable():
            signs.append(sign)
        elif ord(sign) < 0x80:
            signs.append(f"\\x{ord(sign):02x}")
        else:
            signs.append(f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}")
    return f'"{"".join(signs)}"'
