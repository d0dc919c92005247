"""A mailbox of a server that is open, to be read and changed. Changing does not go on after the connection broke."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ...errors import Lost
from ...model import Appended, Failure, FlagChange, Flags, Message, Uid
from ...stopping import Stopped
from ..contract import Box
from ..delivery import removed
from . import changes
from .append import BATCH, Appender
from .reading import OpenBox
from .tokens import fetched
from .transfer import Transfer, Transferred
from .wire import Connection, fetches

TRIED = BATCH  # messages that are appended at least before one looks whether they have their flags


class ServerBox(OpenBox):
    """One mailbox."""

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
            with _till_stopped(appender.run(stream)) as done:
                yield from self._with_flags(b"APPEND", self._found(done, before), wanted)
            return
        if b"APPEND" not in host.keeps_flags:
            with _till_stopped(appender.run(_to_try(stream, wanted))) as first:
                host.look_anew()
                yield from self._with_flags(b"APPEND", first, wanted)
        if not host.keeps_flags.get(b"APPEND", True):
            with _till_stopped(appender.run(stream)) as done:
                host.look_anew()
                yield from self._with_flags(b"APPEND", done, wanted)
            return
        for one in appender.run(stream, lambda: host.all_asked(conn)):
            host.look_anew()  # Courier does not see in an open mailbox what it has just put there
            self._touch(one)
            yield one

    def set_flags(self, wanted: Sequence[FlagChange]) -> Iterator[Uid | Failure]:
        self._prove()
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
        self._prove()
        wanted = sorted({int(uid) for uid in uids})
        unmarked = self._host.unmarked(self._mailbox)
        failed = changes.expunge(self._ready(), self._mailbox, wanted, unmarked) if wanted else {}
        self._written()
        yield from changes.answered(uids, failed)

    # ---- to another mailbox ------------------------------------------------------------------------------------------

    def reaches(self, to: Box) -> bool:
        if not isinstance(to, ServerBox) or not to._write:
            return False
        return to._host is self._host and to._mailbox != self._mailbox

    def copy(self, uids: Sequence[Uid], to: Box) -> Iterator[Appended | Failure]:
        """UID COPY, which keeps flags and date."""
        yield from self._transfer(self._anew(), b"COPY", uids, to)

    def move(self, uids: Sequence[Uid], to: Box) -> Iterator[Appended | Failure]:
        """UID MOVE (RFC 6851); where there is none, a copy, and the original expunged once the copy is there."""
        conn = self._anew()
        if conn.has("MOVE"):
            yield from self._transfer(conn, b"MOVE", uids, to)
        else:
            yield from removed(self, self._transfer(conn, b"COPY", uids, to))

    # ---- helpers -----------------------------------------------------------------------------------------------------

    def _prove(self) -> None:
        """Lost, if uids that are known are those of other messages now.

        A server that was put back to an older state and then was given as many messages as it had lost tells by no
        number that anything has changed.
        """
        if found := self._host.unproven(self._mailbox):
            last, identify = found
            if self.ids([last.uid], identify).get(last.uid, last.id) != last.id:
                raise Lost(f"{self._mailbox}: the server was put back to an older state")

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
        if len(new) < len(lost):  # the server says that all of them are there
            return [replace(one, sure=False) if isinstance(one, Appended) else one for one in appended]
        if len(new) > len(lost):  # somebody else appended, too: which is which cannot be said
            return appended
        uids = iter(new)
        return [
            replace(one, uid=Uid(str(next(uids)))) if isinstance(one, Appended) and one.uid is None else one
            for one in appended
        ]

    def _with_flags(
        self, verb: bytes, appended: Sequence[Appended | Failure], wanted: Mapping[Uid, Flags]
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
            self._host.keeps_flags[verb] = not wrong
            for change, answer in zip(wrong, self.set_flags(wrong), strict=True):
                if isinstance(answer, Failure) and not answer.gone:  # else somebody has removed it since
                    source = arrived[int(change.uid)].source
                    failed[source] = Failure(source, f"it has come there, but {answer.why}")
        for one in appended:
            yield failed.get(one.source, one) if isinstance(one, Appended) else one

    def _anew(self) -> Connection:
        """As `_ready`; Courier would copy messages with the flags that they had when the mailbox was opened."""
        self._host.look_anew()
        return self._ready()

    def _transfer(self, conn: Connection, verb: bytes, uids: Sequence[Uid], to: Box) -> list[Appended | Failure]:
        assert isinstance(to, ServerBox)
        self._prove()
        before = None
        if not conn.has("UIDPLUS"):
            before = to._next(to._ready())
            conn = self._ready()
        name = self._host.quoted(to._mailbox)
        done = Transfer(conn, verb, name, to.validity).of(sorted({int(uid) for uid in uids}))
        answers = to._arrived(verb, done, before)
        return [done.failed.get(int(uid)) or answers[int(uid)] for uid in uids]

    def _arrived(self, verb: bytes, done: Transferred, before: int | None) -> dict[int, Appended | Failure]:
        """What became of messages that came from another mailbox, by their uids there; with their flags."""
        answers: list[Appended | Failure] = [
            Appended(Uid(str(uid)), None if new is None else Uid(str(new))) for uid, new in sorted(done.arrived.items())
        ]
        if before is not None:
            answers = self._found(answers, before)
        if self._host.keeps_flags.get(verb):
            for one in answers:
                self._touch(one)
        else:
            flags = {Uid(str(uid)): self.holds.of(flags) for uid, flags in done.flags.items()}
            answers = list(self._with_flags(verb, answers, flags))
        return dict(zip(sorted(done.arrived), answers, strict=True))


def _to_try(messages: Iterator[Message], wanted: Mapping[Uid, Flags]) -> Iterator[Message]:
    """Messages to see by what becomes of flags: up to the first that has any, and as many as are worth a round trip."""
    flagged = False
    for count, message in enumerate(messages, 1):
        yield message
        flagged = flagged or bool(wanted[message.uid])
        if flagged and count >= TRIED:
            return


def _difference(uid: int, flags: Flags, wanted: Flags) -> FlagChange | None:
    """What makes these flags the wanted ones; keywords are the same in upper and lower case (RFC 3501, 2.3.2)."""
    have, want = {flag.lower() for flag in flags}, {flag.lower() for flag in wanted}
    add = frozenset(flag for flag in wanted if flag.lower() not in have)
    remove = frozenset(flag for flag in flags if flag.lower() not in want)
    return FlagChange(Uid(str(uid)), add, remove) if add or remove else None


@contextmanager
def _till_stopped(answers: Iterator[Appended | Failure]) -> Iterator[list[Appended | Failure]]:
    """All at once. Who is stopped meanwhile ends with the block: what came until then is there, and is to be told."""
    found: list[Appended | Failure] = []
    try:
        for one in answers:
            found.append(one)
    except Stopped as stopped:
        try:
            yield found
        finally:
            raise stopped
    else:
        yield found
