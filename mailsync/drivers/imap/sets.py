"""Sets of UIDs as IMAP writes them: `1:4,7` (RFC 3501, 9, sequence-set). Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice

from .tokens import ProtocolError

LONGEST = 7000  # bytes of one set: servers must take lines of 8,000 (RFC 7162, 4), some take no more
MAX_PARTS = 500_000  # of one set of a server: with gaps between them, of a mailbox that had a million messages
_PART = re.compile(rb"(\d{1,10})(?::(\d{1,10}))?")


def split(uids: Sequence[int], longest: int = LONGEST) -> Iterator[tuple[bytes, Sequence[int]]]:
    """Ascending numbers as sets that each fit into a command, with the numbers that each stands for."""
    begin = 0
    text = bytearray()
    for end, (first, last) in _runs(uids):
        piece = b"%d" % first if first == last else b"%d:%d" % (first, last)
        if text and len(text) + 1 + len(piece) > longest:
            yield bytes(text), uids[begin : end - (last - first + 1)]
            begin, text = end - (last - first + 1), bytearray()
        text += b"," + piece if text else piece
    if text:
        yield bytes(text), uids[begin:]


def parse(text: bytes, most: int) -> list[int]:
    """The numbers of a server's set, in its order. ProtocolError for what is none, or stands for more than `most`."""
    numbers: list[int] = []
    for low, high in _ranges(text):
        if high - low >= most - len(numbers):
            raise ProtocolError(f"a set of more than {most} numbers")
        numbers += range(low, high + 1)
    return numbers


def within(text: bytes, numbers: Iterable[int]) -> list[int]:
    """Those of these numbers that are in a server's set, however many more it stands for."""
    ranges = sorted(_ranges(text))
    lows = [low for low, _ in ranges]
    highs = list(accumulate((high for _, high in ranges), max))
    return [number for number in numbers if (at := bisect_right(lows, number)) and number <= highs[at - 1]]


def size(text: bytes) -> int:
    """How many numbers a server's set stands for."""
    return sum(high - low + 1 for low, high in _ranges(text))


def ascending(items: Iterable[int]) -> Iterator[list[int]]:
    """The items in their order, in the longest parts that ascend."""
    run: list[int] = []
    for item in items:
        if run and item <= run[-1]:
            yield run
            run = []
        run.append(item)
    if run:
        yield run


def _ranges(text: bytes) -> Iterator[tuple[int, int]]:
    if text.count(b",") >= MAX_PARTS:
        raise ProtocolError(f"a set of more than {MAX_PARTS} parts")
    for part in text.split(b","):
        ends = _PART.fullmatch(part)
        if not ends:
            raise ProtocolError(f"no set of numbers: {text[:60].decode('latin-1')}")
        low, high = sorted((int(ends[1]), int(ends[2] or ends[1])))
        yield low, high


def _runs(uids: Sequence[int]) -> Iterator[tuple[int, tuple[int, int]]]:
    """(how many numbers until the end of it, (first, last)) of each run without gap."""
    if not uids:
        return
    first = last = uids[0]
    for n, uid in enumerate(islice(uids, 1, None), 1):
        if uid != last + 1:
            yield n, (first, last)
            first = uid
        last = uid
    yield len(uids), (first, last)
