"""podman as another engine to compare with: unpacked, not installed, everything of it in a folder of its own."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from tests.support.instance import mounts_below


def program() -> str:
    """The full path of podman; empty where there is none. Not called podman: nobody else should find it."""
    return shutil.which("podman-unpacked") or shutil.which("podman") or ""


class Podman:
    """A storage of its own, empty at first. Use as a context manager."""

    def __init__(self, place: str = "") -> None:
        """`place`: a folder for what it stores; beside its settings unless given."""
        self.folder = tempfile.mkdtemp(prefix="podman-")
        self.policy = f"{self.folder}/policy.json"
        with open(self.policy, "w", encoding="ascii") as file:
            json.dump({"default": [{"type": "insecureAcceptAnything"}]}, file)
        storage = f'[storage]\ndriver="overlay"\ngraphroot="{place or self.folder}/lib"\nrunroot="{self.folder}/run"\n'
        for name, text in (("registries.conf", ""), ("containers.conf", ""), ("storage.conf", storage)):
            with open(f"{self.folder}/{name}", "w", encoding="ascii") as file:
                file.write(text)  # what the machine's own say does not count

    @property
    def environment(self) -> "dict[str, str]":
        """By which it finds its settings."""
        return {
            "CONTAINERS_CONF": f"{self.folder}/containers.conf",
            "CONTAINERS_REGISTRIES_CONF": f"{self.folder}/registries.conf",
            "CONTAINERS_STORAGE_CONF": f"{self.folder}/storage.conf",
            "HOME": self.folder,
        }

    def __enter__(self) -> "Podman":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for target in sorted(mounts_below(self.folder), reverse=True):
            subprocess.run(["umount", "-l", target], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __call__(self, *arguments: str) -> str:
        """Run a command of podman; what it said. Raises AssertionError when it fails."""
        done = subprocess.run(
            [program(), *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not done.returncode, f"podman {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def load(self, archive: str) -> None:
        """Take the images of an archive."""
        self("load", "--signature-policy", self.policy, "-i", archive)

    def pull(self, name: str) -> None:
        """Take an image from a registry of this machine."""
        self("pull", "-q", "--tls-verify=false", "--signature-policy", self.policy, name)

    def inspect(self, name: str) -> Any:
        """What it says of an image."""
        return json.loads(self("image", "inspect", name))[0]

    @contextmanager
    def mounted(self, name: str) -> Iterator[str]:
        """An image's tree, for reading."""
        yield self("image", "mount", name).strip()
        self("image", "unmount", name)
