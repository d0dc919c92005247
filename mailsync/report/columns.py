"""The one-line form of a message that 5.2.7 made: day, sender, subject in columns."""

from __future__ import annotations

import time
from unicodedata import category, east_asian_width

from ..header import address, decoded, first
from ..model import Head
from .printable import printable

SENDER, SUBJECT, ID = 22, 29, 65  # columns
LINE = 61  # what it is padded to, though a long subject makes it 63
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def message(head: Head | None) -> str:
    """Day of the internal date (local time), sender and subject, decoded and made printable; padded."""
    if head is None:
        return " " * LINE
    sender = _shown(address(first(head.header, b"from") or b""))
    subject = _shown(decoded(first(head.header, b"subject") or b""))
    return day(head.date) + fit(sender, SENDER) + " " + fit(subject, SUBJECT, SUBJECT - 2)


def day(date: int) -> str:
    """`Wed Jun  9 `: never in the user's language, so that scripts can rely on it."""
    try:
        when = time.localtime(date)
    except (OverflowError, OSError, ValueError):
        return " " * 11
    return f"{DAYS[when.tm_wday]} {MONTHS[when.tm_mon - 1]} {when.tm_mday:2} "


def fit(text: str, width: int, least: int | None = None) -> str:
    """The text in this many columns of a terminal: cut off, or padded with blanks to `least`, by default as many."""
    least = width if least is None else least
    if text.isascii():
        return text[:width].ljust(least)
    used, cut = 0, len(text)
    for n, char in enumerate(text):
        wide = _columns(char)
        if used + wide > width:
            cut = n
            break
        used += wide
    return text[:cut] + " " * (least - used)


def _columns(char: str) -> int:
    """How many a terminal gives this character. U+FE0F counts: it makes an emoji, two wide, of a narrow sign."""
    if category(char) in ("Mn", "Me") and char != "\ufe0f":
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def _shown(text: str) -> str:
    return printable(" ".join(text.split()))
