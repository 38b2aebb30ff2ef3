"""The server's own credentials: files of Docker's and of containers' form, and programs that know."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from service.content import registry_auth
from service.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings({"HOME": str(tmp_path), "MOORAGE_AUTH_FILE": str(tmp_path / "auth.json")})


def say(settings: Settings, document: dict[str, Any]) -> None:
    Path(settings.auth_files[0]).write_text(json.dumps(document))


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def found(settings: Settings, domain: str, path: str = "a") -> tuple[str, str]:
    """User and password that would be told."""
    credentials = registry_auth.find(settings, domain, path)
    return credentials.username, credentials.password


@pytest.mark.parametrize("key", ["r.test", "https://r.test", "https://r.test/v1/", "http://r.test/v2/", "r.test/"])
def test_a_registry_is_known_by_every_name_that_clients_wrote(settings: Settings, key: str) -> None:
    say(settings, {"auths": {key: auth("mole:pass:word")}})
    assert found(settings, "r.test") == ("mole", "pass:word")
    assert found(settings, "other.test") == found(settings, "r.test:5000") == ("", "")


def test_docker_hub(settings: Settings) -> None:
    say(settings, {"auths": {registry_auth.HUB: auth("hub:secret")}})
    assert found(settings, "docker.io", "library/busybox") == ("hub", "secret")


def test_the_longest_name_of_a_repository_wins(settings: Settings) -> None:
    say(settings, {"auths": {"r.test": auth("all:1"), "r.test/team": auth("team:2"), "r.test/team/a": auth("a:3")}})
    assert found(settings, "r.test", "team/a") == ("a", "3")
    assert found(settings, "r.test", "team/b") == ("team", "2")
    assert found(settings, "r.test", "teams/b") == ("all", "1")


def test_tokens(settings: Settings) -> None:
    say(settings, {"auths": {"r.test": {"identitytoken": "i"}, "s.test": {"registrytoken": "t"}}})
    assert registry_auth.find(settings, "r.test").identity_token == "i"
    assert registry_auth.find(settings, "s.test").registry_token == "t"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"auths":[]}', '{"auths":{"r.test":7}}', '{"auths":{"r.test":{}}}'])
def test_a_file_that_says_nothing(settings: Settings, text: str) -> None:
    Path(settings.auth_files[0]).write_text(text)
    assert registry_auth.find(settings, "r.test").is_empty


def test_a_later_file_is_asked_when_an_earlier_one_has_none(tmp_path: Path) -> None:
    made = Settings({"HOME": str(tmp_path)})
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {"r.test": auth("docker:1")}}))
    (tmp_path / ".config" / "containers").mkdir(parents=True)
    containers = {"auths": {"r.test": auth("podman:2"), "s.test": auth("podman:3")}}
    (tmp_path / ".config" / "containers" / "auth.json").write_text(json.dumps(containers))
    assert found(made, "r.test") == ("docker", "1")
    assert found(made, "s.test") == ("podman", "3")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for a program docker-credential-moles."""
    from service import settings

    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(settings, "PATH", f"{folder}:{settings.PATH}")
    return folder / "docker-credential-moles"


def write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


ASKED = """test "$1" = get || exit 7
read -r address || true
case $address in
https://index.docker.io/v1/) echo '{"ServerURL":"x","Username":"hub","Secret":"s1"}';;
r.test) echo '{"ServerURL":"x","Username":"<token>","Secret":"identity"}';;
*) echo "credentials not found in native keychain"; exit 1;;
esac"""


def test_a_program_is_asked(settings: Settings, program: Path) -> None:
    write(program, ASKED)
    say(settings, {"credsStore": "moles", "auths": {"docker.io": {}}})
    assert found(settings, "docker.io") == ("hub", "s1")
    assert registry_auth.find(settings, "r.test").identity_token == "identity"
    assert registry_auth.find(settings, "s.test").is_empty


def test_a_program_for_one_registry(settings: Settings, program: Path) -> None:
    write(program, ASKED)
    say(settings, {"credHelpers": {"r.test": "moles"}, "auths": {"s.test": auth("written:1")}})
    assert registry_auth.find(settings, "r.test").identity_token == "identity"
    assert found(settings, "s.test") == ("written", "1")


@pytest.mark.parametrize("script", ["exit 3", "echo nonsense", "echo '[]'", "kill -9 $$"])
def test_a_program_that_fails_means_none(
    settings: Settings, program: Path, script: str, capfd: pytest.CaptureFixture[str]
) -> None:
    write(program, f"echo a-secret >&2; {script}")
    say(settings, {"credsStore": "moles"})
    assert registry_auth.find(settings, "r.test").is_empty
    said = capfd.readouterr().err
    assert "docker-credential-moles for r.test" in said
    assert "a-secret" not in said


def test_a_program_that_does_not_end_is_ended(
    settings: Settings, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_auth, "HELPER_SECONDS", 0.2)
    write(program, "exec sleep 600")
    say(settings, {"credsStore": "moles"})
    begun = time.monotonic()
    assert registry_auth.find(settings, "r.test").is_empty
    assert time.monotonic() - begun < 300  # not the program's ten minutes


@pytest.mark.parametrize("name", ["../../bin/sh", "nosuch", "a b", "", 7])
def test_a_name_that_is_no_programs(settings: Settings, name: object) -> None:
    say(settings, {"credsStore": name})
    assert registry_auth.find(settings, "r.test").is_empty
