"""What every store driver offers. One thread at a time per driver; both sides of a channel may run side by side."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import NamedTuple, Protocol, Self, runtime_checkable

from ..model import (
    Appended,
    BoxInfo,
    Failure,
    Fault,
    FlagChange,
    Head,
    Holds,
    Identify,
    Listing,
    Mailbox,
    Measured,
    Message,
    MessageId,
    Uid,
)
from ..unchanged import State


def _nothing() -> Listing | None:
    return None


class Wanted(NamedTuple):
    """A mailbox to be listed.

    `known` gives what an earlier listing has found, by the same rule for ids. Nothing is always right; what is known
    under another validity means nothing, and what is under an equal token is all there is.
    """

    mailbox: Mailbox
    known: Callable[[], Listing | None] = _nothing


class Driver(Protocol):
    """A store. `BoxError` spoils one mailbox, `StoreError` the store; a message that fails is a `Failure` value."""

    @property
    def delimiter(self) -> str | None:
        """What separates the levels of a mailbox name; None where there are no levels."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...

    def boxes(self, patterns: Sequence[str]) -> Sequence[BoxInfo]:
        """All mailboxes that match, or StoreError: never a part of them.

        What is there but cannot be looked into (a directory without permission, a file that is no mail) is told as
        `BoxInfo.failure`, for it and for all names below it.
        """

    def find(self, mailbox: Mailbox) -> BoxInfo | None:
        """Ask for one mailbox by its name. None: it is surely not there."""

    def holds(self, mailbox: Mailbox) -> Holds:
        """Which flags a mailbox of this name can keep, or could if it were created."""

    def listings(self, wanted: Sequence[Wanted], identify: Identify) -> Iterator[tuple[Mailbox, Listing | Failure]]:
        """Each wanted box once, in any order, as it becomes ready. A box that fails is a value."""

    def open(self, mailbox: Mailbox, *, write: bool) -> AbstractContextManager[Box]:
        """BoxError where that cannot be. Opened without `write`, a box is not changed in any way, atime included."""

    def create(self, mailbox: Mailbox) -> None:
        """Make it, with the levels above it. No error where it is there already."""

    def delete(self, mailbox: Mailbox) -> None:
        """Only if it is empty now, looked at again; otherwise BoxError."""

    def rename(self, old: Mailbox, new: Mailbox) -> None:
        """With its mail, flags, and uids; where the uids change, opening it with the old ones in mind is an error.

        The levels above are made. BoxError if there is a mailbox of the new name.
        """


class AtOnce:
    """Optional, for a `Body`: one that can be had in one piece."""

    __slots__ = ()

    def at_once(self) -> tuple[bytes, int] | None:
        """All of it as a local file keeps it, and its size on the wire; None if it is too large for that."""
        raise NotImplementedError


class Box(Protocol):
    """An open mailbox. Every batch is lazy: it pulls its input as it goes and yields one answer per item, in order.

    An answer means that it is done and durable. Before a message is changed or removed the driver looks whether it
    still is the one that was listed; if not, the answer is `Failure(gone=True)`.
    """

    @property
    def holds(self) -> Holds: ...

    @property
    def validity(self) -> str | None:
        """As in `Listing`; asked again when the box is closed, because a rewrite may change it."""

    def fetch(self, uids: Sequence[Uid]) -> Iterator[Message | Failure]: ...
    def heads(self, uids: Sequence[Uid]) -> Iterator[Head | Failure]:
        """Header blocks and dates, unread marks untouched: to show a message, or to look at it again."""

    def measure(self, uids: Sequence[Uid]) -> Iterator[Measured | Failure]:
        """Exact sizes and dates, as `fetch` tells them; no message comes over the wire for that, or into memory."""

    def append(self, messages: Iterable[Message]) -> Iterator[Appended | Failure]: ...
    def set_flags(self, changes: Sequence[FlagChange]) -> Iterator[Uid | Failure]: ...
    def expunge(self, uids: Sequence[Uid]) -> Iterator[Uid | Failure]:
        """Remove these and no others."""


@runtime_checkable
class Identifies(Protocol):
    """Optional: a store that is asked for single header fields, and may give others than those of the whole header."""

    def ids(self, uids: Sequence[Uid], identify: Identify) -> Mapping[Uid, MessageId]:
        """The ids that a listing would tell, of those that are there."""


class Coming(NamedTuple):
    """What will be done with one mailbox: it is opened, and these messages are fetched; or others appended to it."""

    mailbox: Mailbox
    uids: Sequence[Uid] = ()
    size: int = 0  # bytes in all, about
    write: bool = False  # opened to be appended to


@runtime_checkable
class Foresees(Protocol):
    """Optional: a store that is far away, and can begin with what is to be done before it is asked to."""

    def foresee(self, coming: Sequence[Coming]) -> None:
        """These will be opened next, in this order, and nothing done with each but what it tells, in its order.

        No more than a hint: what comes otherwise is done as it comes. It takes the place of what was foreseen before.
        """


@runtime_checkable
class FindsMany(Protocol):
    """Optional: a store that is far away, and can be asked for several mailboxes at once."""

    def find_all(self, mailboxes: Sequence[Mailbox]) -> Mapping[Mailbox, BoxInfo | None]:
        """As `find`; what is not in the answer must be asked for by itself."""


@runtime_checkable
class CreatesMany(Protocol):
    """Optional: a store that is far away, and can create mailboxes together."""

    def create_all(self, mailboxes: Sequence[Mailbox]) -> Collection[Mailbox]:
        """Those that are there now. What is not among them takes a `create` of its own, which tells what is wrong."""


@runtime_checkable
class Inspects(Protocol):
    """Optional: a store that sees more of its mailboxes than the messages in them."""

    def faults(self, mailbox: Mailbox) -> Sequence[Fault]:
        """What is wrong with how it is kept; also for a name that is no mailbox, but may once have been one.

        Changes nothing. BoxError where it cannot be looked into.
        """


@runtime_checkable
class Follows(Protocol):
    """Optional: a store that knows a mailbox again under another name."""

    def identity(self, mailbox: Mailbox) -> str | None:
        """As in `Listing`, asked for now; None if it cannot be told. BoxError for a name that cannot be."""


class Sight(NamedTuple):
    """What tells, later and cheaply, whether anything in a store is not as it was."""

    paths: Mapping[str, State | None] = MappingProxyType({})  # on this machine: all that it depends on
    token: str = ""  # on a server


@runtime_checkable
class Settles(Protocol):
    """Optional: a store that can tell what it depends on."""

    def sight(self) -> Sight | None:
        """All of that, as it was before it was first looked at. None: a change after that might not be told."""


@runtime_checkable
class Transfers(Protocol):
    """Optional: messages go to another mailbox without passing through us.

    One answer per uid, in order, about the message in the new place, with those of its flags that this one holds. Each
    uid is given once. Cut off at any moment, a message is there, at most twice; the next run sees both.
    """

    def reaches(self, to: Box) -> bool:
        """Whether `copy` and `move` can go to this other box, which is open to be written."""

    def copy(self, uids: Sequence[Uid], to: Box) -> Iterator[Appended | Failure]: ...
    def move(self, uids: Sequence[Uid], to: Box) -> Iterator[Appended | Failure]: ...
