"""Checkpoints: what dockerd answers that is not experimental. None can be made here: an experimental engine says so."""

from compat_api.declaration import get, post
from compat_api.reply import Reply
from service import daemon_json
from service.errors import InvalidParameter, NotImplemented_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from service.engine.engine import Engine


def refusal(engine: "Engine") -> NotImplemented_:
    """Why there are none. Raises SystemFailure when daemon.json cannot be understood."""
    if daemon_json.read(engine.settings.daemon_json).experimental:
        return NotImplemented_("checkpoints are not offered by this engine")
    return NotImplemented_(
        "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to "
        "enable it."
    )


def refuse_start(engine: "Engine") -> None:
    """A start that names a checkpoint: raises what dockerd says that is not experimental, or that there are none."""
    if not daemon_json.read(engine.settings.daemon_json).experimental:
        raise InvalidParameter("checkpoint is only supported in experimental mode")
    raise refusal(engine)


@get("/containers/{id}/checkpoints")
def checkpoint_list(engine: "Engine", id: str) -> Reply:  # noqa: ARG001 - the path's
    """List checkpoints (not in Docker's description)."""
    raise refusal(engine)


@post("/containers/{id}/checkpoints")
async def checkpoint_create(engine: "Engine", id: str) -> Reply:  # noqa: ARG001 - the path's
    """Make a checkpoint (not in Docker's description)."""
    raise refusal(engine)
