"""Where in a Dockerfile a build failed, for clients that show an excerpt: details of a gRPC status.

BuildKit sends its typed errors as JSON in an `Any` whose type is named as in Go (buildkit: util/grpcerrors, errdefs).
"""

import base64

from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase

from compat_api.buildkit.wire.control_pb2 import RpcStatus
from service import jsontext
from service.engine.solving import SolveFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SOURCE = "github.com/moby/buildkit/errdefs.Source+json"
_LARGEST = 1 << 16  # bytes of a Dockerfile that are sent along: details are a header


def excerpt(error: SolveFailed) -> "dict[str, Any] | None":
    """Where it failed, as BuildKit's errdefs.Source; None when that is not known."""
    if not error.ranges or not error.text or len(error.text) > _LARGEST:
        return None
    return {
        "info": {
            "filename": error.filename,
            "data": base64.b64encode(error.text).decode("ascii"),
            "language": "Dockerfile",
        },
        "ranges": [{"start": {"line": lines.start}, "end": {"line": lines.end}} for lines in error.ranges],
    }


class Details(StatusDetailsCodecBase):
    """Writes the details of an error (grpclib's part for `grpc-status-details-bin`)."""

    def encode(self, status: Status, message: "str | None", details: "Any") -> bytes:
        """A google.rpc.Status with `details`, what `excerpt` gave."""
        told = RpcStatus(code=status.value, message=message or "")
        told.details.add(type_url=_SOURCE, value=jsontext.dumps(details).encode())
        return told.SerializeToString()

    def decode(self, status: Status, message: "str | None", data: bytes) -> "Any":
        """Never asked for: what clients call does not come here."""
        raise NotImplementedError
