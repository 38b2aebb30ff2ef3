"""Whatever a registry does wrong, a pull says so clearly and leaves the store as it was; what can go on goes on."""

import http.server
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.test_registry import skopeo
from tests.clients.test_registry_ways import kept, two_layers
from tests.support import image
from tests.support.instance import Instance
from tests.support.ports import free_port
from tests.support.registry import Registry
from tests.support.registry_front import Fault, Front
from tests.support.wire import Wire, request

pytestmark = pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is missing")

DIGEST = "sha256:" + "0123456789abcdef" * 4
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": DIGEST, "size": 2}
LAYER = {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": DIGEST, "size": 2}


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as made:
        yield made


@pytest.fixture
def front(registry: Registry) -> Iterator[Front]:
    with Front(registry) as made:
        yield made


def pull(moorage: Instance, name: str) -> tuple[int, str]:
    """The status of a pull, and its error: the status's or that in its stream."""
    repository, _, tag = name.rpartition(":")
    with Wire(moorage.socket, 60) as wire:
        wire.send(request(f"POST /v1.45/images/create?fromImage={repository}&tag={tag}", connection="close"))
        answer = wire.answer()
    if answer.status != 200:
        return answer.status, answer.json["message"]
    return 200, json.loads(answer.body.splitlines()[-1]).get("error", "")


def manifest(**fields: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": DOCKER, "config": CONFIG, "layers": [LAYER], **fields}).encode()


def index(*entries: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}).encode()


OURS = {"os": "linux", "architecture": os.uname().machine.replace("x86_64", "amd64").replace("aarch64", "arm64")}
MANIFESTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not JSON"),
    "half of one": (manifest()[:-20], "is not JSON"),
    "a list": (b"[]", "is not an object"),
    "deep": (b"[" * 100_000, "is not JSON"),
    "schema 1": (b'{"schemaVersion":1,"name":"a","tag":"1","fsLayers":[]}', "schema 1 support has been removed"),
    "another type": (b'{"schemaVersion":2,"mediaType":"application/x-what"}', "media type"),
    "no config": (manifest(config=None), "config is not an object"),
    "a chart": (
        manifest(config={**CONFIG, "mediaType": "application/vnd.cncf.helm.config.v1+json"}),
        'Encountered remote "application/vnd.cncf.helm.config.v1+json"(unknown) when fetching',
    ),
    "a chart in OCI's form": (
        manifest(mediaType=OCI, config={**CONFIG, "mediaType": "application/vnd.cncf.helm.config.v1+json"}),
        "unsupported media type application/vnd.cncf.helm.config.v1+json",
    ),
    "a plugin": (
        manifest(config={**CONFIG, "mediaType": "application/vnd.docker.plugin.v1+json"}),
        '"application/vnd.docker.plugin.v1+json"(plugin) when fetching',
    ),
    "a config outside": (manifest(config={**CONFIG, "digest": "sha256:../../../etc/passwd"}), "validate config digest"),
    "a layer outside": (manifest(layers=[{**LAYER, "digest": "sha256:../../moorage.db"}]), "validate layer digest"),
    "no digest": (manifest(layers=[{"size": 1}]), "validate layer digest"),
    "a layer of another type": (manifest(layers=[{**LAYER, "mediaType": "text/plain"}]), "unsupported media type text"),
    "no list of layers": (manifest(layers={"a": 1}), "layers is not a list"),
    "no object for a layer": (manifest(layers=[7]), "layer is not an object"),
    "less than nothing": (manifest(layers=[{**LAYER, "size": -1}]), "invalid layer size"),
    "a size in words": (manifest(layers=[{**LAYER, "size": "12"}]), "invalid layer size"),
    "more than there is": (manifest(layers=[{**LAYER, "size": 1 << 70}]), "invalid layer size"),
    "an index of nothing": (index(), "no matching manifest for linux/"),
    "an index of text": (index("a"), "manifest is not an object"),
    "a platform in words": (index({"digest": DIGEST, "platform": "linux/amd64"}), "not an object"),
    "a platform of numbers": (index({"digest": DIGEST, "platform": {"os": 1, "architecture": 2}}), "invalid platform"),
    "an index into nowhere": (index({"digest": "../../x", "platform": OURS}), "validate manifest digest"),
}  # fmt: skip


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_is_none(moorage: Instance, front: Front, case: str) -> None:
    content, message = MANIFESTS[case]
    before = kept(moorage)
    front.faults = [
        Fault("HEAD /v2/odd/manifests", status=404, times=9),
        Fault("GET /v2/odd/manifests", status=200, body=content, times=9, headers={"Content-Type": DOCKER}),
    ]
    status, error = pull(moorage, f"{front.address}/odd:1")
    assert message in error
    assert status in (200, 400, 404)
    assert kept(moorage) == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b"{}", "no RootFS key"),
        (b"none", "invalid image JSON"),
        (b'{"rootfs":{"diff_ids":["sha256:../x"]}}', "invalid rootfs.diff_ids"),
        (b'{"rootfs":{"diff_ids":[]}}', "layers from manifest don't match image configuration"),
        (b'{"os":"windows","rootfs":{"diff_ids":["%s"]}}' % DIGEST.encode(), "windows image"),
    ],
)
def test_a_configuration_that_is_none(moorage: Instance, front: Front, config: bytes, message: str) -> None:
    from service.content.image_config import digest

    before = kept(moorage)
    described = {**CONFIG, "digest": digest(config), "size": len(config)}
    front.faults = [
        Fault("HEAD /v2/odd/manifests", status=404, times=9),
        Fault("GET /v2/odd/manifests", status=200, body=manifest(config=described), times=9),
        Fault("GET /v2/odd/blobs", status=200, body=config, times=9),
    ]
    assert message in pull(moorage, f"{front.address}/odd:1")[1]
    assert kept(moorage) == before


