"""Images through the real CLI and docker-py: load, list, inspect, tag, remove, save, import, filters, events."""

import hashlib
import io
import json
import os
import tarfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker
import pytest
from docker.errors import APIError, ImageNotFound

from tests.support import image
from tests.support.instance import Instance
from tests.support.wire import Wire, request

OCI = "application/vnd.oci.image."


def test_load_says_what_dockerd_says(moorage: Instance) -> None:
    assert moorage.docker("load", "-i", image.busybox()).stdout == "Loaded image: busybox:latest\n"


def test_a_bad_archive_is_told_in_the_stream(moorage: Instance, client: docker.DockerClient) -> None:
    answer = client.api._post(client.api._url("/images/load"), data=b"no tar at all" * 100, stream=False)
    assert answer.status_code == 200
    said = json.loads(answer.text)
    assert said["error"] == said["errorDetail"]["message"] != ""


def test_images_inspect_and_history_agree(moorage: Instance, client: docker.DockerClient) -> None:
    listed = moorage.docker("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").stdout.split()
    assert listed[0] == "busybox:latest"
    inspected = client.api.inspect_image("busybox")
    assert inspected["Id"] == listed[1]
    assert inspected["Config"]["Cmd"] == ["sh"]
    assert inspected["RootFS"]["Type"] == "layers"
    assert client.api.history("busybox")[0]["Id"] == inspected["Id"]
    short = inspected["Id"][7:19]
    assert client.images.get(short).id == inspected["Id"]
    assert os.path.isdir(inspected["GraphDriver"]["Data"]["UpperDir"])


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("nosuch", 404, "No such image: nosuch:latest"),
        ("nosuch:1", 404, "No such image: nosuch:1"),
        ("busybox:sha256:abc", 400, "invalid reference format"),
        ("Busybox", 400, "invalid reference format: repository name (library/Busybox) must be lowercase"),
    ],
)
def test_unknown_and_impossible_names(client: docker.DockerClient, name: str, status: int, message: str) -> None:
    with pytest.raises(APIError) as refused:
        client.api.inspect_image(name)
    assert (refused.value.status_code, refused.value.explanation) == (status, message)


def test_one_tag_goes_and_the_image_stays(moorage: Instance, client: docker.DockerClient) -> None:
    moorage.docker("tag", "busybox", "moles/dig:1")
    assert "moles/dig:1" in client.images.get("busybox").tags
    assert moorage.docker("rmi", "moles/dig:1").stdout == "Untagged: moles/dig:1\n"
    with pytest.raises(ImageNotFound):
        client.images.get("moles/dig:1")
    assert client.images.get("busybox")


def test_removal_frees_the_layers(moorage: Instance, tmp_path: Path) -> None:
    image_id = image.archive(str(tmp_path / "a.tar"), [image.layer({"file": "x" * 1000})], tags=["gone:1"])
    before = set(os.listdir(f"{moorage.root}/layers"))
    moorage.docker("load", "-i", str(tmp_path / "a.tar"))
    assert len(set(os.listdir(f"{moorage.root}/layers")) - before) == 1
    said = moorage.docker("rmi", "gone:1").stdout.splitlines()
    assert said[:2] == ["Untagged: gone:1", f"Deleted: {image_id}"]
    assert set(os.listdir(f"{moorage.root}/layers")) == before


def test_an_image_in_use_is_not_removed(moorage: Instance, tmp_path: Path) -> None:
    image.archive(str(tmp_path / "a.tar"), [image.layer({"file": "x"})], tags=["used:1"], config={"Cmd": ["/file"]})
    moorage.docker("load", "-i", str(tmp_path / "a.tar"))
    container = moorage.docker("create", "used:1").stdout.strip()
    refused = moorage.docker("rmi", "used:1", check=False)
    assert refused.returncode == 1
    assert (
        f'conflict: unable to remove repository reference "used:1" (must force) - container {container[:12]} is using '
        in refused.stderr
    )
    moorage.docker("rm", container)
    moorage.docker("rmi", "used:1")


def test_loading_a_tag_again_takes_it_from_the_older_image(moorage: Instance, tmp_path: Path) -> None:
    first = image.archive(str(tmp_path / "1.tar"), [image.layer({"f": "1"})], tags=["moving:1"])
    image.archive(str(tmp_path / "2.tar"), [image.layer({"f": "2"})], tags=["moving:1"])
    moorage.docker("load", "-i", str(tmp_path / "1.tar"))
    said = moorage.docker("load", "-i", str(tmp_path / "2.tar")).stdout
    assert f"The image moving:1 already exists, renaming the old one with ID {first} to empty string" in said
    dangling = moorage.docker("images", "-q", "--no-trunc", "-f", "dangling=true").stdout.split()
    assert dangling == [first]
    assert first in moorage.docker("image", "prune", "-f").stdout
    moorage.docker("rmi", "moving:1")


