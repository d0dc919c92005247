"""The bytes of a message in an mbox: postmark, quoting, Status lines. Pure: knows no file, lock or mailbox.

Written is mboxrd: each line `>*From ` gets one more `>`. Read are mboxrd and mboxo alike. Flags lie in Status, X-Status
and X-Keywords, with c-client's letters; these lines and the ones that other programs number messages with are
*bookkeeping*: no part of the message.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from typing import NamedTuple, Protocol

from ..header import last_field, parts
from ..model import ANSWERED, DELETED, DRAFT, FLAGGED, NONE, SEEN, Flags

LONGEST_LINE = 1000  # of a postmark
LONGEST_HEAD = 1024 * 1024  # what has no blank line up to here has no more header than this; flags stand before
CHUNK = 1024 * 1024

_LETTERS = {b"status": {"R": SEEN}, b"x-status": {"A": ANSWERED, "F": FLAGGED, "T": DRAFT, "D": DELETED}}
_NAMES = {b"status": b"Status", b"x-status": b"X-Status", b"x-keywords": b"X-Keywords"}
_MONTHS = b"jan feb mar apr may jun jul aug sep oct nov dec".split()
_ZONES = {b"UT": 0, b"UTC": 0, b"GMT": 0, b"Z": 0, b"WET": 0, b"BST": 1, b"CET": 1, b"MET": 1, b"CEST": 2, b"MEST": 2}
_ZONES |= {b"EST": -5, b"EDT": -4, b"CST": -6, b"CDT": -5, b"MST": -7, b"MDT": -6, b"PST": -8, b"PDT": -7}
_EARLIEST, _LATEST = -30610224000, 253402300799  # years of four digits

# From SENDER Mon Jan  1 10:00[:00] [ZONE] 2024 [ZONE] [remote from HOST]: what c-client takes for one.
_POSTMARK = re.compile(
    rb"From (?P<sender>.*?)[ \t]*\b(?:sun|mon|tue|wed|thu|fri|sat)[ \t]+(?P<month>" + b"|".join(_MONTHS) + rb")[ \t]+"
    rb"(?P<day>[ 0-3]?\d)[ \t]+(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d))?"
    rb"(?:[ \t]+(?P<before>[a-z]{1,5}|[+-]\d{4}))?[ \t]+(?P<year>\d{4})(?:[ \t]+(?P<after>[a-z]{1,5}|[+-]\d{4}))?"
    rb"(?:[ \t]+remote from .*)?\s*",
    re.IGNORECASE,
)
# What most postmarks are, and nothing else: five times faster.
_USUAL = re.compile(
    rb"From [^ \n]{1,200} (?:Sun|Mon|Tue|Wed|Thu|Fri|Sat) (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) "
    rb"[ 0-3]\d \d\d:\d\d:\d\d \d{4}(?: [+-]\d{4})?\r?"
)
_BOOKKEEPING = re.compile(
    rb"\n(?=[sx])(status|x-(?:status|keywords|uid|imap(?:base)?))[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)", re.IGNORECASE
)
_BLANK_LINE = re.compile(rb"\n\r?\n")
_NEXT_FIELD = re.compile(rb"\n(?=[^ \t\r])")
_LONE_LF = re.compile(rb"(?<!\r)\n|(?<=\r\r)\n")
_ESCAPED = re.compile(rb"%([0-9A-F]{2})")
_NOT_PLAIN = re.compile(rb"[\x00-\x20\x7f%]")


class Source(Protocol):
    """bytes, or a file that gives them."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...
    def find(self, part: bytes, start: int, end: int, /) -> int: ...
    def rfind(self, part: bytes, start: int, end: int, /) -> int: ...


class Span(NamedTuple):
    """Where one message lies. From `end` to `after` there is only the blank line that separates it from the next."""

    start: int  # of the postmark
    head: int  # of the header block
    body: int  # of the blank line after it
    end: int
    after: int


# ---- postmarks -------------------------------------------------------------------------------------------------------


