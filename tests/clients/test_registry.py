"""Pull and push through the real CLI against Debian's docker-registry, which skopeo fills and reads beside us."""

import base64
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import APIError, NotFound

from tests.support import image
from tests.support.instance import Instance
from tests.support.issuer import IDENTITY, Issuer
from tests.support.registry import PASSWORD, USER, Registry
from tests.support.wire import Answer, Wire, request

pytestmark = pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is missing")


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as made:
        yield made


def skopeo(*arguments: str) -> str:
    done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


def publish(registry: Registry, name: str, archive: str, *options: str) -> str:
    """Copy an archive's image to the registry; its full name."""
    skopeo(
        "copy", "--dest-tls-verify=false", *options, f"docker-archive:{archive}", f"docker://{registry.address}/{name}"
    )
    return f"{registry.address}/{name}"


@pytest.fixture
def without_busybox(moorage: Instance) -> Iterator[None]:
    """A pull of an image that is here already says nothing of its layers."""
    moorage.docker("rmi", "-f", "busybox")
    yield
    moorage.load_busybox()


@pytest.mark.usefixtures("without_busybox")
def test_pull_speaks_dockers_lines(moorage: Instance, registry: Registry) -> None:
    name = publish(registry, "moles/busybox:1", image.busybox())
    digest = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{name}"))["Digest"]
    lines = moorage.docker("pull", name).stdout.splitlines()
    assert lines[0] == "1: Pulling from moles/busybox"
    layer = lines[1].partition(":")[0]
    assert lines[1] == f"{layer}: Pulling fs layer"
    assert {f"{layer}: {state}" for state in ("Verifying Checksum", "Download complete", "Pull complete")} <= set(lines)
    assert lines[-3:] == [f"Digest: {digest}", f"Status: Downloaded newer image for {name}", name]
    again = moorage.docker("pull", name).stdout.splitlines()
    assert again == [
        "1: Pulling from moles/busybox",
        f"Digest: {digest}",
        f"Status: Image is up to date for {name}",
        name,
    ]
    assert moorage.docker("run", "--rm", "--network", "none", name, "echo", "dug").stdout == "dug\n"
    inspected = json.loads(moorage.docker("image", "inspect", name).stdout)[0]
    assert inspected["RepoDigests"] == [f"{registry.address}/moles/busybox@{digest}"]
    by_digest = moorage.docker("pull", f"{registry.address}/moles/busybox@{digest}").stdout
    assert f"Status: Image is up to date for {registry.address}/moles/busybox@{digest}" in by_digest
    moorage.docker("rmi", name)


@pytest.mark.parametrize(
    "options", [["--format=oci"], ["--format=oci", "--dest-compress-format=zstd"], ["--format=v2s2"]]
)
def test_every_form_of_image_has_one_id(
    moorage: Instance, registry: Registry, options: list[str], tmp_path: Path
) -> None:
    tag = "-".join(option.rpartition("=")[2] for option in options)
    image.archive(str(tmp_path / "a.tar"), [image.layer({"a": "1" * 5000}), image.layer({"b": tag})])
    name = publish(registry, f"forms:{tag}", str(tmp_path / "a.tar"), *options)
    raw = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}"))
    moorage.docker("pull", "-q", name)
    assert moorage.docker("image", "inspect", "-f", "{{.Id}}", name).stdout.strip() == raw["config"]["digest"]
    moorage.docker("rmi", name)


