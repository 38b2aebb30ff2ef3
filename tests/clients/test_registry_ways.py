"""The way to a registry: mirrors, proxies, certificates, and what a registry does wrong on it."""

import json
import os
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.test_registry import publish, skopeo
from tests.support import image
from tests.support.certificates import Authority
from tests.support.instance import Instance
from tests.support.registry import Registry
from tests.support.registry_front import Fault, Front

pytestmark = pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is missing")
FAR = "registry.moles.test"  # a name that no name server knows: only the proxy leads there


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as made:
        yield made


@pytest.fixture(scope="module")
def proxy(registry: Registry) -> Iterator[Front]:
    with Front(registry) as made:
        yield made


@pytest.fixture(scope="module")
def mirror(registry: Registry) -> Iterator[Front]:
    with Front(registry) as made:
        yield made


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certs.d")


@pytest.fixture(scope="module")
def moorage(proxy: Front, mirror: Front, certs: Path) -> Iterator[Instance]:
    environment = {
        "MOORAGE_REGISTRY_MIRRORS": f"http://{mirror.address}",
        "MOORAGE_INSECURE_REGISTRIES": f"plain.{FAR}:5000",
        "MOORAGE_CERTS_DIR": str(certs),
        "HTTP_PROXY": f"http://mole:secret@{proxy.address}",
        "HTTPS_PROXY": proxy.address,
        "NO_PROXY": "nowhere.test",
    }
    with Instance(environment=environment) as instance:
        yield instance


@pytest.fixture
def front(registry: Registry) -> Iterator[Front]:
    with Front(registry) as made:
        yield made


def two_layers(registry: Registry, name: str, folder: Path) -> str:
    """Publish an image of two layers; its id."""
    layers = [image.layer({"big": os.urandom(2 << 20)}), image.layer({"small": os.urandom(100)})]
    image_id = image.archive(str(folder / "a.tar"), layers)
    publish(registry, name, str(folder / "a.tar"))
    return image_id


def kept(moorage: Instance) -> tuple[list[str], list[str]]:
    """What the store holds: layer directories, and names of images."""
    names = moorage.docker("images", "-a", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").stdout.split("\n")
    folder = f"{moorage.root}/layers"
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else [], sorted(names)


def test_docker_hub_is_asked_by_its_mirror(
    moorage: Instance, registry: Registry, mirror: Front, tmp_path: Path
) -> None:
    image_id = two_layers(registry, "library/mirrored:1", tmp_path)
    said = moorage.docker("pull", "mirrored:1").stdout.splitlines()
    assert (said[0], said[-1]) == ("1: Pulling from library/mirrored", "docker.io/library/mirrored:1")
    assert moorage.docker("image", "inspect", "-f", "{{.Id}}", "mirrored:1").stdout.strip() == image_id
    mirror.seen.clear()
    assert "Status: Image is up to date for mirrored:1" in moorage.docker("pull", "mirrored:1").stdout
    assert [line for line, _ in mirror.seen if "manifests" in line] == ["HEAD /v2/library/mirrored/manifests/1"]
    info = json.loads(moorage.docker("info", "--format", "{{json .}}").stdout)
    assert info["RegistryConfig"]["Mirrors"] == [f"http://{mirror.address}/"]
    assert info["HttpProxy"].startswith("http://xxxxx:xxxxx@127.0.0.1:")
    moorage.docker("rmi", "mirrored:1")


def test_a_mirror_without_the_image_leads_to_the_registry_itself(
    moorage: Instance, mirror: Front, proxy: Front
) -> None:
    proxy.seen.clear()
    mirror.seen.clear()
    refused = moorage.docker("pull", "unheard/of:1", check=False)
    assert 'Get "https://registry-1.docker.io/v2/": proxyconnect tcp: 502 no such tunnel' in refused.stderr
    assert [line for line, _ in proxy.seen] == ["CONNECT registry-1.docker.io:443"]
    assert all("Authorization" not in headers for _, headers in mirror.seen)


def test_plain_http_through_a_proxy(moorage: Instance, registry: Registry, proxy: Front, tmp_path: Path) -> None:
    two_layers(registry, "far:1", tmp_path)
    name = f"plain.{FAR}:5000/far:1"
    proxy.seen.clear()
    moorage.docker("pull", "-q", name)
    moorage.docker("tag", name, f"plain.{FAR}:5000/pushed:1")
    moorage.docker("push", "-q", f"plain.{FAR}:5000/pushed:1")
    assert f"GET http://plain.{FAR}:5000/v2/far/manifests/1" in [line for line, _ in proxy.seen]
    assert all("Proxy-Authorization" in headers for line, headers in proxy.seen if line.startswith("GET http"))
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.address}/pushed:1")
    assert raw == skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.address}/far:1")
    moorage.docker("rmi", name, f"plain.{FAR}:5000/pushed:1")


