"""What a configuration says, as values. Knows neither how it is written nor where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..model import Duplicates, Side

if TYPE_CHECKING:
    from datetime import date

    from ..unchanged import State


class Where(NamedTuple):
    """A place in the file; both count from 1, columns in characters."""

    line: int
    column: int


NOWHERE = Where(0, 0)


class Secret:
    """A password. It shows itself only to who asks by name: no message, log or dump prints it by accident."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


class Deletion(NamedTuple):
    """What a deletion is in a store: the message is removed, only marked as deleted, or moved to another mailbox."""

    mark: bool = False
    trash: str = ""  # full name of a mailbox of that store, as written

    def __str__(self) -> str:
        return f"trash:{self.trash}" if self.trash else "mark" if self.mark else "expunge"


class MaxDelete(NamedTuple):
    """How many messages of one side may be deleted in one run: a number, or a percentage of those remembered."""

    number: int
    percent: bool = False

    def __str__(self) -> str:
        return f"{self.number}{'%' if self.percent else ''}"

    def of(self, seen: int) -> int:
        """The number that may be deleted when `seen` messages are remembered; a percentage is rounded down."""
        return seen * self.number // 100 if self.percent else self.number


EXPUNGE = Deletion()
FIFTY = MaxDelete(50)


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """A set of mailboxes. It is on a server if `server` is not empty."""

    name: str
    server: str = ""  # '{host/switches}' and perhaps the begin of all names
    ref: str = ""  # put before each pattern; without one in the file the '{...}' of `server`
    patterns: tuple[str, ...] = ()  # in the order of the file; '!x' takes away
    prefix: str = ""
    passwd: Secret | None = None
    format: str | None = None  # of mailboxes that are made: maildir, maildir++, mbox, mh
    create: bool = True
    fsync: bool = True
    readonly: bool = False
    delete: Deletion = EXPUNGE
    user_cmd: str = ""  # each of the three: a command, whose output is used
    passwd_cmd: str = ""
    token_cmd: str = ""
    keyring: bool = False
    tunnel: str = ""  # a command that speaks IMAP
    subscribed: bool = False  # only mailboxes that are subscribed
    cert: str = ""  # this and the next two: names of PEM files, as written
    key: str = ""
    ca: str = ""
    pin: str = ""  # SHA-256 of the server's certificate: 64 hexadecimal digits in lower case
    connections: int = 1  # at once, to list many mailboxes
    compress: str = "auto"  # auto, yes, no
    timeout: int = 60  # seconds
    where: Where = field(default=NOWHERE, compare=False, repr=False)  # of its name


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """Two stores that are kept equal."""

    name: str
    a: str
    b: str
    msinfo: str
    passwd: Secret | None = None  # for msinfo alone
    sizelimit: int | None = None  # bytes
    duplicates: Duplicates = Duplicates.IDENTICAL
    expunge_all: bool = False
    max_delete: MaxDelete = FIFTY
    create: frozenset[Side] = frozenset(Side)  # where mailboxes are made, if the store allows it, too
    direction: frozenset[Side] = frozenset(Side)  # the sides that are changed
    maxage: int | None = None  # days
    since: date | None = None
    map: tuple[tuple[str, str], ...] = ()  # boxnames of a and b, in the order of the file; see mapping
    exclude: tuple[str, ...] = ()  # patterns of boxnames; '!x' takes away
    keep_deleted: int | None = None  # days; 0 = off, None = not said
    pre_sync: str = ""  # this and the next two: commands
    post_sync: str = ""
    on_change: str = ""
    passwd_cmd: str = ""  # this and the next for msinfo alone
    token_cmd: str = ""
    where: Where = field(default=NOWHERE, compare=False, repr=False)  # of its name


@dataclass(frozen=True, slots=True)
class Config:
    """A whole file. Stores, channels and groups share one namespace."""

    filename: str
    stores: Mapping[str, StoreConfig]
    channels: Mapping[str, ChannelConfig]
    warnings: tuple[str, ...] = ()  # each with file, line and column
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # channels, those of groups in groups, too
    state: State | None = field(default=None, compare=False)  # of the file; None: it is none, or was just changed
    kept: bool = field(default=False, compare=False)  # an earlier run has understood it
