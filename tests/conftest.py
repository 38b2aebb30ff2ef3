"""What every test may ask for, and what no test may leave behind.

The ladder: `moorage` (an instance of the test module's own, with busybox loaded) → `docker` (its CLI) or
`client` (docker-py). After each module everything is removed through the API and nothing may remain on the machine.
"""

import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from service.kernel import cgroup
from tests.support import contract, tools
from tests.support.instance import Instance

if TYPE_CHECKING:
    import docker

os.environ.pop("DOCKER_HOST", None)  # a test that forgets its instance must fail, not use somebody's real engine
os.environ.pop("DOCKER_CONTEXT", None)
tools.find()
contract.watch()


@pytest.fixture(autouse=True)
def keeps_to_the_description() -> Iterator[None]:
    """What a test exchanges with the service keeps to the API's description, where that is at hand."""
    yield
    if seen := contract.violations():
        told = "\n".join(seen)
        pytest.fail(f"not as described in {contract.FOLDER} (openapi/DIFFERENCES.md holds what is meant):\n{told}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The machine that takes minutes begins first: beside it, another process runs the rest."""
    items.sort(key=lambda item: item.path.name != "test_user_mode_linux.py")


_STALE = pytest.StashKey[list[str]]()
_WHOLE = pytest.StashKey[bool]()  # whether every process was to run everything that can meet a row


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A row of openapi/DIFFERENCES.md that excuses nothing any more fails the run, where it could have been met: when
    all tests of clients and of the wire were run, and none failed. Modules run in several
    processes (tests/twice.py)."""
    known = contract.described()
    if known is None:
        return
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["met"] = [list(row) for row in known.allowed.met]
        session.config.workeroutput["whole"] = _is_whole(session)
        return
    if session.exitstatus == pytest.ExitCode.OK and (_is_whole(session) or session.config.stash.get(_WHOLE, False)):
        session.config.stash[_STALE] = known.allowed.stale()
        if session.config.stash[_STALE]:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name those rows."""
    for row in config.stash.get(_STALE, []):
        terminalreporter.write_line(f"no test meets this row of openapi/DIFFERENCES.md any more: {row}", red=True)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process that ran modules for this one has ended: what it met counts."""
    known, told = contract.described(), getattr(node, "workeroutput", {})
    if known is not None:
        known.allowed.met |= {tuple(row) for row in told.get("met", ())}
        node.config.stash[_WHOLE] = told.get("whole", False)


def _is_whole(session: pytest.Session) -> bool:
    folder = pathlib.Path(__file__).parent
    collected = {item.path for item in getattr(session, "items", ())}
    return {*folder.glob("clients/test_*.py"), *folder.glob("compat_api/test_*.py")} <= collected


@pytest.fixture(scope="module")
def moorage() -> Iterator[Instance]:
    """An activated instance with `busybox:latest`, private to the test module; checked for leaks when it ends."""
    if os.geteuid():
        pytest.skip("needs root: it makes namespaces, mounts and cgroups")
    with Instance() as instance:
        instance.load_busybox()
        yield instance


@pytest.fixture(scope="session")
def limits_enforced() -> None:
    """For tests that need the kernel to enforce limits: skipped where it does not."""
    missing = [name for name in ("memory", "cpu", "cpuset", "pids") if not cgroup.detect().has(name)]
    if missing:
        pytest.skip(f"no control group here limits {', '.join(missing)}")


@pytest.fixture
def client(moorage: Instance) -> "docker.DockerClient":
    """A docker-py client of the module's instance."""
    return moorage.client()