def test_saved_and_loaded_it_is_the_same_image(moorage: Instance, tmp_path: Path) -> None:
    layers = [image.layer({"a": "1" * 2000}), image.layer({"b": os.urandom(2_000_000).hex()})]
    image_id = image.archive(str(tmp_path / "a.tar"), layers, tags=["kept:1", "kept:2"])
    moorage.docker("load", "-i", str(tmp_path / "a.tar"))
    moorage.docker("save", "-o", str(tmp_path / "saved.tar"), "kept")
    moorage.docker("rmi", "kept:1", "kept:2")
    said = moorage.docker("load", "-i", str(tmp_path / "saved.tar")).stdout
    assert said.splitlines() == ["Loaded image: kept:1", "Loaded image: kept:2"]
    assert moorage.docker("image", "inspect", "-f", "{{.Id}}", "kept:2").stdout.strip() == image_id
    with tarfile.open(tmp_path / "saved.tar") as saved:
        names = saved.getnames()
        index = json.load(saved.extractfile("index.json"))  # type: ignore[arg-type]  # it is a regular file
    assert {"index.json", "manifest.json", "oci-layout"} <= set(names)
    assert [entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]] == [
        "docker.io/library/kept:1",
        "docker.io/library/kept:2",
    ]
    moorage.docker("rmi", "kept:1", "kept:2")


