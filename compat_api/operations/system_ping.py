"""GET and HEAD /_ping: is the service there, and which API does it speak. Answered without the engine."""

from compat_api.declaration import get, head
from compat_api.reply import Reply

HEADERS = (
    (b"Builder-Version", b"2"),  # BuildKit; 1 would ask for the classic builder
    (b"Cache-Control", b"no-cache, no-store, must-revalidate"),
    (b"Pragma", b"no-cache"),
    (b"Swarm", b"inactive"),
)


@get("/_ping")
def system_ping() -> Reply:
    """Answer OK. Operation SystemPing of the Engine API."""
    return Reply(b"OK", content_type=b"text/plain; charset=utf-8", headers=HEADERS)


@head("/_ping")
def system_ping_head() -> Reply:
    """Answer with the headers of SystemPing alone (dockerd says Content-Length: 0 here)."""
    return Reply(b"", content_type=b"text/plain; charset=utf-8", headers=HEADERS)
