"""A compose project in a folder of its own, driven by the real tool against an instance."""

import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.instance import Instance

PATIENCE = 110.0  # seconds for one call of the tool: on a loaded machine `up` of a project takes its time


class Compose:
    """`compose(words…)` runs the tool to its end. `program` is docker compose v2 or the older one in Python."""

    def __init__(self, moorage: Instance, program: str, folder: "os.PathLike[str]", project: str) -> None:
        self.moorage, self.program, self.folder, self.project = moorage, program, folder, project
        self.environment: dict[str, str] = {**moorage.client_environment, "DOCKER_BUILDKIT": "0"}

    def write(self, **files: str) -> None:
        """The project's files, by name; `compose` is its description, compose.yaml."""
        for name, text in files.items():
            path = os.path.join(self.folder, {"compose": "compose.yaml"}.get(name, name))
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)

    def command(self, *words: str) -> "Sequence[str]":
        """The whole command line."""
        return [self.program, "-f", "compose.yaml", "-p", self.project, *words]

    def __call__(self, *words: str, code: int = 0, stdin: str = "") -> str:
        """Its output and its complaints together. Raises AssertionError when it ends with another exit code."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, f"{' '.join(words)}: {done.returncode}: {said}\n{self.moorage.log(40)}"
        return said

    def popen(self, *words: str, **keywords: Any) -> "subprocess.Popen[str]":
        """Start it, with pipes for input and output; its complaints come with the output."""
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(
            self.command(*words), cwd=self.folder, env=self.environment, text=True, bufsize=1, **{**pipes, **keywords}
        )

    def page(self, service: str, port: str = "80") -> bytes:
        """What is served at the service's published port; nothing while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self('port', service, port).strip()}/", timeout=20) as page:
                return bytes(page.read())
        except OSError:
            return b""

    def subnet(self) -> str:
        """The first three numbers of a /24 that is the instance's and that no network is given by itself soon."""
        numbers = self.moorage.subnets.split(".")
        return f"{numbers[0]}.{numbers[1]}.{int(numbers[2]) + 60}"

    def containers(self) -> dict[str, str]:
        """By name, the ids of the project's containers, running or not."""
        listed = self.moorage.docker(
            *("ps", "-a", "--no-trunc", "--filter", f"label=com.docker.compose.project={self.project}"),
            *("--format", "{{.Names}} {{.ID}}"),
        )
        return dict(line.split() for line in listed.stdout.splitlines())


def find(name: str, version: str) -> str:
    """The path of a compose whose version begins so. Skips the test where there is none."""
    program = shutil.which(name)
    if program is not None:
        said = subprocess.run([program, "version"], capture_output=True, text=True, check=False).stdout
        if re.search(rf"version v?{re.escape(version)}\.", said):
            return program
    pytest.skip(f"no docker compose {version} here")
