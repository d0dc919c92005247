"""Carry a plan out, in the safe order, and tell what came true.

Per box: create, copies, flags, deletions. A deletion waits for the other steps of its id, for copies of the same id to
the same side in other boxes, and is not done where one of them failed. Killed at any point, the next run goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from .drivers.contract import Box
from .errors import BoxError
from .identity import key
from .model import Appended, Boxname, Failure, FlagChange, Head, Identify, Key, Message, MessageId, Side, Uid
from .plan import BoxDone, BoxPlan, Change, Copy, Delete, Done, Failed, Outcome, Plan, SetFlags, Step, Why
from .stores import Store

Task = tuple[Change, Step]
S = TypeVar("S", Copy, SetFlags, Delete)


@dataclass
class Apply:
    """One run over a plan. `box` for each box in order, then `rest`, then `remove`."""

    plan: Plan
    stores: Mapping[Side, Store]
    identify: Identify
    validity: dict[tuple[str, Side], str | None] = field(init=False, default_factory=dict)  # of boxes that were changed
    _coming: Counter[tuple[Side, Key]] = field(init=False)  # copies that are still to be done
    _failed: set[tuple[Side, Key]] = field(init=False, default_factory=set)  # copies that were not
    _deferred: dict[str, tuple[BoxPlan, list[Task]]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._coming = Counter(
            (step.to, change.key)
            for box in self.plan.boxes
            for change in box.changes
            for step in change.steps
            if isinstance(step, Copy)
        )

    def box(self, box: BoxPlan) -> Iterator[Outcome]:
        """Do what one box needs. What fails is told, step by step, and goes no further than it must."""
        for side in box.create:
            failure = _tried(self.stores[side].create, box.boxname)
            yield BoxDone(box.boxname, side, "create", failure)
            if failure:
                yield from self._all_failed(_tasks(box), replace(failure, gone=True))  # told once is enough
                return
        with self._opened(box, list(_tasks(box))) as (boxes, failure):
            if failure:
                yield from self._all_failed(_tasks(box), failure)
                return
            broken: set[Key] = set()  # ids with a step that failed: their deletions wait for the next run
            for outcome in self._copies_and_flags(box, boxes):
                if isinstance(outcome, Failed):
                    broken.add(outcome.change.key)
                yield outcome
            now, later = [], []
            for change, step in _tasks(box):
                if isinstance(step, Delete):
                    if change.key in broken:
                        yield Failed(change, step, _waits(step))
                    elif self._coming[step.on, change.key]:
                        later.append((change, step))
                    else:
                        now.append((change, step))
            if later:
                self._deferred[box.boxname] = (box, list(later))
            yield from self._deletes(boxes, now)
            self._note_validity(box, boxes)

    def is_finished(self, box: BoxPlan) -> bool:
        """False if some deletions of this box wait for copies in boxes to come."""
        return box.boxname not in self._deferred

    def rest(self) -> Iterator[tuple[BoxPlan, Iterator[Outcome]]]:
        """The deletions that waited for copies in other boxes."""
        for box, tasks in self._deferred.values():
            yield box, self._deferred_deletes(box, tasks)

    def remove(self, box: BoxPlan, side: Side) -> BoxDone:
        """-D: a box that is empty now; looked at again by the driver."""
        return BoxDone(box.boxname, side, "remove", _tried(self.stores[side].delete, box.boxname))

    def _deferred_deletes(self, box: BoxPlan, tasks: Sequence[Task]) -> Iterator[Outcome]:
        with self._opened(box, tasks) as (boxes, failure):
            if failure:
                yield from self._all_failed(tasks, failure)
            else:
                yield from self._deletes(boxes, tasks)
                self._note_validity(box, boxes)

    def _note_validity(self, box: BoxPlan, boxes: Mapping[Side, Box]) -> None:
        for side, opened in boxes.items():
            self.validity[box.boxname, side] = opened.validity

    @contextmanager
    def _opened(self, box: BoxPlan, tasks: Sequence[Task]) -> Iterator[tuple[dict[Side, Box], Failure | None]]:
        writes = {step.on for _, step in tasks}
        reads = {step.to.other for _, step in tasks if isinstance(step, Copy)}
        boxes: dict[Side, Box] = {}
        failure = None
        with ExitStack() as stack:
            try:
                for side in Side:
                    if side in writes | reads:
                        boxes[side] = stack.enter_context(self.stores[side].open(box.boxname, write=side in writes))
            except (BoxError, OSError) as err:
                failure = _failure(box.boxname, err)
            yield boxes, failure

    def _copies_and_flags(self, box: BoxPlan, boxes: Mapping[Side, Box]) -> Iterator[Outcome]:
        for to in (Side.B, Side.A):
            copies = [(change, step) for change, step in _of(Copy, box) if step.to is to]
            if copies:
                for outcome in self._read_back(boxes[to], _copy(boxes[to.other], boxes[to], copies)):
                    self._arrived(outcome)
                    yield outcome
        for on in Side:
            changes = [(change, step) for change, step in _of(SetFlags, box) if step.on is on]
            if changes:
                wanted = [FlagChange(step.entry.uid, step.add, step.remove) for _, step in changes]
                yield from _answers(changes, boxes[on].set_flags(wanted))

    def _read_back(self, target: Box, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        """Servers rewrite bytes that are not plain ASCII: then the id that a message has there is another one."""
        odd: list[Done] = []
        for outcome in outcomes:
            if isinstance(outcome, Done) and outcome.uid is not None and _may_be_rewritten(outcome.step.entry.id):
                odd.append(outcome)
            else:
                yield outcome
        if odd:
            answers = target.heads([outcome.uid for outcome in odd if outcome.uid is not None])
            for outcome, head in zip(odd, answers, strict=True):
                yield replace(outcome, id=self.identify(head.header)) if isinstance(head, Head) else outcome

    def _arrived(self, outcome: Outcome) -> None:
        if isinstance(outcome, Done | Failed):
            where = (outcome.step.on, outcome.change.key)
            self._coming[where] -= 1
            if isinstance(outcome, Failed):
                self._failed.add(where)

    def _deletes(self, boxes: Mapping[Side, Box], tasks: Sequence[Task]) -> Iterator[Outcome]:
        for on in Side:
            ready: list[tuple[Change, Delete]] = []
            for change, step in tasks:
                if isinstance(step, Delete) and step.on is on:
                    if (on, change.key) in self._failed or not _stays(boxes[on], step):
                        yield Failed(change, step, _waits(step))
                    else:
                        ready.append((change, step))
            if ready:
                yield from _answers(ready, boxes[on].expunge([step.entry.uid for _, step in ready]))

    def _all_failed(self, tasks: Iterable[Task], failure: Failure) -> Iterator[Outcome]:
        for change, step in tasks:
            outcome = Failed(change, step, failure)
            if isinstance(step, Copy):
                self._arrived(outcome)
            yield outcome


def _copy(source: Box, target: Box, tasks: Sequence[tuple[Change, Copy]]) -> Iterator[Outcome]:
    """Fetch and append interleave: neither side ever holds a batch."""
    todo = {step.entry.uid: (change, step) for change, step in tasks}
    missing: list[Failure] = []

    def arriving(uids: Sequence[Uid], alone: bool) -> Iterator[Message]:
        for got in source.fetch(uids):
            match got:
                case Message():
                    yield Message(got.uid, todo[got.uid][1].flags, got.date, got.body, alone)
                case Failure():
                    missing.append(got)

    def answered(uids: Sequence[Uid], alone: bool = False) -> Iterator[Outcome]:
        refused = []
        for result in target.append(arriving(uids, alone)):
            match result:
                case Appended(source=uid, uid=new):
                    yield Done(*todo.pop(uid), new)
                case Failure(what=what, alone=True) if not alone:
                    refused.append(Uid(what))
                case Failure(what=what):
                    yield Failed(*todo.pop(Uid(what)), result)
        for uid in refused:
            yield from answered([uid], alone=True)

    try:
        yield from answered(list(todo))
        for failure in missing:
            yield Failed(*todo.pop(Uid(failure.what)), failure)
    except (BoxError, OSError) as err:
        for change, step in todo.values():
            yield Failed(change, step, _failure(step.entry.uid, err))


def _may_be_rewritten(id: MessageId) -> bool:
    return str(key(id)) != id or id.startswith("<md5:")


def _answers(tasks: Sequence[tuple[Change, S]], answers: Iterator[Uid | Failure]) -> Iterator[Outcome]:
    """One batch: its answers come in the order of the tasks, and may end early."""
    told = 0
    try:
        for (change, step), answer in zip(tasks, answers, strict=True):
            told += 1
            yield Failed(change, step, answer) if isinstance(answer, Failure) else Done(change, step)
    except (BoxError, OSError) as err:
        for change, step in tasks[told:]:
            yield Failed(change, step, _failure(step.entry.uid, err))


def _stays(box: Box, step: Delete) -> bool:
    """False if the copy on whose account a duplicate may go is no longer there."""
    if step.why is not Why.DUPLICATE or step.stays is None:
        return True
    return not any(isinstance(answer, Failure) for answer in box.heads([step.stays]))


def _tasks(box: BoxPlan) -> Iterator[Task]:
    for change in box.changes:
        for step in change.steps:
            yield change, step


def _of(kind: type[S], box: BoxPlan) -> Iterator[tuple[Change, S]]:
    for change, step in _tasks(box):
        if isinstance(step, kind):
            yield change, step


def _tried(act: Callable[[Boxname], None], boxname: Boxname) -> Failure | None:
    try:
        act(boxname)
    except (BoxError, OSError) as err:
        return _failure(boxname, err)
    return None


def _failure(what: str, err: BoxError | OSError) -> Failure:
    if isinstance(err, BoxError):
        return Failure(what, str(err), err.hint)
    return Failure(what, err.strerror or str(err))


def _waits(step: Delete) -> Failure:
    return Failure(step.entry.uid, "not deleted, because another step for this message failed", gone=True)
