"""Dates as IMAP writes them (RFC 3501, 9, date-time). Pure."""

from __future__ import annotations

import re
import time
from functools import lru_cache

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_DATE = re.compile(
    rb"\s?(\d{1,2}-(?:" + b"|".join(_MONTHS) + rb")-\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)",
    re.IGNORECASE,
)
_DAYS_BEFORE = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)  # in a year that is no leap year
_EPOCH = 719163  # 1 January 1970, when 1 January of the year 1 is 1


def internal_date(date: int) -> bytes:
    """A date-time of IMAP (RFC 3501, 9), in UTC; one that it cannot say becomes the nearest that it can."""
    at = time.gmtime(min(max(date, 0), 253402300799))
    text = time.strftime("%d-@-%Y %H:%M:%S +0000", at).replace("@", _MONTHS[at.tm_mon - 1].decode())
    return f'"{text}"'.encode()


def parse_date(raw: bytes) -> int | None:
    """Seconds since the epoch; None for what is no date. The day may have a blank before it, or one digit (Cyrus)."""
    found = _DATE.fullmatch(raw)
    if not found:
        return None
    day, hour, minute, second, sign, hours, minutes = found.groups()
    midnight = _midnight(day)
    if midnight is None:
        return None
    at = midnight + int(hour) * 3600 + int(minute) * 60 + int(second)
    offset = int(hours) * 3600 + int(minutes) * 60
    return at + offset if sign == b"-" else at - offset


@lru_cache(maxsize=4096)
def _midnight(raw: bytes) -> int | None:
    """Of a day, in UTC: there are fewer days than messages."""
    day, month, year = raw.split(b"-")
    return _days_to(int(year), _MONTHS.index(month.title()), int(day)) * 86400 if int(year) else None


def _days_to(year: int, month: int, day: int) -> int:
    """Since the epoch. As calendar.timegm, whose import costs as much as ten thousand dates; January is 0."""
    leaps = year - (month < 2)  # years whose 29 February may be over
    days = (year - 1) * 365 + leaps // 4 - leaps // 100 + leaps // 400 + _DAYS_BEFORE[month] + day
    return days - _EPOCH
