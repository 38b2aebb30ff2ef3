"""`dockerfile.v0`, the one frontend there is; and how its results are named on the wire.

A client may take a result and give it to another build as an input (bake's `target:`). On the wire an input is an LLB
definition, so a result is handed out as one that only says which result it is: a source with an identifier of ours, and
an operation that points to it. Any other definition is real LLB, which nobody here understands.
"""

import hashlib

from google.protobuf.message import DecodeError

from compat_api.buildkit.wire import ops_pb2 as ops
from service.builder import syntax
from service.engine.solving import SolveRequest
from service.errors import InvalidParameter, NotFound, NotImplemented_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from compat_api.buildkit.builds import Build, Builds, Image
    from service.engine.solving import CacheOption, Solved

_RESULT = "moorage-result://"
_SESSION = "local-sessionid:"


class Wanted:
    """What is asked of a frontend."""

    def __init__(
        self,
        frontend: str,
        options: "Mapping[str, str]",
        inputs: "Mapping[str, bytes]",
        cache_imports: "Sequence[CacheOption]",
    ) -> None:
        self.frontend, self.options, self.inputs, self.cache_imports = frontend, options, inputs, cache_imports


async def make(builds: "Builds", build: "Build", wanted: Wanted) -> "Solved":
    """An image, by `dockerfile.v0`. Raises NotImplemented_ for what is not served, by its name, and `SolveFailed`."""
    foreign = wanted.options.get("build-arg:BUILDKIT_SYNTAX", "")
    if wanted.frontend == "gateway.v0":
        foreign = wanted.options.get("source", "")
    if foreign and not syntax.is_built_in(foreign):
        raise NotImplemented_(syntax.refused(foreign))
    if wanted.frontend not in (syntax.BUILT_IN, "gateway.v0"):
        raise NotImplemented_(f"the frontend {wanted.frontend} is not supported: {syntax.BUILT_IN} is")
    inputs, needs = {}, []
    for name, definition in wanted.inputs.items():
        image_needed = _input(builds, name, definition)
        solved = image_needed.solved()
        if solved is None:
            raise NotFound(f"input {name}: its build has ended")
        inputs[name] = solved
        needs.append(image_needed)
    sessions = {
        name.removeprefix(_SESSION): await builds.sessions.get(id)
        for name, id in wanted.options.items()
        if name.startswith(_SESSION)
    }
    request = SolveRequest(
        build.ref, wanted.options, list(build.request.Entitlements), wanted.cache_imports, inputs, sessions
    )
    return await builds.make(build, request, needs)


def _input(builds: "Builds", name: str, definition: bytes) -> "Image":
    id = named_by(definition)
    if id is None:
        raise NotImplemented_(f"input {name}: LLB definitions are not supported")
    image = builds.image(id)
    if image is None:
        raise NotFound(f"input {name}: its build has ended")
    return image


def result_of(build: "Build", id: str) -> "Solved":
    """A result of this build by its id. Raises NotFound."""
    image = build.images.get(id)
    solved = image.solved() if image is not None else None
    if solved is None:
        raise NotFound(f"no such ref: {id}")
    return solved


def definition_of(id: str) -> bytes:
    """A definition that stands for a result."""
    source = ops.Op(source=ops.SourceOp(identifier=_RESULT + id)).SerializeToString()
    end = ops.Op(inputs=[ops.Input(digest=_digest(source))]).SerializeToString()
    about = {_digest(op): ops.OpMetadata(caps={"constraints": True, "platform": True}) for op in (source, end)}
    definition = ops.Definition(metadata=about)
    getattr(definition, "def").extend((source, end))
    return definition.SerializeToString()


def named_by(definition: bytes) -> "str | None":
    """The id of the result that a definition stands for; None when it is real LLB. Raises InvalidParameter."""
    try:
        for op in getattr(ops.Definition.FromString(definition), "def"):
            identifier = ops.Op.FromString(op).source.identifier
            if identifier.startswith(_RESULT):
                return identifier.removeprefix(_RESULT)
    except DecodeError:
        raise InvalidParameter("a definition that cannot be read") from None
    return None


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
