"""Replies made ready for the wire: JSON written in the version's shape, the headers that every answer carries."""

import time

from compat_api import negotiation, versions
from compat_api.errors import REASONS
from service import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from compat_api.reply import Reply

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_BODILESS = (204, 304)


def written(reply: "Reply", version: tuple[int, int]) -> "Reply":
    """The reply with its document, if it has one, written as JSON in the shape that `version` knows."""
    if reply.document is not ...:
        document = versions.apply(reply.shape, reply.document, version) if reply.shape else reply.document
        reply.body = jsontext.dump_bytes(document) + b"\n"
        reply.document = ...
    return reply


def common() -> "list[tuple[bytes, bytes]]":
    """The headers of every answer."""
    return [*negotiation.headers(), (b"Date", date())]


def headers(reply: "Reply") -> "list[tuple[bytes, bytes]]":
    """All headers of a whole reply (already `written`), in the order in which they go out."""
    lines = common()
    if reply.status not in _BODILESS:
        if reply.body or reply.content_type != b"application/json":
            lines.append((b"Content-Type", reply.content_type))
        lines.append((b"Content-Length", b"%d" % len(reply.body)))
    lines.extend(reply.headers)
    return lines


def whole(reply: "Reply", head_only: bool, keep_alive: bool) -> bytes:
    """A whole reply as bytes."""
    written(reply, negotiation.API_VERSION)
    lines = [b"HTTP/1.1 %d %s" % (reply.status, REASONS.get(reply.status, b""))]
    lines += [name + b": " + value for name, value in headers(reply)]
    if not keep_alive:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if head_only or reply.status in _BODILESS else reply.body)


def date() -> bytes:
    """This moment as HTTP's Date (RFC 9110, section 5.6.7)."""
    now = time.gmtime()
    text = f"{_DAYS[now.tm_wday]}, {now.tm_mday:02d} {_MONTHS[now.tm_mon - 1]} {now.tm_year:04d}"
    return f"{text} {now.tm_hour:02d}:{now.tm_min:02d}:{now.tm_sec:02d} GMT".encode()
