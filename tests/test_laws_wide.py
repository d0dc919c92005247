"""The laws, where stores delete in other ways, boxes are renamed and mapped, runs have limits or one direction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from mailsync.config.values import Deletion
from mailsync.drivers.contract import Box, Wanted
from mailsync.drivers.memory import Memory, MemoryBox
from mailsync.identity import examine, identify
from mailsync.kept import Kept, KeptRun
from mailsync.model import DELETED, DRAFT, FLAGGED, SEEN, Holds, Listing, Mailbox, Message, Side, Uid
from mailsync.plan import Copy
from mailsync.report import Report, Summary
from mailsync.undo import undo

from .test_laws import (
    BOXES,
    BY_DIGEST,
    FREELY,
    HOLDS,
    MAILS,
    ONE,
    SIDES,
    THREE,
    TWO,
    Laws,
    Where,
    check_kill_points,
    new_mail_on_both_sides,
)
from .world import Copies, Mail, Silent, Switch, World

TRASH = "T"
EXPUNGE = Deletion()
Pairs = tuple[tuple[str, str], ...]
DELETIONS = st.sampled_from([EXPUNGE, Deletion(mark=True), Deletion(trash=TRASH)])
PAIRS = st.sampled_from([(), (("x", "ex"),), (("x", "y"), ("y", "x"))])
NAMES = st.sampled_from(["x", "y", "z"])


class WideLaws(Laws):
    """As in `Laws`; and rename boxes, undo, run with limits and in one direction."""

    @initialize(holds=HOLDS, a=DELETIONS, b=DELETIONS, pairs=PAIRS)
    def begin(self, holds: Holds, a: Deletion = EXPUNGE, b: Deletion = EXPUNGE, pairs: Pairs = ()) -> None:
        self.world = self.make(holds)
        self.world.deletion = {side: self.placed(side, deletion) for side, deletion in ((Side.A, a), (Side.B, b))}
        self.world.pairs = pairs

    def placed(self, side: Side, deletion: Deletion) -> Deletion:
        """Each store has a trash of its own."""
        return Deletion(deletion.mark, self.world.prefix[side] + deletion.trash) if deletion.trash else deletion

    def make(self, holds: Holds) -> World:
        memory = {Side.A: Memory(), Side.B: Memory(new_box=lambda: MemoryBox(holds=holds))}
        return World({**memory}, cache=self.dir / "cache.sqlite", kept=Kept(self.dir / "kept"))

    def __init__(self) -> None:
        super().__init__()
        self.drafts: set[str] = set()
        self.renamed: list[tuple[str, str]] = []

    # ---- users ---------------------------------------------------------------------------------------------------

    @rule(side=SIDES, box=BOXES, data=st.data())
    def delete(self, side: Side, box: str, data: st.DataObject) -> None:
        super().delete(side, box, data)
        self.must_go -= set(self.by_content(side)) | self.ambiguous()  # another copy stays where duplicates do

    def forget(self, side: Side, box: str, uid: Uid, digest: str) -> None:
        super().forget(side, box, uid, digest)
        self.follow_renames()

    def follow_renames(self) -> None:
        """What was deleted from a mailbox on one side is deleted from it on the other, whatever it is called there."""
        for old, new in (*self.renamed, *((new, old) for old, new in reversed(self.renamed))):
            self.may_go |= {(new, digest) for box, digest in self.may_go if box == old}

    @rule(side=SIDES, box=BOXES, mail=MAILS)
    def save_draft(self, side: Side, box: str, mail: Mail) -> None:
        super().save_draft(side, box, mail)
        self.drafts.add(mail.digest)

    @rule(side=SIDES, old=NAMES, new=NAMES)
    def rename(self, side: Side, old: str, new: str) -> None:
        world = self.world
        if old not in world.boxes(side) or new in world.boxes(side):
            return
        for name in [box for box in world.boxes(side) if f"{box}/".startswith(f"{old}/")]:
            goal = new + name.removeprefix(old)
            for uid, (digest, _) in world.messages(side, name).items():
                id = BY_DIGEST[digest].id
                self.unsettle(goal, id)
                self.unsettle(name, id)
                if (side, world.mailbox(side, name), uid) in world.unreadable:
                    self.may_go.add((name, digest))  # nobody can see where it is now
                self.may_go |= {(name, other) for other in self.with_id(side.other, name, id) if other != digest}
            self.renamed.append((name, goal))
        self.follow_renames()
        world.drivers[side].rename(world.mailbox(side, old), world.mailbox(side, new))
        hidden = {one for one in world.unreadable if one[:2] == (side, world.mailbox(side, old))}
        world.unreadable -= hidden
        world.unreadable |= {(side, world.mailbox(side, new), uid) for _, _, uid in hidden}

    # ---- runs ----------------------------------------------------------------------------------------------------

    @rule(side=SIDES)
    def sync_one_way(self, side: Side) -> None:
        """The other side is not changed at all."""
        options = replace(FREELY, changed=frozenset({side}))
        before, other = self.on_each_side(), self.world.copies(side.other)
        self.world.sync(options)
        assert other == self.world.copies(side.other)
        self.check_nothing_lost(before)
        self.doubt()
        assert [] == self.world.sync(replace(options, simulate=True)).steps

    @rule(sizelimit=st.sampled_from([None, 50]), oldest=st.sampled_from([None, 1_700_000_010, 1_700_000_100]))
    def sync_within_limits(self, sizelimit: int | None, oldest: int | None) -> None:
        options = replace(FREELY, sizelimit=sizelimit, oldest=oldest)
        before = self.on_each_side()
        self.world.sync(options)
        self.check_nothing_lost(before)
        self.doubt()
        again = self.world.sync(options)  # what has come to one mailbox may be copied to others without being sent
        assert all(isinstance(step, Copy) and step.near for step in again.steps)
        assert [] == self.world.sync(replace(options, simulate=True)).steps

    @rule()
    def undo(self) -> None:
        """What the last run has deleted is back, each where it was; then the next run has it on both sides."""
        kept = self.world.kept
        last = kept.last() if kept else None
        if last is None or self.world.unreadable:
            return
        stores, before = self.world.stores(Switch()), self.on_each_side()
        report: Report = Silent()  # type: ignore[assignment]
        summary = Summary()
        undo(stores, last, identify(self.world.kind), report, summary, simulate=False)
        assert not summary.failed
        for side in Side:
            came = set(self.by_content(side)) - before[side]
            assert before[side] <= set(self.by_content(side))
            for box, digest in came:
                self.unsettle(box, BY_DIGEST[digest].id)
                self.must_go.discard((box, digest))
            assert not any(DELETED in flags for box, digest, flags in self.world.copies(side) if (box, digest) in came)

    # ---- laws ----------------------------------------------------------------------------------------------------

    def wanted(self, side: Side) -> Copies:
        """On a side that only marks, what is marked is as good as gone."""
        marks = self.world.deletion[side].mark
        return Counter({copy: n for copy, n in super().wanted(side).items() if not (marks and DELETED in copy[2])})

    def on_any_side(self) -> set[Where]:
        return {(box, digest) for side in Side for box, digest, _ in self.wanted(side)}

    def doubled(self, side: Side) -> list[Where]:
        counts: Counter[Where] = Counter()
        for (box, digest, _), n in self.wanted(side).items():
            counts[box, digest] += n
        return [where for where, n in counts.items() if n > 1]

    def check_mirrored(self) -> None:
        """With mapped names the memory of the mirrored world would be another."""
        if not self.world.pairs:
            super().check_mirrored()

    def places(self, side: Side) -> set[Where]:
        """What a mailbox has under its new name, it had under the old one."""
        places = super().places(side)
        for old, new in reversed(self.renamed):
            places |= {(old, digest) for box, digest in places if box == new}
        return places

    def ambiguous(self) -> set[Where]:
        """What is marked anywhere, where a side only marks, and what has its id: a move of it is not carried out."""
        if not any(deletion.mark for deletion in self.world.deletion.values()):
            return set()
        copies = [copy for side in Side for copy in self.world.copies(side)]
        marked = {BY_DIGEST[digest].id or digest for _, digest, flags in copies if DELETED in flags}
        return {(box, digest) for box, digest, _ in copies if (BY_DIGEST[digest].id or digest) in marked}

    def check_nothing_lost(self, before: dict[Side, set[Where]]) -> None:
        """What a run has deleted is kept, or in the trash; a draft that was saved again is not put into the trash."""
        now = self.on_each_side()
        super().check_nothing_lost(before)
        for side, had in before.items():
            left = {digest for _, digest in now[side]}
            put_away = self.in_trash(side) if self.world.deletion[side].trash else self.in_kept(side)
            lost = {digest for _, digest in had} - left - put_away
            if self.world.deletion[side].trash:
                lost -= self.drafts
            assert not lost, f"neither there nor kept, {side}: {lost}"

    def in_trash(self, side: Side) -> set[str]:
        world = self.world
        trash = Mailbox(world.deletion[side].trash)
        if world.drivers[side].find(trash) is None:
            return set()
        [(_, listing)] = world.drivers[side].listings([Wanted(trash)], identify(world.kind))
        assert isinstance(listing, Listing)
        with world.drivers[side].open(trash, write=False) as box:
            return digests(box, listing)

    def in_kept(self, side: Side) -> set[str]:
        found: set[str] = set()
        kept = self.world.kept
        for path in kept.root.iterdir() if kept and kept.root.exists() else ():
            run = KeptRun(path)
            for record in run.records():
                if record.side is side and record.maildir:
                    maildir = run.maildir(record.maildir)
                    with maildir.open(write=False) as box:
                        found |= digests(box, maildir.listing(identify(self.world.kind)))
        return found


def digests(box: Box, listing: Listing) -> set[str]:
    messages = box.fetch([entry.uid for entry in listing.entries])
    return {str(examine(got.body.chunks(wire=False)).exact) for got in messages if isinstance(got, Message)}


# ---- every kill point of some scenarios ------------------------------------------------------------------------------


def renamed_box(laws: WideLaws) -> None:
    new_mail_on_both_sides(laws)
    laws.sync()
    laws.rename(side=Side.A, old="x", new="z")
    laws.deliver(Side.B, "x", THREE, frozenset())
    laws.mark(Side.B, "x", TWO, frozenset({SEEN}))


def renamed_box_with_one_below(laws: WideLaws) -> None:
    new_mail_on_both_sides(laws)
    laws.deliver(Side.A, "x/below", THREE, frozenset())
    laws.sync()
    laws.rename(side=Side.A, old="x", new="z")
    laws.take(Side.A, "z", ONE)


def renamed_boxes_in_a_row(laws: WideLaws) -> None:
    new_mail_on_both_sides(laws)
    laws.sync()
    laws.rename(side=Side.A, old="x", new="z")
    laws.rename(side=Side.A, old="y", new="x")


def renamed_box_out_of_which_one_was_moved(laws: WideLaws) -> None:
    new_mail_on_both_sides(laws)
    laws.sync()
    laws.rename(side=Side.A, old="x", new="z")
    laws.take(Side.B, "x", ONE)
    laws.deliver(Side.B, "y", ONE, frozenset({SEEN}))


def moved_with_flags_changed_on_the_other_side(laws: WideLaws) -> None:
    new_mail_on_both_sides(laws)
    laws.sync()
    laws.mark(Side.B, "x", ONE, frozenset({FLAGGED, "kw"}))
    laws.take(Side.A, "x", ONE)
    laws.deliver(Side.A, "y", ONE, frozenset())


def moved_there_while_a_duplicate_came_here(laws: WideLaws) -> None:
    """The move must bring the flags of the duplicate, too, which the message does not have yet."""
    draft = Mail("", "one")
    laws.save_draft(Side.A, "x", draft)
    laws.sync()
    laws.take(Side.B, "x", draft)
    laws.deliver(Side.B, "y", draft, frozenset({DRAFT}))
    laws.deliver(Side.A, "x", draft, frozenset({SEEN}))


def rescued_and_moved(laws: WideLaws) -> None:
    """Who deletes it in one mailbox has it in another; who flags it wants it."""
    new_mail_on_both_sides(laws)
    laws.sync()
    laws.mark(Side.B, "x", TWO, frozenset({FLAGGED}))
    laws.take(Side.A, "x", TWO)
    laws.deliver(Side.A, "y", TWO, frozenset())


def copied_to_another_box(laws: WideLaws) -> None:
    new_mail_on_both_sides(laws)
    laws.sync()
    laws.deliver(Side.A, "y", ONE, frozenset({SEEN}))
    laws.deliver(Side.B, "z", TWO, frozenset())


def deleted_into_trash(laws: WideLaws) -> None:
    laws.world.deletion = {side: Deletion(trash=TRASH) for side in Side}
    new_mail_on_both_sides(laws)
    laws.deliver(Side.A, "y", TWO, frozenset())
    laws.sync()
    laws.take(Side.A, "x", ONE)
    laws.take(Side.A, "y", THREE)
    laws.take(Side.B, "x", TWO)


def marked_instead_of_deleted(laws: WideLaws) -> None:
    laws.world.deletion[Side.B] = Deletion(mark=True)
    new_mail_on_both_sides(laws)
    laws.sync()
    laws.take(Side.A, "x", ONE)
    laws.take(Side.B, "x", TWO)
    laws.take(Side.A, "y", THREE)
    laws.deliver(Side.A, "z", THREE, frozenset())


def swapped_names(laws: WideLaws) -> None:
    laws.world.pairs = (("x", "y"), ("y", "x"))
    new_mail_on_both_sides(laws)
    laws.sync()
    laws.take(Side.A, "x", ONE)
    laws.deliver(Side.A, "y", ONE, frozenset({FLAGGED}))
    laws.rename(side=Side.B, old="y", new="z")


def put_back(laws: WideLaws) -> None:
    deleted_into_trash(laws)
    laws.sync()
    laws.undo()


WideScenario = Callable[[WideLaws], None]
WIDE_SCENARIOS: list[WideScenario] = [
    renamed_box,
    renamed_box_with_one_below,
    renamed_boxes_in_a_row,
    renamed_box_out_of_which_one_was_moved,
    moved_with_flags_changed_on_the_other_side,
    moved_there_while_a_duplicate_came_here,
    rescued_and_moved,
    copied_to_another_box,
    deleted_into_trash,
    marked_instead_of_deleted,
    swapped_names,
    put_back,
]


@pytest.mark.parametrize("interrupt", [False, True], ids=["killed", "interrupted"])
@pytest.mark.parametrize("scenario", WIDE_SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_wide_laws_hold_at_every_kill_point(scenario: WideScenario, interrupt: bool) -> None:
    check_kill_points(scenario, interrupt, WideLaws)


def test_one_run_is_enough_where_only_a_marked_duplicate_is_left_of_a_message() -> None:
    """Both stores mark; the message itself was deleted by a user, its further copy has only the mark."""
    world = World()
    world.deletion = dict.fromkeys(Side, Deletion(mark=True))
    world.deliver(Side.A, "x", ONE)
    world.sync(FREELY)
    world.deliver(Side.A, "x", ONE)
    world.deliver(Side.B, "x", ONE, frozenset({FLAGGED}))
    world.sync(FREELY)
    world.delete(Side.A, "x", Uid("1"))

    world.sync(FREELY)

    assert [] == world.plan()


def test_two_messages_that_a_limit_keeps_apart_do_not_become_one_when_a_duplicate_goes() -> None:
    """They have one id: once they were alone with it, the second run took them for the same message."""
    world = World()
    world.deliver(Side.A, "x", Mail("m1", "three"))
    for flags in (frozenset({SEEN}), frozenset[str]()):
        world.deliver(Side.B, "x", ONE, flags)
    limited = replace(FREELY, oldest=1_800_000_000)

    assert [[], []] == [world.sync(limited).steps for _ in range(2)]

    world.sync(FREELY)
    assert [{ONE.digest, Mail("m1", "three").digest}] * 2 == [
        {digest for digest, _ in world.messages(side, "x").values()} for side in Side
    ]
    assert [] == world.plan()


TestWideLaws = WideLaws.TestCase
# The same histories in each run: others are sought under `make torture`.
TestWideLaws.settings = settings(max_examples=25, stateful_step_count=20, deadline=None, derandomize=True)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_wide_laws_hold_in_long_histories() -> None:
    run_state_machine_as_test(WideLaws, settings=settings(max_examples=3000, stateful_step_count=40, deadline=None))
