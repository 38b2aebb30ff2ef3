"""`containerd.services.content.v1.Content`, to be read only: what records of the history refer to, by digest."""

from compat_api.buildkit.wire import content_pb2 as content
from service.engine import build_history
from service.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from service.engine.engine import Engine

_PIECE = 1 << 20  # bytes in a message


class Content:
    """The service; its methods are called with grpclib's streams."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine

    def methods(self) -> "dict[str, tuple[Callable[[Any], Any], type, type]]":
        """By name: what serves it, its request and its answer."""
        return {
            "Info": (self.info, content.InfoRequest, content.InfoResponse),
            "Read": (self.read, content.ReadContentRequest, content.ReadContentResponse),
        }

    async def info(self, stream: "Any") -> None:
        """How large a blob is."""
        request = await stream.recv_message()
        data = await self.engine.thread(build_history.content, self.engine, request.digest)
        await stream.send_message(content.InfoResponse(info=content.Info(digest=request.digest, size=len(data))))

    async def read(self, stream: "Any") -> None:
        """A blob, or a part of it."""
        request = await stream.recv_message()
        data = await self.engine.thread(build_history.content, self.engine, request.digest)
        if not 0 <= request.offset <= len(data) or request.size < 0:
            raise InvalidParameter(f"read past object length {len(data)} bytes")
        end = min(len(data), request.offset + request.size) if request.size else len(data)
        for start in range(request.offset, end, _PIECE):
            piece = data[start : min(end, start + _PIECE)]
            await stream.send_message(content.ReadContentResponse(offset=start, data=piece))
