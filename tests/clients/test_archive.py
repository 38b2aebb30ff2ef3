"""cp, export and diff: what goes in and out of a container is what is there, and nothing else."""

import bz2
import gzip
import lzma
import os
import subprocess
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from tests.support.archives import ask, content, fetch, members, put, stat, tar
from tests.support.instance import Instance, children_of
from tests.support.streams import call, create, done, remove, start, wait
from tests.support.wire import Wire, request

SCRIPT = r"""
mkdir -p /d/sub; echo hi >/d/a; echo deep >/d/sub/b; ln /d/a /d/hard; ln -s a /d/rel; ln -s /d/sub /d/abs
ln -s /nowhere/x /d/broken; ln -s loop /d/loop; ln -s ../../../../etc/passwd /d/up; mkfifo /d/fifo; mknod /d/dev c 1 3
chmod 4755 /d/a; chown 12:34 /d/sub/b; chmod 1777 /d/sub; touch -d '2001-02-03 04:05:06' /d/a
echo v >/vol/v; echo t >/memory/t; touch /ready; sleep 1000
"""
LONG = "/".join(["a" * 90] * 5)


@pytest.fixture(scope="module")
def tree(moorage: Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running container with files of every kind, a volume, a read-only bind and a tmpfs."""
    bound = tmp_path_factory.mktemp("bound")
    (bound / "file").write_text("bound\n")
    os.chmod(bound.parent, 0o755)
    container = create(
        moorage,
        *("sh", "-c", SCRIPT),
        HostConfig={"Binds": ["tree:/vol", f"{bound}:/bound:ro"], "Tmpfs": {"/memory": ""}},
        StopSignal="SIGKILL",
    )
    start(moorage, container)
    moorage.until(lambda: ask(moorage, "HEAD", container, "/ready").status == 200, 60, "the container was not ready")
    yield container
    remove(moorage, container)


@pytest.fixture
def created(moorage: Instance) -> Iterator[str]:
    """A container that was never started."""
    container = create(moorage, "true", HostConfig={"Binds": ["tree2:/vol"]})
    yield container
    remove(moorage, container)


# ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

DIRECTORY, LINK, DEVICE = 1 << 31, 1 << 27, 1 << 26 | 1 << 21


@pytest.mark.parametrize(
    ("path", "name", "mode", "target"),
    [
        ("/d", "d", DIRECTORY | 0o755, ""),
        ("d/", "d", DIRECTORY | 0o755, ""),
        ("/d/.", ".", DIRECTORY | 0o755, ""),
        ("/", "/", DIRECTORY | 0o755, ""),
        ("/d/a", "a", 1 << 23 | 0o755, ""),
        ("/d/sub", "sub", DIRECTORY | 1 << 20 | 0o777, ""),
        ("/d/rel", "rel", LINK | 0o777, "/d/a"),
        ("/d/abs", "abs", LINK | 0o777, "/d/sub"),
        ("/d/abs/", "abs", DIRECTORY | 1 << 20 | 0o777, ""),
        ("/d/broken", "broken", LINK | 0o777, "/nowhere/x"),
        ("/d/up", "up", LINK | 0o777, "/etc/passwd"),
        ("/d/fifo", "fifo", 1 << 25 | 0o644, ""),
        ("/d/dev", "dev", DEVICE | 0o644, ""),
        ("/vol/v", "v", 0o644, ""),
        ("/bound/file", "file", 0o644, ""),
    ],
)
def test_what_is_at_a_path(moorage: Instance, tree: str, path: str, name: str, mode: int, target: str) -> None:
    found = stat(ask(moorage, "HEAD", tree, path))
    assert (found["name"], found["mode"], found["linkTarget"]) == (name, mode, target)
    assert stat(ask(moorage, "GET", tree, path)) == found


def test_size_and_time(moorage: Instance, tree: str) -> None:
    found = stat(ask(moorage, "HEAD", tree, "/d/a"))
    assert (found["size"], found["mtime"]) == (3, "2001-02-03T04:05:06Z")


@pytest.mark.parametrize(
    ("path", "first", "second"),
    [
        ("/d", "d", "d/a"),
        ("/d/", "d", "d/a"),
        ("/d/.", ".", "./a"),
        ("/x/../d", "d", "d/a"),
        ("/d/abs/", "abs", "abs/b"),
        ("/d/a", "a", ""),
        ("/d/abs", "abs", ""),
        ("/vol", "vol", "vol/v"),
        ("/bound", "bound", "bound/file"),
    ],
)
def test_names_in_the_tar(moorage: Instance, tree: str, path: str, first: str, second: str) -> None:
    assert list(fetch(moorage, tree, path))[:2] == [first, second][: 1 + bool(second)]


def test_every_kind_of_file(moorage: Instance, tree: str) -> None:
    found = fetch(moorage, tree, "/d")
    assert list(found) == [
        *("d", "d/a", "d/abs", "d/broken", "d/dev", "d/fifo", "d/hard", "d/loop", "d/rel", "d/sub", "d/sub/b", "d/up")
    ]
    assert (found["d/a"].mode, found["d/a"].size, found["d/a"].mtime) == (0o4755, 3, 981173106)
    assert (found["d/hard"].type, found["d/hard"].linkname) == (tarfile.LNKTYPE, "d/a")
    assert (found["d/rel"].type, found["d/rel"].linkname) == (tarfile.SYMTYPE, "a")
    assert (found["d/sub/b"].uid, found["d/sub/b"].gid, found["d/sub/b"].uname) == (12, 34, "")
    assert (found["d/dev"].type, found["d/dev"].devmajor, found["d/dev"].devminor) == (tarfile.CHRTYPE, 1, 3)
    assert (found["d/fifo"].type, found["d/sub"].mode) == (tarfile.FIFOTYPE, 0o1777)


def test_the_whole_root_holds_what_is_on_disk_only(moorage: Instance, tree: str) -> None:
    found = fetch(moorage, tree, "/")
    assert {"/d/a", "/vol/v", "/bound/file", "/etc/hosts", "/proc", "/sys", "/memory"} <= set(found)
    assert not [name for name in found if name.startswith(("/proc/", "/sys/", "/memory/", "/dev/n"))]


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/nope", 404, "Could not find the file /nope in container {id}"),
        ("/memory/t", 404, "Could not find the file /memory/t in container {id}"),
        ("/d/broken/", 404, "Could not find the file /d/broken/ in container {id}"),
        ("/d/a/", 500, "lstat /d/a/: not a directory"),
        ("/d/a/.", 500, "lstat /d/a/.: not a directory"),
        ("/d/loop", 500, "evalSymlinksInScope: too many links in /d/loop"),
        ("", 400, "bad parameter: path cannot be empty"),
    ],
)
def test_paths_that_lead_nowhere(moorage: Instance, tree: str, path: str, status: int, text: str) -> None:
    answer = ask(moorage, "GET", tree, path)
    assert (answer.status, answer.json["message"]) == (status, text.format(id=tree))
    assert ask(moorage, "HEAD", tree, path).status == status


@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT"])
def test_no_such_container(moorage: Instance, method: str) -> None:
    answer = ask(moorage, method, "nosuch", "/", tar() if method == "PUT" else b"")
    assert answer.status == 404
    assert method == "HEAD" or answer.json["message"] == "No such container: nosuch"


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [("gzip, deflate", "gzip"), ("gzip;q=0, deflate", "deflate"), ("identity", ""), ("*", "gzip")],
)
def test_content_codings(moorage: Instance, tree: str, accepted: str, coding: str) -> None:
    answer = ask(moorage, "GET", tree, "/d/a", Accept_Encoding=accepted)
    assert answer.headers.get("content-encoding", "") == coding
    plain: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.decompress,
        "deflate": lambda data: zlib.decompress(data, -15),
        "": bytes,
    }
    assert list(members(plain[coding](answer.body))) == ["a"]


def test_a_stopped_container_shows_its_files_and_volumes(moorage: Instance) -> None:
    container = create(
        moorage, "sh", "-c", "echo v > /vol/v; rm /etc/passwd; echo f > /f", HostConfig={"Binds": ["st:/vol"]}
    )
    start(moorage, container)
    wait(moorage, container)
    assert content(moorage, container, "/vol/v") == b"v\n"
    assert content(moorage, container, "/f") == b"f\n"
    assert ask(moorage, "GET", container, "/etc/passwd").status == 404
    assert b"localhost" in content(moorage, container, "/etc/hosts")
    remove(moorage, container)


def test_reading_leaves_no_trace(moorage: Instance, created: str) -> None:
    assert list(fetch(moorage, created, "/vol")) == ["vol"]  # its mount point does not exist in the image
    assert done(call(moorage, f"GET /containers/{created}/changes")) is None


# ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_members_arrive_as_they_are(moorage: Instance, created: str) -> None:
    body = tar(
        {"name": "dir", "type": tarfile.DIRTYPE, "mode": 0o2750, "uid": 7, "gid": 8, "mtime": 1000},
        {"name": "dir/file", "data": b"content", "mode": 0o4640, "uid": 5, "gid": 6, "mtime": 2000},
        {"name": "dir/hard", "type": tarfile.LNKTYPE, "linkname": "dir/file"},
        {"name": "link", "type": tarfile.SYMTYPE, "linkname": "../../etc/passwd"},
        {"name": "fifo", "type": tarfile.FIFOTYPE, "mode": 0o600},
        {"name": "dev", "type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5, "mode": 0o666},
        {"name": ".wh.name", "data": b"no whiteout"},
        {"name": f"{LONG}/end", "data": b"far"},
        {"name": "implied/f", "data": b"x", "uid": 9},
        {"name": "attributes", "data": b"x", "pax_headers": {"SCHILY.xattr.user.note": "kept"}},
    )
    assert put(moorage, created, "/tmp", body) == (200, "")
    found = fetch(moorage, created, "/tmp/.")
    told = {name: (member.mode, member.uid, member.gid, member.mtime) for name, member in found.items()}
    assert told["./dir"] == (0o2750, 7, 8, 1000)
    assert told["./dir/file"] == (0o4640, 5, 6, 2000)
    assert (found["./dir/hard"].type, found["./dir/hard"].linkname) == (tarfile.LNKTYPE, "./dir/file")
    assert found["./link"].linkname == "../../etc/passwd"
    assert (found["./fifo"].type, found["./dev"].type, found["./dev"].devminor) == (
        tarfile.FIFOTYPE,
        tarfile.CHRTYPE,
        5,
    )
    assert content(moorage, created, "/tmp/.wh.name") == b"no whiteout"
    assert content(moorage, created, f"/tmp/{LONG}/end") == b"far"
    assert f"./{LONG}/end" in found
    assert told["./implied"][:3] == told[f"./{LONG.partition('/')[0]}"][:3] == (0o755, 0, 0)
    exported = members(export(moorage, created))
    assert exported["tmp/attributes"].pax_headers["SCHILY.xattr.user.note"] == "kept"


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_running_container_sees_them_at_once(moorage: Instance, state: str) -> None:
    container = create(moorage, "sleep", "1000", StopSignal="SIGKILL")
    start(moorage, container)
    if state == "paused":
        done(call(moorage, f"POST /containers/{container}/pause"))
    assert put(moorage, container, "/root", tar({"name": "new", "data": b"seen"})) == (200, "")
    if state == "paused":
        done(call(moorage, f"POST /containers/{container}/unpause"))
    assert moorage.docker("exec", container, "cat", "/root/new").stdout == "seen"
    remove(moorage, container)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_compressed_tars(moorage: Instance, created: str, kind: str) -> None:
    data = os.urandom(300_000)
    assert put(moorage, created, "/tmp", COMPRESSIONS[kind](tar({"name": kind, "data": data}))) == (200, "")
    assert content(moorage, created, f"/tmp/{kind}") == data


def test_holes_stay_holes(moorage: Instance, created: str, tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(4 << 20)
        file.seek(2 << 20)
        file.write(b"middle")
    packed = subprocess.run(["tar", "-C", str(tmp_path), "-cSf", "-", "sparse"], capture_output=True, check=True).stdout
    assert put(moorage, created, "/tmp", packed) == (200, "")
    assert content(moorage, created, "/tmp/sparse") == bytes(2 << 20) + b"middle" + bytes((2 << 20) - 6)
    [kept] = Path(moorage.root, "containers", created, "diff/tmp").iterdir()
    assert kept.stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize(
    ("path", "member", "more", "status", "text"),
    [
        ("/nope", {"name": "f"}, "", 404, "Could not find the file /nope in container {id}"),
        ("/d/a", {"name": "f"}, "", 400, "extraction point is not a directory"),
        ("/d/a/x", {"name": "f"}, "", 500, "not a directory"),
        ("/d/loop", {"name": "f"}, "", 500, "EvalSymlinks: too many links"),
        ("/bound", {"name": "f"}, "", 400, "mounted volume is marked read-only"),
        ("/", {"name": "bound/f"}, "", 500, "open /bound/f: read-only file system"),
        ("/etc", {"name": "hosts", "data": b"x"}, "", 500, "unlinkat /etc/hosts: device or resource busy"),
        ("/tmp", {"name": "../e"}, "", 500, '"../e" is outside of "/tmp"'),
        ("/tmp", {"name": "h", "type": b"1", "linkname": "../d/a"}, "", 500, 'invalid hardlink "/d/a" -> "../d/a"'),
        (
            "/tmp",
            {"name": "h", "type": b"1", "linkname": "no"},
            "",
            404,
            "Could not find the file /tmp in container {id}",
        ),
        ("/tmp", {"name": "z", "type": b"Z"}, "", 500, "unhandled tar header type 90"),
        (
            *("/d", {"name": "a", "type": b"5"}, "&noOverwriteDirNonDir=true", 500),
            'cannot overwrite non-directory "/d/a" with directory "/d"',
        ),
        (
            *("/d", {"name": "sub"}, "&noOverwriteDirNonDir=1", 500),
            'cannot overwrite directory "/d/sub" with non-directory "/d"',
        ),
    ],
)
def test_what_is_refused(
    moorage: Instance, tree: str, path: str, member: dict[str, object], more: str, status: int, text: str
) -> None:
    assert put(moorage, tree, path, tar(member), more) == (status, text.format(id=tree))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"rubbish" * 200, "invalid tar header"),
        (None, "unexpected EOF"),
        (tar({"name": "x", "pax_headers": {"path": "nul\0inside"}}), "invalid tar header"),
        (tar({"name": "x", "pax_headers": {"uid": "-7"}}), "invalid tar header"),
        (tar({"name": "x", "pax_headers": {"SCHILY.xattr.user.a\0b": "x"}}), "invalid tar header"),
    ],
)
def test_broken_tars(moorage: Instance, tree: str, body: bytes | None, text: str) -> None:
    status, told = put(moorage, tree, "/tmp", body or tar({"name": "cut", "data": bytes(9000)})[:5000])
    assert status == 500
    assert text in told


def test_an_empty_body_is_an_empty_tar(moorage: Instance, tree: str) -> None:
    assert put(moorage, tree, "/tmp", b"") == (200, "")


def test_read_only_root_and_volumes(moorage: Instance) -> None:
    container = create(moorage, "true", HostConfig={"ReadonlyRootfs": True, "Binds": ["ro:/ro:ro", "rw:/rw"]})
    assert put(moorage, container, "/", tar({"name": "f"})) == (400, "container rootfs is marked read-only")
    assert put(moorage, container, "/ro", tar({"name": "f"})) == (400, "mounted volume is marked read-only")
    assert put(moorage, container, "/rw", tar({"name": "f"})) == (200, "")
    remove(moorage, container)


@pytest.mark.parametrize(
    ("user", "owner"),
    [
        ("", (1, 2)),
        ("7777", (7777, 0)),
        ("7777:", (7777, 0)),
        (":7777", (0, 7777)),
        ("7777:8888", (7777, 8888)),
        ("nobody", (65534, 65534)),
        ("daemon:bin", (1, 2)),
    ],
)
def test_files_that_become_the_users(moorage: Instance, user: str, owner: tuple[int, int]) -> None:
    container = create(moorage, "true", User=user)
    body = tar({"name": "f", "uid": 1, "gid": 2})
    assert put(moorage, container, "/tmp", body, "&copyUIDGID=true") == (200, "")
    found = fetch(moorage, container, "/tmp/f")["f"]
    assert (found.uid, found.gid) == owner
    remove(moorage, container)


def test_a_user_that_the_container_does_not_know(moorage: Instance) -> None:
    container = create(moorage, "true", User="stranger")
    told = put(moorage, container, "/tmp", tar({"name": "f"}), "&copyUIDGID=1")
    assert told == (400, "unable to find user stranger: no matching entries in passwd file")
    assert put(moorage, container, "/tmp", tar({"name": "f"})) == (200, "")
    remove(moorage, container)


# ── the docker CLI ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_cp_out(moorage: Instance, tree: str, tmp_path: Path) -> None:
    moorage.docker("cp", f"{tree}:/d/sub", str(tmp_path / "new"))
    assert (tmp_path / "new/b").read_text() == "deep\n"
    moorage.docker("cp", f"{tree}:/d/sub", str(tmp_path / "new"))
    assert (tmp_path / "new/sub/b").read_text() == "deep\n"
    moorage.docker("cp", f"{tree}:/d/sub/.", str(tmp_path))
    assert (tmp_path / "b").read_text() == "deep\n"
    moorage.docker("cp", f"{tree}:/d/rel", str(tmp_path))
    assert os.readlink(tmp_path / "rel") == "a"
    moorage.docker("cp", "-L", f"{tree}:/d/rel", str(tmp_path / "followed"))
    assert (tmp_path / "followed").read_text() == "hi\n"
    missing = moorage.docker("cp", f"{tree}:/nope", str(tmp_path), check=False)
    assert f"Could not find the file /nope in container {tree}" in missing.stderr


def test_cp_in(moorage: Instance, created: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file").write_text("there\n")
    moorage.docker("cp", str(tmp_path / "sub/file"), f"{created}:/tmp/renamed")
    assert content(moorage, created, "/tmp/renamed") == b"there\n"
    moorage.docker("cp", str(tmp_path / "sub"), f"{created}:/tmp")
    assert content(moorage, created, "/tmp/sub/file") == b"there\n"
    moorage.docker("cp", f"{tmp_path}/sub/.", f"{created}:/vol")
    assert content(moorage, created, "/vol/file") == b"there\n"
    over = moorage.docker("cp", str(tmp_path / "sub/file"), f"{created}:/tmp/sub/file/", check=False)
    assert over.returncode
    assert moorage.docker("cp", str(tmp_path / "sub"), f"{created}:/tmp/renamed", check=False).returncode


def test_cp_between_containers_through_a_pipe(moorage: Instance, tree: str, created: str) -> None:
    packed = subprocess.run(
        ["docker", "cp", f"{tree}:/d/sub", "-"], env=moorage.client_environment, capture_output=True, check=True
    ).stdout
    moorage.docker("cp", "-", f"{created}:/tmp", stdin=packed)
    assert content(moorage, created, "/tmp/sub/b") == b"deep\n"


def test_docker_py(moorage: Instance, tree: str, created: str) -> None:
    client = moorage.client()
    pieces, found = client.containers.get(tree).get_archive("/d/a")
    assert found["size"] == 3
    assert client.containers.get(created).put_archive("/tmp", b"".join(pieces))
    pieces, _ = client.containers.get(created).get_archive("/tmp/a", encode_stream=True)
    assert list(members(b"".join(pieces))) == ["a"]


def test_events(moorage: Instance, created: str) -> None:
    since = time.time()
    fetch(moorage, created, "/tmp")
    put(moorage, created, "/tmp", tar())
    put(moorage, created, "/nope", tar())
    export(moorage, created)
    ask(moorage, "HEAD", created, "/tmp")
    seen = moorage.docker(
        "events", "--since", f"{since}", "--until", f"{time.time()}", "--format", "{{.Action}}"
    ).stdout
    assert seen.split() == [
        *("mount", "archive-path", "unmount", "mount", "extract-to-dir", "unmount", "export", "mount", "unmount")
    ]


# ── hostile and unlucky ──────────────────────────────────────────────────────────────────────────────────────────────


def test_links_that_move_lead_nowhere_else(moorage: Instance, tmp_path: Path) -> None:
    """The container turns a directory into a link to / and back, as fast as it can: nothing of the machine is read or
    written."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("the machine's")
    container = create(
        moorage,
        *(
            "sh",
            "-c",
            f"mkdir -p /real{secret}; cd /; while :; do ln -sfn / /way; rm /way; mv /real /way; mv /way /real; done",
        ),
        StopSignal="SIGKILL",
    )
    start(moorage, container)
    for turn in range(20):
        answer = ask(moorage, "GET", container, f"/way{secret}")
        assert b"the machine's" not in answer.body
        put(moorage, container, f"/way{secret}", tar({"name": f"planted{turn}", "data": b"x"}))
    assert sorted(os.listdir(secret)) == ["key"]
    remove(moorage, container)


def test_a_mount_point_that_is_a_link_stays_in_the_container(moorage: Instance, tmp_path: Path) -> None:
    """The way to a volume's place becomes a link to a directory that only the machine has."""
    container = create(
        moorage, "sh", "-c", f"mv /gate /old; ln -s {tmp_path} /gate", HostConfig={"Binds": ["over:/gate/under"]}
    )
    start(moorage, container)
    assert wait(moorage, container) == 0
    assert stat(ask(moorage, "HEAD", container, "/gate"))["linkTarget"] == str(tmp_path)
    assert put(moorage, container, "/gate/under", tar({"name": "in", "data": b"volume"})) == (200, "")
    assert content(moorage, container, "/gate/under/in") == b"volume"
    assert os.listdir(tmp_path) == []
    assert Path(moorage.root, "volumes/over/_data/in").read_bytes() == b"volume"
    remove(moorage, container)


def workers(moorage: Instance) -> list[int]:
    """The programs that the service runs for `cp` (another one unpacks layers, and stays as long as the service)."""
    pid = moorage.service_pid()
    return [child for child in (children_of(pid) if pid else []) if b"/container_files.py" in command_of(child)]


def command_of(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_a_client_that_leaves_leaves_nothing(moorage: Instance, tree: str) -> None:
    moorage.docker("exec", tree, "sh", "-c", "dd if=/dev/zero of=/d/sub/big bs=1M count=64 2>/dev/null")
    try:
        with Wire(moorage.socket, 30) as wire:
            wire.send(request(f"GET /containers/{tree}/archive?path=/d/sub"))
            wire.exactly(100_000)
            assert len(workers(moorage)) == 1
        moorage.until(lambda: not workers(moorage), 60, "the program outlived its client")
        with Wire(moorage.socket, 30) as wire:
            wire.send(
                request(f"PUT /containers/{tree}/archive?path=/tmp", Content_Length="10000000") + tar({"name": "x"})
            )
            moorage.until(lambda: workers(moorage), 60, "the program was not started")
        moorage.until(lambda: not workers(moorage), 60, "the program outlived its client")
    finally:
        moorage.docker("exec", tree, "rm", "/d/sub/big")


def test_a_slow_client_is_waited_for(moorage: Instance, tree: str) -> None:
    """Memory stays bounded: what the client does not read waits in the file."""
    moorage.docker("exec", tree, "sh", "-c", "dd if=/dev/zero of=/d/sub/big bs=1M count=256 2>/dev/null")
    try:
        with Wire(moorage.socket, 60) as wire:
            wire.send(request(f"GET /containers/{tree}/archive?path=/d/sub/big", Connection="close"))
            wire.exactly(1000)
            service = moorage.service_pid()
            time.sleep(0.5)  # time to read ahead, if it did
            with open(f"/proc/{service}/status", encoding="ascii") as status:
                [resident] = [int(line.split()[1]) for line in status if line.startswith("VmRSS")]
            assert resident < 150_000, f"{resident} kB"
            total = 1000 + len(wire.received)
            while piece := wire.socket.recv(1 << 20):
                total += len(piece)
            assert total > 256 << 20
    finally:
        moorage.docker("exec", tree, "rm", "/d/sub/big")


def test_killed_in_the_middle(moorage: Instance, created: str) -> None:
    """`kill -9` of the service while a tar goes in or out: nothing runs on afterwards, and it can be done again."""
    assert put(moorage, created, "/root", tar({"name": "big", "data": bytes(8_000_000)})) == (200, "")
    half = tar({"name": "x", "data": bytes(200_000)})[:150_000]
    for sent in (
        request(f"PUT /containers/{created}/archive?path=/tmp", Content_Length="10000000") + half,
        request(f"GET /containers/{created}/archive?path=/root"),
        request(f"GET /containers/{created}/export"),
    ):
        with Wire(moorage.socket, 30) as wire:
            wire.send(sent)
            moorage.until(lambda: workers(moorage), 60, "the program was not started")
            orphans = workers(moorage)
            moorage.kill_service()
            gone = lambda ours=orphans: not any(os.path.exists(f"/proc/{pid}") for pid in ours)  # noqa: E731 - of this turn
            moorage.until(gone, 60, "the program lived on")
    assert put(moorage, created, "/tmp", tar({"name": "x", "data": b"again"})) == (200, "")
    assert content(moorage, created, "/tmp/x") == b"again"


def test_a_start_waits_for_what_goes_in(moorage: Instance) -> None:
    container = create(moorage, "cat", "/tmp/late")
    body = tar({"name": "late", "data": b"in time\n"})
    with Wire(moorage.socket, 30) as wire:
        wire.send(request(f"PUT /containers/{container}/archive?path=/tmp", Content_Length=str(len(body))) + body[:600])
        moorage.until(lambda: workers(moorage), 60, "the program was not started")
        starting = threading.Thread(target=start, args=(moorage, container))
        starting.start()
        time.sleep(0.3)  # time to start, if it did not wait
        assert call(moorage, f"GET /containers/{container}/json").json["State"]["Status"] == "created"
        wire.send(body[600:])
        assert wire.answer().status == 200
        starting.join(60)
    assert wait(moorage, container) == 0
    remove(moorage, container)


# ── export and diff ──────────────────────────────────────────────────────────────────────────────────────────────────


def export(moorage: Instance, container: str) -> bytes:
    with Wire(moorage.socket, 60) as wire:
        wire.send(request(f"GET /containers/{container}/export", Connection="close"))
        answer = wire.answer()
        assert answer.status == 200, answer.body
        return answer.body


def test_export_is_the_root_without_what_is_mounted(moorage: Instance, tree: str) -> None:
    found = members(export(moorage, tree))
    assert {"d/a", "d/dev", "etc/passwd", "vol", "bound", "memory", "proc"} <= set(found)
    assert not [name for name in found if name.startswith(("vol/", "bound/", "memory/", "proc/", "/"))]
    assert found["etc/hosts"].size == 0


def test_export_and_import_keep_everything(moorage: Instance, tree: str) -> None:
    exported = export(moorage, tree)
    moorage.docker("import", "-", "again:1", stdin=exported)
    container = create(moorage, "true", Image="again:1")
    before, after = members(exported), members(export(moorage, container))
    for name, member in before.items():
        if not name.startswith(("dev", "proc", "sys")) and name not in (".dockerenv", "etc/hosts", "etc/resolv.conf"):
            for field in ("mode", "uid", "gid", "size", "mtime", "type", "linkname", "devmajor", "pax_headers"):
                assert getattr(after[name], field) == getattr(member, field), (name, field)
    remove(moorage, container)
    moorage.docker("rmi", "again:1")


def test_export_of_nothing(moorage: Instance) -> None:
    answer = call(moorage, "GET /containers/nosuch/export")
    assert (answer.status, answer.json["message"]) == (404, "No such container: nosuch")


CHANGES = r"""
mkdir -p /d/sub; echo >/d/sub/f; rm -r /home; rm -r /var/www /var/spool; mkdir /var/spool; echo >/var/spool/x
chmod 701 /root; echo >>/etc/passwd; touch /etc/new; rm /etc/new; mkdir /tmp/x; rm -r /tmp/x; rm /etc/group
mkdir /etc/group; touch /etc/group/in; chown 1:1 /var/tmp; mkdir -p /var/tmp/q/w; echo >/etc/hosts; ln -s x /link
"""


def test_changes(moorage: Instance) -> None:
    container = create(moorage, "sh", "-c", CHANGES, HostConfig={"Binds": ["changed:/vol"]})
    assert done(call(moorage, f"GET /containers/{container}/changes")) is None
    start(moorage, container)
    assert wait(moorage, container) == 0
    listed = moorage.docker("diff", container).stdout.splitlines()
    assert listed == [
        *("A /d", "A /d/sub", "A /d/sub/f", "C /etc", "C /etc/group", "A /etc/group/in", "C /etc/passwd", "D /home"),
        *("A /link", "C /root", "C /var", "C /var/spool", "A /var/spool/x", "C /var/tmp", "A /var/tmp/q"),
        *("A /var/tmp/q/w", "D /var/www", "A /vol"),
    ]
    remove(moorage, container)
    answer = call(moorage, "GET /containers/nosuch/changes")
    assert (answer.status, answer.json["message"]) == (404, "No such container: nosuch")


def test_changes_in_directories_of_several_layers(moorage: Instance, tmp_path: Path) -> None:
    """What a lower layer hides is not there to be removed, and what a removed directory held is not told."""
    from tests.support import image

    lower = tar(*({"name": f"x/{name}", "data": b"x"} for name in ("one", "two", "three/four")))
    upper = tar({"name": "x/.wh.two"}, {"name": "x/five", "data": b"x"})
    with open(image.busybox(), "rb") as archive, tarfile.open(fileobj=archive) as opened:
        [base] = [m for m in opened.getmembers() if m.name.endswith("layer.tar")][:1]
        file = opened.extractfile(base)
        assert file is not None
        busybox = file.read()
    image.archive(str(tmp_path / "i.tar"), [busybox, lower, upper], tags=["layers:1"])
    moorage.docker("load", "-i", str(tmp_path / "i.tar"))
    container = create(moorage, "sh", "-c", "rm -r /x; mkdir /x; echo >/x/new; echo >/x/one", Image="layers:1")
    start(moorage, container)
    assert wait(moorage, container) == 0
    assert moorage.docker("diff", container).stdout.splitlines() == [
        "C /x",
        "D /x/five",
        "A /x/new",
        "C /x/one",
        "D /x/three",
    ]
    remove(moorage, container)
    moorage.docker("rmi", "layers:1")


def test_changes_walk_the_writable_layer_only(moorage: Instance) -> None:
    container = create(moorage, "sh", "-c", "mkdir /many; cd /many; seq 5000 | xargs touch")
    start(moorage, container)
    wait(moorage, container)
    found = done(call(moorage, f"GET /containers/{container}/changes"))
    assert len(found) == 5001
    assert found == sorted(found, key=lambda change: change["Path"])
    assert {change["Kind"] for change in found} == {1}
    remove(moorage, container)


def test_a_tar_of_odd_names(moorage: Instance, created: str) -> None:
    names = ["blank name", "üñí", "new\nline", "x" * 255, "-rf", "back\\slash", "percent%20"]
    assert put(moorage, created, "/tmp", tar(*({"name": name, "data": name.encode()} for name in names))) == (200, "")
    assert set(fetch(moorage, created, "/tmp/.")) == {".", *(f"./{name}" for name in names)}
    for name in names:
        assert content(moorage, created, f"/tmp/{name}") == name.encode()
    latin = bytearray(tar({"name": "latin-x"}))
    latin[6:7] = b"\xe9"
    latin[148:156] = b"%06o\0 " % (sum(latin[:148]) + 256 + sum(latin[156:512]))
    assert put(moorage, created, "/tmp", bytes(latin)) == (200, "")
    assert b"latin-\xe9" in ask(moorage, "GET", created, "/tmp").body


def test_parts_of_volumes_and_volumes_with_a_file_system(moorage: Instance) -> None:
    """What a start would mount first is there for cp as well, also of a container that never ran."""
    moorage.docker("volume", "create", "-d", "local", "-o", "type=tmpfs", "-o", "device=tmpfs", "in-memory")
    filler = create(moorage, "true", HostConfig={"Binds": ["whole:/w"]})
    body = tar({"name": "part/deep", "data": b"subpath"}, {"name": "out", "type": tarfile.SYMTYPE, "linkname": "/etc"})
    assert put(moorage, filler, "/w", body) == (200, "")
    mounts = [
        {"Type": "volume", "Source": "whole", "Target": "/p", "VolumeOptions": {"Subpath": "part"}},
        {"Type": "volume", "Source": "in-memory", "Target": "/m"},
        {"Type": "image", "Source": "busybox", "Target": "/image"},
    ]
    container = create(moorage, "sleep", "1000", StopSignal="SIGKILL", HostConfig={"Mounts": mounts})
    assert content(moorage, container, "/p/deep") == b"subpath"
    assert list(fetch(moorage, container, "/m")) == ["m"]
    assert ask(moorage, "HEAD", container, "/image/bin/sh").status == 200
    mounted = [line for line in moorage.leftovers() if line.startswith("mount")]
    assert not [line for line in mounted if container in line or "/volumes/" in line]
    start(moorage, container)
    assert put(moorage, container, "/m", tar({"name": "kept", "data": b"x"})) == (200, "")
    assert moorage.docker("exec", container, "cat", "/m/kept").stdout == "x"
    assert ask(moorage, "HEAD", container, "/image/bin/sh").status == 200
    for each in (container, filler):
        remove(moorage, each)
