"""One box through connections that break: what came true unheard, what may still be done, when to give up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import replace

from .apply import Care
from .late import Again, sent_again
from .model import Failure, Key, Side, Uid
from .plan import BoxDone, BoxPlan, Change, Copy, Delete, Done, Failed, Held, Mark, Outcome, Step, mark
from .report import Heads
from .report.results import BoxResult

PATIENCE = 3  # so many times a connection may break without anything done in between
NOT_PLANNED = "not planned before the connection broke"

There = Mapping[Side, Container[Uid]]


class Attempts:
    """A box, its plan as it is now, and what came of it so far."""

    def __init__(self, plan: BoxPlan, heads: Heads, servers: Collection[Side]) -> None:
        """`servers`: the sides that may do late what they were told."""
        self.plan = plan
        self.heads = dict(heads)
        self.outcomes: list[Outcome] = []
        self.care = Care()
        self.twice: set[Again] = set()  # copies to servers that may have been sent before, and were sent again
        self._servers = servers
        self._before = 0  # so many outcomes belong to plans before this one
        self._losses = 0
        self._duplicates: list[Delete] = []  # likewise

    @property
    def hopeless(self) -> bool:
        return self._losses >= PATIENCE

    def again(self, plan: BoxPlan, there: There, at: Step | None) -> None:
        """The connection broke while `at` had no answer yet; `plan` is what the box needs now.

        `there`: all messages that were found now, on each side.
        """
        plan = bounded(plan, self.plan)
        told = self.outcomes[self._before :]
        told += list(unheard(self.plan, told, plan, there))
        unanswered = {mark(step) for step in self.plan.steps() if step.on in self._servers} - _marks(told)
        self.twice |= sent_again(unanswered, plan)
        self._learn(at, progress=any(isinstance(outcome, Done) for outcome in told))
        again = {mark(step) for step in plan.steps()}
        self.outcomes = [
            outcome
            for outcome in self.outcomes[: self._before] + told
            if not (isinstance(outcome, Failed) and mark(outcome.step) in again)
        ]
        self._before = len(self.outcomes)
        self._duplicates += self.plan.duplicates
        self.plan = plan

    def left(self) -> BoxPlan:
        """The plan without what has an answer."""
        told = self.outcomes[self._before :]
        answered, made = _marks(told), {outcome.on for outcome in told if isinstance(outcome, BoxDone)}
        changes = (replace(c, steps=tuple(s for s in c.steps if mark(s) not in answered)) for c in self.plan.changes)
        create = tuple(side for side in self.plan.create if side not in made)
        return replace(self.plan, changes=tuple(changes), create=create)

    def result(self) -> BoxResult:
        """All that came of it. The plan told is the last one, with the steps that were over before it was made."""
        over = [
            outcome
            for outcome in self.outcomes[: self._before]
            if isinstance(outcome, Done) or (isinstance(outcome, Failed) and not outcome.failure.gone)
        ]
        marks = _marks(over)
        changes = (*(Change(outcome.change.key, (), (outcome.step,)) for outcome in over), *self.plan.changes)
        duplicates = (*(step for step in self._duplicates if mark(step) in marks), *self.plan.duplicates)
        return BoxResult(replace(self.plan, changes=changes, duplicates=duplicates), self.outcomes, self.heads)

    def _learn(self, at: Step | None, *, progress: bool) -> None:
        """A bad line breaks anywhere; a message that breaks it does so again when it is the first that is tried.

        A copy found to be such a message is no reason to give up: the copies after it have not had their turn.
        """
        caught = not progress and at is not None and mark(at) in self.care.suspects
        if progress:
            self._losses = 1
        elif not (caught and isinstance(at, Copy)):
            self._losses += 1
        if at is not None:
            culprits = self.care.culprits | ({mark(at)} if caught else set())
            self.care = Care(True, self.care.suspects | {mark(at)}, culprits)


def bounded(plan: BoxPlan, before: BoxPlan) -> BoxPlan:
    """The plan, but what `before` did not delete is held: a server that comes back empty must not empty the other side.

    The guard has looked at `before` only.
    """
    planned = {(step.on, change.key) for change in before.changes for step in change.steps if isinstance(step, Delete)}
    reasons = {(held.step.on, change.key): held.why for change in before.changes for held in change.held}

    def kept(change: Change) -> Change:
        new = [step for step in change.steps if isinstance(step, Delete) and (step.on, change.key) not in planned]
        if not new:
            return change
        steps = tuple(step for step in change.steps if step not in new)
        held = tuple(Held(step, reasons.get((step.on, change.key), NOT_PLANNED)) for step in new)
        return replace(change, steps=steps, held=change.held + held)

    changes = tuple(map(kept, plan.changes))
    remove = tuple(side for side in plan.remove if side in before.remove) if changes == plan.changes else ()
    return replace(plan, changes=changes, remove=remove)


def unheard(before: BoxPlan, told: Iterable[Outcome], now: BoxPlan, there: There) -> Iterator[Outcome]:
    """What became of the steps of `before` that were not answered, and that `now` needs no more."""
    made = {outcome.on for outcome in told if isinstance(outcome, BoxDone)}
    for side in before.create:
        if side not in made and side not in now.create:
            yield BoxDone(before.boxname, side, "create")
    answered = _marks(told)
    needed = {mark(step): _kind(key, step) for key, step in _steps(now)}
    moved = Counter(needed.values())  # what is needed for a message under another uid
    unanswered: list[tuple[Change, Step]] = []
    for change in before.changes:
        for step in change.steps:
            if mark(step) in needed:
                moved[_kind(change.key, step)] -= 1
            elif mark(step) not in answered:
                unanswered.append((change, step))
    for change, step in unanswered:
        lies = step.on.other if isinstance(step, Copy) else step.on
        if moved[_kind(change.key, step)] > 0:
            moved[_kind(change.key, step)] -= 1
        elif (step.entry.uid in there[lies]) != isinstance(step, Delete):
            yield Done(change, step)
        else:
            yield Failed(change, step, Failure(step.entry.uid, "no longer needed", gone=True))


def _steps(box: BoxPlan) -> Iterator[tuple[Key, Step]]:
    """With those that are held."""
    for change in box.changes:
        yield from ((change.key, step) for step in change.steps)
        yield from ((change.key, held.step) for held in change.held)


def _kind(key: Key, step: Step) -> tuple[type[Step], Side, Key]:
    return type(step), step.on, key


def _marks(outcomes: Iterable[Outcome]) -> set[Mark]:
    return {mark(outcome.step) for outcome in outcomes if not isinstance(outcome, BoxDone)}
