"""Tools that are unpacked below .make/tools, not installed: nothing of theirs starts by itself."""

import os
import shutil

from tests.support.instance import ROOT

_PLACE = f"{ROOT}/.make/tools/usr"


def find() -> None:
    """Let this process and its children find them, behind what the machine has installed."""
    os.environ["PATH"] += f":/usr/sbin:/sbin:{_PLACE}/bin"
    if os.path.isdir(f"{_PLACE}/lib"):
        os.environ["LD_LIBRARY_PATH"] = f"{_PLACE}/lib"


def buildx() -> "str | None":
    """The plugin that the tests use: the one that MOORAGE_TEST_BUILDX names, or the first in PATH."""
    return os.environ.get("MOORAGE_TEST_BUILDX") or shutil.which("docker-buildx")