@pytest.fixture(scope="module")
def published(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The manifest of an image of two layers, `two:1` in the registry, which no test gets whole."""
    two_layers(registry, "two:1", tmp_path_factory.mktemp("two"))
    return described(registry, "two:1")


@pytest.fixture
def fresh(registry: Registry, tmp_path: Path) -> dict[str, Any]:
    """The manifest of another one, `fresh:1`: what was pulled once stays here for a while, though it was removed."""
    two_layers(registry, "fresh:1", tmp_path)
    return described(registry, "fresh:1")


def described(registry: Registry, name: str) -> dict[str, Any]:
    """An image's manifest in the registry."""
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.address}/{name}")
    found: dict[str, Any] = json.loads(raw)
    return found


def _redirected(front: Front) -> Fault:
    return Fault("/v2/two/", status=307, headers={"Location": f"http://{front.address}/v2/two/again"}, times=999)


FAULTS: dict[str, tuple[Callable[[Front], Fault], str]] = {
    "redirects without end": (_redirected, "stopped after 10 redirects"),
    "manifests cut off": (lambda _: Fault("GET /v2/two/manifests", reset=True, times=9), "unexpected EOF"),
    "manifests of other bytes": (lambda _: Fault("GET /v2/two/manifests", corrupt=True, times=9), "is not JSON"),
    "blobs of other bytes": (
        lambda _: Fault("GET /v2/two/blobs", corrupt=True, times=9),
        "filesystem layer verification failed for digest sha256:",
    ),
    "no blobs": (lambda _: Fault("GET /v2/two/blobs", status=404, times=9), "not found"),
    "no right to the blobs": (
        lambda _: Fault("GET /v2/two/blobs", status=403, body=_error("DENIED", "not yours"), times=9),
        "pull access denied for",
    ),
    "too many requests": (
        lambda _: Fault("GET /v2/two/manifests", status=429, body=_error("TOOMANYREQUESTS", "later"), times=9),
        "toomanyrequests: later",
    ),
    "a broken registry": (lambda _: Fault("GET /v2/two/manifests", status=503, times=9), "HTTP status: 503"),
}


def _error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


@pytest.mark.parametrize("case", FAULTS)
@pytest.mark.usefixtures("published")
def test_what_is_wrong_every_time_is_told(moorage: Instance, front: Front, case: str) -> None:
    before = kept(moorage)
    fault, message = FAULTS[case]
    front.faults = [Fault("HEAD /v2/two/manifests", status=404, times=9), fault(front)]
    assert message in pull(moorage, f"{front.address}/two:1")[1]
    assert kept(moorage) == before


