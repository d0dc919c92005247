"""Messages that are sent for before they are asked for: while one box is stored, the next ones are on their way.

A box is opened and its messages are fetched in one flight, and behind it those of the boxes after it, up to a bound.
Whoever sends anything else gives up what is in flight: it is read and dropped, and all goes on without it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...model import Mailbox
from ..contract import Coming
from . import sets
from .select import opening
from .wire import Connection

BODIES = b"(UID FLAGS INTERNALDATE BODY.PEEK[])"
AT_ONCE = 500  # messages of one FETCH: what is lost on the way if its reader goes away
BYTES = 8 * 1024 * 1024  # of messages in flight behind the box that is read; one box may always be
BOXES = 32  # likewise


class Flight(NamedTuple):
    """A mailbox that is being opened to be read, and a FETCH for its first messages."""

    conn: Connection
    mailbox: Mailbox
    opened: bytes  # tag
    asked: bytes  # tag
    uids: Sequence[int]
    last: bool  # no more of its messages are to come: another mailbox may be opened behind it
    size: int

    @property
    def alive(self) -> bool:
        return not self.conn.lost and self.conn.awaits(self.asked)


class Ahead:
    """What is coming, and what of it is in flight. `quoted` tells how a mailbox is named to the server."""

    def __init__(self, quoted: Callable[[Mailbox], bytes]) -> None:
        self._quoted = quoted
        self._coming: deque[Coming] = deque()
        self._sent: deque[Flight] = deque()

    def expect(self, coming: Sequence[Coming]) -> None:
        self._coming = deque(one for one in coming if one.uids)
        self._sent.clear()

    def flight(self, mailbox: Mailbox, connect: Callable[[], Connection]) -> Flight | None:
        """That of this mailbox, sent now if it was not yet, and others behind it; None if it is not expected."""
        while self._sent and (not self._sent[0].alive or self._sent[0].mailbox != mailbox):
            self._sent.popleft()
        if not self._sent:
            if all(one.mailbox != mailbox for one in self._coming):
                return None
            while self._coming[0].mailbox != mailbox:
                self._coming.popleft()
            self._send(connect(), 1)
        flight = self._sent.popleft()
        if flight.last:
            self.fill(flight.conn)
        return flight

    def fill(self, conn: Connection) -> bool:
        """Send for what comes next, once all of the mailbox that is read was sent for. True if anything was sent."""
        room = BYTES - sum(flight.size for flight in self._sent)
        count = 0
        if self._sent and not self._sent[-1].last:
            return False
        for one in self._coming:
            if count + len(self._sent) >= BOXES or (count + len(self._sent) and one.size > room):
                break
            room -= one.size
            count += 1
            if len(_first(one)) < len(one.uids):
                break
        self._send(conn, count)
        return count > 0

    def _send(self, conn: Connection, count: int) -> None:
        boxes = [self._coming.popleft() for _ in range(count)]
        commands = []
        for one in boxes:
            text, _ = next(sets.split(_first(one)))
            commands += [opening(conn, self._quoted(one.mailbox), write=False), b"UID FETCH %s %s" % (text, BODIES)]
        tags = conn.send(*commands) if commands else []
        for one, opened, asked in zip(boxes, tags[::2], tags[1::2], strict=True):
            part = _first(one)
            self._sent.append(Flight(conn, one.mailbox, opened, asked, part, len(part) == len(one.uids), one.size))


def _first(one: Coming) -> Sequence[int]:
    """Those that the first FETCH asks for."""
    run = next(sets.ascending(int(uid) for uid in one.uids))
    return next(sets.split(run[:AT_ONCE]))[1]
