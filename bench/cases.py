"""What is measured, and beside what: the rows in their order. Each can be measured any number of times."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from . import floors
from .beside import Beside
from .homes import Home, Place
from .measure import Case
from .server import ROUND_TRIP

FAR = f"{ROUND_TRIP} ms round trip"
BOTH = "IMAP and Maildir"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of messages. All but the large number are of messages as large as mail is today."""

    large: int
    middle: int
    some: int
    small: int


def sizes(large: int) -> Sizes:
    def part(usual: int, share: int) -> int:
        return min(usual, max(40, large // share))

    return Sizes(large, part(10_000, 5), part(2_000, 8), part(1_000, 10))


def cases(place: Place) -> list[Case]:
    n = sizes(place.messages)
    return [*_noops(place, n), *_changed(place, n), *_first(place, n), *floors.cases(place, n.middle)]


def _noops(place: Place, n: Sizes) -> list[Case]:
    few = Beside(partial(place.from_server, n.small, slow=True, fsync=False), Home.mbsync)
    quick = n.large < 10_000
    boxes = tuple(f"box{number}" for number in range(20 if quick else 200))
    often = 1 if quick else 5  # samples in each run, of what is over soon
    many = Beside(partial(place.from_server, n.small, slow=True, fsync=False, boxes=boxes), Home.mbsync)
    small = Beside(partial(place.from_server, n.small, fsync=False), Home.mbsync)
    middle = Beside(partial(place.from_server, n.middle, fsync=False), Home.mbsync)
    large = Beside(partial(place.from_server, n.large, sizes="small", fsync=False), Home.mbsync)
    local = Beside(partial(place.from_maildir, n.large, sizes="small", fsync=False), Home.mbsync)
    other = Beside(partial(place.from_server, n.small, fsync=False), Home.offlineimap)
    mboxes = Beside(partial(place.unsettled_mboxes, n.some), Home.original)
    return [
        Case(f"no-op, 10 mailboxes, {FAR}", "mbsync", few.again, 0.2),
        Case(f"no-op, {len(boxes)} mailboxes, {FAR}", "mbsync", many.again, 0.02),
        Case(f"no-op, {BOTH}, {n.small:,}", "mbsync", small.again, repeat=often),
        Case(f"no-op, {BOTH}, {n.middle:,}", "mbsync", middle.again, repeat=often),
        Case(f"no-op, {BOTH}, {n.large:,}", "mbsync", large.again, 0.6, repeat=often),
        Case(f"no-op, Maildir and Maildir, {n.large:,}", "mbsync", local.again, 0.6, repeat=often),
        Case(f"no-op, {BOTH}, {n.small:,}", "OfflineIMAP", other.again, 0.1),
        Case(f"no-op, mbox and mbox, {n.some:,}", "5.2.7", mboxes.again),
        Case(f"no-op, {BOTH}, {n.large:,}", f"itself, {n.small:,}", large.growing(small), 1.2, repeat=often),
        Case(f"no-op, {BOTH}, {n.large:,}: peak", "", large.peak_of_again, 30, "MB"),
    ]


def _changed(place: Place, n: Sizes) -> list[Case]:
    few = Beside(partial(place.from_server, n.small), Home.mbsync)
    near = Beside(partial(place.from_server, n.middle), Home.mbsync)
    large = Beside(partial(place.from_server, n.large, sizes="small"), Home.mbsync)
    far = Beside(partial(place.from_server, n.small, slow=True), Home.mbsync)
    other = Beside(partial(place.from_server, n.small), Home.offlineimap)
    mboxes = Beside(partial(place.unsettled_mboxes, n.some), Home.original)
    return [
        Case(f"1 % changed, {BOTH}, {n.small:,}", "mbsync", few.changing(n.small)),
        Case(f"1 % changed, {BOTH}, {n.middle:,}", "mbsync", near.changing(n.middle), 0.8),
        Case(f"1 % changed, {BOTH}, {n.large:,}", "mbsync", large.changing(n.large)),
        Case(f"1 % changed, {BOTH}, {n.small:,}, {FAR}", "mbsync", far.changing(n.small)),
        Case(f"1 % changed, {BOTH}, {n.small:,}", "OfflineIMAP", other.changing(n.small), 0.1),
        Case(f"1 % changed, mbox and mbox, {n.some:,}", "5.2.7", mboxes.changing(n.some)),
    ]


def _first(place: Place, n: Sizes) -> list[Case]:
    few = Beside(partial(place.from_server, n.small, read_only=True), Home.mbsync)
    large = Beside(partial(place.from_server, n.large, sizes="small", read_only=True), Home.mbsync)
    durable = Beside(partial(place.from_server, n.middle, read_only=True), Home.mbsync)
    quick = Beside(partial(place.from_server, n.middle, read_only=True, fsync=False), Home.mbsync)
    far = Beside(partial(place.from_server, n.small, read_only=True, slow=True), Home.mbsync)
    other = Beside(partial(place.from_server, n.small, read_only=True), Home.offlineimap)
    up = Beside(partial(place.to_server, n.some), Home.mbsync)
    up_far = Beside(partial(place.to_server, n.small, slow=True), Home.mbsync)
    local = Beside(partial(place.from_maildir, n.middle), Home.mbsync)
    local_quick = Beside(partial(place.from_maildir, n.middle, fsync=False), Home.mbsync)
    into_mbox = Beside(partial(place.from_server, n.small, "mbox", read_only=True), Home.original)
    mboxes = Beside(partial(place.unsettled_mboxes, n.some), Home.original)
    return [
        Case(f"first, IMAP to Maildir, {n.small:,}", "mbsync", few.first),
        Case(f"first, IMAP to Maildir, {n.middle:,}", "mbsync", durable.first, 0.5),
        Case(f"first, IMAP to Maildir, {n.large:,}", "mbsync", large.first),
        Case(f"first, IMAP to Maildir, {n.middle:,}, fsync no", "mbsync", quick.first, 1.1),
        Case(f"first, IMAP to Maildir, {n.middle:,}: peak", "", durable.peak_of_first, 60, "MB"),
        Case(f"first, IMAP to Maildir, {n.small:,}, {FAR}", "mbsync", far.first, 0.25),
        Case(f"first, IMAP to Maildir, {n.small:,}", "OfflineIMAP", other.first, 0.1),
        Case(f"first, IMAP to mbox, {n.small:,}", "5.2.7", into_mbox.first, 0.05),
        Case(f"first, Maildir to IMAP, {n.some:,}", "mbsync", up.first, 0.5),
        Case(f"first, Maildir to IMAP, {n.small:,}, {FAR}", "mbsync", up_far.first, 0.2),
        Case(f"first, Maildir to Maildir, {n.middle:,}", "mbsync", local.first, 0.5),
        Case(f"first, Maildir to Maildir, {n.middle:,}, fsync no", "mbsync", local_quick.first, 1.1),
        Case(f"first, mbox to mbox, {n.some:,}", "5.2.7", mboxes.first),
    ]
