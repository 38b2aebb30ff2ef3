"""A project through docker compose v2, untouched: health, names, secrets, ports, volumes, scale."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.compose import Compose, find
from tests.support.instance import Instance

PROJECT = """
services:
  db:
    image: busybox
    command: sh -c "mkdir -p /w; echo data >/w/index.html; exec httpd -f -p 8000 -h /w"
    healthcheck: {test: ["CMD", "wget", "-qO-", "http://127.0.0.1:8000/"], interval: 1s, timeout: 5s, retries: 60}
    volumes: ["data:/data", "/anonymous"]
    networks:
      back: {aliases: [database], ipv4_address: SUBNET.77}
  web:
    image: busybox
    depends_on: {db: {condition: service_healthy}}
    command: sh -c "wget -O /tmp/index.html http://database:8000/ && echo fetched && exec httpd -f -p 80 -h /tmp"
    networks: [back, front]
    ports: ["127.0.0.1::80"]
    secrets: [s1]
    configs: [{source: c1, target: /etc/c1}]
    extra_hosts: ["host.docker.internal:host-gateway"]
    environment: {A: b}
  worker:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    deploy: {replicas: 3}
    networks: [back]
  extra:
    image: busybox
    profiles: [debug]
    command: sleep 1
    networks: [back]
networks:
  back: {ipam: {config: [{subnet: SUBNET.0/24}]}}
  front: {}
volumes: {data: {}}
secrets: {s1: {file: ./s1}}
configs: {c1: {file: ./c1}}
"""


@pytest.fixture(scope="module")
def compose(moorage: Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """The project, up."""
    made = Compose(moorage, find("docker-compose", "2"), tmp_path_factory.mktemp("shop"), "shop")
    made.write(compose=PROJECT.replace("SUBNET", made.subnet()), s1="a secret\n", c1="a config\n")
    made("up", "-d")
    yield made
    made("--profile", "debug", "down", "-v", "-t", "0")
    assert moorage.docker("ps", "-aq").stdout == ""
    # compose names an anonymous volume when it makes its container anew: to dockerd, too, it is none then
    assert "shop_data" not in moorage.docker("volume", "ls", "-q").stdout


def test_all_is_up_in_the_order_of_health(moorage: Instance, compose: Compose) -> None:
    names = {"shop-db-1", "shop-web-1", "shop-worker-1", "shop-worker-2", "shop-worker-3"}
    assert set(compose.containers()) == names
    moorage.until(lambda: "fetched" in compose("logs", "web"), 60, "web did not fetch its page")
    listed = [json.loads(line) for line in compose("ps", "--format", "json").splitlines()]
    assert {each["Name"]: each["Health"] for each in listed} == dict.fromkeys(names, "") | {"shop-db-1": "healthy"}


def test_a_published_port_answers(moorage: Instance, compose: Compose) -> None:
    assert compose("port", "web", "80").startswith("127.0.0.1:")

    moorage.until(lambda: compose.page("web") == b"data\n", 60, "the published port does not answer")


def test_secrets_configs_and_environment(compose: Compose) -> None:
    said = compose("exec", "-T", "web", "sh", "-c", "cat /run/secrets/s1 /etc/c1; echo $A; cat /etc/hosts")
    assert said.startswith("a secret\na config\nb\n")
    assert re.search(r"^[0-9.]+\thost\.docker\.internal$", said, re.MULTILINE)


def test_services_are_found_by_name(moorage: Instance, compose: Compose) -> None:
    workers = compose("exec", "-T", "db", "nslookup", "-type=a", "worker")
    assert len(set(re.findall(r"^Address: ([0-9.]+)$", workers, re.MULTILINE))) == 3
    static = compose("exec", "-T", "web", "nslookup", "-type=a", "database")
    assert re.findall(r"^Address: [0-9.]+\.(\d+)$", static, re.MULTILINE) == ["77"]
    assert moorage.docker("exec", "shop-worker-1", "nslookup", "shop-web-1").returncode == 0


def test_up_again_changes_nothing(moorage: Instance, compose: Compose) -> None:
    before = compose.containers()
    said = compose("up", "-d")
    assert compose.containers() == before
    assert "Recreate" not in said


def test_scale_run_and_restart(moorage: Instance, compose: Compose) -> None:
    assert compose("run", "--rm", "-T", "worker", "cat", "/etc/resolv.conf").startswith("nameserver 127.0.0.11")
    compose("up", "-d", "--scale", "worker=1")
    assert "shop-worker-2" not in compose.containers()
    begun = moorage.docker("inspect", "-f", "{{.State.StartedAt}}", "shop-web-1").stdout
    compose("restart", "-t", "0", "web")
    assert moorage.docker("inspect", "-f", "{{.State.StartedAt}}", "shop-web-1").stdout > begun
    assert "httpd" in compose("top", "web")


def test_a_profile_is_started_when_asked_for(moorage: Instance, compose: Compose) -> None:
    assert "shop-extra-1" not in compose.containers()
    compose("--profile", "debug", "up", "-d", "extra")
    assert "shop-extra-1" in compose.containers()


def test_what_is_changed_is_made_anew_and_keeps_its_data(moorage: Instance, compose: Compose) -> None:
    compose("exec", "-T", "db", "sh", "-c", "echo kept >/data/file; echo kept >/anonymous/file")
    before = compose.containers()["shop-db-1"]
    compose("up", "-d", "--force-recreate", "--no-deps", "-t", "0", "db")
    assert compose.containers()["shop-db-1"] != before
    assert compose("exec", "-T", "db", "cat", "/data/file", "/anonymous/file") == "kept\nkept\n"
    assert os.path.isdir(moorage.run)


def test_a_service_is_built(moorage: Instance, compose: Compose, tmp_path: Path) -> None:
    """By the classic builder: BuildKit is not offered yet."""
    built = Compose(moorage, compose.program, tmp_path, "built")
    built.write(
        compose="services: {made: {build: {context: ., args: {WORD: care}}}}\n",
        Dockerfile='FROM busybox\nARG WORD\nRUN echo built with $WORD >/said\nCMD ["cat", "/said"]\n',
    )
    assert "built with care\n" in built("run", "--rm", "-T", "made")
    moorage.docker("network", "rm", "built_default")
    moorage.docker("rmi", "built-made")
