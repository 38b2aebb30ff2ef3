"""Knowledge that has one room: processes, SQL, statuses, command lines, API versions, the environment."""

import ast
import re
from collections.abc import Iterator

from tests.house import source

PROCESS_CALLS = re.compile(
    r"subprocess\.|os\.(system|popen|fork|forkpty|posix_spawn|exec|spawn)|posix\.(fork|posix_spawn|exec)"
    r"|asyncio\.(create_)?subprocess|multiprocessing\."
)
SQL = re.compile(r"^\s*(SELECT|INSERT|UPDATE|DELETE FROM|REPLACE INTO|CREATE TABLE|PRAGMA|BEGIN|WITH RECURSIVE)\b")
OPTION = re.compile(r"^--[a-z][a-z-]+$")


def calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, source.dotted(node.func)


def check(found: list[str], allowed: dict[str, str]) -> None:
    """Nothing outside the rooms, and no room that holds nothing any more."""
    wrong = [where for where in found if where.partition(":")[0] not in allowed]
    assert not wrong, "\n".join(wrong)
    stale = set(allowed) - {where.partition(":")[0] for where in found}
    assert not stale, f"no longer true of {stale}"


def test_processes_are_started_in_one_place() -> None:
    check(
        [
            f"{path}:{line}: {name}"
            for path, tree in source.below("service/", "compat_api/").items()
            for line, name in calls(tree)
            if PROCESS_CALLS.match(name)
        ],
        {
            "service/process.py": "the door",
            "service/activator.py": "stands where systemd would: LISTEN_PID must name the child, so it forks",
            "service/build_files.py": "forks itself for every job, and starts no program",
            "service/content/layer_program.py": "forks itself for every layer, and starts no program",
        },
    )


def test_pidfds_are_opened_in_one_place() -> None:
    """Elsewhere it would be forgotten what the kernels before 6.9 say of a process that is just being reaped."""
    check(
        [
            f"{path}:{line}: {name}"
            for path, tree in source.below("service/", "compat_api/").items()
            for line, name in calls(tree)
            if name.endswith("pidfd_open")
        ],
        {"service/kernel/pidfd.py": "the door"},
    )


def test_sql_is_written_in_the_store_only() -> None:
    wrong = [
        f"{path}:{line}: {text.strip()[:60]}"
        for path, tree in source.below("service/", "compat_api/").items()
        for line, text in source.strings(tree)
        if SQL.match(text) and not path.startswith("service/store/")
    ]
    assert not wrong, "\n".join(wrong)


def test_error_statuses_are_numbered_in_one_place() -> None:
    wrong = [
        f"{path}:{node.lineno}: {node.value}"
        for path, tree in source.below("compat_api/").items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and type(node.value) is int
        and 400 <= node.value < 600
        and path != "compat_api/errors.py"
        and not re.search(rf"0[ox][0-9a-f]*|{node.value}_", ast.get_source_segment(source.text(path), node) or "")
    ]
    assert not wrong, "\n".join(wrong)


def test_command_lines_are_known_to_their_rooms_only() -> None:
    """An option such as `--root` outside these modules is somebody building runc's or conmon's argv elsewhere."""
    check(
        [
            f"{path}:{line}: {text}"
            for path, tree in source.below("service/", "compat_api/").items()
            for line, text in source.strings(tree)
            if OPTION.match(text)
        ],
        {
            "service/runtime/runc.py": "runc",
            "service/runtime/conmon.py": "conmon",
            "service/runtime/stated.py": "the question that every program answers",
            "service/content/git.py": "git",
            "service/activator.py": "its own options",
            "compat_api/life.py": "our own --socket",
        },
    )


def test_api_versions_are_compared_in_one_place() -> None:
    def is_version(node: ast.expr) -> bool:
        return (
            isinstance(node, ast.Tuple)
            and len(node.elts) == 2
            and all(isinstance(part, ast.Constant) and type(part.value) is int for part in node.elts)
            and ast.unparse(node.elts[0]) == "1"
        )

    wrong = [
        f"{path}:{node.lineno}: {ast.unparse(node)}"
        for path, tree in source.below("service/", "compat_api/").items()
        if path not in ("compat_api/versions.py", "compat_api/negotiation.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and any(is_version(part) for part in (node.left, *node.comparators))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_environment_is_read_by_settings() -> None:
    check(
        [
            f"{path}:{node.lineno}: {name}"
            for path, tree in source.below("service/", "compat_api/").items()
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and (name := source.dotted(node)) in ("os.environ", "os.getenv", "posix.environ")
        ],
        {
            "service/settings.py": "MOORAGE_*",
            "service/activation.py": "LISTEN_FDS, NOTIFY_SOCKET: between systemd and this process",
            "service/journal.py": "JOURNAL_STREAM: whether stderr is the journal",
            "service/activator.py": "hands its own on, with LISTEN_FDS",
        },
    )
