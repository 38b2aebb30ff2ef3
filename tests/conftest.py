"""What every test may ask for, and what no test may leave behind.

The ladder: `moorage` (an instance of the test module's own, with busybox loaded) → `docker` (its CLI) or
`client` (docker-py). After each module everything is removed through the API and nothing may remain on the machine.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

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
