"""Names say what a thing is; exceptions to a linter say why; nothing tells of the machine it was written on."""

import ast
import re

from tests.house import source

EMPTY_NAMES = re.compile(r"(^|_)(utils?|helpers?|managers?|misc)(_|$)|(Util|Helper|Manager)s?$")
SUPPRESSION = re.compile(
    r"#\s*(noqa(?!: [A-Z]+[0-9]+(, [A-Z]+[0-9]+)* - \S)|type: ignore(?!\[[a-z-]+(,\s?[a-z-]+)*\]  # \S))"
)
PUBLIC_HOSTS = (
    "slsa.dev",
    "mobyproject.org",
    *("docker.com", "docker.io", "github.com", "ietf.org", "rfc-editor.org", "man7.org", "kernel.org", "python.org"),
    *("opencontainers.org", "systemd.io", "freedesktop.org", "debian.org", "podman.io", "sqlite.org", "apache.org"),
    *("golang.org", "go.dev", "example.com", "example.org", "example.net", "netfilter.org", "moorage", "localhost"),
)


def test_no_name_says_nothing() -> None:
    wrong = [path for path in source.modules() if EMPTY_NAMES.search(path.removesuffix(".py").rpartition("/")[2])]
    for path, tree in source.modules().items():
        wrong += [
            f"{path}:{node.lineno}: {node.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and EMPTY_NAMES.search(node.name)
        ]
    assert not wrong, "\n".join(wrong)


def test_every_suppression_carries_its_reason() -> None:
    wrong = [
        f"{path}:{number}: {line.strip()}"
        for path in source.modules()
        if path != "tests/house/test_words.py"
        for number, line in enumerate(source.text(path).splitlines(), 1)
        if SUPPRESSION.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def tracked_lines() -> list[tuple[str, int, str]]:
    found = []
    for path in source.tracked():
        try:
            text = source.text(path)
        except UnicodeDecodeError:
            continue  # a binary file of test data
        found += [(path, number, line) for number, line in enumerate(text.splitlines(), 1)]
    return found


def test_no_file_names_a_place_on_the_authors_machine() -> None:
    places = re.compile(
        "|".join(("/" + "work/", "/" + "opt/(wheels|pypi)", "/" + "root/(main|moorage|src)", "/" + "home/[a-z]+/"))
    )
    wrong = [f"{path}:{number}: {line.strip()}" for path, number, line in tracked_lines() if places.search(line)]
    assert not wrong, "\n".join(wrong)


def test_links_lead_to_public_places() -> None:
    """No mirror of a registry or package index, no host of somebody's network. A new public host is entered above."""
    host = re.compile(r"\bhttps?://(?:[^/\s@]*@)?([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,})")
    wrong = [
        f"{path}:{number}: {found[1]}"
        for path, number, line in tracked_lines()
        for found in host.finditer(line)
        if not any(found[1] == known or found[1].endswith(f".{known}") for known in PUBLIC_HOSTS)
        and not found[1].endswith((".test", ".invalid", ".local"))
    ]
    assert not wrong, "\n".join(wrong)
