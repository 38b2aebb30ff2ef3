"""What `make test` runs: pytest, and once more whatever failed.

    python -m tests.twice [argument of pytest]…

Test modules run beside one another, one per processor: they mostly wait, for clocks, disks and processes. Each has an
engine instance, names and namespaces of its own.

The tests use real processes, namespaces and clocks on machines that are shared with other work. One that fails is run a
second time, alone, with fresh fixtures: if it fails again, or if too many fail for chance, the run has failed. One that
passes then is named as unsteady in the last lines, so that it is mended and not forgotten.
"""

import json
import os
import subprocess
import sys
import tempfile

_BY_CHANCE = 12
"""More failures than this are no chance: there is nothing to try again."""

_FAILED = 1
"""pytest's exit code when tests failed; every other one (interrupted, nothing collected, bad usage) stands as it is."""


_LANES = min(4, os.cpu_count() or 1)
"""So many modules at once: one starts dockerd, mounts and machines of its own, and each of those takes memory."""


def _pytest(cache: str, *arguments: str) -> int:
    return subprocess.call([sys.executable, "-m", "pytest", "-o", f"cache_dir={cache}", *arguments])


def _failed(cache: str) -> list[str]:
    try:
        with open(os.path.join(cache, "v/cache/lastfailed"), encoding="utf-8") as file:
            return sorted(json.load(file))
    except FileNotFoundError:
        return []


def main(arguments: list[str]) -> int:
    """Run the tests that `arguments` select; returns pytest's exit code, 0 too where a second run mended the first."""
    with tempfile.TemporaryDirectory(prefix="moorage-tests-") as cache:
        code = _pytest(cache, f"--numprocesses={_LANES}", "--dist=loadfile", "--no-loadscope-reorder", *arguments)
        if code != _FAILED:
            return code
        failed = _failed(cache)
        if not failed:
            return code  # something else than a test: what was said last tells what
        if len(failed) > _BY_CHANCE:
            print(f"{len(failed)} tests failed: too many for chance, none is run again.")
            return code
        print(f"\nOnce more, alone: {len(failed)} of them.", flush=True)
        code = _pytest(cache, "--last-failed", *arguments)
        if code == 0:
            print("UNSTEADY, failed at first and passed alone:", *failed, sep="\n    ")
        return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
