"""`python -m tests.bench.logs [--dockerd unix:///run/docker.sock] [--gigabytes 1]`: writing and reading logs.

Whole calls of the docker CLI, output thrown away; dockerd is a running daemon (named by --dockerd) that has
`busybox:latest`. Each figure once: they are seconds, and what counts is their ratio. The logs take about 1.5 times
their text on disk, for each engine, while it is measured.
"""

import argparse
import os
import subprocess
import sys
import time

from tests.support.instance import Instance

LINE = 99  # bytes, without the newline


def seconds(host: str, *arguments: str) -> float:
    """How long one call of the CLI takes. Raises CalledProcessError when it fails."""
    begun = time.perf_counter()
    subprocess.run(["docker", "-H", host, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def measure(host: str, gigabytes: float) -> dict[str, float]:
    """All figures of one engine."""
    found: dict[str, float] = {}
    name = f"bench-{os.getpid()}"

    def write(lines: int, *options: str) -> float:
        subprocess.run(["docker", "-H", host, "rm", "-f", name], capture_output=True, check=False)
        script = f"yes {'x' * LINE} | head -n {lines}; date +%s.000000000; echo last"
        seconds(host, "run", "-d", "--name", name, "--network", "none", *options, "busybox", "sh", "-c", script)
        return seconds(host, "wait", name)

    found["write 100 MB"] = write(1_000_000)
    found["logs, 100 MB"] = seconds(host, "logs", name)
    found["logs --timestamps, 100 MB"] = seconds(host, "logs", "-t", name)
    found["write 100 MB, max-size 10m, max-file 20"] = write(
        1_000_000, "--log-opt", "max-size=10m", "--log-opt", "max-file=20"
    )
    found["logs, 100 MB in parts"] = seconds(host, "logs", name)
    found[f"write {gigabytes:g} GB"] = write(int(gigabytes * 10_000_000))
    found[f"logs --tail 10 of {gigabytes:g} GB"] = seconds(host, "logs", "--tail", "10", name)
    found[f"logs --tail 100000 of {gigabytes:g} GB"] = seconds(host, "logs", "--tail", "100000", name)
    last = subprocess.run(
        ["docker", "-H", host, "logs", "-t", "--tail", "1", name], capture_output=True, text=True, check=True
    ).stdout.split(" ")[0]
    found[f"logs --since the last line of {gigabytes:g} GB"] = seconds(host, "logs", "--since", last, name)
    seconds(host, "rm", "-f", name)
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.logs")
    parser.add_argument("--dockerd", default="", help="socket of a running dockerd that has busybox:latest")
    parser.add_argument("--gigabytes", type=float, default=1.0)
    chosen = parser.parse_args()
    with Instance() as moorage:
        moorage.load_busybox()
        columns = {"moorage": measure(moorage.docker_host, chosen.gigabytes)}
    if chosen.dockerd:
        columns["dockerd"] = measure("unix://" + chosen.dockerd.removeprefix("unix://"), chosen.gigabytes)
    print("| seconds | " + " | ".join(columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for row in columns["moorage"]:
        print(f"| {row} | " + " | ".join(f"{figures[row]:.2f}" for figures in columns.values()) + " |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
