"""YAML as programs write it for machines to read: block mappings and sequences, scalars, flow collections, comments.

Device vendors' tools write CDI specifications so (nvidia-ctk and the like). A library would cost a start more than the
whole file; what is not read here (anchors, tags, block scalars, several documents) is an error, never a guess.
"""

from service import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WORDS: "dict[str, Any]" = {"": None, "~": None, "null": None, "true": True, "false": False}
_DIGITS = frozenset("0123456789")


def loads(text: str) -> "Any":
    """The value that `text` spells. Raises ValueError that names a line."""
    lines = _Lines(text)
    if lines.indent() < 0:
        return None
    value = _node(lines, lines.indent())
    if lines.indent() >= 0:
        raise lines.error("unexpected text")
    return value


class _Lines:
    """The lines that say something, and where the reader is among them."""

    def __init__(self, text: str) -> None:
        self.found: list[tuple[int, int, str]] = []  # number, indentation, text
        self.at = 0
        for number, line in enumerate(text.splitlines(), 1):
            bare = _without_comment(line).rstrip()
            if not bare or (bare == "---" and not self.found):
                continue
            if "\t" in bare[: len(bare) - len(bare.lstrip())]:
                raise ValueError(f"line {number}: a tab cannot indent")
            self.found.append((number, len(bare) - len(bare.lstrip(" ")), bare.lstrip(" ")))

    def indent(self) -> int:
        """Of the present line; -1 at the end."""
        return self.found[self.at][1] if self.at < len(self.found) else -1

    def text(self) -> str:
        """The present line without its indentation; "" at the end."""
        return self.found[self.at][2] if self.at < len(self.found) else ""

    def error(self, words: str) -> ValueError:
        """A complaint about the present line."""
        number = self.found[min(self.at, len(self.found) - 1)][0]
        return ValueError(f"line {number}: {words}")


def _without_comment(line: str) -> str:
    place = 0
    while place < len(line):
        before = line[place - 1] if place else " "
        if line[place] in "\"'" and before in " [{,:-":
            end = _end_of_quote(line[place:])
            if end < 0:
                return line  # goes on in the next line
            place += end
            continue
        if line[place] == "#" and before in " \t":
            return line[:place]
        place += 1
    return line


def _node(lines: _Lines, indent: int) -> "Any":
    """The collection or scalar that begins at the present line, which is indented by `indent`."""
    text = lines.text()
    if text == "-" or text.startswith("- "):
        return _sequence(lines, indent)
    if _split_key(text):
        return _mapping(lines, indent)
    lines.at += 1
    return _scalar(lines, text, indent - 1)


def _sequence(lines: _Lines, indent: int) -> "list[Any]":
    made = []
    while lines.indent() == indent and (lines.text() == "-" or lines.text().startswith("- ")):
        number, _, text = lines.found[lines.at]
        rest = text[1:].lstrip(" ")
        if rest:  # the item begins on the dash's own line: read it as if it stood there alone
            inner = indent + len(text) - len(rest)
            lines.found[lines.at] = (number, inner, rest)
            made.append(_node(lines, inner))
            continue
        lines.at += 1
        made.append(_node(lines, lines.indent()) if lines.indent() > indent else None)
    if lines.indent() > indent:
        raise lines.error("wrong indentation")
    return made


def _mapping(lines: _Lines, indent: int) -> "dict[str, Any]":
    made: dict[str, Any] = {}
    while lines.indent() == indent and (pair := _split_key(lines.text())):
        key, rest = pair
        if key in made:
            raise lines.error(f"key {key} occurs twice")
        lines.at += 1
        below, text = lines.indent(), lines.text()
        if rest:
            made[key] = _scalar(lines, rest, indent)
        elif below > indent or (below == indent and (text == "-" or text.startswith("- "))):
            made[key] = _node(lines, below)
        else:
            made[key] = None
    if lines.indent() > indent:
        raise lines.error("wrong indentation")
    return made


def _split_key(text: str) -> "tuple[str, str] | None":
    """`key: rest` in two; None when the line is no entry of a mapping."""
    if text[0] in "[{":
        return None
    if text[0] in "\"'":
        end = _end_of_quote(text)
        if end < 0 or text[end : end + 1] != ":":
            return None
        return str(_quoted(text[:end])), text[end + 1 :].strip(" ")
    key, colon, rest = (text[:-1], ":", "") if text.endswith(":") and ": " not in text else text.partition(": ")
    return (key.rstrip(" "), rest.strip(" ")) if colon else None


def _scalar(lines: _Lines, text: str, indent: int) -> "Any":
    """A scalar or a flow collection that begins with `text`; lines indented deeper than `indent` continue it."""
    if text[0] in "|>&*!%@`":
        lines.at -= 1
        raise lines.error(f"{text[0]} is not read here")
    while lines.indent() > indent:
        text += " " + lines.text()
        lines.at += 1
    try:
        value, rest = _flow(text) if text[0] in "[{\"'" else (_plain(text), "")
    except (IndexError, ValueError) as error:
        lines.at -= 1
        raise lines.error(str(error)) from None
    if rest.strip():
        lines.at -= 1
        raise lines.error("unexpected text")
    return value


def _flow(text: str) -> "tuple[Any, str]":
    """The value at the beginning of `text`, in flow style, and what follows it. Raises ValueError or IndexError."""
    text = text.lstrip(" ")
    if text[0] in "\"'":
        end = _end_of_quote(text)
        if end < 0:
            raise ValueError("a quote is not closed")
        return _quoted(text[:end]), text[end:]
    if text[0] not in "[{":
        end = min((text.index(c) for c in ",]}:" if c in text), default=len(text))
        return _plain(text[:end].strip(" ")), text[end:]
    closing, items, rest = "]" if text[0] == "[" else "}", [], text[1:].lstrip(" ")
    while rest[0] != closing:
        key, rest = _flow(rest)
        if closing == "}":
            if rest.lstrip(" ")[0] != ":":
                raise ValueError("a key without a value")
            value, rest = _flow(rest.lstrip(" ")[1:])
            items.append((str(key), value))
        else:
            items.append((key, None))
        rest = rest.lstrip(" ")
        if rest[0] == ",":
            rest = rest[1:].lstrip(" ")
        elif rest[0] != closing:
            raise ValueError("a comma is missing")
    return (dict(items) if closing == "}" else [item for item, _ in items]), rest[1:]


def _end_of_quote(text: str) -> int:
    """Where the quoted scalar at the beginning ends (behind its quote); -1 when it does not."""
    quote, place = text[0], 1
    while place < len(text):
        if text[place] == "\\" and quote == '"':
            place += 1
        elif text[place] == quote:
            if quote == "'" and text[place + 1 : place + 2] == "'":
                place += 1
            else:
                return place + 1
        place += 1
    return -1


def _quoted(text: str) -> str:
    if text[0] == "'":
        return text[1:-1].replace("''", "'")
    return str(jsontext.loads(text))  # YAML's escapes that JSON lacks are not written by machines


def _plain(text: str) -> "Any":
    if text in _WORDS:
        return _WORDS[text]
    digits = text.removeprefix("-")
    if digits and set(digits) <= _DIGITS:
        octal = len(digits) > 1 and digits[0] == "0" and not set(digits) & {"8", "9"}
        return int(text, 8 if octal else 10)  # `fileMode: 0660` is octal in the YAML that Go reads
    whole, dot, part = digits.partition(".")
    if dot and whole and part and set(whole + part) <= _DIGITS:
        return float(text)
    return text
