"""A channel between two stores, each on a server or on this machine: configured as users do, read and changed as others
do who come to the same mail, by its drivers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mailsync import config
from mailsync.model import Boxname, Digest, Failure, FlagChange, Flags, Holds, MessageId, Side
from mailsync.opening import Opener
from mailsync.secrets import Vault
from mailsync.stores import Store

from .mail import Mail, configure, listing, put, read
from .servers import server

Contents = Mapping[Boxname, Counter[tuple[Digest, Flags]]]

FILES = ("maildir", "maildir++", "mh", "mbox")  # formats
# What cannot hold mail in a mailbox that has others below it.
FLAT = frozenset({"mbox", "dovecot-mbox", "imap4d"})
SLOW = frozenset({"imap4d"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is, and what its block of the configuration says."""

    name: str  # of a server, or a format
    config: str

    @property
    def nests(self) -> bool:
        return self.name not in FLAT

    @property
    def slow(self) -> bool:
        return self.name in SLOW


def on_server(name: str) -> Place:
    """An account that is empty. As little as a user can say: which mailboxes there are, the server tells."""
    there = server(name)
    login = there.new_login()
    return Place(
        name, f"server {{{there.host}:{there.port}/notls/user={login.user}}}\n  passwd {login.password}\n  timeout 20"
    )


def on_machine(format: str, directory: str) -> Place:
    return Place(format, f"pat {directory}/*\n  prefix {directory}/\n  format {format}\n  fsync no")


@dataclass(frozen=True, slots=True)
class Stores:
    """All stores of a home, opened anew each time: no connection or knowledge is shared with a run."""

    home: Path

    @contextmanager
    def opened(self, name: str) -> Iterator[Store]:
        home = str(self.home)
        known = config.load(config.find(None, home))
        with Opener(home, {}, Vault(home)).store(known.stores[name]) as store:
            yield store


def place(name: str, directory: str) -> Place:
    """In this directory, if it is a format; else an account on this server."""
    return on_machine(name, directory) if name in FILES else on_server(name)


def channels(home: Path, places: Mapping[str, Place], pairs: Iterable[str]) -> Stores:
    """A configuration; `ab` is the channel between the stores a and b."""
    stores = [f"store {name} {{\n  {place.config}\n}}\n" for name, place in places.items()]
    links = [f"channel {pair} {pair[0]} {pair[1]} {{\n  msinfo .msinfo-{pair}\n}}\n" for pair in pairs]
    configure(home, "".join(stores + links))
    return Stores(home)


def boxnames(store: Store) -> list[Boxname]:
    return [boxname for boxname, info in store.contents().boxes.items() if info.selectable]


def fill(store: Store, mails: Mapping[Boxname, Iterable[Mail]]) -> None:
    for boxname, some in mails.items():
        put(store.driver, store.mailbox(boxname), some)


def held(store: Store) -> Mapping[Boxname, Holds]:
    """Which flags each mailbox can keep."""
    return {boxname: listing(store.driver, store.mailbox(boxname)).holds for boxname in boxnames(store)}


def contents(store: Store, only: Mapping[Side, Mapping[Boxname, Holds]] | None = None) -> Contents:
    """The digests and flags of all messages by boxname; of flags `only` what both sides hold."""
    found = {}
    for boxname in boxnames(store):
        mails = read(store.driver, store.mailbox(boxname))
        found[boxname] = Counter(
            (one.exact, one.flags if only is None else shared(only, boxname, one.flags)) for one in mails
        )
    return found


def shared(holds: Mapping[Side, Mapping[Boxname, Holds]], boxname: Boxname, flags: Flags) -> Flags:
    """Of these flags what both mailboxes hold; only one side has the mailbox: what that one holds."""
    for side in Side:
        if boxname in holds[side]:
            flags = holds[side][boxname].of(flags)
    return flags


def change(store: Store, boxname: Boxname, wanted: Mapping[MessageId, Flags | None]) -> None:
    """Give these messages other flags, as far as the mailbox holds them; None: remove the message."""
    found = {entry.id: entry for entry in listing(store.driver, store.mailbox(boxname)).entries}
    with store.open(boxname, write=True) as box:
        goals = {found[id]: flags if flags is None else box.holds.of(flags) for id, flags in wanted.items()}
        changes = [
            FlagChange(entry.uid, goal - entry.flags, entry.flags - goal)
            for entry, goal in goals.items()
            if goal is not None and goal != entry.flags
        ]
        answers = [*box.set_flags(changes), *box.expunge([entry.uid for entry, goal in goals.items() if goal is None])]
    assert not [answer for answer in answers if isinstance(answer, Failure)]
