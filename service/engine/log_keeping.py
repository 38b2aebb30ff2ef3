"""The duty `log`: a container's log is rotated while it runs (service.runtime.log_rotation), whoever else is alive."""

import time

from service.engine import log_config
from service.kernel.inotify import MODIFY, ONESHOT
from service.runtime.log_rotation import MOST, Rotation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.keeper import Keeper
    from service.model.container import Container


class LogKeeping:
    """Waits for the first write, looks, leaves the log alone for as long as the rotation says, and waits again."""

    def __init__(self, keeper: "Keeper", container: "Container") -> None:
        limits = log_config.limits(container["record"])
        assert limits is not None, "the duty is wanted only for a log with limits"
        self.loop = keeper.loop
        self.rotation = Rotation(keeper.settings, container["record"]["Id"], limits)
        self._watch = -1
        self._timer: object = None
        self._quiet = 0.0  # until when a write is no reason to look
        self._later()

    def look(self) -> None:
        """One look, and arrange for the next."""
        self._unwatch()
        self._quiet = time.monotonic() + MOST
        self._later()  # whatever happens now: no space, or the log is not there yet
        # before the look, so that what is written after it is told
        self._watch = self.loop.watch(self.rotation.log, MODIFY | ONESHOT, self._written)
        seconds, again = self.rotation.look()
        self._quiet = time.monotonic() + seconds
        if again:
            self._later()
        else:
            self.loop.cancel(self._timer)

    def changed(self, status: str) -> None:
        """A paused container writes nothing by itself."""

    def end(self) -> None:
        """It runs no more. A rotation that is under way is gone on with at its next start."""
        self._unwatch()
        self.loop.cancel(self._timer)

    def _written(self) -> None:
        self._unwatch()
        self._later()

    def _later(self) -> None:
        self.loop.cancel(self._timer)
        self._timer = self.loop.at(self._quiet, self.look)

    def _unwatch(self) -> None:
        if self._watch >= 0:
            self.loop.unwatch(self._watch)
            self._watch = -1