def is_postmark(line: bytes) -> bool:
    return line.startswith(b"From ") and (_USUAL.fullmatch(line) or _POSTMARK.fullmatch(line)) is not None


def postmark(date: int) -> bytes:
    """The line that begins a message, as c-client writes it; the time is UTC."""
    shown = time.asctime(time.gmtime(min(max(date, _EARLIEST), _LATEST)))
    return f"From MAILER-DAEMON {shown} +0000\n".encode()


def postmark_date(line: bytes) -> int | None:
    """Seconds since the epoch; local time where it names no zone that we know. None if there is no such date."""
    found = _POSTMARK.fullmatch(line)
    if not found:
        return None
    month = _MONTHS.index(found["month"].lower()) + 1
    year, day, hour, minute, second = (int(found[part] or 0) for part in ("year", "day", "hour", "minute", "second"))
    if not (1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        return None
    offset = _offset(found["after"] or found["before"] or b"")
    if offset is None:
        try:
            return int(time.mktime((year, month, day, hour, minute, second, 0, 0, -1)))
        except (OverflowError, ValueError):
            return None
    return _days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset


def _offset(zone: bytes) -> int | None:
    if zone[:1] in (b"+", b"-"):
        seconds = int(zone[1:3]) * 3600 + int(zone[3:]) * 60
        return -seconds if zone.startswith(b"-") else seconds
    hours = _ZONES.get(zone.upper())
    return None if hours is None else hours * 3600


def _days(year: int, month: int, day: int) -> int:
    """From the epoch. The year begins in March here, so that its odd day comes last."""
    if month <= 2:
        year, month = year - 1, month + 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day - 719469


# ---- bookkeeping -----------------------------------------------------------------------------------------------------


def without_bookkeeping(header: bytes) -> bytes:
    """The header block as the message has it."""
    return _BOOKKEEPING.sub(b"", b"\n" + header)[1:]


def is_internal_data(line: bytes, header: bytes) -> bool:
    """Whether the first message is none, but where c-client keeps its numbers."""
    fields = {found[1].lower() for found in _BOOKKEEPING.finditer(b"\n" + header)}
    return b"x-imap" in fields and (line.startswith(b"From MAILER-DAEMON") or b"FOLDER INTERNAL DATA" in header)


def numbering(header: bytes) -> bytes:
    """The line that holds the UIDVALIDITY that IMAP servers gave this file, in its first message; else empty."""
    for found in _BOOKKEEPING.finditer(b"\n" + header):
        if found[1].lower() == b"x-imapbase":
            return found[0][1:] + b"\n"
    return b""


def flags_of(header: bytes) -> Flags:
    return parted(header)[1]


def parted(header: bytes) -> tuple[bytes, Flags]:
    """The header block as the message has it, and the flags that stand in its bookkeeping."""
    parts = _BOOKKEEPING.split(b"\n" + header)
    if len(parts) == 1:
        return header, NONE
    fields = [field for field in zip(parts[1::3], parts[2::3], strict=True) if field[0].lower() in _NAMES]
    return b"".join(parts[::3])[1:], _flags(tuple(fields))


@lru_cache(maxsize=1024)
def _flags(fields: tuple[tuple[bytes, bytes], ...]) -> Flags:
    flags: set[str] = set()
    for field, value in fields:
        name = field.lower()
        if name == b"x-keywords":
            flags.update(map(_keyword, value.split()))
        else:
            letters = value.decode("latin-1")
            flags.update(flag for letter, flag in _LETTERS.get(name, {}).items() if letter in letters)
    return frozenset(flags)


def bookkeeping(flags: Flags) -> bytes:
    """The lines that stand before a new message's own header."""
    values = {name: _value(name, b"O" if name == b"status" else b"", flags, NONE) for name in _NAMES}
    return b"".join(_NAMES[name] + b": " + value + b"\n" for name, value in values.items() if value)


def goes_on(header: bytes) -> bool:
    """Whether its first line would be the rest of a line that is put before it."""
    return header.startswith((b" ", b"\t"))


def with_first(lines: bytes, header: bytes) -> bytes:
    """Put lines before the header block; if it begins as if it went on, after that: they would take its first line."""
    if not lines or not goes_on(header):
        return lines + header
    if first := _NEXT_FIELD.search(header):
        return header[: first.end()] + lines + header[first.end() :]
    last = header.rfind(b"\n") + 1
    if header[last:].strip(b"\r"):
        return header + b"\n" + lines
    return header[:last] + lines + header[last:]  # a CR that ends it would become a blank line, the end of the header


def with_flags(header: bytes, add: Flags, remove: Flags, *, crlf: bool = False) -> bytes:
    """Change flags in the header block of a message. All other bytes stay, and the length where there is room.

    Letters that we do not know stay, too. Keywords are the same in any case of letters.
    """
    text = b"\n" + header
    old: dict[bytes, bytes] = {}
    for found in _BOOKKEEPING.finditer(text):
        old[found[1].lower()] = old.get(found[1].lower(), b"") + b" " + found[2]
    new = {name: _value(name, old.get(name, b""), add, remove) for name in _NAMES}
    changed = {name: value for name, value in new.items() if value != _value(name, old.get(name, b""), NONE, NONE)}
    written: set[bytes] = set()

    def line(found: re.Match[bytes]) -> bytes:
        name = found[1].lower()
        if name not in changed:
            return found[0]
        if name in written:  # a second line of that name: its letters are in the first one now
            return b""
        written.add(name)
        end = b"\r" if found[0].endswith(b"\r") else b""
        return (b"\n" + found[1] + b": " + changed[name]).ljust(len(found[0]) - len(end)) + end

    text = _BOOKKEEPING.sub(line, text)
    end = b"\r\n" if crlf else b"\n"
    lines = (_NAMES[name] + b": " + value + end for name, value in changed.items() if name not in written)
    return with_first(b"".join(lines), text[1:])


def _value(name: bytes, old: bytes, add: Flags, remove: Flags) -> bytes:
    """What stands after the colon."""
    if name in _LETTERS:
        letters = {flag: letter.encode() for letter, flag in _LETTERS[name].items()}
        kept = b"".join(old.split()).translate(None, b"".join(letters[flag] for flag in letters if flag in remove))
        return b"".join(letters[flag] for flag in letters if flag in add and letters[flag] not in kept) + kept
    taken = {flag.lower() for flag in remove}
    words = {_keyword(word).lower(): word for word in old.split()}
    words |= {
        flag.lower(): _word(flag) for flag in sorted(add) if flag[:1] not in ("", "\\") and flag.lower() not in words
    }
    return b" ".join(word for flag, word in words.items() if flag not in taken)


def _keyword(word: bytes) -> str:
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), word).decode("utf-8", "surrogateescape")


