"""Find a channel's memory in a mailbox, and replace it. Any driver will do; only our own messages are ever touched."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import reduce

from ..digest import blake2b
from ..drivers.contract import Driver, Wanted
from ..drivers.memory import Bytes
from ..errors import BoxError, Lost, MsinfoError
from ..identity import forged
from ..model import SEEN, Boxname, Failure, Key, Line, Listing, Mailbox, Message, MessageId, Token, Uid
from . import text
from .text import Memory

Place = tuple[str | None, Uid]  # where a message is: a uid says nothing under another validity
LARGEST = 256 * 1024 * 1024  # bytes: several million messages
TRIES = 4  # to save: as often another run may save in between, or the connection break
OURS, FORGED, OTHER = MessageId("ours"), MessageId("forged"), MessageId("other")


@dataclass
class Msinfo:
    """The memory of one channel, in one mailbox."""

    driver: Driver
    mailbox: Mailbox
    channel: str
    kind: str  # of ids: "msgid" or "md5"
    notes: list[str] = field(default_factory=list)  # what else is worth telling about the mailbox
    forged: list[str] = field(default_factory=list)  # and what must be told
    digest: str = ""  # tells the memory that was loaded or saved from any other
    token: Token | None = None  # of the mailbox, before it was read
    folded: bool = False  # another run saved meanwhile: what we saved has its lines, too
    turn: AbstractContextManager[object] = field(default_factory=nullcontext)  # held while the mailbox is used
    _old: frozenset[Place] = frozenset()  # our messages that were read or written: they go once a new one is there
    _last: Listing | None = None

    def load(self) -> Memory:
        """What was seen last time; empty in the first run. MsinfoError if there is something that cannot be read."""
        with self.turn:
            return self._load()

    def _load(self) -> Memory:
        info = self.driver.find(self.mailbox)
        if info is None:
            return {}
        self.token = info.token
        if info.failure or not info.selectable:
            why = info.failure.why if info.failure else "it is no mailbox"
            raise MsinfoError(f"msinfo {self.mailbox}: {why}", text.START_OVER)
        try:
            listing, found = self._news(frozenset())
        except (BoxError, OSError) as err:
            raise MsinfoError(f"msinfo {self.mailbox} cannot be read: {err}", text.START_OVER) from err
        self.forged += [
            f"msinfo {self.mailbox}: a message calls itself the memory of {self.channel} but came by mail: ignored"
            for entry in listing.entries
            if entry.id == FORGED
        ]
        self._old = frozenset(place for place, _ in found)
        if not found:
            return {}
        memory, raw = self._agreed_by_all([raw for _, raw in found])
        if len(found) > 1:
            self.notes.append(
                f"msinfo {self.mailbox} holds {len(found)} messages of this channel: what all remember counts"
            )
        self.digest = _digest(raw)
        return memory

    def save(self, memory: Memory, now: float, touched: Mapping[Boxname, Collection[Key]]) -> Memory:
        """Append the new memory, then remove the old: a crash between the two leaves two memories, never none.

        `touched`: what is not as it was loaded. If another run has saved since then, only this is put into what it
        saved. Returns what is saved now.
        """
        try:
            with self.turn:
                if self.driver.find(self.mailbox) is None:
                    self.driver.create(self.mailbox)
                return self._replaced(memory, now, touched)
        except (BoxError, OSError) as err:
            raise MsinfoError(
                f"msinfo {self.mailbox} cannot be saved: {err}",
                "No mail is lost; but what was deleted since the last save may come back.",
            ) from err

    def _replaced(self, memory: Memory, now: float, touched: Mapping[Boxname, Collection[Key]]) -> Memory:
        """Look whether another run saved, append, and look again: until nobody came in between."""
        old = set(self._old)  # what may go in the end: it was read, and all that is in it is in what is saved
        new: Place | None = None
        raw = b""
        lost: Lost | None = None
        for _ in range(TRIES):
            listing, news = self._news(old | {new})
            here = _ours(listing)
            old &= set(here)
            new = new if new in here else None
            theirs = []
            for place, found in news:
                if raw and new is None and _digest(found) == _digest(raw):
                    new, lost = place, None  # the server did not tell its uid, or could not
                else:
                    old.add(place)
                    theirs += [found] if _digest(found) not in (self.digest, _digest(raw)) else []
            if new is not None and not theirs:
                break
            if theirs:
                memory = fold(memory, touched, self._agreed_by_all(theirs)[0])
                self.folded = True
            if new is not None:
                old.add(new)
            raw = text.format(memory, self.channel, self.kind, now)
            try:
                new, lost = self._append(raw, now), None
            except Lost as err:
                new, lost = None, err
        if lost:
            raise lost
        if old:
            with suppress(Lost), self.driver.open(self.mailbox, write=True) as box:
                list(box.expunge([uid for _, uid in old]))
        self._old = frozenset([new] if new is not None else [])
        self.digest = _digest(raw)
        return memory

    def _append(self, raw: bytes, now: float) -> Place | None:
        """Where it is, if the driver tells."""
        message = Message(Uid("msinfo"), frozenset({SEEN}), int(now), Bytes(raw))
        with self.driver.open(self.mailbox, write=True) as box:
            [answer] = box.append([message])
            validity = box.validity
        if isinstance(answer, Failure):
            raise BoxError(answer.why, answer.hint)
        return None if answer.uid is None else (validity, answer.uid)

    def _list(self) -> Listing:
        """The mailbox, with OURS, FORGED or OTHER as ids. Each message is looked at once only."""
        shown = _Shown(self.channel)
        [(_, listing)] = self.driver.listings([Wanted(self.mailbox, lambda: self._last)], shown)
        if isinstance(listing, Failure):
            raise BoxError(listing.why, listing.hint)
        self._last = listing
        return listing

    def _news(self, known: Collection[Place | None]) -> tuple[Listing, list[tuple[Place, bytes]]]:
        """The mailbox, and those of our messages that are not `known`. Looked at again: others may be replacing one."""
        why = Failure(self.mailbox, "what is listed there is gone when it is fetched")
        for _ in range(TRIES):
            listing = self._list()
            if listing.unreadable:
                why = listing.unreadable[0]
                continue
            wanted = [place for place in _ours(listing) if place not in known]
            found, failure = self._read(wanted)
            if len(found) == len(wanted):
                return listing, found
            why = failure or why
        raise BoxError(str(why), why.hint)

    def _read(self, places: Sequence[Place]) -> tuple[list[tuple[Place, bytes]], Failure | None]:
        """Messages, with all their bytes, without those that are gone; and why one cannot be read, if so.

        Dovecot may give an empty text, and not say that it is gone, for what was removed after the mailbox was opened.
        """
        found: list[tuple[Place, bytes]] = []
        unread: Failure | None = None
        if not places:
            return found, unread
        shown = _Shown(self.channel)
        with self.driver.open(self.mailbox, write=False) as box:
            for place, message in zip(places, box.fetch([uid for _, uid in places]), strict=True):
                if isinstance(message, Failure):
                    unread = unread if message.gone else message
                    continue
                if message.body.size(wire=False) > LARGEST:
                    unread = Failure(message.uid, f"more than {LARGEST} bytes are no memory", text.START_OVER)
                    continue
                raw = b"".join(message.body.chunks(wire=False))
                # Courier gives another text for what is gone: it would pass for a memory of nothing.
                if shown(raw.partition(b"\n\n")[0] + b"\n") == OURS:
                    found.append((place, raw))
        return found, unread

    def _agreed_by_all(self, raws: Sequence[bytes]) -> tuple[Memory, bytes]:
        """What all that can be read remember, and the newest of them, whose digest stands for it. MsinfoError: none."""
        read: list[tuple[Memory, bytes]] = []
        error: MsinfoError | None = None
        for raw in sorted(raws, key=text.date, reverse=True):
            try:
                memory, notes = text.parse(raw, self.kind)
            except MsinfoError as err:
                error = err
            else:
                read.append((memory, raw))
                self.notes += [f"msinfo {self.mailbox}: {note}" for note in notes]
        if not read:
            assert error
            raise MsinfoError(f"msinfo {self.mailbox}, channel {self.channel}: {error}", error.hint)
        (memory, raw), *older = read
        return reduce(agreed, (other for other, _ in older), memory), raw


def agreed(one: Memory, other: Memory) -> Memory:
    """What both remember, with the flags that both do. A killed run may leave two memories; a forged one is another.

    Neither can make anything look deleted that was not seen on both sides.
    """
    memory: Memory = {}
    for boxname in one.keys() & other.keys():
        both = ((key, _agreed(lines, other[boxname].get(key, ()))) for key, lines in one[boxname].items())
        memory[boxname] = {key: lines for key, lines in both if lines}
    return memory


def _agreed(some: Sequence[Line], others: Sequence[Line]) -> tuple[Line, ...]:
    if [line._replace(flags=None) for line in some] != [line._replace(flags=None) for line in others]:
        return ()
    return tuple(a if a.flags == b.flags else a._replace(flags=None) for a, b in zip(some, others, strict=True))


def fold(ours: Memory, touched: Mapping[Boxname, Collection[Key]], theirs: Memory) -> Memory:
    """What another run remembers, with all that ours has `touched` as ours has it. `theirs` is used up."""
    for boxname, keys in touched.items():
        if boxname not in ours:
            theirs.pop(boxname, None)
            continue
        box = theirs.setdefault(boxname, {})
        for key in keys:
            if lines := ours[boxname].get(key):
                box[key] = lines
            else:
                box.pop(key, None)
    return theirs


def _ours(listing: Listing) -> list[Place]:
    return [(listing.validity, entry.uid) for entry in listing.entries if entry.id == OURS]


class _Shown:
    """An `Identify` that hides nothing: it tells our messages from all others, by their headers alone."""

    fields: tuple[bytes, ...] = (b"from", b"subject", b"received", b"return-path", b"delivered-to", b"message-id")
    quick: tuple[bytes, ...] = (b"from", b"subject")
    version = "msinfo"

    def __init__(self, channel: str) -> None:
        self._channel = channel

    def __call__(self, header: bytes, /) -> MessageId | None:
        if not text.candidate(header, self._channel):
            return OTHER
        return FORGED if forged(header) else OURS

    def sure(self, header: bytes, /) -> MessageId | None:
        return None if text.candidate(header, self._channel) else OTHER

    def whole(self, chunks: Iterable[bytes], /) -> MessageId:
        return OTHER


def _digest(raw: bytes) -> str:
    return blake2b(raw.rstrip(), digest_size=16).hexdigest()
