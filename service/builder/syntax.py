"""Which frontend a Dockerfile wants to be read by: `# syntax=…`, also where it is no Dockerfile at all (Dockerfile
reference, "syntax"; behaviour of buildkit's frontend/dockerfile/parser/directives.go)."""

import json
import re

BUILT_IN = "dockerfile.v0"
_OURS = re.compile(r"(docker\.io/)?docker/dockerfile(-upstream)?(:[\w.-]+)?(@sha256:[0-9a-f]{64})?", re.ASCII)
_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")


def is_built_in(image: str) -> bool:
    """Whether an image is the frontend that is built in, of whatever version."""
    return _OURS.fullmatch(image) is not None


def refused(image: str) -> str:
    """What is said of another one."""
    return f"the frontend {image} cannot be used: the built-in one, {BUILT_IN}, is the only one"


def named(text: bytes) -> "tuple[str, int]":
    """The image of the frontend, and the line that names it (from 1); empty for none."""
    lines = text.decode("utf-8", "replace").removeprefix("\ufeff").split("\n")
    first = 1 if lines[0].startswith("#!") else 0
    for comment in ("#", "//"):
        for number, line in enumerate(lines[first:], first + 1):
            said = line.strip()
            found = _DIRECTIVE.fullmatch(said[len(comment) :].strip()) if said.startswith(comment) else None
            if found is None:
                break
            if found[1].lower() == "syntax":
                return found[2].split(" ")[0], number
    try:
        document = json.loads("\n".join(lines[first:])) if lines[first : first + 1] != [""] else None
    except (ValueError, RecursionError):
        return "", 0
    asked = document.get("syntax") if isinstance(document, dict) else None
    return (asked, first + 1) if isinstance(asked, str) else ("", 0)
