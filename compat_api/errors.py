"""The one place where meanings become HTTP status numbers, and where an error becomes an answer.

Docker's error body is {"message": "…"}. What we did not foresee answers 500 with a sentence that names no file, and its
traceback goes to stderr (the journal).
"""

import sys

from compat_api.reply import Reply
from service import errors, journal

STATUS: "dict[type, int]" = {
    errors.InvalidParameter: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.NotModified: 304,
    errors.NotImplemented_: 501,
    errors.Unavailable: 503,
    errors.SystemFailure: 500,
}
# The same meanings in gRPC's numbers (grpc: doc/statuscodes.md); 2, unknown, is what BuildKit says of most errors.
GRPC_STATUS: "dict[type, int]" = {
    errors.InvalidParameter: 3,
    errors.NotFound: 5,
    errors.Conflict: 6,
    errors.Forbidden: 7,
    errors.NotImplemented_: 12,
    errors.Unavailable: 14,
    errors.Unauthorized: 16,
}
_NO_SPACE = 28  # ENOSPC
REASONS = {
    101: b"UPGRADED",
    200: b"OK",
    201: b"Created",
    202: b"Accepted",
    204: b"No Content",
    301: b"Moved Permanently",
    304: b"Not Modified",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    409: b"Conflict",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
}


def message(text: str, status: int) -> Reply:
    """Docker's error body."""
    return Reply.json({"message": text}, status=status)


def unserved(method: str) -> Reply:
    """What an unknown path gets, and a known one with another method. OPTIONS is taken everywhere, and says nothing."""
    return Reply.empty(200) if method == "OPTIONS" else message("page not found", 404)


def answer(error: BaseException) -> Reply:
    """The answer that an exception of a handler means. Anything unforeseen is also reported on stderr."""
    for meaning in type(error).__mro__:
        status = STATUS.get(meaning)
        if status is not None:
            assert isinstance(error, errors.MoorageError)
            return Reply.empty(304) if status == 304 else message(error.message, status)
    if isinstance(error, OSError) and error.errno == _NO_SPACE:
        return message("no space left on device", 500)
    report(error)
    return message(f"server error: {type(error).__name__} (the service's journal has the details)", 500)


def report(error: BaseException) -> None:
    """Write an unforeseen error with its traceback to stderr, which is the journal."""
    journal.write("error", f"server error: {type(error).__name__}: {error}")
    sys.excepthook(type(error), error, error.__traceback__)
