"""Make, remove and rename the mailboxes of an account. Opens none, and knows not what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from ...errors import BoxError
from ...model import Mailbox
from ...names import is_inbox
from . import answers, mailboxes
from .account import Tell
from .mailboxes import Found
from .naming import Naming
from .reach import Reach
from .tokens import Status
from .wire import Connection

AT_ONCE = 32  # mailboxes


@dataclass(frozen=True, slots=True)
class Making:
    """Over one connection, on which no mailbox is open that this is about."""

    reach: Reach
    naming: Naming
    tell: Tell

    def create(self, mailbox: Mailbox) -> None:
        """No error where it is there already. BoxError if it cannot be made."""
        made, is_there = self._create(mailbox)
        if not is_there and not made.ok:
            for above in self.naming.above(mailbox):
                self._execute(b"CREATE", above)
            made, is_there = self._create(mailbox)
        if not is_there:
            why = "the server makes another name of it" if made.ok else str(made)
            raise BoxError(f"{mailbox}: cannot be created: {why}", answers.advice(made))

    def create_all(self, wanted: Sequence[Mailbox]) -> list[Mailbox]:
        """In few round trips, and subscribed: those that were created. The server says so, and lists them.

        What is refused here is to be tried again by itself, which tells why.
        """
        made: list[Mailbox] = []
        for at in range(0, len(wanted), AT_ONCE):
            made += self.reach.healed(partial(self._created, wanted[at : at + AT_ONCE]))
        self.reach.healed(partial(self._subscribe_all, made))
        return made

    def subscribe(self, mailbox: Mailbox) -> None:
        self.reach.healed(partial(self._subscribe_all, [mailbox]))

    def remove(self, mailbox: Mailbox) -> None:
        """BoxError if it cannot be."""
        end = self._execute(b"DELETE", mailbox)
        if not end.ok and self.naming.is_there(mailbox):  # else the connection broke when it was deleted already
            raise BoxError(f"{mailbox}: cannot be deleted: {end}", answers.advice(end))
        self._execute(b"UNSUBSCRIBE", mailbox)

    def movable(self, old: Mailbox, new: Mailbox) -> list[Found]:
        """All that goes along when a mailbox is renamed; BoxError where it cannot be."""
        if is_inbox(old) or is_inbox(new):
            raise BoxError(f"{old} cannot be renamed to {new}: INBOX keeps its name")
        moving = self.naming.at_or_below(old)
        if not mailboxes.has(moving, old):  # Courier ends the connection, after two seconds
            raise BoxError(f"{old} cannot be renamed to {new}: there is no such mailbox")
        return moving

    def rename(self, old: Mailbox, new: Mailbox, moving: Sequence[Found]) -> list[tuple[Found, Mailbox]]:
        """The mailboxes of `moving` that have another name now, and which; who is subscribed to them stays so."""
        end = self._rename(old, new)
        if not self.naming.is_there(new) or (not end.ok and self.naming.is_there(old)):
            why = "the server says that it is, and it is not there" if end.ok else str(end)
            raise BoxError(f"{old} cannot be renamed to {new}: {why}", answers.advice(end))
        left = {one.mailbox for one in self.naming.at_or_below(old) if one.selectable} if len(moving) > 1 else set()
        moved = [one for one in moving if one.selectable and one.mailbox not in left]
        names = [(one, Mailbox(new + one.mailbox.removeprefix(old))) for one in moved]
        for one, now in names:
            if one.subscribed:
                self._execute(b"UNSUBSCRIBE", one.mailbox)
                self.subscribe(now)
        return names

    # ---- helpers -----------------------------------------------------------------------------------------------------

    def _execute(self, command: bytes, mailbox: Mailbox) -> Status:
        end, _ = self.reach.execute(b"%s %s" % (command, self.naming.codec.quoted(mailbox)))
        return end

    def _create(self, mailbox: Mailbox) -> tuple[Status, bool]:
        """How the server answers, and whether the mailbox is there now."""
        name = self.naming.codec.quoted(mailbox)

        def act(conn: Connection) -> tuple[Status, bool]:
            made, *lists = conn.send(b"CREATE " + name, *self.naming.asking(conn, [mailbox]))
            answer = conn.result(made)
            return answer, mailboxes.has(self.naming.found(conn, lists), mailbox)

        answer, is_there = self.reach.healed(act)
        if not answer.ok and (seconds := answers.wait(answer)) is not None:
            self.reach.connection().pause(seconds, str(answer))
            answer, is_there = self.reach.healed(act)
        return answer, is_there

    def _created(self, wanted: Sequence[Mailbox], conn: Connection) -> list[Mailbox]:
        sent = []
        for mailbox in wanted:
            with suppress(BoxError):  # a name that cannot be said
                name = self.naming.codec.quoted(mailbox)
                created, *lists = conn.send(b"CREATE " + name, *self.naming.asking(conn, [mailbox]))
                sent.append((mailbox, created, lists))
        told = [(mailbox, conn.result(created), self.naming.found(conn, lists)) for mailbox, created, lists in sent]
        return [mailbox for mailbox, end, found in told if end.ok and mailboxes.has(found, mailbox)]

    def _subscribe_all(self, made: Sequence[Mailbox], conn: Connection) -> None:
        tags = conn.send(*(b"SUBSCRIBE " + self.naming.codec.quoted(mailbox) for mailbox in made)) if made else []
        for mailbox, tag in zip(made, tags, strict=True):
            end = conn.result(tag)
            if not end.ok:
                self.tell.odd(f"{mailbox}: cannot be subscribed: {end}")

    def _rename(self, old: Mailbox, new: Mailbox) -> Status:
        quoted = self.naming.codec.quoted
        command = b"RENAME %s %s" % (quoted(old), quoted(new))
        end, _ = self.reach.execute(command)
        above = self.naming.above(new)
        if not end.ok and above and not self.naming.is_there(above[-1]):
            for level in above:
                self._execute(b"CREATE", level)
            end, _ = self.reach.execute(command)
        return end
