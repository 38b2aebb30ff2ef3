"""A Dockerfile's text into instructions: directives, comments, continued lines, flags, JSON and shell forms, heredocs.

`parse` reads the text; what an instruction's arguments mean is `instructions`' business. Source: Dockerfile reference,
"Format" and "Parser directives"; behaviour of buildkit's frontend/dockerfile/parser.
"""

import json
import re

from service.builder.words import BadWord, is_space, quoted, split, stripped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_LINE = 65535  # bytes (Go: bufio.MaxScanTokenSize - 1)
_BLANKS = re.compile("[\t\v\f\r ]+")
_DIRECTIVE = re.compile(r"^([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"^(\d*)<<(-?)\s*([^<]*)$", re.DOTALL)


class BadDockerfile(Exception):  # noqa: N818 - it says what is bad
    """The text is not a Dockerfile; the message is Docker's. `line` counts from 1; 0: the message is enough."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class Heredoc:
    """`<<NAME` and what follows it. `expand`: variables in it are replaced (the name was not quoted)."""

    __slots__ = ("chomp", "content", "expand", "name")

    def __init__(self, name: str, *, expand: bool, chomp: bool) -> None:
        self.name, self.expand, self.chomp, self.content = name, expand, chomp, ""

    @property
    def text(self) -> str:
        """The content as it is meant: with `<<-`, without the tabs that lines begin with."""
        return re.sub(r"(?m)^\t+", "", self.content) if self.chomp else self.content


class Line:
    """One instruction as written: `word` RUN, `flags` --mount=…, `arguments` split as its form has them."""

    __slots__ = ("arguments", "code", "comments", "end", "flags", "heredocs", "is_json", "number", "trigger", "word")

    def __init__(self, word: str, code: str) -> None:
        self.word, self.code = word, code
        self.flags: list[str] = []
        self.arguments: list[str] = []
        self.is_json = False
        self.heredocs: list[Heredoc] = []
        self.trigger: Line | None = None  # ONBUILD's own
        self.comments: list[str] = []  # those above it, as far as no empty one divides them from it
        self.number = self.end = 0  # the first of its lines, and the last; from 1

    @property
    def name(self) -> str:
        """The instruction in lower case."""
        return self.word.lower()


class Dockerfile:
    """What was read."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.escape = "\\"
        self.check = ""  # what the directive `check` says
        self.warnings: list[str] = []
        self.empty_continuations: list[int] = []  # the lines in which instructions with empty ones end


def parse(text: "bytes | str") -> Dockerfile:
    """Read a Dockerfile. Raises BadDockerfile."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return _Parser(text.removeprefix("\ufeff")).run()


class _Parser:
    def __init__(self, text: str) -> None:
        self.physical = iter(text.splitlines(keepends=True) if "\r" not in text else _lines(text))
        if any(sign in text for sign in "\v\f\x1c\x1d\x1e\x85\u2028\u2029"):
            self.physical = _lines(text)  # only a line feed ends a line
        self.result = Dockerfile()
        self.number = 0
        self.directives: set[str] | None = set()  # None: no more can come
        self._set_escape("\\")

    def _set_escape(self, sign: str) -> None:
        if sign not in ("\\", "`"):
            raise BadDockerfile(f"invalid escape token '{sign}' does not match ` or \\")
        self.result.escape = sign
        mark = re.escape(sign)
        self.continued = re.compile(rf"([^{mark}]){mark}[ \t]*$|^{mark}[ \t]*$")

    def run(self) -> Dockerfile:
        comments: list[str] = []
        while (line := self._physical()) is not None:
            line = line.rstrip("\r\n")
            while line and is_space(line[0]):
                line = line[1:]
            is_directive = self._directive(line)
            if line.startswith("#"):
                comment = stripped(line[1:])
                if not is_directive:
                    comments = [*comments, comment] if comment else []
                continue
            line, goes_on = self._cut(line)
            if not line and not goes_on:
                continue
            self._instruction(line, goes_on, comments)
            comments = []
        if not self.result.lines:
            raise BadDockerfile("file with no instructions")
        return self.result

    def _physical(self) -> "str | None":
        line = next(self.physical, None)
        if line is None:
            return None
        self.number += 1
        if len(line) > LONGEST_LINE // 4 and len(line.encode("utf-8", "replace")) > LONGEST_LINE:
            raise BadDockerfile(f"dockerfile line greater than max allowed size of {LONGEST_LINE}")
        return line

    def _directive(self, line: str) -> bool:
        """Read a line that may be a parser directive; whether it is one."""
        if self.directives is None:
            return False
        found = _DIRECTIVE.match(stripped(line[1:])) if line.startswith("#") else None
        name = found[1].lower() if found else ""
        if found is None or name not in _DIRECTIVES:
            self.directives = None
            return False
        if name in self.directives:
            raise BadDockerfile(f"only one {name} parser directive can be used")
        self.directives.add(name)
        if name == "escape":
            self._set_escape(found[2])
        elif name == "check":
            self.result.check = found[2]
        return True

    def _cut(self, line: str) -> "tuple[str, bool]":
        """The line without its continuation mark; whether it has one."""
        found = self.continued.search(line)
        if found is None:
            return line, False
        return line[: found.start()] + (found[1] or ""), True

    def _instruction(self, line: str, goes_on: bool, comments: "list[str]") -> None:
        start = self.number
        parts, empty = [line], False
        while goes_on and (more := self._physical()) is not None:
            more = more.rstrip("\r\n")
            blank = stripped(more)
            if blank.startswith("#"):
                continue
            if not blank:
                empty = True
                continue
            more, goes_on = self._cut(more)
            parts.append(more)
        whole = "".join(parts)
        if empty:
            self.result.empty_continuations.append(self.number)
            self.result.warnings.append(f"Empty continuation line found in: {whole}")
        read = read_line(whole, self.result.escape)
        read.number, read.comments = start, comments
        if can_have_heredocs(read) and "<<" in whole:
            for heredoc in _heredocs(whole):
                self._content(heredoc)
                read.heredocs.append(heredoc)
        read.end = self.number
        self.result.lines.append(read)

    def _content(self, heredoc: Heredoc) -> None:
        kept: list[str] = []
        while (line := self._physical()) is not None:
            end = line.rstrip("\r\n")
            if (end.lstrip("\t") if heredoc.chomp else end) == heredoc.name:
                heredoc.content = "".join(kept)
                return
            kept.append(line)
        raise BadDockerfile("unterminated heredoc")


def _lines(text: str) -> "Iterator[str]":
    """The lines with their ends; only a line feed ends one."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start : end + 1]
        start = end + 1
    if start < len(text):
        yield text[start:]


def read_line(whole: str, escape: str) -> Line:
    """One instruction from its logical line (also a trigger of an image). Raises BadDockerfile."""
    parts = _BLANKS.split(stripped(whole), maxsplit=1)
    line = Line(parts[0], stripped(whole))
    rest = ""
    if len(parts) == 2:
        rest, line.flags = _flags(parts[1], escape)
    _FORMS.get(line.name, _ignored)(line, stripped(rest), escape)
    return line


def can_have_heredocs(line: Line) -> bool:
    """Whether `<<` means one here."""
    if line.name == "onbuild" and line.trigger is not None:
        line = line.trigger
    return line.name in ("add", "copy", "run") and not line.is_json


def heredoc_of(word: str) -> "Heredoc | None":
    """The heredoc that a word begins, if it does. Raises BadWord."""
    found = _HEREDOC.match(word)
    if found is None or not found[3]:
        return None
    plain = split(found[3], {})
    kept = split(found[3], {}, raw=True)
    if len(plain) != 1:
        return None
    quotes = sum(map(kept[0].count, "'\"")) if kept else 0
    return Heredoc(plain[0], expand=sum(map(plain[0].count, "'\"")) == quotes, chomp=found[2] == "-")


def _heredocs(whole: str) -> "list[Heredoc]":
    try:
        words = split(whole, {}, raw=True)
    except BadWord:
        return []
    found = []
    for word in words:
        try:
            heredoc = heredoc_of(word)
        except BadWord as error:
            raise BadDockerfile(str(error)) from None
        if heredoc is not None:
            found.append(heredoc)
    return found


def _flags(text: str, escape: str) -> "tuple[str, list[str]]":
    """What is left of `text` after the flags (--name=value) that it begins with, and those."""
    flags: list[str] = []
    at = 0
    while True:
        while at < len(text) and is_space(text[at]):
            at += 1
        if not text.startswith("--", at):
            return text[at:], flags
        word: list[str] = []
        quote, blank_counts = "", False
        while at < len(text):
            sign = text[at]
            if not quote and is_space(sign):
                break
            at += 1
            if not quote and sign in "'\"":
                quote, blank_counts = sign, True
            elif quote and sign == quote:
                quote = ""
            elif sign == escape:
                if at < len(text):
                    word.append(text[at])
                    at += 1
            else:
                word.append(sign)
        flag = "".join(word)
        if flag == "--":
            return text[at:], flags
        if flag or blank_counts:
            flags.append(flag)


def _ignored(line: Line, rest: str, escape: str) -> None:
    """An instruction that does not exist: `instructions` says so."""


def _whole(line: Line, rest: str, escape: str) -> None:
    del escape
    line.arguments = [rest] if rest else []


def _at_blanks(line: Line, rest: str, escape: str) -> None:
    del escape
    line.arguments = _BLANKS.split(rest) if rest else []


def _json(line: Line, rest: str) -> bool:
    """Whether the arguments are a JSON array of strings; they are taken then."""
    if not rest.startswith("["):
        return False
    try:
        given = json.loads(rest)
    except (ValueError, RecursionError):
        return False
    if not isinstance(given, list):
        return False
    if not all(isinstance(item, str) for item in given):
        raise BadDockerfile("when using JSON array syntax, arrays must be comprised of strings only")
    line.arguments, line.is_json = given, True
    return True


def _json_or_whole(line: Line, rest: str, escape: str) -> None:
    if rest and not _json(line, rest):
        _whole(line, rest, escape)


def _json_or_blanks(line: Line, rest: str, escape: str) -> None:
    if not _json(line, rest):
        _at_blanks(line, rest, escape)


def _words(text: str, escape: str) -> "list[str]":
    """Split at blanks outside of quotes; quotes and escapes stay."""
    found: list[str] = []
    word: list[str] = []
    quote, blank_counts = "", False
    at = 0
    while at < len(text):
        sign = text[at]
        at += 1
        if not quote and is_space(sign):
            if word or blank_counts:
                found.append("".join(word))
            word, blank_counts = [], False
            continue
        if sign == escape and quote != "'":
            if at == len(text):
                break  # an escape at the end is passed over
            word.append(sign)
            sign = text[at]
            at += 1
        elif not quote and sign in "'\"":
            quote, blank_counts = sign, True
        elif sign == quote:
            quote = ""
        word.append(sign)
    if word or blank_counts:
        found.append("".join(word))
    return found


def _pairs(line: Line, rest: str, escape: str) -> None:
    """name=value …, or the old form `name the rest`; arguments are names and values in turn."""
    words = _words(rest, escape)
    if not words:
        return
    if "=" not in words[0]:
        parts = _BLANKS.split(rest, maxsplit=1)
        if len(parts) < 2:
            raise BadDockerfile(f"{line.word.upper()} must have two arguments")
        line.arguments = parts
        return
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise BadDockerfile(f"Syntax error - can't find = in {quoted(word)}. Must be of the form: name=value")
        line.arguments += [name, value]


def _definitions(line: Line, rest: str, escape: str) -> None:
    line.arguments = _words(rest, escape)


def _health(line: Line, rest: str, escape: str) -> None:
    end = next((place for place, sign in enumerate(rest) if is_space(sign)), len(rest))
    if not end:
        return
    _json_or_whole(line, rest[end:].lstrip(), escape)
    line.arguments = [rest[:end], *line.arguments]


def _trigger(line: Line, rest: str, escape: str) -> None:
    if _BLANKS.split(rest, maxsplit=1)[0].lower() == "onbuild":
        line.arguments = ["ONBUILD"]  # refused, so not read any deeper
    elif rest:
        line.trigger = read_line(rest, escape)
        line.arguments = [line.trigger.word, *line.trigger.arguments]


_FORMS = {
    "add": _json_or_blanks,
    "arg": _definitions,
    "cmd": _json_or_whole,
    "copy": _json_or_blanks,
    "entrypoint": _json_or_whole,
    "env": _pairs,
    "expose": _at_blanks,
    "from": _at_blanks,
    "healthcheck": _health,
    "label": _pairs,
    "maintainer": _whole,
    "onbuild": _trigger,
    "run": _json_or_whole,
    "shell": _json_or_whole,
    "stopsignal": _whole,
    "user": _whole,
    "volume": _json_or_blanks,
    "workdir": _whole,
}
