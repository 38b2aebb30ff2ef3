"""JSON read as Go's decoder reads it for dockerd: the first value, then nothing; its complaints in its words.

Source of the words: the documented errors of Go's encoding/json (SyntaxError) as dockerd passes them on.
"""

from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BLANKS = " \t\r\n"
_LITERALS = {"t": "true", "f": "false", "n": "null"}
_DIGITS = "0123456789"
_DEPTH = 10000  # Go's own bound on nesting


def decode(body: bytes) -> "Any":
    """The one JSON value that `body` holds. Raises InvalidParameter."""
    text = body.decode("utf-8", "replace")
    end = Scanner(text).value_end()
    if text[end:].strip(_BLANKS):
        raise InvalidParameter("unexpected content after JSON")
    from service import jsontext

    try:
        return jsontext.loads(text[:end])
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"invalid JSON: {error}") from None


class Scanner:
    """Finds where the first value of `text` ends, or says what is wrong with it."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def value_end(self) -> int:
        """The position after the first value. Raises InvalidParameter."""
        open_with: list[str] = []  # the brackets around the place we are at
        self._value_or_open(open_with)
        while open_with:
            self._next(open_with)
        return self.at

    def _next(self, open_with: list[str]) -> None:
        """After a value inside brackets: a comma and the next value, or the closing bracket."""
        sign = self._look()
        closing = "}" if open_with[-1] == "{" else "]"
        if sign == closing:
            self.at += 1
            open_with.pop()
            return
        if sign != ",":
            self._refuse("after object key:value pair" if closing == "}" else "after array element")
        self.at += 1
        if closing == "}":
            self._key()
        self._value_or_open(open_with)

    def _value_or_open(self, open_with: list[str]) -> None:
        """One whole value, or the opening of a bracket and its first value."""
        while True:
            sign = self._look()
            if sign == "{":
                self._enter(open_with, sign)
                if self._look() == "}":
                    break
                self._key()
            elif sign == "[":
                self._enter(open_with, sign)
                if self._look() == "]":
                    break
            else:
                return self._scalar(sign)
        self.at += 1
        open_with.pop()
        return None

    def _enter(self, open_with: list[str], sign: str) -> None:
        if len(open_with) == _DEPTH:
            raise InvalidParameter("invalid JSON: exceeded max depth")
        open_with.append(sign)
        self.at += 1

    def _key(self) -> None:
        if self._look() != '"':
            self._refuse("looking for beginning of object key string")
        self._string()
        if self._look() != ":":
            self._refuse("after object key")
        self.at += 1

    def _scalar(self, sign: str) -> None:
        if sign == '"':
            self._string()
        elif sign in _LITERALS:
            word = _LITERALS[sign]
            for position, letter in enumerate(word):
                if self._here() != letter:
                    self._refuse(f"in literal {word} (expecting {letter!r})" if position else "")
                self.at += 1
        elif sign == "-" or sign in _DIGITS:
            self._number()
        else:
            self._refuse("looking for beginning of value")

    def _number(self) -> None:
        if self._here() == "-":
            self.at += 1
            if self._here() not in _DIGITS:
                self._refuse("in numeric literal")
        if self._here() == "0":
            self.at += 1
        else:
            self._digits()
        if self.text[self.at : self.at + 1] == ".":
            self.at += 1
            if self._here() not in _DIGITS:
                self._refuse("after decimal point in numeric literal")
            self._digits()
        if self.text[self.at : self.at + 1] in ("e", "E"):
            self.at += 1
            if self._here() in "+-":
                self.at += 1
            if self._here() not in _DIGITS:
                self._refuse("in exponent of numeric literal")
            self._digits()

    def _digits(self) -> None:
        while self.text[self.at : self.at + 1] and self.text[self.at] in _DIGITS:
            self.at += 1

    def _string(self) -> None:
        self.at += 1
        while (sign := self._here()) != '"':
            if sign == "\\":
                self.at += 1
                sign = self._here()
                if sign == "u":
                    for _ in range(4):
                        self.at += 1
                        if self._here() not in "0123456789abcdefABCDEF":
                            self._refuse("in \\u hexadecimal character escape")
                elif sign not in '"\\/bfnrt':
                    self._refuse("in string escape code")
            elif sign < " ":
                self._refuse("in string literal")
            self.at += 1
        self.at += 1

    def _look(self) -> str:
        """The next character that is not blank."""
        while self.text[self.at : self.at + 1] and self.text[self.at] in _BLANKS:
            self.at += 1
        return self._here()

    def _here(self) -> str:
        if self.at >= len(self.text):
            raise InvalidParameter("invalid JSON: unexpected EOF")
        return self.text[self.at]

    def _refuse(self, where: str) -> None:
        found = self._here()
        shown = {"'": "'\\''", '"': "'\"'", "\\": "'\\\\'", "\n": "'\\n'", "\r": "'\\r'", "\t": "'\\t'"}.get(
            found, f"'{found}'" if found >= " " else f"'\\x{ord(found):02x}'"
        )
        raise InvalidParameter(f"invalid JSON: invalid character {shown} {where}")
