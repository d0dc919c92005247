"""List many mailboxes in few round trips: each is opened and asked for all its messages in one flight with others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ...model import HIDDEN, Entry, Failure, Holds, Identify, Listing, Mailbox, MessageId, Token, Uid
from . import sets
from .body import ServerBody
from .select import Selected, opening, selected
from .tokens import Fetched, Literal, Response, Status, fetched
from .wire import Connection, fetches

BOXES = 32  # in one flight
BYTES = 16_000  # of commands in one flight: a server that answers before it reads on must be able to take them
GENTLE = 200_000  # messages in one flight, about; a listing waits in memory until its flight is over


@dataclass
class Draft:
    """A mailbox while its listing is made."""

    mailbox: Mailbox
    name: bytes  # quoted
    selected: Selected | None = None
    failure: Failure | None = None
    entries: dict[int, Entry] = field(default_factory=dict)  # by uid; an id that is not known yet is HIDDEN
    unsure: set[int] = field(default_factory=set)  # the uids of those
    unreadable: list[Failure] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)  # uid by sequence number
    expunged: int = 0

    def take(self, answers: Iterable[Response], read: Callable[[Literal], MessageId | None]) -> None:
        """The answers to FETCH, and what else came between them."""
        for answer in answers:
            if answer.kind == b"FETCH" and answer.number is not None:
                self._message(fetched(answer), read)
            elif answer.kind == b"EXPUNGE" and answer.number is not None:
                self._gone(answer.number)

    def end(self, end: Status) -> None:
        """The FETCH is over: is it all there?"""
        assert self.selected
        short = self.selected.exists - self.expunged - len(self.entries)
        if short <= 0:
            return
        if not end.ok and not self.entries:
            self.failure = Failure(self.mailbox, f"cannot be listed: {end}")
        else:
            why = f"{short} messages were not listed" + ("" if end.ok else f": {end}")
            self.unreadable.append(Failure(self.mailbox, why))

    def listing(self, holds: Holds) -> Listing:
        assert self.selected
        at = self.selected
        token = None
        if at.modseq is not None:
            token = Token(f"{at.validity} {at.next} {at.exists} {at.modseq}")
        entries = [entry for entry in self.entries.values() if entry.id != HIDDEN]
        return Listing(self.mailbox, entries, holds, token, at.validity, tuple(self.unreadable), identity=at.identity)

    def _message(self, told: Fetched, read: Callable[[Literal], MessageId | None]) -> None:
        uid = told.uid if told.uid is not None else self.numbers.get(told.number)
        if uid is None:
            return
        known = self.entries.get(uid)
        if known is not None:
            if told.flags is not None:  # somebody changes them at this moment
                self.entries[uid] = known._replace(flags=told.flags)
        elif told.body is not None and told.flags is not None:
            id = read(told.body)
            if id is None:
                self.unsure.add(uid)
            self.entries[uid] = Entry(Uid(str(uid)), id or HIDDEN, told.flags, told.size, told.date)
            self.numbers[told.number] = uid

    def _gone(self, number: int) -> None:
        assert self.selected
        if number > self.selected.exists - self.expunged:
            return
        self.expunged += 1
        uid = self.numbers.pop(number, None)
        if uid is not None:
            del self.entries[uid]
            self.unsure.discard(uid)
        self.numbers = {n - (n > number): uid for n, uid in self.numbers.items()}

    def learn(self, uid: int, id: MessageId) -> None:
        self.unsure.discard(uid)
        if uid in self.entries:
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


def flights(drafts: Sequence[Draft]) -> Iterator[list[Draft]]:
    """Parts that are worth one round trip each; the size of a part depends on what those before it held."""
    left = list(drafts)
    most = BOXES
    while left:
        size, count = 0, 0
        while count < min(most, len(left)) and (not count or size + 2 * len(left[count].name) + 400 < BYTES):
            size += 2 * len(left[count].name) + 200
            count += 1
        flight, left = left[:count], left[count:]
        yield flight
        largest = max(draft.selected.exists if draft.selected else 0 for draft in flight)
        most = max(1, min(BOXES, GENTLE // max(largest, 1)))


def ways(identify: Identify) -> Sequence[tuple[bytes, Callable[[Literal], MessageId | None]]]:
    """What is asked for to know an id, and how it is read: few fields first; of those not told by them, the header.

    The whole header: asked for fields, Courier passes over `Message-ID :`, Dovecot over a name that is folded before
    the colon, Cyrus over all behind the first thousand lines. What has nothing in its header is told by all of it.
    """
    fields = b" ".join(name.upper() for name in identify.quick)
    return (
        (b"HEADER.FIELDS (%s)" % fields if fields else b"HEADER", lambda literal: identify.sure(literal.read())),
        (b"HEADER", lambda literal: identify(literal.read())),
        (b"", lambda literal: identify.whole(ServerBody(literal).chunks(wire=True))),
    )


def first_look(conn: Connection, flight: Sequence[Draft], identify: Identify, *, write: bool) -> None:
    """Open each, and ask for all its messages. Lost in the middle: those that are done have their `selected`."""
    what, read = ways(identify)[0]
    ask = b"UID FETCH 1:* (UID FLAGS RFC822.SIZE INTERNALDATE BODY.PEEK[%s])" % what
    tags = conn.send(*(one for draft in flight for one in (opening(conn, draft.name, write=write), ask)))
    for draft, opened, asked in zip(flight, tags[::2], tags[1::2], strict=True):
        told = list(conn.answers(opened))
        end = conn.result(opened)
        if not end.ok:
            gone = end.code in (b"NONEXISTENT", b"TRYCREATE")
            draft.failure = Failure(draft.mailbox, f"cannot be opened: {end}", gone=gone)
            conn.result(asked)  # refused, or about whatever was opened before: nothing of it counts
            continue
        at = selected(draft.mailbox, told, end)
        fresh = Draft(draft.mailbox, draft.name, at)
        fresh.take(conn.answers(asked), read)
        fresh.end(conn.result(asked))
        # Only now: what was half read before the connection broke is listed again.
        draft.selected, draft.failure, draft.entries = at, fresh.failure, fresh.entries
        draft.unsure, draft.unreadable = fresh.unsure, fresh.unreadable


def second_look(conn: Connection, flight: Sequence[Draft], identify: Identify, *, write: bool) -> None:
    """Ask for more of those that the first look did not tell."""
    for what, read in ways(identify)[1:]:
        for draft, told in _again(conn, flight, b"(UID BODY.PEEK[%s])" % what, write):
            if told.body is not None and told.uid in draft.unsure and (id := read(told.body)) is not None:
                draft.learn(told.uid, id)
    there = {(draft.mailbox, told.uid) for draft, told in _again(conn, flight, b"(UID)", write)}
    for draft in flight:
        if draft.unsure and not draft.failure:
            for uid in [uid for uid in draft.unsure if (draft.mailbox, uid) not in there]:
                draft.learn(uid, HIDDEN)  # expunged just now: to be seen no more
            draft.give_up("the server does not give its header")


def _again(conn: Connection, flight: Sequence[Draft], items: bytes, write: bool) -> Iterator[tuple[Draft, Fetched]]:
    """FETCH for the messages that are unsure, box by box."""
    todo = [draft for draft in flight if draft.unsure and not draft.failure]
    for draft in todo:
        asked = [b"UID FETCH %s %s" % (text, items) for text, _ in sets.split(sorted(draft.unsure))]
        opened, *tags = conn.send(opening(conn, draft.name, write=write), *asked)
        told = list(conn.answers(opened))
        end = conn.result(opened)
        at = selected(draft.mailbox, told, end) if end.ok else None
        if at is None or not draft.selected or at.validity != draft.selected.validity:
            draft.failure = Failure(draft.mailbox, f"changed while it was listed: {end}")
        for tag in tags:
            for answer in fetches(conn.answers(tag)):
                if not draft.failure:
                    yield draft, fetched(answer)
            conn.result(tag)
