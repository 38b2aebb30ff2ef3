"""The same commands typed for dockerd and for moorage: the same events, in the same order, with the same attributes."""

import itertools
import json
import os
import subprocess
import time
from typing import Any

import pytest

from tests.differential.dockerd import Dockerd
from tests.differential.test_same_answers import WORDED_ALIKE_SINCE, reference
from tests.support import image
from tests.support.instance import Instance
from tests.support.wire import Wire, request

__all__ = ["reference"]  # the fixture

Told = tuple[str, str, tuple[str, ...]]  # type, action, names of the attributes
Command = tuple[str, ...]

EXITS_AT_TERM = ("sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done")
SCRIPTS: dict[str, tuple[Command, ...]] = {
    "run and remove": (("run", "--rm", "--name", "e1", "--label", "a=b", "busybox", "true"),),
    "the verbs": (
        ("create", "--name", "e1", "busybox", "sleep", "1000"),
        ("start", "e1"),
        ("pause", "e1"),
        ("unpause", "e1"),
        ("rename", "e1", "e2"),
        ("top", "e2"),
        ("restart", "-t", "0", "e2"),
        ("stop", "-t", "0", "e2"),
        ("start", "e2"),
        ("kill", "-s", "USR1", "e2"),
        ("update", "--restart", "no", "e2"),
        ("kill", "e2"),
        ("rm", "e2"),
    ),
    "a paused one is stopped": (
        ("run", "-d", "--name", "e1", "busybox", "sleep", "1000"),
        ("pause", "e1"),
        ("kill", "e1"),
        ("start", "e1"),
        ("pause", "e1"),
        ("rm", "-f", "e1"),
        ("run", "-d", "--name", "e1", "busybox", *EXITS_AT_TERM),
        ("pause", "e1"),
        ("stop", "e1"),
        ("rm", "-f", "e1"),
    ),
    "exec": (
        ("run", "-d", "--name", "e1", "busybox", "sleep", "1000"),
        ("exec", "e1", "sh", "-c", "exit 3"),
        ("exec", "e1", "nope"),
        ("exec", "-t", "e1", "true"),
        ("rm", "-f", "e1"),
    ),
    "volumes": (
        ("volume", "create", "e-volume"),
        ("run", "-d", "--name", "e1", "-v", "e-volume:/x", "-v", "/y", "--tmpfs", "/t", "busybox", "sleep", "1000"),
        ("stop", "-t", "0", "e1"),
        ("start", "e1"),
        ("rm", "-fv", "e1"),
        ("volume", "rm", "e-volume"),
    ),
    "networks": (
        ("network", "create", "e-net"),
        ("run", "-d", "--name", "e1", "--network", "e-net", "busybox", "sleep", "1000"),
        ("network", "connect", "bridge", "e1"),
        ("stop", "-t", "0", "e1"),
        ("start", "e1"),
        ("rm", "-f", "e1"),
        ("run", "--rm", "--name", "e1", "--network", "none", "busybox", "true"),
        ("run", "--rm", "--name", "e1", "--network", "host", "busybox", "true"),
        ("network", "rm", "e-net"),
    ),
    "starts that fail": (
        ("run", "--name", "e1", "-v", "e-volume:/x", "busybox", "nope"),
        ("rm", "e1"),
        ("volume", "rm", "e-volume"),
        ("run", "--rm", "--name", "e1", "busybox", "/etc"),
    ),
    "what is removed at once": (
        ("run", "-d", "--name", "e1", "--rm", "busybox", "sleep", "1000"),
        ("restart", "-t", "0", "e1"),
        ("stop", "-t", "0", "e1"),
        ("events-until", "destroy", "1"),
        ("run", "-d", "--name", "e1", "--rm", "busybox", "sleep", "1000"),
        ("rm", "-f", "e1"),
    ),
    "prune": (
        ("create", "--name", "e1", "busybox", "true"),
        ("container", "prune", "-f"),
        ("network", "create", "e-net"),
        ("network", "prune", "-f"),
        ("volume", "create", "e-volume"),
        ("volume", "prune", "-f", "-a"),
        ("image", "prune", "-f"),
    ),
    "a restart policy": (
        ("run", "-d", "--name", "e1", "--restart", "on-failure:1", "busybox", "false"),
        ("wait", "e1"),
        ("events-until", "die", "2"),
        ("rm", "e1"),
    ),
    "files": (
        ("create", "--name", "e1", "busybox", "true"),
        ("cp", "e1:/etc/passwd", "-"),
        ("export", "-o", "/dev/null", "e1"),
        ("rm", "e1"),
    ),
    "images": (
        ("tag", "busybox", "e-image:1"),
        ("rmi", "e-image:1"),
        ("save", "-o", "/dev/null", "busybox"),
        ("load", "-i", image.busybox()),
        ("import", image.busybox(), "e-image:2"),
        ("rmi", "e-image:2"),
    ),
}


class Engine:
    """An engine, and what it tells while commands are typed."""

    def __init__(self, socket: str, folder: str) -> None:
        self.socket = socket
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
        self.environment = {**kept, "DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": f"{folder}/docker"}

    def follow(self, script: tuple[Command, ...]) -> list[Told]:
        """Type the commands; what was told of them."""
        begun = time.time()
        for command in script:
            if command[0] == "events-until":
                self._until(begun, command[1], int(command[2]))
            else:
                subprocess.run(["docker", *command], env=self.environment, capture_output=True, timeout=60, check=False)
        return [_brief(event) for event in self.events(begun)]

    def _until(self, begun: float, action: str, count: int) -> None:
        end = time.monotonic() + 60
        while [event["Action"] for event in self.events(begun)].count(action) < count:
            assert time.monotonic() < end, f"there was no {action} {count} times"
            time.sleep(0.1)

    def events(self, begun: float) -> list[dict[str, Any]]:
        """What has happened since."""
        with Wire(self.socket, 30) as wire:
            wire.send(request(f"GET /v1.45/events?since={begun:.9f}&until={time.time():.9f}", connection="close"))
            return [json.loads(line) for line in wire.answer().body.splitlines()]


def _brief(event: dict[str, Any]) -> Told:
    return event["Type"], event["Action"], tuple(sorted(event["Actor"]["Attributes"]))


def _ordered(told: list[Told]) -> list[Told]:
    """Told in an order that means something: dockerd walks its networks and volumes in none, and is in two minds
    whether a container that is stopped has died first."""
    told = list(told)
    for at in range(len(told) - 1):
        if (told[at][1], told[at + 1][1]) == ("stop", "die"):
            told[at], told[at + 1] = told[at + 1], told[at]
    ordered: list[Told] = []
    for kind, same in itertools.groupby(told, key=lambda event: event[:2] if event[0] != "container" else ()):
        together = list(same)
        ordered += sorted(together) if kind else together
    return ordered


@pytest.mark.parametrize("case", SCRIPTS)
def test_the_same_events(moorage: Instance, reference: Dockerd, case: str) -> None:
    if reference.version()[0] < WORDED_ALIKE_SINCE:
        pytest.skip("a dockerd of another age told other events")
    theirs = Engine(reference.socket, moorage.folder).follow(SCRIPTS[case])
    ours = Engine(moorage.socket, moorage.folder).follow(SCRIPTS[case])
    assert _ordered(ours) == _ordered(theirs)
