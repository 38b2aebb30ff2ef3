"""docker buildx, told to build by an instance: the one of the machine, or the one that MOORAGE_TEST_BUILDX names."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import tools
from tests.support.instance import Instance

SECONDS = 120.0  # the longest that a client may take, on a machine with much else to do


class Buildx:
    """The docker CLI with its plugin, at work in `folder`; compose beside it where it is here.

    Skips the test that wants it where there is no buildx.
    """

    def __init__(self, moorage: Instance, folder: Path) -> None:
        program = tools.buildx()
        if program is None:
            pytest.skip("no docker buildx here")
        plugins = folder / "config/cli-plugins"
        plugins.mkdir(parents=True)
        for name, found in (("docker-buildx", program), ("docker-compose", shutil.which("docker-compose"))):
            if found:
                (plugins / name).symlink_to(found)
        self.moorage, self.folder = moorage, folder
        self.environment = {
            **moorage.client_environment,
            "DOCKER_CONFIG": str(plugins.parent),
            "BUILDX_METADATA_WARNINGS": "0",
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        }

    def __call__(self, *arguments: str, code: int = 0, stdin: bytes = b"", **environment: str) -> str:
        """Run it to its end; both its outputs. Raises AssertionError when it does not end with `code`."""
        done = subprocess.run(
            ["docker", *arguments],
            env={**self.environment, **environment},
            cwd=self.folder,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
        said = done.stdout.decode("utf-8", "replace")
        assert done.returncode == code, f"docker {' '.join(arguments)}\n{said}\n--- log\n{self.moorage.log(40)}"
        return said

    def build(self, *arguments: str, code: int = 0, stdin: bytes = b"", **environment: str) -> str:
        """`docker buildx build` with plain progress."""
        return self("buildx", "build", "--progress=plain", *arguments, code=code, stdin=stdin, **environment)

    def popen(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start it; its outputs are one pipe."""
        return subprocess.Popen(
            ["docker", *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
