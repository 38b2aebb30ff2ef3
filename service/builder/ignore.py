""".dockerignore: the patterns that leave files out of a context (moby: patternmatcher)."""

from service.patterns import ignored

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
        if negated == out and _any(pattern.removeprefix("!"), above):
            out = not negated
    return out


def _any(pattern: str, paths: "list[str]") -> bool:
    try:
        compiled = ignored(pattern)
    except ValueError:
        return False
    return any(compiled.matches(path) for path in paths)
