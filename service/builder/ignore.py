""".dockerignore: the patterns that leave files out of a context (moby: patternmatcher)."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def patterns(text: str) -> "list[str]":
    """The patterns that a file lists, without comments and blank lines."""
    found = []
    for line in text.removeprefix("\ufeff").splitlines():
        pattern = line.strip()
        if not pattern or line.startswith("#"):
            continue
        negated = "!" if pattern.startswith("!") else ""
        path = pattern.removeprefix("!").strip()
        parts: list[str] = []
        for part in path.split("/"):
            if part == "..":
                parts = parts[:-1]
            elif part not in ("", "."):
                parts.append(part)
        found.append(negated + "/".join(parts))
    return found


def leaves_out(listed: "Sequence[str]", path: str) -> bool:
    """Whether a path is left out: it or a directory above it matches, and no later pattern takes it back."""
    out = False
    above = ["/".join(path.split("/")[:count]) for count in range(1, path.count("/") + 2)]
    for pattern in listed:
        negated = pattern.startswith("!")
        if negated == out and any(_expression(pattern.removeprefix("!")).fullmatch(part) for part in above):
            out = not negated
    return out


def _expression(pattern: str) -> "re.Pattern[str]":
    out: list[str] = []
    at = 0
    while at < len(pattern):
        sign = pattern[at]
        at += 1
        if pattern.startswith("**", at - 1):
            at += 1
            if pattern.startswith("/", at):
                at += 1
                out.append("(?:.*/)?")
            else:
                out.append(".*")
        elif sign == "*":
            out.append("[^/]*")
        elif sign == "?":
            out.append("[^/]")
        elif sign == "\\" and at < len(pattern):
            out.append(re.escape(pattern[at]))
            at += 1
        elif sign == "[" and "]" in pattern[at + 1 :]:
            end = pattern.index("]", at + 1)
            out.append("[" + re.sub(r"([\[\]&~|])", r"\\\1", pattern[at:end]) + "]")
            at = end + 1
        else:
            out.append(re.escape(sign))
    try:
        return re.compile("".join(out), re.DOTALL)
    except re.error:
        return re.compile("(?!)")