def test_certificates_of_a_registry_and_of_its_client(
    moorage: Instance, registry: Registry, proxy: Front, certs: Path, tmp_path: Path
) -> None:
    two_layers(registry, "safe:1", tmp_path)
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign("server", alternative=f"DNS:{FAR}"))
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # so that a missing certificate is told in the handshake
    folder = certs / f"{FAR}:443"
    folder.mkdir()
    with Front(registry, context) as secure:
        for name in (f"{FAR}:443", f"other.{FAR}:443"):
            proxy.tunnels[name] = ("127.0.0.1", secure.server_address[1])
        name = f"{FAR}:443/safe:1"

        def refused(name: str = name) -> str:
            return moorage.docker("pull", name, check=False).stderr

        assert "tls: failed to verify certificate: x509: certificate signed by unknown authority" in refused()
        shutil.copy(authority.certificate, folder / "ca.crt")
        assert f'Get "https://{FAR}:443/v2/": tls: ' in refused()  # it wants to know who we are
        certificate, key = authority.sign("client")
        shutil.copy(certificate, folder / "client.cert")
        assert "missing key client.key for client certificate client.cert" in refused()
        shutil.copy(key, folder / "client.key")
        assert f"Downloaded newer image for {name}" in moorage.docker("pull", name).stdout
        shutil.copytree(folder, certs / f"other.{FAR}:443")
        assert "x509: certificate is not valid for other." in refused(f"other.{FAR}:443/safe:1")
        moorage.docker("rmi", name)


def test_a_busy_registry_is_asked_again(moorage: Instance, registry: Registry, front: Front, tmp_path: Path) -> None:
    two_layers(registry, "busy:1", tmp_path)
    raw = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.address}/busy:1"))
    layer = raw["layers"][0]["digest"]
    front.faults = [
        Fault("GET /v2/busy/manifests", status=503),
        Fault("GET /v2/busy/manifests", status=429, headers={"Retry-After": "1"}),
        Fault(layer, status=502),
        Fault(layer, status=429, headers={"Retry-After": "3"}),
        Fault(layer, reset=True),
        Fault("GET /v2/busy/blobs", status=502),
    ]
    said = moorage.docker("pull", f"{front.address}/busy:1").stdout
    assert "Status: Downloaded newer image" in said
    assert "Retrying in 3 seconds" in said
    moorage.docker("rmi", f"{front.address}/busy:1")


ERRORS: list[tuple[Fault, str]] = [
    (Fault("GET /v2/wrong/manifests", status=500, times=9), "received unexpected HTTP status: 500"),
    (
        Fault(
            "GET /v2/wrong/manifests",
            status=429,
            times=9,
            body=json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "pull rate limit"}]}).encode(),
        ),
        "toomanyrequests: pull rate limit",
    ),
    (
        Fault("GET /v2/wrong/manifests", status=200, times=9, body=b'{"schemaVersion":1,"name":"wrong"}'),
        "schema 1 support has been removed. Suggest the author of",
    ),
    (Fault("GET /v2/wrong/manifests", status=200, times=9, body=b"<html>"), "is not JSON"),
    (Fault("GET /v2/wrong/blobs", corrupt=True, times=9), "filesystem layer verification failed for digest sha256:"),
    (Fault("GET /v2/wrong/blobs", status=404, times=9, body=b"{}"), "not found"),
]


@pytest.mark.parametrize(("fault", "message"), ERRORS)
def test_what_a_registry_does_wrong_is_told_and_leaves_nothing(
    moorage: Instance, registry: Registry, front: Front, tmp_path: Path, fault: Fault, message: str
) -> None:
    two_layers(registry, "wrong:1", tmp_path)
    before = kept(moorage)
    front.faults = [Fault("HEAD /v2/wrong/manifests", status=404, times=9), fault]
    refused = moorage.docker("pull", f"{front.address}/wrong:1", check=False)
    assert refused.returncode == 1
    assert message in refused.stderr
    assert kept(moorage) == before


def test_a_push_goes_on_when_the_registry_stumbles(
    moorage: Instance, registry: Registry, front: Front, tmp_path: Path
) -> None:
    image_id = image.archive(str(tmp_path / "a.tar"), [image.layer({"a": os.urandom(1 << 20)})], tags=["stumble:1"])
    moorage.docker("load", "-qi", str(tmp_path / "a.tar"))
    name = f"{front.address}/stumble:1"
    moorage.docker("tag", "stumble:1", name)
    front.faults = [Fault("POST /v2/stumble/blobs", status=503, headers={"Retry-After": "1"})]
    said = moorage.docker("push", name).stdout
    assert "Retrying in 1 second" in said
    raw: dict[str, Any] = json.loads(
        skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.address}/stumble:1")
    )
    assert raw["config"]["digest"] == image_id
    moorage.docker("rmi", "stumble:1", name)
