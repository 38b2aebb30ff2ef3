"""Moments as Docker writes them: RFC 3339, UTC, nanoseconds. Without `datetime` (its import costs a cold process)."""

import time

NEVER = "0001-01-01T00:00:00Z"  # Go's zero time: "not yet"


def now() -> str:
    """This moment."""
    return rfc3339(time.time_ns())


def now_ns() -> int:
    """This moment in nanoseconds since 1970."""
    return time.time_ns()


def rfc3339(nanoseconds: int) -> str:
    """The moment that many nanoseconds after 1970, as Go's RFC3339Nano writes it (trailing zeros dropped)."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    moment = time.gmtime(seconds)
    year, month, day, hour, minute, second = moment[:6]
    text = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    return f"{text}.{fraction:09d}".rstrip("0") + "Z" if fraction else text + "Z"


def nanoseconds(text: str) -> int:
    """The inverse of `rfc3339`, for any offset. Raises ValueError when `text` is not such a moment."""
    if text == NEVER:
        return 0
    body, offset = text, 0
    if text[-1:] in "Zz":
        body = text[:-1]
    elif len(text) > 6 and text[-6] in "+-" and text[-3] == ":":
        body = text[:-6]
        offset = (int(text[-5:-3]) * 60 + int(text[-2:])) * 60 * (1 if text[-6] == "+" else -1)
    else:
        raise ValueError(f"not a moment of RFC 3339: {text!r}")
    whole, _, fraction = body.partition(".")
    if len(whole) != 19 or whole[10] not in "Tt ":
        raise ValueError(f"not a moment of RFC 3339: {text!r}")
    fields = (whole[0:4], whole[5:7], whole[8:10], whole[11:13], whole[14:16], whole[17:19])
    year, month, day, hour, minute, second = (int(field) for field in fields)
    return (_days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset) * 1_000_000_000 + int(
        (fraction + "000000000")[:9]
    )


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the proleptic Gregorian calendar (years counted from March, so February ends them)."""
    if month <= 2:
        year, month = year - 1, month + 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719469