def two_platforms(path: Path, here: str, *, dockers: bool) -> dict[str, str]:
    """Write an archive with one name for two platforms, as containerd's store saves it: this machine's comes first, and
    is all that `manifest.json` tells of. `dockers`: with that one. The ids by architecture."""
    members: dict[str, bytes] = {}

    def blob(content: bytes) -> dict[str, Any]:
        name = hashlib.sha256(content).hexdigest()
        members[f"blobs/sha256/{name}"] = content
        return {"digest": f"sha256:{name}", "size": len(content)}

    entries, ids = [], {}
    for architecture in (here, "s390x"):
        layer = blob(image.layer({"a": architecture}))
        rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
        config = blob(json.dumps({"os": "linux", "architecture": architecture, "rootfs": rootfs}).encode())
        manifest = {"schemaVersion": 2, "config": config, "layers": [{**layer, "mediaType": OCI + "layer.v1.tar"}]}
        platform = {"os": "linux", "architecture": architecture}
        entries.append({**blob(json.dumps(manifest).encode()), "mediaType": OCI + "manifest.v1+json"})
        entries[-1]["platform"] = platform
        ids[architecture] = config["digest"]
        if dockers and architecture == here:
            names = [f"blobs/sha256/{part['digest'].removeprefix('sha256:')}" for part in (config, layer)]
            told = [{"Config": names[0], "Layers": names[1:], "RepoTags": ["two:1"]}]
            members["manifest.json"] = json.dumps(told).encode()
    index = {
        **blob(json.dumps({"schemaVersion": 2, "manifests": entries}).encode()),
        "mediaType": OCI + "index.v1+json",
    }
    index["annotations"] = {"io.containerd.image.name": "docker.io/library/two:1"}
    members["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [index]}).encode()
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return ids


def test_a_platform_that_is_not_here_is_not_saved(moorage: Instance) -> None:
    """Neither by a name with a tag nor by one that means all tags."""
    other = quote(json.dumps({"os": "linux", "architecture": "s390x"}))
    for name in ("busybox", "busybox:latest"):
        with Wire(moorage.socket, 60) as wire:
            wire.send(request(f"GET /v1.48/images/get?names={name}&platform={other}"))
            answer = wire.answer()
        assert answer.status == 404
        assert "does not match the specified platform (linux/s390x)" in answer.json["message"]


@pytest.mark.parametrize("dockers", [True, False])
def test_of_several_platforms_one_is_loaded(moorage: Instance, tmp_path: Path, dockers: bool) -> None:
    here = json.loads(moorage.docker("image", "inspect", "busybox").stdout)[0]["Architecture"]
    ids = two_platforms(tmp_path / "two.tar", here, dockers=dockers)
    for asked, loaded in (
        ([], here),
        (["--platform", "linux/s390x"], "s390x"),
        (["--platform", f"linux/{here}"], here),
    ):
        assert moorage.docker("load", "-i", str(tmp_path / "two.tar"), *asked).stdout == "Loaded image: two:1\n"
        assert moorage.docker("image", "inspect", "-f", "{{.Id}}", "two:1").stdout.strip() == ids[loaded]
        moorage.docker("rmi", "two:1")
        assert {*ids.values()}.isdisjoint(moorage.docker("images", "-aq", "--no-trunc").stdout.split())


def test_an_oci_layout_without_dockers_manifest_loads(moorage: Instance, tmp_path: Path) -> None:
    image_id = image.archive(str(tmp_path / "a.tar"), [image.layer({"a": os.urandom(1 << 20)})], tags=["oci:1"])
    moorage.docker("load", "-i", str(tmp_path / "a.tar"))
    moorage.docker("save", "-o", str(tmp_path / "saved.tar"), "oci:1")
    moorage.docker("rmi", "oci:1")
    with tarfile.open(tmp_path / "saved.tar") as saved, tarfile.open(tmp_path / "oci.tar", "w") as pure:
        for member in saved:
            if member.name not in ("manifest.json", "repositories"):
                pure.addfile(member, saved.extractfile(member) if member.isreg() else None)
    assert moorage.docker("load", "-i", str(tmp_path / "oci.tar")).stdout == "Loaded image: oci:1\n"
    assert moorage.docker("image", "inspect", "-f", "{{.Id}}", "oci:1").stdout.strip() == image_id
    moorage.docker("rmi", "oci:1")


def test_a_layer_that_is_not_what_it_claims_is_refused(moorage: Instance, tmp_path: Path) -> None:
    image.archive(str(tmp_path / "a.tar"), [image.layer({"a": "true"})], tags=["forged:1"])
    forged = io.BytesIO()
    with tarfile.open(tmp_path / "a.tar") as whole, tarfile.open(fileobj=forged, mode="w") as other:
        for member in whole:
            content = whole.extractfile(member).read() if member.isreg() else b""  # type: ignore[union-attr]  # regular
            if member.name.endswith(".tar"):
                content = content.replace(b"true", b"fals")
            other.addfile(member, io.BytesIO(content))
    (tmp_path / "forged.tar").write_bytes(forged.getvalue())
    refused = moorage.docker("load", "-i", str(tmp_path / "forged.tar"), check=False)
    assert refused.returncode == 1
    assert "invalid diffID for layer 0" in refused.stderr
    assert "forged" not in moorage.docker("images").stdout


def test_import_makes_an_image_with_changes(moorage: Instance, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(image.layer({"greeting": "hello"}))
    made = moorage.docker(
        "import", "-m", "dug up", "-c", 'CMD ["/greeting"]', "-c", "ENV A=b C=d", str(tmp_path / "root.tar"), "imp:1"
    ).stdout.strip()
    document: dict[str, Any] = json.loads(moorage.docker("image", "inspect", "imp:1").stdout)[0]
    assert (document["Id"], document["Comment"]) == (made, "dug up")
    assert (document["Config"]["Cmd"], document["Config"]["Env"]) == (["/greeting"], ["A=b", "C=d"])
    refused = moorage.docker("import", "-c", "RUN true", str(tmp_path / "root.tar"), check=False)
    assert "RUN is not a valid change command" in refused.stderr
    moorage.docker("rmi", "imp:1")


def test_filters(moorage: Instance, tmp_path: Path) -> None:
    image.archive(
        str(tmp_path / "a.tar"), [image.layer({"a": "f"})], tags=["some/thing:1"], config={"Labels": {"colour": "red"}}
    )
    moorage.docker("load", "-i", str(tmp_path / "a.tar"))

    def shown(*filters: str) -> list[str]:
        options = [part for text in filters for part in ("-f", text)]
        return moorage.docker("images", "--format", "{{.Repository}}:{{.Tag}}", *options).stdout.split()

    assert shown("reference=some/thing") == shown("reference=some/*:1") == shown("label=colour=red") == ["some/thing:1"]
    assert shown("reference=busybox") == shown("reference=docker.io/library/busy*") == ["busybox:latest"]
    assert shown("label=colour=blue") == shown("reference=*thing") == []
    refused = moorage.docker("images", "-f", "colour=red", check=False)
    assert "invalid filter 'colour'" in refused.stderr
    moorage.docker("rmi", "some/thing:1")


def test_nothing_to_prune_is_null(client: docker.DockerClient) -> None:
    assert client.api.prune_images() == {"ImagesDeleted": None, "SpaceReclaimed": 0}


def test_events_of_an_image(moorage: Instance, client: docker.DockerClient) -> None:
    since = client.info()["SystemTime"]
    moorage.docker("tag", "busybox", "seen:1")
    moorage.docker("rmi", "seen:1")
    lines = moorage.docker(
        "events",
        "--since",
        since,
        "--until",
        f"{time.time():.9f}",
        "-f",
        "type=image",
        "--format",
        "{{.Action}} {{.Actor.Attributes.name}}",
    ).stdout.splitlines()
    assert lines == ["tag seen:1", f"untag {client.images.get('busybox').id}"]
