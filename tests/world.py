"""A small world for the laws: two stores, their msinfo, a cache; users who change mail; runs that may be cut off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Self

from mailsync.cache import Cache
from mailsync.channel import Channel
from mailsync.config import StoreConfig
from mailsync.config.values import Deletion, MaxDelete
from mailsync.drivers.contract import Box, Driver, Follows, Transfers, Wanted
from mailsync.drivers.memory import Bytes, Memory
from mailsync.identity import examine, identify
from mailsync.kept import Kept
from mailsync.model import (
    Appended,
    BoxInfo,
    Failure,
    FlagChange,
    Flags,
    Head,
    Holds,
    Identify,
    Line,
    Listing,
    Mailbox,
    Measured,
    Message,
    Side,
    Uid,
)
from mailsync.msinfo import text
from mailsync.msinfo.mailbox import Msinfo
from mailsync.plan import BoxDone, Done
from mailsync.planner import Options
from mailsync.removal import KEEP_DAYS, removals_of
from mailsync.report import Report
from mailsync.report.jsonlines import JsonLines
from mailsync.report.results import BoxResult
from mailsync.stores import Store, over


class Killed(BaseException):
    """kill -9: from now on no driver does anything."""


@dataclass
class Switch:
    """Lets so many changes through. Then Killed comes, for ever; or Ctrl-C, once."""

    left: int | None = None
    interrupt: bool = False

    def __call__(self) -> None:
        if self.left == 0:
            if self.interrupt:
                self.left = None
                raise KeyboardInterrupt
            raise Killed
        if self.left is not None:
            self.left -= 1


@dataclass
class Cut:
    """A driver that wraps a driver, and hands out changes one by one, so that a run can be cut before each."""

    driver: Driver
    switch: Switch
    unreadable: set[tuple[Mailbox, Uid]] = field(default_factory=set)

    @property
    def delimiter(self) -> str | None:
        return self.driver.delimiter

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def boxes(self, patterns: Sequence[str]) -> Sequence[BoxInfo]:
        return self.driver.boxes(patterns)

    def find(self, mailbox: Mailbox) -> BoxInfo | None:
        return self.driver.find(mailbox)

    def holds(self, mailbox: Mailbox) -> Holds:
        return self.driver.holds(mailbox)

    def listings(self, wanted: Sequence[Wanted], identify: Identify) -> Iterator[tuple[Mailbox, Listing | Failure]]:
        for mailbox, found in self.driver.listings(wanted, identify):
            if isinstance(found, Listing):
                hidden = [e for e in found.entries if (mailbox, e.uid) in self.unreadable]
                seen = [e for e in found.entries if e not in hidden]
                failures = [Failure(e.uid, "Permission denied") for e in hidden]
                found = replace(found, entries=seen, unreadable=failures)
            yield mailbox, found

    @contextmanager
    def open(self, mailbox: Mailbox, *, write: bool) -> Iterator[Box]:
        with self.driver.open(mailbox, write=write) as box:
            yield CutBox(box, self.switch)

    def create(self, mailbox: Mailbox) -> None:
        self.switch()
        self.driver.create(mailbox)

    def delete(self, mailbox: Mailbox) -> None:
        self.switch()
        self.driver.delete(mailbox)

    def rename(self, old: Mailbox, new: Mailbox) -> None:
        self.switch()
        self.driver.rename(old, new)

    def identity(self, mailbox: Mailbox) -> str | None:
        return self.driver.identity(mailbox) if isinstance(self.driver, Follows) else None


@dataclass
class CutBox:
    box: Box
    switch: Switch

    @property
    def holds(self) -> Holds:
        return self.box.holds

    @property
    def validity(self) -> str | None:
        return self.box.validity

    def fetch(self, uids: Sequence[Uid]) -> Iterator[Message | Failure]:
        return self.box.fetch(uids)

    def heads(self, uids: Sequence[Uid]) -> Iterator[Head | Failure]:
        return self.box.heads(uids)

    def measure(self, uids: Sequence[Uid]) -> Iterator[Measured | Failure]:
        return self.box.measure(uids)

    def append(self, messages: Iterable[Message]) -> Iterator[Appended | Failure]:
        for message in messages:
            self.switch()
            yield from self.box.append([message])

    def set_flags(self, changes: Sequence[FlagChange]) -> Iterator[Uid | Failure]:
        for change in changes:
            self.switch()
            yield from self.box.set_flags([change])

    def expunge(self, uids: Sequence[Uid]) -> Iterator[Uid | Failure]:
        for uid in uids:
            self.switch()
            yield from self.box.expunge([uid])

    def reaches(self, to: Box) -> bool:
        return isinstance(self.box, Transfers) and self.box.reaches(unwrapped(to))

    def copy(self, uids: Sequence[Uid], to: Box) -> Iterator[Appended | Failure]:
        assert isinstance(self.box, Transfers)
        for uid in uids:
            self.switch()
            yield from self.box.copy([uid], unwrapped(to))

    def move(self, uids: Sequence[Uid], to: Box) -> Iterator[Appended | Failure]:
        assert isinstance(self.box, Transfers)
        for uid in uids:
            self.switch()
            yield from self.box.move([uid], unwrapped(to))


def unwrapped(box: Box) -> Box:
    return box.box if isinstance(box, CutBox) else box


@dataclass
class Silent:
    """A report that only keeps what was done."""

    steps: list[object] = field(default_factory=list)
    details: bool = False

    def box(self, result: BoxResult) -> None:
        self.steps += [o.step for o in result.outcomes if isinstance(o, Done)]
        self.steps += [o for o in result.outcomes if isinstance(o, BoxDone)]

    def removed(self, boxname: object, mailboxes: Sequence[object]) -> None:
        self.steps += mailboxes

    def __getattr__(self, name: str) -> object:
        if name in dir(JsonLines):
            return lambda *args, **kwargs: None
        raise AttributeError(name)


@dataclass(frozen=True)
class Mail:
    """A message as a user knows it: an id, and which text it has."""

    id: str  # "" = none
    text: str

    def raw(self) -> bytes:
        name = f"Message-ID: <{self.id}@x>" if self.id else f"Subject: {self.text}"
        return f"{name}\nFrom: a@x\n\n{self.text}\n".encode()

    @property
    def digest(self) -> str:
        return examine([self.raw()]).exact


@contextmanager
def closed_caches(channel: Channel) -> Iterator[None]:
    """At the end, as a run does it."""
    try:
        yield
    finally:
        for store in channel.stores.values():
            if store.cache:
                store.cache.close()


Copies = Counter[tuple[str, str, Flags]]  # boxname, digest, flags


@dataclass
class World:
    """Two stores, with boxes `x` and `y`, and what remembers them."""

    drivers: dict[Side, Driver] = field(default_factory=lambda: {side: Memory() for side in Side})
    msinfo: Driver = field(default_factory=Memory)
    cache: Path | None = None
    kind: str = "msgid"
    prefix: dict[Side, str] = field(default_factory=lambda: dict.fromkeys(Side, ""))
    deletion: dict[Side, Deletion] = field(default_factory=lambda: dict.fromkeys(Side, Deletion()))
    pairs: tuple[tuple[str, str], ...] = ()  # what side B calls otherwise
    kept: Kept | None = None  # where what was deleted is kept
    servers: frozenset[Side] = frozenset()  # the sides that are on one
    unreadable: set[tuple[Side, Mailbox, Uid]] = field(default_factory=set)
    clock: Iterator[int] = field(default_factory=lambda: count(1_700_000_000))

    def mailbox(self, side: Side, boxname: str) -> Mailbox:
        return Mailbox(self.prefix[side] + (dict(self.pairs).get(boxname, boxname) if side is Side.B else boxname))

    # ---- users ---------------------------------------------------------------------------------------------------

    def deliver(self, side: Side, boxname: str, mail: Mail, flags: Flags = frozenset()) -> None:
        mailbox = self.mailbox(side, boxname)
        self.drivers[side].create(mailbox)
        with self.drivers[side].open(mailbox, write=True) as box:
            message = Message(Uid("new"), flags, next(self.clock), Bytes(mail.raw()))
            assert all(isinstance(answer, Appended) for answer in box.append([message]))

    def delete(self, side: Side, boxname: str, uid: Uid) -> None:
        with self.drivers[side].open(self.mailbox(side, boxname), write=True) as box:
            assert [uid] == list(box.expunge([uid]))

    def flag(self, side: Side, boxname: str, uid: Uid, add: Flags, remove: Flags) -> None:
        with self.drivers[side].open(self.mailbox(side, boxname), write=True) as box:
            assert [uid] == list(box.set_flags([FlagChange(uid, box.holds.of(add), remove)]))

    # ---- what there is -------------------------------------------------------------------------------------------

    def boxes(self, side: Side) -> list[str]:
        names = {there: here for here, there in self.pairs} if side is Side.B else {}
        found = [info.mailbox for info in self.drivers[side].boxes([self.prefix[side] + "*"]) if info.selectable]
        boxnames = [
            mailbox.removeprefix(self.prefix[side]) for mailbox in found if mailbox != self.deletion[side].trash
        ]
        return sorted(names.get(boxname, boxname) for boxname in boxnames)

    def messages(self, side: Side, boxname: str) -> dict[Uid, tuple[str, Flags]]:
        """Digest and flags of each."""
        mailbox = self.mailbox(side, boxname)
        [(_, listing)] = self.drivers[side].listings([Wanted(mailbox)], identify(self.kind))
        if isinstance(listing, Failure):
            return {}
        with self.drivers[side].open(mailbox, write=False) as box:
            return {
                got.uid: (str(examine(got.body.chunks(wire=False)).exact), got.flags)
                for got in box.fetch([entry.uid for entry in listing.entries])
                if isinstance(got, Message)
            }

    def copies(self, side: Side) -> Copies:
        return Counter(
            (boxname, digest, flags)
            for boxname in self.boxes(side)
            for digest, flags in self.messages(side, boxname).values()
        )

    # ---- runs ----------------------------------------------------------------------------------------------------

    def sync(self, options: Options | None = None, switch: Switch | None = None, cached: bool = True) -> Silent:
        """One run; cut off by the switch, if it comes that far."""
        report = Silent()
        channel = self.channel(report, options or Options(), switch or Switch(), self.cache if cached else None)
        with closed_caches(channel):
            channel.sync()
        return report

    def channel(self, report: Silent, options: Options, switch: Switch, cache: Path | None = None) -> Channel:
        stores = self.stores(switch)
        if cache:
            rule, write = identify(self.kind).version, not options.simulate
            paths = {side: cache.with_name(f"{cache.name}.{side.value}") for side in Side}
            stores = {side: replace(stores[side], cache=Cache(paths[side], rule, write=write)) for side in Side}
        msinfo = Msinfo(Cut(self.msinfo, switch), Mailbox("msinfo"), "ab", self.kind)
        channel_report: Report = report  # type: ignore[assignment]
        run = self.kept.begin(float(next(self.clock))) if self.kept else None
        return Channel(
            "ab",
            stores,
            msinfo,
            identify(self.kind),
            channel_report,
            options,
            cache,
            lambda: float(next(self.clock)),
            removals_of(stores, run, KEEP_DAYS) if run else {},
        )

    def stores(self, switch: Switch) -> dict[Side, Store]:
        def store(side: Side) -> Store:
            prefix, server = self.prefix[side], "{server}" if side in self.servers else ""
            config = StoreConfig(side.value, server, "", (f"{prefix}*",), prefix, delete=self.deletion[side])
            hidden = {(mailbox, uid) for on, mailbox, uid in self.unreadable if on is side}
            return over(config, Cut(self.drivers[side], switch, hidden), config.patterns)

        return {Side.A: store(Side.A), Side.B: store(Side.B).mapped(self.pairs)}

    def plan(self, cached: bool = False) -> list[object]:
        """What a run would do; if not `cached`, told by nothing but stores and msinfo."""
        free = Options(simulate=True, max_delete=MaxDelete(10**6), allow_mass_delete=10**6)
        return self.sync(free, cached=cached).steps

    def mirrored(self) -> World:
        """The same world, with the sides changed."""
        turned = {side: self.drivers[side.other] for side in Side}
        hidden = {(side.other, mailbox, uid) for side, mailbox, uid in self.unreadable}
        prefix = {side: self.prefix[side.other] for side in Side}
        deletion = {side: self.deletion[side.other] for side in Side}
        pairs = tuple((there, here) for here, there in self.pairs)
        servers = frozenset(side.other for side in self.servers)
        return replace(
            self,
            drivers=turned,
            unreadable=hidden,
            prefix=prefix,
            deletion=deletion,
            pairs=pairs,
            servers=servers,
        )

    def turn_of_original(self) -> None:
        """5.2.7 saves the memory: it knows of ids alone."""
        msinfo = Msinfo(self.msinfo, Mailbox("msinfo"), "ab", self.kind)
        memory = msinfo.load()
        if memory:
            ids: text.Memory = {
                boxname: {id: (Line(lines[0].id),) for id, lines in seen.items() if not id.startswith("<md5:")}
                for boxname, seen in memory.items()
            }
            msinfo.save(ids, float(next(self.clock)), {})