@pytest.mark.parametrize("times", [1, 3])
def test_a_blob_that_breaks_off_goes_on(moorage: Instance, front: Front, fresh: dict[str, Any], times: int) -> None:
    layer = fresh["layers"][0]["digest"]
    front.faults = [Fault(f"GET /v2/fresh/blobs/{layer}", reset=True, times=times)]
    assert pull(moorage, f"{front.address}/fresh:1") == (200, "")
    asked = [headers.get("Range", "") for line, headers in front.seen if layer in line]
    begun = [int(text.removeprefix("bytes=").rstrip("-") or 0) for text in asked]
    assert len(begun) == times + 1
    assert begun == sorted(set(begun))  # each goes on behind where the one before it ended
    moorage.docker("rmi", f"{front.address}/fresh:1")


def test_when_the_client_leaves_the_pull_ends_and_a_later_one_goes_on(
    moorage: Instance, front: Front, fresh: dict[str, Any]
) -> None:
    layer = fresh["layers"][0]["digest"]
    front.faults = [Fault(f"GET /v2/fresh/blobs/{layer}", hold=threading.Event())]
    name = f"{front.address}/fresh:1"
    client = moorage.docker_popen("pull", name)
    assert front.held.wait(30)
    partial = f"{moorage.root}/blobs/partial/{layer.removeprefix('sha256:')}"
    moorage.until(lambda: os.path.exists(partial) and os.stat(partial).st_size > 1 << 18, 30, "nothing came")
    client.kill()
    client.communicate()
    assert front.left.wait(30), "the registry was held on to after the client had gone"
    assert "fresh" not in moorage.docker("images").stdout
    moorage.wait_idle(60)  # nothing of the pull keeps the service here
    front.seen.clear()
    assert pull(moorage, name) == (200, "")
    ranges = [headers.get("Range", "") for line, headers in front.seen if layer in line]
    assert ranges[0].startswith("bytes=")
    moorage.docker("rmi", name)


@pytest.mark.usefixtures("fresh")
def test_a_client_that_leaves_before_anything_was_said(moorage: Instance, front: Front) -> None:
    front.faults = [
        Fault("HEAD /v2/fresh/manifests", status=404),
        Fault("GET /v2/fresh/manifests", hold=threading.Event()),
    ]
    with Wire(moorage.socket) as wire:
        wire.send(request(f"POST /v1.45/images/create?fromImage={front.address}/fresh&tag=1"))
        assert front.held.wait(30)
    assert front.left.wait(30), "the registry was held on to after the client had gone"


