"""What a cold process imports before its first answer, and what the exit hook imports, is counted in milliseconds.

Each case runs in an interpreter of its own, started as the product starts it (`-I -S`).
"""

import subprocess
import sys
import sysconfig

import pytest

from tests.house.source import ROOT

FORBIDDEN = {
    *("json", "asyncio", "typing", "dataclasses", "re", "subprocess", "threading", "socket", "datetime", "logging"),
    *("shutil", "contextlib", "tempfile", "pathlib", "inspect", "enum", "functools", "collections", "urllib", "http"),
    *("email", "ssl", "hashlib", "random", "secrets", "fastapi", "starlette", "uvicorn", "pydantic", "aiohttp"),
    *("httptools", "aiofiles", "isal", "systemd", "anyio", "grpclib", "h2", "google"),
}
EXIT_HOOK = ("service.exit_hook",)
KEEPER = ("service.keeper", "service.engine.probes")
FILES = ("service.container_files",)
FIRST_ANSWER = ("compat_api.stage0", "compat_api.operations.system_ping")
LOOP = ("compat_api.server", "compat_api.connection", "compat_api.operations.buildkit")
BUILDS = ("service.engine.build", "service.engine.solve", "compat_api.buildkit.server", "compat_api.buildkit.bridge")
LIST = (*FIRST_ANSWER, "compat_api.operations.containers", "service.engine.engine", "service.store.containers")


def loaded(python: str, modules: tuple[str, ...], *folders: str) -> set[str]:
    """The top-level names in sys.modules of a bare interpreter that has imported `modules` (from `folders`, too)."""
    program = (
        f"import sys; sys.path[:0] = {[ROOT, *folders]!r}\n"
        + "".join(f"import {name}\n" for name in modules)
        + "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([python, "-I", "-S", "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert not done.returncode, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("python", "modules"),
    [
        ("/usr/bin/python3", EXIT_HOOK),
        ("/usr/bin/python3", KEEPER),
        (sys.executable, FIRST_ANSWER),
        (sys.executable, LIST),
    ],
    ids=["exit hook", "keeper", "first answer", "list"],
)
def test_cold_paths_import_little(python: str, modules: tuple[str, ...]) -> None:
    assert not loaded(python, modules) & FORBIDDEN


def test_functools_is_itself_where_somebody_asks_for_it() -> None:
    """What is loaded without it (`service.store.sqlite`) leaves nothing in its place."""
    program = f"import sys; sys.path[:0] = {[ROOT]!r}; from service.store import sqlite; from functools import partial"
    said = "; import sqlite3; print(sqlite3.connect(':memory:').execute('SELECT 7').fetchone(), partial(int, '8')())"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program + said], capture_output=True, text=True, check=False
    )
    assert done.stdout == "(7,) 8\n", done.stderr


@pytest.mark.parametrize("modules", [EXIT_HOOK, KEEPER, FILES], ids=["exit hook", "keeper", "container files"])
def test_programs_of_their_own_need_the_standard_library_only(modules: tuple[str, ...]) -> None:
    """They are run by Debian's python3, not by the one of the virtual environment."""
    assert not loaded("/usr/bin/python3", modules) - sys.stdlib_module_names - {"service", "__main__"}


def test_builds_need_no_client_for_registries() -> None:
    """aiohttp takes 100 ms to load: a build that finds its images here does without."""
    assert "aiohttp" not in loaded(sys.executable, BUILDS, sysconfig.get_path("purelib"))


def test_grpc_is_imported_for_grpc_only() -> None:
    """The loop itself, and the module that declares the operations, do without it."""
    assert not loaded(sys.executable, LOOP, sysconfig.get_path("purelib")) & {"grpclib", "h2", "hpack", "google"}
