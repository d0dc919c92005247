"""Values that flow through a run. Knows no driver, file, server or clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple, NewType, Protocol

Mailbox = NewType("Mailbox", str)  # full name inside one store; odd bytes by surrogateescape
Boxname = NewType("Boxname", str)  # what both sides share, "/" between levels
Uid = NewType("Uid", str)  # a driver's own handle, opaque above it
MessageId = NewType("MessageId", str)  # the id as 5.2.7 writes it, one character a byte (latin-1)
Key = NewType("Key", str)  # a MessageId folded for comparing: printable ASCII only
Digest = NewType("Digest", str)  # of the canonical whole, see identity
Token = NewType("Token", str)  # equal token = nothing changed; taken BEFORE the box was read
Flags = frozenset[str]  # "\\Seen", "$Forwarded", ...

NONE: Flags = frozenset()
HIDDEN = MessageId("")
SEEN, ANSWERED, FLAGGED, DELETED, DRAFT = "\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"
SYSTEM: Flags = frozenset({SEEN, ANSWERED, FLAGGED, DELETED, DRAFT})


class Side(Enum):
    """One of the two stores of a channel. All code that treats both is written once and asked from each side."""

    A = "a"
    B = "b"

    __hash__ = object.__hash__  # Enum's own is slow Python, and sides are keys everywhere

    @property
    def other(self) -> Side:
        return Side.B if self is Side.A else Side.A


@dataclass(frozen=True, slots=True)
class Holds:
    """Which flags one mailbox can keep (PERMANENTFLAGS, 26 Maildir letters, MH sequences)."""

    flags: Flags = SYSTEM
    any_keyword: bool = False

    def __contains__(self, flag: object) -> bool:
        return flag in self.flags or (self.any_keyword and isinstance(flag, str) and not flag.startswith("\\"))

    def of(self, flags: Iterable[str]) -> Flags:
        if isinstance(flags, frozenset) and flags <= SYSTEM and flags <= self.flags:  # nearly always
            return flags
        return frozenset(f for f in flags if f in self)


class Entry(NamedTuple):
    """One message of a listing. 50,000 of these must fit: a tuple, with the flags shared."""

    uid: Uid
    id: MessageId
    flags: Flags
    size: int | None = None  # bytes on the wire (CRLF), advisory; None where it costs a read
    date: int | None = None  # internal date, seconds since the epoch; None where the listing does not have it for free


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one thing, and only that, did not happen. A value: a batch goes on."""

    what: str  # the uid or mailbox it is about
    why: str
    hint: str = ""
    gone: bool = False  # vanished or changed since it was listed: not an error, the next run sees it
    alone: bool = False  # a batch was refused as a whole: try its members one by one
    shared: bool = False  # not this one's own fault: whatever is tried there now fails

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with how a mailbox is kept, whatever its messages are."""

    kind: str  # a name for programs, which keeps its meaning
    what: str  # in words that begin with how many: "2 files in cur without flags"
    count: int = 1
    names: Sequence[str] = ()  # which ones; () if there is nothing more to tell
    hint: str = ""

    def __str__(self) -> str:
        return self.what


@dataclass(frozen=True, slots=True)
class Listing:
    """All that a mailbox held at one moment, in the order in which the mailbox keeps it."""

    mailbox: Mailbox
    entries: Sequence[Entry]
    holds: Holds
    token: Token | None = None
    validity: str | None = None  # UIDVALIDITY or inode: another value means another mailbox under the same name
    unreadable: Sequence[Failure] = ()  # present but without identity: absence proves nothing in this box
    identity: str | None = None  # stays the same when the mailbox is renamed; equal is a sign, no proof (inodes return)
    put_back: bool = False  # to an older state than it had once, surely: what is not in it was not deleted

    @property
    def complete(self) -> bool:
        return not self.unreadable


@dataclass(frozen=True, slots=True)
class BoxInfo:
    """One name of a store."""

    mailbox: Mailbox
    selectable: bool = True
    token: Token | None = None
    failure: Failure | None = None  # this name, and all names below it, cannot be seen: nothing is known of them
    unwanted: str = ""  # why the store leaves it out, although it matches: nothing is known to have happened to it
    use: str = ""  # what it is for, as the server says: "\\Trash", "\\Sent" (RFC 6154, 2)
    stray: bool = False  # the failure is that it is no mail: nothing to complain of, unless a mailbox was expected


class Identify(Protocol):
    """Which header fields a driver must bring, and what they mean. Pure; made by `identity`."""

    @property
    def fields(self) -> tuple[bytes, ...]:
        """Header fields that are enough to make an id of, or to see that it takes the whole message; lower case."""

    @property
    def quick(self) -> tuple[bytes, ...]:
        """Those of `fields` that are asked for first, for every message, where each byte costs time; see `sure`."""

    @property
    def version(self) -> str:
        """Part of every cache key: ids made by another rule are not comparable."""

    def __call__(self, header: bytes, /) -> MessageId | None:
        """The id made from a raw header block (a whole head, or only `fields`).

        None: it takes the whole message. HIDDEN: it is msinfo, which is never listed, copied or counted.
        """

    def sure(self, header: bytes, /) -> MessageId | None:
        """The id, as above, if the fields `quick` are enough to tell it. None: ask for `fields`."""

    def whole(self, chunks: Iterable[bytes], /) -> MessageId:
        """The id of a message whose header has nothing to tell it by."""


class Body(Protocol):
    """A message's bytes, readable once or more, until the next message is asked for."""

    def size(self, *, wire: bool) -> int:
        """Exact number of bytes that `chunks` yields: an APPEND literal needs it before the first byte."""

    def chunks(self, *, wire: bool) -> Iterator[bytes]:
        """The bytes. `wire`: each line ends in CRLF; else as a local file keeps them.

        A local body has its bytes as they are in the file; what came from a server has its CRLF made LF. The same
        message copied between local stores keeps each byte.
        """


