"""What a build was made of: an in-toto predicate (SLSA provenance 0.2) as BuildKit's, without its graph.

A build notes what it uses while it works (`Used`); when it has ended, `document` makes a document of that. Source of
the form: buildkit's solver/llbsolver/provenance.
"""

import re
from urllib.parse import quote

from service import jsontext, timestamps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from service.content.reference import Reference

TYPE = "https://slsa.dev/provenance/v0.2"
_BUILD = "https://mobyproject.org/buildkit@v1"
_OF_THE_HOST = ("cgroup-parent", "image-resolve-mode", "platform", "cache-imports")  # options that are not told
_ELSEWHERE = ("filename", "context", "requestid")  # options that are told in places of their own


class Used:
    """What one build has used."""

    def __init__(self) -> None:
        self.locals: set[str] = set()  # the client's directories, by name
        self.secrets: dict[str, bool] = {}  # by id: whether a step goes on without it
        self.agents: dict[str, bool] = {}
        self.materials: dict[str, str] = {}  # URI → digest; empty where none is known
        self.context = ""  # the URI of a context that is not the client's

    def image(self, name: "Reference", platform: str, digest: str) -> None:
        """An image, as a package URL. `digest`: its manifest's, or of one of this machine that of its layers."""
        qualifiers = [f"digest={name.digest}"] if name.digest else []
        qualifiers += [f"platform={quote(platform, safe='')}"]
        version = "" if name.digest else f"@{name.tag or 'latest'}"
        self.materials[f"pkg:docker/{name.familiar_repository}{version}?{'&'.join(qualifiers)}"] = digest

    def place(self, url: str, digest: str, *, context: bool = False) -> None:
        """Something in the network, or what the client has uploaded."""
        uri = _without_password(url)
        self.materials[uri] = digest
        if context:
            self.context = uri

    def add(self, other: "Used") -> None:
        """What another build has used whose result this one stands on."""
        self.materials = {**other.materials, **self.materials}


def document(
    used: Used, attributes: "Mapping[str, str]", *, platform: str, id: str, started_ns: int, ended_ns: int
) -> bytes:
    """The predicate. `id`: 25 letters and digits that name this run; times in nanoseconds since 1970."""
    told = {
        name: _without_password(value) if name == "context" or name.startswith("context:") else value
        for name, value in attributes.items()
        if name not in (*_OF_THE_HOST, *_ELSEWHERE) and not name.startswith(("attest:", "vcs:"))
    }
    vcs = {
        name.removeprefix("vcs:"): _without_password(value)
        for name, value in attributes.items()
        if name.startswith("vcs:")
    }
    source: dict[str, Any] = {"entryPoint": attributes.get("filename") or "Dockerfile"}
    if used.context:
        source = {**_material(used.context, used.materials.get(used.context, "")), **source}
    parameters: dict[str, Any] = {"frontend": "dockerfile.v0"}
    if told:
        parameters["args"] = dict(sorted(told.items()))
    for key, found in (("secrets", used.secrets), ("ssh", used.agents)):
        if found:
            parameters[key] = [
                {"id": name, **({"optional": True} if optional else {})} for name, optional in sorted(found.items())
            ]
    if used.locals:
        parameters["locals"] = [{"name": name} for name in sorted(used.locals)]
    return jsontext.dump_bytes(
        {
            "builder": {"id": ""},
            "buildType": _BUILD,
            "materials": [_material(uri, digest) for uri, digest in sorted(used.materials.items(), key=_images_first)],
            "invocation": {
                "configSource": source,
                "parameters": parameters,
                "environment": {"platform": platform},
            },
            "metadata": {
                "buildInvocationID": id,
                "buildStartedOn": timestamps.rfc3339(started_ns),
                "buildFinishedOn": timestamps.rfc3339(ended_ns),
                "completeness": {"parameters": True, "environment": True, "materials": False},
                "reproducible": False,
                f"{_BUILD}#metadata": {"vcs": dict(sorted(vcs.items()))} if vcs else {},
            },
        }
    )


def _images_first(material: "tuple[str, str]") -> "tuple[bool, str]":
    return not material[0].startswith("pkg:"), material[0]


def _material(uri: str, digest: str) -> "dict[str, Any]":
    kind, _, encoded = digest.partition(":")
    return {"uri": uri, **({"digest": {kind: encoded}} if encoded else {})}


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)
