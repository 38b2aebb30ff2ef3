"""The same kind of project through compose 1.29, the one in Python that Debian 12 has."""

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.compose import Compose, find
from tests.support.instance import Instance

PROJECT = """
version: "3.8"
services:
  db:
    build: .
    command: sh -c "echo data >/w/index.html; exec httpd -f -p 8000 -h /w"
    healthcheck: {test: ["CMD", "wget", "-qO-", "http://127.0.0.1:8000/"], interval: 1s, timeout: 20s, retries: 60}
    volumes: ["data:/data"]
    networks:
      back: {aliases: [database], ipv4_address: SUBNET.77}
  web:
    image: busybox
    depends_on: {db: {condition: service_healthy}}
    command: sh -c "wget -O /tmp/index.html http://database:8000/ && echo fetched && exec httpd -f -p 80 -h /tmp"
    networks: [back, front]
    ports: ["127.0.0.1::80"]
    secrets: [s1]
    extra_hosts: ["host.docker.internal:host-gateway", "there:192.0.2.9"]
    environment: {A: b}
  worker:
    image: busybox
    command: sh -c "echo works; exec sleep 1000"
    stop_grace_period: 0s
    networks: [back]
  extra:
    image: busybox
    profiles: [debug]
    command: sleep 1000
    networks: [back]
networks:
  back: {ipam: {config: [{subnet: SUBNET.0/24}]}}
  front: {}
volumes: {data: {}}
secrets: {s1: {file: ./s1}}
"""
# its volumes hold data that the image brings: copied when they are made, and kept when the container is made anew
DOCKERFILE = "FROM busybox\nRUN mkdir /w /kept && echo image >/kept/file\nVOLUME /w /kept\n"


@pytest.fixture(scope="module")
def compose(moorage: Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """The project, up."""
    made = Compose(moorage, find("docker-compose-1", "1.29"), tmp_path_factory.mktemp("old"), "old")
    text = PROJECT.replace("SUBNET", made.subnet())
    made.write(compose=text, Dockerfile=DOCKERFILE, s1="a secret\n")
    made("up", "-d", "--scale", "worker=3")
    yield made
    made("--profile", "debug", "down", "-v", "-t", "0", "--rmi", "local")
    assert made.containers() == {}
    assert "old_" not in moorage.docker("volume", "ls", "-q").stdout
    assert "old_" not in moorage.docker("network", "ls", "--format", "{{.Name}}").stdout


def test_all_is_up(compose: Compose, moorage: Instance) -> None:
    assert set(compose.containers()) == {"old_db_1", "old_web_1", "old_worker_1", "old_worker_2", "old_worker_3"}
    moorage.until(lambda: "fetched" in compose("logs", "web"), 60, "web did not fetch its page")
    assert compose("port", "web", "80").startswith("127.0.0.1:")

    moorage.until(lambda: compose.page("web") == b"data\n", 60, "the published port does not answer")
    assert re.search(r"old_db_1 .* Up \(healthy\)", compose("ps"))
    assert "httpd -f -p 80" in compose("top", "web")
    assert "old_db" in compose("images")


def test_names_secrets_and_environment(compose: Compose) -> None:
    said = compose("exec", "-T", "web", "sh", "-c", "cat /run/secrets/s1; echo $A; cat /etc/hosts")
    assert said.startswith("a secret\nb\n")
    assert re.search(r"^[0-9.]+\thost\.docker\.internal$", said, re.MULTILINE)
    assert "192.0.2.9\tthere\n" in said
    workers = compose("exec", "-T", "db", "nslookup", "-type=a", "worker")
    assert len(set(re.findall(r"^Address: ([0-9.]+)$", workers, re.MULTILINE))) == 3
    static = compose("exec", "-T", "web", "nslookup", "-type=a", "database")
    assert re.findall(r"^Address: [0-9.]+\.(\d+)$", static, re.MULTILINE) == ["77"]


def test_up_again_changes_nothing(compose: Compose) -> None:
    before = compose.containers()
    said = compose("up", "-d", "--scale", "worker=3")
    assert compose.containers() == before
    assert "Recreat" not in said


def test_what_is_made_anew_keeps_the_volumes_of_its_image(compose: Compose, moorage: Instance) -> None:
    """It learns from the image's `ContainerConfig` which volumes there are to keep. From API 1.45 on there is none, and
    it fails with a KeyError, as with dockerd: COMPOSE_API_VERSION helps."""
    compose.environment["COMPOSE_API_VERSION"] = "1.44"
    assert compose("exec", "-T", "db", "cat", "/kept/file") == "image\n"
    compose("exec", "-T", "db", "sh", "-c", "echo kept >/kept/file; echo kept >/data/file")
    before = compose.containers()["old_db_1"]
    mounted = mounts(moorage, before)
    compose("up", "-d", "--force-recreate", "--no-deps", "-t", "0", "db")
    after = compose.containers()["old_db_1"]
    assert after != before
    assert mounts(moorage, after) == mounted
    assert compose("exec", "-T", "db", "cat", "/kept/file", "/data/file") == "kept\nkept\n"
    del compose.environment["COMPOSE_API_VERSION"]


def mounts(moorage: Instance, container: str) -> dict[str, str]:
    """Volumes by the place they are mounted at."""
    told = json.loads(moorage.docker("inspect", "-f", "{{json .Mounts}}", container).stdout)
    return {each["Destination"]: each["Name"] for each in told if each["Type"] == "volume"}


def test_run_restart_pause_and_kill(compose: Compose, moorage: Instance) -> None:
    assert compose("run", "--rm", "-T", "worker", "cat", "/etc/resolv.conf").count("nameserver 127.0.0.11") == 1
    compose("run", "--rm", "-T", "worker", "sh", "-c", "exit 5", code=5)
    begun = moorage.docker("inspect", "-f", "{{.State.StartedAt}}", "old_web_1").stdout
    compose("restart", "-t", "0", "web")
    assert moorage.docker("inspect", "-f", "{{.State.StartedAt}}", "old_web_1").stdout != begun
    compose("pause", "worker")
    assert compose("ps", "worker").count("Paused") == 3
    compose("unpause", "worker")
    compose("kill", "worker")
    moorage.until(lambda: compose("ps", "worker").count("Exit 137") == 3, 60, "not all were killed")
    compose("start", "worker")
    compose("up", "-d", "--scale", "worker=1")
    assert "old_worker_2" not in compose.containers()


def test_profiles(compose: Compose) -> None:
    assert "old_extra_1" not in compose.containers()
    compose("--profile", "debug", "up", "-d", "extra")
    assert "old_extra_1" in compose.containers()


def test_logs_are_followed_to_the_end(compose: Compose, moorage: Instance) -> None:
    with compose.popen("logs", "-f", "--no-color", "worker", stdin=subprocess.DEVNULL) as following:
        assert following.stdout is not None
        assert following.stdout.readline().startswith("Attaching to old_worker_1")
        assert "works" in following.stdout.readline()
        compose("run", "-d", "--rm", "--no-deps", "worker", "echo", "elsewhere")  # none of its business
        compose("stop", "-t", "0", "worker")
        assert "old_worker_1 exited with code" in following.stdout.read()
        assert following.wait(60) == 0
