"""registries.conf and daemon.json: what they say, and where an image is then asked for."""

import os
from pathlib import Path

import pytest

from service.content import reference, registry_hosts
from service.errors import Forbidden, SystemFailure
from service.settings import Settings

DIGEST = "@sha256:" + "0" * 64


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        {
            "MOORAGE_REGISTRIES_CONF": str(tmp_path / "registries.conf"),
            "MOORAGE_DAEMON_JSON": str(tmp_path / "daemon.json"),
            "MOORAGE_AUTH_FILE": str(tmp_path / "auth.json"),
        }
    )


def say(settings: Settings, text: str) -> None:
    Path(settings.registries_conf[0]).write_text(text)


def asked(settings: Settings, name: str) -> list[str]:
    """Where a name is looked for, as host/path; `!` marks a host that may be insecure."""
    named = reference.parse(name)
    return [
        f"{place.name}/{place.path or named.path}" + ("!" if place.insecure else "")
        for place in registry_hosts.hosts(settings, named)
    ]


def test_without_a_file_the_registry_itself_is_asked(settings: Settings) -> None:
    assert asked(settings, "busybox") == ["registry-1.docker.io/library/busybox"]
    assert asked(settings, "quay.io/a/b:1") == ["quay.io/a/b"]


def test_mirrors_come_first_and_a_location_moves_a_prefix(settings: Settings) -> None:
    say(
        settings,
        """
        unqualified-search-registries = ["example.org"]
        short-name-mode = "enforcing"
        [aliases]
        busybox = "quay.io/evil/busybox"
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.test:5000/hub"
        insecure = true
        [[registry]]
        prefix = "quay.io/team"
        location = "inner.test/quay"
        [[registry]]
        prefix = "quay.io/team/open"
        location = "quay.io/team/open"
        [[registry]]
        prefix = "*.wild.test"
        insecure = true
        """,
    )
    # short names mean Docker Hub, whatever the file says of them
    assert asked(settings, "busybox") == [
        "mirror.test:5000/hub/library/busybox!",
        "registry-1.docker.io/library/busybox",
    ]
    assert asked(settings, "quay.io/team/a") == ["inner.test/quay/a"]
    assert asked(settings, "quay.io/team/open/a") == ["quay.io/team/open/a"]
    assert asked(settings, "quay.io/teammates/a") == ["quay.io/teammates/a"]
    assert asked(settings, "deep.wild.test:5000/a") == ["deep.wild.test:5000/a!"]
    assert asked(settings, "wild.test/a") == ["wild.test/a"]


def test_mirrors_for_digests_and_for_tags(settings: Settings) -> None:
    say(
        settings,
        """
        [[registry]]
        prefix = "q.test"
        mirror-by-digest-only = true
        location = "q.test"
        [[registry.mirror]]
        location = "digests.test"
        [[registry]]
        prefix = "r.test"
        location = "r.test"
        [[registry.mirror]]
        location = "tags.test"
        pull-from-mirror = "tag-only"
        """,
    )
    assert asked(settings, "q.test/a:1") == ["q.test/a"]
    assert asked(settings, "q.test/a" + DIGEST) == ["digests.test/a", "q.test/a"]
    assert asked(settings, "r.test/a:1") == ["tags.test/a", "r.test/a"]
    assert asked(settings, "r.test/a" + DIGEST) == ["r.test/a"]


@pytest.mark.parametrize(
    "text",
    [
        '[[registry]]\nlocation = "bad.test"\nblocked = true',
        '[registries.block]\nregistries = ["bad.test"]\n[registries.search]\nregistries = ["x"]',
    ],
)
def test_what_is_blocked_is_refused_by_name(settings: Settings, text: str) -> None:
    say(settings, text)
    with pytest.raises(Forbidden, match=r"registry bad\.test is blocked in /"):
        registry_hosts.hosts(settings, reference.parse("bad.test/a"))
    with pytest.raises(Forbidden, match=r"registry bad\.test is blocked in /"):
        registry_hosts.host(settings, "bad.test")
    assert asked(settings, "bad.test.org/a") == ["bad.test.org/a"]


def test_the_first_version_of_the_file(settings: Settings) -> None:
    say(settings, '[registries.insecure]\nregistries = ["plain.test:5000"]\n[registries.search]\nregistries = ["q.io"]')
    assert asked(settings, "plain.test:5000/a") == ["plain.test:5000/a!"]
    assert registry_hosts.host(settings, "plain.test:5000").schemes == ("https", "http")
    assert asked(settings, "a") == ["registry-1.docker.io/library/a"]


def test_files_beside_it_take_the_place_of_its_rules(settings: Settings) -> None:
    say(settings, '[[registry]]\nlocation = "a.test"\nblocked = true')
    folder = settings.registries_conf[0] + ".d"
    os.mkdir(folder)
    Path(folder, "10.conf").write_text('[[registry]]\nlocation = "a.test"\ninsecure = true')
    Path(folder, "20.ignored").write_text("nonsense")
    assert asked(settings, "a.test/x") == ["a.test/x!"]
    os.unlink(f"{folder}/10.conf")  # and each change is seen
    with pytest.raises(Forbidden):
        asked(settings, "a.test/x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[registry]", "loading registries configuration"),
        ("[[registry]]\nblocked = true", "both location and prefix are unset"),
        ('[[registry]]\nlocation = "https://a.test"', "URI schemes are not supported"),
        ('[[registry]]\nlocation = "a"\nblocked = "yes"', "neither true nor false"),
        ('registry = "a"', "not an array of tables"),
        ('[[registry]]\nlocation = "a"\n[registries.block]\nregistries = ["b"]', "mixing sysregistry v1/v2"),
        ('[[registry]]\nprefix = "a"\n[[registry.mirror]]\ninsecure = true', "mirror location is unset"),
    ],
)
def test_a_file_that_cannot_be_understood_is_told_and_not_passed_over(
    settings: Settings, text: str, message: str
) -> None:
    say(settings, text)
    for _ in range(2):
        with pytest.raises(SystemFailure, match=message):
            asked(settings, "busybox")


def test_daemon_json(settings: Settings) -> None:
    file = Path(settings.daemon_json)
    file.write_text(
        '{"registry-mirrors": ["http://m.test"], "insecure-registries": ["p.test:1", "10.9.0.0/16"], "debug": true}'
    )
    assert asked(settings, "busybox") == ["m.test/library/busybox", "registry-1.docker.io/library/busybox"]
    assert asked(settings, "p.test:1/a") == ["p.test:1/a!"]
    assert asked(settings, "10.9.8.7/a") == ["10.9.8.7/a!"]
    file.write_text("{}")
    assert asked(settings, "p.test:1/a") == ["p.test:1/a"]
    for text in ("{", "[]", '{"registry-mirrors": "x"}', '{"max-concurrent-downloads": -1}'):
        file.write_text(text)
        with pytest.raises(SystemFailure, match="unable to configure the Docker daemon with file /"):
            asked(settings, "busybox")


def test_users_without_root_have_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    made = Settings({"HOME": str(tmp_path), "XDG_RUNTIME_DIR": "/run/user/1000", "XDG_CONFIG_HOME": f"{tmp_path}/conf"})
    assert made.daemon_json == f"{tmp_path}/conf/docker/daemon.json"
    assert made.registries_conf == [f"{tmp_path}/conf/containers/registries.conf", "/etc/containers/registries.conf"]
    assert made.auth_files == [
        f"{tmp_path}/.docker/config.json",
        "/run/user/1000/containers/auth.json",
        f"{tmp_path}/conf/containers/auth.json",
    ]
