"""A run over one channel: list, diff, guard, apply, remember."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import guard, late, look, stopping
from .apply import Apply
from .attempts import PATIENCE, Attempts
from .copying import LostAt
from .errors import BoxError, Lost, MsinfoError
from .found import Found
from .ledger import Ledger
from .model import Failure, Identify, Side, Uid
from .msinfo.mailbox import Msinfo
from .msinfo.text import Memory
from .plan import BoxDone, BoxPlan, Copy, Delete, Done, Near, Outcome, Plan, SetFlags, Step, Why
from .planner import Options, Planner
from .record import Record
from .remember import Remembering
from .removal import Removal
from .report import Heads, Report, Summary
from .report.results import BoxResult, MassDeletion, needs_head
from .stores import Store
from .waiting import FAILED_BEFORE, Waiting
from .wording import many

SAVE_EVERY = 60.0  # seconds
SAVE_AFTER = 5000  # steps; both bound what a kill costs: deletions made after it that come back


Review = Callable[[Plan, Mapping[Side, Store], str, Callable[[BoxPlan], Heads]], None]  # also: the digest of msinfo


@dataclass
class Channel:
    """Two stores, opened, and the mailbox that remembers what was seen of them."""

    name: str
    stores: Mapping[Side, Store]
    msinfo: Msinfo
    identify: Identify
    report: Report
    options: Options = field(default_factory=Options)
    record_file: Path | None = None
    clock: Callable[[], float] = time.time
    removals: Mapping[Side, Removal] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=lambda: Ledger(None))
    noted: Report | None = None  # is told of boxes, too
    review: Review | None = None  # is shown the plan before anything is done, as the guard leaves it; raises to stop
    summary: Summary = field(default_factory=Summary)  # counts what is done, as it is told
    idle: bool = field(default=False, init=False)  # nothing was to be done, now or later

    def sync(self) -> Summary:
        """Make both stores equal. With `simulate`: tell what that would take, and write nothing at all."""
        names = [self.name, *(self.stores[side].name for side in Side)]
        self.report.begin("sync", names, simulate=self.options.simulate)
        if self.noted:
            self.noted.begin("sync", names)
        memory = self.msinfo.load()
        for note in self.msinfo.notes:
            self.report.note(note)
        for note in self.msinfo.forged:
            self.report.note(note, asked=True)
        remembered = sum(len(lines) for seen in memory.values() for lines in seen.values())
        self.report.debug(f"msinfo {self.msinfo.mailbox}: {len(memory)} mailboxes, {remembered} messages remembered")
        with Record(self.record_file, self.msinfo.digest, write=not self.options.simulate) as record:
            waits = Waiting(self.ledger, self.clock())
            planner = Planner(self.stores, self.identify, self.options, record, self.report.debug, waits.why)
            plan = planner.plan(memory)
            guard.check(plan, planner.sights(), self.options.allow_mass_delete)
            run = Run(self, plan, memory, record, waits)
            run.tell_what_was_not_seen(planner)
            run.hold_mass_deletion()
            if self.review:
                self.review(run.plan, self.stores, self.msinfo.digest, run.heads)
            if self.options.simulate:
                run.simulate()
            else:
                run.carry_out(planner)
                self.idle = run.idle
        self.report.end(run.summary)
        return run.summary


class Run:
    """From the plan to the memory of what came of it."""

    def __init__(self, channel: Channel, plan: Plan, memory: Memory, record: Record, waiting: Waiting) -> None:
        self.plan = plan
        self._waiting, self._noted = waiting, channel.noted
        self.summary = channel.summary
        self._stores, self._report, self._options = channel.stores, channel.report, channel.options
        self._msinfo, self._clock, self._record = channel.msinfo, channel.clock, record
        self._identify, self._removals = channel.identify, channel.removals
        self._may_ask = not channel.options.simulate and channel.review is None  # else another plan would come of it
        self._remembering = Remembering(memory)
        self._results: dict[str, BoxResult | None] = {}  # of boxes in order; None: not finished
        self._emptied: dict[str, tuple[Side, ...]] = {}  # boxes that are to be removed, by what their last plan says
        self._saved_at, self._steps_since = channel.clock(), 0
        self._read: dict[str, Heads] = {}  # for the review; to be told, too
        self._unread = False  # there are messages that could not be read

    def tell_what_was_not_seen(self, planner: Planner) -> None:
        self._unread = bool(planner.unreadable)
        for boxname, side, failure in planner.unreadable:
            told = f"{boxname} on store {self._stores[side].name}: {failure}"
            if self._waiting.is_new(boxname, side, failure):
                self.summary.failed += 1
                self._report.problem(told, failure.hint)
            else:
                self._report.note(told)
        for side, failure in planner.nameless:
            self.summary.failed += 1
            self._report.problem(f"store {self._stores[side].name}: {failure.why}", failure.hint)
        for boxname, failure in self.plan.failed.items():
            self.summary.failed += 1
            self._report.problem(f"{boxname}: {failure.why}; the box was left alone", failure.hint)
        for boxname, why in self.plan.left_out.items():
            self._report.note(f"{boxname}: {why}")
        for box in self.plan.boxes:
            if waiting := sum(held.why.startswith(FAILED_BEFORE) for held in box.held()):
                self._report.note(f"{box.boxname}: {many(waiting, 'step')} failed before; --retry tries again now")

    def hold_mass_deletion(self) -> None:
        """The guard: too many deletions on one side, and none is done on either, unless the user says so now."""
        limit = guard.limit(self.plan, self._options.max_delete, self._options.allow_mass_delete)
        guarded = guard.hold(self.plan, limit)
        if guarded is self.plan:
            return
        seen = {box.boxname: len(box.seen) for box in self.plan.boxes}
        deletion = MassDeletion(limit, guard.deletions(self.plan), guard.by_box(self.plan), seen)
        if self._may_ask and self._report.may_delete(deletion):
            return
        self.plan = guarded
        self.summary.held = sum(deletion.counts.values())
        for side in deletion.sides:
            self._report.problem(
                f"{deletion.counts[side]} messages would be deleted from store {self._stores[side].name}, more than"
                f" max_delete {limit}: all deletions of this channel are held",
                f"If you mean it: --allow-mass-delete={max(deletion.counts.values())}",
            )

    @property
    def idle(self) -> bool:
        """After a run: nothing was to be done, or remembered, and nothing waits for its time."""
        waits = self._unread or any(
            held.why.startswith(FAILED_BEFORE) for box in self.plan.boxes for held in box.held()
        )
        return not (self.plan or waits or self._remembering.touched or any(self.summary.numbers().values()))

    def simulate(self) -> None:
        """Tell the plan as if each step had come true."""
        for box in self.plan.boxes:
            stopping.check()
            outcomes: list[Outcome] = [BoxDone(box.boxname, box.rename.on, "rename")] if box.rename else []
            outcomes += [BoxDone(box.boxname, side, "create") for side in box.create]
            outcomes += [Done(change, step) for change in box.changes for step in change.steps]
            heads = self._read.pop(box.boxname) if box.boxname in self._read else self._heads(box)
            self._tell(BoxResult(box, outcomes, heads))
        for box in self.plan.boxes:
            self._tell_removed(box, [BoxDone(box.boxname, side, "remove") for side in box.remove])

    def heads(self, box: BoxPlan) -> Heads:
        """The headers that `simulate` tells messages by."""
        self._read[box.boxname] = self._heads(box)
        return self._read[box.boxname]

    def carry_out(self, planner: Planner) -> None:
        """Do it. However it ends, what came true is remembered."""
        self._report.expect(sum(1 for _ in self.plan.steps()))
        try:
            self._apply(planner)
        except BaseException:
            try:
                self._save()
            except MsinfoError as err:
                self._report.problem(str(err), err.hint)
            raise
        try:
            self._save()
        except stopping.Stopped as stopped:  # once: nothing is left to be done but this
            if not stopped.again:
                self._save()
            raise
        if failure := self._waiting.save():
            self._report.note(str(failure), asked=True)
        if not self._msinfo.folded:  # else the memory knows of messages that this run has not listed
            self._record.save(self._msinfo.digest, self._remembering.memory)

    def _apply(self, planner: Planner) -> None:
        apply = Apply(self.plan, self._stores, self._identify, self._removals, foresees=not self._report.details)
        servers = [side for side in Side if self._stores[side].config.server]
        waiting: list[Attempts] = []
        apply.renames()
        for box in self.plan.boxes:
            self._results[box.boxname] = None
        for box in self.plan.boxes:
            one = Attempts(box, self._heads(box, renamed=True), servers)
            self._remembering.begin(box)
            self._carry_through(one, apply.box(box), planner, apply)
            if apply.is_finished(one.plan) and not one.twice:
                self._finish(one, planner, apply)
            else:
                waiting.append(one)
            self._save_now_and_then()
        for one in waiting:
            self._carry_through(one, apply.rest(one.plan), planner, apply)
            self._remove_late(one)
            self._finish(one, planner, apply)
        for box in self.plan.boxes:
            removed = [apply.remove(box, side) for side in self._emptied.get(box.boxname, ())]
            if removed and not any(done.failure for done in removed):
                self._remembering.forget(box.boxname)
            self._tell_removed(box, removed)

    def _carry_through(
        self, one: Attempts, stream: Generator[Outcome, None, None], planner: Planner, apply: Apply
    ) -> None:
        """If the connection breaks, the box is looked at and diffed again before anything is sent twice."""
        while True:
            try:
                self._take(one, stream)
                return
            except Lost as lost:
                self._report.debug(f"{one.plan.boxname}: {lost}; the mailbox is looked at again")
                stream = self._again(one, lost, planner, apply)

    def _again(self, one: Attempts, lost: Lost, planner: Planner, apply: Apply) -> Generator[Outcome, None, None]:
        boxname = one.plan.boxname
        self._remove_late(one)
        plan = planner.again(boxname, self._remembering.memory)
        if isinstance(plan, Failure):
            return apply.give_up(one.left(), replace(plan, shared=True))
        self._remembering.end(one.plan)
        one.again(plan, planner.found[boxname].there(plan), lost.at if isinstance(lost, LostAt) else None)
        self._remembering.begin(one.plan)
        if one.hopeless:
            why = f"{lost}; it broke {PATIENCE} times without anything done in between"
            return apply.give_up(one.plan, Failure(boxname, why, lost.hint, shared=True))
        one.heads |= self._heads(one.plan, renamed=True)
        return apply.box(one.plan, one.care)

    def _remove_late(self, one: Attempts) -> None:
        """What came twice after all, because it was sent again. If the connection breaks now, it is left."""
        boxname = one.plan.boxname
        for side in Side:
            keys = {key for to, key in one.twice if to is side}
            if not keys:
                continue
            done = (outcome for outcome in one.outcomes if isinstance(outcome, Done) and outcome.step.on is side)
            ours = {outcome.uid for outcome in done if outcome.uid is not None}
            try:
                found = late.surplus(self._stores, boxname, side, keys, ours, self._identify)
                plan = late.plan_of(one.plan, found, one.plan.sides[side])
                # Its own `Apply`: what has failed in this box must stay known to deletions in others.
                own = Apply(Plan((plan,), {}, {}), self._stores, self._identify, self._removals, foresees=False)
                removed = sum(isinstance(outcome, Done) for outcome in own.box(plan))
            except BoxError as err:
                self._report.debug(f"{boxname}: not looked whether something has come twice: {err}")
                continue
            if removed:
                came = f"{many(removed, 'message')} had come twice to store {self._stores[side].name}"
                self._report.note(f"{boxname}: {came} because a connection broke; one of each stays", asked=True)

    def _take(self, one: Attempts, stream: Generator[Outcome, None, None]) -> None:
        """Memory, progress and numbers learn of each outcome as it comes. However it ends, all mailboxes are closed."""
        with closing(stream):
            for outcome in stream:
                self._remembering.note(one.plan, outcome)
                if not isinstance(outcome, BoxDone):
                    self._waiting.note(one.plan.boxname, outcome)
                    self._report.step(one.plan.boxname, outcome)
                    self._steps_since += 1
                one.outcomes.append(outcome)
                if not isinstance(outcome, Done) or not isinstance(outcome.step, Copy):  # others may be done, too
                    stopping.check()

    def _finish(self, one: Attempts, planner: Planner, apply: Apply) -> None:
        """Note what the record must know; tell the boxes in their order, each when it and all before it are done."""
        box = one.plan
        found = planner.found.pop(box.boxname)
        stays = any(isinstance(done, BoxDone) and done.what == "rename" and done.failure for done in one.outcomes)
        for side, uids in self._remembered_uids(box, found).items():
            if (
                stays
                or side in found.doubted
                or any(found.recorded(side, uid) is None for uid in found.unreadable[side])
            ):
                continue
            validity = apply.validity.get((box.boxname, side), found.validity[side])
            mailbox = self._stores[side].mailbox(box.boxname)
            self._record.note(box.boxname, side, validity, uids, found.identity[side], mailbox)
        if box.complete:
            self._waiting.keep(box.boxname, found.there(box))
        self._remembering.end(box)
        self._emptied[box.boxname] = box.remove
        self._results[box.boxname] = one.result()
        while self._results and (ready := self._results[next(iter(self._results))]) is not None:
            self._tell(ready)
            del self._results[ready.plan.boxname]

    def _remembered_uids(self, box: BoxPlan, found: Found) -> dict[Side, list[Uid]]:
        """The uids that the memory stands for; not that of another message under a known id."""
        unreadable = {side: [uid for uid in found.unreadable[side] if found.recorded(side, uid)] for side in Side}
        uids = {side: [*found.quiet[side].uids, *unreadable[side]] for side in Side}
        for change in self._remembering.current(box):
            for item in change.items:
                if item.a is not None and item.b is not None:
                    uids[Side.A].append(item.a.uid)
                    uids[Side.B].append(item.b.uid)
                elif item.line is not None:
                    for side in Side:
                        entry = item.on(side)
                        if entry is not None and found.recorded(side, entry.uid) is not False:
                            uids[side].append(entry.uid)
        return uids

    # ---- memory ------------------------------------------------------------------------------------------------------

    def _save_now_and_then(self) -> None:
        if self._steps_since >= SAVE_AFTER or self._clock() - self._saved_at >= SAVE_EVERY:
            self._save()

    def _save(self) -> None:
        if self._remembering.changed:
            remembering, msinfo = self._remembering, self._msinfo
            remembering.memory = msinfo.save(remembering.memory, self._clock(), remembering.touched)
            remembering.changed = False
            self._report.debug(f"msinfo {msinfo.mailbox}: saved")
            if msinfo.folded:
                self._report.note(f"msinfo {msinfo.mailbox}: another run saved meanwhile; both are kept")
        self._saved_at, self._steps_since = self._clock(), 0

    # ---- telling -----------------------------------------------------------------------------------------------------

    def _heads(self, box: BoxPlan, *, renamed: bool = False) -> Heads:
        """The headers of the messages that will be told one by one; read before they may be gone.

        `renamed`: a mailbox that is renamed has its new name already.
        """
        told = [(step, "") for step in box.steps()] + [(held.step, held.why) for held in box.held()]
        wanted = [(_lies_on(step), step.entry.uid) for step, why in told if needs_head(step, why, self._report.details)]
        names = {side: box.boxname if renamed else box.name_on(side) for side in Side}
        return look.heads(self._stores, names, wanted)

    def _tell(self, result: BoxResult) -> None:
        self._count(result)
        self._report.box(result)
        if self._noted:
            self._noted.box(result)

    def _count(self, result: BoxResult) -> None:
        for step in result.done():
            match step:
                case Copy(to=side, near=Near(goes=True)):
                    self.summary.moved[side] += 1
                case Copy(to=side):
                    self.summary.copied[side] += 1
                case SetFlags(on=side):
                    self.summary.flagged[side] += 1
                case Delete(on=side, why=why) if why is not Why.MOVED:
                    self.summary.deleted[side] += 1
        self.summary.failed += len(result.failed()) + sum(done.failure is not None for done in result.boxes())

    def _tell_removed(self, box: BoxPlan, removed: Sequence[BoxDone]) -> None:
        if removed:
            self.summary.failed += sum(done.failure is not None for done in removed)
            mailboxes = [(self._stores[done.on].mailbox(box.boxname), done.failure) for done in removed]
            self._report.removed(box.boxname, mailboxes)
            if self._noted:
                self._noted.removed(box.boxname, mailboxes)


def _lies_on(step: Step) -> Side:
    return step.to.other if isinstance(step, Copy) else step.on
