"""What docker compose v2 does with a project besides `up` and `down`: every verb that asks the engine for something."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.compose import PATIENCE, Compose, find
from tests.support.instance import Instance
from tests.support.registry import Registry

PROJECT = """
services:
  base:
    image: REGISTRY/shop/base:1
    build: {context: ., args: {WORD: care}}
    command: sh -c "cat /said; exec httpd -f -p 80"
    ports: ["127.0.0.1::80"]
    healthcheck: {test: ["CMD", "test", "-e", "/said"], interval: 1s, timeout: 20s, retries: 60}
    develop: {watch: [{action: sync, path: ./live, target: /live}]}
    volumes: ["/anonymous"]
    stop_grace_period: 0s
  echo:
    image: busybox
    depends_on: {base: {condition: service_healthy}}
    command: sh -c "while read line; do echo heard $$line; test $$line != end || exit 7; done"
    stdin_open: true
"""
DOCKERFILE = 'FROM busybox\nARG WORD\nRUN echo built with $WORD >/said\nCMD ["cat", "/said"]\n'


class Lines:
    """What a program that goes on prints, line by line, read by a thread."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process, self.seen = process, ""
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.seen += line

    def end(self) -> None:
        """End the program, and read what is left."""
        self.process.kill()
        self.process.wait()
        self.thread.join(30)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as running:
        yield running


