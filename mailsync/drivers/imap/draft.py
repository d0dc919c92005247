"""A mailbox while its listing is made, from what is known of it and what the server says. Sends nothing.

What is asked for depends on what an earlier listing has found. Nothing (`ALL`): all messages. Something, under the same
UIDVALIDITY: new messages, and of the others (`CHANGES`) what has changed since, where the server keeps count of that
(RFC 7162), or else (`FLAGS`) which there are and their flags. What does not add up is asked for again, with less faith.

A server that was put back to an older state gives known uids to other messages: those above all that it had then. So
the last known message that is there is a witness, read again each time: while it is the same, all before it are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from ...model import HIDDEN, Entry, Failure, Holds, Listing, Mailbox, MessageId, Uid
from . import sets
from .select import Selected, opening, selected
from .tokens import Fetched, Literal, Response, Status, fetched, numbers
from .wire import Connection

MAX_UID = 2**32 - 1  # RFC 3501, 9, nz-number

Read = Callable[[Literal], "MessageId | None"]


class Way(Enum):
    CHANGES = "changes"
    FLAGS = "flags"
    ALL = "all"


@dataclass
class Draft:
    mailbox: Mailbox
    name: bytes  # quoted
    selected: Selected | None = None
    failure: Failure | None = None
    entries: dict[int, Entry] = field(default_factory=dict)  # by uid; an id that is not known yet is HIDDEN
    unsure: set[int] = field(default_factory=set)  # the uids of those
    unreadable: list[Failure] = field(default_factory=list)
    way: Way = Way.ALL
    known: dict[int, Entry] = field(default_factory=dict)  # by uid, ascending
    then: Selected | None = None  # when that was listed
    _numbers: dict[int, int] = field(default_factory=dict)  # uid by sequence number, as far as it is told
    _count: int = 0  # of messages: those that were there when it was opened, but for what is gone
    _most: int = 0  # with those that have come since
    _quick: bool = False  # the server tells who is gone by uid, and of a mailbox that is opened, what has changed
    doubtful: bool = False  # what was told cannot be right, or does not tell all
    twice: bool = False  # two messages were told under one uid
    put_back: bool = False  # the server has forgotten what it held when an earlier listing was made
    _witnesses: set[int] = field(default_factory=set)  # the uids of known messages that were read again

    # ---- what is asked -----------------------------------------------------------------------------------------------

    def recall(self, listing: Listing | None) -> None:
        """What an earlier listing has found."""
        then = Selected.at(self.mailbox, listing) if listing else None
        if listing and then and then.validity is not None:
            self.known, self.then = {int(entry.uid): entry for entry in listing.entries}, then
            self.way = Way.FLAGS if then.modseq is None else Way.CHANGES

    def asking(self, conn: Connection, what: bytes, *, write: bool) -> list[bytes]:
        """The commands that open it and ask for all that is not known; `what`: the part of a message that tells it."""
        news = b"(UID FLAGS RFC822.SIZE INTERNALDATE BODY.PEEK[%s])" % what
        last = max(self.known, default=0)
        first = max(last, 1)  # of those that are read: the last known one, and what is new
        since = None
        others: list[bytes] = []
        if self.way is Way.CHANGES and not conn.has("CONDSTORE"):
            self.way = Way.FLAGS
        match self.way:
            case Way.ALL:
                first = 1
            case Way.FLAGS if last:
                others = [b"UID FETCH 1:%d (UID FLAGS)" % last]
            case Way.CHANGES if "QRESYNC" in conn.enabled:
                since = self.then
            case Way.CHANGES if last and self.then:
                changed = b"UID FETCH 1:%d (UID FLAGS) (CHANGEDSINCE %d)" % (last, self.then.modseq or 1)
                others = [b"UID SEARCH RETURN (ALL) ALL" if conn.has("ESEARCH") else b"UID SEARCH ALL", changed]
        return [opening(conn, self.name, write=write, since=since), *others, b"UID FETCH %d:* %s" % (first, news)]

    # ---- what is answered --------------------------------------------------------------------------------------------

    def opened(self, conn: Connection, told: list[Response], end: Status) -> Draft:
        """As it stands when it is open: to be filled, and to `become` this one when it is done."""
        at = selected(self.mailbox, told, end)
        fresh = Draft(self.mailbox, self.name, at, way=self.way, known=self.known, then=self.then)
        fresh._count = fresh._most = at.exists
        fresh.put_back = self.put_back
        if self.then and self.then.validity != at.validity:
            fresh.doubtful, fresh.known = True, {}
        elif self.then and self.then.is_newer(at):
            fresh.doubtful = fresh.put_back = True
        elif self.then and self.way is Way.CHANGES and (self.then.modseq or 0) > (at.modseq or 0):
            fresh.doubtful = True  # it counts anew: what has changed since cannot be told
        fresh._quick = "QRESYNC" in conn.enabled
        if self.way is Way.CHANGES and fresh._quick:
            fresh.entries = dict(self.known)
            fresh.take((one for one in told if one.kind in (b"FETCH", b"VANISHED")), lambda literal: None)
        return fresh

    def take(self, answers: Iterable[Response], read: Read) -> None:
        """The answers to what was asked, and what else came between them."""
        for answer in answers:
            match answer.kind, answer.number:
                case b"FETCH", int():
                    self._message(fetched(answer), read)
                case b"EXISTS", int() as number:
                    self._most = number
                case b"EXPUNGE", int() as number:
                    self._gone(number)
                case b"VANISHED", _ if self._quick:
                    self._vanished(answer)
                case ((b"SEARCH" | b"ESEARCH"), _) if self.way is Way.CHANGES:
                    self._there(answer)

    def end(self, end: Status) -> None:
        """An answer is over. After the last one: is it all there?"""
        if self.way is not Way.ALL:
            self.doubtful = self.doubtful or not end.ok
            return
        short = self._count - len(self.entries)
        if short > 0 and not end.ok and not self.entries:
            self.failure = Failure(self.mailbox, f"cannot be listed: {end}")
        elif short > 0:
            why = f"{short} messages were not listed" + ("" if end.ok else f": {end}")
            self.unreadable.append(Failure(self.mailbox, why))

    def become(self, fresh: Draft) -> None:
        """What was half read before the connection broke is listed again: so only whole answers count."""
        self.put_back = fresh.put_back
        if fresh.way is not Way.ALL and (fresh.doubtful or not fresh._count <= len(fresh.entries) <= fresh._most):
            self.doubt()
            return
        if fresh.twice:
            why = "cannot be listed: the server tells of two messages with one UID"
            fresh.failure = Failure(self.mailbox, why, "If it does so again, the server must be repaired.")
        if fresh.failure:  # it is not `selected`: where it is asked for once more, it must not pass for empty
            self.failure = fresh.failure
            return
        self.selected, self.entries = fresh.selected, fresh.entries
        self.unsure, self.unreadable = fresh.unsure, fresh.unreadable
        last = next((uid for uid in reversed(self.known) if uid in self.entries), None)
        if fresh.way is not Way.ALL and last is not None and last not in fresh._witnesses:
            self.unsure.add(last)

    def forget(self) -> None:
        """It has become a listing."""
        self.entries, self.known = {}, {}

    def doubt(self) -> None:
        """To be asked for again, with less taken for granted."""
        self.way = Way.FLAGS if self.way is Way.CHANGES and self.known and not self.put_back else Way.ALL

    def learn(self, uid: int, id: MessageId) -> None:
        """HIDDEN: it is not there any more, or not to be seen."""
        self.unsure.discard(uid)
        if id != HIDDEN and self._is_another(uid, id):
            self.put_back, self.selected = True, None
            self.unsure.clear()
            self.doubt()
        elif uid in self.entries:
            if id == HIDDEN:
                del self.entries[uid]
            else:
                self.entries[uid] = self.entries[uid]._replace(id=id)

    def give_up(self, why: str) -> None:
        """Those that are still unsure cannot be told apart in this run."""
        for uid in sorted(self.unsure):
            self.unreadable.append(Failure(Uid(str(uid)), why))
            del self.entries[uid]
        self.unsure.clear()

    def listing(self, holds: Holds) -> Listing:
        assert self.selected
        at = self.selected
        entries = [entry for _, entry in sorted(self.entries.items()) if entry.id != HIDDEN]
        return Listing(
            self.mailbox, entries, holds, at.token, at.validity, tuple(self.unreadable), at.identity, self.put_back
        )

    # ---- one response ------------------------------------------------------------------------------------------------

    def _message(self, told: Fetched, read: Read) -> None:
        uid = told.uid if told.uid is not None else self._numbers.get(told.number)
        if uid is None or not 0 < uid <= MAX_UID:
            return
        self._numbers[told.number] = uid
        before = self.entries.get(uid) or (self.known.get(uid) if self.way is Way.FLAGS else None)
        id = read(told.body) if told.body is not None else None
        if id is not None:
            self._witnesses.add(uid)
            if self._is_another(uid, id):
                self.put_back = self.doubtful = True
        if before is not None and uid not in self.unsure:
            # Two messages of one UID: who believes either of them would miss the other, and delete it elsewhere.
            self.twice = self.twice or (id is not None and id != before.id)
            self.doubtful = self.doubtful or self.twice
            if told.flags is not None:  # asked for, or somebody changes them at this moment
                self.entries[uid] = before._replace(flags=told.flags)
        elif told.flags is not None and (told.body is not None or self.way is Way.FLAGS):
            self.unsure.discard(uid)
            if id is None:
                self.unsure.add(uid)
            self.entries[uid] = Entry(Uid(str(uid)), id or HIDDEN, told.flags, told.size, told.date)

    def _is_another(self, uid: int, id: MessageId) -> bool:
        """Whether a known uid is that of another message now."""
        return self.way is not Way.ALL and uid in self.known and self.known[uid].id != id

    def _gone(self, number: int) -> None:
        if number > self._most:
            return
        self._most -= 1
        self._count -= number <= self._count
        uid = self._numbers.pop(number, None)
        if uid is not None:
            self.entries.pop(uid, None)
            self.unsure.discard(uid)
        elif self.way is Way.CHANGES:
            self.doubtful = True  # nobody told which one has this number
        self._numbers = {n - (n > number): uid for n, uid in self._numbers.items()}

    def _vanished(self, answer: Response) -> None:
        """RFC 7162, 3.2.10. Those that went earlier are not among those that the server counts."""
        text = answer.parts[0]
        assert isinstance(text, bytes)
        words = text.rpartition(b" ")[2]
        for uid in sets.within(words, list(self.entries)):
            del self.entries[uid]
            self.unsure.discard(uid)
        if not text.upper().startswith(b"(EARLIER) "):
            gone = sets.size(words)
            self._count, self._most = self._count - gone, self._most - gone
            self._numbers.clear()  # all of them are others now

    def _there(self, answer: Response) -> None:
        """All that are there, of those that were known."""
        text = answer.parts[0]
        assert isinstance(text, bytes)
        told = sets.within(text.rpartition(b" ALL ")[2], self.known) if b" ALL " in text else numbers(answer)
        found = {uid for uid in told if uid in self.known}
        self.entries = {uid: self.known[uid] for uid in found} | self.entries
