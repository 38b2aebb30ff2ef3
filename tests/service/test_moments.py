"""Moments of `since` and `until`: each text was given to dockerd 26.1 as well, and its answer stands here."""

import time

import pytest

from service.errors import InvalidParameter
from service.moments import duration, moment

SECOND = 10**9


@pytest.fixture(autouse=True)
def greenwich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1700000000", 1_700_000_000 * SECOND),
        ("+5", 5 * SECOND),
        ("1.5", 3 * SECOND // 2),
        ("1700000000.1234567891", 1_700_000_000_123_456_789),
        ("1970-01-02", 86400 * SECOND),
        ("1970-01-02Z", 86400 * SECOND),
        ("1970-01-01T1", 3600 * SECOND),
        ("1970-01-01T01:02", 3720 * SECOND),
        ("1970-01-01T00:00:01Z", SECOND),
        ("1970-01-01T00:00:01.5Z", 3 * SECOND // 2),
        ("1970-01-01T00:00:01,5Z", 3 * SECOND // 2),
        ("1970-01-01T02:00:00+01:00", 3600 * SECOND),
        ("1970-01-01T02:00-01:00", 3 * 3600 * SECOND),
        ("1969-12-31", -86400 * SECOND),
        ("2024-02-29", 1_709_164_800 * SECOND),
    ],
)
def test_moments(text: str, nanoseconds: int) -> None:
    assert moment(text) == nanoseconds


def test_without_a_zone_it_is_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XXX-2")  # POSIX: two hours east
    time.tzset()
    assert moment("1970-01-01T03:00:00") == moment("1970-01-01T01:00:00Z")


@pytest.mark.parametrize("text", ["1h30m", "90m", "1.5h", "+1h30m", "5400s", "5400000ms", "1h29m59s999ms1000µs"])
def test_an_hour_and_a_half_ago(text: str) -> None:
    assert abs(moment(text) / SECOND - (time.time() - 5400)) < 5
    assert duration(text) == 5400 * SECOND


def test_a_negative_duration_is_still_to_come() -> None:
    assert moment("-1h") > time.time_ns() + 3500 * SECOND


@pytest.mark.parametrize("text", ["", "-", "5", "h", ".h", "1x", "1h1", "1h 1m", "1h-5m", "--1h", "9223372037s", "1d"])
def test_what_is_no_duration(text: str) -> None:
    assert duration(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, f'failed to parse value as time or duration: "{text}"') for text in (
            "", "foo", "1x", "1700000000.x", "99999999999999999999", ".5", "Z", "10:00", "1_000", " 1h", "2026/01/01",
        )),
        ("2026-13-01", 'parsing time "2026-13-01": month out of range'),
        ("2026-00-01", 'parsing time "2026-00-01": month out of range'),
        ("2026-02-30", 'parsing time "2026-02-30": day out of range'),
        ("2026-01-01T24:00:00Z", 'parsing time "2026-01-01T24:00:00Z": hour out of range'),
        ("2026-01-01T10:60:00Z", 'parsing time "2026-01-01T10:60:00Z": minute out of range'),
        ("2026-01-01T10:00:60Z", 'parsing time "2026-01-01T10:00:60Z": second out of range'),
        ("2026-01-01T10:00:00+25:00", 'parsing time "2026-01-01T10:00:00+25:00": time zone offset hour out of range'),
        ("-5", 'parsing time "-5" as "2006-01-02": cannot parse "-5" as "2006"'),
        ("2026-1-1", 'parsing time "2026-1-1" as "2006-01-02": cannot parse "1-1" as "01"'),
        ("2026-01", 'parsing time "2026-01" as "2006-01-02": cannot parse "" as "-"'),
        ("2026-01-01x", 'parsing time "2026-01-01x": extra text: "x"'),
        (
            "2026-01-01T10:00:00+0100",
            'parsing time "2026-01-01T10:00:00+0100" as "2006-01-02T15:04Z07:00": cannot parse ":00+0100" as "Z07:00"',
        ),
    ],
)  # fmt: skip
def test_what_is_no_moment(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        moment(text)
    assert error.value.message == message
