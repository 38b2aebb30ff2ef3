"""git by ssh in builds: what an agent, another one and none come to with dockerd's BuildKit, and with ours."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.test_git_by_ssh import Served
from tests.differential.dockerd import Dockerd, Unavailable
from tests.support import image, ssh, tools
from tests.support.instance import Instance

SECONDS = 120.0
# what both say of a failure; git's own words stand around it
TOLD = ("unset ssh forward key default", "Permission denied (publickey)")


class Side:
    """A client of one engine, with a configuration of its own."""

    def __init__(self, host: str, plugins: Path) -> None:
        names = ("PATH", "LD_LIBRARY_PATH")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        self._environment = {**kept, "DOCKER_HOST": host, "DOCKER_CONFIG": str(plugins.parent), "HOME": "/nosuch"}

    def docker(self, *arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            ["docker", *arguments],
            input=stdin, env=self._environment, capture_output=True, check=False, timeout=SECONDS,
        )  # fmt: skip

    def added(self, place: str, *options: str) -> "tuple[int, set[str], bytes]":
        """(exit code, what of `TOLD` is told, the files that came of ADD as names and sums)."""
        dockerfile = f"FROM scratch\nADD {place} /\n".encode()
        out = self.docker("buildx", "build", "--no-cache", *options, "-o", "type=tar", "-", stdin=dockerfile)
        said = out.stderr.decode("utf-8", "replace")
        listed = subprocess.run(["tar", "-t"], input=out.stdout, capture_output=True, check=False).stdout
        return out.returncode, {words for words in TOLD if words in said}, b"\n".join(sorted(listed.split()))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("ssh")
    with ssh.Agent(folder, "opener") as agent, ssh.Sshd(folder, folder / "server", [agent.public]) as server:
        yield Served(folder, agent, server)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """dockerd, within reach of the server, and moorage."""
    program = tools.buildx()
    if program is None:
        pytest.skip("no docker buildx here")
    plugins = tmp_path_factory.mktemp("client") / "cli-plugins"
    plugins.mkdir()
    (plugins / "docker-buildx").symlink_to(program)
    try:
        with Dockerd(on_loopback=True) as dockerd, Instance() as moorage:
            if dockerd.given or dockerd.version()[0] < 25:
                pytest.skip("needs a dockerd of its own whose BuildKit is not too old")
            both = Side(f"unix://{dockerd.socket}", plugins), Side(moorage.docker_host, plugins)
            for side in both:
                assert side.docker("load", "-i", str(image.busybox())).returncode == 0
            yield both
    except Unavailable as reason:
        pytest.skip(str(reason))


def test_the_same_keys_open_the_same(sides: tuple[Side, Side], served: Served, tmp_path: Path) -> None:
    with ssh.Agent(tmp_path, "stranger") as stranger:
        for options, is_open in (
            ((), False),
            (("--ssh", f"other={served.agent.socket}"), False),
            (("--ssh", f"default={stranger.socket}"), False),
            (("--ssh", f"default={served.agent.socket}"), True),
        ):
            # not of a directory in it: dockerd 26 puts the submodules of the whole into that
            for place in (served.scp, served.url, f"{served.scp}#main"):
                theirs, ours = (side.added(place, *options) for side in sides)
                assert (theirs[0] == 0) is is_open, theirs
                assert ours == theirs, (place, options)
