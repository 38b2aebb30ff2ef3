"""A layer that came uncompressed is compressed by the first push, and stays so."""

import gzip
import hashlib
import json
import os
import shutil
import tarfile
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support import image
from tests.support.instance import Instance
from tests.support.registry import Registry

pytestmark = pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is missing")


def blobs(moorage: Instance) -> set[str]:
    return set(os.listdir(f"{moorage.root}/blobs/sha256"))


def manifest(registry: Registry, name: str) -> Any:
    asked = urllib.request.Request(
        f"http://{registry.address}/v2/{name}/manifests/1",
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)


def blob(registry: Registry, name: str, digest: str) -> bytes:
    with urllib.request.urlopen(f"http://{registry.address}/v2/{name}/blobs/{digest}", timeout=30) as answer:
        content: bytes = answer.read()
    return content


def test_first_push_compresses(moorage: Instance, tmp_path: Path) -> None:
    layer = image.layer({"words": b"moles dig tunnels " * 100_000})
    diff_id = hashlib.sha256(layer).hexdigest()
    with Registry() as registry:
        name = f"{registry.address}/moles:1"
        image.archive(str(tmp_path / "in.tar"), [layer], tags=[name])
        moorage.docker("load", "-qi", str(tmp_path / "in.tar"))
        assert diff_id in blobs(moorage), "the tar is kept as it came"
        moorage.docker("save", "-o", str(tmp_path / "before.tar"), name)
        with tarfile.open(tmp_path / "before.tar") as saved:
            assert saved.extractfile(f"blobs/sha256/{diff_id}").read() == layer  # type: ignore[union-attr]  # a file
        moorage.docker("push", "-q", name)
        sent = manifest(registry, "moles")["layers"]
        assert [one["mediaType"] for one in sent] == ["application/vnd.docker.image.rootfs.diff.tar.gzip"]
        assert gzip.decompress(blob(registry, "moles", sent[0]["digest"])) == layer
        assert diff_id not in blobs(moorage)
        assert sent[0]["digest"][7:] in blobs(moorage), "its gzip form took the place of the tar"
        before = moorage.docker("image", "inspect", "-f", "{{.Id}}", name).stdout
        moorage.docker("push", "-q", name)
        assert manifest(registry, "moles")["layers"] == sent
        moorage.docker("save", "-o", str(tmp_path / "after.tar"), name)
        moorage.docker("rmi", name)
        for archive in ("after.tar", "before.tar"):
            moorage.docker("load", "-qi", str(tmp_path / archive))
            assert moorage.docker("image", "inspect", "-f", "{{.Id}}", name).stdout == before
            moorage.docker("rmi", name)


def test_pushes_that_meet(moorage: Instance, tmp_path: Path) -> None:
    layer = image.layer({"noise": os.urandom(8_000_000)})
    with Registry() as registry:
        names = [f"{registry.address}/meet{number}:1" for number in range(4)]
        image.archive(str(tmp_path / "in.tar"), [layer, layer], tags=names)
        moorage.docker("load", "-qi", str(tmp_path / "in.tar"))
        codes: dict[str, int] = {}

        def push(name: str) -> None:
            codes[name] = moorage.docker("push", "-q", name, check=False).returncode

        threads = [threading.Thread(target=push, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert codes == dict.fromkeys(names, 0)
        sent = [manifest(registry, f"meet{number}")["layers"] for number in range(4)]
        assert all(layers == sent[0] for layers in sent)
        assert sent[0][0] == sent[0][1]
        moorage.docker("rmi", *names)
