"""docker-py's own integration tests against an instance, where a clone of docker-py is named by MOORAGE_TEST_DOCKER_PY.

The clone should be of the version that is installed. Its tests want paramiko, whatever they do
(`.venv/bin/pip install paramiko`).
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.instance import Instance

CLONE = os.environ.get("MOORAGE_TEST_DOCKER_PY", "")
SWARM = "begins a swarm"
REAL = "wants what the real alpine has"
HUB = "asks Docker Hub"
# what cannot pass, and why
FAILS = {
    "api_network_test": {
        "test_create_network_ingress": SWARM,
        "test_create_network_attachable": SWARM,
        "test_create_inspect_network_with_scope": SWARM,
    },
    "api_container_test": {
        "test_create_with_binds_rw_rshared": "wants /tmp to be a shared mount",
        "test_run_container_reading_socket_ws": "docker-py has WebSockets for TCP only",
    },
    "api_exec_test": {"test_exec_command_as_user": REAL, "test_exec_command_with_workdir": REAL},
    "models_containers_test": {"test_run_with_image_that_does_not_exist": HUB},
}
MODULES = (
    "api_build_test",
    "api_client_test",
    "api_container_test",
    "api_exec_test",
    "api_healthcheck_test",
    "api_network_test",
    "api_volume_test",
    "client_test",
    "context_api_test",
    "errors_test",
    "models_containers_test",
    "models_networks_test",
    "models_resources_test",
    "models_volumes_test",
    "regression_test",
)
pytestmark = [
    pytest.mark.skipif(not CLONE, reason="no clone of docker-py (MOORAGE_TEST_DOCKER_PY)"),
    pytest.mark.skipif(importlib.util.find_spec("paramiko") is None, reason="docker-py's tests want paramiko"),
]


@pytest.fixture(scope="module", autouse=True)
def names(moorage: Instance) -> None:
    """Its tests know images by these."""
    for name in ("alpine:latest", "alpine:3.10"):
        moorage.docker("tag", "busybox", name)


@pytest.mark.parametrize("module", MODULES)
def test_the_module_passes(moorage: Instance, module: str, tmp_path: Path) -> None:
    """All of it but what `FAILS` names."""
    version: str = moorage.client().version()["ApiVersion"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider", f"tests/integration/{module}.py"],
        cwd=CLONE,
        env={
            **os.environ,
            "DOCKER_HOST": moorage.docker_host,
            "DOCKER_CONFIG": str(tmp_path),
            "DOCKER_TEST_API_VERSION": version,
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S+::(\w+)", done.stdout, re.MULTILINE))
    assert failed <= set(FAILS.get(module, {})), done.stdout
    assert re.search(r"\b[1-9]\d* passed", done.stdout), done.stdout