@dataclass(frozen=True, slots=True)
class Message:
    """A message on its way from one side to the other."""

    uid: Uid  # on the side it comes from
    flags: Flags
    date: int  # internal date, seconds since the epoch
    body: Body
    alone: bool = False  # second try after a refused batch
    head: bytes | None = None  # its header block, from a store that may give another text in the place of what is gone


@dataclass(frozen=True, slots=True)
class Appended:
    source: Uid
    uid: Uid | None  # None: the server does not tell (no UIDPLUS)
    sure: bool = True  # False: what is kept may differ from what was given (8-bit headers, NUL, bare CR, ...)


class FlagChange(NamedTuple):
    uid: Uid
    add: Flags = NONE
    remove: Flags = NONE


class Head(NamedTuple):
    """The header block of one message, its end-of-header blank line not included, and its internal date."""

    uid: Uid
    header: bytes
    date: int


class Measured(NamedTuple):
    """What tells, but for its bytes, whether a message is the same as another."""

    uid: Uid
    size: int  # bytes on the wire: as its body tells
    date: int  # internal date, seconds since the epoch


# ---- memory ----------------------------------------------------------------------------------------------------------


class Digests(NamedTuple):
    """The pairing digest of a message on each side; the two differ where a server rewrites what it is given."""

    a: Digest
    b: Digest

    def on(self, side: Side) -> Digest:
        return self.a if side is Side.A else self.b


class Line(NamedTuple):
    """One remembered message."""

    id: MessageId
    flags: Flags | None = None  # None: never agreed (5.2.7 wrote the line)
    digests: Digests | None = None  # only members of a group, and drafts
    alias: MessageId | None = None  # the id on side b, where a server changed it beyond what a Key folds


BoxSeen = Mapping[Key, tuple[Line, ...]]


# ---- policy ----------------------------------------------------------------------------------------------------------


class Duplicates(Enum):
    IDENTICAL = "identical"  # equal to the byte: the first stays
    SAME_ID = "same-id"  # 5.2.7's rule: whatever has the id of an earlier one goes
    KEEP = "keep"


class SidePolicy(NamedTuple):
    """Why a side is not to be changed, in words for the user; "" where it may be."""

    refuses: str = ""  # everything
    spares: str = ""  # deletions
    marks: bool = False  # deletions are not more than the flag \Deleted


UNBOUND: Mapping[Side, SidePolicy] = MappingProxyType({side: SidePolicy() for side in Side})


class BoxPolicy(NamedTuple):
    """Config and options resolved for one boxname. The only thing the differ knows of either."""

    sides: Mapping[Side, SidePolicy] = UNBOUND
    sizelimit: int | None = None  # bytes on the wire; a new message of more is not copied
    oldest: int | None = None  # seconds since the epoch; a new message from before is not copied
    copy_deleted: bool = False
    expunge_all: bool = False  # 5.2.7's rule: what a user marked \Deleted is expunged, too
    duplicates: Duplicates = Duplicates.IDENTICAL
