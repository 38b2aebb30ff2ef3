"""What a health check's configuration means, and what its results do."""

from typing import Any

import pytest

from service.engine import duty, health

SECOND = 1_000_000_000
STARTED = "2026-01-01T00:00:00Z"


def record(**check: Any) -> Any:
    return {"Config": {"Healthcheck": {"Test": ["CMD", "true"], **check}}}


def result(code: int, second: int = 0) -> Any:
    return {"Start": f"2026-01-01T00:00:{second:02}Z", "End": "", "ExitCode": code, "Output": ""}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, None),
        ({"Healthcheck": {}}, None),
        ({"Healthcheck": {"Interval": 5}}, None),
        ({"Healthcheck": {"Test": ["NONE"]}}, None),
        ({"Healthcheck": {"Test": ["WHAT", "x"]}}, None),
        ({"Healthcheck": {"Test": ["CMD", "a", "b"]}}, ["a", "b"]),
        ({"Healthcheck": {"Test": ["CMD"]}}, []),
        ({"Healthcheck": {"Test": ["CMD-SHELL", "a b"]}}, ["/bin/sh", "-c", "a b"]),
        ({"Healthcheck": {"Test": ["CMD-SHELL", "a b"]}, "Shell": ["bash", "-ec"]}, ["bash", "-ec", "a b"]),
    ],
)
def test_what_is_run(config: Any, words: Any) -> None:
    assert health.command(config) == words
    what: Any = {"Config": config, "HostConfig": {"LogConfig": {"Type": "none", "Config": {}}}, "EndpointsConfig": {}}
    assert duty.wanted(what, []) == ("" if words is None else "health")


def test_intervals() -> None:
    plain = record()
    assert health.interval(plain, health.STARTING, 0) == 30 * SECOND
    slow = record(StartPeriod=60 * SECOND, Interval=7 * SECOND)
    assert health.interval(slow, health.STARTING, 59 * SECOND) == 5 * SECOND
    assert health.interval(slow, health.STARTING, 60 * SECOND) == 7 * SECOND
    assert health.interval(slow, health.HEALTHY, 1 * SECOND) == 7 * SECOND


def follow(of: Any, codes: "list[int]") -> list[tuple[str, int]]:
    """The status and the streak after each result, one a second from the start on."""
    now: Any = {"Status": "starting", "FailingStreak": 0, "Log": []}
    seen = []
    for second, code in enumerate(codes):
        now = health.judge(of, now, result(code, second), STARTED)
        seen.append((now["Status"], now["FailingStreak"]))
    assert len(now["Log"]) == min(5, len(codes))
    return seen


def test_three_failures_in_a_row() -> None:
    assert follow(record(), [1, 1, 0, 2, -1, 1, 0]) == [
        ("starting", 1), ("starting", 2), ("healthy", 0), ("healthy", 1), ("healthy", 2), ("unhealthy", 3),
        ("healthy", 0),
    ]  # fmt: skip


def test_the_start_period_ends_with_the_first_success_or_its_time() -> None:
    assert follow(record(StartPeriod=2 * SECOND, Retries=1), [1, 1, 1]) == [
        ("starting", 0), ("starting", 0), ("unhealthy", 1)
    ]  # fmt: skip
    assert follow(record(StartPeriod=60 * SECOND, Retries=1), [1, 0, 1]) == [
        ("starting", 0), ("healthy", 0), ("unhealthy", 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"), (30 * SECOND, "30s"), (1_500_000_000, "1.5s"), (90 * SECOND, "1m30s"), (3600 * SECOND, "1h0m0s"),
        (3_661_100_000_000, "1h1m1.1s"), (400_000_000, "400ms"), (1_500_000, "1.5ms"), (2_000, "2µs"), (1, "1ns"),
        (60 * SECOND, "1m0s"), (1_001_000_000, "1.001s"),
    ],
)  # fmt: skip
def test_durations_as_go_prints_them(nanoseconds: int, text: str) -> None:
    assert health.go_duration(nanoseconds) == text
