"""Where the messages of an mbox begin, and a uid for each. Pure: works on bytes, or on what gives them."""

from __future__ import annotations

import re
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..digest import blake2b
from ..model import Uid
from . import mboxtext as text
from .mboxtext import LONGEST_LINE, Source, Span, header_end, pieces

BLOCK = 256 * 1024
LEAD = 4096  # of a message, read at once: nearly all headers end in there


class Edit(NamedTuple):
    """What comes in the place of a part of the file."""

    start: int
    end: int
    new: bytes


# A search for the same as plain bytes takes half as long again.
_AFTER_BLANK = re.compile(rb"\n\n(?=From )")
_AFTER_BLANK_CRLF = re.compile(rb"\n\r?+\n(?=From )")
_LONGEST_MARK = len(b"\n\r\nFrom ")
_NO_EDIT = Edit(-1, -1, b"")


@dataclass(slots=True)
class _Names:
    """What was found while the first messages, or all of them, were named."""

    spans: dict[Uid, Span] = field(default_factory=dict)
    alike: dict[str, list[Span]] = field(default_factory=dict)  # by key; empty while all keys differ
    mixed: set[str] = field(default_factory=set)  # keys of messages whose content differs
    count: Counter[str] = field(default_factory=Counter)  # of equal messages


class Contents:
    """The messages of `data`; c-client's internal data is not among them. ValueError if it is no mbox."""

    def __init__(self, data: Source) -> None:
        self.data = data
        self.spans: list[Span] = []
        self._first = first_postmark(data)
        self.crlf = has_crlf(data, self._first)
        self._keys: list[str] = []
        self._names = _Names()
        self._scan(self._first)

    def __len__(self) -> int:
        return len(self.spans)

    def grow(self, data: Source) -> None:
        """Go on with the same file after something was appended to it."""
        self.data = data
        last = len(self.spans) - 1
        self._scan(self.spans[last].start if self.spans else self._first)
        if last >= 0:  # it may be shorter now by the blank line that has come after it
            self.spans[last], key = self.spans.pop(last + 1), self._keys.pop(last + 1)
            if key != self._keys[last]:  # it was a header without a line end
                self._keys[last] = key
                self._names = _Names()
            elif len(named := self._names.spans) == last + 1:
                named[next(reversed(named))] = self.spans[last]

    def edit(self, data: Source, edits: Sequence[Edit]) -> bool:
        """Go on with what became of the file by edits, in their order: messages removed, header blocks replaced.

        False if it must be read anew instead: the first message tells of the whole file.
        """
        if self.spans[0].start == self._first and edits[0].start < self.spans[0].after:
            return False
        self.data = data
        keys, spans = self._keys, self.spans
        same = bisect_right(spans, edits[0].start, key=lambda span: span.start) - 1
        self._keys, self.spans = keys[:same], spans[:same]
        self._names = _Names()
        by = 0
        left = iter((*edits, _NO_EDIT))
        edit = next(left)
        for key, (start, head, body, end, after) in zip(keys[same:], spans[same:], strict=True):
            if edit.start == start:
                by -= after - start
                edit = next(left)
                continue
            before = by
            if edit.start == head:
                by += len(edit.new) - (body - head)
                edit = next(left)
            self._keys.append(key)
            self.spans.append(Span(start + before, head + before, body + by, end + by, after + by))
        return True

    def names(self) -> dict[Uid, Span]:
        """Uids stay the same whatever happens to other messages and to flags.

        They are made of the header, and of length and checksum of the body: without the checksum, what comes later
        under the same header (a draft that was saved again) would change them. Where even that may not be enough (no
        Message-ID, or another message with the same) the content decides; equal messages are numbered.
        """
        names = self._names
        begin = len(names.spans)
        if begin < len(self.spans) and not names.alike:
            names.spans.update(zip(map(Uid, self._keys[begin:]), self.spans[begin:], strict=True))
            if len(names.spans) < len(self.spans):
                names.spans, begin = {}, 0
        if len(names.spans) < len(self.spans):
            self._tell_apart(begin)
        return names.spans

    def postmark(self, span: Span) -> bytes:
        return self.data[span.start : span.head]

    def raw_header(self, span: Span) -> bytes:
        """As it lies in the file, bookkeeping and all."""
        return self.data[span.head : span.body]

    def is_cut(self, span: Span) -> bool:
        """Whether the header is longer than the span says: too long."""
        return span.body < span.end and self.data[span.body : span.body + 1] not in (b"\n", b"\r")

    def takes_lines(self, span: Span) -> bool:
        """Whether lines can be put into the header; else the rest of it would be taken for the rest of them."""
        return span.head < span.body or not text.goes_on(self.data[span.head : span.head + 1])

    def separator(self) -> bytes:
        """What must be added to the file before a message can follow."""
        size = len(self.data)
        if self._first == size:
            return b""
        end = b"\r\n" if self.crlf else b"\n"
        tail = self.data[max(0, size - 3) : size]
        if tail.endswith(b"\n\n") or (self.crlf and tail == b"\n\r\n"):
            return b""
        return end if tail.endswith(b"\n") else end + end

    def _scan(self, start: int) -> None:
        for span, raw in messages(self.data, start, self.crlf):
            if span.start != self._first or not text.is_internal_data(self.postmark(span), raw):
                self.spans.append(span)
                self._keys.append(self._key(span, raw))

    def _tell_apart(self, begin: int) -> None:
        """Name the messages from there on; all of them if a key stands for another content now, too."""
        names = self._names
        mixed = len(names.mixed)
        for key, span in zip(self._keys[begin:], self.spans[begin:], strict=True):
            alike = names.alike.setdefault(key, [])
            alike.append(span)
            if len(alike) > 1 and key not in names.mixed and self._digest(span) != self._digest(alike[0]):
                names.mixed.add(key)
        if len(names.mixed) > mixed:
            names.spans, names.count, begin = {}, Counter(), 0
        for key, span in zip(self._keys[begin:], self.spans[begin:], strict=True):
            name = f"{key}-{self._digest(span)}" if key in names.mixed else key
            count = names.count[name]
            names.spans[Uid(f"{name}.{count}" if count else name)] = span
            names.count[name] = count + 1

    def _key(self, span: Span, raw: bytes) -> str:
        header = text.without_bookkeeping(raw)
        digest = blake2b(header, digest_size=8).hexdigest()
        if b"essage-I" not in header and b"message-id" not in header.lower():
            return f"{digest}-{self._digest(span)}"
        end = self._body_end(span)
        return f"{digest}-{end - span.body}-{self._sum(span.body, end):x}"

    def _sum(self, start: int, end: int) -> int:
        found = 0
        for piece in pieces(self.data, start, end):
            found = zlib.crc32(piece, found)
        return found

    def _digest(self, span: Span) -> str:
        digest = blake2b(digest_size=8)
        for piece in pieces(self.data, span.body, self._body_end(span)):
            digest.update(piece)
        return digest.hexdigest()

    def _body_end(self, span: Span) -> int:
        """Without the line ends at the end: whoever appends the next message adds to them."""
        end = span.end
        size = 64
        while end > span.body:
            tail = self.data[max(span.body, end - size) : end]
            kept = len(tail.rstrip(b"\r\n"))
            end -= len(tail) - kept
            if kept:
                break
            size = min(2 * size, text.CHUNK)
        return end


