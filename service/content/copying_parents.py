"""COPY --parents: sources keep the directories above them (Dockerfile reference, "COPY --parents").

A source is a base and a pattern, `base/./pattern`; without `/./` all of it is the pattern, and the base the tree's top.
The base is what any source of COPY is, and links in it are followed. Below it, everything that the pattern means goes
along (as in a .dockerignore: `**` stands for any directories, what is below a match matches), links as links, and no
directory is entered by one. Source: behaviour of buildkit's frontend/dockerfile/dockerfile2llb/convert_copy.go and
tonistiigi/fsutil's copy.
"""

import errno
import hashlib
import os
import re
import stat

from service.content import copying
from service.content.copying import Copied, Folder, resolved
from service.content.copying_later import LaterCopier
from service.patterns import glob, ignored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.content.copying import Described, Searched

PIVOT = "/./"


def written(source: str) -> str:
    """A source as this module takes it: with a pivot, and without `.`, `..` and what is too much."""
    base, pivot, pattern = source.partition(PIVOT)
    if not pivot:
        base, pattern = "", source
    return f"{_clean(base)}{PIVOT}{_clean(pattern)}"


def _clean(path: str) -> str:
    return os.path.normpath(f"/{path}").lstrip("/")


def found_in(tree: "Searched", source: str) -> "list[tuple[str, str]]":
    """(path, hash) of what a source means, as `written`: one for each of its bases.

    Raises FileNotFoundError naming it when it has no wildcards and nothing is there (links in it are not followed
    then), ValueError for a malformed pattern, TooManyLinks.
    """
    base, _, pattern = source.partition(PIVOT)
    if not copying.has_wildcards(base) and not copying.has_wildcards(pattern):
        _require(tree, base, pattern)
    try:
        glob(pattern)
    except ValueError as error:
        raise ValueError(f"invalid includepatterns: [{pattern}]: {error}") from None
    bases = copying.matching(tree, base) if copying.has_wildcards(base) else [base]
    return [_hashed(tree, each, pattern) for each in bases]


def _require(tree: "Searched", base: str, pattern: str) -> None:
    whole = f"{base}/{pattern}".strip("/")
    missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), whole)
    parts = whole.split("/")
    if not pattern:
        raise missing
    for count in range(1, len(parts) + 1):
        try:
            status = tree.status("/".join(parts[:count]))
        except (FileNotFoundError, NotADirectoryError):
            raise missing from None
        if count < len(parts) and not stat.S_ISDIR(status.st_mode):
            raise missing


def _hashed(tree: "Searched", base: str, pattern: str) -> "tuple[str, str]":
    top = "/".join(copying.followed(tree, base))
    if not stat.S_ISDIR(tree.status(top).st_mode):
        return base, copying.hash_of(tree, base)
    path = f"{base}{PIVOT}{pattern}"
    if not tree.hashes:
        return path, ""
    digest = hashlib.sha256()
    for name, status, _ in included(tree, top, pattern):
        digest.update(copying.hash_of_one(tree, f"{top}/{name}" if top else name, name, status).encode())
    return path, f"parents:{digest.hexdigest()}"


def included(tree: "Searched", top: str, pattern: str) -> "Iterator[tuple[str, Described, bool]]":
    """(path from there, what it is, whether it goes along) below a directory: what matches, and the directories on the
    way to it; in the order of their names, a directory before its content."""
    matcher = ignored(pattern)
    literal = _literal(pattern)

    def names(path: str, depth: int, inside: bool) -> "Iterator[str]":
        if depth < len(literal) and not inside:
            return iter(literal[depth : depth + 1])  # nothing else is on the way
        return iter(sorted(tree.names(f"{top}/{path}".strip("/")), key=os.fsencode))

    levels = [("", False, names("", 0, inside=False))]
    on_the_way: list[tuple[str, Described]] = []
    while levels:
        above, inside, left = levels[-1]
        name = next(left, None)
        if name is None:
            levels.pop()
            continue
        path = f"{above}/{name}" if above else name
        try:
            status = tree.status(f"{top}/{path}" if top else path)
        except FileNotFoundError:
            continue  # a name that the pattern has and the tree has not
        goes = inside or matcher.matches(path)
        while on_the_way and not path.startswith(f"{on_the_way[-1][0]}/"):
            on_the_way.pop()
        if goes:
            yield from ((folder, described, False) for folder, described in on_the_way)
            on_the_way.clear()
            yield path, status, True
        elif stat.S_ISDIR(status.st_mode):
            on_the_way.append((path, status))
        if stat.S_ISDIR(status.st_mode):
            levels.append((path, goes, names(path, len(levels), goes)))


def _literal(pattern: str) -> "list[str]":
    """The parts that a pattern begins with and that mean themselves."""
    found = []
    for part in pattern.split("/"):
        if re.search(r"[*?\[\\]", part):
            break
        found.append(part)
    return found


class ParentsCopier(LaterCopier):
    """Copies what `found_in` has found."""

    def copy(self, wanted: Copied) -> None:
        """Copy what goes along below a base, or a base that is a file."""
        base, pivot, pattern = wanted.path.partition(PIVOT)
        if not pivot:
            super().copy(wanted)
            return
        source, target = resolved(wanted.root, base), resolved(self.root, self.destination)
        if os.path.lexists(target) and not os.path.isdir(target):
            raise self.no_directory(target)
        self._parents(target, "", self.made)
        below = included(Folder(source, None), "", pattern)
        self._merge(source, target, ((path, stat.S_ISDIR(status.st_mode), goes) for path, status, goes in below))
