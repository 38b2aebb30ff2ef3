"""`devcontainer up` of @devcontainers/cli, untouched: from an image, from a Dockerfile, with a feature, of a compose
project. Containers are come back to, as an editor does."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose import find
from tests.support.instance import ROOT, Instance
from tests.support.streams import inspect

CLIENT = f"{ROOT}/.make/tools/devcontainers/node_modules/.bin/devcontainer"
PATIENCE = 110.0  # seconds for one call: on a loaded machine a build takes its time
pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and os.path.exists(CLIENT)),
    reason="no @devcontainers/cli (make test installs it below .make where npm is there)",
)

DOCKERFILE = """FROM busybox
ARG WORD
RUN echo "$WORD" >/built
"""
INSTALL = """#!/bin/sh
echo "$WORD for $_REMOTE_USER" >/feature
"""
COMPOSE = """
services:
  app: {image: busybox, command: "sleep 1000", volumes: ["..:/work"]}
  db: {image: busybox, command: "sleep 1000", stop_grace_period: 0s}
"""


class Workspace:
    """A folder with a `.devcontainer`, and the client at work in it."""

    def __init__(self, moorage: Instance, folder: Path, configuration: Any, **files: str) -> None:
        self.moorage, self.folder = moorage, folder
        self.environment = {**moorage.client_environment, "TMPDIR": str(folder.parent), "DOCKER_BUILDKIT": "0"}
        place = folder / ".devcontainer"
        (place / "hello").mkdir(parents=True)
        for name, text in {**files, "devcontainer.json": json.dumps(configuration)}.items():
            (place / name).write_text(text, encoding="utf-8")
            (place / name).chmod(0o755)

    def __call__(self, verb: str, *words: str) -> str:
        """The client's output. Raises AssertionError with its complaints when it fails."""
        options = ["--workspace-folder", str(self.folder)]
        if (self.folder / ".devcontainer/compose.yaml").exists():
            options += ["--docker-compose-path", find("docker-compose", "2")]
        if verb == "up":
            options += ["--buildkit", "never"]
        done = subprocess.run(
            [CLIENT, verb, *options, *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{verb}: {done.stdout}\n{done.stderr}\n--- log\n{self.moorage.log(40)}"
        return done.stdout

    def up(self) -> str:
        """The container's id."""
        told = json.loads(self("up").splitlines()[-1])
        assert told["outcome"] == "success"
        container: str = told["containerId"]
        assert inspect(self.moorage, container)["State"]["Running"]
        return container


@pytest.fixture
def folder(moorage: Instance, tmp_path: Path) -> Iterator[Path]:
    """A place for a workspace; its containers and images go with it."""
    yield tmp_path / "workspace"
    for container in moorage.docker("ps", "-aq").stdout.split():
        moorage.docker("rm", "-f", "-v", container)
    for image in set(moorage.docker("images", "--format", "{{.Repository}}").stdout.split()) - {"busybox", "<none>"}:
        moorage.docker("rmi", "-f", image)
    moorage.docker("image", "prune", "-f")


def test_an_image(moorage: Instance, folder: Path) -> None:
    workspace = Workspace(
        moorage,
        folder,
        {
            "image": "busybox",
            "containerEnv": {"FIRST": "one"},
            "remoteEnv": {"SECOND": "${containerEnv:FIRST}-two"},
            "onCreateCommand": "echo created >created",
            "postStartCommand": "echo started >>started",
            "mounts": [{"type": "volume", "source": "cache", "target": "/cache"}],
        },
    )
    container = workspace.up()
    said = workspace("exec", "sh", "-c", 'pwd; cat created started; echo "$SECOND"; echo kept >/cache/file')
    assert said.split() == ["/workspaces/workspace", "created", "started", "one-two"]
    assert (folder / "created").read_text() == "created\n", "the folder is mounted"
    assert workspace.up() == container, "it runs: come back to"
    moorage.kill_service()
    moorage.docker("stop", "-t", "0", container)
    assert workspace.up() == container, "it was stopped: started again"
    assert workspace("exec", "cat", "started", "/cache/file").split() == ["started", "started", "kept"]
    moorage.docker("rm", "-f", container)
    moorage.docker("volume", "rm", "cache")


def test_a_dockerfile(moorage: Instance, folder: Path) -> None:
    configuration = {"build": {"dockerfile": "Dockerfile", "args": {"WORD": "by the client"}}}
    workspace = Workspace(moorage, folder, configuration, Dockerfile=DOCKERFILE)
    workspace.up()
    assert workspace("exec", "cat", "/built") == "by the client\n"


def test_a_feature(moorage: Instance, folder: Path) -> None:
    feature = {
        "id": "hello",
        "version": "1.0.0",
        "name": "hello",
        "options": {"word": {"type": "string", "default": "nothing"}},
        "containerEnv": {"FROM_FEATURE": "yes"},
    }
    workspace = Workspace(
        moorage,
        folder,
        {"image": "busybox", "features": {"./hello": {"word": "greetings"}}},
        **{"hello/devcontainer-feature.json": json.dumps(feature), "hello/install.sh": INSTALL},
    )
    workspace.up()
    assert workspace("exec", "sh", "-c", 'cat /feature; echo "$FROM_FEATURE"') == "greetings for root\nyes\n"


def test_a_compose_project(moorage: Instance, folder: Path) -> None:
    configuration = {"dockerComposeFile": "compose.yaml", "service": "app", "workspaceFolder": "/work"}
    workspace = Workspace(moorage, folder, configuration, **{"compose.yaml": COMPOSE})
    container = workspace.up()
    assert workspace("exec", "sh", "-c", "pwd; ls -d .devcontainer").split() == ["/work", ".devcontainer"]
    looked_up = moorage.docker("exec", container, "nslookup", "db.", check=False)
    assert "Name:\tdb" in looked_up.stdout, looked_up.stdout
    assert workspace.up() == container
