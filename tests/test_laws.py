"""The laws, on stores in memory: what may never happen, whatever users and kill -9 do."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from mailsync.config.values import MaxDelete
from mailsync.drivers.memory import Memory, MemoryBox
from mailsync.model import DELETED, DRAFT, FLAGGED, SEEN, Flags, Holds, Side, Uid
from mailsync.plan import Copy, Delete, SetFlags
from mailsync.planner import Options

from .world import Copies, Killed, Mail, Switch, World

SIDES = st.sampled_from(Side)
BOXES = st.sampled_from(["x", "y"])
ALL = [Mail(id, text) for id in ("", "m1", "m2", "m3") for text in ("one", "two", "three")]
BY_DIGEST = {mail.digest: mail for mail in ALL}
MAILS = st.sampled_from(ALL)
FLAGS = st.frozensets(st.sampled_from([SEEN, FLAGGED, "kw"]))
ANY_FLAG = st.sampled_from([SEEN, FLAGGED, DELETED, "kw"])
HOLDS = st.sampled_from([Holds(any_keyword=True), Holds(), Holds(frozenset({SEEN, DELETED}))])
Where = tuple[str, str]  # boxname, digest
FREELY = Options(max_delete=MaxDelete(10**6), allow_mass_delete=10**6)


class Laws(RuleBasedStateMachine):
    """Deliver, delete, flag, save drafts again, move; synchronize: whole, with -n, cut off anywhere, after 5.2.7."""

    steady = True  # a message keeps its uid when an equal one goes

    def __init__(self) -> None:
        super().__init__()
        self.dir = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.world = World()
        self.may_go: set[Where] = set()  # a user has deleted it, somewhere, once
        self.must_go: set[Where] = set()  # it was settled, and a user deleted it: gone after the next whole run
        self.trusted = True  # the cache belongs to the memory: what came back under a known id is known to be new
        self.known: set[tuple[str, str]] = set()  # (box, id) that both sides had at once: it may be remembered
        self.settled: set[Where] = set()  # on both sides at the end of a whole run, and nothing came since

    def teardown(self) -> None:
        shutil.rmtree(self.dir)

    @initialize(holds=HOLDS)
    def begin(self, holds: Holds) -> None:
        self.world = self.make(holds)

    def make(self, holds: Holds) -> World:
        memory = {Side.A: Memory(), Side.B: Memory(new_box=lambda: MemoryBox(holds=holds))}
        return World({**memory}, cache=self.dir / "cache.sqlite")

    # ---- users ---------------------------------------------------------------------------------------------------

    @rule(side=SIDES, box=BOXES, mail=MAILS, flags=FLAGS)
    def deliver(self, side: Side, box: str, mail: Mail, flags: Flags) -> None:
        self.world.deliver(side, box, mail, flags)
        self.unsettle(box, mail.id)

    @rule(side=SIDES, box=BOXES, data=st.data())
    def delete(self, side: Side, box: str, data: st.DataObject) -> None:
        for uid, digest, flags in self.chosen(side, box, data):
            self.forget(side, box, uid, digest)
            if (box, digest) in self.settled and DELETED not in flags:
                self.must_go.add((box, digest))

    def take(self, side: Side, box: str, mail: Mail) -> None:
        """As `delete`, for scenarios that know which one."""
        for uid, digest, _ in self.those(side, box, mail):
            self.forget(side, box, uid, digest)
            if (box, digest) in self.settled:
                self.must_go.add((box, digest))

    def take_something_settled(self) -> None:
        """What the memory knew before the run that was cut off, it must know after it."""
        for box, digest in sorted(self.settled & set(self.by_content(Side.A)) & set(self.by_content(Side.B)))[:1]:
            self.take(Side.A, box, BY_DIGEST[digest])

    def mark(self, side: Side, box: str, mail: Mail, flags: Flags) -> None:
        for uid, _, _ in self.those(side, box, mail):
            self.world.flag(side, box, uid, flags, frozenset())

    def veil(self, side: Side, box: str, mail: Mail) -> None:
        for uid, _, _ in self.those(side, box, mail):
            self.world.unreadable.add((side, self.world.mailbox(side, box), uid))

    def those(self, side: Side, box: str, mail: Mail) -> list[tuple[Uid, str, Flags]]:
        messages = self.world.messages(side, box)
        return [(uid, digest, flags) for uid, (digest, flags) in messages.items() if digest == mail.digest]

    @rule(side=SIDES, box=BOXES, flag=ANY_FLAG, on=st.booleans(), data=st.data())
    def flag(self, side: Side, box: str, flag: str, on: bool, data: st.DataObject) -> None:
        for uid, digest, _ in self.chosen(side, box, data):
            one, none = frozenset({flag}), frozenset[str]()
            self.world.flag(side, box, uid, one if on else none, none if on else one)
            if flag in (FLAGGED, DELETED):  # it may be kept for that
                self.must_go.discard((box, digest))
                self.settled.discard((box, digest))

    @rule(side=SIDES, box=BOXES, mail=MAILS)
    def save_draft(self, side: Side, box: str, mail: Mail) -> None:
        """A mail client puts a draft in the place of those with the same id."""
        for uid, (digest, flags) in reversed(self.world.messages(side, box).items()):
            if DRAFT in flags and BY_DIGEST[digest].id == mail.id:
                self.forget(side, box, uid, digest)
        self.world.deliver(side, box, mail, frozenset({DRAFT}))
        self.unsettle(box, mail.id)

    @rule(side=SIDES, box=BOXES, data=st.data())
    def move(self, side: Side, box: str, data: st.DataObject) -> None:
        for uid, digest, flags in self.chosen(side, box, data):
            target = "y" if box == "x" else "x"
            self.world.deliver(side, target, BY_DIGEST[digest], flags)
            self.unsettle(target, BY_DIGEST[digest].id)
            self.forget(side, box, uid, digest)

    @rule(side=SIDES, box=BOXES, data=st.data())
    def hide(self, side: Side, box: str, data: st.DataObject) -> None:
        """A message cannot be read for a while."""
        for uid, digest, _ in self.chosen(side, box, data):
            if self.steady:
                self.world.unreadable.add((side, self.world.mailbox(side, box), uid))
            else:
                self.veil(side, box, BY_DIGEST[digest])

    @rule()
    def show(self) -> None:
        self.world.unreadable.clear()

    def forget(self, side: Side, box: str, uid: Uid, digest: str) -> None:
        self.world.delete(side, box, uid)
        self.may_go.add((box, digest))
        self.may_go |= {(box, other) for other in self.with_id(side.other, box, BY_DIGEST[digest].id)}

    def with_id(self, side: Side, box: str, id: str) -> list[str]:
        """The digests of the messages with this id. One on each side is one message, whatever it says: ids are ids."""
        if not id:
            return []
        return [digest for digest, _ in self.world.messages(side, box).values() if BY_DIGEST[digest].id == id]

    def chosen(self, side: Side, box: str, data: st.DataObject) -> list[tuple[Uid, str, Flags]]:
        """One of the messages there, if there is any."""
        messages = self.world.messages(side, box)
        if not messages:
            return []
        uid = data.draw(st.sampled_from(sorted(messages)))
        return [(uid, *messages[uid])]

    def unsettle(self, box: str, id: str) -> None:
        """Something with this id came: what a deletion of it means is no longer clear."""
        same = {(box, digest) for digest, mail in BY_DIGEST.items() if mail.id == id}
        self.settled -= same
        self.must_go -= same
        if not self.trusted and (box, id) in self.known:
            self.may_go |= same

    def doubt(self) -> None:
        """Only the memory tells now of a message on one side that it is new: not if its id is a known one."""
        self.trusted = False
        self.note_known()
        a, b = (set(self.by_content(side)) for side in Side)
        self.may_go |= {(box, digest) for box, digest in a ^ b if (box, BY_DIGEST[digest].id) in self.known}

    def note_known(self) -> None:
        a, b = ({(box, BY_DIGEST[digest].id) for box, digest in self.by_content(side)} for side in Side)
        self.known |= a & b

    # ---- runs ----------------------------------------------------------------------------------------------------

    @rule()
    def sync(self) -> None:
        self.check_mirrored()
        before = self.on_each_side()
        self.world.sync(FREELY)
        self.check_nothing_lost(before)
        self.note_known()
        self.trusted = True
        # The cache may know that a message is new where the memory alone must hold it for an unreadable one, or not.
        assert [] == self.world.plan(cached=bool(self.world.unreadable))
        for side in Side:
            doubled = self.doubled(side)
            assert not doubled or self.world.unreadable, f"more than one on {side}: {doubled}"
        if not self.world.unreadable:
            self.check_equal()
            came_back = self.must_go & self.on_any_side()
            assert not came_back, f"resurrected: {came_back}"
            self.must_go = set()
            a, b = (set(self.by_content(side)) for side in Side)
            self.settled = a & b

    @rule()
    def sync_without_deleting(self) -> None:
        before = self.on_each_side()
        self.world.sync(Options(delete=False, allow_mass_delete=10**6))
        assert all(before[side] <= set(self.by_content(side)) for side in Side)

    @rule(n=st.integers(0, 12))
    def sync_killed(self, n: int) -> None:
        self.sync_cut_off(Switch(n), Killed)

    @rule(n=st.integers(0, 12))
    def sync_interrupted(self, n: int) -> None:
        self.sync_cut_off(Switch(n, interrupt=True), KeyboardInterrupt)

    def sync_cut_off(self, switch: Switch, how: type[BaseException]) -> None:
        before = self.on_each_side()
        with suppress(how):
            self.world.sync(FREELY, switch)
        self.check_nothing_lost(before)
        self.doubt()

    @rule()
    def turn_of_original(self) -> None:
        """The digests of groups and drafts, and the lines of mail without id, do not survive it."""
        self.world.turn_of_original()
        self.doubt()
        several = {mail.id for mail in BY_DIGEST.values() for box in ("x", "y") if self.is_group(box, mail.id)} | {""}
        for digest, mail in BY_DIGEST.items():
            if mail.id in several:
                self.settled -= {("x", digest), ("y", digest)}
                self.must_go -= {("x", digest), ("y", digest)}

    @rule()
    def lose_cache(self) -> None:
        self.doubt()
        self.world.cache = self.dir / f"cache{len(list(self.dir.iterdir()))}.sqlite"

    # ---- laws ----------------------------------------------------------------------------------------------------

    def on_any_side(self) -> set[Where]:
        return {where for side in Side for where in self.by_content(side)}

    def on_each_side(self) -> dict[Side, set[Where]]:
        return {side: set(self.by_content(side)) for side in Side}

    def by_content(self, side: Side) -> Counter[Where]:
        counts: Counter[Where] = Counter()
        for (box, digest, _), n in self.world.copies(side).items():
            counts[box, digest] += n
        return counts

    def check_mirrored(self) -> None:
        assert told(self.world.plan()) == told(self.world.mirrored().plan(), turned=True)

    def doubled(self, side: Side) -> list[Where]:
        return [where for where, n in self.by_content(side).items() if n > 1]

    def wanted(self, side: Side) -> Copies:
        """All copies that are not as good as gone."""
        return self.world.copies(side)

    def places(self, side: Side) -> set[Where]:
        """Where messages are that were there before a run."""
        return set(self.by_content(side))

    def ambiguous(self) -> set[Where]:
        """What no single message stands for."""
        return set()

    def is_group(self, box: str, id: str) -> bool:
        return any(
            sum(BY_DIGEST[digest].id == id for name, digest in self.by_content(side).elements() if name == box) > 1
            or any(DRAFT in f for name, d, f in self.world.copies(side) if name == box and BY_DIGEST[d].id == id)
            for side in Side
        )

    def check_nothing_lost(self, before: dict[Side, set[Where]]) -> None:
        """What no user deleted anywhere stays on each side that had it."""
        for side, had in before.items():
            lost = had - self.places(side) - self.may_go
            assert not lost, f"lost on {side}: {lost}"

    def check_equal(self) -> None:
        """Both stores hold the same, but for flags that one cannot hold, and for new mail marked \\Deleted."""
        holds = {side: self.world.drivers[side].holds(self.world.mailbox(side, "x")) for side in Side}
        a, b = ({(c[0], c[1]): holds[s.other].of(c[2]) for c in self.wanted(s)} for s in Side)
        for box, digest in (a.keys() | b.keys()) - self.ambiguous():
            flags = a.get((box, digest)), b.get((box, digest))
            if flags[0] is not None and flags[1] is not None:
                assert flags[0] == flags[1], (box, digest)
            elif not all(len(self.with_id(side, box, BY_DIGEST[digest].id)) == 1 for side in Side):
                assert DELETED in (flags[0] or flags[1] or ()), f"only on one side: {BY_DIGEST[digest]} in {box}"


def told(steps: list[object], turned: bool = False) -> list[tuple[str, ...]]:
    """The steps in a form that can be compared, whatever their order; seen from the other side if `turned`."""
    return sorted(
        (type(step).__name__, (step.on.other if turned else step.on).value, step.entry.uid, *_flags(step))
        for step in steps
        if isinstance(step, Copy | SetFlags | Delete)
    )


def _flags(step: Copy | SetFlags | Delete) -> tuple[str, ...]:
    match step:
        case Copy(flags=flags):
            return tuple(sorted(flags))
        case SetFlags(add=add, remove=remove):
            return (*sorted(add), "-", *sorted(remove))
        case Delete(why=why):
            return (why.value,)


# ---- every kill point of some scenarios ------------------------------------------------------------------------------

ONE, TWO, THREE = Mail("m1", "one"), Mail("m2", "two"), Mail("m3", "three")
Scenario = Callable[[Laws], None]
L = TypeVar("L", bound=Laws)


def new_mail_on_both_sides(laws: Laws) -> None:
    laws.deliver(Side.A, "x", ONE, frozenset({SEEN}))
    laws.deliver(Side.B, "x", TWO, frozenset())
    laws.deliver(Side.B, "y", THREE, frozenset({FLAGGED}))


def deleted_on_both_sides(laws: Laws) -> None:
    new_mail_on_both_sides(laws)
    laws.sync()
    laws.take(Side.A, "x", ONE)
    laws.take(Side.B, "x", TWO)
    laws.deliver(Side.A, "y", Mail("", "one"), frozenset())


def moved_and_flagged(laws: Laws) -> None:
    new_mail_on_both_sides(laws)
    laws.sync()
    laws.take(Side.A, "x", ONE)
    laws.deliver(Side.A, "y", ONE, frozenset({SEEN, "kw"}))
    laws.mark(Side.B, "x", TWO, frozenset({SEEN}))


def draft_saved_again(laws: Laws) -> None:
    laws.save_draft(Side.A, "x", Mail("m1", "one"))
    laws.sync()
    laws.save_draft(Side.A, "x", Mail("m1", "two"))


def several_with_one_id(laws: Laws) -> None:
    laws.deliver(Side.A, "x", Mail("m1", "one"), frozenset())
    laws.deliver(Side.A, "x", Mail("m1", "two"), frozenset())
    laws.deliver(Side.A, "x", Mail("m1", "two"), frozenset({SEEN}))
    laws.sync()
    laws.take(Side.B, "x", Mail("m1", "one"))
    laws.deliver(Side.B, "x", Mail("m1", "three"), frozenset())


def flagged_and_deleted_after_the_original_ran(laws: Laws) -> None:
    laws.deliver(Side.A, "x", ONE, frozenset({FLAGGED}))
    laws.deliver(Side.A, "x", TWO, frozenset())
    laws.sync()
    laws.turn_of_original()
    laws.take(Side.B, "x", ONE)


def unreadable_for_a_while(laws: Laws) -> None:
    new_mail_on_both_sides(laws)
    laws.sync()
    laws.veil(Side.A, "x", ONE)
    laws.deliver(Side.A, "x", THREE, frozenset())


SCENARIOS: list[Scenario] = [
    new_mail_on_both_sides,
    deleted_on_both_sides,
    moved_and_flagged,
    draft_saved_again,
    several_with_one_id,
    flagged_and_deleted_after_the_original_ran,
    unreadable_for_a_while,
]


@pytest.mark.parametrize("interrupt", [False, True], ids=["killed", "interrupted"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_laws_hold_at_every_kill_point(scenario: Scenario, interrupt: bool) -> None:
    check_kill_points(scenario, interrupt, Laws)


def check_kill_points(scenario: Callable[[L], None], interrupt: bool, machine: type[L]) -> None:
    """Cut the run off before its first change, its second, ...; each time, later runs must end as the laws say."""
    for n in count():
        laws = machine()
        try:
            laws.begin(Holds(any_keyword=True))
            scenario(laws)
            switch = Switch(n, interrupt)
            laws.sync_cut_off(switch, KeyboardInterrupt if interrupt else Killed)
            laws.show()
            for _ in range(2):  # what was there before, and what this run has brought
                laws.take_something_settled()
                laws.sync()
            laws.sync()
        finally:
            laws.teardown()
        if switch.left:
            return


class Md5Laws(Laws):
    """The same with `-t md5`."""

    def make(self, holds: Holds) -> World:
        return replace(super().make(holds), kind="md5")


TestMd5Laws = Md5Laws.TestCase
TestMd5Laws.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)

TestLaws = Laws.TestCase
TestLaws.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_laws_hold_in_long_histories() -> None:
    run_state_machine_as_test(Laws, settings=settings(max_examples=5000, stateful_step_count=40, deadline=None))
