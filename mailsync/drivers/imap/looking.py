"""List the mailboxes of a store, however often the connection breaks, over more connections than one if it has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ...errors import BoxError, Lost
from ...model import Failure, Identify, Listing, Mailbox, Token
from ..contract import Wanted
from . import answers
from .account import Tell
from .draft import Draft
from .listing import BOXES, first_look, flights, second_look
from .reach import TRIES, Reach
from .wire import Connection

if TYPE_CHECKING:
    from .pool import Pool


class Listed(Protocol):
    """The store, whose mailboxes these are."""

    def quoted(self, mailbox: Mailbox) -> bytes: ...
    def opened(self, mailbox: Mailbox) -> None:
        """It is open on the first connection from now on, and others were before."""

    def writes_late(self) -> bool:
        """Whether this server writes when a mailbox is closed what it saw there: then none stays open."""

    def unselect(self) -> None: ...
    def unchanged(self, listing: Listing) -> Listing:
        """Nothing has changed in a mailbox since this was listed."""

    def listed(self, draft: Draft) -> Listing: ...


@dataclass
class Looking:
    """Of one store, once. `tokens`: what the server has told of the mailboxes just now."""

    host: Listed
    reach: Reach
    more: Sequence[Reach]
    tell: Tell
    identify: Identify
    write: bool
    tokens: Mapping[Mailbox, Token | None] = field(default_factory=dict)
    pool: Pool | None = None

    def listings(self, wanted: Sequence[Wanted]) -> Iterator[tuple[Mailbox, Listing | Failure]]:
        drafts: list[Draft] = []
        known: dict[Mailbox, Callable[[], Listing | None]] = {each.mailbox: each.known for each in wanted}
        for each in wanted:
            try:
                drafts.append(Draft(each.mailbox, self.host.quoted(each.mailbox)))
            except BoxError as err:
                yield each.mailbox, Failure(each.mailbox, str(err), err.hint)
        with self._pool_for(len(drafts)) as pool:
            for flight in flights(drafts):
                asked = []
                for draft in flight:
                    listing, token = known[draft.mailbox](), self.tokens.get(draft.mailbox)
                    if listing and token and listing.token == token:
                        yield draft.mailbox, self.host.unchanged(listing)
                    else:
                        draft.recall(listing)
                        asked.append(draft)
                for drafted in pool.passed(asked) if pool else (asked,):
                    yield from self._looked(drafted)
            for drafted in pool.rest() if pool else ():
                yield from self._looked(drafted)

    def close(self) -> None:
        """Nobody wants the rest of what is being listed."""
        if self.pool:
            self.pool.close()

    # ---- helpers -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _pool_for(self, number: int) -> Iterator[Pool | None]:
        """None where all is done on one connection."""
        if not self.more or number <= BOXES or self.tell.wire or self.host.writes_late():
            yield None
            return
        from .pool import Pool  # with threading

        with Pool(self.more, self._ask, self.tell) as self.pool:
            yield self.pool
        self.pool = None

    def _ask(self, conn: Connection, flight: Sequence[Draft]) -> None:
        first_look(conn, flight, self.identify, write=self.write)
        second_look(conn, flight, self.identify, write=self.write)

    def _looked(self, flight: Sequence[Draft]) -> Iterator[tuple[Mailbox, Listing | Failure]]:
        self._look(flight)
        if flight and self.host.writes_late():
            self.host.unselect()
        for draft in flight:
            yield draft.mailbox, draft.failure or self.host.listed(draft)
            draft.forget()

    def _look(self, flight: Sequence[Draft]) -> None:
        """Fill these drafts; one at which the connection always breaks is a failure."""
        blamed: Draft | None = None
        tries = 0
        waited = False
        while True:
            left = [draft for draft in flight if not draft.selected and not draft.failure]
            unsure = [draft for draft in flight if draft.unsure and not draft.failure]
            if not left and not unsure:
                return
            try:
                conn = self.reach.connection()
                self.host.opened(flight[-1].mailbox)
                if left:
                    first_look(conn, left, self.identify, write=self.write)
                busy = [draft for draft in left if draft.failure and answers.wait(draft.failure.why) is not None]
                if busy and not waited:
                    waited = True
                    why = "" if busy[0].failure is None else busy[0].failure.why
                    conn.pause(answers.wait(why) or 0, why)
                    for draft in busy:
                        draft.failure = None
                    continue
                second_look(conn, flight, self.identify, write=self.write)
            except Lost as lost:
                first = next((d for d in flight if (not d.selected or d.unsure) and not d.failure), None)
                tries = tries + 1 if first is blamed else 1
                blamed = first
                if first and tries >= TRIES:
                    first.failure = Failure(first.mailbox, f"cannot be listed: {lost}")
                    continue
                self.reach.wait(tries, lost)
