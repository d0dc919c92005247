"""Carry a plan out, in the safe order, and tell what came true.

First mailboxes are renamed. Then per box: create, moves and copies, flags, deletions. A deletion waits for the other
steps of its id, for copies of the same id to the same side in other boxes, and is not done where one of them failed.
Killed at any point, the next run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from .copying import LostAt, failure_of, read_back, send
from .drivers.contract import Box
from .errors import BoxError, Lost
from .foresight import Foresight
from .model import Boxname, Failure, FlagChange, Identify, Side, Uid
from .moving import leaves, transfer
from .outstanding import Outstanding
from .plan import (
    BoxDone,
    BoxPlan,
    Change,
    Copy,
    Delete,
    Done,
    Failed,
    Mark,
    Near,
    Outcome,
    Plan,
    SetFlags,
    Step,
    Why,
    mark,
)
from .removal import EXPUNGE, Removal
from .stores import Store

Task = tuple[Change, Step]
Copying = tuple[Change, Copy]
S = TypeVar("S", Copy, SetFlags, Delete)

BROKE_TWICE = "the connection broke twice at this message"


@dataclass(frozen=True, slots=True)
class Care:
    """What connections that broke have taught about the steps of a box."""

    alone: bool = False  # copies are sent one by one: if it breaks again, the message that does it is known
    suspects: frozenset[Mark] = frozenset()  # it broke at them once: of the copies they come last
    culprits: frozenset[Mark] = frozenset()  # it broke at them again: they are not tried any more


@dataclass
class Apply:
    """One run over a plan. `renames`, `box` for each box in order, `rest` for those not finished, `remove`.

    `Lost` comes out of `box` and `rest` where a connection breaks. What was sent last may have been done: the box must
    be looked at again, and `box` be called with its new plan, which takes the place of the old one.
    """

    plan: Plan
    stores: Mapping[Side, Store]
    identify: Identify
    removals: Mapping[Side, Removal] = field(default_factory=dict)  # for a side that is not here: expunge
    foresees: bool = True  # nothing else is asked of the stores between two boxes
    validity: dict[tuple[str, Side], str | None] = field(init=False, default_factory=dict)  # of boxes that were changed
    _copies: Outstanding = field(init=False)
    _moved: set[tuple[Boxname, Side, Uid]] = field(init=False, default_factory=set)  # gone from there already
    _renamed: dict[Boxname, BoxDone] = field(init=False, default_factory=dict)
    _deferred: dict[str, list[Task]] = field(init=False, default_factory=dict)
    _foresight: Foresight = field(init=False)

    def __post_init__(self) -> None:
        self._foresight = Foresight(self.plan, self.stores)
        self._copies = Outstanding(self.plan.boxes)

    def renames(self) -> None:
        """Rename what is to be renamed; `box` tells what came of it. One that went along with its parent is done."""
        for rename in self.plan.renames:
            store, old = self.stores[rename.on], rename.old

            def renamed(new: Boxname, store: Store = store, old: Boxname = old) -> None:
                if store.find(new) is None or store.find(old) is not None:
                    store.rename(old, new)

            self._renamed[rename.new] = self._healed(renamed, rename.new, rename.on, "rename")

    def box(self, box: BoxPlan, care: Care | None = None) -> Generator[Outcome, None, None]:
        """Do what one box needs. What fails is told, step by step, and goes no further than it must."""
        self._start(box)
        if self.foresees:
            self._foresight.before(box)
        unread: list[Done] = []
        try:
            yield from self._whole(box, care or Care(), unread)
        except Lost:
            yield from self._read_late(box, unread)
            raise

    def is_finished(self, box: BoxPlan) -> bool:
        """False if some deletions of this box wait for copies in boxes to come."""
        return box.boxname not in self._deferred

    def rest(self, box: BoxPlan) -> Generator[Outcome, None, None]:
        """The deletions that waited for copies in other boxes."""
        tasks = self._deferred.pop(box.boxname, [])
        with self._opened(box, tasks) as (boxes, failure):
            if failure:
                yield from self._all_failed(box, tasks, failure)
            else:
                yield from self._deletes(box, boxes, tasks)
                self._note_validity(box, boxes)

    def give_up(self, box: BoxPlan, failure: Failure) -> Generator[Outcome, None, None]:
        """Do nothing of it."""
        self._start(box)
        for side in box.create:
            yield BoxDone(box.boxname, side, "create", failure)
        yield from self._all_failed(box, _tasks(box), replace(failure, gone=bool(box.create)))

    def remove(self, box: BoxPlan, side: Side) -> BoxDone:
        """-D: a box that is empty now; looked at again by the driver."""
        store = self.stores[side]

        def removed(boxname: Boxname) -> None:
            if store.find(boxname) is not None:
                store.delete(boxname)

        return self._healed(removed, box.boxname, side, "remove")

    def _healed(self, act: Callable[[Boxname], None], boxname: Boxname, on: Side, what: str) -> BoxDone:
        """`act` does nothing where it is done already: it is called again after the connection broke."""
        try:
            try:
                failure = _tried(act, boxname)
            except Lost:
                failure = _tried(act, boxname)
        except Lost as lost:
            failure = failure_of(boxname, lost)
        return BoxDone(boxname, on, what, failure)

    # ---- one box -----------------------------------------------------------------------------------------------------

    def _start(self, box: BoxPlan) -> None:
        self._deferred.pop(box.boxname, None)
        self._copies.expect(box)

    def _whole(self, box: BoxPlan, care: Care, unread: list[Done]) -> Iterator[Outcome]:
        renamed = self._renamed.pop(box.boxname, None)
        if renamed:
            yield renamed
            if renamed.failure:
                yield from self._all_failed(box, _tasks(box), replace(renamed.failure, gone=True))
                return
        for side in box.create:
            failure = _tried(partial(self._foresight.create, side), box.boxname)
            yield BoxDone(box.boxname, side, "create", failure)
            if failure:
                yield from self._all_failed(box, _tasks(box), replace(failure, gone=True))  # told once is enough
                return
        culprits = [task for task in _tasks(box) if mark(task[1]) in care.culprits]
        yield from self._all_failed(box, culprits, Failure(box.boxname, BROKE_TWICE, shared=True))
        tasks = [task for task in _tasks(box) if mark(task[1]) not in care.culprits]
        near = [task for task in _of(Copy, tasks) if task[1].near]
        tasks = [task for task in tasks if not (isinstance(task[1], Copy) and task[1].near)]
        tasks += yield from self._transferred(box, near)
        with self._opened(box, tasks) as (boxes, failure):
            if failure:
                yield from self._all_failed(box, tasks, failure)
                return
            broken = {(step.on, change.key) for change, step in culprits}  # deletions there wait for these ids
            for outcome in self._copies_and_flags(box, boxes, tasks, care, unread):
                if isinstance(outcome, Failed):
                    broken.add((outcome.step.on, outcome.change.key))
                yield outcome
            now, later = [], []
            for change, step in tasks:
                if isinstance(step, Delete):
                    if (box.boxname, step.on, step.entry.uid) in self._moved:
                        now.append((change, step))
                    elif (step.on, change.key) in broken:
                        yield Failed(change, step, _waits(step))
                    elif self._copies.is_coming(step.on, change.key):
                        later.append((change, step))
                    else:
                        now.append((change, step))
            if later:
                self._deferred[box.boxname] = list(later)
            yield from self._deletes(box, boxes, now)
            self._note_validity(box, boxes)

    def _transferred(self, box: BoxPlan, tasks: Sequence[Copying]) -> Generator[Outcome, None, list[Task]]:
        """Messages of the same store. Returns what did not come that way: it must be sent."""
        left: list[Task] = []
        groups: dict[tuple[Side, Boxname, bool], list[Copying]] = {}
        for change, step in tasks:
            assert step.near
            groups.setdefault((step.to, step.near.boxname, step.near.goes), []).append((change, step))
        for (to, source, goes), some in groups.items():
            told = 0
            try:
                with ExitStack() as stack:
                    lies = stack.enter_context(self.stores[to].open(source, write=goes))
                    target = stack.enter_context(self.stores[to].open(box.boxname, write=True))
                    gone = goes and leaves(lies, target)
                    for outcome in transfer(lies, target, some, goes=goes):
                        told += 1
                        match outcome:
                            case Failed(failure=Failure(alone=True), step=Copy() as step):
                                left.append((outcome.change, replace(step, near=None)))
                                continue
                            case Done(step=Copy(near=Near(entry=entry))) if gone:
                                self._moved.add((source, to, entry.uid))
                        self._copies.over(box, outcome)
                        yield outcome
            except Lost:
                raise
            except (BoxError, OSError):
                left += [(change, replace(copy, near=None)) for change, copy in some[told:]]
        return left

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
            except Lost:
                raise
            except (BoxError, OSError) as err:
                failure = failure_of(box.boxname, err)
            yield boxes, failure

    def _copies_and_flags(
        self, box: BoxPlan, boxes: Mapping[Side, Box], tasks: Sequence[Task], care: Care, unread: list[Done]
    ) -> Iterator[Outcome]:
        for to in (Side.B, Side.A):
            copies = _of(Copy, tasks, to)
            if copies:
                copies.sort(key=lambda task: mark(task[1]) in care.suspects)
                for outcome in send(boxes[to.other], boxes[to], copies, self.identify, alone=care.alone):
                    self._copies.over(box, outcome)
                    if isinstance(outcome, Done) and not outcome.certain:
                        unread.append(outcome)
                    else:
                        yield outcome
                yield from read_back(boxes[to], unread, self.identify)
        for on in Side:
            changes = _of(SetFlags, tasks, on)
            if changes:
                wanted = [FlagChange(step.entry.uid, step.add, step.remove) for _, step in changes]
                yield from _answers(changes, boxes[on].set_flags(wanted))

    def _read_late(self, box: BoxPlan, unread: list[Done]) -> Iterator[Outcome]:
        """Look at what was copied before the connection broke: else it is another message to the next look."""
        if unread:
            try:
                with self.stores[unread[0].step.on].open(box.boxname, write=False) as target:
                    yield from read_back(target, unread, self.identify)
            except (BoxError, OSError):
                yield from unread

    def _deletes(self, box: BoxPlan, boxes: Mapping[Side, Box], tasks: Sequence[Task]) -> Iterator[Outcome]:
        for on in Side:
            ready: list[tuple[Change, Delete]] = []
            for change, step in _of(Delete, tasks, on):
                if (box.boxname, on, step.entry.uid) in self._moved:
                    yield Done(change, step)
                elif self._copies.has_failed(on, change.key) or not self._stays(box, boxes[on], step):
                    yield Failed(change, step, _waits(step))
                else:
                    ready.append((change, step))
            # The last duplicate first, what they stay for last: an mbox tells equal messages apart by their order.
            duplicates = [task for task in ready if task[1].why is Why.DUPLICATE]
            ready = duplicates[::-1] + [task for task in ready if task[1].why is not Why.DUPLICATE]
            if ready:
                removal = self.removals.get(on, EXPUNGE)
                for outcome in _answers(ready, removal.remove(box.boxname, boxes[on], [step for _, step in ready])):
                    yield _done_if_moved(outcome)

    def _stays(self, box: BoxPlan, opened: Box, step: Delete) -> bool:
        """False if the copy on whose account a duplicate may go is no longer there, nor was moved by this run."""
        if step.why is not Why.DUPLICATE or step.stays is None or (box.boxname, step.on, step.stays) in self._moved:
            return True
        return not any(isinstance(answer, Failure) for answer in opened.heads([step.stays]))

    def _all_failed(self, box: BoxPlan, tasks: Iterable[Task], failure: Failure) -> Iterator[Outcome]:
        for change, step in tasks:
            outcome = Failed(change, step, failure)
            if isinstance(step, Copy):
                self._copies.over(box, outcome)
            yield outcome


def _answers(tasks: Sequence[tuple[Change, S]], answers: Iterator[Uid | Failure]) -> Iterator[Outcome]:
    """One batch: its answers come in the order of the tasks, and may end early."""
    told = 0
    try:
        for (change, step), answer in zip(tasks, answers, strict=True):
            told += 1
            yield Failed(change, step, answer) if isinstance(answer, Failure) else Done(change, step)
    except Lost as lost:
        if told < len(tasks):
            raise LostAt(lost, tasks[told][1]) from lost
        raise
    except (BoxError, OSError) as err:
        for change, step in tasks[told:]:
            yield Failed(change, step, failure_of(step.entry.uid, err))


def _done_if_moved(outcome: Outcome) -> Outcome:
    """What has arrived elsewhere and is not here was moved, though the connection broke before that was heard."""
    match outcome:
        case Failed(change=change, step=Delete(why=Why.MOVED) as step, failure=Failure(gone=True)):
            return Done(change, step)
    return outcome


def _tasks(box: BoxPlan) -> Iterator[Task]:
    for change in box.changes:
        for step in change.steps:
            yield change, step


def _of(kind: type[S], tasks: Iterable[Task], on: Side | None = None) -> list[tuple[Change, S]]:
    return [(change, step) for change, step in tasks if isinstance(step, kind) and (on is None or step.on is on)]


def _tried(act: Callable[[Boxname], None], boxname: Boxname) -> Failure | None:
    try:
        act(boxname)
    except Lost:
        raise
    except (BoxError, OSError) as err:
        return failure_of(boxname, err)
    return None


def _waits(step: Delete) -> Failure:
    return Failure(step.entry.uid, "not deleted, because another step for this message failed", gone=True)
