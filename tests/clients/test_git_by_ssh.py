"""Git repositories that are reached by ssh: with the keys of the client's agent, and no others."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.test_build_features import shown
from tests.support import ssh
from tests.support.buildkit import history
from tests.support.buildx import Buildx
from tests.support.instance import Instance

SECONDS = 120.0
_GIT = ("git", "-c", "user.name=m", "-c", "user.email=m@x.test", "-c", "protocol.file.allow=always")


class Served:
    """A repository with a submodule, behind an sshd; `agent` has the key that opens it."""

    def __init__(self, folder: Path, agent: ssh.Agent, server: ssh.Sshd) -> None:
        self.folder, self.agent, self.server = folder, agent, server
        self.scp, self.url = f"git@{server.host}:repo.git", f"ssh://git@{server.host}{folder}/repo.git"
        for name, content in (("other", "inner\n"), ("repo", "one\n")):
            tree = folder / name
            (tree / "sub").mkdir(parents=True)
            (tree / "a").write_text(content)
            (tree / "sub/Dockerfile").write_text("FROM busybox\nCOPY . /c\nRUN cat /c/s\n")
            (tree / "sub/s").write_text("below\n")
            self._git(tree, "init", "-q", "-b", "main")
            if name == "repo":
                self._git(tree, "submodule", "--quiet", "add", str(folder / "other.git"), "inner")
                self._git(tree, "config", "-f", ".gitmodules", "submodule.inner.url", f"git@{server.host}:other.git")
            self._git(tree, "add", ".")
            self._git(tree, "commit", "-q", "-m", "first")
            self._git(folder, "clone", "-q", "--bare", str(tree), str(folder / f"{name}.git"))

    @staticmethod
    def _git(tree: Path, *arguments: str) -> None:
        subprocess.run([*_GIT, "-C", tree, *arguments], check=True, timeout=SECONDS)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An agent, and a server that lets its key in."""
    folder = tmp_path_factory.mktemp("ssh")
    with ssh.Agent(folder, "opener") as agent, ssh.Sshd(folder, folder / "server", [agent.public]) as server:
        yield Served(folder, agent, server)


@pytest.fixture(scope="module")
def buildx(moorage: Instance, tmp_path_factory: pytest.TempPathFactory) -> Buildx:
    """buildx, in a folder of its own; the user of the client has no agent of their own."""
    return Buildx(moorage, tmp_path_factory.mktemp("by-ssh"))


@pytest.fixture(autouse=True)
def _nothing_is_left(moorage: Instance) -> Iterator[None]:
    """A build leaves no socket of an agent, no file, no process."""
    yield
    moorage.until(lambda: not moorage.leftovers(), SECONDS, "a build left something")
    builds = f"{moorage.run}/builds"
    assert not os.path.isdir(builds) or not os.listdir(builds)


def test_add_asks_the_forwarded_agent(buildx: Buildx, served: Served) -> None:
    forwarded = ("--no-cache", "--ssh", f"default={served.agent.socket}", "-")
    for place in (served.scp, served.url, f"{served.scp}#main"):
        dockerfile = f"FROM busybox\nADD {place} /g\nRUN cat /g/a /g/inner/a; ls -A /g | xargs\n"
        said = buildx.build(*forwarded, stdin=dockerfile.encode())
        assert shown(said) == ["one", "inner", ".gitmodules a inner sub"], place


def test_a_context_is_fetched_with_the_forwarded_agent(buildx: Buildx, served: Served) -> None:
    place = f"{served.scp}#main:sub"
    assert shown(buildx.build("--no-cache", "--ssh", f"default={served.agent.socket}", place)) == ["below"]
    # without being told to, buildx forwards the user's own agent for a context by ssh
    assert shown(buildx.build("--no-cache", place, SSH_AUTH_SOCK=served.agent.socket)) == ["below"]
    named = ("--build-context", f"x={served.url}", "--ssh", f"default={served.agent.socket}", "--no-cache", "-")
    assert shown(buildx.build(*named, stdin=b"FROM busybox\nCOPY --from=x /a /got\nRUN cat /got\n")) == ["one"]


def test_without_an_agent_a_build_says_so(buildx: Buildx, served: Served, tmp_path: Path) -> None:
    dockerfile = f"FROM busybox\nADD {served.scp} /g\n".encode()
    said = buildx.build("--no-cache", "-", stdin=dockerfile, code=1)
    assert "failed to load cache key: unset ssh forward key default" in said
    with ssh.Agent(tmp_path, "stranger") as stranger:
        other = ("--no-cache", "--ssh", f"other={stranger.socket}", "-")
        assert "unset ssh forward key default" in buildx.build(*other, stdin=dockerfile, code=1)
        refused = ("--no-cache", "--ssh", f"default={stranger.socket}", "-")
        assert "Permission denied (publickey)" in buildx.build(*refused, stdin=dockerfile, code=1)


def test_provenance_tells_of_the_agent(buildx: Buildx, served: Served, moorage: Instance) -> None:
    forwarded = ("--no-cache", "--ssh", f"default={served.agent.socket}", "-")
    buildx.build(*forwarded, stdin=f"FROM busybox\nADD {served.scp} /g\n".encode())
    told = history(moorage.socket)
    made_of = json.loads(told.blobs[told.records[0].Result.Attestations[0].digest])
    assert made_of["invocation"]["parameters"]["ssh"] == [{"id": "default", "optional": True}]
    assert served.scp in [material["uri"] for material in made_of["materials"]]
