"""The same container on dockerd and on moorage: the same tars and path stats come out of it, the same files go in."""

import io
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.differential.dockerd import Dockerd
from tests.differential.steps import make
from tests.differential.test_same_answers import Side, reference
from tests.support.archives import stat, tar
from tests.support.instance import Instance
from tests.support.wire import Answer

__all__ = ["reference"]  # the fixture

SCRIPT = r"""
mkdir -p /d/sub/deep /d/empty; echo hi >/d/a; echo deep >/d/sub/b; ln /d/a /d/hard; ln -s a /d/rel; ln -s /d/sub /d/abs
ln -s /nowhere/x /d/broken; ln -s ../../../etc/passwd /d/up; ln -s /d /way; mkfifo /d/fifo; mknod /d/dev c 1 3
chmod 4755 /d/a; chmod 2711 /d/empty; chown 12:34 /d/sub/b; chmod 1777 /d/sub; echo v >/vol/v; echo t >/memory/t
head -c 100000 /dev/zero >/d/zeros; touch "/d/odd name é"; touch /d/$(printf '%0200d' 7)
rm -r /home /var/www /var/spool; mkdir /var/spool; echo >/var/spool/x; chmod 701 /root; echo >>/etc/passwd
rm /etc/group; mkdir /etc/group; chown 1:1 /var/tmp; echo >/etc/hosts; mkdir /tmp/x; rm -r /tmp/x
find /d -exec touch -h -d '2001-02-03 04:05:06' {} +
"""
PATHS = (
    *("/d", "d/", "/d/.", "/d/a", "/d/rel", "/d/abs", "/d/abs/", "/d/abs/.", "/d/broken", "/d/up", "/d/fifo", "/d/dev"),
    *("/d/hard", "/way", "/way/", "/way/sub", "/vol", "/vol/v", "/memory", "/proc", "/etc/passwd"),
)
RECENT = 1_600_000_000  # seconds: a later time is of this run, and differs


@pytest.fixture(scope="module")
def sides(moorage: Instance, reference: Dockerd) -> Iterator[tuple[Side, Side]]:
    """The container `d-cp`, run to its end on both."""
    both = Side(reference.socket), Side(moorage.socket)
    for side in both:
        host = {"Binds": ["d-cp:/vol"], "Tmpfs": {"/memory": ""}, "NetworkMode": "none"}
        for step in (
            make("d-cp", Cmd=["sh", "-c", SCRIPT], HostConfig=host),
            ("POST", "/containers/d-cp/start", None),
            ("POST", "/containers/d-cp/wait", None),
        ):
            answer = side.ask("", step)
            assert answer.status < 300, answer.body
    yield both
    for side in both:
        side.ask("", ("DELETE", "/containers/d-cp?force=1&v=1", None))
        side.ask("", ("DELETE", "/volumes/d-cp", None))


def asked(sides: tuple[Side, Side], method: str, path: str, body: bytes | None = None) -> list[Answer]:
    """What both answer."""
    return [side.ask("", (method, f"/containers/d-cp/{path}", body)) for side in sides]


def told(answer: Answer) -> list[tuple[Any, ...]]:
    """All that a tar says, but for times of this run."""
    assert answer.status == 200, answer.body
    found = []
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as opened:
        for member in opened:
            file = opened.extractfile(member) if member.isreg() else None
            mode = member.mode & 0o7777  # dockerd before 25 also wrote the kind of file there, and owners' names
            head = (member.name, member.type, mode, member.uid, member.gid, member.size, member.linkname)
            when = member.mtime if member.mtime < RECENT else "now"
            rest = (when, member.devmajor, member.devminor, member.pax_headers)
            found.append((*head, *rest, file.read() if file else b""))
    return found


@pytest.mark.parametrize("path", PATHS)
def test_what_comes_out(sides: tuple[Side, Side], path: str) -> None:
    theirs, ours = asked(sides, "GET", f"archive?path={path}")
    assert told(ours) == told(theirs)
    for one, other in ((theirs, ours), asked(sides, "HEAD", f"archive?path={path}")):
        expected, found = stat(one), stat(other)
        sized = () if expected["mode"] >> 31 else ("size",)  # a directory's is the file system's
        for key in ("name", "mode", "linkTarget", *sized):
            assert found[key] == expected[key], key


def test_what_is_exported(sides: tuple[Side, Side]) -> None:
    theirs, ours = ({row[0]: row for row in told(answer)} for answer in asked(sides, "GET", "export"))
    assert list(ours) == list(theirs)
    for name, row in theirs.items():
        assert ours[name][:7] == row[:7], name


def test_what_has_changed(sides: tuple[Side, Side]) -> None:
    theirs, ours = (sorted((c["Path"], c["Kind"]) for c in answer.json) for answer in asked(sides, "GET", "changes"))
    assert ours == theirs


def test_what_goes_in(sides: tuple[Side, Side]) -> None:
    body = tar(
        {"name": "dir", "type": tarfile.DIRTYPE, "mode": 0o2750, "uid": 7, "gid": 8, "mtime": 1000},
        {"name": "dir/file", "data": b"content", "mode": 0o640, "uid": 5, "gid": 6, "mtime": 2000},
        {"name": "dir/hard", "type": tarfile.LNKTYPE, "linkname": "dir/file", "mode": 0o640, "uid": 5, "gid": 6},
        {"name": "./dot/../link", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"name": "/absolute", "data": b"x"},
        {"name": "fifo", "type": tarfile.FIFOTYPE, "mode": 0o600},
        {"name": "dev", "type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5, "mode": 0o666},
        {"name": ".wh.name", "data": b"no whiteout"},
        {"name": "/".join(["n" * 60] * 4), "data": b"far", "mtime": 1.5},
        {"name": "implied/f", "data": b"x", "uid": 9, "gid": 100_000_000},
        {"name": "way/in", "data": b"by a link"},
        {"name": "way", "type": tarfile.DIRTYPE, "mode": 0o700},
    )
    first = tar({"name": "way", "type": tarfile.SYMTYPE, "linkname": "implied"}, {"name": "dev", "data": b"replaced"})
    for each in (first, body):
        answers = asked(sides, "PUT", "archive?path=/var/tmp", each)
        assert [(answer.status, answer.body) for answer in answers] == [(200, b"")] * 2
    theirs, ours = asked(sides, "GET", "archive?path=/var/tmp")
    assert told(ours) == told(theirs)
