"""What an error of a build becomes: a gRPC status, with details for clients that show where it failed.

BuildKit sends its typed errors as JSON in an `Any` whose type is named as in Go (buildkit: util/grpcerrors, errdefs).
"""

import asyncio
import base64

from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.exceptions import GRPCError

from compat_api import errors
from compat_api.buildkit import channel
from compat_api.buildkit.wire.control_pb2 import RpcStatus
from service import jsontext
from service.engine.solving import CANCELED, SolveFailed
from service.errors import MoorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_TYPE = "github.com/moby/buildkit/errdefs."
_LARGEST = 1 << 16  # bytes of a Dockerfile that are sent along: details are a header


def code_of(error: MoorageError) -> Status:
    """The gRPC status of a meaning."""
    if isinstance(error, SolveFailed):
        return Status(error.code)
    return Status(next((code for kind in type(error).__mro__ if (code := errors.GRPC_STATUS.get(kind))), 2))


def told(error: BaseException) -> tuple[Status, str]:
    """How a build that ended by an error is remembered: its status and its message."""
    if isinstance(error, MoorageError):
        return code_of(error), error.message
    if isinstance(error, GRPCError):
        return error.status, error.message or error.status.name
    if isinstance(error, (asyncio.CancelledError, *channel.LOST)):
        return Status.CANCELLED, CANCELED
    return Status.UNKNOWN, f"server error: {type(error).__name__} (the service's journal has the details)"


def details(error: BaseException) -> "list[tuple[str, dict[str, Any]]]":
    """What clients may want to know beside the message, as BuildKit's typed errors: name and content."""
    if not isinstance(error, SolveFailed):
        return []
    found: list[tuple[str, dict[str, Any]]] = []
    if error.vertex:
        found.append(("Vertex", {"digest": error.vertex}))
    if error.ranges and error.text and len(error.text) <= _LARGEST:
        info = {
            "filename": error.filename,
            "data": base64.b64encode(error.text).decode("ascii"),
            "language": "Dockerfile",
        }
        ranges = [{"start": {"line": lines.start}, "end": {"line": lines.end}} for lines in error.ranges]
        found.append(("Source", {"info": info, "ranges": ranges}))
    return found


def status(code: Status, message: str, typed: "Sequence[tuple[str, Mapping[str, Any]]]") -> RpcStatus:
    """A google.rpc.Status."""
    found = RpcStatus(code=code.value, message=message)
    for name, content in typed:
        found.details.add(type_url=f"{_TYPE}{name}+json", value=jsontext.dumps(content).encode())
    return found


class Details(StatusDetailsCodecBase):
    """Writes the details of an error (grpclib's part for `grpc-status-details-bin`)."""

    def encode(self, status_: Status, message: "str | None", details: "Any") -> bytes:
        """A google.rpc.Status with `details`, as the function of that name gives them."""
        return status(status_, message or "", details).SerializeToString()

    def decode(self, status: Status, message: "str | None", data: bytes) -> "Any":
        """Never asked for: what clients call does not come here."""
        raise NotImplementedError
