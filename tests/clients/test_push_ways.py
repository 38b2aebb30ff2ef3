"""Pushes that do not go in one piece: registries that take no large request, uploads that break off, platforms."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.clients.test_registry import skopeo
from tests.support import image
from tests.support.instance import Instance
from tests.support.registry import Registry
from tests.support.registry_front import Fault, Front
from tests.support.streams import call, done
from tests.support.wire import Answer, Wire, request

pytestmark = pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is missing")
SIZE = 20 << 20  # of a layer: three parts of an upload


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as made:
        yield made


@pytest.fixture
def front(registry: Registry) -> Iterator[Front]:
    with Front(registry) as made:
        yield made


@pytest.fixture
def large(moorage: Instance, front: Front, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A name at the registry, and the id of an image whose layer cannot be compressed."""
    name = f"{front.address}/{tmp_path.name.replace('_', '-')}:1"
    image_id = image.archive(str(tmp_path / "a.tar"), [image.layer({"a": os.urandom(SIZE)})], tags=[name])
    moorage.docker("load", "-qi", str(tmp_path / "a.tar"))
    yield name, image_id
    moorage.docker("rmi", name)


def arrived(front: Front, registry: Registry, name: str, image_id: str) -> bool:
    """Whether the registry has the image, blobs and all."""
    behind = name.replace(front.address, registry.address)
    skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{behind}", f"dir:{registry.folder}/copied")
    raw = json.loads(Path(registry.folder, "copied", "manifest.json").read_text())
    return bool(raw["config"]["digest"] == image_id)


def ranges(front: Front) -> list[int]:
    """Where the parts began that were sent."""
    return [int(headers["Content-Range"].partition("-")[0]) for line, headers in front.seen if line[:6] == "PATCH "]


@pytest.mark.parametrize("status", [405, 413])
def test_a_registry_that_takes_no_large_request_gets_parts(
    moorage: Instance, registry: Registry, front: Front, large: tuple[str, str], status: int
) -> None:
    name, image_id = large
    front.faults = [Fault(f"PUT /v2/{name.partition('/')[2].removesuffix(':1')}/blobs/uploads", status=status)]
    said = moorage.docker("push", name).stdout
    assert ": Pushed" in said
    assert ranges(front) == [0, 8 << 20, 16 << 20]
    assert arrived(front, registry, name, image_id)


def test_an_upload_that_breaks_off_goes_on_where_the_registry_says(
    moorage: Instance, registry: Registry, front: Front, large: tuple[str, str]
) -> None:
    name, image_id = large
    front.faults = [
        Fault("PUT /v2/", status=413),
        Fault("PATCH /v2/"),  # nothing happens to the first part
        Fault("PATCH /v2/", status=503),
        Fault("PATCH /v2/", status=429, headers={"Retry-After": "1"}),
    ]
    said = moorage.docker("push", name).stdout
    assert "Retrying in 1 second" in said
    begun = ranges(front)
    assert begun == [0, 8 << 20, 8 << 20, 8 << 20, 16 << 20]
    assert arrived(front, registry, name, image_id)


def test_an_upload_that_the_registry_has_forgotten_begins_anew(
    moorage: Instance, registry: Registry, front: Front, large: tuple[str, str]
) -> None:
    name, image_id = large
    repository = name.partition("/")[2].removesuffix(":1")
    front.faults = [Fault("PUT /v2/", status=503), Fault(f"GET /v2/{repository}/blobs/uploads/", status=404)]
    moorage.docker("push", name)
    assert sum(line.startswith("POST ") for line, _ in front.seen) >= 2
    assert arrived(front, registry, name, image_id)


def ask(moorage: Instance, line: str) -> Answer:
    with Wire(moorage.socket, 60) as wire:
        wire.send(request(line, connection="close"))
        return wire.answer()


def test_platforms_of_push_and_removal(moorage: Instance, registry: Registry, tmp_path: Path) -> None:
    name = f"{registry.address}/platform:1"
    image_id = image.archive(str(tmp_path / "a.tar"), [image.layer({"a": "p"})], tags=[name])
    moorage.docker("load", "-qi", str(tmp_path / "a.tar"))
    inspected = json.loads(moorage.docker("image", "inspect", name).stdout)[0]
    ours = quote(json.dumps({"os": "linux", "architecture": inspected["Architecture"]}))
    other = quote(json.dumps({"os": "linux", "architecture": "s390x"}))
    repository = name.removesuffix(":1")
    refused = ask(moorage, f"POST /v1.46/images/{repository}/push?tag=1&platform={other}")
    assert refused.status == 404
    assert "does not match the specified platform (linux/s390x)" in refused.json["message"]
    assert ask(moorage, f"POST /v1.46/images/{repository}/push?tag=1&platform=linux").status == 400
    pushed = ask(moorage, f"POST /v1.46/images/{repository}/push?tag=1&platform={ours}")
    assert b'"aux":' in pushed.body
    assert b'"aux":' in ask(moorage, f"POST /v1.45/images/{repository}/push?tag=1&platform={other}").body
    assert ask(moorage, f"DELETE /v1.50/images/{name}?platforms={other}").status == 404
    several = ask(moorage, f"DELETE /v1.50/images/{name}?platforms={ours}&platforms={other}")
    assert (several.status, several.json["message"]) == (400, "multiple platforms are not supported")
    several = ask(moorage, f"GET /v1.48/images/{name}/get?platform={ours}&platform={other}")
    assert several.status == 400
    both = ask(moorage, f"GET /v1.49/images/{name}/json?manifests=1&platform={ours}")
    assert both.json["message"] == "conflicting options: manifests and platform options cannot both be set"
    assert ask(moorage, f"GET /v1.49/images/{name}/json?manifests=1").json["Id"] == image_id
    assert ask(moorage, f"DELETE /v1.50/images/{name}?platforms={ours}").json[0] == {"Untagged": name}


def test_an_image_that_is_mounted_is_in_use(moorage: Instance, tmp_path: Path) -> None:
    image_id = image.archive(str(tmp_path / "a.tar"), [image.layer({"a": "mounted"})], tags=["mounted:1"])
    moorage.docker("load", "-qi", str(tmp_path / "a.tar"))
    mounted = {"Type": "image", "Source": "mounted:1", "Target": "/m"}  # CLIs before 28 do not know it
    asked = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Mounts": [mounted]}}
    done(call(moorage, "POST /containers/create?name=mounts", asked))
    for wanted in ("mounted:1", image_id):
        refused = moorage.docker("rmi", wanted, check=False)
        assert "conflict: unable to" in refused.stderr
        assert "container" in refused.stderr
    moorage.docker("rm", "mounts")
    moorage.docker("rmi", "mounted:1")
