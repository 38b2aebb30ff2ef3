"""The project's own Python files as syntax trees, for the house tests."""

import ast
import os
import subprocess
from collections.abc import Iterator
from functools import cache

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@cache
def modules() -> dict[str, ast.Module]:
    """Path (from the root) → tree, of all product and test code that somebody wrote (`_pb2` modules are generated)."""
    found = {}
    for top in ("service", "compat_api", "install", "tests"):
        for folder, _, names in os.walk(f"{ROOT}/{top}"):
            for name in names:
                if name.endswith(".py") and not name.endswith("_pb2.py"):
                    path = os.path.join(folder, name)
                    found[os.path.relpath(path, ROOT)] = ast.parse(text(os.path.relpath(path, ROOT)), path)
    return found


def below(*tops: str) -> dict[str, ast.Module]:
    """Those modules whose path begins with one of `tops`."""
    return {path: tree for path, tree in modules().items() if path.startswith(tops)}


@cache
def text(path: str) -> str:
    """The text of a file, by its path from the root."""
    with open(f"{ROOT}/{path}", encoding="utf-8") as file:
        return file.read()


def tracked() -> list[str]:
    """The files that git has, or would take: not those that .gitignore names."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [path for path in listed.stdout.splitlines() if os.path.isfile(f"{ROOT}/{path}")]


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything imported anywhere in the module; `from a import b` gives `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def dotted(node: ast.expr) -> str:
    """`a.b.c` for such an expression, else an empty text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def docstrings(tree: ast.Module) -> set[ast.expr]:
    """The nodes that are documentation, not data."""
    return {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) of every literal string (pieces of f-strings too), without docstrings."""
    documentation = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documentation:
            yield node.lineno, node.value
