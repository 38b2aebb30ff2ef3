"""When the process may leave: nothing in flight, and quiet for the idle window.

What counts as in flight is known to those who hold it (stage 0, the server, `engine.held`); here is only the clock.
"""

import time
from posix import urandom

FIRST_REQUEST_GRACE = 5.0  # seconds that an accepted connection may stay silent before we leave without it
_JITTER = 0.2  # up to that share longer, so that a poller of the window's own period does not meet every exit


class Idle:
    """The quiet window, in seconds. It begins anew with every touch."""

    def __init__(self, window: float) -> None:
        self.window = window * (1 + _JITTER * urandom(1)[0] / 255)
        self.last = time.monotonic()

    def touch(self) -> None:
        """Something happened: a connection was accepted, a request answered."""
        self.last = time.monotonic()

    def remaining(self) -> float:
        """Seconds until the window is over; 0 when it is."""
        return max(0.0, self.last + self.window - time.monotonic())


def grace_left(accepted: float) -> float:
    """Seconds for which a connection accepted at `accepted` (monotonic) may still stay silent."""
    return max(0.0, accepted + FIRST_REQUEST_GRACE - time.monotonic())
