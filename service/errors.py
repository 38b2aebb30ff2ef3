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


class InvalidParameter(MoorageError):
    """The request cannot mean anything."""


class Unauthorized(MoorageError):
    """Credentials are missing or wrong."""


class Forbidden(MoorageError):
    """Understood, and refused by a rule."""


class NotFound(MoorageError):
    """The object named does not exist."""


class Conflict(MoorageError):
    """The object's present state, or another object, forbids it."""


class NotModified(MoorageError):
    """It is already so; nothing was done."""


class NotImplemented_(MoorageError):  # noqa: N801, N818 - `NotImplemented` is a builtin
    """Understood, and not offered here."""


class Unavailable(MoorageError):
    """Cannot be served now; it may be later."""


class SystemFailure(MoorageError):
    """The machine, the runtime or a file failed."""


class StartRefused(InvalidParameter):
    """A process cannot be started as asked. `exit_code` is what Docker records: 127 no such command, 126 not runnable."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StartFailed(SystemFailure):
    """The runtime could not start a process, through no fault of the command. Docker records exit code 128."""

    exit_code = 128
