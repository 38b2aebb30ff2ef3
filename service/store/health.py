"""The rows of `health`: how a container's probes went. One row per container that has been started with a probe."""

from service import jsontext
from service.store.database import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Result(TypedDict):
        """API: HealthcheckResult."""

        Start: str
        End: str
        ExitCode: int  # -1: the probe could not be run to its end
        Output: str

    class Health(TypedDict):
        """API: Health."""

        Status: str  # starting | healthy | unhealthy
        FailingStreak: int
        Log: list[Result]


def begin(database: Database, container_id: str) -> None:
    """A container starts: nothing is known of it, what earlier probes said is kept (as dockerd does)."""
    database.change(
        "INSERT INTO health VALUES (?, 'starting', 0, '[]') "
        "ON CONFLICT (container_id) DO UPDATE SET status = 'starting', failing_streak = 0",
        (container_id,),
    )


def rest(database: Database, container_id: str) -> None:
    """Nobody probes it (paused, ended): Docker shows that as unhealthy."""
    database.change("UPDATE health SET status = 'unhealthy' WHERE container_id = ?", (container_id,))


def put(database: Database, container_id: str, health: "Health") -> None:
    """Store what a probe has changed."""
    database.change(
        "UPDATE health SET status = ?, failing_streak = ?, log = ? WHERE container_id = ?",
        (health["Status"], health["FailingStreak"], jsontext.dumps(health["Log"]), container_id),
    )


def get(database: Database, container_id: str) -> "Health | None":
    """What is known of a container; None when it was never started with a probe."""
    row = database.row("SELECT status, failing_streak, log FROM health WHERE container_id = ?", (container_id,))
    return {"Status": row[0], "FailingStreak": row[1], "Log": jsontext.loads(row[2])} if row else None


def summaries(database: Database) -> "dict[str, tuple[str, int]]":
    """Container id → (status, failing streak), for lists."""
    return {
        row[0]: (row[1], row[2]) for row in database.rows("SELECT container_id, status, failing_streak FROM health")
    }
