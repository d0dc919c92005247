"""Which mailboxes an account has, and what they are called: asked over its connection. Opens none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from ...errors import BoxError, Lost, StoreError
from ...model import Mailbox
from . import mailboxes
from .mailboxes import INBOX, Codec, Found
from .reach import Reach
from .tokens import Response, Status, listed, namespaces, quoted
from .wire import Connection

AT_ONCE = 32  # names that are asked for in one flight


class Naming:
    """The names of one account. `patterns`, `prefix`: as in the configuration; with neither, the server is asked."""

    def __init__(self, reach: Reach, patterns: Sequence[str], prefix: str, *, subscribed: bool) -> None:
        self._reach = reach
        self._given, self._given_prefix = tuple(patterns), prefix
        self._subscribed = subscribed
        self._space: tuple[str, str | None] | None = None  # prefix and delimiter of the personal namespace
        self.codec = Codec()

    @property
    def automatic(self) -> bool:
        """True if the server says which mailboxes there are and what their names begin with."""
        return not self._given and not self._given_prefix

    @property
    def prefix(self) -> str:
        return self._namespace()[0] if self.automatic else self._given_prefix

    @property
    def patterns(self) -> tuple[str, ...]:
        return (INBOX, f"{self.prefix}*") if self.automatic else self._given

    @property
    def delimiter(self) -> str | None:
        return self._namespace()[1]

    def matching(self, patterns: Sequence[str]) -> list[Found]:
        """What LIST tells; StoreError if it does not: a part of the names would look like deletions."""
        return self._healed(lambda conn: self.found(conn, conn.send(*self.asking(conn, patterns))))

    def with_tokens(self, patterns: Sequence[str]) -> list[Found]:
        """Likewise, with tokens, and with what else is yet to be asked of the account, in as few flights as can be."""

        def ask(conn: Connection) -> list[Found]:
            spaces = self._asking_space(conn) if self._space is None else []
            lists = mailboxes.commands(conn, self.codec, patterns, subscribed=self._subscribed, status=True)
            tags = conn.send(*spaces, *lists)
            if spaces:
                self._space = self._chosen(conn, tags[: len(spaces)])
            names = self.found(conn, tags[len(spaces) :])
            if not mailboxes.counts_changes(conn) or conn.has("LIST-STATUS"):
                return names
            return self._with_tokens(conn, names)

        return self._healed(ask)

    def _with_tokens(self, conn: Connection, names: Sequence[Found]) -> list[Found]:
        """One STATUS for each, without waiting in between."""
        whole: list[Found] = []
        for at in range(0, len(names), AT_ONCE):
            part = names[at : at + AT_ONCE]
            asked = [one for one in part if one.selectable]
            tags = conn.send(*(b"STATUS %s %s" % (quoted(one.raw), mailboxes.STATUS) for one in asked))
            told = [answer for tag in tags for answer in conn.told(tag) if answer.kind == b"STATUS"]
            for tag in tags:
                conn.result(tag)
            tokens = dict(map(mailboxes.token_of, told))
            whole += [one._replace(token=tokens.get(one.raw)) for one in part]
        return whole

    def each_of(self, wanted: Sequence[Mailbox]) -> dict[Mailbox, Found | None]:
        """Those of these names that can be said, with what LIST tells of each."""
        asked = []
        for mailbox in wanted:
            with suppress(BoxError):
                self.codec.quoted(mailbox)
                asked.append(mailbox)
        parts = (asked[at : at + AT_ONCE] for at in range(0, len(asked), AT_ONCE))
        told = [found for part in parts for found in self.matching(part)]
        return {mailbox: next((one for one in told if one.mailbox == mailbox), None) for mailbox in asked}

    def at_or_below(self, mailbox: Mailbox) -> list[Found]:
        """A mailbox, and all below it that the server lets us see; which are subscribed is told, too."""
        below = f"{mailbox}{self.delimiter}" if self.delimiter else None
        wanted = [mailbox, f"{below}*"] if below else [mailbox]

        def ask(conn: Connection) -> list[Found]:
            # GNU mailutils says NO where nothing is below.
            return self._told(conn, conn.send(*mailboxes.commands(conn, self.codec, wanted, subscribed=True)))[0]

        names = self._healed(ask)
        return [one for one in names if one.mailbox == mailbox or (below and one.mailbox.startswith(below))]

    def asking(self, conn: Connection, patterns: Sequence[str]) -> list[bytes]:
        return mailboxes.commands(conn, self.codec, patterns, subscribed=self._subscribed)

    def found(self, conn: Connection, tags: Sequence[bytes]) -> list[Found]:
        names, refusals = self._told(conn, tags)
        for end in refusals:
            raise StoreError(f"{self._reach.account}: the mailboxes cannot be listed: {end}")
        return names

    def is_there(self, mailbox: Mailbox) -> bool:
        return mailboxes.has(self.matching([mailbox]), mailbox)

    def above(self, mailbox: Mailbox) -> list[Mailbox]:
        delimiter = self.delimiter
        if not delimiter:
            return []
        levels = mailbox.split(delimiter)
        return [Mailbox(delimiter.join(levels[:n])) for n in range(1, len(levels))]

    def _told(self, conn: Connection, tags: Sequence[bytes]) -> tuple[list[Found], list[Status]]:
        """The names, and what was refused."""
        told: list[Response] = []
        ends: list[Status] = []
        for tag in tags:
            told += conn.told(tag)
            ends.append(conn.result(tag))
        return mailboxes.found(told, self.codec), [end for end in ends if not end.ok]

    def _healed(self, ask: Callable[[Connection], list[Found]]) -> list[Found]:
        try:
            return self._reach.healed(ask)
        except Lost as lost:
            raise StoreError(f"{self._reach.account}: the mailboxes cannot be listed: {lost}", lost.hint) from lost

    def _namespace(self) -> tuple[str, str | None]:
        """Prefix and delimiter of the user's own mailboxes; StoreError if the server will not say."""
        if self._space is None:
            try:
                self._space = self._reach.healed(lambda conn: self._chosen(conn, conn.send(*self._asking_space(conn))))
            except Lost as lost:
                raise StoreError(f"{self._reach.account}: {lost}", lost.hint) from lost
        return self._space

    def _asking_space(self, conn: Connection) -> list[bytes]:
        return [b'LIST "" ""'] + ([b"NAMESPACE"] if conn.has("NAMESPACE") else [])

    def _chosen(self, conn: Connection, tags: Sequence[bytes]) -> tuple[str, str | None]:
        told = [answer for tag in tags for answer in conn.told(tag)]
        for tag in tags:
            conn.result(tag)
        spaces = [space for one in told if one.kind == b"NAMESPACE" for space in namespaces(one)]
        lists = [listed(one) for one in told if one.kind == b"LIST"]
        plain = [(b"", one.delimiter) for one in lists]
        begin = self._given_prefix or next(iter(self._given), "")
        fitting = [
            space
            for space in sorted(spaces, key=lambda space: -len(space[0]))
            if begin.startswith(self.codec.mailbox(space[0]))
        ]
        chosen = (spaces if self.automatic else fitting or spaces) or plain or [(b"", "/")]
        prefix, delimiter = chosen[0]
        return str(self.codec.mailbox(prefix)), delimiter
