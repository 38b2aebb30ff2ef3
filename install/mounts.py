"""A step of `make run` and `make test`: what containers cannot do without, and a bare chroot lacks, is mounted."""

import os
import subprocess
import sys


def main() -> None:
    """Mount what is missing, and say so. Raises CalledProcessError where that is not allowed."""
    for kind, target in (("proc", "/proc"), ("sysfs", "/sys"), ("cgroup2", "/sys/fs/cgroup")):
        if not os.listdir(target):
            subprocess.run(["mount", "-t", kind, kind, target], check=True)
            sys.stdout.write(f"mounted {kind} on {target}: nothing was there\n")


if __name__ == "__main__":
    main()