def test_the_platform_picks_from_an_index(moorage: Instance, registry: Registry, client: docker.DockerClient) -> None:
    entries = []
    for architecture in ("amd64", "arm64"):
        name = publish(registry, f"multi:{architecture}", image.busybox())
        raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
        described = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{name}"))
        entries.append(
            {
                "mediaType": json.loads(raw)["mediaType"],
                "digest": described["Digest"],
                "size": len(raw),
                "platform": {"os": "linux", "architecture": architecture},
            }
        )
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
    import requests

    put = requests.put(
        f"http://{registry.address}/v2/multi/manifests/both",
        data=json.dumps(index),
        headers={"Content-Type": "application/vnd.oci.image.index.v1+json"},
        timeout=60,
    )
    assert put.status_code == 201, put.text
    name = f"{registry.address}/multi:both"
    assert "Downloaded newer image" in moorage.docker("pull", "--platform", "linux/arm64", name).stdout
    assert f"multi@{put.headers['Docker-Content-Digest']}" in moorage.docker("image", "inspect", name).stdout
    refused = moorage.docker("pull", "--platform", "linux/s390x", name, check=False)
    assert "no matching manifest for linux/s390x in the manifest list entries" in refused.stderr
    seen = client.api.inspect_distribution(name)
    assert [entry["architecture"] for entry in seen["Platforms"]] == ["amd64", "arm64"]
    moorage.docker("rmi", name)


def test_a_manifest_list_of_the_cli_is_pulled(moorage: Instance, registry: Registry, tmp_path: Path) -> None:
    images = {}
    for tag in ("a", "b"):
        image.archive(str(tmp_path / "a.tar"), [image.layer({"a": f"list {tag}"})])
        images[tag] = publish(registry, f"listed:{tag}", str(tmp_path / "a.tar"))
    name = f"{registry.address}/listed:all"
    insecure = "--insecure"
    moorage.docker("manifest", "create", insecure, name, *images.values())
    moorage.docker("manifest", "annotate", "--arch", "s390x", name, images["b"])
    pushed = moorage.docker("manifest", "push", insecure, name).stdout.strip()
    seen = json.loads(moorage.docker("manifest", "inspect", insecure, name).stdout)
    assert sorted(entry["platform"]["architecture"] for entry in seen["manifests"])[-1] == "s390x"
    moorage.docker("pull", "-q", name)
    one = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{images['a']}"))
    inspected = json.loads(moorage.docker("image", "inspect", name).stdout)[0]
    assert inspected["Id"] == one["config"]["digest"]
    assert inspected["RepoDigests"] == [f"{registry.address}/listed@{pushed}"]
    moorage.docker("rmi", name)


def test_what_skopeo_deletes_is_gone_from_the_registry_and_stays_here(
    moorage: Instance, registry: Registry, tmp_path: Path
) -> None:
    name = f"{registry.address}/deleted:1"
    image_id = image.archive(str(tmp_path / "a.tar"), [image.layer({"a": os.urandom(100)})], tags=[name])
    moorage.docker("load", "-qi", str(tmp_path / "a.tar"))
    moorage.docker("push", "-q", name)
    assert json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{name}"))["Digest"]
    skopeo("delete", "--tls-verify=false", f"docker://{name}")
    refused = moorage.docker("pull", name, check=False)
    assert f"manifest for {name} not found: manifest unknown" in refused.stderr
    assert moorage.docker("image", "inspect", "-f", "{{.Id}}", name).stdout.strip() == image_id
    moorage.docker("push", "-q", name)  # its blobs may still be there: its manifest is there again
    assert moorage.docker("pull", "-q", name).stdout.strip() == name
    moorage.docker("rmi", name)


def test_all_tags_are_pulled_and_told_as_one(moorage: Instance, registry: Registry, tmp_path: Path) -> None:
    image.archive(str(tmp_path / "a.tar"), [image.layer({"a": "1" * 500})])
    name = publish(registry, "tags:1", str(tmp_path / "a.tar")).removesuffix(":1")
    publish(registry, "tags:2", str(tmp_path / "a.tar"))
    lines = moorage.docker("pull", "-a", name).stdout.splitlines()
    assert {"1: Pulling from tags", "2: Pulling from tags"} <= set(lines)
    assert [line for line in lines if line.startswith("Status")] == [f"Status: Downloaded newer image for {name}"]
    again = moorage.docker("pull", "-a", name).stdout.splitlines()
    assert again[-2:] == [f"Status: Image is up to date for {name}", name]
    moorage.docker("rmi", f"{name}:1", f"{name}:2")


