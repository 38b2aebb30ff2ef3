"""The README's table of served operations. As a program: writes it anew."""

import os

from compat_api import operations
from compat_api.declaration import OPERATIONS
from tests.house.source import ROOT

BEGIN, END = "<!-- operations: begin -->\n", "<!-- operations: end -->\n"


def shape(path: str) -> str:
    """A path with its value names left out: `/containers/{id}/json` → `/containers/{}/json`."""
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


def known() -> list[tuple[str, str]]:
    """(method, path) of every operation of the Docker Engine API 1.51."""
    with open(f"{ROOT}/openapi/operations-1.51", encoding="ascii") as file:
        pairs = [line.split() for line in file if not line.startswith("#")]
    return [(method, path) for method, path in pairs]


def served() -> set[tuple[str, str]]:
    """(method, shape of the path) of every operation that is declared."""
    operations.load_all()
    return {(declared.method, shape(declared.path)) for declared in OPERATIONS}


def render() -> str:
    """The table, one row per resource."""
    ours = served()
    rows: dict[str, tuple[list[str], list[str]]] = {}
    for method, path in known():
        resource = path.split("/")[1]
        has, lacks = rows.setdefault(resource, ([], []))
        (has if (method, shape(path)) in ours else lacks).append(f"`{method} {path}`")
    lines = ["| | served | not served |", "| --- | --- | --- |"]
    lines += [f"| {resource} | {', '.join(has)} | {', '.join(lacks)} |" for resource, (has, lacks) in rows.items()]
    total = sum(len(has) for has, _ in rows.values())
    return f"{total} of {len(known())} operations:\n\n" + "\n".join(lines) + "\n"


def replaced(readme: str) -> str:
    """`readme` with the table as it should be."""
    before, _, rest = readme.partition(BEGIN)
    return f"{before}{BEGIN}{render()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    path = os.path.join(ROOT, "README.md")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(replaced(text))