@pytest.fixture(scope="module")
def compose(moorage: Instance, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """A project that is up: built, healthy, and with a container that listens to its stdin."""
    made = Compose(moorage, find("docker-compose", "2"), tmp_path_factory.mktemp("verbs"), "verbs")
    made.write(compose=PROJECT.replace("REGISTRY", registry.address), Dockerfile=DOCKERFILE)
    Path(made.folder, "live").mkdir()
    made("up", "-d", "--wait")
    yield made
    made("down", "-v", "-t", "0", "--rmi", "all")
    assert made.containers() == {}
    assert moorage.docker("volume", "ls", "-q").stdout == ""
    assert "shop/base" not in moorage.docker("images", "--format", "{{.Repository}}").stdout


@pytest.fixture
def lines() -> Iterator[list[Lines]]:
    """Programs noted here are ended after the test."""
    noted: list[Lines] = []
    yield noted
    for each in noted:
        each.end()


def state(compose: Compose, service: str) -> str:
    """The state of the service's container."""
    (line,) = compose("ps", "-a", "--format", "json", service).splitlines()
    return str(json.loads(line)["State"])


def test_built_and_listed(compose: Compose, registry: Registry) -> None:
    assert "built with care" in compose("logs", "base")
    (shown,) = json.loads(compose("images", "--format", "json", "base"))
    assert (shown["Repository"], shown["Tag"]) == (f"{registry.address}/shop/base", "1")
    (project,) = [each for each in json.loads(compose("ls", "--format", "json")) if each["Name"] == "verbs"]
    assert project["Status"] == "running(2)"
    assert compose("port", "base", "80").startswith("127.0.0.1:")
    assert "httpd -f -p 80" in compose("top", "base")


def test_push_and_pull(compose: Compose, registry: Registry, moorage: Instance) -> None:
    compose("push", "base")
    image = f"{registry.address}/shop/base:1"
    before = moorage.docker("images", "-q", "--no-trunc", image).stdout
    moorage.docker("rmi", "-f", image)
    compose("pull", "base")
    assert moorage.docker("images", "-q", "--no-trunc", image).stdout == before
    known = compose.containers()
    assert "Recreate" not in compose("up", "-d")
    assert compose.containers() == known


def test_files_in_and_out(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from outside\n")
    compose("cp", str(tmp_path / "in"), "base:/tmp/in")
    assert compose("exec", "-T", "base", "cat", "/tmp/in") == "from outside\n"
    compose("cp", "base:/said", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "built with care\n"
    assert compose("exec", "-T", "base", "cat", stdin="through\n") == "through\n"
    compose("exec", "-T", "base", "sh", "-c", "exit 5", code=5)


def test_paused_and_killed(compose: Compose, moorage: Instance, lines: list[Lines]) -> None:
    events = Lines(compose.popen("events", "--json"))
    lines.append(events)

    def happened(action: str) -> bool:
        return f'"action":"{action}"' in events.seen

    def pause() -> bool:
        """Until the follower has its stream, what happens is none of its business: once more, then."""
        compose("pause", "base")
        assert state(compose, "base") == "paused"
        compose("unpause", "base")
        assert state(compose, "base") == "running"
        return happened("unpause")

    moorage.until(pause, PATIENCE, "no event of a pause")
    compose("kill", "-s", "KILL", "base")
    moorage.until(lambda: state(compose, "base") == "exited", 60, "it was not killed")
    compose("start", "base")
    for action in ("pause", "kill", "die", "start"):
        moorage.until(lambda action=action: happened(action), 60, f"no event {action}")  # type: ignore[misc]  # a default binds it
    assert '"service":"base"' in events.seen


def test_logs_are_followed(compose: Compose, moorage: Instance, lines: list[Lines]) -> None:
    """What comes is seen, and what was started anew is seen by the same follower's tool again."""
    attached, followed = (Lines(compose.popen(*words)) for words in (("attach", "echo"), ("logs", "-f", "echo")))
    lines += [attached, followed]
    assert attached.process.stdin is not None
    attached.process.stdin.write("first\n")
    moorage.until(lambda: "heard first" in attached.seen, 60, "attach shows nothing")
    moorage.until(lambda: "echo-1  | heard first" in followed.seen, 60, "logs -f shows nothing")
    attached.process.stdin.write("end\n")
    moorage.until(lambda: "heard end" in followed.seen, 60, "logs -f does not show the end")
    assert followed.process.wait(PATIENCE) == 0
    assert state(compose, "echo") == "exited"


def test_an_end_is_waited_for(compose: Compose, moorage: Instance, lines: list[Lines]) -> None:
    """compose refuses to wait for what has ended already: where it came too late, it gets more time."""
    for patience in (0.5, 5, 20):
        moorage.docker("restart", "-t", "0", "verbs-echo-1")
        waiting = Lines(compose.popen("wait", "echo"))
        lines.append(waiting)
        try:
            waiting.process.wait(patience)
        except subprocess.TimeoutExpired:
            pass  # it waits, or is about to
        moorage.docker("attach", "verbs-echo-1", stdin="end\n", check=False)
        if waiting.process.wait(PATIENCE) != 1:
            break
    assert waiting.process.returncode == 7


def test_files_are_watched(compose: Compose, moorage: Instance, lines: list[Lines]) -> None:
    watching = Lines(compose.popen("watch", "--no-up"))
    lines.append(watching)
    live = Path(compose.folder, "live", "file")
    written = 0.0

    def seen() -> bool:
        """Once more every few seconds: until it watches, what is written is not noticed, and a moment of rest is."""
        nonlocal written
        if time.monotonic() > written + 3:
            live.write_text(f"at {time.monotonic()}\n")
            written = time.monotonic()
        return moorage.docker("exec", "verbs-base-1", "cat", "/live/file", check=False).stdout.startswith("at ")

    moorage.until(seen, PATIENCE, "nothing was synchronised")


def test_stop_and_remove(compose: Compose) -> None:
    compose("stop", "-t", "0")
    assert {state(compose, name) for name in ("base", "echo")} == {"exited"}
    compose("rm", "-f", "echo")
    assert set(compose.containers()) == {"verbs-base-1"}
    compose("create")
    assert state(compose, "echo") == "created"
    compose("up", "-d", "--scale", "echo=2")
    assert set(compose.containers()) == {"verbs-base-1", "verbs-echo-1", "verbs-echo-2"}
