"""The image that `make run` and the tests load: the same bytes each time, and no entry that a tar could not hold."""

import io
import json
import os
import tarfile

from install import busybox_image


def test_same_busybox_same_bytes(tmp_path: "os.PathLike[str]") -> None:
    contents = []
    for name in ("one", "two"):
        path = f"{os.fspath(tmp_path)}/{name}"
        busybox_image.write_busybox(path)
        with open(path, "rb") as file:
            contents.append(file.read())
    assert contents[0] == contents[1]
    assert os.listdir(tmp_path) != []
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]


def test_archive_says_what_it_holds(tmp_path: "os.PathLike[str]") -> None:
    path = f"{os.fspath(tmp_path)}/image.tar"
    image_id = busybox_image.write_busybox(path, "some/name:tag")
    with tarfile.open(path) as tar:
        contents = {entry.name: (tar.extractfile(entry) or io.BytesIO()).read() for entry in tar}
    (manifest,) = json.loads(contents["manifest.json"])
    assert manifest["RepoTags"] == ["some/name:tag"]
    assert manifest["Config"] == f"{image_id.removeprefix('sha256:')}.json"
    config = json.loads(contents[manifest["Config"]])
    assert config["os"] == "linux"
    assert config["config"]["Cmd"] == ["sh"]
    (layer,) = manifest["Layers"]
    with tarfile.open(fileobj=io.BytesIO(contents[layer])) as tar:
        entries = {entry.name: entry for entry in tar}
    assert entries["bin/sh"].linkname == "bin/busybox"
    assert entries["tmp"].mode == 0o1777
    assert {entry.uid for entry in entries.values()} == {0}
