"""openapi/DIFFERENCES.md, read: where an answer may differ from dockerd's, or from its description, and why.

A row that no longer differs is an error too: `Rows` counts which were met.
"""

import os
import re
from fnmatch import fnmatchcase

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FILE = f"{ROOT}/openapi/DIFFERENCES.md"


class Rows:
    """The rows of one table: the cells before the reason name the difference; `*` in them stands for anything."""

    def __init__(self, heading: str) -> None:
        self.heading = heading
        with open(FILE, encoding="utf-8") as file:
            section = re.split(r"^## ", file.read(), flags=re.MULTILINE)
        lines = next(part for part in section if part.startswith(heading + "\n")).splitlines()
        table = [line for line in lines if line.startswith("|")][2:]
        self.rows = [tuple(_cell(text) for text in line.strip("| ").split(" | ")) for line in table]
        self.met: set[tuple[str, ...]] = set()  # by what was seen; others may add what theirs have met

    def reason(self, *name: str) -> str | None:
        """Why this may differ; None when no row names it."""
        for row in self.rows:
            *patterns, reason = row
            if len(patterns) == len(name) and all(map(_fits, name, patterns)):
                self.met.add(row)
                return reason
        return None

    def stale(self) -> list[str]:
        """The rows that nothing has met."""
        return [f"{self.heading}: {' | '.join(row)}" for row in self.rows if row not in self.met]


def _cell(text: str) -> str:
    return text.strip().strip("`").replace("\\|", "|")


def _fits(text: str, pattern: str) -> bool:
    return text == pattern or fnmatchcase(text, pattern.replace("[", "[[]"))
