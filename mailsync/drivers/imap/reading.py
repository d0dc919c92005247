"""A mailbox of a server that is open, to be read: that goes on by itself after the connection broke."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias, TypeVar

from ...errors import Lost
from ...model import NONE, Entry, Failure, Head, Holds, Identify, Mailbox, Measured, Message, MessageId, Uid
from . import answers, changes, sets
from .ahead import AT_ONCE, BODIES, Flight
from .body import ServerBody
from .listing import ways
from .select import Selected
from .tokens import Fetched
from .wire import Connection

TRIES = 3  # of reading on after a connection broke, without a message in between

T = TypeVar("T")
Make: TypeAlias = Callable[[Fetched], T | Failure | None]


class Host(Protocol):
    """What a box needs of its store."""

    keeps_flags: dict[bytes, bool]  # does it, with APPEND, COPY, MOVE? Only of what was tried with flags

    def select(self, mailbox: Mailbox, *, write: bool, fresh: bool = False) -> tuple[Connection, Selected]:
        """Open it, unless it is open and need not be looked at `fresh`, on a connection that works.

        BoxError if there is none of this name; Lost if it is not the one that was listed.
        """

    def begun(self, mailbox: Mailbox, uids: Sequence[int]) -> Flight | None:
        """What was sent for already of these bodies, if it is the first ones of them."""

    def all_asked(self, conn: Connection) -> None:
        """All that is wanted of the open mailbox was sent for."""

    def unselect(self) -> None:
        """No mailbox is open any more."""

    def look_anew(self) -> None:
        """What is open is not up to date."""

    def holds(self, mailbox: Mailbox) -> Holds: ...
    def quoted(self, mailbox: Mailbox) -> bytes: ...
    def limit(self, mailbox: Mailbox) -> int | None:
        """Bytes of the largest message that may be appended; None: not told."""

    def listed_modseq(self, mailbox: Mailbox) -> int | None:
        """HIGHESTMODSEQ when it was listed."""

    def unproven(self, mailbox: Mailbox) -> tuple[Entry, Identify] | None:
        """The last message of a mailbox that was not opened to be listed, the first time this is asked."""

    def touched(self, mailbox: Mailbox) -> set[int]:
        """The uids of what we have changed since: its MODSEQ is ours."""

    def unmarked(self, mailbox: Mailbox) -> set[int]:
        """The uids of what others have marked \\Deleted, and a new connection must mark again."""

    def wait(self, tries: int, why: Lost) -> None:
        """Before the connection is made again."""


class OpenBox:
    """One mailbox, to be read. Each batch opens it anew if another was open in between."""

    def __init__(self, host: Host, mailbox: Mailbox, *, write: bool) -> None:
        self._host, self._mailbox, self._write = host, mailbox, write
        _, self._at = host.select(mailbox, write=write, fresh=True)

    @property
    def holds(self) -> Holds:
        return self._at.holds or self._host.holds(self._mailbox)

    @property
    def validity(self) -> str | None:
        return self._at.validity

    def fetch(self, uids: Sequence[Uid]) -> Iterator[Message | Failure]:
        def message(told: Fetched) -> Message | Failure | None:
            uid = Uid(str(told.uid))
            if told.body is None:
                return Failure(uid, "the server gives no content of it") if told.empty else None
            date = int(time.time()) if told.date is None else told.date
            body = ServerBody(told.body)
            return Message(uid, told.flags or NONE, date, body, head=body.head())

        begun = self._host.begun(self._mailbox, [int(uid) for uid in uids])
        return self._each(uids, BODIES, message, begun)

    def heads(self, uids: Sequence[Uid]) -> Iterator[Head | Failure]:
        def head(told: Fetched) -> Head | Failure | None:
            uid = Uid(str(told.uid))
            if told.body is None:
                return Failure(uid, "the server gives no header of it") if told.empty else None
            return Head(uid, ServerBody(told.body).head(), told.date or 0)

        return self._each(uids, b"(UID INTERNALDATE BODY.PEEK[HEADER])", head)

    def measure(self, uids: Sequence[Uid]) -> Iterator[Measured | Failure]:
        def measured(told: Fetched) -> Measured | None:
            return (
                None if told.size is None or told.date is None else Measured(Uid(str(told.uid)), told.size, told.date)
            )

        return self._each(uids, b"(UID RFC822.SIZE INTERNALDATE)", measured)

    def ids(self, uids: Sequence[Uid], identify: Identify) -> Mapping[Uid, MessageId]:
        found: dict[Uid, MessageId] = {}
        left = sorted({int(uid) for uid in uids})
        for what, read in ways(identify):
            for told in self._each([Uid(str(uid)) for uid in left], b"(UID BODY.PEEK[%s])" % what, _with_body):
                if isinstance(told, Fetched) and told.body is not None and (id := read(told.body)) is not None:
                    found[Uid(str(told.uid))] = id
            left = [uid for uid in left if str(uid) not in found]
        return found

    def _each(
        self, uids: Sequence[Uid], items: bytes, make: Make[T], begun: Flight | None = None
    ) -> Iterator[T | Failure]:
        """One answer for each uid, in order. `make` gives None for what is not the answer that was asked for."""
        left = [int(uid) for uid in uids]
        tries = 0
        while left:
            done = 0
            try:
                for answer in self._read(left, items, make, begun):
                    done += 1
                    yield answer
                return
            except Lost as lost:
                begun = None
                tries = 1 if done else tries + 1
                if tries >= TRIES:
                    raise
                self._host.wait(tries, lost)
            left = left[done:]

    def _read(
        self, uids: Sequence[int], items: bytes, make: Make[T], begun: Flight | None = None
    ) -> Iterator[T | Failure]:
        if begun and begun.alive:
            yield from self._answered(begun.conn, begun.asked, begun.uids, items, make)
            uids = uids[len(begun.uids) :]
        # One command at a time: Dovecot answers two FETCHes together, and only then says that the first is over.
        todo = [one for run in sets.ascending(uids) for some in _parts(run, AT_ONCE) for one in sets.split(some)]
        for number, (text, part) in enumerate(todo, 1):
            conn = self._ready()
            [tag] = conn.send(b"UID FETCH %s %s" % (text, items))
            if begun and number == len(todo):
                self._host.all_asked(conn)
            yield from self._answered(conn, tag, part, items, make)

    def _answered(
        self,
        conn: Connection,
        tag: bytes,
        uids: Sequence[int],
        items: bytes,
        make: Make[T],
    ) -> Iterator[T | Failure]:
        """Servers answer in ascending order: whoever is passed over is not there any more."""
        at = 0
        named: set[int] = set()

        def passed_over(uid: int) -> Failure:
            return Failure(Uid(str(uid)), "the server gives no content of it") if uid in named else changes.gone(uid)

        for told in conn.fetched(tag):
            if told.uid is None:
                continue
            answer = make(told)
            if answer is None:
                named.add(told.uid)  # somebody changes its flags; or the server knows it, and has nothing to show
                continue
            while at < len(uids) and uids[at] < told.uid:
                yield passed_over(uids[at])
                at += 1
            if at < len(uids) and uids[at] == told.uid:
                at += 1
                yield answer
        end = conn.result(tag)
        if end.ok or at == len(uids):
            yield from map(passed_over, uids[at:])
            return
        # The server refuses: because of one that is gone (GNU mailutils), or of one that it cannot read.
        conn = self._ready()
        there = sorted(changes.flags_of(conn, uids[at:]))
        if len(there) < len(uids) - at and there:
            yield from self._skipping(uids[at:], there, items, make)
            return
        for uid in uids[at:]:
            failure = Failure(Uid(str(uid)), f"cannot be read: {end}", answers.advice(end))
            yield failure if uid in there else changes.gone(uid)

    def _skipping(
        self,
        uids: Sequence[int],
        there: Sequence[int],
        items: bytes,
        make: Make[T],
    ) -> Iterator[T | Failure]:
        """An answer for each of the uids, of which only these are `there`."""
        answers_there = self._read(there, items, make)
        wanted = set(there)
        for uid in uids:
            yield next(answers_there) if uid in wanted else changes.gone(uid)

    def _ready(self) -> Connection:
        conn, at = self._host.select(self._mailbox, write=self._write)
        if self._at.is_another(at):
            raise Lost(f"{self._mailbox}: another mailbox has come in its place")
        self._at = at
        return conn


def _with_body(told: Fetched) -> Fetched | None:
    return told if told.body is not None or told.empty else None


def _parts(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (items[at : at + size] for at in range(0, len(items), size))