def test_a_kill_in_the_middle_of_a_load_leaves_nothing(moorage: Instance, tmp_path: Path) -> None:
    layers = [image.layer({"first": os.urandom(1 << 20)}), image.layer({"second": os.urandom(8 << 20)})]
    image_id = image.archive(str(tmp_path / "a.tar"), layers, tags=["half:1"])
    whole = (tmp_path / "a.tar").read_bytes()
    before = kept(moorage)
    blobs = set(os.listdir(f"{moorage.root}/blobs/sha256"))
    client = moorage.docker_popen("load")
    assert client.stdin is not None
    client.stdin.write(whole[: len(whole) // 2])
    client.stdin.flush()
    moorage.until(lambda: set(os.listdir(f"{moorage.root}/layers")) > set(before[0]), 30, "no layer was begun")
    moorage.kill_service()
    client.kill()
    client.communicate()
    assert kept(moorage)[1] == before[1]  # starts a service, which puts in order what is there
    moorage.wait_idle(60)  # it lets alone what the unpacking program had not let go of; the next one does not
    moorage.until(lambda: kept(moorage) == before, 30, "a layer was left behind")
    assert not [name for name in os.listdir(f"{moorage.root}/tmp") if name.startswith("blob-")]
    moorage.docker("load", "-i", str(tmp_path / "a.tar"))
    assert moorage.docker("image", "inspect", "-f", "{{.Id}}", "half:1").stdout.strip() == image_id
    moorage.docker("rmi", "half:1")
    assert blobs <= set(os.listdir(f"{moorage.root}/blobs/sha256"))


def test_when_the_client_of_a_load_leaves_nothing_stays(moorage: Instance, tmp_path: Path) -> None:
    image.archive(str(tmp_path / "a.tar"), [image.layer({"big": os.urandom(8 << 20)})], tags=["left:1"])
    before = kept(moorage)
    client = moorage.docker_popen("load")
    assert client.stdin is not None
    client.stdin.write((tmp_path / "a.tar").read_bytes()[: 5 << 20])
    client.stdin.flush()
    moorage.until(lambda: set(os.listdir(f"{moorage.root}/layers")) > set(before[0]), 30, "no layer was begun")
    client.kill()
    client.communicate()
    moorage.until(lambda: kept(moorage) == before, 30, "a layer was left behind")


class Realm(http.server.ThreadingHTTPServer):
    """A token service that answers as it is told, and counts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _RealmHandler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}/token"
        self.status, self.body, self.asked = 200, b'{"token":"t"}', 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _RealmHandler(http.server.BaseHTTPRequestHandler):
    server: Realm

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def realm() -> Iterator[Realm]:
    made = Realm()
    yield made
    made.shutdown()
    made.server_close()


def challenge(realm: str) -> dict[str, str]:
    return {"WWW-Authenticate": f'Bearer realm="{realm}",service="moles"'}


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (500, b"oops", "received unexpected HTTP status: 500"),
        (200, b"<html>", "authorization server did not include a token in the response"),
        (200, b"[]", "authorization server did not include a token in the response"),
        (200, b'{"token":""}', "authorization server did not include a token in the response"),
        (401, b"", "unauthorized: incorrect username or password"),
    ],
)
@pytest.mark.usefixtures("published")
def test_a_token_service_that_fails(
    moorage: Instance, front: Front, realm: Realm, status: int, body: bytes, message: str
) -> None:
    before = kept(moorage)
    front.faults = [Fault("/v2/", status=401, headers=challenge(realm.address), times=99)]
    realm.status, realm.body = status, body
    told, error = pull(moorage, f"{front.address}/two:1")
    assert told == (401 if status == 401 else 500)
    assert message in error
    assert kept(moorage) == before


@pytest.mark.usefixtures("published")
def test_a_token_service_that_is_not_there(moorage: Instance, front: Front) -> None:
    port = free_port()
    front.faults = [Fault("/v2/", status=401, headers=challenge(f"http://127.0.0.1:{port}/token"), times=99)]
    told, error = pull(moorage, f"{front.address}/two:1")
    assert told == 500
    assert f"dial tcp 127.0.0.1:{port}: connect: connection refused" in error


def test_a_token_that_expires_on_the_way_is_renewed(
    moorage: Instance, front: Front, realm: Realm, fresh: dict[str, Any]
) -> None:
    front.faults = [
        Fault("GET /v2/fresh/manifests", status=401, headers=challenge(realm.address)),
        *(
            Fault(f"GET /v2/fresh/blobs/{layer['digest']}", status=401, headers=challenge(realm.address))
            for layer in fresh["layers"]
        ),
    ]
    assert pull(moorage, f"{front.address}/fresh:1") == (200, "")
    assert realm.asked == 1 + len(fresh["layers"])
    moorage.docker("rmi", f"{front.address}/fresh:1")


def test_credentials_do_not_follow_a_redirect(
    moorage: Instance, registry: Registry, front: Front, fresh: dict[str, Any]
) -> None:
    """Registries keep blobs elsewhere: there the way is enough."""
    layer = fresh["layers"][0]["digest"]
    with Front(registry) as elsewhere:
        there = f"http://localhost:{elsewhere.server_address[1]}/v2/fresh/blobs/{layer}"
        basic = {"WWW-Authenticate": 'Basic realm="moles"'}
        front.faults = [
            Fault("GET /v2/fresh/manifests", status=401, headers=basic),
            Fault(f"GET /v2/fresh/blobs/{layer}", status=307, headers={"Location": there}),
        ]
        moorage.docker("login", "-u", "mole", "--password-stdin", front.address, stdin="secret")
        try:
            moorage.docker("pull", f"{front.address}/fresh:1")
        finally:
            moorage.docker("logout", front.address)
        assert [headers.get("Authorization") for _, headers in elsewhere.seen] == [None]
    assert any("Authorization" in headers for _, headers in front.seen)
    moorage.docker("rmi", f"{front.address}/fresh:1")
