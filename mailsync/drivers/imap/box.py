"""A mailbox of a server that is open. Reading goes on by itself after the connection broke; writing does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from ...errors import Lost
from ...model import NONE, Appended, Failure, FlagChange, Flags, Head, Holds, Identify, Mailbox, Message, MessageId, Uid
from . import answers, changes, sets
from .append import Appender
from .body import ServerBody
from .listing import ways
from .select import Selected
from .tokens import Fetched, fetched
from .wire import Connection, fetches

AT_ONCE = 500  # messages of one FETCH: what is lost on the way if its reader goes away
TRIES = 3  # of reading on after a connection broke, without a message in between

T = TypeVar("T")


class Host(Protocol):
    """What a box needs of its store."""

    keeps_flags: bool | None  # does the server keep the flags that come with an APPEND? None: not tried yet

    def select(self, mailbox: Mailbox, *, write: bool, fresh: bool = False) -> tuple[Connection, Selected]:
        """Open it, unless it is open and need not be looked at `fresh`, on a connection that works.

        BoxError if there is none of this name; Lost if it is not the one that was listed.
        """

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

    def touched(self, mailbox: Mailbox) -> set[int]:
        """The uids of what we have changed since: its MODSEQ is ours."""

    def wait(self, tries: int, why: Lost) -> None:
        """Before the connection is made again."""


class ServerBox:
    """One mailbox. Each batch opens it anew if another was open in between."""

    def __init__(self, host: Host, mailbox: Mailbox, *, write: bool) -> None:
        self._host, self._mailbox, self._write = host, mailbox, write
        _, self._at = host.select(mailbox, write=write, fresh=True)

    @property
    def holds(self) -> Holds:
        return self._at.holds or self._host.holds(self._mailbox)

    @property
    def validity(self) -> str | None:
        return self._at.validity

    # ---- reading -----------------------------------------------------------------------------------------------------

    def fetch(self, uids: Sequence[Uid]) -> Iterator[Message | Failure]:
        def message(told: Fetched) -> Message | Failure:
            uid = Uid(str(told.uid))
            if told.body is None:
                return Failure(uid, "the server gives no content of it")
            date = int(time.time()) if told.date is None else told.date
            body = ServerBody(told.body)
            return Message(uid, told.flags or NONE, date, body, head=body.head())

        return self._each(uids, b"(UID FLAGS INTERNALDATE BODY.PEEK[])", message)

    def heads(self, uids: Sequence[Uid]) -> Iterator[Head | Failure]:
        def head(told: Fetched) -> Head | Failure:
            uid = Uid(str(told.uid))
            if told.body is None:
                return Failure(uid, "the server gives no header of it")
            return Head(uid, ServerBody(told.body).head(), told.date or 0)

        return self._each(uids, b"(UID INTERNALDATE BODY.PEEK[HEADER])", head)

    def ids(self, uids: Sequence[Uid], identify: Identify) -> Mapping[Uid, MessageId]:
        found: dict[Uid, MessageId] = {}
        left = sorted({int(uid) for uid in uids})
        for what, read in ways(identify):
            for told in self._each([Uid(str(uid)) for uid in left], b"(UID BODY.PEEK[%s])" % what, _as_it_is):
                if isinstance(told, Fetched) and told.body is not None and (id := read(told.body)) is not None:
                    found[Uid(str(told.uid))] = id
            left = [uid for uid in left if str(uid) not in found]
        return found

    def _each(self, uids: Sequence[Uid], items: bytes, make: Callable[[Fetched], T | Failure]) -> Iterator[T | Failure]:
        """One answer for each uid, in order."""
        left = [int(uid) for uid in uids]
        tries = 0
        while left:
            done = 0
            try:
                for answer in self._read(self._ready(), left, items, make):
                    done += 1
                    yield answer
                return
            except Lost as lost:
                tries = 1 if done else tries + 1
                if tries >= TRIES:
                    raise
                self._host.wait(tries, lost)
            left = left[done:]

    def _read(
        self, conn: Connection, uids: Sequence[int], items: bytes, make: Callable[[Fetched], T | Failure]
    ) -> Iterator[T | Failure]:
        # One command at a time: Dovecot answers two FETCHes together, and only then says that the first is over.
        for run in sets.ascending(uids):
            for some in _parts(run, AT_ONCE):
                for text, part in sets.split(some):
                    [tag] = conn.send(b"UID FETCH %s %s" % (text, items))
                    yield from self._answered(conn, tag, part, items, make)

    def _answered(
        self,
        conn: Connection,
        tag: bytes,
        uids: Sequence[int],
        items: bytes,
        make: Callable[[Fetched], T | Failure],
    ) -> Iterator[T | Failure]:
        """Servers answer in ascending order: whoever is passed over is not there any more."""
        at = 0
        named: set[int] = set()

        def passed_over(uid: int) -> Failure:
            return Failure(Uid(str(uid)), "the server gives no content of it") if uid in named else changes.gone(uid)

        for response in fetches(conn.answers(tag)):
            told = fetched(response)
            if told.uid is None:
                continue
            if told.body is None and not told.empty:
                named.add(told.uid)  # somebody changes its flags; or the server knows it, and has nothing to show
                continue
            while at < len(uids) and uids[at] < told.uid:
                yield passed_over(uids[at])
                at += 1
            if at < len(uids) and uids[at] == told.uid:
                at += 1
                yield make(told)
        end = conn.result(tag)
        if end.ok or at == len(uids):
            yield from map(passed_over, uids[at:])
            return
        # The server refuses: because of one that is gone (GNU mailutils), or of one that it cannot read.
        there = sorted(changes.flags_of(conn, uids[at:]))
        if len(there) < len(uids) - at and there:
            yield from self._skipping(conn, uids[at:], there, items, make)
            return
        for uid in uids[at:]:
            failure = Failure(Uid(str(uid)), f"cannot be read: {end}", answers.advice(end))
            yield failure if uid in there else changes.gone(uid)

    def _skipping(
        self,
        conn: Connection,
        uids: Sequence[int],
        there: Sequence[int],
        items: bytes,
        make: Callable[[Fetched], T | Failure],
    ) -> Iterator[T | Failure]:
        """An answer for each of the uids, of which only these are `there`."""
        answers_there = self._read(conn, there, items, make)
        wanted = set(there)
        for uid in uids:
            yield next(answers_there) if uid in wanted else changes.gone(uid)

    # ---- writing -----------------------------------------------------------------------------------------------------

    def append(self, messages: Iterable[Message]) -> Iterator[Appended | Failure]:
        """Answers come when flags are right, too: some servers take them with an APPEND and forget them."""
        conn = self._ready()
        host, wanted = self._host, dict[Uid, Flags]()
        limit = host.limit(self._mailbox)
        appender = Appender(conn, host.quoted(self._mailbox), self.holds, self._at.validity, limit)
        stream = self._noting(messages, wanted)
        if not conn.has("UIDPLUS"):
            before = self._next(conn)
            # GNU mailutils appends once to a mailbox that is open, and never again.
            host.unselect()
            done = self._found(list(appender.run(stream)), before)
            yield from self._with_flags(done, wanted)
            return
        if host.keeps_flags is None:  # tried with the first message that has flags
            first = list(appender.run(_until(stream, lambda message: bool(wanted[message.uid]))))
            host.look_anew()
            yield from self._with_flags(first, wanted)
        if host.keeps_flags is False:
            done = list(appender.run(stream))
            host.look_anew()
            yield from self._with_flags(done, wanted)
            return
        for one in appender.run(stream):
            host.look_anew()  # Courier does not see in an open mailbox what it has just put there
            self._touch(one)
            yield one

    def set_flags(self, wanted: Sequence[FlagChange]) -> Iterator[Uid | Failure]:
        groups: dict[tuple[Flags, Flags], set[int]] = {}
        for change in wanted:
            kept = self.holds.of(change.add), self.holds.of(change.remove)
            groups.setdefault(kept, set()).add(int(change.uid))
        failed: changes.Failures = {}
        for (add, remove), uids in groups.items():
            conn = self._ready()
            since = self._host.listed_modseq(self._mailbox) if conn.has("CONDSTORE") else None
            touched = self._host.touched(self._mailbox)
            failed.update(changes.store(conn, sorted(uids), add, remove, since if touched.isdisjoint(uids) else None))
            touched.update(uids)
        self._written()
        yield from changes.answered((change.uid for change in wanted), failed)

    def expunge(self, uids: Sequence[Uid]) -> Iterator[Uid | Failure]:
        wanted = sorted({int(uid) for uid in uids})
        failed = changes.expunge(self._ready(), self._mailbox, wanted) if wanted else {}
        self._written()
        yield from changes.answered(uids, failed)

    def copy(self, uids: Sequence[Uid], to: Mailbox) -> Iterator[Appended | Failure]:
        """UID COPY, which keeps flags and date, and sends no message over the wire."""
        return self._transfer(b"COPY", uids, to)

    def move(self, uids: Sequence[Uid], to: Mailbox) -> Iterator[Appended | Failure]:
        """UID MOVE (RFC 6851); where there is none, a copy, and the original expunged once the copy is there."""
        if self._ready().has("MOVE"):
            yield from self._transfer(b"MOVE", uids, to)
            return
        copied = list(self._transfer(b"COPY", uids, to))
        removed = self.expunge([one.source for one in copied if isinstance(one, Appended)])
        for one in copied:
            answer = next(removed) if isinstance(one, Appended) else one
            yield answer if isinstance(answer, Failure) else one

    # ---- helpers -----------------------------------------------------------------------------------------------------

    def _ready(self) -> Connection:
        conn, at = self._host.select(self._mailbox, write=self._write)
        if self._at.is_another(at):
            raise Lost(f"{self._mailbox}: another mailbox has come in its place")
        self._at = at
        return conn

    def _written(self) -> None:
        """GNU mailutils writes changes down when a mailbox is closed, and not before."""
        if not self._ready().has("UIDPLUS"):
            self._host.unselect()

    def _noting(self, messages: Iterable[Message], wanted: dict[Uid, Flags]) -> Iterator[Message]:
        for message in messages:
            wanted[message.uid] = self.holds.of(message.flags)
            yield message

    def _touch(self, one: Appended | Failure) -> None:
        if isinstance(one, Appended) and one.uid is not None:
            self._host.touched(self._mailbox).add(int(one.uid))

    def _next(self, conn: Connection) -> int:
        """The uid from which on new messages are."""
        if self._at.next is not None:
            return self._at.next
        _, found = conn.execute(b"UID FETCH * (UID)")
        return max((fetched(one).uid or 0 for one in fetches(found)), default=0) + 1

    def _found(self, appended: list[Appended | Failure], before: int) -> list[Appended | Failure]:
        """The uids of what was appended to a server that does not tell them: what is new, in order."""
        lost = [one for one in appended if isinstance(one, Appended) and one.uid is None]
        if not lost:
            return appended
        validity = self._at.validity
        conn = self._ready()
        if validity != self._at.validity:  # it was empty
            before = 1
        _, found = conn.execute(b"UID FETCH %d:* (UID)" % before)
        new = sorted({uid for one in fetches(found) if (uid := fetched(one).uid) is not None and uid >= before})
        if len(new) != len(lost):  # somebody else appended, too: which is which cannot be said
            return appended
        uids = iter(new)
        return [
            replace(one, uid=Uid(str(next(uids)))) if isinstance(one, Appended) and one.uid is None else one
            for one in appended
        ]

    def _with_flags(
        self, appended: Sequence[Appended | Failure], wanted: Mapping[Uid, Flags]
    ) -> Iterator[Appended | Failure]:
        """The same, once each of them has its flags; where it cannot get them, a failure."""
        arrived = {int(one.uid): one for one in appended if isinstance(one, Appended) and one.uid is not None}
        for one in appended:
            self._touch(one)
        failed: dict[Uid, Failure] = {}
        if any(wanted[one.source] for one in arrived.values()):
            now = changes.flags_of(self._ready(), sorted(arrived))
            wrong = [
                change
                for uid, one in sorted(arrived.items())
                if uid in now and (change := _difference(uid, self.holds.of(now[uid]), wanted[one.source]))
            ]
            self._host.keeps_flags = not wrong
            for change, answer in zip(wrong, self.set_flags(wrong), strict=True):
                if isinstance(answer, Failure):
                    source = arrived[int(change.uid)].source
                    failed[source] = Failure(source, f"it was copied, but {answer.why}")
        for one in appended:
            yield failed.get(one.source, one) if isinstance(one, Appended) else one

    def _transfer(self, verb: bytes, uids: Sequence[Uid], to: Mailbox) -> Iterator[Appended | Failure]:
        new: dict[int, int] = {}
        wanted = sorted({int(uid) for uid in uids})
        failed = changes.transfer(self._ready(), verb, wanted, self._host.quoted(to), new) if wanted else {}
        for uid in uids:
            arrived = new.get(int(uid))
            yield failed.get(int(uid)) or Appended(uid, None if arrived is None else Uid(str(arrived)))


def _until(messages: Iterator[Message], last: Callable[[Message], bool]) -> Iterator[Message]:
    """The messages up to, and with, the first of this kind."""
    for message in messages:
        yield message
        if last(message):
            return


def _as_it_is(told: Fetched) -> Fetched:
    return told


def _difference(uid: int, flags: Flags, wanted: Flags) -> FlagChange | None:
    """What makes these flags the wanted ones; keywords are the same in upper and lower case (RFC 3501, 2.3.2)."""
    have, want = {flag.lower() for flag in flags}, {flag.lower() for flag in wanted}
    add = frozenset(flag for flag in wanted if flag.lower() not in have)
    remove = frozenset(flag for flag in flags if flag.lower() not in want)
    return FlagChange(Uid(str(uid)), add, remove) if add or remove else None


def _parts(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (items[at : at + size] for at in range(0, len(items), size))
