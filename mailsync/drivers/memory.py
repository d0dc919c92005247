"""The smallest correct driver: a store in memory. Read this first; the laws are tested on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from typing import Self

from ..errors import BoxError
from ..model import (
    HIDDEN,
    Appended,
    BoxInfo,
    Entry,
    Failure,
    FlagChange,
    Flags,
    Head,
    Holds,
    Identify,
    Listing,
    Mailbox,
    Measured,
    Message,
    Uid,
)
from ..names import Patterns
from .contract import Box, Wanted

EVERYTHING = Holds(any_keyword=True)

_boxes = count(1)


@dataclass(frozen=True, slots=True)
class Bytes:
    """A body that lies in memory."""

    raw: bytes

    def size(self, *, wire: bool) -> int:
        return sum(map(len, self.chunks(wire=wire)))

    def chunks(self, *, wire: bool) -> Iterator[bytes]:
        yield self.raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") if wire else self.raw


@dataclass(slots=True)
class Stored:
    raw: bytes
    flags: Flags
    date: int


@dataclass
class MemoryBox:
    """One mailbox."""

    holds: Holds = EVERYTHING
    validity: str | None = "1"
    rewrite: Callable[[bytes], bytes] | None = None  # what a server makes of the messages that are given to it
    kept: dict[Uid, Stored] = field(default_factory=dict)
    serial: Iterator[int] = field(default_factory=lambda: count(1))
    identity: str = field(default_factory=lambda: str(next(_boxes)))

    def deliver(self, raw: bytes, flags: Flags = frozenset(), date: int = 0) -> Uid:
        uid = Uid(str(next(self.serial)))
        self.kept[uid] = Stored(raw, self.holds.of(flags), date)
        return uid

    def fetch(self, uids: Sequence[Uid]) -> Iterator[Message | Failure]:
        for uid in uids:
            stored = self.kept.get(uid)
            yield Message(uid, stored.flags, stored.date, Bytes(stored.raw)) if stored else _gone(uid)

    def heads(self, uids: Sequence[Uid]) -> Iterator[Head | Failure]:
        for uid in uids:
            stored = self.kept.get(uid)
            yield Head(uid, header_of(stored.raw), stored.date) if stored else _gone(uid)

    def measure(self, uids: Sequence[Uid]) -> Iterator[Measured | Failure]:
        for uid in uids:
            stored = self.kept.get(uid)
            yield Measured(uid, Bytes(stored.raw).size(wire=True), stored.date) if stored else _gone(uid)

    def append(self, messages: Iterable[Message]) -> Iterator[Appended | Failure]:
        for message in messages:
            raw = b"".join(message.body.chunks(wire=False))
            kept = self.rewrite(raw) if self.rewrite else raw
            yield Appended(message.uid, self.deliver(kept, message.flags, message.date), sure=self.rewrite is None)

    def set_flags(self, changes: Sequence[FlagChange]) -> Iterator[Uid | Failure]:
        for change in changes:
            if change.uid in self.kept:
                stored = self.kept[change.uid]
                stored.flags = (stored.flags | self.holds.of(change.add)) - change.remove
                yield change.uid
            else:
                yield _gone(change.uid)

    def expunge(self, uids: Sequence[Uid]) -> Iterator[Uid | Failure]:
        for uid in uids:
            yield uid if self.kept.pop(uid, None) else _gone(uid)

    def reaches(self, to: Box) -> bool:
        return isinstance(to, MemoryBox) and to is not self

    def copy(self, uids: Sequence[Uid], to: Box) -> Iterator[Appended | Failure]:
        assert isinstance(to, MemoryBox)
        for uid in uids:
            stored = self.kept.get(uid)
            yield Appended(uid, to.deliver(stored.raw, stored.flags, stored.date)) if stored else _gone(uid)

    def move(self, uids: Sequence[Uid], to: Box) -> Iterator[Appended | Failure]:
        for uid in uids:
            for answer in self.copy([uid], to):
                self.kept.pop(uid, None)
                yield answer


@dataclass
class Memory:
    """A store of such mailboxes."""

    held: dict[Mailbox, MemoryBox] = field(default_factory=dict)
    delimiter: str | None = "/"
    new_box: Callable[[], MemoryBox] = MemoryBox

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def boxes(self, patterns: Sequence[str]) -> Sequence[BoxInfo]:
        wanted = Patterns(patterns, self.delimiter)
        return [BoxInfo(mailbox) for mailbox in self.held if wanted.matches(mailbox)]

    def find(self, mailbox: Mailbox) -> BoxInfo | None:
        return BoxInfo(mailbox) if mailbox in self.held else None

    def holds(self, mailbox: Mailbox) -> Holds:
        return (self.held.get(mailbox) or self.new_box()).holds

    def listings(self, wanted: Sequence[Wanted], identify: Identify) -> Iterator[tuple[Mailbox, Listing | Failure]]:
        for mailbox in (w.mailbox for w in wanted):
            box = self.held.get(mailbox)
            yield mailbox, _listing(mailbox, box, identify) if box else Failure(mailbox, "no such mailbox", gone=True)

    def open(self, mailbox: Mailbox, *, write: bool) -> AbstractContextManager[Box]:
        return nullcontext[Box](self._there(mailbox))

    def create(self, mailbox: Mailbox) -> None:
        if mailbox not in self.held:
            self.held[mailbox] = self.new_box()

    def delete(self, mailbox: Mailbox) -> None:
        if self._there(mailbox).kept:
            raise BoxError(f"{mailbox}: not empty")
        del self.held[mailbox]

    def rename(self, old: Mailbox, new: Mailbox) -> None:
        box = self._there(old)
        if new in self.held:
            raise BoxError(f"{old} cannot be renamed to {new}: that is there already")
        self.held[new] = box
        del self.held[old]
        for below in [name for name in self.held if self.delimiter and name.startswith(old + self.delimiter)]:
            self.held[Mailbox(new + below.removeprefix(old))] = self.held.pop(below)

    def identity(self, mailbox: Mailbox) -> str | None:
        return self.held[mailbox].identity if mailbox in self.held else None

    def _there(self, mailbox: Mailbox) -> MemoryBox:
        if mailbox not in self.held:
            raise BoxError(f"{mailbox}: no such mailbox")
        return self.held[mailbox]


def header_of(raw: bytes) -> bytes:
    """The header block of a message: all before the first empty line."""
    return b"" if raw.startswith((b"\n", b"\r\n")) else raw.partition(b"\n\n")[0].partition(b"\r\n\r\n")[0]


def _listing(mailbox: Mailbox, box: MemoryBox, identify: Identify) -> Listing:
    entries = []
    for uid, stored in box.kept.items():
        id = identify(header_of(stored.raw))
        if id is None:
            id = identify.whole([stored.raw])
        if id != HIDDEN:
            entries.append(Entry(uid, id, stored.flags))
    return Listing(mailbox, entries, box.holds, validity=box.validity, identity=box.identity)


def _gone(uid: Uid) -> Failure:
    return Failure(uid, "no longer there", gone=True)
