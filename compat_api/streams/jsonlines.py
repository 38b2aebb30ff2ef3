"""Documents one after the other, as progress and events are told: one line of JSON each.

dockerd ends progress messages with CR LF and events with LF; clients take either.
"""

from service import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator
    from typing import Any


def line(document: "Any", end: bytes = b"\n") -> bytes:
    """One document as a line."""
    return jsontext.dump_bytes(document) + end


async def lines(documents: "AsyncIterable[Any]", end: bytes = b"\r\n") -> "AsyncIterator[bytes]":
    """Each document as a line, as it comes. Closing this closes `documents`."""
    try:
        async for document in documents:
            yield line(document, end)
    finally:
        close = getattr(documents, "aclose", None)
        if close is not None:
            await close()
