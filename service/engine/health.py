"""Health checks: what a configuration asks for, and what a probe's result means (API: HealthConfig, Health).

The probes are run by the keeper (`engine.probes`). Source of the rules: moby daemon/health.go.
"""

from service import timestamps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from service.model.container import ContainerRecord
    from service.settings import Settings
    from service.store.health import Health, Result

_SECOND = 1_000_000_000
_DEFAULTS = {
    "Interval": 30 * _SECOND,
    "Timeout": 30 * _SECOND,
    "StartPeriod": 0,
    "StartInterval": 5 * _SECOND,
}  # nanoseconds
_RETRIES = 3
_KEPT = 5  # results
OUTPUT_MAX = 4096  # bytes of a probe's output that are kept
STARTING, HEALTHY, UNHEALTHY, NONE = "starting", "healthy", "unhealthy", "none"


def command(config: "dict[str, Any]") -> "list[str] | None":
    """The words to run, None for a container without probes. Empty: it asks for one and names no command."""
    test = (config.get("Healthcheck") or {}).get("Test") or []
    if not test or test[0] not in ("CMD", "CMD-SHELL"):
        return None
    if test[0] == "CMD-SHELL" and test[1:]:
        return [*(config.get("Shell") or ("/bin/sh", "-c")), *test[1:]]
    return list(test[1:])


def folder(settings: "Settings", container_id: str) -> str:
    """Where the launch leaves the process spec of the probe (process.json), and each probe its pid and log."""
    return settings.container_run(container_id) + "/health"


def duration(record: "ContainerRecord", key: str) -> int:
    """One of the four durations of a container's check, in nanoseconds."""
    return int((record["Config"].get("Healthcheck") or {}).get(key) or _DEFAULTS[key])


def interval(record: "ContainerRecord", status: str, since_start: int) -> int:
    """Nanoseconds from the end of one probe (or the start) to the next: shorter while it is starting."""
    starting = since_start < duration(record, "StartPeriod") and status == STARTING
    return duration(record, "StartInterval" if starting else "Interval")


def judge(record: "ContainerRecord", health: "Health", result: "Result", started_at: str) -> "Health":
    """What is known after one more probe. A failure within the start period of a container that has never been
    healthy counts for nothing."""
    status, streak = health["Status"], health["FailingStreak"]
    if result["ExitCode"] == 0:
        status, streak = HEALTHY, 0
    else:
        since_start = timestamps.nanoseconds(result["Start"]) - timestamps.nanoseconds(started_at)
        if status != STARTING or since_start >= duration(record, "StartPeriod"):
            streak += 1
            retries = record["Config"]["Healthcheck"].get("Retries") or _RETRIES
            if streak >= retries:
                status = UNHEALTHY
    return {"Status": status, "FailingStreak": streak, "Log": [*health["Log"], result][-_KEPT:]}


def go_duration(nanoseconds: int) -> str:
    """A duration as Go prints it: 1m30s, 1.5s, 100ms."""
    if nanoseconds < _SECOND:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000)):
            if nanoseconds >= size:
                return _decimal(nanoseconds, size) + unit
        return f"{nanoseconds}ns" if nanoseconds else "0s"
    minutes, rest = divmod(nanoseconds, 60 * _SECOND)
    hours, minutes = divmod(minutes, 60)
    shown = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return shown + _decimal(rest, _SECOND) + "s"


def _decimal(number: int, unit: int) -> str:
    whole, fraction = divmod(number, unit)
    return f"{whole}.{str(unit + fraction)[1:]}".rstrip("0").rstrip(".") if fraction else str(whole)
