"""Moments as a client writes them in `since` and `until`: a duration ago, RFC 3339 or a part of it, Unix seconds.

Read as dockerd does (moby: daemon/internal/timestamp), and refused in its words, which are those of Go's `time`.
"""

import time

from service.errors import InvalidParameter
from service.timestamps import nanoseconds

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_LARGEST = (1 << 63) - 1
_DIGITS = "0123456789"
_DATE, _ZONE = "2006-01-02", "Z07:00"
# Go's names for the parts of a moment: digits, and what a number may be at most (of a day the month decides)
_PARTS = {
    "2006": ("year", 9999), "01": ("month", 12), "02": ("day", 31), "15": ("hour", 23), "04": ("minute", 59),
    "05": ("second", 59),
}  # fmt: skip


def moment(text: str) -> int:
    """Nanoseconds since 1970. A moment without a zone is of this machine's. Raises InvalidParameter."""
    if text != "0":
        ago = duration(text)
        if ago is not None:
            return time.time_ns() - ago
    local = not any(sign in text for sign in "zZ+") and text.count("-") != 3
    try:
        return _Reader(text, _layout(text, local), local).moment()
    except InvalidParameter:
        if "-" in text:
            raise  # meant as a date
    seconds, _, fraction = text.partition(".")
    digits = seconds[1:] if seconds[:1] == "+" else seconds
    if not _all_digits(digits) or int(digits) > _LARGEST or (fraction and not _all_digits(fraction)):
        raise InvalidParameter(f'failed to parse value as time or duration: "{text}"')
    return int(digits) * 10**9 + int((fraction + "000000000")[:9])


def duration(text: str) -> "int | None":
    """The nanoseconds that a Go duration such as "1h30m" or "-1.5s" spells; None when it is none."""
    sign = -1 if text[:1] == "-" else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if not rest:
        return None
    total = 0
    while rest:
        number = rest[: len(rest) - len(rest.lstrip(_DIGITS + "."))]
        whole, _, fraction = number.partition(".")
        rest = rest[len(number) :]
        unit = next((unit for unit in ("ns", "us", "µs", "μs", "ms", "s", "m", "h") if rest.startswith(unit)), "")
        if not unit or not _all_digits(whole + fraction):
            return None
        rest = rest[len(unit) :]
        total += int(whole or 0) * _UNITS[unit] + int(fraction or 0) * _UNITS[unit] // 10 ** len(fraction)
        if total > _LARGEST:
            return None
    return sign * total


def _layout(text: str, local: bool) -> str:
    """The layout that Docker tries, by what the text has in it."""
    zone = "" if local else _ZONE
    if "." in text:
        return f"{_DATE}T15:04:05.999999999{zone}"
    if "T" not in text:
        return _DATE + zone
    colons = text.count(":")
    if not local and not any(sign in text for sign in "zZ") and colons:
        colons -= 1  # the one of the zone
    return _DATE + ("T15", "T15:04")[colons] + zone if colons < 2 else f"{_DATE}T15:04:05{zone}"


class _Reader:
    """A text against a layout of Go's: the same steps, so the same complaints."""

    def __init__(self, text: str, layout: str, local: bool) -> None:
        self.text, self.layout, self.local = text, layout, local
        self.rest = text
        self.found: dict[str, int] = {}
        self.fraction = ""
        self.offset = time.localtime().tm_gmtoff if local else 0  # seconds east of Greenwich

    def moment(self) -> int:
        layout = self.layout
        while layout:
            part = next((part for part in (*_PARTS, ".999999999", _ZONE) if layout.startswith(part)), "")
            literal = layout[: 1 if not part else 0]
            if part in _PARTS:
                self._number(part)
            elif part == _ZONE:
                self._zone()
            elif part:
                self._fraction()
            elif self.rest.startswith(literal):
                self.rest = self.rest[1:]
            else:
                self._refuse(self._literal(layout))
            layout = layout[len(part or literal) :]
        if self.rest:
            raise InvalidParameter(f'parsing time "{self.text}": extra text: "{self.rest}"')
        year, month, day = (self.found[part] for part in ("2006", "01", "02"))
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        if not 1 <= day <= (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]:
            self._out_of_range("day")
        hour, minute, second = (self.found.get(part, 0) for part in ("15", "04", "05"))
        whole = nanoseconds(f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
        return whole - self.offset * 10**9 + int((self.fraction + "000000000")[:9])

    def _number(self, part: str) -> None:
        width = 4 if part == "2006" else 2
        text = self.rest[:width]
        if part == "15" and len(text) == 2 and text[1] not in _DIGITS:
            text = text[0]  # an hour may have one digit
        if not _all_digits(text) or (len(text) < width and part != "15"):
            self._refuse(part)
        self.rest = self.rest[len(text) :]
        self.found[part] = int(text)
        name, most = _PARTS[part]
        if self.found[part] > most or (part == "01" and not self.found[part]):
            self._out_of_range(name)
        if part == "05" and self.rest[:1] in (".", ",") and self.rest[1:2] in tuple(_DIGITS):
            self._fraction()  # a fraction is read whether or not the layout has one

    def _fraction(self) -> None:
        if self.rest[:1] in (".", ",") and self.rest[1:2] in tuple(_DIGITS):
            digits = self.rest[1 : len(self.rest) - len(self.rest[1:].lstrip(_DIGITS))]
            self.fraction, self.rest = digits, self.rest[1 + len(digits) :]

    def _zone(self) -> None:
        if self.rest.startswith("Z"):
            self.rest = self.rest[1:]
            return
        text = self.rest[:6]
        if len(text) < 6 or text[0] not in "+-" or text[3] != ":" or not _all_digits(text[1:3] + text[4:6]):
            self._refuse(_ZONE)
        hours, minutes = int(text[1:3]), int(text[4:6])
        if hours > 24:
            self._out_of_range("time zone offset hour")
        if minutes > 60:
            self._out_of_range("time zone offset minute")
        self.offset = (hours * 60 + minutes) * (60 if text[0] == "+" else -60)
        self.rest = self.rest[6:]

    def _refuse(self, wanted: str) -> None:
        raise InvalidParameter(
            f'parsing time "{self.text}" as "{self.layout}": cannot parse "{self.rest}" as "{wanted}"'
        )

    def _out_of_range(self, what: str) -> None:
        raise InvalidParameter(f'parsing time "{self.text}": {what} out of range')

    @staticmethod
    def _literal(layout: str) -> str:
        """What Go calls the characters between two parts."""
        return layout[0]


def _all_digits(text: str) -> bool:
    return bool(text) and not text.strip(_DIGITS)