def test_another_platform_than_asked_for_is_a_warning(moorage: Instance, registry: Registry, tmp_path: Path) -> None:
    image.archive(str(tmp_path / "a.tar"), [image.layer({"a": "platform"})])
    name = publish(registry, "single:1", str(tmp_path / "a.tar"))
    said = moorage.docker("pull", "--platform", "linux/s390x", name).stdout
    assert f"WARNING: image with reference {name} was found but its platform (linux/" in said
    assert "does not match the specified platform (linux/s390x)" in said
    moorage.docker("rmi", name)


def test_an_unknown_image_is_a_status_and_not_a_stream(client: docker.DockerClient, registry: Registry) -> None:
    with pytest.raises(NotFound) as refused:
        client.api.pull(f"{registry.address}/nosuch", tag="1")
    assert refused.value.explanation == (
        f"manifest for {registry.address}/nosuch:1 not found: manifest unknown: manifest unknown"
    )


def test_a_registry_that_is_not_there(client: docker.DockerClient) -> None:
    with pytest.raises(APIError) as refused:
        client.api.pull("127.0.0.1:1/a", tag="1")
    assert refused.value.status_code == 500
    assert 'Get "http' in refused.value.explanation


@pytest.mark.usefixtures("without_busybox")
def test_push_keeps_the_digest_and_mounts_what_is_known(moorage: Instance, registry: Registry) -> None:
    name = publish(registry, "source/a:1", image.busybox())
    pulled = moorage.docker("pull", name).stdout
    digest = next(line for line in pulled.splitlines() if line.startswith("Digest: "))[8:]
    target = f"{registry.address}/other/b:2"
    moorage.docker("tag", name, target)
    lines = moorage.docker("push", target).stdout.splitlines()
    assert lines[0] == f"The push refers to repository [{registry.address}/other/b]"
    assert lines[2].endswith(": Mounted from source/a")
    assert lines[-1].startswith(f"2: digest: {digest} size: ")
    assert moorage.docker("push", target).stdout.splitlines()[2].endswith(": Layer already exists")
    assert json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{target}"))["Digest"] == digest
    moorage.docker("rmi", name, target)


