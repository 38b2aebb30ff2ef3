"""Prints what pip has to install: the dependencies of pyproject.toml and of the optional sets named as arguments."""

import os
import sys
import tomllib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def requirements(*sets: str) -> list[str]:
    """The requirement lines of the project and of the named optional sets. Raises KeyError for an unknown set."""
    with open(f"{ROOT}/pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    return [*project["dependencies"], *(line for name in sets for line in project["optional-dependencies"][name])]


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(*sys.argv[1:])) + "\n")
