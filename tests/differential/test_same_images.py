"""One demanding image through dockerd, podman and moorage: the same id, digests and file tree, whichever way it came.

The image holds what archives of files can hold: owners beyond 16 bits, every bit of a mode, fractions of a second,
extended attributes with those of the system, hard links, devices, holes, names longer than a tar's header, whiteouts of
both kinds, and kinds that change from one layer to the next.
"""

import io
import json
import os
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.test_registry import publish, skopeo
from tests.differential.dockerd import Dockerd, Unavailable
from tests.support import image, podman
from tests.support.instance import Instance
from tests.support.podman import Podman
from tests.support.registry import Registry
from tests.support.trees import layers_mounted, tree, unlike
from tests.support.wire import Wire, request

pytestmark = [
    pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is missing"),
    pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is missing"),
]

NAME = "demanding:1"
# linux/capability.h, vfs_cap_data of revision 2: cap_net_bind_service (10) permitted and effective
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
LONG = "/".join(("deep/" + "d" * 120, "e" * 120, "f" * 200))


class _Layer:
    """A layer being written, as pax."""

    def __init__(self) -> None:
        self.written = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.written, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by `done`

    def add(self, name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, **fields: Any) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.size = kind, len(content)
        entry.mode, entry.mtime = 0o644, 1_600_000_000
        xattrs: dict[str, bytes] = fields.pop("xattrs", {})
        for key, value in xattrs.items():
            entry.pax_headers = {**entry.pax_headers, f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape")}
        for key, value in fields.items():
            setattr(entry, key, value)
        self.tar.addfile(entry, io.BytesIO(content))

    def folder(self, name: str, mode: int = 0o755, **fields: Any) -> None:
        self.add(name, kind=tarfile.DIRTYPE, mode=mode, **fields)

    def done(self) -> bytes:
        self.tar.close()
        return self.written.getvalue()


def lower() -> bytes:
    """The first layer: everything once."""
    made = _Layer()
    made.folder("bin")
    made.add("bin/ping", os.urandom(5000), mode=0o755, xattrs={"security.capability": CAPABILITY})
    made.add("bin/su", b"set", mode=0o4755)
    made.add("bin/wall", b"group", mode=0o2755, uid=0, gid=5)
    made.add("bin/everything", b"bits", mode=0o7777)
    made.add("bin/nothing", b"none", mode=0)
    made.folder("tmp", 0o1777, mtime=1_500_000_000.125)
    made.folder("owned", 0o2770, uid=1000, gid=1000)
    made.add("owned/large-ids", b"x", uid=3_000_000, gid=4_000_000_000)
    made.add("owned/fraction", b"x", mtime=1_600_000_000.123456789)
    made.add("owned/before-1970", b"x", mtime=-86400)
    made.add("owned/after-2038", b"x", mtime=5_000_000_000)
    made.folder("xattrs", xattrs={"user.of-a-folder": b"yes"})
    made.add("xattrs/user", b"x", xattrs={"user.one": b"1", "user.two": b"line\nand = more"})
    made.add("xattrs/trusted", b"x", xattrs={"trusted.deep": b"kept"})
    made.folder("links")
    made.add("links/first", b"one of three", mode=0o600, uid=7)
    made.add("links/second", kind=tarfile.LNKTYPE, linkname="links/first")
    made.add("links/third", kind=tarfile.LNKTYPE, linkname="links/first")
    made.add("links/soft", kind=tarfile.SYMTYPE, linkname="first", uid=9, mtime=1_400_000_000.5)
    made.add("links/absolute", kind=tarfile.SYMTYPE, linkname="/etc/passwd")
    made.add("links/nowhere", kind=tarfile.SYMTYPE, linkname="../../../../nowhere/" + "n" * 200)
    made.add("links/twice", kind=tarfile.LNKTYPE, linkname="links/soft")
    made.folder("devices")
    made.add("devices/null", kind=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3)
    made.add("devices/block", kind=tarfile.BLKTYPE, mode=0o660, gid=6, devmajor=7, devminor=300)
    made.add("devices/fifo", kind=tarfile.FIFOTYPE, mode=0o622)
    at = ""
    for part in LONG.split("/"):
        made.folder(at + part)
        at += part + "/"
    made.add(at + "file", b"far down")
    made.folder("names")
    for name in ("ünïcödé ✓", "with space", "back\\slash", "new\nline", "*star*", "-dash", ".wh", "tab\t"):
        made.add(f"names/{name}", name.encode())
    made.add("no-folder/before/it", b"its folders are nowhere in the layer")
    made.add("empty")
    for name in ("file", "dir/one", "dir/two", "opaque/old", "opaque/kept/old", "opaque-late/old"):
        made.add(f"gone/{name}", name.encode())
    made.add("turns/file-to-dir", b"file")
    made.add("turns/dir-to-file/inside", b"file")
    made.add("turns/link-to-dir", kind=tarfile.SYMTYPE, linkname="dir-to-file")
    made.add("turns/file-to-link", b"file")
    made.add("turns/mode-only", b"same content", mode=0o644)
    return made.done()


def upper() -> bytes:
    """The second layer: what was there goes, or becomes something else."""
    made = _Layer()
    made.folder("gone")
    made.add("gone/.wh.file")
    made.add("gone/.wh.dir")
    made.folder("gone/opaque", 0o711)
    made.add("gone/opaque/.wh..wh..opq")
    made.add("gone/opaque/new", b"new")
    made.folder("gone/opaque-late")
    made.add("gone/opaque-late/new", b"came before the marker")
    made.add("gone/opaque-late/.wh..wh..opq")
    made.folder("turns")
    made.folder("turns/file-to-dir")
    made.add("turns/file-to-dir/inside", b"inside")
    made.add("turns/dir-to-file", b"file now")
    made.folder("turns/link-to-dir")
    made.add("turns/link-to-dir/inside", b"a directory of its own")
    made.add("turns/file-to-link", kind=tarfile.SYMTYPE, linkname="mode-only")
    made.add("turns/mode-only", b"same content", mode=0o4711)
    made.folder("tmp", 0o1777, mtime=1_700_000_000)
    return made.done()


def sparse(folder: Path) -> bytes:
    """A layer with a file that is mostly a hole, as GNU tar writes it in pax: dockerd reads no older form."""
    (folder / "sparse").mkdir()
    with open(folder / "sparse" / "hole", "wb") as file:
        file.write(b"begin")
        file.seek(8 << 20)
        file.write(b"middle")
        file.truncate(16 << 20)
    options = ("--sparse", "--format=pax", "--owner=0", "--group=0")
    subprocess.run(["tar", *options, "-C", str(folder), "-cf", f"{folder}/s.tar", "sparse"], check=True)
    return (folder / "s.tar").read_bytes()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demanding")
    image.archive(str(folder / "a.tar"), [lower(), upper(), sparse(folder)], tags=[NAME], config={"Cmd": ["/bin/su"]})
    return folder / "a.tar"


@pytest.fixture(scope="module")
def reference() -> Iterator[Dockerd]:
    try:
        with Dockerd() as dockerd:
            yield dockerd
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def other() -> Iterator[Podman]:
    if not podman.program():
        pytest.skip("podman is missing")
    with Podman() as made:
        yield made


def told(described: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A tree without what the layers do not tell: the times of directories that no member describes."""
    for name in (".", "no-folder", "no-folder/before"):
        del described[name]["mtime"]
    return described


def by_podman(other: Podman, name: str) -> dict[str, dict[str, Any]]:
    """The tree that podman has of an image."""
    with other.mounted(name) as root:
        described = told(tree(root))
    assert described["."]["mode"] in ("40555", "40755")  # its versions differ in what no member describes
    described["."]["mode"] = "40755"
    return described


class Engine:
    """An engine with Docker's API, asked for images."""

    def __init__(self, socket: str, *, described: bool) -> None:
        self.socket, self.described = socket, described

    def ask(self, line: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        """The body of an answer, which must be a good one, with no error in its stream."""
        with Wire(self.socket, timeout=120, described=self.described) as wire:
            wire.send(request(line, body, connection="close", **({"content-type": kind} if body else {})))
            answer = wire.answer()
        assert answer.status == 200, (line, answer.body)
        assert not any(record.startswith(b'{"error') for record in answer.body[:65536].splitlines()), answer.body
        return answer.body

    def load(self, archive: bytes) -> None:
        self.ask("POST /v1.41/images/load?quiet=1", archive, "application/x-tar")

    def save(self, name: str = NAME) -> bytes:
        return self.ask(f"GET /v1.41/images/{name}/get")

    def pull(self, name: str) -> None:
        repository, _, tag = name.rpartition(":")
        self.ask(f"POST /v1.41/images/create?fromImage={repository}&tag={tag}")

    def remove(self, name: str = NAME) -> None:
        self.ask(f"DELETE /v1.41/images/{name}?force=1")

    def inspect(self, name: str = NAME) -> Any:
        return json.loads(self.ask(f"GET /v1.41/images/{name}/json"))

    def tree(self, name: str = NAME) -> dict[str, dict[str, Any]]:
        with layers_mounted(self.inspect(name)["GraphDriver"]["Data"]) as root:
            return told(tree(root))


@pytest.fixture(scope="module")
def ours(moorage: Instance) -> Engine:
    return Engine(moorage.socket, described=True)


@pytest.fixture(scope="module")
def theirs(reference: Dockerd) -> Engine:
    return Engine(reference.socket, described=False)


def alike(one: Any, other: Any) -> None:
    """Two inspections tell of one image."""
    for key in ("Id", "Config", "RootFS", "Architecture", "Os", "Created", "Author"):
        assert one.get(key) == other.get(key), key


def comparable(document: Any) -> Any:
    """An inspection's Config without what the engine of either age adds or leaves out while it is empty."""
    return {**document, "Config": {key: value for key, value in document["Config"].items() if value}}


def test_loaded_it_is_the_same_as_with_dockerd(ours: Engine, theirs: Engine, archive: Path) -> None:
    for engine in (ours, theirs):
        engine.load(archive.read_bytes())
    try:
        alike(comparable(ours.inspect()), comparable(theirs.inspect()))
        mine = ours.tree()
        assert not unlike(mine, theirs.tree())
    finally:
        for engine in (ours, theirs):
            engine.remove()
    # what both agree on is what was asked for
    assert mine["bin/ping"]["xattrs"] == {"security.capability": CAPABILITY.hex()}
    assert mine["owned/large-ids"]["owner"] == (3_000_000, 4_000_000_000)
    assert mine["bin/everything"]["mode"] == "107777"
    assert mine["links/third"] == mine["links/first"] | {"links": 3}
    assert mine["devices/block"]["device"] == (7, 300)
    assert mine["sparse/hole"]["content"][0] == 16 << 20
    assert [name for name in mine if name.startswith("gone/")] == [
        *("gone/opaque", "gone/opaque-late", "gone/opaque/new", "gone/opaque-late/new"),
    ]
    assert f"{LONG}/file" in mine


def test_loaded_it_is_the_same_as_with_podman(ours: Engine, other: Podman, archive: Path) -> None:
    ours.load(archive.read_bytes())
    other.load(str(archive))
    try:
        inspected, seen = ours.inspect(), other.inspect(NAME)
        assert seen["Id"] == inspected["Id"].removeprefix("sha256:")
        assert seen["RootFS"]["Layers"] == inspected["RootFS"]["Layers"]
        assert not unlike(ours.tree(), by_podman(other, NAME))
    finally:
        ours.remove()
        other("rmi", "-f", NAME)


@pytest.mark.parametrize("form", ["v2s2", "oci", "oci zstd"])
def test_pulled_it_is_the_same(
    ours: Engine, theirs: Engine, other: Podman, reference: Dockerd, archive: Path, form: str
) -> None:
    kind, _, compression = form.partition(" ")
    if compression and reference.version()[0] < 23:
        pytest.skip("dockerd of that age cannot read zstd")
    options = [f"--format={kind}", *([f"--dest-compress-format={compression}"] if compression else [])]
    with Registry() as registry:
        name = publish(registry, f"demanding:{kind}{compression}", str(archive), *options)
        ours.pull(name)
        other.pull(name)
        subprocess.run(["nsenter", f"--net={reference.network}", "ip", "link", "set", "lo", "up"], check=True)
        with Registry(twin_of=registry, network=reference.network):
            theirs.pull(name)
        try:
            alike(comparable(ours.inspect(name)), comparable(theirs.inspect(name)))
            assert ours.inspect(name)["RepoDigests"] == theirs.inspect(name)["RepoDigests"]
            seen = other.inspect(name)
            assert seen["Id"] == ours.inspect(name)["Id"].removeprefix("sha256:")
            assert ours.inspect(name)["RepoDigests"][0] in seen["RepoDigests"]
            mine = ours.tree(name)
            assert not unlike(mine, theirs.tree(name))
            assert not unlike(mine, by_podman(other, name))
        finally:
            for engine in (ours, theirs):
                engine.remove(name)
            other("rmi", "-f", name)


def test_what_we_save_the_others_load(
    ours: Engine, theirs: Engine, other: Podman, archive: Path, tmp_path: Path
) -> None:
    ours.load(archive.read_bytes())
    image_id, mine, saved = ours.inspect()["Id"], ours.tree(), ours.save()
    ours.remove()
    (tmp_path / "saved.tar").write_bytes(saved)
    theirs.load(saved)
    other.load(str(tmp_path / "saved.tar"))
    try:
        assert theirs.inspect()["Id"] == image_id
        assert not unlike(mine, theirs.tree())
        assert other.inspect(NAME)["Id"] == image_id.removeprefix("sha256:")
        assert not unlike(mine, by_podman(other, NAME))
    finally:
        theirs.remove()
        other("rmi", "-f", NAME)


# What the others save has no sparse file in it: neither can write a layer with one again.


def test_what_dockerd_saves_we_load(ours: Engine, theirs: Engine, tmp_path: Path) -> None:
    image_id = image.archive(str(tmp_path / "a.tar"), [lower(), upper()], tags=[NAME])
    theirs.load((tmp_path / "a.tar").read_bytes())
    saved, seen = theirs.save(), theirs.tree()
    theirs.remove()
    ours.load(saved)
    try:
        assert ours.inspect()["Id"] == image_id
        assert not unlike(ours.tree(), seen)
    finally:
        ours.remove()


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_what_podman_saves_we_load(ours: Engine, other: Podman, tmp_path: Path, form: str) -> None:
    image.archive(str(tmp_path / "a.tar"), [lower(), upper()], tags=[NAME])
    other.load(str(tmp_path / "a.tar"))
    other("save", "-q", "--format", form, "-o", str(tmp_path / "saved.tar"), NAME)
    image_id, seen = other.inspect(NAME)["Id"], by_podman(other, NAME)
    other("rmi", "-f", NAME)
    ours.load((tmp_path / "saved.tar").read_bytes())
    names = [tag for found in json.loads(ours.ask("GET /v1.41/images/json")) for tag in found["RepoTags"] or ()]
    name = next(tag for tag in names if tag.endswith(NAME))  # podman names what has no registry after localhost
    try:
        assert not unlike(ours.tree(name), seen)
        if form == "docker-archive":  # for the other one podman makes a configuration of its own
            assert ours.inspect(name)["Id"].removeprefix("sha256:") == image_id
    finally:
        ours.remove(name)


def test_what_skopeo_reads_of_our_archives(ours: Engine, archive: Path, tmp_path: Path) -> None:
    ours.load(archive.read_bytes())
    try:
        (tmp_path / "saved.tar").write_bytes(ours.save())
        inspected = ours.inspect()
    finally:
        ours.remove()
    for way in ("docker-archive", "oci-archive"):
        seen = json.loads(skopeo("inspect", "--config", f"{way}:{tmp_path}/saved.tar"))
        assert seen["rootfs"]["diff_ids"] == inspected["RootFS"]["Layers"], way