def test_what_was_loaded_can_be_pushed_and_read_by_others(
    moorage: Instance, registry: Registry, tmp_path: Path
) -> None:
    name = f"{registry.address}/fresh/c:1"
    layers = [image.layer({"big": os.urandom(3 << 20)}), image.layer({"small": "s"})]
    image_id = image.archive(str(tmp_path / "a.tar"), layers, tags=[name])
    moorage.docker("load", "-i", str(tmp_path / "a.tar"))
    lines = moorage.docker("push", name).stdout.splitlines()
    assert sum(line.endswith(": Pushed") for line in lines) == 2
    skopeo("copy", "--src-tls-verify=false", f"docker://{name}", f"dir:{tmp_path}/out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["config"]["digest"] == image_id
    moorage.docker("rmi", name)
    refused = moorage.docker("push", name, check=False)
    assert f"An image does not exist locally with the tag: {registry.address}/fresh/c" in refused.stderr


def test_a_layer_that_an_image_has_twice_is_sent_once(moorage: Instance, registry: Registry, tmp_path: Path) -> None:
    name = f"{registry.address}/twin:1"
    twin = image.layer({"a": "twin" * 500})
    image_id = image.archive(str(tmp_path / "a.tar"), [twin, image.layer({"b": "between"}), twin], tags=[name])
    moorage.docker("load", "-i", str(tmp_path / "a.tar"))
    lines = moorage.docker("push", name).stdout.splitlines()
    assert [line.partition(": ")[2] for line in lines[1:-1]].count("Pushed") == 2
    moorage.docker("rmi", name)
    moorage.docker("pull", "-q", name)
    assert moorage.docker("image", "inspect", "-f", "{{.Id}}", name).stdout.strip() == image_id
    moorage.docker("rmi", name)


def test_basic_authentication(moorage: Instance) -> None:
    with Registry(basic=True) as private:
        name = f"{private.address}/secret:1"
        moorage.docker("tag", "busybox", name)
        assert "no basic auth credentials" in moorage.docker("push", name, check=False).stderr
        wrong = moorage.docker("login", "-u", USER, "--password-stdin", private.address, stdin="wrong", check=False)
        assert f"login attempt to http://{private.address}/v2/ failed with status: 401 Unauthorized" in wrong.stderr
        moorage.docker("login", "-u", USER, "--password-stdin", private.address, stdin=PASSWORD)
        try:
            moorage.docker("push", name)
            moorage.docker("rmi", name)
            moorage.docker("pull", name)
            moorage.docker("rmi", name)
        finally:
            moorage.docker("logout", private.address)
        assert "no basic auth credentials" in moorage.docker("pull", name, check=False).stderr
    assert PASSWORD not in moorage.log()


def encoded(**given: str) -> str:
    """The value of X-Registry-Auth."""
    return base64.urlsafe_b64encode(json.dumps(given).encode()).decode()


def test_every_form_of_credentials(moorage: Instance, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)

    def asked(line: str, auth: "str | None", body: bytes = b"") -> Answer:
        with Wire(moorage.socket, 30) as wire:
            headers = {"Content-Type": "application/json"} | ({} if auth is None else {"X-Registry-Auth": auth})
            wire.send(request(line, body, Connection="close", **headers))
            return wire.answer()

    try:
        with Registry(token=issuer.settings) as private:
            name = f"{private.address}/forms:1"
            moorage.docker("tag", "busybox", name)
            whole = encoded(username=USER, password=PASSWORD)
            pushed = asked(f"POST /v1.45/images/{private.address}/forms/push?tag=1", whole)
            assert b'"aux":{"Tag":"1","Digest":"sha256:' in pushed.body
            pull = f"POST /v1.45/images/create?fromImage={private.address}/forms&tag=1"
            both = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            for good in (
                whole,
                whole.rstrip("="),
                encoded(username=USER, password=PASSWORD, padded="~~~???"),
                encoded(auth=both),
                encoded(identitytoken=IDENTITY),
                encoded(registrytoken=issuer.token(["repository:forms:pull"])),
            ):
                answer = asked(pull, good)
                assert answer.status == 200, answer.body
                assert b"Image is up to date" in answer.body
            for bad in (None, "", "!", encoded(), encoded(username=USER, password="wrong"), encoded(identitytoken="x")):
                answer = asked(pull, bad)
                assert answer.status == 401, (bad, answer.body)
                assert "unauthorized" in answer.json["message"]
            given = {"serveraddress": private.address, "username": USER, "password": PASSWORD}
            login = asked("POST /v1.45/auth", None, json.dumps(given).encode())
            assert login.json == {"IdentityToken": IDENTITY, "Status": "Login Succeeded"}
            refused = asked("POST /v1.45/auth", None, json.dumps({**given, "password": "wrong"}).encode())
            assert refused.status == 401
            assert f'Get "http://{private.address}/v2/": unauthorized' in refused.json["message"]
            moorage.docker("rmi", name)
        assert PASSWORD not in moorage.log()
        assert IDENTITY not in moorage.log()
    finally:
        issuer.shutdown()
        issuer.server_close()


def test_bearer_tokens(moorage: Instance, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    try:
        with Registry(token=issuer.settings) as private:
            name = f"{private.address}/deep/secret:1"
            moorage.docker("tag", "busybox", name)
            refused = moorage.docker("push", name, check=False)
            assert "unauthorized" in refused.stderr
            moorage.docker("login", "-u", USER, "--password-stdin", private.address, stdin=PASSWORD)
            try:
                moorage.docker("push", name)
                assert issuer.asked[-1]["scope"] == ["repository:deep/secret:pull,push"]
                moorage.docker("rmi", name)
                moorage.docker("pull", name)
                assert issuer.asked[-1]["scope"] == ["repository:deep/secret:pull"]
                moorage.docker("rmi", name)
            finally:
                moorage.docker("logout", private.address)
        assert PASSWORD not in moorage.log()
    finally:
        issuer.shutdown()
        issuer.server_close()


class Slow(http.server.ThreadingHTTPServer):
    """Stands before a registry and lets a blob through slowly, or cuts it off once."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(("127.0.0.1", 0), _SlowHandler)
        self.registry = registry
        self.address = f"127.0.0.1:{self.server_address[1]}"
        self.slowly = threading.Event()
        self.cut = 0
        self.ranges: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _SlowHandler(http.server.BaseHTTPRequestHandler):
    server: Slow
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        import requests

        kept = {name: value for name, value in self.headers.items() if name in ("Accept", "Range")}
        upstream = requests.get(f"http://{self.server.registry.address}{self.path}", headers=kept, timeout=60)
        content = upstream.content
        self.send_response(upstream.status_code)
        for name in ("Content-Type", "Docker-Content-Digest", "Content-Range"):
            if name in upstream.headers:
                self.send_header(name, upstream.headers[name])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if "/blobs/" in self.path and len(content) > 1 << 20:
            self.server.ranges.append(self.headers.get("Range", ""))
            if self.server.cut:
                self.server.cut -= 1
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
                return
            while self.server.slowly.is_set() and content:
                self.wfile.write(content[:65536])
                content = content[65536:]
                time.sleep(0.02)
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def slow(registry: Registry) -> Iterator[Slow]:
    made = Slow(registry)
    yield made
    made.shutdown()
    made.server_close()


def test_a_download_that_breaks_off_goes_on_where_it_was(
    moorage: Instance, registry: Registry, slow: Slow, tmp_path: Path
) -> None:
    image.archive(str(tmp_path / "a.tar"), [image.layer({"big": os.urandom(4 << 20)})])
    publish(registry, "broken:1", str(tmp_path / "a.tar"))
    slow.cut = 1
    said = moorage.docker("pull", f"{slow.address}/broken:1").stdout
    assert "Retrying in 1 second" in said
    assert slow.ranges[0] == ""
    assert int(slow.ranges[1].removeprefix("bytes=").rstrip("-")) > 0
    moorage.docker("rmi", f"{slow.address}/broken:1")


def test_a_kill_in_the_middle_of_a_pull_leaves_only_what_a_later_pull_goes_on_from(
    moorage: Instance, registry: Registry, slow: Slow, tmp_path: Path
) -> None:
    layers = [image.layer({"first": os.urandom(200)}), image.layer({"big": os.urandom(8 << 20)})]
    image_id = image.archive(str(tmp_path / "a.tar"), layers)
    publish(registry, "killed:1", str(tmp_path / "a.tar"))
    name = f"{slow.address}/killed:1"
    before = set(os.listdir(f"{moorage.root}/layers"))
    slow.slowly.set()
    pull = moorage.docker_popen("pull", name)
    partial = f"{moorage.root}/blobs/partial"
    moorage.until(
        lambda: (
            os.path.isdir(partial) and any(os.stat(f"{partial}/{f}").st_size > 1 << 20 for f in os.listdir(partial))
        ),
        20,
        "no partial blob grew",
    )
    moorage.kill_service()
    pull.communicate()
    slow.slowly.clear()
    assert "killed" not in moorage.docker("images").stdout  # starts a new service, which reconciles
    moorage.until(lambda: set(os.listdir(f"{moorage.root}/layers")) == before, 60, "a layer was left behind")
    slow.ranges.clear()
    moorage.docker("pull", name)
    assert int(slow.ranges[0].removeprefix("bytes=").rstrip("-")) > 1 << 20
    assert moorage.docker("image", "inspect", "-f", "{{.Id}}", name).stdout.strip() == image_id
    assert os.listdir(partial) == []
    moorage.docker("rmi", name)


def test_two_pulls_of_one_image_at_once(moorage: Instance, registry: Registry, slow: Slow, tmp_path: Path) -> None:
    image.archive(str(tmp_path / "a.tar"), [image.layer({"big": os.urandom(3 << 20)}), image.layer({"x": "y"})])
    publish(registry, "twice:1", str(tmp_path / "a.tar"))
    slow.slowly.set()
    pulls = [moorage.docker_popen("pull", f"{slow.address}/twice:1") for _ in range(2)]
    said = [pull.communicate()[0].decode() for pull in pulls]
    assert [pull.returncode for pull in pulls] == [0, 0], said
    assert len(slow.ranges) == 1
    moorage.docker("rmi", f"{slow.address}/twice:1")


def test_pulled_removed_and_used_at_once_an_image_is_whole_or_not_there(
    moorage: Instance, registry: Registry, tmp_path: Path
) -> None:
    name = publish(registry, "contended:1", image.busybox())
    client = moorage.client()
    wrong: list[str] = []
    used = 0

    def pulls() -> None:
        for _ in range(8):
            done = moorage.docker("pull", "-q", name, check=False)
            if done.returncode:
                wrong.append(f"pull: {done.stderr}")

    def removes() -> None:
        for _ in range(12):
            done = moorage.docker("rmi", "-f", name, check=False)
            known = ("No such image", "image is being used by running container", "cannot be forced")
            if done.returncode and not any(text in done.stderr for text in known):
                wrong.append(f"rmi: {done.stderr}")

    def uses() -> None:
        nonlocal used
        for _ in range(8):
            try:
                said = client.containers.run(name, ["sh", "-c", "echo whole"], network_mode="none", remove=True)
            except NotFound:
                client.api.pull(name)
                continue
            used += said == b"whole\n"

    def kept(work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            wrong.append(f"{work.__name__}: {error!r}")

    threads = [threading.Thread(target=kept, args=(work,)) for work in (pulls, removes, uses)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert used
    moorage.docker("pull", name)
    assert moorage.docker("run", "--rm", "--network", "none", name, "echo", "whole").stdout == "whole\n"
    moorage.docker("rmi", "-f", name)


def test_an_image_of_the_registry_is_the_same_for_skopeo_and_in_archives(
    moorage: Instance, registry: Registry, tmp_path: Path
) -> None:
    layers = [image.layer({"a": "1" * 3000}), image.layer({"b": os.urandom(1 << 20)})]
    image.archive(str(tmp_path / "a.tar"), layers)
    name = publish(registry, "same:1", str(tmp_path / "a.tar"), "--format=oci")
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
    image_id = json.loads(raw)["config"]["digest"]
    moorage.docker("pull", "-q", name)
    moorage.docker("save", "-o", str(tmp_path / "saved.tar"), name)
    moorage.docker("rmi", name)
    # what was saved is, as an OCI archive, the registry's very manifest
    assert skopeo("inspect", "--raw", f"oci-archive:{tmp_path}/saved.tar") == raw
    skopeo("copy", f"docker-archive:{tmp_path}/saved.tar:{name}", f"oci-archive:{tmp_path}/other.tar:back:1")
    assert moorage.docker("load", "-i", str(tmp_path / "other.tar")).stdout == "Loaded image: back:1\n"
    again = json.loads(moorage.docker("image", "inspect", "back:1").stdout)[0]
    assert again["RootFS"]["Layers"] == ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
    moorage.docker("rmi", "back:1")
    assert moorage.docker("load", "-i", str(tmp_path / "saved.tar")).stdout == f"Loaded image: {name}\n"
    assert moorage.docker("image", "inspect", "-f", "{{.Id}}", name).stdout.strip() == image_id
    moorage.docker("rmi", name)
