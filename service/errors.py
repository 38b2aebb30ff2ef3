"""What can go wrong, by meaning. The HTTP status of each meaning stands in `compat_api/errors.py` only.

    MoorageError
    ├── InvalidParameter   the request cannot mean anything (a bad value, a bad name)
    ├── Unauthorized       credentials are missing or wrong
    ├── Forbidden          understood, and refused by a rule
    ├── NotFound           the object named does not exist
    ├── Conflict           the object's present state (or another object) forbids it
    ├── NotModified        it is already so; nothing was done
    ├── NotImplemented_    understood, and not offered here
    ├── Unavailable        cannot be served now; it may be later
    └── SystemFailure      the machine, the runtime or a file failed us

Every message is the sentence that the user of a Docker client sees, so it is written as dockerd writes it.
Standard library only: the exit hook imports this module.
"""


class MoorageError(Exception):
    """An error with a message for the user. Raise a subclass."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidParameter(MoorageError):  # noqa: N818 - Docker's own word for the meaning
    """The request cannot mean anything."""


class Unauthorized(MoorageError):  # noqa: N818 - Docker's own word for the meaning
    """Credentials are missing or wrong."""


class Forbidden(MoorageError):  # noqa: N818 - Docker's own word for the meaning
    """Understood, and refused by a rule."""


class NotFound(MoorageError):  # noqa: N818 - Docker's own word for the meaning
    """The object named does not exist."""


class Conflict(MoorageError):  # noqa: N818 - Docker's own word for the meaning
    """The object's present state, or another object, forbids it."""


class NotModified(MoorageError):  # noqa: N818 - Docker's own word for the meaning
    """It is already so; nothing was done."""


class NotImplemented_(MoorageError):  # noqa: N801, N818 - `NotImplemented` is a builtin
    """Understood, and not offered here."""


class Unavailable(MoorageError):  # noqa: N818 - Docker's own word for the meaning
    """Cannot be served now; it may be later."""


class SystemFailure(MoorageError):  # noqa: N818 - Docker's own word for the meaning
    """The machine, the runtime or a file failed."""


class StartRefused(InvalidParameter):
    """A process cannot be started as asked. `exit_code` as Docker records it: 127 no such command, 126 not runnable."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StartFailed(SystemFailure):
    """The runtime could not start a process, through no fault of the command. Docker records exit code 128."""

    exit_code = 128