def _word(keyword: str) -> bytes:
    raw = keyword.encode("utf-8", "surrogateescape")
    return _NOT_PLAIN.sub(lambda found: b"%%%02X" % found[0][0], raw)


# ---- a message and its bytes -----------------------------------------------------------------------------------------


def header_end(data: Source, begin: int, end: int) -> int:
    """Where the blank line after a header block begins; `end` if there is none.

    Where the header is too long: where its last field begins that is not, so that lines can be put before that.
    """
    if data[begin : begin + 1] == b"\n" or data[begin : begin + 2] == b"\r\n":
        return begin
    limit = min(end, begin + LONGEST_HEAD)
    at = data.find(b"\n\n", begin, limit)
    other = data.find(b"\n\r\n", begin, at if at >= 0 else limit)
    if other >= 0 or at >= 0:
        return (other if other >= 0 else at) + 1
    if limit == end:
        return end
    at = last_field(data[begin:limit], LONGEST_HEAD - 1)
    return begin + at + 1 if at else begin


def plain_header(raw: bytes, crlf: bool) -> tuple[bytes, Flags]:
    """The header block of the message, nothing in it there because it lies in an mbox; and its flags."""
    header, flags = parted(raw)
    if crlf:
        header = header.replace(b"\r\n", b"\n")
    return b"".join(_unquoted([header])) if b">From " in header else header, flags


