"""What an administrator has written about registries: daemon.json, registries.conf, and the server's own logins."""

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.test_registry import publish, skopeo
from tests.clients.test_registry_ways import kept
from tests.support import image
from tests.support.instance import Instance
from tests.support.registry import PASSWORD, USER, Registry
from tests.support.registry_front import Front

pytestmark = pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is missing")


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as made:
        yield made


@pytest.fixture(scope="module")
def private() -> Iterator[Registry]:
    with Registry(basic=True) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_written(moorage: Instance) -> Iterator[None]:
    """Each test begins without any such file."""
    yield
    for name in ("daemon.json", "registries.conf", "auth.json"):
        Path(moorage.folder, name).unlink(missing_ok=True)


def write(moorage: Instance, name: str, text: str) -> None:
    """A file, in place at once: the service may be reading it."""
    unfinished = Path(moorage.folder, f"{name}.new")
    unfinished.write_text(text)
    os.replace(unfinished, Path(moorage.folder, name))


def log_in(moorage: Instance, host: str) -> None:
    """The server's own login."""
    secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    write(moorage, "auth.json", json.dumps({"auths": {host: {"auth": secret}}}))


def test_daemon_json_is_read_when_it_changes(moorage: Instance, registry: Registry, tmp_path: Path) -> None:
    image.archive(str(tmp_path / "a.tar"), [image.layer({"a": "hub"})])
    publish(registry, "library/of-hub:1", str(tmp_path / "a.tar"))
    with Front(registry) as mirror:
        write(moorage, "daemon.json", json.dumps({"registry-mirrors": [f"http://{mirror.address}"], "debug": True}))
        moorage.docker("pull", "of-hub:1")
        assert mirror.seen
        info = json.loads(moorage.docker("info", "--format", "{{json .RegistryConfig}}").stdout)
        assert info["Mirrors"] == [f"http://{mirror.address}/"]
    moorage.docker("rmi", "of-hub:1")
    write(moorage, "daemon.json", '{"insecure-registries": ["a.test:5000"]}')
    info = json.loads(moorage.docker("info", "--format", "{{json .RegistryConfig}}").stdout)
    assert not info["Mirrors"]
    assert info["IndexConfigs"]["a.test:5000"]["Secure"] is False
    write(moorage, "daemon.json", "{")
    refused = moorage.docker("pull", f"{registry.address}/any:1", check=False)
    assert f"unable to configure the Docker daemon with file {moorage.folder}/daemon.json" in refused.stderr
    assert moorage.docker("images").returncode == 0  # what needs nothing of it goes on
    assert moorage.docker("info").returncode == 0


def test_registries_conf_leads_to_mirrors_and_keeps_the_name(
    moorage: Instance, registry: Registry, tmp_path: Path
) -> None:
    layers = [image.layer({"a": os.urandom(1000)})]
    image_id = image.archive(str(tmp_path / "a.tar"), layers)
    publish(registry, "copies/far/app:1", str(tmp_path / "a.tar"))
    text = f"""
        unqualified-search-registries = ["{registry.address}"]
        [[registry]]
        prefix = "far.test/far"
        location = "nowhere.invalid/far"
        [[registry.mirror]]
        location = "{registry.address}/copies/far"
        insecure = true
    """
    write(moorage, "registries.conf", text)
    lines = moorage.docker("pull", "far.test/far/app:1").stdout.splitlines()
    assert lines[0] == "1: Pulling from far/app"
    assert lines[-1] == "far.test/far/app:1"
    document = json.loads(moorage.docker("image", "inspect", "far.test/far/app:1").stdout)[0]
    assert document["Id"] == image_id
    assert document["RepoDigests"][0].startswith("far.test/far/app@sha256:")
    moorage.docker("rmi", "far.test/far/app:1")


def test_what_registries_conf_blocks_is_refused(moorage: Instance, registry: Registry, tmp_path: Path) -> None:
    image.archive(str(tmp_path / "a.tar"), [image.layer({"a": "blocked"})])
    name = publish(registry, "blocked:1", str(tmp_path / "a.tar"))
    moorage.docker("pull", "-q", name)
    write(moorage, "registries.conf", f'[registries.block]\nregistries = ["{registry.address}"]')
    before = kept(moorage)
    for command in (["pull", name], ["push", name], ["login", "-u", "a", "-p", "b", registry.address]):
        refused = moorage.docker(*command, check=False)
        assert f"registry {registry.address} is blocked in {moorage.folder}/registries.conf" in refused.stderr, command
        assert refused.returncode
    assert kept(moorage) == before
    assert moorage.docker("rmi", name)


def test_the_servers_own_login_is_used_when_a_client_has_none(
    moorage: Instance, private: Registry, tmp_path: Path
) -> None:
    name = f"{private.address}/team/app:1"
    image.archive(str(tmp_path / "a.tar"), [image.layer({"a": os.urandom(100)})], tags=[name])
    moorage.docker("load", "-qi", str(tmp_path / "a.tar"))
    assert "no basic auth credentials" in moorage.docker("push", name, check=False).stderr
    log_in(moorage, "another.test")
    assert "no basic auth credentials" in moorage.docker("push", name, check=False).stderr
    log_in(moorage, private.address)
    moorage.docker("push", name)
    moorage.docker("rmi", name)
    moorage.docker("pull", name)
    assert moorage.client().api.inspect_distribution(name)["Descriptor"]["digest"]
    log_in(moorage, f"{private.address}/team")  # podman's logins may be for a part of a registry
    moorage.docker("pull", name)
    log_in(moorage, f"{private.address}/others")
    assert "no basic auth credentials" in moorage.docker("pull", name, check=False).stderr
    moorage.docker("rmi", name)
    assert PASSWORD not in moorage.log()


def test_what_a_client_sends_counts_more_and_a_login_is_tried_with_it_alone(
    moorage: Instance, private: Registry
) -> None:
    log_in(moorage, private.address)
    wrong = moorage.docker("login", "-u", USER, "--password-stdin", private.address, stdin="wrong", check=False)
    assert "401 Unauthorized" in wrong.stderr
    with pytest.raises(Exception, match=r"(?i)unauthorized"):
        moorage.client().api.inspect_distribution(
            f"{private.address}/team/app:1", auth_config={"username": USER, "password": "wrong"}
        )


def test_logins_are_for_the_host_that_is_asked(moorage: Instance, private: Registry, tmp_path: Path) -> None:
    """What a client sends for a name never goes to the mirror that is asked instead; what is written for it does."""
    image.archive(str(tmp_path / "a.tar"), [image.layer({"a": os.urandom(100)})])
    creds = f"--dest-creds={USER}:{PASSWORD}"
    publish(private, "app:1", str(tmp_path / "a.tar"), creds)
    with Front(private) as mirror:
        text = f"""
            [[registry]]
            location = "far.test"
            [[registry.mirror]]
            location = "{mirror.address}"
        """
        write(moorage, "registries.conf", text)
        log_in(moorage, mirror.address)
        client = moorage.client()
        client.api.pull("far.test/app", tag="1", auth_config={"username": "far", "password": "for-far-only"})
        sent = {headers.get("Authorization") for _, headers in mirror.seen} - {None}
    assert sent == {"Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
    moorage.docker("rmi", "far.test/app:1")
    assert skopeo("inspect", "--tls-verify=false", f"--creds={USER}:{PASSWORD}", f"docker://{private.address}/app:1")
