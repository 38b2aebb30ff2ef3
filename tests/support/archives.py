"""A container's files over the wire: what is at a path, as a tar, and back."""

import base64
import io
import json
import tarfile
from typing import Any
from urllib.parse import quote

from tests.support.instance import Instance
from tests.support.wire import Answer, Wire, request


def ask(
    moorage: Instance, method: str, container: str, path: str, body: bytes = b"", more: str = "", **headers: str
) -> Answer:
    """One request to /containers/…/archive."""
    with Wire(moorage.socket, 60) as wire:
        line = f"{method} /v1.51/containers/{container}/archive?path={quote(path, safe='')}{more}"
        wire.send(request(line, body, Connection="close", **headers))
        return wire.answer(head_only=method == "HEAD")


def stat(answer: Answer) -> Any:
    """What the answer's header says of the path."""
    assert answer.status == 200, (answer.status, answer.body)
    return json.loads(base64.b64decode(answer.headers["x-docker-container-path-stat"]))


def members(tar: bytes) -> dict[str, tarfile.TarInfo]:
    """The members of a tar, in its order."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return {member.name: member for member in opened.getmembers()}


def fetch(moorage: Instance, container: str, path: str) -> dict[str, tarfile.TarInfo]:
    """The members of the tar of a path."""
    answer = ask(moorage, "GET", container, path)
    assert answer.status == 200, (answer.status, answer.body)
    return members(answer.body)


def content(moorage: Instance, container: str, path: str) -> bytes:
    """What a file in a container holds."""
    answer = ask(moorage, "GET", container, path)
    assert answer.status == 200, (answer.status, answer.body)
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as opened:
        file = opened.extractfile(opened.next())  # type: ignore[arg-type]  # a tar with one member
        assert file is not None
        return file.read()


def tar(*described: dict[str, Any]) -> bytes:
    """A tar of members given by their fields (name, data, mode, uid, type, linkname, …)."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as opened:
        for fields in described:
            data = fields.get("data", b"")
            member = tarfile.TarInfo(fields["name"])
            for name, value in fields.items():
                if name not in ("name", "data"):
                    setattr(member, name, value)
            member.size = len(data)
            opened.addfile(member, io.BytesIO(data))
    return written.getvalue()


def put(moorage: Instance, container: str, path: str, body: bytes, more: str = "") -> tuple[int, str]:
    """Extract a tar; (status, the error's text)."""
    answer = ask(moorage, "PUT", container, path, body, more)
    return answer.status, answer.json["message"] if answer.body else ""