def plain(data: Source, span: Span, crlf: bool) -> Iterator[bytes]:
    """The message as it would lie in a file of its own."""
    chunks = chain((without_bookkeeping(data[span.head : span.body]),), pieces(data, span.body, span.end))
    return _unquoted(_to_lf(chunks) if crlf else chunks)


def stored(chunks: Iterable[bytes], flags: Flags, date: int, crlf: bool) -> Iterator[bytes]:
    """A message as it lies in an mbox, from its postmark to the blank line after it."""
    text = chain((postmark(date),), _quoted(_with_bookkeeping(chunks, bookkeeping(flags))))
    last = b"\n"
    for chunk in _to_crlf(text) if crlf else text:
        if chunk:
            last = chunk[-1:]
            yield chunk
    end = b"\r\n" if crlf else b"\n"
    yield end if last == b"\n" else end + end


def _with_bookkeeping(chunks: Iterable[bytes], lines: bytes) -> Iterator[bytes]:
    """A message with these lines, and without those of its own."""
    dropping = False  # what is more of a field that goes
    for part, text in parts(chunks, _BLANK_LINE):
        if part in ("fields", "begin"):
            own = without_bookkeeping(text)
            dropping = part == "begin" and not own
            yield own if part == "begin" and goes_on(own) else with_first(lines, own)
            lines = b""
        elif part == "body" or not dropping:
            yield text


def pieces(data: Source, begin: int, end: int) -> Iterator[bytes]:
    for at in range(begin, end, CHUNK):
        yield data[at : min(at + CHUNK, end)]


def _quoted(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk, marks in _marks(chunks):
        at = 0
        for start, _ in marks:
            yield chunk[at:start] + b">"
            at = start
        yield chunk[at:] if at else chunk


def _unquoted(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk, marks in _marks(chunks):
        at = 0
        for start, word in marks:
            if word > start:
                yield chunk[at:start]
                at = start + 1
        yield chunk[at:] if at else chunk


def _marks(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, list[tuple[int, int]]]]:
    """The same bytes, with where lines `>*From ` begin and where their `From ` does."""
    held = b""
    begins = True  # a line
    for chunk in chain(chunks, (None,)):
        data = held + (chunk or b"")
        tail = data.rfind(b"\n") + 1
        held = b""
        # A line that may become `>*From ` waits for what comes next.
        if chunk is not None and (tail or begins) and len(data) - tail < CHUNK and _may_be_from(data[tail:]):
            data, held = data[:tail], data[tail:]
        if not data:
            continue
        marks: list[tuple[int, int]] = []
        word = data.find(b"From ")
        while word >= 0:
            start = word
            while start and data[start - 1] == ord(">"):
                start -= 1
            if data[start - 1 : start] == b"\n" if start else begins:
                marks.append((start, word))
            word = data.find(b"From ", word + 5)
        yield data, marks
        begins = data.endswith(b"\n")


def _may_be_from(line: bytes) -> bool:
    return len(line) > 0 and b"From ".startswith(line.lstrip(b">"))


def _to_lf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    held = b""
    for chunk in chunks:
        data = held + chunk
        held = b"\r" if data.endswith(b"\r") else b""
        yield data[: len(data) - len(held)].replace(b"\r\n", b"\n")
    yield held


def _to_crlf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """What `_to_lf` makes the same again: CRLF stays, but a line that ends in more than one CR gets yet another."""
    held = b""
    for chunk in chunks:
        data = held + chunk
        held = data[max(len(data.rstrip(b"\r")), len(data) - 2) :]
        yield _LONE_LF.sub(b"\r\n", data[: len(data) - len(held)])
    yield held
