"""A body in a content coding (RFC 9110, section 8.4), compressed as it goes out."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import Any

_WINDOW = {"gzip": 31, "deflate": -15}  # zlib's wbits; Go's `deflate`, which dockerd sends, has no zlib header
_LEVEL = 1  # of isal: faster than any network, and one core for all


class Compressed:
    """The pieces of `source`, compressed in a thread (`thread` runs its argument in one). Closing it closes them."""

    def __init__(self, source: "AsyncIterator[bytes]", coding: str, thread: "Callable[..., Awaitable[bytes]]") -> None:
        from isal import isal_zlib

        self.source, self.thread = source, thread
        self.compressor: Any = isal_zlib.compressobj(_LEVEL, wbits=_WINDOW[coding])
        self.done = False

    def __aiter__(self) -> "Compressed":
        return self

    async def __anext__(self) -> bytes:
        """The next piece that is not empty."""
        while not self.done:
            try:
                piece = await anext(self.source)
            except StopAsyncIteration:
                self.done = True
                last: bytes = self.compressor.flush()
                return last
            if compressed := await self.thread(self.compressor.compress, piece):
                return compressed
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Nobody wants the rest."""
        await self.source.aclose()  # type: ignore[attr-defined]  # what a Stream has; the protocol does not say so
