"""Builds at registries that want a login: the client fetches the token, and keeps its password to itself."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.buildx import Buildx
from tests.support.instance import Instance
from tests.support.issuer import Issuer
from tests.support.registry import PASSWORD, USER, Registry

OURS = "moorage"  # the User-Agent of the service


@pytest.fixture(scope="module")
def buildx(moorage: Instance, tmp_path_factory: pytest.TempPathFactory) -> Buildx:
    """buildx, in a folder of its own."""
    return Buildx(moorage, tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    """A token service."""
    with Issuer(tmp_path_factory.mktemp("issuer")) as serving:
        yield serving


@pytest.fixture(scope="module")
def private(moorage: Instance, issuer: Issuer) -> Iterator[Registry]:
    """A registry that believes it, with an image."""
    with Registry(token=issuer.settings) as registry:
        moorage.docker("tag", "busybox", f"{registry.address}/deep/base")
        moorage.docker("login", "-u", USER, "--password-stdin", registry.address, stdin=PASSWORD)
        moorage.docker("push", f"{registry.address}/deep/base")
        moorage.docker("logout", registry.address)
        moorage.docker("rmi", f"{registry.address}/deep/base")
        yield registry


@pytest.fixture(autouse=True)
def _as_before(moorage: Instance, issuer: Issuer, private: Registry) -> Iterator[None]:
    issuer.askers.clear()
    yield
    moorage.docker("rmi", "-f", f"{private.address}/deep/base", check=False)
    Path(moorage.environment["MOORAGE_AUTH_FILE"]).unlink(missing_ok=True)
    assert PASSWORD not in moorage.log()


def logins(path: Path, address: str, password: str = PASSWORD) -> None:
    """Write what `docker login` writes."""
    both = base64.b64encode(f"{USER}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {address: {"auth": both}}}))


def from_base(private: Registry) -> bytes:
    return f"FROM {private.address}/deep/base\nRUN echo it is here\n".encode()


def test_the_client_fetches_tokens(buildx: Buildx, private: Registry, issuer: Issuer) -> None:
    logins(buildx.folder / "config/config.json", private.address)
    said = buildx.build("--no-cache", "-", stdin=from_base(private))
    assert f"[auth] deep/base:pull token for {private.address}" in said
    assert issuer.askers
    assert OURS not in issuer.askers


def test_the_client_fetches_tokens_for_what_is_pushed_here(
    buildx: Buildx, private: Registry, issuer: Issuer, moorage: Instance
) -> None:
    logins(buildx.folder / "config/config.json", private.address)
    buildx("buildx", "create", "--name", "far", "--driver", "remote", f"unix://{moorage.socket}")
    said = buildx.build(
        "--builder", "far", "--push", "-t", f"{private.address}/other/made", "-", stdin=b"FROM busybox\nLABEL a=b\n"
    )
    assert f"[auth] other/made:pull,push token for {private.address}" in said
    assert OURS not in issuer.askers
    moorage.docker("rmi", f"{private.address}/other/made", check=False)


def test_a_client_that_fetches_no_tokens_gives_its_login(buildx: Buildx, private: Registry, issuer: Issuer) -> None:
    logins(buildx.folder / "config/config.json", private.address)
    said = buildx.build("--no-cache", "-", stdin=from_base(private), BUILDKIT_NO_CLIENT_TOKEN="1")
    assert f"[auth] sharing credentials for {private.address}" in said
    assert set(issuer.askers) == {OURS}


def test_a_registry_without_tokens_is_given_the_login(buildx: Buildx, moorage: Instance) -> None:
    with Registry(basic=True) as plain:
        name = f"{plain.address}/plain"
        moorage.docker("tag", "busybox", name)
        moorage.docker("login", "-u", USER, "--password-stdin", plain.address, stdin=PASSWORD)
        moorage.docker("push", name)
        moorage.docker("logout", plain.address)
        moorage.docker("rmi", name)
        logins(buildx.folder / "config/config.json", plain.address)
        said = buildx.build("--no-cache", "-", stdin=f"FROM {name}\nRUN true\n".encode())
        assert f"[auth] sharing credentials for {plain.address}" in said
        moorage.docker("rmi", name)


@pytest.mark.parametrize("password", ["wrong", ""])
def test_what_a_token_service_refuses_is_told(buildx: Buildx, private: Registry, issuer: Issuer, password: str) -> None:
    configuration = buildx.folder / "config/config.json"
    logins(configuration, private.address, password)
    if not password:
        configuration.write_text("{}")
    said = buildx.build("--no-cache", "-", stdin=from_base(private), code=1)
    kind = "oauth" if password else "anonymous"
    assert f"failed to authorize: failed to fetch {kind} token: unexpected status" in said
    assert "401 Unauthorized" in said
    assert OURS not in issuer.askers


def test_the_servers_own_login_is_for_clients_that_have_none(
    buildx: Buildx, private: Registry, issuer: Issuer, moorage: Instance
) -> None:
    logins(Path(moorage.environment["MOORAGE_AUTH_FILE"]), private.address)
    (buildx.folder / "config/config.json").write_text("{}")
    buildx.build("--no-cache", "-", stdin=from_base(private))
    assert set(issuer.askers) == {OURS}
    moorage.docker("rmi", f"{private.address}/deep/base")
    logins(buildx.folder / "config/config.json", private.address, "wrong")
    assert "unauthorized" in buildx.build("--no-cache", "-", stdin=from_base(private), code=1)
