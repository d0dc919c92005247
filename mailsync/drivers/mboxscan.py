"""Where the messages of an mbox begin, and a uid for each. Pure: works on bytes or on a map of the file."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from heapq import merge

from ..model import Uid
from . import mboxtext as text
from .mboxtext import LONGEST_LINE, Source, Span, header_end


class Contents:
    """The messages of `data`; c-client's internal data is not among them. ValueError if it is no mbox."""

    def __init__(self, data: Source) -> None:
        self.data = data
        self.spans: list[Span] = []
        self._first = first_postmark(data)
        self.crlf = has_crlf(data, self._first)
        self._keys: list[str] = []
        self._named: dict[Uid, Span] | None = None
        self._scan(self._first)

    def grow(self, data: Source) -> None:
        """Go on with the same file after something was appended to it."""
        self.data = data
        start = self._first
        if self.spans:  # the last one may be shorter now by the blank line that has come after it
            start = self.spans.pop().start
            self._keys.pop()
        self._named = None
        self._scan(start)

    def names(self) -> dict[Uid, Span]:
        """Uids stay the same whatever happens to other messages and to flags.

        They are made of the header and the length of the body. Where that may not be enough (no Message-ID, or another
        message with the same) the content decides; equal messages are numbered.
        """
        if self._named is None:
            of_key: dict[str, list[Span]] = defaultdict(list)
            for key, span in zip(self._keys, self.spans, strict=True):
                of_key[key].append(span)
            mixed = {key for key, same in of_key.items() if len(same) > 1 and len(set(map(self._digest, same))) > 1}
            count: Counter[str] = Counter()
            self._named = {}
            for key, span in zip(self._keys, self.spans, strict=True):
                name = f"{key}-{self._digest(span)}" if key in mixed else key
                self._named[Uid(f"{name}.{count[name]}" if count[name] else name)] = span
                count[name] += 1
        return self._named

    def postmark(self, span: Span) -> bytes:
        return self.data[span.start : span.head]

    def raw_header(self, span: Span) -> bytes:
        """As it lies in the file, bookkeeping and all."""
        return self.data[span.head : span.body]

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
        for span in spans(self.data, start, self.crlf):
            raw = self.raw_header(span)
            if span.start != self._first or not text.is_internal_data(self.postmark(span), raw):
                self.spans.append(span)
                self._keys.append(self._key(span, raw))

    def _key(self, span: Span, raw: bytes) -> str:
        header = text.without_bookkeeping(raw)
        digest = hashlib.blake2b(header, digest_size=8).hexdigest()
        if b"message-id" not in header.lower():
            return f"{digest}-{self._digest(span)}"
        return f"{digest}-{self._body_end(span) - span.body}"

    def _digest(self, span: Span) -> str:
        digest = hashlib.blake2b(digest_size=8)
        for at in range(span.body, end := self._body_end(span), text.CHUNK):
            digest.update(self.data[at : min(at + text.CHUNK, end)])
        return digest.hexdigest()

    def _body_end(self, span: Span) -> int:
        """Without the line ends at the end: whoever appends the next message adds to them."""
        end = span.end
        while end > span.body:
            tail = self.data[max(span.body, end - 64) : end]
            kept = len(tail.rstrip(b"\r\n"))
            end -= len(tail) - kept
            if kept:
                break
        return end


def first_postmark(data: Source) -> int:
    """Where the first message begins; the length of `data` if there is none. ValueError if it is no mbox.

    Blank lines before the first message are tolerated.
    """
    lead = data[: text.CHUNK]
    at = len(lead) - len(lead.lstrip(b"\r\n"))
    if at < len(data) and not _head(data, at):
        raise ValueError("it does not begin with a postmark")
    return at


def has_crlf(data: Source, start: int) -> bool:
    """Whether the lines of a file end in CRLF; its first postmark tells."""
    end = data.find(b"\n", start, start + LONGEST_LINE)
    return end > 0 and data[end - 1 : end] == b"\r"


def spans(data: Source, start: int, crlf: bool) -> Iterator[Span]:
    """The messages from `start` on, where one begins: each line that looks like a postmark, after a blank line.

    Content-Length is not asked: it is wrong wherever a tool changed a message without knowing of it.
    """
    if start >= len(data):
        return
    head = _head(data, start)
    markers = (b"\n\nFrom ", b"\n\r\nFrom ") if crlf else (b"\n\nFrom ",)
    for end, after in merge(*(_candidates(data, marker, head - 1) for marker in markers)):
        following = _head(data, after)
        if following:
            yield Span(start, head, header_end(data, head, end), end, after)
            start, head = after, following
    size = end = len(data)
    tail = data[max(head - 1, size - 3) : size]
    if tail.endswith(b"\n\n"):
        end -= 1
    elif crlf and tail == b"\n\r\n":
        end -= 2
    yield Span(start, head, header_end(data, head, end), end, size)


def _candidates(data: Source, marker: bytes, begin: int) -> Iterator[tuple[int, int]]:
    size = len(data)
    at = data.find(marker, begin, size)
    while at >= 0:
        after = at + len(marker) - len(b"From ")
        yield at + 1, after
        at = data.find(marker, after, size)


def _head(data: Source, start: int) -> int:
    """Where the header block begins that follows the postmark at `start`; 0 if there is none."""
    end = data.find(b"\n", start, start + LONGEST_LINE)
    if end < 0:
        end = len(data)
        if end - start > LONGEST_LINE:
            return 0
    return min(end + 1, len(data)) if text.is_postmark(data[start:end]) else 0
