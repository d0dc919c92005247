"""Connections that break in the middle of a run: the box is looked at again, and nothing is done twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from mailsync import kept
from mailsync.channel import Channel
from mailsync.copying import send
from mailsync.drivers.contract import Box, Driver, Transfers, Wanted
from mailsync.drivers.memory import Memory, MemoryBox
from mailsync.errors import Lost, Replaced
from mailsync.identity import key
from mailsync.model import (
    DRAFT,
    NONE,
    Appended,
    BoxInfo,
    Boxname,
    BoxPolicy,
    Duplicates,
    Entry,
    Failure,
    FlagChange,
    Head,
    Holds,
    Identify,
    Listing,
    Mailbox,
    Measured,
    Message,
    MessageId,
    Side,
    Uid,
)
from mailsync.outstanding import Outstanding
from mailsync.plan import BoxPlan, Change, Copy, Done, Failed, Item
from mailsync.planner import Options
from mailsync.report import Summary
from mailsync.report.results import BoxResult

from .mail import MSGID
from .test_laws import BY_DIGEST, FREELY, SCENARIOS, Laws, Scenario, told
from .test_laws_wide import WIDE_SCENARIOS, WideLaws, WideScenario
from .world import Cut, Mail, Silent, Switch, World, closed_caches

X = Mailbox("x")
Point = tuple[str, Side]  # what was being done, and where


@dataclass
class Line:
    """Where connections break: at the n-th points that are passed, counted from `arm` on."""

    at: frozenset[int] = frozenset()
    ahead: bool = False  # appends are all sent before the first answer is awaited
    heals: bool = True  # what is opened for reading alone never breaks
    passed: list[Point] | None = None  # None: not armed
    broken: int = 0
    last: Point | None = None  # where it broke
    late: int = 0  # what was not done when it broke is done so many points later; 0: never
    undone: list[Callable[[], Iterable[object]]] = field(default_factory=list)

    def arm(self) -> None:
        self.passed = []

    def disarm(self) -> None:
        self.passed = None

    def __call__(self, *point: str | Side) -> None:
        if self.passed is not None:
            self.passed.append(point)  # type: ignore[arg-type]
            if len(self.passed) - 1 in self.at:
                self.broken += 1
                self.last = self.passed[-1]
                raise Lost(f"broken at {point}")
            if self.undone:
                self.late -= 1
                if self.late == 0:
                    self.end()

    def end(self) -> None:
        """Do what was not done."""
        while self.undone:
            list(self.undone.pop(0)())


@dataclass
class Far(Cut):
    """A driver of a store at the end of such a line. Its listings heal themselves."""

    line: Line = field(default_factory=Line)
    side: Side = Side.A

    @contextmanager
    def open(self, mailbox: Mailbox, *, write: bool) -> Iterator[Box]:
        line = self.line if write or not self.line.heals else Line()
        line("open", self.side)
        with self.driver.open(mailbox, write=write) as box:
            yield FarBox(box, line, self.side)

    def create(self, mailbox: Mailbox) -> None:
        self.line("create", self.side)
        self.driver.create(mailbox)
        self.line("create", self.side)

    def delete(self, mailbox: Mailbox) -> None:
        self.line("delete", self.side)
        self.driver.delete(mailbox)
        self.line("delete", self.side)

    def rename(self, old: Mailbox, new: Mailbox) -> None:
        self.line("rename", self.side)
        self.driver.rename(old, new)
        self.line("rename", self.side)


@dataclass
class FarBox:
    """Once its connection is broken, this box is of no use any more."""

    box: Box
    line: Line
    side: Side
    dead: bool = False

    @property
    def holds(self) -> Holds:
        return self.box.holds

    @property
    def validity(self) -> str | None:
        return self.box.validity

    def fetch(self, uids: Sequence[Uid]) -> Iterator[Message | Failure]:
        for uid in uids:
            self.passes("fetch")
            yield from self.box.fetch([uid])

    def heads(self, uids: Sequence[Uid]) -> Iterator[Head | Failure]:
        for uid in uids:
            self.passes("heads")
            yield from self.box.heads([uid])

    def measure(self, uids: Sequence[Uid]) -> Iterator[Measured | Failure]:
        for uid in uids:
            self.passes("measure")
            yield from self.box.measure([uid])

    def append(self, messages: Iterable[Message]) -> Iterator[Appended | Failure]:
        for batch in [list(messages)] if self.line.ahead else ([message] for message in messages):
            answers: list[Appended | Failure] = []
            for message in batch:
                self.passes("append", partial(self.box.append, [message]))
                answers += self.box.append([message])
            for answer in answers:
                self.passes("append")
                yield answer

    def set_flags(self, changes: Sequence[FlagChange]) -> Iterator[Uid | Failure]:
        for change in changes:
            self.passes("set_flags")
            [answer] = self.box.set_flags([change])
            self.passes("set_flags")
            yield answer

    def expunge(self, uids: Sequence[Uid]) -> Iterator[Uid | Failure]:
        for uid in uids:
            self.passes("expunge")
            [answer] = self.box.expunge([uid])
            self.passes("expunge")
            yield answer

    def reaches(self, to: Box) -> bool:
        return isinstance(self.box, Transfers) and isinstance(to, FarBox) and self.box.reaches(to.box)

    def copy(self, uids: Sequence[Uid], to: Box) -> Iterator[Appended | Failure]:
        assert isinstance(self.box, Transfers)
        assert isinstance(to, FarBox)
        for uid in uids:
            self.passes("copy", partial(self.box.copy, [uid], to.box))
            [answer] = self.box.copy([uid], to.box)
            self.passes("copy")
            yield answer

    def move(self, uids: Sequence[Uid], to: Box) -> Iterator[Appended | Failure]:
        assert isinstance(self.box, Transfers)
        assert isinstance(to, FarBox)
        for uid in uids:
            self.passes("move")
            [answer] = self.box.move([uid], to.box)
            self.passes("move")
            yield answer

    def passes(self, what: str, act: Callable[[], Iterable[object]] | None = None) -> None:
        """`act`: what the server does now, or late."""
        if self.dead:
            raise Lost("broken before")
        try:
            self.line(what, self.side)
        except Lost:
            self.dead = True
            if act and self.line.late:
                self.line.undone.append(act)
            raise


@dataclass
class Kept(Silent):
    """A report that keeps all there is to tell of boxes."""

    line: Line = field(default_factory=Line)
    results: list[BoxResult] = field(default_factory=list)

    def expect(self, steps: int) -> None:
        """The plan is made, and is carried out now."""
        self.line.arm()

    def box(self, result: BoxResult) -> None:
        super().box(result)
        self.results.append(result)

    def numbers(self) -> list[tuple[str, int, int]]:
        plans = [result.plan for result in self.results]
        return [(plan.boxname, plan.remains, len(plan.duplicates)) for plan in plans]

    def failures(self) -> list[str]:
        return [failed.failure.why for result in self.results for failed in result.failed()]


@dataclass
class FarWorld(World):
    """Both stores are far away; the line works while users do things, and while a run only looks."""

    line: Line = field(default_factory=Line)
    summary: Summary = field(default_factory=Summary)
    last: Kept = field(default_factory=Kept)

    def channel(self, report: Silent, options: Options, switch: Switch, cache: Path | None = None) -> Channel:
        """What cuts runs off gets messages one by one: it must not stand between a run and the line."""
        channel = super().channel(report, options, switch, cache)
        stores = {side: replace(store, driver=_turned(store.driver)) for side, store in channel.stores.items()}
        return replace(channel, stores=stores)

    def sync(self, options: Options | None = None, switch: Switch | None = None, cached: bool = True) -> Kept:
        report = Kept(line=self.line)
        channel = self.channel(report, options or Options(), switch or Switch(), self.cache if cached else None)
        with closed_caches(channel):
            if options and options.simulate:
                channel.sync()
                return report
            try:
                self.summary, self.last = channel.sync(), report
            finally:
                self.line.disarm()
        return report


def _turned(cut: Driver) -> Driver:
    assert isinstance(cut, Cut)
    assert isinstance(cut.driver, Far)
    inner = replace(cut, driver=cut.driver.driver, unreadable=set())
    return replace(cut.driver, driver=inner, unreadable=cut.unreadable)


def far(*, holds: Holds | None = None, new_box: Callable[[], MemoryBox] = MemoryBox) -> FarWorld:
    line = Line()
    boxes = {Side.A: MemoryBox, Side.B: (lambda: MemoryBox(holds=holds)) if holds else new_box}
    drivers = {side: Far(Memory(new_box=boxes[side]), Switch(), line=line, side=side) for side in Side}
    return FarWorld({**drivers}, line=line, servers=frozenset(Side))


class LostLaws(Laws):
    """The laws, where connections break now and then."""

    def make(self, holds: Holds) -> World:
        return replace(far(holds=holds), cache=self.dir / "cache.sqlite")

    # With moves, what cannot be read makes a plan depend on the cache, which Laws.sync does not expect; see SCENARIOS.
    hide = None  # type: ignore[assignment]

    @rule(n=st.integers(0, 30), ahead=st.booleans())
    def sync_with_a_loss(self, n: int, ahead: bool) -> None:
        """One run is enough, and it tells what it would tell if nothing had broken."""
        planned = self.far.sync(replace(FREELY, simulate=True))
        with self.breaking({n}, ahead=ahead):
            self.sync()
        assert [step[:3] for step in told(planned.steps)] == [step[:3] for step in told(self.far.last.steps)]
        assert planned.numbers() == self.far.last.numbers()
        assert [] == self.far.last.failures()

    @rule(at=st.sets(st.integers(0, 30), max_size=3), ahead=st.booleans(), heals=st.booleans())
    def sync_with_losses(self, at: set[int], ahead: bool, heals: bool) -> None:
        """What could not be read, and that at which it broke twice, waits for the next run."""
        before = self.on_each_side()
        with self.breaking(at, ahead=ahead, heals=heals):
            self.world.sync(FREELY)
        self.check_nothing_lost(before)
        self.sync()

    def sync_with_a_late_end(self, n: int, after: int, rule: Duplicates) -> bool:
        """What was sent again is there once, though the server did it both times. True if it did."""
        line = self.far.line
        line.late = after
        planned = self.far.sync(replace(FREELY, duplicates=rule, simulate=True)).numbers()
        before = {side: self.by_content(side) for side in Side}
        groups = {where for where in ALL_PLACES if self.is_group(where[0], BY_DIGEST[where[1]].id)}
        with self.breaking({n}, ahead=False):
            self.world.sync(replace(FREELY, duplicates=rule))
        came_late = bool(line.broken) and not line.undone and line.late == 0
        line.end()
        line.late = 0
        for side in Side if came_late else ():
            doubled = self.by_content(side) - before[side] - Counter(set(self.by_content(side)))
            assert not set(doubled) - groups, f"doubled on {side}"
        assert not came_late or planned == self.far.last.numbers()
        return came_late

    @contextmanager
    def breaking(self, at: set[int], *, ahead: bool, heals: bool = True) -> Iterator[None]:
        line = self.far.line
        line.at, line.ahead, line.heals = frozenset(at), ahead, heals
        try:
            yield
        finally:
            line.at = frozenset()

    @property
    def far(self) -> FarWorld:
        assert isinstance(self.world, FarWorld)
        return self.world


TestLostLaws = LostLaws.TestCase
TestLostLaws.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("ahead", [False, True], ids=["one_by_one", "pipelined"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_one_run_is_enough_wherever_the_connection_breaks(scenario: Scenario, ahead: bool) -> None:
    """Before each effect and after it, on either side."""
    check_break_points(scenario, lambda laws, n: laws.sync_with_a_loss(n=n, ahead=ahead))


@pytest.mark.parametrize("heals", [True, False], ids=["reads_healed", "reads_broken"])
@pytest.mark.parametrize("ahead", [False, True], ids=["one_by_one", "pipelined"])
@pytest.mark.parametrize("gap", [1, 2, 3, 5])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_laws_hold_wherever_the_connection_breaks_twice(scenario: Scenario, gap: int, ahead: bool, heals: bool) -> None:
    check_break_points(scenario, lambda laws, n: laws.sync_with_losses(at={n, n + gap}, ahead=ahead, heals=heals))


ALL_PLACES = [(box, digest) for box in ("x", "y") for digest in BY_DIGEST]


@pytest.mark.parametrize("rule", [Duplicates.IDENTICAL, Duplicates.KEEP], ids=lambda rule: rule.value)
@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_what_a_server_does_late_is_not_there_twice(after: int, rule: Duplicates) -> None:
    """An APPEND or COPY that is carried out when it has been looked for, and is or was sent again."""
    late: list[bool] = []
    for scenario in SCENARIOS:
        check_break_points(scenario, lambda laws, n: late.append(laws.sync_with_a_late_end(n, after, rule)))
    assert any(late)


def test_of_two_the_copy_stays_that_the_store_has_told_of() -> None:
    """Which one that is was mixed up with a uid of the other side: memory and record stood for the deleted one."""
    late: list[Uid | None] = []
    for n in range(20):
        world = far()
        world.deliver(Side.A, "x", Mail("one", "one"))
        for name in ("p", "q", "r"):
            world.deliver(Side.B, "x", Mail(name, name))
        world.line.at, world.line.late = frozenset({n}), 1
        report = world.sync()

        outcomes = report.results[0].outcomes
        told = {o.uid for o in outcomes if isinstance(o, Done) and isinstance(o.step, Copy) and o.step.to is Side.B}
        assert told - {None} <= world.messages(Side.B, "x").keys()
        late += told & {Uid("5")}  # the late one is 4, as the last one of the other side
    assert late


def test_store_on_this_machine_is_not_searched_for_what_came_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """After one loss in a first download each mailbox was listed once more, and its box told at the end of the run."""
    searched: list[object] = []
    monkeypatch.setattr("mailsync.late.surplus", lambda *args: searched.append(args))
    for n in count():
        world = replace(far(), servers=frozenset({Side.A}))
        for name in ("p", "q", "r"):
            world.deliver(Side.A, "x", Mail(name, name))
        world.line.at = frozenset({n})
        world.sync()
        if not world.line.broken:
            break
        assert ["p", "q", "r"] == sorted(held(world, Side.B, "x"))
    assert n > 5
    assert [] == searched


def check_break_points(scenario: Scenario, sync: Callable[[LostLaws, int], None]) -> None:
    for n in count():
        laws = LostLaws()
        try:
            laws.begin(Holds(any_keyword=True))
            scenario(laws)
            sync(laws, n)
            laws.take_something_settled()
            laws.sync()
            if not laws.far.line.broken:
                assert n > 2
                return
        finally:
            laws.teardown()


# ---- what breaks again and again -------------------------------------------------------------------------------------


@dataclass
class Poisoned(MemoryBox):
    """A server that drops the connection at some messages, whenever they are given to it."""

    poison: tuple[bytes, ...] = (b"poison",)
    appends: list[tuple[Uid, bool]] = field(default_factory=list)

    def append(self, messages: Iterable[Message]) -> Iterator[Appended | Failure]:
        for message in messages:
            raw = b"".join(message.body.chunks(wire=False))
            self.appends.append((message.uid, message.alone))
            if any(word in raw for word in self.poison):
                raise Lost("connection reset by peer")
            yield from super().append([message])


def poisoned(*texts: str, poison: tuple[bytes, ...] = (b"poison",)) -> FarWorld:
    """New messages in box x on side A, and one in y; side B drops the connection at some."""
    world = far(new_box=lambda: Poisoned(poison=poison))
    for n, text in enumerate(texts):
        world.deliver(Side.A, "x", Mail(f"m{n}", text))
    world.deliver(Side.A, "y", Mail("other", "good"))
    return world


def boxes_of(world: World, side: Side) -> dict[Mailbox, MemoryBox]:
    driver = world.drivers[side]
    if isinstance(driver, Far):
        driver = driver.driver
    assert isinstance(driver, Memory)
    return driver.held


def poisoned_box(world: World, boxname: str = "x") -> Poisoned:
    box = boxes_of(world, Side.B)[Mailbox(boxname)]
    assert isinstance(box, Poisoned)
    return box


def held(world: World, side: Side, boxname: str) -> list[str]:
    """The texts of the messages, in their order."""
    kept = boxes_of(world, side)[Mailbox(boxname)].kept.values()
    return [stored.raw.rpartition(b"\n\n")[2].decode().strip() for stored in kept]


def test_message_at_which_the_connection_breaks_twice_fails_alone() -> None:
    world = poisoned("one", "poison", "two", "three")
    report = world.sync()

    assert ["one", "two", "three"] == held(world, Side.B, "x")
    assert ["good"] == held(world, Side.B, "y")
    assert ["the connection broke twice at this message"] == report.failures()
    assert (4, 1) == (world.summary.copied[Side.B], world.summary.failed)
    assert [4, 1] == [result.plan.remains for result in report.results]


@pytest.mark.parametrize("texts", [("poison 1", "poison 2", "one"), ("one", "poison 1", "poison 2", "two")])
def test_two_such_messages_do_not_block_a_mailbox_either(texts: tuple[str, ...]) -> None:
    world = poisoned(*texts)
    report = world.sync()

    assert [text for text in texts if "poison" not in text] == held(world, Side.B, "x")
    assert ["the connection broke twice at this message"] * 2 == report.failures()


def test_server_that_always_breaks_is_given_up_and_the_run_goes_on_with_the_next_box() -> None:
    world = poisoned("bad 1", "bad 2", "bad 3", "bad 4", poison=(b"bad",))
    report = world.sync()

    assert [] == held(world, Side.B, "x")
    assert ["good"] == held(world, Side.B, "y")
    assert 4 == len(report.failures()) == world.summary.failed
    assert 3 <= len(poisoned_box(world).appends) <= 4
    assert all("connection reset by peer; it broke 3 times" in why for why in report.failures()[-3:])


def test_losses_with_something_done_in_between_are_no_reason_to_give_up() -> None:
    world = far()
    for n in range(20):
        world.deliver(Side.A, "x", Mail(f"m{n}", str(n)))
    world.line.at = frozenset(range(5, 400, 6))
    world.sync()

    assert world.line.broken > 5
    assert sorted(map(str, range(20))) == sorted(held(world, Side.B, "x"))
    assert 20 == world.summary.copied[Side.B]
    assert 0 == world.summary.failed


def test_after_a_loss_each_copy_is_sent_alone() -> None:
    world = poisoned("one", "poison", "two")
    world.sync()

    sent = poisoned_box(world).appends
    assert [("1", False), ("2", False), ("3", True), ("2", True), ("2", True)] == sent


def test_deletion_waits_for_a_copy_into_another_box_at_which_the_connection_breaks() -> None:
    world = poisoned("one")
    world.deliver(Side.A, "x", Mail("moved", "moved"))
    world.sync()
    poisoned_box(world, "y").poison = (b"moved",)
    [uid] = [uid for uid, (digest, _) in world.messages(Side.A, "x").items() if digest == Mail("moved", "moved").digest]
    world.deliver(Side.A, "y", Mail("moved", "moved on"))
    world.delete(Side.A, "x", uid)
    world.sync()

    assert ["one", "moved"] == held(world, Side.B, "x")
    poisoned_box(world, "y").poison = ()
    world.sync()
    assert ["one"] == held(world, Side.B, "x")
    assert ["good", "moved on"] == held(world, Side.B, "y")
    assert [] == world.plan()


def test_copy_that_failed_before_the_connection_broke_and_is_done_after_it_holds_no_deletion() -> None:
    entry = Entry(Uid("1"), MessageId("<1>"), NONE)
    change = Change(key(entry.id), (Item(None, entry, None),), (Copy(Side.B, entry, NONE),))
    holds = dict.fromkeys(Side, Holds())
    box = BoxPlan(Boxname("x"), (change,), 0, holds, BoxPolicy().sides, {}, dict.fromkeys(Side, 0))
    copies = Outstanding([box])
    copies.over(box, Failed(change, change.steps[0], Failure("1", "busy")))
    failed = copies.has_failed(Side.B, change.key), copies.is_coming(Side.B, change.key)
    copies.expect(box)
    expected = copies.has_failed(Side.B, change.key), copies.is_coming(Side.B, change.key)
    copies.expect(replace(box, changes=()))

    assert ((True, False), (False, True)) == (failed, expected)
    assert not copies.is_coming(Side.B, change.key)


# ---- what is found at the second look --------------------------------------------------------------------------------


@dataclass
class Emptied(MemoryBox):
    """A server that comes back without any mail, once: it was started anew, or its disk is not mounted."""

    comes_back_with: str = "2"
    armed: bool = False

    def append(self, messages: Iterable[Message]) -> Iterator[Appended | Failure]:
        if self.armed:
            self.armed = False
            self.kept.clear()
            self.validity = self.comes_back_with
            raise Lost("server restarted")
        yield from super().append(messages)


@pytest.mark.parametrize("validity", ["1", "2"], ids=["same_validity", "other_validity"])
def test_mailbox_that_comes_back_empty_deletes_nothing_on_the_other_side(validity: str, tmp_path: Path) -> None:
    world = replace(far(new_box=lambda: Emptied(comes_back_with=validity)), cache=tmp_path / "cache")
    for n in range(10):
        world.deliver(Side.A, "x", Mail(f"m{n}", str(n)))
    world.sync()
    [box] = boxes_of(world, Side.B).values()
    assert isinstance(box, Emptied)
    box.armed = True
    world.deliver(Side.A, "x", Mail("new", "new"))
    world.sync()

    assert [*map(str, range(10)), "new"] == held(world, Side.A, "x")
    assert ["new"] == held(world, Side.B, "x")
    assert 0 == world.summary.deleted[Side.A]


def test_store_that_comes_back_empty_under_another_validity_is_still_not_the_one_that_was_seen(tmp_path: Path) -> None:
    """The guard must judge the next run by what was there before, not by what came back."""
    world = replace(far(new_box=Emptied), cache=tmp_path / "cache")
    for n in range(10):
        world.deliver(Side.A, "x", Mail(f"m{n}", str(n)))
    world.sync()
    [box] = boxes_of(world, Side.B).values()
    assert isinstance(box, Emptied)
    box.armed = True
    world.deliver(Side.A, "x", Mail("new", "new"))
    world.sync()
    box.kept.clear()

    with pytest.raises(Replaced):
        world.sync()
    assert 11 == len(held(world, Side.A, "x"))


def test_mailbox_that_is_to_be_removed_is_asked_for_again() -> None:
    for n in range(3):
        world = far()
        world.deliver(Side.A, "x", Mail("m", "text"))
        world.deliver(Side.A, "y", Mail("other", "text"))
        world.sync()
        world.delete(Side.A, "x", Uid("1"))
        world.line.at = frozenset({n + 3})  # after the three of the expunge
        report = world.sync(Options(remove_empty=True))

        assert (["y"], ["y"]) == (world.boxes(Side.A), world.boxes(Side.B))
        assert 0 == world.summary.failed
        assert 2 == sum(isinstance(step, tuple) for step in report.steps)
        assert [] == world.plan()


def test_copies_whose_ids_the_server_rewrote_are_looked_at_although_the_connection_broke() -> None:
    """Else they would be other messages to the second look, and be copied again, in both directions."""
    world = far(new_box=lambda: MemoryBox(rewrite=lambda raw: raw.replace(b"\xc3\xbc", b"")))
    for n in range(3):
        world.deliver(Side.A, "x", Mail(f"\u00fc{n}", str(n)))
    world.line.at = frozenset({7})
    world.sync()

    assert ("append", Side.B) == world.line.last
    assert ["0", "1", "2"] == held(world, Side.A, "x") == held(world, Side.B, "x")
    assert 3 == world.summary.copied[Side.B]
    assert [] == world.plan()


# ---- losses while looking --------------------------------------------------------------------------------------------


@dataclass
class Dim(Far):
    """Of one mailbox nothing can be learnt."""

    broken: set[str] = field(default_factory=set)

    def holds(self, mailbox: Mailbox) -> Holds:
        self.reach(mailbox, "holds")
        return super().holds(mailbox)

    def find(self, mailbox: Mailbox) -> BoxInfo | None:
        self.reach(mailbox, "find")
        return super().find(mailbox)

    def listings(self, wanted: Sequence[Wanted], identify: Identify) -> Iterator[tuple[Mailbox, Listing | Failure]]:
        for one in wanted:
            self.reach(one.mailbox, "listings")
            yield from super().listings([one], identify)

    @contextmanager
    def open(self, mailbox: Mailbox, *, write: bool) -> Iterator[Box]:
        self.reach(mailbox, "open")
        with super().open(mailbox, write=write) as box:
            yield box

    def reach(self, mailbox: Mailbox, what: str) -> None:
        if mailbox == "y" and what in self.broken:
            raise Lost(f"{what} broken")


@pytest.mark.parametrize("what", ["holds", "find", "listings", "open"])
def test_what_breaks_while_looking_is_a_failure_of_that_box_alone(what: str) -> None:
    world = far()
    dim = Dim(Memory(), Switch(), line=world.line, side=Side.B)
    world.drivers[Side.B] = dim
    world.deliver(Side.A, "x", Mail("m", "text"))
    if what in ("listings", "open"):
        world.deliver(Side.B, "y", Mail("a", "one"), frozenset({DRAFT}))
    else:
        world.deliver(Side.A, "y", Mail("a", "one"), frozenset({DRAFT}))
    dim.broken = {what}
    world.sync()
    failed = world.summary.failed
    dim.broken = set()
    world.sync()

    assert ["text"] == held(world, Side.B, "x")
    assert ["one"] == held(world, Side.A, "y") == held(world, Side.B, "y")
    assert failed == (0 if what == "open" else 1)
    assert [] == world.plan()


def test_box_that_cannot_be_looked_at_again_fails_and_the_next_goes_on() -> None:
    world = poisoned("one", "poison", "two")
    dim = Dim(Memory(new_box=Poisoned), Switch(), line=world.line, side=Side.B)
    world.drivers[Side.B] = dim
    world.deliver(Side.A, "y", Mail("bad", "poison"))
    world.deliver(Side.A, "z", Mail("m", "text"))
    world.sync()

    assert ["one", "two"] == held(world, Side.B, "x")
    assert ["text"] == held(world, Side.B, "z")


# ---- refused batches -------------------------------------------------------------------------------------------------


@dataclass
class Refusing(MemoryBox):
    """Refuses what does not come alone, and some messages even so."""

    batches: list[list[Uid]] = field(default_factory=list)

    def append(self, messages: Iterable[Message]) -> Iterator[Appended | Failure]:
        batch: list[Uid] = []
        self.batches.append(batch)
        for message in messages:
            batch.append(message.uid)
            if b"too big" in b"".join(message.body.chunks(wire=False)):
                yield Failure(message.uid, "too big", alone=True)
            elif message.alone:
                yield from super().append([message])
            else:
                yield Failure(message.uid, "the batch was refused", alone=True)


def test_refused_batch_is_sent_again_in_one_go_each_message_alone() -> None:
    source, target = MemoryBox(), Refusing()
    texts = ("one", "too big", "two")
    entries = [Entry(source.deliver(text.encode()), MessageId(f"<{text}>"), NONE) for text in texts]
    tasks = [(Change(key(entry.id), (Item(None, entry, None),)), Copy(Side.B, entry, NONE)) for entry in entries]

    outcomes = list(send(source, target, tasks, MSGID))

    assert [["1", "2", "3"]] * 2 == target.batches
    assert [b"one", b"two"] == [stored.raw for stored in target.kept.values()]
    assert ["too big"] == [outcome.failure.why for outcome in outcomes if isinstance(outcome, Failed)]
    assert 2 == sum(isinstance(outcome, Done) for outcome in outcomes)


# ---- with other deletions, renames and names -------------------------------------------------------------------------


class LostWideLaws(LostLaws, WideLaws):
    """The wide laws, where connections break now and then."""

    def make(self, holds: Holds) -> World:
        return replace(super().make(holds), kept=kept.Kept(self.dir / "kept"))


@pytest.mark.parametrize("ahead", [False, True], ids=["one_by_one", "pipelined"])
@pytest.mark.parametrize("scenario", WIDE_SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_wide_laws_hold_wherever_the_connection_breaks(scenario: WideScenario, ahead: bool) -> None:
    for n in count():
        laws = LostWideLaws()
        try:
            laws.begin(Holds(any_keyword=True))
            scenario(laws)
            laws.sync_with_losses(at={n}, ahead=ahead, heals=True)
            laws.take_something_settled()
            laws.sync()
            broken = laws.far.line.broken
        finally:
            laws.teardown()
        if not broken:
            assert n > 2  # it broke, and more than once
            return