def first_postmark(data: Source) -> int:
    """Where the first message begins; the length of `data` if there is none. ValueError if it is no mbox.

    Blank lines before the first message are tolerated.
    """
    lead = data[: text.CHUNK]
    at = len(lead) - len(lead.lstrip(b"\r\n"))
    if at < len(data) and not _head(data, at, data[at : at + LEAD]):
        raise ValueError("it does not begin with a postmark")
    return at


def has_crlf(data: Source, start: int) -> bool:
    """Whether the lines of a file end in CRLF; its first postmark tells."""
    end = data.find(b"\n", start, start + LONGEST_LINE)
    return end > 0 and data[end - 1 : end] == b"\r"


def messages(data: Source, start: int, crlf: bool) -> Iterator[tuple[Span, bytes]]:
    """The messages from `start` on, where one begins: each line that looks like a postmark, after a blank line.

    With their header blocks. Content-Length is not asked: it is wrong wherever a tool changed a message without knowing
    of it.
    """
    if start >= len(data):
        return
    lead = data[start : start + LEAD]
    head = _head(data, start, lead)
    for end, after in _candidates(data, crlf, head - 1):
        next_lead = data[after : after + LEAD]
        following = _head(data, after, next_lead)
        if following:
            yield _message(data, lead, start, head, end, after)
            start, head, lead = after, following, next_lead
    size = end = len(data)
    tail = data[max(head - 1, size - 3) : size]
    if tail.endswith(b"\n\n"):
        end -= 1
    elif crlf and tail == b"\n\r\n":
        end -= 2
    yield _message(data, lead, start, head, end, size)


def _candidates(data: Source, crlf: bool, begin: int) -> Iterator[tuple[int, int]]:
    """Where a message may end and the next one begin."""
    search = (_AFTER_BLANK_CRLF if crlf else _AFTER_BLANK).finditer
    size = len(data)
    for base in range(begin, size, BLOCK):
        for found in search(data[base : min(base + BLOCK + _LONGEST_MARK - 1, size)]):
            if found.start() < BLOCK:
                yield base + found.start() + 1, base + found.end()


def _message(data: Source, lead: bytes, start: int, head: int, end: int, after: int) -> tuple[Span, bytes]:
    """`lead`: the first bytes of the message, where nearly all headers end."""
    skip = head - start
    blank = lead.find(b"\n\n", skip - 1) + 1
    if blank and start + blank + 2 <= end and lead.find(b"\r", skip, blank) < 0:
        return Span(start, head, start + blank, end, after), lead[skip:blank]
    body = header_end(data, head, end)
    return Span(start, head, body, end, after), data[head:body]


def _head(data: Source, start: int, lead: bytes) -> int:
    """Where the header block begins that follows the postmark at `start`; 0 if there is none."""
    end = lead.find(b"\n", 0, LONGEST_LINE)
    if end < 0:
        end = len(data) - start
        if end > LONGEST_LINE:
            return 0
    return min(start + end + 1, len(data)) if text.is_postmark(lead[:end]) else 0
