"""Files of settings, read once per change: what was understood is kept as long as the files stay the same."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    Meaning = TypeVar("Meaning")
    State = tuple[tuple[str, int, int, int], ...]


def kept(parse: "Callable[[Sequence[str]], Meaning]") -> "Callable[[Sequence[str]], Meaning]":
    """`parse` of the files that exist among the given ones, called anew when one of them has changed.

    What `parse` raises is raised each time, until the files have changed.
    """
    known: dict[tuple[str, ...], tuple[State, Meaning]] = {}

    def of(paths: "Sequence[str]") -> "Meaning":
        state = _state(paths)
        key = tuple(paths)
        if key not in known or known[key][0] != state:
            known[key] = state, parse([path for path, *_ in state])
        return known[key][1]

    return of


def _state(paths: "Sequence[str]") -> "State":
    found = []
    for path in paths:
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        found.append((path, status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)
