"""What conmon runs when a container, or an exec session, has ended: `python -I -S exit_hook.py …` (see runtime.conmon).

    exit_hook.py container CONTAINER-ID GENERATION
    exit_hook.py exec CONTAINER-ID EXEC-ID
    exit_hook.py restart CONTAINER-ID                run by the keeper: a restart policy has waited long enough

No service process need be alive. The settings come by the environment, which conmon hands on. Standard library only,
and little of it: this program is started for every container that ends.
"""

import sys

sys.path[:0] = [__file__.rpartition("/service/")[0]]  # -I leaves the script's folder out

from service.engine import exit as ended  # noqa: E402 - the path had to be set first
from service.settings import Settings  # noqa: E402 - as above
from service.store.database import Database  # noqa: E402 - as above

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: "Sequence[str]") -> None:
    """Do what the arguments say. What goes wrong is told to the system's log: nobody reads our stderr."""
    settings = Settings()
    database = Database(settings.database)
    if arguments[0] == "exec":
        from service.engine import exec_exit

        exec_exit.record_from_monitor(settings, database, arguments[1], arguments[2])
        return
    if arguments[0] == "restart":
        _restart(settings, database, arguments[1])
        return
    ended.conclude(settings, database, arguments[1], int(arguments[2]))


def _restart(settings: Settings, database: Database, container_id: str) -> None:
    from service.engine import launch
    from service.errors import MoorageError

    try:
        launch.start(settings, database, container_id, restarted=True)
    except (MoorageError, OSError):
        return  # the reason stands in the container's state, as dockerd keeps it


if __name__ == "__main__":
    from service import journal
    from service.errors import NotFound

    try:
        main(sys.argv[1:])
    except NotFound:
        pass  # the container was removed meanwhile: nothing is left to record
    except Exception as error:
        journal.failure(f"exit hook {' '.join(sys.argv[1:])}", error)
        raise
