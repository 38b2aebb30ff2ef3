# ruff: noqa: E501 - Dockerfiles are shown as lines
"""The same Dockerfiles to dockerd's classic builder and to moorage: the same output, configurations, histories, sizes
and trees. Identifiers and hashes are masked; what differs stands below with its reason, and must differ."""

import io
import json
import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import docker
import pytest

from tests.differential.dockerd import Dockerd, Unavailable
from tests.support import image
from tests.support.dockerfile_edges import BAD_EDGES, GOOD_EDGES
from tests.support.dockerfiles import BAD, FILES, GOOD, Case
from tests.support.instance import Instance
from tests.support.wire import Wire, request

WORDED_ALIKE_SINCE = 25
DIFFERENT = {
    "an archive over a file": "dockerd tells of a directory of its own",
    "a file as a directory of the context": "dockerd takes it for a way out of the context",
    "a signal too high": "a signal that there is not is refused",
    "bad tag": "a client's mistake is told as one, in the same words",
    "bad arguments": "what is wrong with JSON is told in our parser's words",
}
SQUASHED = [
    Case(
        "squashed",
        "FROM busybox\nRUN echo x >/a; mkdir -p /d/e; touch /d/e/f; ln /a /hard; chmod 4711 /a\nENV A=1\n"
        "COPY dir /d\nRUN rm -r /a /bin/vi /home /d/e && mkdir /home && touch /home/new && rm /bin/top && mkdir /bin/top\n",
        FILES,
    ),
    Case("a stage's own layers squashed", "FROM busybox AS a\nCOPY a /\nFROM a\nRUN rm /a\nCOPY b /b\nRUN echo >>/b\n", FILES),
    Case("nothing below what is squashed", "FROM scratch\nCOPY a /\nCOPY b dir /\n", FILES),
    Case("directories that come and go", "FROM busybox\nRUN rm -r /root; echo >/root; mkdir /x; touch /x/y\nRUN rm /root; mkdir /root; "
    "rm -r /x; ln -s bin /x\nRUN touch /root/a; rm /x; mkdir /x\n"),
]  # fmt: skip
_OURS = ("dev", "proc", "sys", ".dockerenv")  # what an engine puts into every container


def worded(text: str) -> str:
    """Complaints without what later engines have changed in them."""
    text = re.sub(r" \(did you mean [^)]*\)", "", text)
    text = re.sub(r"(unknown flag|missing a value on flag|duplicate flag specified): (?:--)?", r"\1: ", text)
    return re.sub(r"Invalid (?=containerPort|hostPort|proto)", "invalid ", text)


class Side:
    """One of the two engines."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self.api = docker.APIClient(base_url=f"unix://{socket}", version="1.45", timeout=60)

    def build(self, case: Case) -> tuple[int, str]:
        """Status and what was told."""
        query = urlencode(
            {"t": "case:x", "nocache": "1", **({"squash": "1"} if case in SQUASHED else {}), **case.query}
        )
        with Wire(self.socket, 60) as wire:
            body = case.context()
            wire.send(request(f"POST /v1.45/build?{query}", body, content_type="application/x-tar", connection="close"))
            answer = wire.answer()
        if answer.status != 200:
            return answer.status, worded(answer.json["message"])
        told = []
        for line in answer.body.splitlines():
            message = json.loads(line) if line else {}
            told.append(message.get("stream") or (json.dumps(message, sort_keys=True) if message else ""))
        whole = re.sub(r"/tmp/\S*/merged/", "/", "".join(told))
        whole = whole.replace("\x1b[0m\x1b[91m", "")  # errors come in pieces of any size
        return 200, worded(re.sub(r"\b[0-9a-f]{12}\b|sha256:[0-9a-f]{64}", "ID", whole))

    def made(self) -> dict[str, Any]:
        """What there is to know of the image that was built."""
        inspected = self.api.inspect_image("case:x")
        history = self.api.history("case:x")
        return {
            "config": {key: value for key, value in inspected["Config"].items() if key not in ("Image", "Hostname")},
            "history": [re.sub(r"(file|dir|multi):[0-9a-f]{64}", "HASH", step["CreatedBy"]) for step in history],
            "comments": [re.sub(r"sha256:[0-9a-f]{64}", "ID", step["Comment"]) for step in history],
            "sizes": [step["Size"] for step in history],
            "author": inspected["Author"],
            "layers": len(inspected["RootFS"]["Layers"]),
            "files": self._files(),
        }

    def _files(self) -> dict[str, tuple[object, ...]]:
        container = self.api.create_container("case:x", "true")["Id"]
        packed = b"".join(self.api.export(container))
        self.api.remove_container(container)
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            return {
                member.name: (member.type, member.mode, member.uid, member.gid, member.size, member.linkname)
                for member in tar
                if member.name.split("/")[0] not in _OURS
                and not re.fullmatch("etc(/host.*|/resolv.conf|/mtab)?", member.name)
            }


@pytest.fixture(scope="module")
def sides() -> Iterator[tuple[Side, Side]]:
    """dockerd and moorage, each with busybox."""
    try:
        with Dockerd(experimental=True) as dockerd, Instance() as moorage:
            if dockerd.version()[0] < WORDED_ALIKE_SINCE:
                pytest.skip("dockerd's classic builder is of another age here")
            moorage.configure({"experimental": True})
            moorage.load_busybox()
            both = Side(dockerd.socket), Side(moorage.socket)
            with open(image.busybox(), "rb") as archive:
                both[0].api.load_image(archive.read())
            yield both
            for side in both:
                side.api.close()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("case", [*GOOD, *GOOD_EDGES, *SQUASHED, *BAD, *BAD_EDGES], ids=lambda case: case.name)
def test_the_same_is_built(sides: tuple[Side, Side], case: Case) -> None:
    with ThreadPoolExecutor(2) as pool:
        theirs, ours = pool.map(lambda side: side.build(case), sides)
        if case.name in DIFFERENT:
            assert theirs != ours, f"it differs no longer: {DIFFERENT[case.name]}"
            return
        assert ours == theirs
        if ours[0] == 200 and case not in BAD and case not in BAD_EDGES:
            made_there, made_here = pool.map(lambda side: side.made(), sides)
            assert made_here == made_there
