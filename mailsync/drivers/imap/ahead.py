"""What is sent before it is asked for: while one box is stored, the messages of the next ones are on their way.

A box is opened and its messages are fetched in one flight, and behind it those of the boxes after it, up to a bound.
A box that is appended to is opened behind the last message for the one before it.
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
    """A mailbox that is being opened, and to be read also a FETCH for its first messages."""

    conn: Connection
    mailbox: Mailbox
    write: bool
    opened: bytes  # tag
    asked: bytes  # tag of the last command
    uids: Sequence[int]
    last: bool  # nothing more is to be sent for this mailbox: another one may be opened behind it
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
        self._coming = deque(coming)
        self._sent.clear()

    @property
    def busy(self) -> bool:
        """True if another mailbox than the one that was asked for last is being opened."""
        return any(flight.alive for flight in self._sent)

    def flight(self, mailbox: Mailbox, connect: Callable[[], Connection], *, write: bool) -> Flight | None:
        """That of this mailbox, sent now if it was not yet, and others behind it; None if it is not expected."""
        wanted = mailbox, write
        while self._sent and (not self._sent[0].alive or (self._sent[0].mailbox, self._sent[0].write) != wanted):
            self._sent.popleft()
        if not self._sent:
            if all((one.mailbox, one.write) != wanted for one in self._coming):
                return None
            while (self._coming[0].mailbox, self._coming[0].write) != wanted:
                self._coming.popleft()
            self._send(connect(), 1)
        flight = self._sent.popleft()
        if flight.last:
            self.fill(flight.conn)
        return flight

    def fill(self, conn: Connection) -> None:
        """Send for what comes next, once all was sent for the mailbox that was asked for last."""
        room = BYTES - sum(flight.size for flight in self._sent)
        count = 0
        if self._sent and not self._sent[-1].last:
            return
        for one in self._coming:
            if count + len(self._sent) >= BOXES or (count + len(self._sent) and one.size > room):
                break
            room -= one.size
            count += 1
            if not _is_whole(one):
                break
        self._send(conn, count)

    def _send(self, conn: Connection, count: int) -> None:
        boxes = [self._coming.popleft() for _ in range(count)]
        commands = []
        for one in boxes:
            commands.append(opening(conn, self._quoted(one.mailbox), write=one.write))
            if one.uids:
                commands.append(b"UID FETCH %s %s" % (next(sets.split(_first(one)))[0], BODIES))
        tags = iter(conn.send(*commands) if commands else [])
        for one in boxes:
            opened = next(tags)
            asked = next(tags) if one.uids else opened
            self._sent.append(
                Flight(conn, one.mailbox, one.write, opened, asked, _first(one), _is_whole(one), one.size)
            )


def _first(one: Coming) -> Sequence[int]:
    """Those that the first FETCH asks for."""
    if not one.uids:
        return ()
    run = next(sets.ascending(int(uid) for uid in one.uids))
    return next(sets.split(run[:AT_ONCE]))[1]


def _is_whole(one: Coming) -> bool:
    """True if nothing more will be sent for it."""
    return not one.write and len(_first(one)) == len(one.uids)
