"""A store on an IMAP server: its mailboxes, which one of them is open, and what was seen of each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

from ... import stopping
from ...digest import blake2b
from ...errors import BoxError, Lost
from ...model import BoxInfo, Entry, Failure, Holds, Identify, Listing, Mailbox, Token
from ...names import Patterns, is_inbox
from ..contract import Box, Coming, Sight, Wanted
from . import answers, mailboxes
from .account import QUIET, Account, Secrets, Tell
from .ahead import Ahead, Flight
from .mailboxes import EVERYTHING, INBOX, Found
from .naming import Naming
from .reach import Reach
from .select import USUAL, Selected, ServerHolds, mailbox_id, opening, selected
from .tokens import code_value
from .wire import Connection

if TYPE_CHECKING:  # a run that finds nothing lists and opens no mailbox
    from .draft import Draft
    from .looking import Looking
    from .making import Making


class ImapStore:
    """Mailboxes of one account.

    `patterns` and `prefix` as in the configuration. With neither, the server says below what prefix all its mailboxes
    lie (NAMESPACE, RFC 2342), and all of them belong to the store.
    """

    def __init__(
        self,
        account: Account,
        secrets: Secrets,
        tell: Tell = QUIET,
        *,
        patterns: Sequence[str] = (),
        prefix: str = "",
        subscribed: bool = False,
        readonly: bool = False,
        connections: int = 1,
        sleep: Callable[[float], None] = stopping.sleep,
    ) -> None:
        self._tell = tell
        self._reach = Reach(account, secrets, tell, fresh=self._begin, sleep=sleep)
        self._more = [
            Reach(account, secrets, tell, fresh=self._speak_utf8, sleep=sleep, patient=False)
            for _ in range(connections - 1)
        ]
        self._looking: Looking | None = None  # the last one
        self._naming = Naming(self._reach, patterns, prefix, subscribed=subscribed)
        self._codec = self._naming.codec
        self._subscribed = subscribed
        self._readonly = readonly
        self._ahead = Ahead(self._codec.quoted)
        self._flight: Flight | None = None  # what was sent for in the mailbox that was opened last
        self._open: tuple[Mailbox, bool] | None = None  # selected on the connection, and whether to be changed
        self._stale = False  # what is selected may not show what there is
        self._listed: dict[Mailbox, Selected] = {}
        self._names: set[Mailbox] = set()  # of mailboxes that are there
        self._holds: dict[Mailbox, Holds] = {}
        self._touched: dict[Mailbox, set[int]] = {}
        self._unmarked: dict[Mailbox, set[int]] = {}  # what others had marked \Deleted, and is to be so again
        self._unproven: dict[Mailbox, Entry] = {}
        self._seen: Sequence[Found] | None = None  # what was told first
        self._tokens: dict[Mailbox, Token | None] = {}
        self.keeps_flags: dict[bytes, bool] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._looking:
            self._looking.close()
        self._reach.end()

    # ---- names -------------------------------------------------------------------------------------------------------

    @property
    def automatic(self) -> bool:
        return self._naming.automatic

    @property
    def prefix(self) -> str:
        return self._naming.prefix

    @property
    def patterns(self) -> tuple[str, ...]:
        return self._naming.patterns

    @property
    def delimiter(self) -> str | None:
        return self._naming.delimiter

    def boxes(self, patterns: Sequence[str]) -> Sequence[BoxInfo]:
        names = self._told() if tuple(patterns) == self.patterns else self._naming.matching(patterns)
        wanted = Patterns(patterns, self.delimiter)
        infos: dict[Mailbox, BoxInfo] = {}
        for found in names:
            if wanted.matches(found.mailbox):
                before = infos.get(found.mailbox)
                infos[found.mailbox] = self._info(found, patterns) if before is None else mailboxes.twice(found)
        return list(infos.values())

    def sight(self) -> Sight | None:
        seen = self._told() if self._seen is None else self._seen
        if any(one.selectable and one.token is None for one in seen):
            return None
        whole = "\n".join(sorted(map(str, seen)))
        return Sight(token=blake2b(whole.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest())

    def find(self, mailbox: Mailbox) -> BoxInfo | None:
        try:
            found = next((one for one in self._naming.with_tokens([mailbox]) if one.mailbox == mailbox), None)
        except BoxError as err:
            return BoxInfo(mailbox, False, None, Failure(mailbox, str(err), err.hint))
        return self._info(found, [mailbox]) if found else None

    def find_all(self, mailboxes: Sequence[Mailbox]) -> Mapping[Mailbox, BoxInfo | None]:
        found = self._naming.each_of(mailboxes).items()
        return {mailbox: self._info(one, [mailbox]) if one else None for mailbox, one in found}

    def holds(self, mailbox: Mailbox) -> Holds:
        """Of a mailbox that was not seen: what INBOX holds, which is there on every server."""
        name = mailbox if mailbox in self._names else INBOX
        if name not in self._holds and not self._readonly:
            with suppress(BoxError):
                self.select(name, write=True)
        return self._holds.get(name, USUAL)

    # ---- listings and boxes ------------------------------------------------------------------------------------------

    def listings(self, wanted: Sequence[Wanted], identify: Identify) -> Iterator[tuple[Mailbox, Listing | Failure]]:
        from .looking import Looking  # with all that a run needs only where something has changed

        # The tokens hold for the first listing: after that we have changed things ourselves.
        tokens = {each.mailbox: self._tokens.pop(each.mailbox, None) for each in wanted}
        self._looking = look = Looking(self, self._reach, self._more, self._tell, identify, not self._readonly, tokens)
        yield from look.listings(wanted)

    @contextmanager
    def open(self, mailbox: Mailbox, *, write: bool) -> Iterator[Box]:
        from .box import ServerBox

        if write:
            yield ServerBox(self, mailbox, write=True)
        else:
            yield self._reach.patiently(lambda: ServerBox(self, mailbox, write=False))

    def foresee(self, coming: Sequence[Coming]) -> None:
        self._ahead.expect(coming)
        self._reach.expect(sum(one.size for one in coming))

    @cached_property
    def _making(self) -> Making:
        from .making import Making  # most runs make nothing

        return Making(self._reach, self._naming, self._tell)

    def create_all(self, mailboxes: Sequence[Mailbox]) -> Collection[Mailbox]:
        made = self._making.create_all(mailboxes)
        self._names.update(made)
        return made

    def create(self, mailbox: Mailbox) -> None:
        self._making.create(mailbox)
        if mailbox not in self._names:  # a refusal may only say that it was made before, unheard
            self._names.add(mailbox)
            self._making.subscribe(mailbox)

    def delete(self, mailbox: Mailbox) -> None:
        if is_inbox(mailbox):
            raise BoxError(f"{mailbox} is never deleted")
        _, at = self.select(mailbox, write=False, fresh=True)
        if at.exists:
            raise BoxError(f"{mailbox}: not deleted, because it holds {at.exists} messages")
        self.unselect()
        self._making.remove(mailbox)
        self._forget(mailbox)

    def rename(self, old: Mailbox, new: Mailbox) -> None:
        """What is below the old name goes along (RFC 3501, 6.3.5); who is subscribed to them stays so."""
        moving = self._making.movable(old, new)
        self.unselect()
        for one, now in self._making.rename(old, new, moving):
            self._follow(one.mailbox, now)

    def identity(self, mailbox: Mailbox) -> str | None:
        if not self._reach.connection().has("OBJECTID"):
            return None
        _, told = self._reach.execute(b"STATUS %s (MAILBOXID)" % self._codec.quoted(mailbox))
        lines = [one.parts[-1] for one in told if one.kind == b"STATUS"]
        return mailbox_id(lines[0]) if lines and isinstance(lines[0], bytes) else None

    # ---- what a box needs --------------------------------------------------------------------------------------------

    def select(self, mailbox: Mailbox, *, write: bool, fresh: bool = False) -> tuple[Connection, Selected]:
        self._flight = flight = self._ahead.flight(mailbox, self._reach.connection, write=write) if fresh else None
        if flight:
            conn, self._open = flight.conn, None
            told = conn.told(flight.opened)
            end = conn.result(flight.opened)
        else:
            conn = self._reach.connection()
            if not (fresh or self._stale) and self._open == (mailbox, write) and mailbox in self._listed:
                return conn, self._listed[mailbox]
            self._open = None
            end, told = conn.execute(opening(conn, self._codec.quoted(mailbox), write=write))
        if not end.ok:
            raise BoxError(f"{mailbox}: cannot be opened: {end}", answers.advice(end))
        at = selected(mailbox, told, end)
        if write and not at.writable:
            raise BoxError(f"{mailbox}: the server lets us only read it", answers.advice(end))
        before = self._listed.get(mailbox)
        if before and before.is_another(at):  # until it is listed anew, its uids mean nothing
            raise Lost(f"{mailbox}: another mailbox has come in its place (UIDVALIDITY, UIDNEXT)")
        self._note(mailbox, at, since=before.modseq if before else None)
        self._open, self._stale = None if self._ahead.busy else (mailbox, write), False
        return conn, at

    def begun(self, mailbox: Mailbox, uids: Sequence[int]) -> Flight | None:
        flight, self._flight = self._flight, None
        if flight and flight.alive and flight.mailbox == mailbox and flight.uids == uids[: len(flight.uids)]:
            return flight
        return None

    def all_asked(self, conn: Connection) -> None:
        self._ahead.fill(conn)
        self._open = None if self._ahead.busy else self._open

    def unselect(self) -> None:
        if self._open is None:
            return
        conn = self._reach.connection()
        if conn.has("UNSELECT"):
            conn.execute(b"UNSELECT")
        else:  # CLOSE expunges, unless the mailbox is open to be read only
            end, _ = conn.execute(b"EXAMINE " + self._codec.quoted(self._open[0]))
            if end.ok:
                conn.execute(b"CLOSE")
        self._open = None

    def look_anew(self) -> None:
        self._stale = True

    def quoted(self, mailbox: Mailbox) -> bytes:
        return self._codec.quoted(mailbox)

    def limit(self, mailbox: Mailbox) -> int | None:
        conn = self._reach.connection()
        if conn.has("APPENDLIMIT"):  # another for each mailbox (RFC 7889, 5)
            _, told = conn.execute(b"STATUS %s (APPENDLIMIT)" % self._codec.quoted(mailbox))
            lines = [one.parts[-1] for one in told if one.kind == b"STATUS"]
            return code_value(lines[0], b"APPENDLIMIT") if lines and isinstance(lines[0], bytes) else None
        limits = [cap.partition("=")[2] for cap in conn.caps if cap.startswith("APPENDLIMIT=")]
        return int(limits[0]) if limits and limits[0].isdecimal() else None

    def listed_modseq(self, mailbox: Mailbox) -> int | None:
        at = self._listed.get(mailbox)
        return at.modseq if at else None

    def unproven(self, mailbox: Mailbox) -> tuple[Entry, Identify] | None:
        last = self._unproven.pop(mailbox, None)
        return (last, self._looking.identify) if last and self._looking else None

    def touched(self, mailbox: Mailbox) -> set[int]:
        return self._touched.setdefault(mailbox, set())

    def unmarked(self, mailbox: Mailbox) -> set[int]:
        return self._unmarked.setdefault(mailbox, set())

    def wait(self, tries: int, why: Lost) -> None:
        self._reach.wait(tries, why)

    # ---- what a listing needs ----------------------------------------------------------------------------------------

    def opened(self, mailbox: Mailbox) -> None:
        self._open, self._stale = (mailbox, not self._readonly), True

    def writes_late(self) -> bool:
        """True for GNU mailutils: when a mailbox is closed, it writes what it saw there, and so brings mail back that
        others have expunged meanwhile.
        """
        conn = self._reach.connection()
        return conn.has("UNSELECT") and not conn.has("UIDPLUS")

    def unchanged(self, listing: Listing) -> Listing:
        mailbox = listing.mailbox
        holds = ServerHolds(listing.holds.flags, listing.holds.any_keyword)
        self._note(mailbox, Selected.at(mailbox, listing), since=None)
        self._holds[mailbox] = holds
        self._touched.pop(mailbox, None)
        if listing.entries:
            self._unproven[mailbox] = listing.entries[-1]
        return replace(listing, holds=holds)

    def listed(self, draft: Draft) -> Listing:
        at = draft.selected
        assert at
        self._note(draft.mailbox, at, since=None)
        self._touched.pop(draft.mailbox, None)
        return draft.listing(self._holds.get(draft.mailbox) or ServerHolds(at.flags, any_keyword=True))

    # ---- helpers -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _speak_utf8(conn: Connection) -> None:
        if conn.has("UTF8=ONLY"):
            conn.execute(b"ENABLE UTF8=ACCEPT")

    def _begin(self, conn: Connection) -> None:
        """On a new connection no mailbox is open.

        Names are in UTF-8 only where nothing else is spoken (RFC 6855, 6): to enable it elsewhere gains nothing, and
        then servers want headers with 8-bit bytes announced, or complain (Courier).
        """
        self._open = None
        self._codec.utf8 = conn.has("UTF8=ONLY") and conn.execute(b"ENABLE UTF8=ACCEPT")[0].ok
        for mailbox, uids in self._unmarked.items():
            if uids:
                self._mark_again(conn, mailbox, uids)

    def _mark_again(self, conn: Connection, mailbox: Mailbox, uids: set[int]) -> None:
        """What the last connection has left unmarked; before it is listed, and looks so to the other side."""
        from .changes import mark_again

        end, told = conn.execute(opening(conn, self._codec.quoted(mailbox), write=True))
        before = self._listed.get(mailbox)
        if end.ok and before and not before.is_another(selected(mailbox, told, end)):
            mark_again(conn, uids)
        else:
            uids.clear()

    def _info(self, found: Found, patterns: Sequence[str]) -> BoxInfo:
        info = mailboxes.info(found, self.prefix if self.automatic else None, self.delimiter)
        if not info.selectable:
            return info
        self._names.add(info.mailbox)
        if EVERYTHING & found.attributes and info.mailbox not in patterns:
            why = "it holds the mail of all other mailboxes; a pat that is its name takes it in"
            return replace(info, unwanted=why)
        if self._subscribed and not found.subscribed:
            return replace(info, unwanted="not subscribed")
        return info

    def _told(self) -> Sequence[Found]:
        """The names of the store, and their tokens, which hold until the mailboxes are listed.

        Asked for each time: what is listed must be newer than the memory that it is held against.
        """
        names = self._naming.with_tokens(self.patterns)
        self._seen = self._seen or names
        self._tokens = {one.mailbox: one.token for one in names}
        return names

    def _note(self, mailbox: Mailbox, at: Selected, since: int | None) -> None:
        """`since`: HIGHESTMODSEQ when it was listed, which an opening afterwards does not change."""
        if since is not None:
            at = at._replace(modseq=since)
        self._listed[mailbox] = at
        if at.holds:
            self._holds[mailbox] = at.holds

    def _follow(self, old: Mailbox, new: Mailbox) -> None:
        """All that is known of a mailbox is true under its new name, too: else its uids would mean nothing there."""
        self._forget(new)
        at, holds = self._listed.get(old), self._holds.get(old)
        if at:
            self._listed[new] = at._replace(mailbox=new)
        if holds:
            self._holds[new] = holds
        self._touched[new] = self._touched.pop(old, set())
        if last := self._unproven.pop(old, None):
            self._unproven[new] = last
        self._names.add(new)
        self._forget(old)

    def _forget(self, mailbox: Mailbox) -> None:
        self._names.discard(mailbox)
        self._listed.pop(mailbox, None)
        self._holds.pop(mailbox, None)
        self._unproven.pop(mailbox, None)
        self._touched.pop(mailbox, None)
