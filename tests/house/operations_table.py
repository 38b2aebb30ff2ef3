"""The README's table of served operations. As a program: writes it anew."""

import os

from compat_api import operations
from compat_api.declaration import OPERATIONS
from tests.house.source import ROOT

_WITHOUT = "swarm, plugins and containerd's image store"
BEGIN, END = "<!-- operations: begin -->\n", "<!-- operations: end -->\n"


def shape(path: str) -> str:
    """A path with its value names left out: `/containers/{id}/json` → `/containers/{}/json`."""
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


def known() -> list[tuple[str, str]]:
    """(method, path) of every operation of the Docker Engine API 1.55."""
    with open(f"{ROOT}/openapi/operations-1.55", encoding="ascii") as file:
        pairs = [line.split() for line in file if not line.startswith("#")]
    return [(method, path) for method, path in pairs]


def served() -> set[tuple[str, str]]:
    """(method, shape of the path) of every operation that is declared."""
    operations.load_all()
    return {(declared.method, shape(declared.path)) for declared in OPERATIONS}


def declined() -> set[tuple[str, str]]:
    """Those of them that only ever say that there is no swarm, no plugin, or no attestation, as dockerd would."""
    operations.load_all()
    return {
        (declared.method, shape(declared.path))
        for declared in OPERATIONS
        if declared.handler.__module__.rpartition(".")[2] in ("swarm", "plugins")
        or declared.handler.__name__ in ("volume_update", "image_attestations")
    }


def render() -> str:
    """The table, one row per resource."""
    ours, refused = served(), declined()
    rows: dict[str, tuple[list[str], list[str], list[str]]] = {}
    for method, path in known():
        resource, key = path.split("/")[1], (method, shape(path))
        place = 1 if key in refused else 0 if key in ours else 2
        rows.setdefault(resource, ([], [], []))[place].append(f"`{method} {path}`")
    lines = [f"| | served | as by dockerd without {_WITHOUT} | not served |", "| --- | --- | --- | --- |"]
    lines += [f"| {resource} | " + " | ".join(map(", ".join, places)) + " |" for resource, places in rows.items()]
    total, told = (sum(len(places[number]) for places in rows.values()) for number in (0, 1))
    summary = f"{total} of {len(known())} operations, and {told} that answer as dockerd does without {_WITHOUT}:"
    return f"{summary}\n\n" + "\n".join(lines) + "\n"


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
